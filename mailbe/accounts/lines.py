"""Waiting in line: few at a time do what costs much, and one at a time of each address.

So of many tries at once most are never made, as the guard stops them after the first few, and they keep nobody else
waiting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime


class Lines:
    """One line for each origin; ``at_once`` of those in front have their turn."""

    def __init__(self, clock: IReactorTime, at_once: int) -> None:
        self._clock = clock
        self._lines: dict[str, DeferredLock] = {}
        self._at_once = DeferredSemaphore(at_once)

    @asynccontextmanager
    async def turn(self, origin: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the context lasts."""
        line = self._lines.setdefault(origin, DeferredLock())
        await line.acquire()
        try:
            await self._at_once.acquire()
            try:
                yield
            finally:
                self._pass_on(self._at_once)
        finally:
            self._pass_on(line)
            if not line.locked:
                del self._lines[origin]

    def _pass_on(self, line: DeferredLock | DeferredSemaphore) -> None:
        # Later, as the next in line goes on from there, and the one behind it from there: a line may be long.
        if line.waiting:
            self._clock.callLater(0, line.release)
        else:
            line.release()
