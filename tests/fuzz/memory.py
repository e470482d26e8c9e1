"""The service with no threads and no sockets, on a disk that can fail."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from mailbe.durable import Parcel
from mailbe.service import MailService
from mailbe.tap import Options
from tests.end_to_end.server import PROTOCOLS
from tests.fakes import Pace
from tests.storage import PromptWriter

T = TypeVar("T")
Patch = Callable[[Any, str, Any], object]
"""Replaces an attribute for the length of a test."""


class Threads:
    """A thread pool that has no threads, and takes its time where ``pace`` is slow."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def start(self) -> None:
        """There is nothing to start."""

    stop = start

    def callInThreadWithCallback(self, tell: Callable[[bool, Any], None], work: Callable[..., T], *given: Any) -> None:
        self._pace.wait().addCallback(lambda _: self._run(tell, partial(work, *given)))

    def _run(self, tell: Callable[[bool, Any], None], work: Callable[[], T]) -> None:
        try:
            result = work()
        except Exception as error:
            tell(False, error)
        else:
            tell(True, result)


class Reactor(MemoryReactorClock):
    """A reactor in memory, with such a pool."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pool = Threads(pace)
        self.advance(int(time.time()))

    def getThreadPool(self) -> Threads:
        return self._pool

    def callFromThread(self, work: Callable[..., object], *given: Any) -> None:
        work(*given)


class PacedWriter(PromptWriter):
    """A writer that has no thread, and takes its time where ``pace`` is slow."""

    def __init__(self, pace: Pace) -> None:
        super().__init__(lambda work: work())
        self._pace = pace

    def start(self) -> None:
        """There is nothing to start."""

    stop = start

    def store(self, parcel: Parcel) -> Deferred[None]:
        return self._pace.wait().addCallback(lambda _: super(PacedWriter, self).store(parcel))


_REAL = {call: getattr(os, call) for call in ("open", "write", "fsync", "link", "unlink", "mkdir", "scandir")}


class Disk:
    """Lets calls of the operating system fail: every n-th of one kind, with one error."""

    def __init__(self, patch: Patch) -> None:
        self._failing: dict[str, tuple[int, int]] = {}
        self._calls = 0
        for call, real in _REAL.items():
            patch(os, call, partial(self._called, call, real))

    def fail(self, call: str, error: int, every: int) -> None:
        self._failing = {call: (error, every)}

    @contextmanager
    def sound(self) -> Iterator[None]:
        """It fails nobody meanwhile."""
        failing, self._failing = self._failing, {}
        try:
            yield
        finally:
            self._failing = failing

    def mend(self) -> None:
        self._failing = {}

    def _called(self, call: str, real: Callable[..., T], *given: Any, **named: Any) -> T:
        if call in self._failing:
            error, every = self._failing[call]
            self._calls += 1
            if self._calls % every == 0:
                raise OSError(error, os.strerror(error))
        return real(*given, **named)


# By name: the call, its error, and which of the calls.
TROUBLES = {
    "disk full": ("write", errno.ENOSPC, 1),
    "quota": ("link", errno.EDQUOT, 2),
    "bad disk": ("fsync", errno.EIO, 1),
    "worse disk": ("fsync", errno.EIO, 2),
    "odd disk": ("fsync", errno.EIO, 3),
    "no descriptors": ("open", errno.EMFILE, 1),
    "few descriptors": ("open", errno.EMFILE, 2),
    "read only": ("unlink", errno.EROFS, 1),
    "half read only": ("unlink", errno.EROFS, 2),
    "unreadable": ("scandir", errno.EIO, 1),
    "no room for folders": ("mkdir", errno.ENOSPC, 2),
}
# In these no letter can be stored.
HOPELESS = ("disk full", "bad disk", "no descriptors")


class Service(MailService):
    """The service as it is put together, with no threads."""

    def __init__(self, root: Path, words: Sequence[str], writing: Pace, hashing: Pace, disk: Pace) -> None:
        options = Options()
        endpoints = [word for name in PROTOCOLS for word in (f"--{name}", "tcp:0:interface=127.0.0.1")]
        # A port in memory says that others can reach it.
        options.parseOptions(["--maildata", str(root), "--allow-md5", *endpoints, *words])
        self.reactor = Reactor(disk)
        super().__init__(options.configuration(), self.reactor)
        self._writer = PacedWriter(writing)
        self._hashing: Any = Threads(hashing)

    def startService(self) -> None:
        begun = self.reactor.seconds()
        # So that what is held comes while a test passes time, however long the test itself takes.
        self._holder._now = lambda: time.time() + self.reactor.seconds() - begun
        super().startService()
