"""Where clients of the web side come in: one port takes TLS and plaintext, and the first octet tells which it is.

A TLS client speaks first, with a record of type 22 (RFC 8446 5.1); no method of HTTP begins with that octet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from mailbe.interfaces import ITls
from mailbe.limits import Places, Turns
from mailbe.peers import who
from mailbe.web.channel import Channel
from mailbe.web.site import Site

HANDSHAKE = 0x16
CLIENT_SECONDS = 30.0  # that a client has for a request, or for the next one to begin
CLOSING_SECONDS = 30.0  # ... for reading our last words


class Doorway(Protocol):
    """One connection."""

    transport: Any  # whatever it is, it can abort; Twisted has no one interface for that

    def __init__(self, listener: WebListener) -> None:
        self._listener = listener
        self._alarm: IDelayedCall | None = None
        self._has_place = False
        self._channel: Channel | None = None
        self._inside: IProtocol | None = None  # the channel, or TLS above it
        self._lost = False
        self.gone: Deferred[None] = Deferred()
        """Fires when the connection is lost and nothing is done for it any more."""
        self.peer = ""
        """The client's IP address; empty where it has none."""
        self.at_home = False
        """Whether the client is on this machine."""

    # What Twisted calls.

    def connectionMade(self) -> None:
        self._listener.doorways.add(self)
        self.peer, self.at_home = who(self.transport.getPeer())
        self._has_place = self._listener.places.take(self.peer, local=self.at_home)
        if self._has_place:
            self.wait_for_client()
        else:
            # We cannot know yet in which of the two tongues to say why.
            self.abort()

    def dataReceived(self, data: bytes) -> None:
        if not self._has_place:
            return  # a balancer sends its header and this at once
        if self._inside is None:
            self._inside = self._enter(secure=data[0] == HANDSHAKE)
            self._inside.makeConnection(self.transport)
        self._inside.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._set_alarm(None)
        if self._has_place:
            self._listener.places.leave(self.peer)
        if self._inside is not None:
            self._inside.connectionLost(reason)
        self.ended()

    # What the channel calls.

    def wait_for_client(self) -> None:
        """It is for the client to speak, and in time."""
        self._set_alarm(CLIENT_SECONDS, self._too_slow)

    def wait_for_us(self) -> None:
        """It is for us to speak."""
        self._set_alarm(None)

    def wait_for_close(self) -> None:
        """All is said."""
        self._set_alarm(CLOSING_SECONDS, self.abort)

    def close(self) -> None:
        """Close the connection, whether or not there was TLS, when all has left."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the client off."""
        self.transport.abortConnection()

    def ended(self) -> None:
        """Something has ended; perhaps it was the last."""
        if self._lost and not (self._channel is not None and self._channel.working):
            self._leave()

    # What the listener calls.

    def wind_up(self) -> Deferred[None]:
        """Finish what is going on, and hang up; fires when that is done."""
        if self._channel is None:
            self.abort()
        else:
            self._channel.wind_up()
        return self.gone

    def give_up(self) -> None:
        """Cut the client off, and wait for nothing."""
        self.abort()
        self._leave()

    # Our own.

    def _leave(self) -> None:
        self._listener.doorways.discard(self)
        if not self.gone.called:
            self.gone.callback(None)

    def _enter(self, *, secure: bool) -> IProtocol:
        listener = self._listener
        self._channel = Channel(self, listener.site, listener.turns, secure=secure)
        if not secure:
            return self._channel
        return TLSMemoryBIOProtocol(listener.tls, self._channel)

    def _too_slow(self) -> None:
        self._alarm = None
        if self._channel is None:
            self.abort()
        else:
            self._channel.too_slow()

    def _set_alarm(self, seconds: float | None, call: Callable[[], None] | None = None) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
        if seconds is not None and call is not None and not self._lost:
            self._alarm = self._listener.clock.callLater(seconds, call)


class WebListener(ServerFactory):
    """One port's connections: how each begins, and how all end when the service stops."""

    noisy = False

    def __init__(self, site: Site, clock: IReactorTime, places: Places, turns: Turns, tls: ITls) -> None:
        """:param clock: a monotonic one.
        :param places: those of the whole process, with the mail's; and so ``turns``.
        """
        self.site = site
        self.clock = clock
        self.places = places
        self.turns = turns
        self.tls = TLSMemoryBIOFactory(tls, False, None, clock)  # type: ignore[arg-type]  # it wraps what it is given
        self.doorways: set[Doorway] = set()

    def buildProtocol(self, addr: IAddress | None) -> Doorway:
        return Doorway(self)

    def wind_up(self, seconds: float) -> Deferred[None]:
        """End all connections, those whose request is being answered when that is done.

        Fires when all have ended; the rest is cut off after so many ``seconds``.
        """
        deadline = self.clock.callLater(seconds, self._abort)
        all_gone = gatherResults([doorway.wind_up() for doorway in list(self.doorways)])
        return all_gone.addCallback(lambda _: deadline.cancel() if deadline.active() else None)

    def _abort(self) -> None:
        for doorway in list(self.doorways):
            doorway.give_up()
