"""One port's conversations: how each begins, and how all end when the service stops."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.internet.tcp import Server
from twisted.logger import Logger

from mailbe.conversation import Conversation
from mailbe.interfaces import ITls
from mailbe.limits import Limits, Places, Turns
from mailbe.session import ISession
from mailbe.transport import PromptServer

Begin = Callable[[Conversation], ISession]
log = Logger()

REST = 1.0  # seconds
COURTESY = 0.005  # seconds
ACCEPTED_AT_ONCE = 32  # connections, before others have their turn
QUEUE = 4096  # clients that may wait; the system may allow less (somaxconn)


def accept_in_turns(
    port: Any, clock: IReactorTime, at_once: int = ACCEPTED_AT_ONCE, is_ahead: Callable[[], bool] = lambda: False
) -> None:
    """Let clients come in a few at a time, and wait in the queue of ``port`` while there is no descriptor for them.

    :param port: one of Twisted's. By itself it takes ever more at once while they come in crowds; and without
        descriptors it hangs up on them, or tries again and again and does nothing else. Its queue has 50 places: whom
        it has none for comes again after a second.
    :param at_once: how many, before others have their turn.
    :param is_ahead: whether another process that takes clients from the same queue is the one to take the next. It is
        left to that for a moment, and no longer, as it may hang.
    """
    port.socket.listen(QUEUE)
    if getattr(port, "transport", None) is Server:  # and not that of a UNIX socket
        port.transport = PromptServer
    accept = port.doRead
    resting = False
    left = False  # the client who waits now was left to others already

    def do_read() -> None:
        nonlocal resting
        if not left and is_ahead():
            port.stopReading()
            clock.callLater(COURTESY, resume_after_courtesy)
            return
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if not resting:
                log.warn("clients have to wait: {reason}", reason=error.strerror)
            resting = True
            port.stopReading()
            clock.callLater(REST, resume)
        else:
            resting = False
            port.numberAccepts = min(port.numberAccepts, at_once)
            accept()

    def resume() -> None:
        if port.connected:
            port.startReading()

    def resume_after_courtesy() -> None:
        nonlocal left
        left = True
        resume()
        clock.callLater(0, forget)  # when whoever waits still was taken

    def forget() -> None:
        nonlocal left
        left = False

    port.doRead = do_read


class Listener(ServerFactory):
    """Begins a conversation with each client that connects, and ends them all when the service stops."""

    noisy = False

    def __init__(
        self,
        begin: Begin,
        clock: IReactorTime,
        limits: Limits,
        places: Places,
        turns: Turns,
        tls: ITls | None = None,
        *,
        implicit_tls: bool = False,
    ) -> None:
        """:param clock: a monotonic one: what it measures must not end because somebody has set the time.
        :param places: those of the whole process; and so ``turns``.
        :param implicit_tls: whether what connections come over is TLS already (RFC 8314 3).
        """
        self.begin = begin
        self.clock = clock
        self.limits = limits
        self.places = places
        self.turns = turns
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
