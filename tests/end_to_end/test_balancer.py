"""haproxy stands before every port: who a client is, what counts against him, and what looking after us costs us."""

from __future__ import annotations

import smtplib
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack

from tests.end_to_end.balancer import BALANCER, SECONDS, Balanced, haproxy
from tests.end_to_end.letters import Tls, below_trace, fetch, letter, send
from tests.end_to_end.programs import needs
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    PROTOCOLS,
    EndToEndTestCase,
    eventually,
    manage,
    of_one_process,
    user,
)
from tests.end_to_end.wire import Wire, encoded

HOME, ATTACKER = "127.0.0.7", "127.0.0.66"  # none of them the balancer's
GUESSES = ("cheshire-cat-1", "cheshire-cat-2", "cheshire-cat-3")  # as many as lock an account
KINDS = ("ESMTP", "ESMTPSA", "ESMTPSA")
CHECKS = 5  # how often each port is looked at, at least
# With what headers it does that: the second says LOCAL.
OF_ITSELF = {1: b"PROXY ", 2: b"\r\n\r\n\0\r\nQUIT\n\x20"}


def log_in(port: int, password: str, source: str) -> str:
    """What Alice's log-in over POP3, from there, is told."""
    with Wire(port, source) as wire:
        wire.reply()
        said = wire.say(f"USER {ALICE}", f"PASS {password}")
        if said.startswith("+OK"):
            wire.say("QUIT")
        return said


@needs("haproxy")
class HaproxyTests(EndToEndTestCase):
    def serve_behind(self, *options: str) -> Balanced:
        maildata = self.scratch() / "maildata"
        for address, password in PASSWORDS.items():
            user(maildata, "add", address, password)
        server = Balanced(maildata, *options)
        self.addCleanup(server.close)
        server.start()
        return server

    def balanced(self, ports: Mapping[str, int], version: int = 2) -> AbstractContextManager[dict[str, int]]:
        return haproxy(self.scratch(), ports, version=version)

    def test_letters_pass_in_tls_or_without_and_tell_whom_they_came_from(self) -> None:
        server = self.serve_behind("--workers", "2")
        text = letter(ALICE, [BOB], "balanced")
        for version in (1, 2):
            with self.balanced(server.behind, version) as ports:
                with smtplib.SMTP("127.0.0.1", ports["smtp"], "client.test", SECONDS, (HOME, 0)) as smtp:
                    smtp.sendmail("s@example.org", [BOB], text)
                for port, implicit in (("submission", False), ("submissions", True)):
                    send(ports[port], ALICE, [BOB], text, tls=Tls(server.trusting(), implicit))
                letters = fetch(ports["pop3"], BOB)
                for port, implicit in (("pop3", False), ("pop3s", True)):
                    self.assertEqual(fetch(ports[port], BOB, Tls(server.trusting(), implicit)), letters)
            self.assertEqual([below_trace(one) for one in letters], [text] * 3 * version)
            for one, client, kind in zip(letters[-3:], (HOME, "127.0.0.1", "127.0.0.1"), KINDS, strict=True):
                self.assertIn(f"Received: from client.test ([{client}])\r\n\tby localhost with {kind} ".encode(), one)

    def test_guesses_count_against_who_makes_them(self) -> None:
        server = self.serve_behind("--slowest-answer-seconds", "0")
        with self.balanced(server.behind) as ports:
            self.assertRegex(log_in(ports["pop3"], PASSWORDS[ALICE], HOME), r"^\+OK ")
            with Wire(ports["submission"], ATTACKER) as wire:
                wire.reply()
                said = wire.say("EHLO client.test", f"AUTH PLAIN {encoded('', ALICE, GUESSES[0])}")
                self.assertRegex(said, r"^535 5\.7\.8 ")
            for guess in GUESSES[1:]:
                self.assertRegex(log_in(ports["pop3"], guess, ATTACKER), r"^-ERR \[AUTH\] ")
            self.assertRegex(log_in(ports["pop3"], PASSWORDS[ALICE], ATTACKER), r"^-ERR \[SYS/TEMP\] ")
            self.assertRegex(log_in(ports["pop3"], PASSWORDS[ALICE], HOME), r"^\+OK ")
        self.assertIn(f" {HOME}", manage(server.maildata, "list"))
        self.assertEqual(server.stdout.count(f" peer={ATTACKER} reason="), len(GUESSES) + 1)
        self.assertNotIn(f"peer={BALANCER} ", server.stdout)

    @of_one_process("each counts its own connections")
    def test_connections_count_for_who_makes_them(self) -> None:
        server = self.serve_behind("--max-connections-per-address", "2")
        with self.balanced({"pop3s": server.behind["pop3s"], "submission": server.behind["submission"]}) as ports:
            for source in (HOME, ATTACKER):
                with ExitStack() as held:
                    for code in ("220", "220", "421"):
                        wire = held.enter_context(Wire(ports["submission"], source))
                        self.assertEqual(wire.reply()[:3], code)

    def test_when_it_looks_whether_we_are_there_nothing_is_logged(self) -> None:
        server = self.serve_behind()
        quiet = server.stdout
        for version in (1, 2):
            with ExitStack() as recorded:
                wires = {name: recorded.enter_context(Recorder(server.behind[name])) for name in PROTOCOLS}
                with self.balanced({name: wire.port for name, wire in wires.items()}, version) as ports:
                    for wire in wires.values():
                        self.await_checks(wire, version)
                    for name in ("smtp", "pop3"):
                        eventually(lambda: self.took_leave(wires[name]), f"haproxy says QUIT to {name}", SECONDS)  # noqa: B023
                    with Wire(ports["smtp"]) as client:
                        self.assertEqual(client.reply()[:3], "220")
        self.assertEqual(server.stdout, quiet)

    def took_leave(self, wire: Recorder) -> bool:
        """Whether haproxy has said all that it says when it looks, in a breath of its own at its end."""
        return any(said[-1:] == [b"QUIT\r\n"] for said in list(wire.connections))

    def await_checks(self, wire: Recorder, version: int) -> None:
        """Wait until haproxy has looked at a port some times of its own accord."""

        def looked() -> bool:
            return sum(b"".join(said).startswith(OF_ITSELF[version]) for said in list(wire.connections)) >= CHECKS

        eventually(looked, "haproxy looks", SECONDS)

    def test_who_is_no_balancer_is_not_heard_and_neither_is_one_that_says_nothing_of_a_client(self) -> None:
        server = self.serve_behind()
        for name in PROTOCOLS:
            with Wire(server.behind[name], ATTACKER) as wire:
                wire.send("PROXY TCP4 127.0.0.1 127.0.0.1 4321 25", "NOOP")
                self.assertEqual(wire.rest(), b"")
            with Wire(server.behind[name], BALANCER) as wire:
                wire.send("EHLO client.test")
                self.assertEqual(wire.rest(), b"")
        for line in (
            f"{ATTACKER} is no balancer that --proxy-from names: hung up",
            f"no PROXY header from {BALANCER}: ",
        ):
            self.assertEqual(server.stdout.count(line), len(PROTOCOLS), line)
