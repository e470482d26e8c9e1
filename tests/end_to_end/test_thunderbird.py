"""Thunderbird: what a person does with it works, from the account to the attachment read back."""

from __future__ import annotations

import os

from tests.end_to_end.letters import fetch
from tests.end_to_end.programs import needs
from tests.end_to_end.server import ALICE, PASSWORDS, EndToEndTestCase, Security, Server, user
from tests.end_to_end.thunderbird import Failed, Thunderbird

SUBJECT = "Grüße aus dem Fenster"
TEXT = "Schöne Grüße!\n.\n..\n.x\n\nund Schluß"
NAME = "röntgen.bin"
ATTACHMENT = os.urandom(100_000)
UNKNOWN_ISSUER = "0x805a1ff3"  # Mozilla's SEC_ERROR_UNKNOWN_ISSUER


@needs("thunderbird")
class ThunderbirdTests(EndToEndTestCase):
    def run_with(
        self,
        server: Server,
        *,
        address: str = ALICE,
        password: str = PASSWORDS[ALICE],
        leave_on_server: bool = True,
        smtp_authentication: str = "passwordCleartext",
        security: Security = Security.NONE,
    ) -> Thunderbird:
        """A running Thunderbird with alice's account, or another's."""
        thunderbird = self.enterContext(Thunderbird(self.scratch()))
        thunderbird.add_account(
            address,
            password,
            pop3=server.port("pop3", security),
            smtp=server.port("submission", security),
            leave_on_server=leave_on_server,
            smtp_authentication=smtp_authentication,
            security=security,
        )
        return thunderbird

    def write(self, thunderbird: Thunderbird, to: str) -> None:
        attachment = self.scratch() / NAME
        attachment.write_bytes(ATTACHMENT)
        thunderbird.send(to, SUBJECT, TEXT, attachment)

    def write_to_myself(self, thunderbird: Thunderbird) -> None:
        self.write(thunderbird, ALICE)

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

    def test_a_letter_goes_to_a_mailbox_whose_name_is_of_utf8_and_its_owner_fetches_it(self) -> None:
        # He cannot send with it: of an address of his own Thunderbird keeps no letter beyond ASCII whole.
        server = self.serve()
        address, password = "jörg@localhost", "gryphon-11"
        user(server.maildata, "add", address, password)
        self.write(self.run_with(server), address)
        [stored] = server.letters("reception", "j%C3%B6rg@localhost")
        self.assertIn(b" with UTF8SMTPA id ", stored.read_bytes())
        self.assert_fetched_and_read(self.run_with(server, address=address, password=password))

    def test_without_leave_on_server_the_mailbox_is_empty_afterwards(self) -> None:
        server = self.serve()
        thunderbird = self.run_with(server, leave_on_server=False)
        self.write_to_myself(thunderbird)
        self.assert_fetched_and_read(thunderbird)
        self.assertEqual(fetch(server.pop3, ALICE), [])
        self.assertEqual(thunderbird.get_messages(), 0)

    def assert_sends_and_reads_in_tls(self, security: Security) -> None:
        server = self.serve()
        thunderbird = self.run_with(server, security=security)
        thunderbird.trust(server.ca)
        self.write_to_myself(thunderbird)
        self.assert_fetched_and_read(thunderbird)
        [copy] = server.letters("envoi", ALICE)
        self.assertIn(b" with ESMTPSA id ", copy.read_bytes())

    def test_a_letter_is_sent_and_read_over_starttls_and_stls(self) -> None:
        self.assert_sends_and_reads_in_tls(Security.STARTTLS)

    def test_a_letter_is_sent_and_read_over_implicit_tls(self) -> None:
        self.assert_sends_and_reads_in_tls(Security.IMPLICIT)

    def assert_turns_away(self, security: Security) -> None:
        server = self.serve()
        thunderbird = self.run_with(server, security=security)
        with self.assertRaisesRegex(Failed, UNKNOWN_ISSUER):
            self.write_to_myself(thunderbird)
        with self.assertRaisesRegex(Failed, UNKNOWN_ISSUER):
            thunderbird.get_messages()
        for kind in ("envoi", "reception"):
            self.assertEqual(server.letters(kind, ALICE), [])
        thunderbird.trust(server.ca)
        self.write_to_myself(thunderbird)
        self.assert_fetched_and_read(thunderbird)

    def test_starttls_with_an_untrusted_certificate_is_reported_until_the_authority_is_trusted(self) -> None:
        self.assert_turns_away(Security.STARTTLS)

    def test_implicit_tls_with_an_untrusted_certificate_is_reported_until_the_authority_is_trusted(self) -> None:
        self.assert_turns_away(Security.IMPLICIT)

    def test_a_mistyped_password_leaves_the_account_open_for_the_right_one(self) -> None:
        server = self.serve()
        thunderbird = self.run_with(server, password="white-rabbit-8")
        with self.assertRaisesRegex(Failed, "failed"):
            thunderbird.get_messages()
        with self.assertRaisesRegex(Failed, "failed"):
            self.write_to_myself(thunderbird)
        # PLAIN and LOGIN of SMTP, PLAIN and USER of POP3: each time the same typo.
        self.assertGreaterEqual(server.stdout.count("reason=wrong-password"), 4)
        thunderbird.set_password(PASSWORDS[ALICE])
        self.write_to_myself(thunderbird)
        self.assert_fetched_and_read(thunderbird)

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
