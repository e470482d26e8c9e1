"""One worker's process, as its supervisor has it: how it is started, what it says, and how it has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

import mailbe
from mailbe.configuration import CannotStart
from mailbe.crew import Deaf, Logged, Ready, Refused, Task

log = Logger()


@implementer(IReadDescriptor)
class Worker:
    """One worker's process, and our end of the line to it."""

    def __init__(self, task: Task, inherited: Sequence[int]) -> None:
        """Start it.

        :param inherited: the descriptors that are its own, too.
        :raises OSError:
        """
        self.number = task.number
        self.ready: float | None = None
        """Since when it serves, on the monotonic clock."""
        self.deaf: Deferred[None] = Deferred()
        """Fires when it takes no more clients."""
        self.ended: Deferred[Worker] = Deferred()
        """Fires with this when it has ended."""
        self.refusal = ""
        """Why it could not serve."""
        self._line, theirs = Pipe()
        with theirs:
            self._process = _spawn(theirs.fileno(), [theirs.fileno(), *inherited])
        self.tell(task)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> str:
        """How it has ended."""
        status = self._process.returncode
        return f"signal {-status}" if status is not None and status < 0 else f"status {status}"

    def tell(self, word: object) -> None:
        """Say something to it; where it has ended, that is told elsewhere."""
        with contextlib.suppress(OSError):
            self._line.send(word)

    def wait(self, seconds: float) -> None:
        """Wait until it is ready.

        :raises CannotStart:
        """
        end = time.monotonic() + seconds
        while self.ready is None:
            if not self._line.poll(max(0.0, end - time.monotonic())):
                raise CannotStart(f"worker {self.number + 1} does not begin within {seconds:.0f} s")
            try:
                self._hear(self._line.recv())
            except (EOFError, OSError):
                self._process.wait()
                why = self.refusal or f"worker {self.number + 1} has ended at its start, with {self.status}"
                raise CannotStart(why) from None

    def watch(self, reactor: Any) -> None:
        """From now on have ``reactor`` tell what becomes of it."""
        self._reactor = reactor
        reactor.addReader(self)

    def kill(self) -> None:
        """End it as a crash would; for one that is not watched."""
        self._process.kill()
        self._process.wait()
        self._line.close()

    def fileno(self) -> int:
        return self._line.fileno()

    def logPrefix(self) -> str:
        return f"worker {self.number + 1}"

    def doRead(self) -> None:
        try:
            self._hear(self._line.recv())
        except (EOFError, OSError):
            self._reactor.removeReader(self)
            # The system closes what a process has before it tells that it has ended, and at once after that.
            self._process.wait()
            self._line.close()
            self._hear(Deaf())
            self.ended.callback(self)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""

    def _hear(self, word: object) -> None:
        if isinstance(word, Logged):
            _write(word)
        elif isinstance(word, Ready):
            self.ready = time.monotonic()
            log.info("worker {number} is process {pid}", number=self.number + 1, pid=self.pid)
        elif isinstance(word, Refused):
            self.refusal = word.reason
        elif isinstance(word, Deaf) and not self.deaf.called:
            self.deaf.callback(None)


def _spawn(line: int, inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    here = str(Path(mailbe.__file__).parents[1])  # in a checkout, nothing else leads there
    path = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    # They are ours to heed; a worker has them blocked from its very first moment.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        return subprocess.Popen(  # noqa: S603 - our own program
            # -P: nothing in the current folder is taken for a module.
            [sys.executable, "-P", "-m", "mailbe.worker", str(line)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write(word: Logged) -> None:
    """Log what a worker has said, under the name that it has there: fail2ban looks for it."""
    event = {
        "log_time": word.time,
        "log_namespace": word.namespace,
        "log_level": LogLevel.lookupByName(word.level),
        "log_format": "{text}",
        "text": word.text,
    }
    globalLogPublisher(event if word.system is None else event | {"log_system": word.system})
