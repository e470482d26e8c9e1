"""What an account has sent, fetched over POP3 as ``alice+envoi``."""

from __future__ import annotations

import poplib

from tests.end_to_end.letters import Tls, below_trace, letter, maildrop, retrieve, send, sender
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, QUICK, EndToEndTestCase
from tests.end_to_end.wire import Wire, encoded

SENT = "alice+envoi@localhost"
PASSWORD = PASSWORDS[ALICE]


class SentCopies(EndToEndTestCase):
    def test_a_mail_program_fetches_and_deletes_them_beside_the_others(self) -> None:
        server = self.serve()
        tls = Tls(server.trusting(), implicit=True)
        first, second = (letter(ALICE, [BOB], subject) for subject in ("one", "two"))
        with maildrop(server.ports["pop3s"], "alice+envoi", PASSWORD, tls) as sent:
            self.assertEqual(sent.stat(), (0, 0))
        send(server.submission, ALICE, [BOB], first)
        with (
            maildrop(server.ports["pop3s"], SENT, PASSWORD, tls) as sent,
            maildrop(server.pop3, ALICE) as received,
        ):
            self.assertEqual((sent.stat()[0], received.stat()[0]), (1, 0))
            self.assertEqual(below_trace(retrieve(sent, 1)), first)
            with self.assertRaises(poplib.error_proto) as refused, maildrop(server.pop3, "alice+envoi", PASSWORD):
                pass
            self.assertIn("[IN-USE]", str(refused.exception))
            send(server.submission, ALICE, [BOB, ALICE], second)
            self.assertEqual(sent.stat()[0], 1)
            sent.dele(1)
        with maildrop(server.pop3, SENT, PASSWORD) as sent:
            self.assertEqual([below_trace(retrieve(sent, 1))], [second])
        with maildrop(server.pop3, BOB) as bobs:
            self.assertEqual(bobs.stat()[0], 2)

    def test_the_commands_that_thunderbird_says(self) -> None:
        server = self.serve()
        send(server.submission, ALICE, [BOB], letter(ALICE, [BOB], "one"))
        for _ in range(2):  # each time it looks for new mail
            with Wire(server.pop3) as wire:
                self.assertEqual(wire.reply()[:3], "+OK")
                wire.send("CAPA")
                lines = _text(wire)
                self.assertIn("UIDL", lines)
                self.assertRegex("\n".join(lines), r"(?m)^SASL .*\bPLAIN\b")
                self.assertEqual(wire.say("AUTH PLAIN"), "+ ")
                self.assertEqual(wire.say(encoded("", SENT, PASSWORD))[:3], "+OK")
                count, octets = wire.say("STAT").split()[1:]
                self.assertEqual(count, "1")
                wire.send("LIST")
                self.assertEqual(_text(wire), [f"1 {octets}"])
                wire.send("UIDL")
                [number, uid] = _text(wire)[0].split(" ")
                self.assertEqual((number, uid), ("1", server.letters("envoi", ALICE)[0].name.partition(",")[0]))
                wire.send("RETR 1")
                self.assertEqual(sum(len(line.encode()) + 2 for line in _text(wire)), int(octets))
                self.assertEqual(wire.say("QUIT")[:3], "+OK")
        self.assertEqual(len(server.letters("envoi", ALICE)), 1)

    def test_nobody_sends_in_a_maildrops_name(self) -> None:
        server = self.serve(*QUICK)
        with sender(server.submission) as smtp:
            smtp.ehlo()
            self.assertEqual(smtp.docmd("AUTH PLAIN", encoded("", SENT, PASSWORD))[0], 535)
            self.assertEqual(smtp.docmd("AUTH PLAIN", encoded("", ALICE, PASSWORD))[0], 235)


def _text(wire: Wire) -> list[str]:
    """The lines of a reply of several, their dots unstuffed."""
    assert wire.reply().startswith("+OK")
    lines = []
    while (line := wire.reply()) != ".":
        lines.append(line.removeprefix("."))
    return lines
