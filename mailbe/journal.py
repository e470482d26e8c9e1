"""Log lines of what happens often: several share one event, as to format one costs a third of what a letter costs."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

log = Logger()


class Journal:
    """Collects the lines of one turn of the reactor, and logs them in one event."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lines: list[str] = []

    def note(self, line: str) -> None:
        """Log ``line``, in a moment."""
        self._lines.append(line)
        if len(self._lines) == 1:
            self._clock.callLater(0, self._write)

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        log.info("{lines}", lines="\n".join(lines))
