"""When a client has been silent for too long.

There is one alarm a conversation. It is not set back with every line; when it goes off, it looks when the client was
last heard, and is set again for what is left.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Silence:
    """How long one client is silent."""

    # There may be tens of thousands.
    __slots__ = ("_alarm", "_clock", "_heard", "_is_ours", "_most", "_too_long")

    def __init__(self, clock: IReactorTime, is_ours: Callable[[], bool], too_long: Callable[[], None]) -> None:
        """:param is_ours: whether it is for us to speak: then the client's silence begins anew.
        :param too_long: called when the client has been silent for as long as it may be.
        """
        self._clock = clock
        self._is_ours = is_ours
        self._too_long = too_long
        self._heard = 0.0  # when, on that clock
        self._most = 0.0
        self._alarm: IDelayedCall | None = None

    def allow(self, seconds: float) -> None:
        """From now on so many ``seconds`` are too long."""
        self.end()
        self.broken()
        self._most = seconds
        self._alarm = self._clock.callLater(seconds, self._look)

    def broken(self) -> None:
        """The client is heard."""
        self._heard = self._clock.seconds()

    def end(self) -> None:
        """Look no more."""
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()

    def _look(self) -> None:
        self._alarm = None
        if self._is_ours():
            self.broken()
        left = self._heard + self._most - self._clock.seconds()
        if left > 0:
            self._alarm = self._clock.callLater(left, self._look)
        else:
            self._too_long()
