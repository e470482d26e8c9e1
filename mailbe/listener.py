"""One port's conversations: how each begins, and how all end when the service stops."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory

from mailbe.conversation import Conversation
from mailbe.interfaces import ITls
from mailbe.session import ISession

Begin = Callable[[Conversation], ISession]


class Listener(ServerFactory):
    """Begins a conversation with each client that connects, and ends them all when the service stops."""

    noisy = False

    def __init__(
        self, begin: Begin, clock: IReactorTime, tls: ITls | None = None, *, implicit_tls: bool = False
    ) -> None:
        """:param implicit_tls: whether what connections come over is TLS already (RFC 8314 3)."""
        self.begin = begin
        self.clock = clock
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.conversations: set[Conversation] = set()
        self._all_ended: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Conversation:
        return Conversation(self)

    def ended(self, conversation: Conversation) -> None:
        self.conversations.discard(conversation)
        if not self.conversations:
            self._fire()

    def wind_up(self, seconds: float) -> Deferred[None]:
        """End all conversations, those in the middle of something when that is done.

        Fires when all have ended, or after so many ``seconds``, when the rest is cut off.
        """
        if not self.conversations:
            return succeed(None)
        self._all_ended = all_ended = Deferred[None]()
        deadline = self.clock.callLater(seconds, self._abort)
        for conversation in list(self.conversations):
            conversation.wind_up()
        return all_ended.addCallback(lambda _: deadline.cancel() if deadline.active() else None)

    def _abort(self) -> None:
        for conversation in list(self.conversations):
            conversation.abort()
        self._fire()

    def _fire(self) -> None:
        if self._all_ended is not None:
            all_ended, self._all_ended = self._all_ended, None
            all_ended.callback(None)
