"""A sender who has asked is told that his letter was delivered, in his mailbox, before it is taken (RFC 3461)."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import cast

from tests.end_to_end.letters import fetch, letter, sender
from tests.end_to_end.programs import needs, run
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, EndToEndTestCase, Server

NOTIFY = "NOTIFY=SUCCESS,FAILURE"


class ReportTests(EndToEndTestCase):
    def deliver(self, server: Server, *recipients: tuple[str, str], asks: tuple[str, ...] = ()) -> bytes:
        """Send a letter from alice; returns it."""
        sent = letter(ALICE, [BOB], "With receipt")
        with sender(server.submission, ALICE) as smtp:
            smtp.ehlo()
            self.assertTrue(smtp.has_extn("dsn"))
            self.assertEqual(smtp.mail(ALICE, [*asks, "BODY=8BITMIME"])[0], 250)
            for address, wants in recipients:
                self.assertEqual(smtp.rcpt(address, [wants])[0], 250)
            self.assertEqual(smtp.data(sent)[0], 250)
        return sent

    def test_who_asked_is_told_in_a_report_that_programs_can_read(self) -> None:
        server = self.serve()
        asks = ("RET=HDRS", "ENVID=order+2066")
        sent = self.deliver(server, (BOB, f"{NOTIFY} ORCPT=rfc822;Bob@localhost"), (ALICE, "NOTIFY=NEVER"), asks=asks)
        copy, octets = fetch(server.pop3, ALICE)
        self.assertTrue(copy.endswith(sent))
        report = email.message_from_bytes(octets, policy=email.policy.default)
        self.assertEqual(report.get_content_type(), "multipart/report")
        self.assertEqual(report["Return-Path"], "<>")
        self.assertEqual(report["In-Reply-To"], "<With%20receipt@client.test>")
        text, status, header = cast(list[EmailMessage], report.get_payload())
        self.assertIn("It is now in the mailbox of:\n\n    bob@localhost", text.get_content().replace("\r\n", "\n"))
        of_letter, of_bob = cast(list[EmailMessage], status.get_payload())
        self.assertEqual(of_letter["Original-Envelope-Id"], "order 66")
        self.assertEqual(of_bob["Original-Recipient"], "rfc822;Bob@localhost")
        self.assertEqual(of_bob["Action"], "delivered")
        [stored] = server.letters("reception", BOB)
        self.assertTrue(stored.name.startswith(of_bob["Final-Log-Id"]))
        returned = header.get_content()
        self.assertIn("Subject: With receipt", returned)
        self.assertNotIn("Grüße", returned)

    def test_a_report_that_has_no_room_changes_nothing_for_the_letter(self) -> None:
        server = self.serve("--quota-letters", "1")
        self.deliver(server, (ALICE, "NOTIFY=NEVER"))
        sent = self.deliver(server, (BOB, NOTIFY))
        self.assertTrue(fetch(server.pop3, BOB)[0].endswith(sent))
        self.assertEqual(len(fetch(server.pop3, ALICE)), 1)
        self.assertIn(f"no report to {ALICE}: the mailbox is full", server.said)

    @needs("swaks")
    def test_swaks_asks_for_a_report(self) -> None:
        server = self.serve()
        where = ["--server", "127.0.0.1", "--port", str(server.submission), "--helo", "client.test"]
        # It has no option for a parameter of RCPT; this ends the path, and its own > ends another parameter.
        to = f"{BOB}> NOTIFY=SUCCESS ORCPT=rfc822;<{BOB}"
        who = ["--from", ALICE, "--to", to, "--auth-user", ALICE, "--auth-password", PASSWORDS[ALICE]]
        run(self.scratch(), "swaks", *where, *who)
        [report] = fetch(server.pop3, ALICE)
        self.assertIn(f"\r\nOriginal-Recipient: rfc822;<{BOB}>\r\nFinal-Recipient: rfc822; {BOB}\r\n".encode(), report)
