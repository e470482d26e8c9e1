"""A clock that is set back and ahead under the running server: time-outs do not notice, and names and dates do."""

from __future__ import annotations

import re
import signal
import ssl
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from tests.end_to_end.faults import FaultsTestCase
from tests.end_to_end.ledger import LARGE, OK, SMALL
from tests.end_to_end.letters import Tls, fetch, letter, maildrop, sender
from tests.end_to_end.programs import needs
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, QUICK, Server, eventually
from tests.end_to_end.wire import Wire

HOUR, DAY = 3600, 86400
YEAR = 365 * DAY
JUMPS = (HOUR, 10 * YEAR, 0, -HOUR, -YEAR, 10 * YEAR, -YEAR)  # seconds ahead of the true time


@needs("gcc")
class ClockTests(FaultsTestCase):
    def uids(self, server: Server) -> list[str]:
        with maildrop(server.pop3, BOB) as pop3:
            return [line.split()[1].decode() for line in pop3.uidl()[1]]

    def begin_letter(self, port: int) -> tuple[Wire, bytes]:
        """Half of a letter is under way; returns the rest as well."""
        octets = letter("stranger@example.com", [BOB], "in two halves", "no dots\n", bytes(LARGE))
        wire = Wire(port)
        self.addCleanup(wire.socket.close)
        wire.reply()
        wire.say("EHLO client.test", "MAIL FROM:<stranger@example.com>", f"RCPT TO:<{BOB}>", "DATA")
        wire.socket.sendall(octets[: LARGE // 2])
        return wire, octets[LARGE // 2 :] + b".\r\n"

    def test_no_time_out_comes_early(self) -> None:
        server, ledger = self.serve_with_ledger()
        with sender(server.submission, ALICE) as smtp, maildrop(server.pop3, ALICE) as pop3:
            half, rest = self.begin_letter(server.smtp)
            for seconds in JUMPS:
                self.faults.set_clock(seconds)
                self.assertEqual(fetch(server.pop3, BOB), [])  # the server goes round, and looks what time it is
                self.assertEqual(smtp.noop()[0], 250)
                self.assertEqual(pop3.noop(), b"+OK here")
            half.socket.sendall(rest)
            self.assertRegex(half.reply(), OK)
        self.assert_told(ledger, 0)
        server.stop()

    def test_no_answer_comes_late(self) -> None:
        server = self.serve("--slowest-answer-seconds", "1")
        for count, seconds in enumerate((-HOUR, -YEAR), 1):
            self.faults.set_clock(0)
            with Wire(server.pop3) as wire:
                wire.reply()
                wire.say(f"USER {BOB}")
                wire.send(f"PASS cheshire-cat-{-seconds}")
                said = "reason=wrong-password"
                eventually(lambda: server.stdout.count(said) == count, "the answer is delayed")  # noqa: B023
                self.faults.set_clock(seconds)
                self.assertRegex(wire.reply(), r"^-ERR \[AUTH\] ")

    def test_a_letter_on_its_way_keeps_the_server_no_longer_when_it_stops(self) -> None:
        server = self.serve()
        self.begin_letter(server.smtp)
        eventually(lambda: list((server.maildata / "spool").iterdir()), "half a letter lies in the spool")
        server.tell(signal.SIGTERM)
        eventually(lambda: " Closed)" in server.stdout, "the server stops")
        self.faults.set_clock(-YEAR)
        server.join()

    def test_letters_bear_the_time_of_day(self) -> None:
        server, ledger = self.serve_with_ledger()
        with sender(server.submission, ALICE) as smtp:
            for number, seconds in enumerate(JUMPS):
                self.faults.set_clock(seconds)
                self.assertEqual(ledger.send(smtp, [BOB], (SMALL, LARGE)[number % 2]), OK)
                [new] = set(server.letters("reception", BOB)) - set(self.seen)
                self.seen = server.letters("reception", BOB)
                [date] = re.findall(rb"^Received: (?:.*\r\n[ \t])+(.*)\r\n", new.read_bytes(), re.MULTILINE)
                for told in (int(new.name.partition(".")[0]), parsedate_to_datetime(date.decode()).timestamp()):
                    self.assertLess(abs(told - time.time() - seconds), HOUR / 2)
        ledger.check()

    seen: Sequence[object] = ()

    def test_unique_ids_stay_and_every_letter_is_seen(self) -> None:
        server, ledger = self.serve_with_ledger()
        known: list[str] = []
        for seconds in (HOUR, 0, 2 * YEAR, -HOUR, -YEAR):
            self.faults.set_clock(seconds)
            for _ in range(2):  # in the running server, and after a restart
                with sender(server.submission, ALICE) as smtp:
                    self.assertEqual(ledger.send(smtp, [BOB]), OK)
                uids = self.uids(server)
                self.assertEqual(len(uids), len(known) + 1)
                self.assertLess(set(known), set(uids))
                self.assertEqual(self.uids(server), uids)
                known = uids
                server.stop()
                server.start()
        ledger.check()

    def test_who_was_locked_out_is_let_in_again_however_the_clock_is_set(self) -> None:
        server = self.serve(*QUICK)
        for seconds in (HOUR, 10 * YEAR, -YEAR):
            self.faults.set_clock(0)
            for guess in ("cheshire-cat-1", "cheshire-cat-2", "cheshire-cat-3", PASSWORDS[BOB]):
                with Wire(server.pop3) as wire:
                    wire.reply()
                    reply = wire.say(f"USER {BOB}", f"PASS {guess}")
            self.assertRegex(reply, r"^-ERR \[SYS/TEMP\] ")
            self.faults.set_clock(seconds)
            self.assertEqual(fetch(server.pop3, BOB), [])
            self.faults.set_clock(0)

    def test_a_certificate_that_was_made_by_a_clock_ahead_is_made_anew(self) -> None:
        server = self.serve()
        file = server.maildata / "tls" / "certificate.pem"
        first = file.read_bytes()
        self.faults.set_clock(2 * YEAR)
        server.tell(signal.SIGHUP)
        eventually(lambda: file.read_bytes() != first, "the certificate is renewed, as it has expired")
        self.faults.set_clock(0)
        server.tell(signal.SIGHUP)
        tls = Tls(server.trusting(), implicit=True)
        eventually(lambda: self.trusts(server, tls), "the certificate is good by the true time")

    def trusts(self, server: Server, tls: Tls) -> bool:
        try:
            return fetch(server.ports["pop3s"], BOB, tls) == []
        except ssl.SSLCertVerificationError:
            return False
