"""A witness: an honest client, in a process of its own, that sends a letter and fetches it, again and again.

``python -m tests.fuzz.witness SMTP-PORT POP3-PORT`` prints a line each time: how many seconds it took, and which step
took longest; or at last what went wrong.
"""

# Its lines are for ``Witness`` below.
# ruff: noqa: T201

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from tests.end_to_end.server import environment
from tests.end_to_end.wire import Wire

NAME, PASSWORD = "witness@localhost", "humpty-dumpty-6"
PAUSE = 0.5  # seconds between two letters
PATIENCE = 90  # seconds that one answer may take; whether that is too long is for who listens to us


class Missing(Exception):
    """Something that should have come has not."""


class Witness:
    """The process."""

    def __init__(self, smtp: int, pop3: int) -> None:
        command = [sys.executable, "-m", "tests.fuzz.witness", str(smtp), str(pop3)]
        self._process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._said = b""
        self.failure = ""
        """What it has missed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def letters(self) -> list[tuple[float, str]]:
        """Those that have come back since the last time: how many seconds it took, and what took longest."""
        with contextlib.suppress(BlockingIOError):
            while octets := os.read(self._pipe, 65536):
                self._said += octets
        *lines, self._said = self._said.split(b"\n")
        letters = []
        for line in lines:
            seconds, _, step = line.decode().partition(" ")
            try:
                letters.append((float(seconds), step))
            except ValueError:
                self.failure += line.decode()
        return letters


def go_first(pid: int) -> None:
    """Let a process go before others, if we may."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, -10)


def watch(smtp: int, pop3: int) -> None:
    """Print what there is to see; returns only where something is missing."""
    go_first(os.getpid())
    number = 0
    while True:
        number += 1
        letter = Letter(f"letter {number}")
        begin = time.monotonic()
        try:
            letter.send(smtp)
            letter.fetch(pop3)
        except (OSError, AssertionError, Missing) as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            return
        print(time.monotonic() - begin, max(letter.steps)[1], flush=True)
        time.sleep(PAUSE)


class Letter:
    """One, there and back."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.steps: list[tuple[float, str]] = []
        """How many seconds each took, and what it was."""

    def send(self, port: int) -> None:
        with self._connect(port, "220") as wire:
            self._say(wire, "EHLO witness.test", "250")
            self._say(wire, "MAIL FROM:<witness@example.org>", "250")
            self._say(wire, f"RCPT TO:<{NAME}>", "250")
            self._say(wire, "DATA", "354")
            self._say(wire, f"Subject: {self._text}\r\n\r\n{self._text}\r\n.", "250", "the dot")
            self._say(wire, "QUIT", "221")

    def fetch(self, port: int) -> None:
        with self._connect(port, "+OK") as wire:
            self._say(wire, f"USER {NAME}", "+OK")
            self._say(wire, f"PASS {PASSWORD}", "+OK")
            self._say(wire, "STAT", "+OK 1 ")
            self._say(wire, "RETR 1", "+OK")
            lines = [wire.reply()]
            while lines[-1] != ".":
                lines.append(wire.reply())
            if lines[-2:] != [self._text, "."]:
                raise Missing(f"{self._text}, and there is {lines}")
            self._say(wire, "DELE 1", "+OK")
            self._say(wire, "QUIT", "+OK")

    def _connect(self, port: int, code: str) -> Wire:
        begin = time.monotonic()
        wire = Wire(port)
        wire.socket.settimeout(PATIENCE)
        self._expect(begin, "greeting", code, wire.reply())
        return wire

    def _say(self, wire: Wire, line: str, code: str, step: str = "") -> None:
        begin = time.monotonic()
        self._expect(begin, step or line.partition(" ")[0], code, wire.say(line))

    def _expect(self, begin: float, step: str, code: str, reply: str) -> None:
        self.steps.append((time.monotonic() - begin, step))
        if not reply.startswith(code):
            raise Missing(f"{code}, and there is {reply}")


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
