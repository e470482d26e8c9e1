"""The victim: a mailbe server in a process of its own, that is started, watched and killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import mailbe

PROTOCOLS = ("smtp", "submission", "pop3")
START_SECONDS = 60.0  # the most that a start may take
KILL_SECONDS = 30.0  # and the end of a killed process, which may have to wait for its disk
POLL = 0.005  # seconds

STOP_SECONDS = 30.0  # that a stop in order may take, with letters under way

_LISTENS = re.compile(rb"(\w+) listens on 127\.0\.0\.1:(\d+)\n")
_WORKER = re.compile(rb"worker (\d+) is process (\d+)\n")


class Down(Exception):
    """The server does not come up, or has gone by itself; the message says what it said last."""


def twistd() -> list[str]:
    """The command of the service, without its options."""
    return [str(Path(sys.executable).with_name("twistd")), "-n", "mailbe"]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put signals off that would end us between a process's beginning and our knowing of it."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        for caught in came[:1]:
            signal.raise_signal(caught)


class Server:
    """One server after the other, on one maildata."""

    def __init__(self, maildata: Path, logs: Path, command: Sequence[str], workers: int = 1) -> None:
        """:param logs: for a log of each run, and the server's current folder: not on a disk whose power is cut.
        :param workers: how many processes serve.
        """
        self.ports: dict[str, int] = {}
        self.began = 0.0
        """When its process was started, on the monotonic clock."""
        self.listening = 0.0
        """When it said that it listens."""
        self.log = logs / "none"
        self._maildata = maildata
        self._logs = logs
        # A server of one process may be one that knows no such option.
        self._command = [*command, "--workers", str(workers)] if workers > 1 else command
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0

    def begin(self) -> None:
        """Start a process, and do not wait until it is of use."""
        self._runs += 1
        self.log = self._logs / f"server-{self._runs:04}.log"
        endpoints = [word for name in PROTOCOLS for word in (f"--{name}", "tcp:0:interface=127.0.0.1")]
        here = str(Path(mailbe.__file__).parents[1])  # in a checkout, nothing else leads there
        path = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        with self.log.open("wb") as log, _undisturbed():
            self.began = time.monotonic()
            self._process = subprocess.Popen(  # noqa: S603 - our own server
                [*self._command, "--maildata", str(self._maildata), *endpoints],
                cwd=self._logs,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us
            )

    def start(self) -> None:
        """Start a process and wait until it listens.

        :raises Down:
        """
        self.begin()
        while not set(PROTOCOLS) <= set(self._ports_in_log()):
            self.check()
            if time.monotonic() - self.began > START_SECONDS:
                raise Down(f"the server does not listen after {START_SECONDS:.0f} s; {self._said()}")
            time.sleep(POLL)
        self.listening = time.monotonic()
        self.ports = self._ports_in_log()

    def check(self) -> None:
        """:raises Down: where the process has ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise Down(f"the server has ended by itself, with status {status}; {self._said()}")

    def kill(self) -> None:
        """End the process and its workers as a crash would, if they are there.

        :raises Down: where it does not end.
        """
        if self._process is None:
            return
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._await_end()

    def kill_supervisor(self) -> None:
        """End the process alone; its workers have to see to themselves.

        :raises Down: where it does not end.
        """
        assert self._process is not None
        self._process.kill()
        self._await_end()

    def kill_worker(self, number: int) -> int:
        """End one of its workers as a crash would, counting from 1; returns its process's id."""
        process = self._workers()[number]
        os.kill(process, signal.SIGKILL)
        return process

    def await_worker(self, number: int, not_this: int) -> None:
        """Wait until another worker has taken the place of the process ``not_this``.

        :raises Down:
        """
        begun = time.monotonic()
        while self._workers()[number] == not_this:
            self.check()
            if time.monotonic() - begun > START_SECONDS:
                raise Down(f"worker {number} is not replaced after {START_SECONDS:.0f} s; {self._said()}")
            time.sleep(POLL)

    def stop(self) -> None:
        """Have it end in order.

        :raises Down: where it does not.
        """
        assert self._process is not None
        process = self._process
        process.terminate()
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Down(f"the server does not stop within {STOP_SECONDS:.0f} s; {self._said()}") from None
        self._process = None
        if status:
            raise Down(f"the server has stopped with status {status}; {self._said()}")

    def _await_end(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            raise Down(f"the server does not end within {KILL_SECONDS:.0f} s of SIGKILL; {self._said()}") from None
        self._process = None

    def _workers(self) -> dict[int, int]:
        """The process of each worker, the last where one has replaced another."""
        return {int(number): int(process) for number, process in _WORKER.findall(self.log.read_bytes())}

    def _ports_in_log(self) -> dict[str, int]:
        return {name.decode(): int(port) for name, port in _LISTENS.findall(self.log.read_bytes())}

    def _said(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return f"its last words in {self.log}: {lines[-1] if lines else 'none'}"
