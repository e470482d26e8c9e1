"""What others feel while a server is flooded: a witness, in a process of its own.

Three threads talk to the server as honest clients do, each at its own pace: NOOPs on a connection that is there,
letters on new connections, and polls of a maildrop. Each waits for every answer. Who comes while the server does not
answer waits as well, so one long wait stands for all that would have come meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TypeVar

from tests.end_to_end.letters import letter
from tests.end_to_end.server import ALICE, BOB, PASSWORDS
from tests.end_to_end.wire import Wire

_Value = TypeVar("_Value")

SOURCE = "127.0.1.1"  # its own: limits for an address are not to hit it for what others do
WARM = 5  # letters and polls before anything is counted
LETTER = letter("somebody@example.org", [BOB], "Witness", "All is well.\n" * 60).decode()  # about 1 KB


@dataclass
class Report:
    """What was seen."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """How long each thing took, by kind."""
    longest: float = 0.0
    """The longest wait for any single answer, or for a connection, in seconds ..."""
    step: str = ""
    """... and to what."""
    late: float = 0.0
    """By how many seconds this process itself came late to its work, at most: so much is the machine's doing."""
    refused: list[str] = field(default_factory=list)
    """Why a letter or a poll came to nothing."""


class Refused(Exception):
    """The server does not want us, and says why."""


class Witness:
    """Watches a server that listens on ``ports``, until told to stop."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._report = Report()
        self._stopping = threading.Event()
        self._idle: Wire | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=arguments)
            for arguments in (("NOOP", 0.01, self._noop), ("letter", 0.1, self._letter), ("poll", 0.1, self._poll))
        ]

    def start(self) -> None:
        """Begin, and return when the server is warm: its code is loaded, its mailboxes are made."""
        for thread in self._threads:
            thread.start()
        while any(len(self._report.seconds.get(kind, ())) < WARM for kind in ("letter", "poll")):
            if self._report.refused:
                raise AssertionError(self._report.refused)
            time.sleep(0.05)

    def begin(self) -> None:
        """Forget what was seen."""
        self._report = Report()

    def stop(self) -> Report:
        """What was seen since ``begin``, to the last answer."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        return self._report

    def _repeat(self, kind: str, interval: float, work: Callable[[], None]) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            report = self._report
            begin = time.monotonic()
            report.late = max(report.late, begin - due)
            try:
                work()
            except (Refused, OSError, AssertionError) as error:
                report.refused.append(f"{kind}: {error}")
            took = time.monotonic() - begin
            report.seconds.setdefault(kind, []).extend(_felt(took, interval))
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _noop(self) -> None:
        if self._idle is None:
            self._idle = self._connect("smtp")
        try:
            said = self._say(self._idle, "NOOP")
        except (OSError, AssertionError):
            self._idle = None
            raise
        if not said.startswith("250"):  # who says nothing but NOOP may be asked to leave: an answer all the same
            self._idle.socket.close()
            self._idle = None

    def _letter(self) -> None:
        with self._connect("smtp") as wire:
            for line, expected in (
                ("HELO witness.test", "250"),
                ("MAIL FROM:<somebody@example.org>", "250"),
                (f"RCPT TO:<{BOB}>", "250"),
                ("DATA", "354"),
                (f"{LETTER}.", "250"),
                ("QUIT", "221"),
            ):
                self._expect(expected, self._say(wire, line))

    def _poll(self) -> None:
        with self._connect("pop3") as wire:
            for line in (f"USER {ALICE}", f"PASS {PASSWORDS[ALICE]}", "STAT", "QUIT"):
                self._expect("+OK", self._say(wire, line))

    def _connect(self, protocol: str) -> Wire:
        wire = self._timed("connect", lambda: Wire(self._ports[protocol], SOURCE))
        try:
            self._expect("2" if protocol == "smtp" else "+OK", self._timed("greeting", wire.reply))
        except BaseException:
            wire.socket.close()
            raise
        return wire

    def _say(self, wire: Wire, line: str) -> str:
        step = line.split(" ")[0] if len(line) < 100 else "the dot"
        return self._timed(step, lambda: wire.say(line))

    def _timed(self, step: str, work: Callable[[], _Value]) -> _Value:
        report = self._report
        begin = time.monotonic()
        try:
            return work()
        finally:
            took = time.monotonic() - begin
            if took > report.longest:
                report.longest, report.step = took, step

    def _expect(self, beginning: str, said: str) -> None:
        if not said.startswith(beginning):
            raise Refused(said)


def _felt(took: float, interval: float) -> list[float]:
    """The wait that was seen, and those of all who would have come meanwhile, one each ``interval``."""
    return [took - missed * interval for missed in range(1 + int(took / interval))]


def watch(ports: dict[str, int], orders: Connection) -> None:
    """The witness's process: answers ``begin`` and ``end`` that come over ``orders``, the latter with the report."""
    witness = Witness(ports)
    witness.start()
    orders.send("ready")
    orders.recv()
    witness.begin()
    orders.recv()
    orders.send(witness.stop())
