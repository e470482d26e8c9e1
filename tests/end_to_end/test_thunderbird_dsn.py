"""Thunderbird's box for a delivery receipt: the report comes, and is shown to who ticked it."""

from __future__ import annotations

from tests.end_to_end.programs import needs
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, EndToEndTestCase
from tests.end_to_end.thunderbird import Thunderbird

SUBJECT = "Grüße mit Empfangsbestätigung"


@needs("thunderbird")
class ReceiptTests(EndToEndTestCase):
    def test_who_ticks_the_box_reads_that_his_letter_was_delivered_and_who_does_not_is_told_nothing(self) -> None:
        server = self.serve()
        thunderbird = self.enterContext(Thunderbird(self.scratch()))
        thunderbird.add_account(ALICE, PASSWORDS[ALICE], pop3=server.pop3, smtp=server.submission)
        attachment = self.scratch() / "a.txt"
        attachment.write_text("a")
        thunderbird.send(BOB, "Without", "Hello Bob", attachment)
        self.assertEqual(thunderbird.get_messages(), 0)
        thunderbird.send(BOB, SUBJECT, "Hello Bob", attachment, receipt=True)
        self.assertEqual(thunderbird.get_messages(), 1)
        text = thunderbird.read("Your letter was delivered").text
        self.assertIn(f"Subject: {SUBJECT}", text)
        self.assertIn(f"It is now in the mailbox of:\n\n    {BOB}\n", text)
