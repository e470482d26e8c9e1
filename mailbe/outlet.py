"""How what we say to a client leaves: in few writes, and no faster than the client reads.

The replies to one segment leave in one write. A reply of many chunks leaves chunk by chunk; where the client takes
them as fast as we have them, others have their turn in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer

from mailbe.limits import Turns
from mailbe.session import PeerGone


class Outlet:
    """What leaves over one connection."""

    # There may be tens of thousands.
    __slots__ = ("_closed", "_drain", "_memory", "_octets", "_replies", "_transport", "_turns", "clogged")

    def __init__(self, transport: IConsumer, turns: Turns, memory: int) -> None:
        """:param turns: those of all clients.
        :param memory: octets of replies that wait for one another at most.
        """
        self._transport = transport
        self._turns = turns
        self._memory = memory
        self._replies: list[bytes] = []  # that wait for the end of their segment
        self._octets = 0
        self._drain: Deferred[None] | None = None  # what a reply of many chunks waits for
        self._closed = False
        self.clogged = False
        """Whether the client does not read what was sent."""

    @property
    def waits(self) -> bool:
        """Whether the rest of a reply waits until the client has read what was sent of it."""
        return self._drain is not None

    def add(self, octets: bytes) -> bool:
        """A reply is to leave with the others; whether it was so much that they have left already."""
        self._replies.append(octets)
        self._octets += len(octets)
        if self._octets < self._memory:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """What has been said leaves now."""
        if not self._replies:
            return
        octets = b"".join(self._replies)
        self._replies.clear()
        self._octets = 0
        self._transport.write(octets)

    async def send_all(self, chunks: Iterable[bytes]) -> None:
        """Send a reply chunk by chunk, as fast as the client takes it.

        :raises PeerGone: and what ``chunks`` raise.
        """
        self.flush()
        sent = 0
        for chunk in chunks:
            self._transport.write(chunk)
            sent += len(chunk)
            if self.clogged:
                self._drain = Deferred()
                await self._drain
            elif sent >= Turns.OCTETS:
                sent = 0
                await self._others_turn()
                if self._closed:
                    raise PeerGone

    def unclog(self) -> None:
        """The client has read what there was."""
        self.clogged = False
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)

    def close(self) -> None:
        """Nobody is there to read any more."""
        self._closed = True
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.errback(PeerGone())

    def _others_turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self._turns.wait(partial(turn.callback, None))
        return turn
