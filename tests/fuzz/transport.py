"""A connection in memory that behaves as a socket of Twisted's does: its buffers, back-pressure, half closes, aborts.

The buffers are Twisted's own (``FileDescriptor``). The client's end is in the test's hand: when it reads and how much,
where what it sends is cut, whether it shuts its end or is gone. TLS is left out but for its order of events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from mailbe.conversation import Conversation

END = b""  # in the inbox: the client has shut its end


@implementer(ITCPTransport)
class MemoryTransport(FileDescriptor):
    """The server's end of a connection."""

    def __init__(self, clock: Clock, peer: str, hear: Callable[[bytes], None]) -> None:
        """:param hear: told at once what the server says, whether or not the client reads it."""
        super().__init__(clock)
        self._clock = clock
        self._peer = peer
        self._hear = hear
        self._inbox: deque[bytes] = deque()
        self._reads = self._writes = False
        self._tells_end = False
        self.protocol: Conversation
        self.window: int | None = None
        """Octets that the client will take; ``None``: all that come."""
        self.shaking_hands = False
        self.secure = False
        self.aborted = False
        self.half_closed = False
        """Whether the client has shut its end."""
        self.gone = False

    def begin(self, protocol: Conversation) -> None:
        self.protocol = protocol
        self.connected = 1
        self._reads = True
        self.shaking_hands = self.secure = protocol.secure
        protocol.makeConnection(self)

    # What the client does.

    def send(self, *pieces: bytes) -> None:
        """Each piece is a segment."""
        self._inbox.extend(piece for piece in pieces if piece)

    def shut(self) -> None:
        """Say nothing more, and go on reading."""
        self._inbox.append(END)

    def shake_hands(self) -> None:
        """Do what is left of the handshake of TLS."""
        self.shaking_hands = False
        self.protocol.handshakeCompleted()

    def lose(self) -> None:
        """The connection breaks."""
        self.connectionLost(Failure(ConnectionLost()))

    def move(self, said: Callable[[bytes], None]) -> bool:
        """Let whatever can move now move; whether anything did.

        :param said: told of each segment before the server gets it.
        """
        moved = False
        while not self.gone and (self._take() or self._give(said)):
            moved = True
        return moved

    def _take(self) -> bool:
        if not self._writes or (self.window == 0 and (self.dataBuffer or self._tempDataLen)):
            return False
        if (outcome := self.doWrite()) is not None:
            self.connectionLost(Failure(outcome))
        return True

    def _give(self, said: Callable[[bytes], None]) -> bool:
        if not self._reads or not self._inbox:
            return False
        segment = self._inbox.popleft()
        if segment == END:
            self.half_closed = True
            if self.secure:
                self.connectionLost(Failure(ConnectionDone()))
            else:
                self.stopReading()
                self.protocol.readConnectionLost()
        elif self.shaking_hands:
            # No handshake: plaintext, or what stood behind STARTTLS.
            self.connectionLost(Failure(SSL.Error([("SSL routines", "", "wrong version number")])))
        else:
            said(segment)
            self.protocol.dataReceived(segment)
        return True

    # What the server calls, and Twisted's buffers.

    def write(self, data: bytes) -> None:
        if self.connected and not self._writeDisconnected:
            self._hear(data)
        super().write(data)

    def writeSomeData(self, data: bytes) -> int:
        taken = len(data) if self.window is None else min(self.window, len(data))
        if self.window is not None:
            self.window -= taken
        return taken

    def startTLS(self, factory: object) -> None:
        self.shaking_hands = self.secure = True

    def abortConnection(self) -> None:
        if self.disconnected or self.aborted:
            return
        self.aborted = True
        self.stopReading()
        self.stopWriting()
        self._clock.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        if self.gone:
            return
        self.gone = True
        super().connectionLost(reason)
        protocol = self.protocol
        del self.protocol  # as a socket does: the two keep each other alive no longer
        protocol.connectionLost(reason)

    def _closeWriteConnection(self) -> None:
        self.protocol.writeConnectionLost()

    @property
    def server_has_shut(self) -> bool:
        """Whether the server says nothing more."""
        return bool(self.disconnecting or self._writeDisconnecting or self.aborted)

    def startReading(self) -> None:
        self._reads = not self.aborted

    def stopReading(self) -> None:
        self._reads = False

    def startWriting(self) -> None:
        self._writes = not self.aborted

    def stopWriting(self) -> None:
        self._writes = False

    def getPeer(self) -> Any:
        return IPv4Address("TCP", self._peer, 4321)

    def getHost(self) -> Any:
        return IPv4Address("TCP", "127.0.0.1", 25)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Memory has no delay."""
