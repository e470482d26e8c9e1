"""Thunderbird: what a person does with it works, from the account to the attachment read back."""

from __future__ import annotations

import os

from tests.end_to_end.letters import fetch
from tests.end_to_end.programs import needs
from tests.end_to_end.server import ALICE, PASSWORDS, EndToEndTestCase, Server
from tests.end_to_end.thunderbird import Thunderbird

SUBJECT = "Grüße aus dem Fenster"
TEXT = "Schöne Grüße!\n.\n..\n.x\n\nund Schluß"
NAME = "röntgen.bin"
ATTACHMENT = os.urandom(100_000)


@needs("thunderbird")
class ThunderbirdTests(EndToEndTestCase):
    def run_with(
        self, server: Server, *, leave_on_server: bool = True, smtp_authentication: str = "passwordCleartext"
    ) -> Thunderbird:
        """A running Thunderbird with alice's account."""
        thunderbird = self.enterContext(Thunderbird(self.scratch()))
        thunderbird.add_account(
            ALICE,
            PASSWORDS[ALICE],
            pop3=server.pop3,
            smtp=server.submission,
            leave_on_server=leave_on_server,
            smtp_authentication=smtp_authentication,
        )
        return thunderbird

    def write_to_myself(self, thunderbird: Thunderbird) -> None:
        attachment = self.scratch() / NAME
        attachment.write_bytes(ATTACHMENT)
        thunderbird.send(ALICE, SUBJECT, TEXT, attachment)

    def assert_fetched_and_read(self, thunderbird: Thunderbird) -> None:
        self.assertEqual(thunderbird.get_messages(), 1)
        shown = thunderbird.read(SUBJECT)
        self.assertEqual(shown.text.strip("\n"), TEXT)
        self.assertEqual(shown.attachments, {NAME: ATTACHMENT})

    def test_a_letter_is_sent_and_read_and_a_second_fetch_brings_nothing_new(self) -> None:
        server = self.serve()
        thunderbird = self.run_with(server, leave_on_server=True)
        self.write_to_myself(thunderbird)
        self.assert_fetched_and_read(thunderbird)
        self.assertEqual(thunderbird.get_messages(), 0)
        self.assertEqual(len(fetch(server.pop3, ALICE)), 1)
        self.assertEqual(len(server.letters("envoi", ALICE)), 1)

    def test_without_leave_on_server_the_mailbox_is_empty_afterwards(self) -> None:
        server = self.serve()
        thunderbird = self.run_with(server, leave_on_server=False)
        self.write_to_myself(thunderbird)
        self.assert_fetched_and_read(thunderbird)
        self.assertEqual(fetch(server.pop3, ALICE), [])
        self.assertEqual(thunderbird.get_messages(), 0)

    def assert_sends_to_a_classic_server(self, smtp_authentication: str) -> None:
        server = self.serve("--classic")
        thunderbird = self.run_with(server, smtp_authentication=smtp_authentication)
        self.write_to_myself(thunderbird)
        self.assert_fetched_and_read(thunderbird)
        [copy] = server.letters("envoi", ALICE)
        self.assertIn(b" with SMTP id ", copy.read_bytes())

    def test_a_classic_server_takes_letters_of_an_account_set_to_normal_password(self) -> None:
        self.assert_sends_to_a_classic_server("passwordCleartext")

    def test_a_classic_server_takes_letters_of_an_account_set_to_no_authentication(self) -> None:
        self.assert_sends_to_a_classic_server("none")
