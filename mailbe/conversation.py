"""One conversation with one client: a line comes, its reply goes, in order. SMTP and POP3 share it.

A session (``session.ISession``) answers lines; the wire (``Conversation``) does all the rest. At any moment the
wire is in one of four conditions, and the ``_settle`` method alone draws the consequences:

===========  ==========================================  ===========  ========
condition    what it means                               reads on     time-out
===========  ==========================================  ===========  ========
listening    nothing is going on, or a command has       yes          runs
             asked the client for more (``ask``)
thinking     a command waits for something of ours       no           off
clogged      the client does not read what we send       no           runs
resting      the client has said much at once, and it    no           runs
             is the others' turn
===========  ==========================================  ===========  ========

Time-outs count from the last complete line: who sends an octet now and then is as silent as who sends none. A
command that has nothing to wait for is a plain method and returns its reply; one that may wait is an
``async`` method. As no line is read while one is being answered, replies are in order by construction
however long one takes, and a client that sends faster than we answer is slowed by TCP itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from mailbe.interfaces import TryLater
from mailbe.limits import Patience, Turns
from mailbe.session import Body, Farewell, ISession, LineTooLong, PeerGone, Refusal, Reply

if TYPE_CHECKING:
    from mailbe.listener import Listener

log = Logger()

MAX_LINE = 12288  # octets, the longest line that any session takes: RFC 4954 4, AUTH
CLOSING_TIME = 30  # seconds that a client has for reading our last words
LINGERING = (Farewell.LINE_TOO_LONG, Farewell.NO_EFFECT, Farewell.TOO_SLOW)  # the client may still be sending
UNHEARD = 1024 * 1024  # octets that it may send before it has read why


@implementer(IPushProducer, IHalfCloseableProtocol, IHandshakeListener)
class Conversation(LineReceiver, TimeoutMixin):
    """The wire between one client and its session."""

    delimiter = b"\r\n"
    MAX_LENGTH = MAX_LINE - 2
    transport: Any  # whatever it is, it is a consumer and can abort; Twisted has no one interface for that

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._out: list[bytes] = []  # replies that wait for the end of their segment
        self._out_octets = 0
        self._command: Deferred[Any] | None = None  # the command that is being answered
        self._question: Deferred[bytes] | None = None  # what that command wants of the client
        self._body: Body | None = None  # ... if it is not a line
        self._drain: Deferred[None] | None = None  # what a reply of many chunks waits for
        self._clogged = False
        self._resting = False
        self._turn = 0  # commands since the others had their turn
        self._patience = Patience(listener.clock)
        self._closing = False  # hang up when the command is answered
        self._hung_up = False
        self._lingering = False  # ... but the client may go on sending until it has read why
        self._unheard = 0  # octets that came after that
        self._has_place = False
        self.session: ISession
        self.peer = ""
        """The client's IP address; empty where it has none."""
        self.secure = listener.implicit_tls
        """Whether TLS is on."""
        self._shaking_hands = listener.implicit_tls  # until TLS is ready, what we write would be taken for clogging
        self._local = False

    # What Twisted calls.

    def connectionMade(self) -> None:
        self._listener.conversations.add(self)
        if ITCPTransport.providedBy(self.transport):
            # With Nagle's algorithm, a reply that follows another waits for the client's delayed ACK.
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.peer, self._local = _who(self.transport.getPeer())
        self.session = self._listener.begin(self)
        self._has_place = self._listener.places.take(self.peer, local=self._local)
        if not self._has_place:
            self._turn_away()
        elif self._shaking_hands:
            self.setTimeout(self.session.silence)
        else:
            self._greet()

    def handshakeCompleted(self) -> None:
        """TLS is ready."""
        self._shaking_hands = False
        if self._listener.implicit_tls:
            self._greet()

    def dataReceived(self, data: bytes) -> None:
        if self._hung_up:
            self._unheard += len(data)
            if self._unheard > UNHEARD:
                self.abort()
            return
        if data:
            self._turn = 0
            if self._patience.seconds > self.session.patience:
                self._farewell(Farewell.TOO_SLOW)
                return
        super().dataReceived(data)
        self._flush()

    def lineReceived(self, line: bytes) -> None:
        self.resetTimeout()
        if self._question is not None:
            self._answer_question(line)
        elif self._is_tired:
            self._farewell(Farewell.NO_EFFECT)
        else:
            self._obey(line)
        self._take_turns()
        self._settle()

    def rawDataReceived(self, data: bytes) -> None:
        assert self._body is not None
        self.resetTimeout()
        rest = self._body.feed(data)
        if rest is None:
            return
        self._body = None
        self.setLineMode(rest)
        self._answer_question(b"")
        self._settle()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._farewell(Farewell.LINE_TOO_LONG)

    def pauseProducing(self) -> None:
        """The transport has more to send than the client takes."""
        self._clogged = True
        self._settle()

    def resumeProducing(self) -> None:
        """The client has taken what there was."""
        self._clogged = False
        self.resetTimeout()
        if self._drain is not None:
            drain, self._drain = self._drain, None
            drain.callback(None)
        self._settle()

    def stopProducing(self) -> None:
        """The connection is lost, as ``connectionLost`` is told as well."""

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        return self._listener.clock.callLater(period, func)

    def timeoutConnection(self) -> None:
        if self._hung_up or self._shaking_hands or self._drain is not None:
            self.abort()
        else:
            self._farewell(Farewell.SILENCE)

    def readConnectionLost(self) -> None:
        """The client has said all it will say, and may be listening: what it said before has been answered."""
        if self._hung_up:
            self.transport.loseConnection()
        else:
            self.hang_up()

    def writeConnectionLost(self) -> None:
        """The client listens no more; ``connectionLost`` follows."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._shaking_hands and reason is not None and reason.check(SSL.Error):
            log.info("no TLS with {peer}: {why}", peer=self.peer, why=_why(reason.value))
        self._hung_up = True
        self.clearLineBuffer()
        self.setTimeout(None)
        if self._has_place:
            self._listener.places.leave(self.peer)
        for waiting in (self._question, self._drain):
            if waiting is not None:
                waiting.errback(PeerGone())
        self._question = self._drain = None
        # A command that is at work finishes: a letter that has arrived is delivered.
        if self._command is not None:
            self._command.addCallback(lambda _: self._ended())
        else:
            self._ended()

    # What sessions call.

    @property
    def private(self) -> bool:
        """Whether nobody between the client and us can read along."""
        return self.secure or self._local

    @property
    def may_start_tls(self) -> bool:
        """Whether TLS can be had, and is not on."""
        return self._listener.tls is not None and not self.secure

    @property
    def channel_binding(self) -> dict[str, bytes]:
        """The bindings to the TLS channel below, by type (RFC 5056); none where there is no TLS."""
        return self._listener.tls.channel_binding(self.transport) if self._listener.tls and self.secure else {}

    def ask(self, question: Reply, body: Body | None = None) -> Awaitable[bytes]:
        """Say ``question`` and wait for the line that answers it, or until ``body`` has all it wants.

        :raises PeerGone: where the client goes before.
        """
        if self._hung_up:
            return fail(PeerGone())
        self._reply(question)
        self._question = answer = Deferred[bytes]()
        if body is not None:
            self._body = body
            self.setRawMode()
        if self._command is not None:
            # The command has waited for something of ours: nobody but us sends this and reads on.
            self._flush()
            self._settle()
        return answer

    # What the service calls.

    def wind_up(self) -> None:
        """Finish what is going on, a letter that is arriving above all, and hang up."""
        self._closing = True
        if self._shaking_hands or self._lingering:
            self.abort()
        elif self._command is None or (self._question is not None and self._body is None):
            self._farewell(Farewell.SHUTDOWN)

    def abort(self) -> None:
        """Cut the client off. What it has sent and we have not answered is not obeyed any more."""
        self._hung_up = True
        self.clearLineBuffer()
        self.setTimeout(None)
        self.transport.abortConnection()

    # Our own.

    def _greet(self) -> None:
        self._reply(self.session.greeting())
        self._flush()
        self._settle()

    def _turn_away(self) -> None:
        if self._shaking_hands:
            self.abort()
        else:
            self._farewell(Farewell.NO_PLACE)

    @property
    def _is_tired(self) -> bool:
        patience = self._patience
        return patience.errors >= self._listener.limits.errors or patience.commands >= self.session.idle_commands

    def _take_turns(self) -> None:
        self._turn += 1
        if self._turn >= Turns.COMMANDS and not self._resting and not self._hung_up:
            self._resting = True
            self._listener.turns.wait(self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._turn = 0
        self._settle()

    def _obey(self, line: bytes) -> None:
        self._patience.commands += 1
        try:
            reply = self.session.answer(line)
        except LineTooLong:
            self._farewell(Farewell.LINE_TOO_LONG)
            return
        except Refusal as refusal:
            self._reply(refusal.reply)
            return
        except Exception:
            self._reply(self._failed(Failure()))
            return
        if isinstance(reply, Reply):
            self._reply(reply)
            return
        command = Deferred.fromCoroutine(reply)
        command.addErrback(self._failed)
        self._wait_for(command)

    def _wait_for(self, command: Deferred[Any]) -> None:
        self._command = command
        command.addCallback(self._obeyed)

    def _obeyed(self, reply: Reply | None) -> None:
        self._command = None
        if reply is not None:
            self._reply(reply)
        if self._closing and self._command is None:
            self._farewell(Farewell.SHUTDOWN)
        self._flush()
        self._settle()

    def _failed(self, failure: Failure) -> Reply | None:
        error = failure.value
        if isinstance(error, PeerGone):
            return None
        if isinstance(error, Refusal):
            return error.reply
        if isinstance(error, TryLater) and not error.logged:
            log.warn("put off: {error}", error=error)
        for kind in type(error).__mro__:
            if kind in self.session.refusals:
                return self.session.refusals[kind]
        log.failure("a command failed", failure)
        return self.session.fault

    def _answer_question(self, line: bytes) -> None:
        question, self._question = self._question, None
        assert question is not None
        question.callback(line)

    def _reply(self, reply: Reply | None) -> None:
        if self._hung_up or reply is None:
            return
        self._patience.told(reply)
        if not isinstance(reply.octets, bytes):
            self._wait_for(Deferred.fromCoroutine(self._send_all(reply.octets)))
            return
        if reply.tls and self.clearLineBuffer():
            # It came in plaintext and would be obeyed as if it had come in TLS (RFC 3207 4.2).
            self._farewell(Farewell.PLAINTEXT)
            return
        self._out.append(reply.octets)
        self._out_octets += len(reply.octets)
        if self._out_octets >= self._listener.limits.memory:
            self._flush()
            self._turn = Turns.COMMANDS
        if reply.tls:
            self._start_tls()
        if reply.last:
            self.hang_up()

    def _start_tls(self) -> None:
        assert self._listener.tls is not None
        self._flush()
        self.secure = self._shaking_hands = True
        # A transport that is clogged when TLS begins does not tell when it is no more.
        self._clogged = False
        self.transport.startTLS(self._listener.tls)
        self.session.secured()

    async def _send_all(self, chunks: Iterator[bytes]) -> None:
        """Send a reply chunk by chunk, as fast as the client takes it.

        Where a chunk cannot be had, only a lost connection tells the client that it has not got them all.
        """
        try:
            self._flush()
            for chunk in chunks:
                self.transport.write(chunk)
                if self._clogged:
                    self._drain = Deferred()
                    await self._drain
        except PeerGone:
            pass
        except TryLater as error:
            log.warn("a reply could not be sent to its end: {error}", error=error)
            self.abort()
        except Exception:
            log.failure("a reply could not be sent to its end")
            self.abort()

    def _flush(self) -> None:
        if not self._out:
            return
        octets = b"".join(self._out)
        self._out.clear()
        self._out_octets = 0
        self.transport.write(octets)

    def _settle(self) -> None:
        """Read on or not, and let the time-out run or not, as our condition wants it."""
        if self._hung_up:
            return
        thinking = self._command is not None and self._question is None
        if thinking and not self._clogged:
            self.setTimeout(None)
        elif self.timeOut is None:
            self.setTimeout(self.session.silence)
        if thinking or self._clogged or self._resting:
            if not self.paused:
                super().pauseProducing()
        elif self.paused:
            super().resumeProducing()

    def _ended(self) -> None:
        self.session.ended()
        self._listener.ended(self)

    def _farewell(self, why: Farewell) -> None:
        # A client that is still sending would hear of nothing but a reset: first we close our end alone.
        self._lingering = why in LINGERING and not self.secure and ITCPTransport.providedBy(self.transport)
        self._reply(Reply(self.session.farewells.get(why, b""), last=True))

    def hang_up(self) -> None:
        """Send what there is to send, and close the connection."""
        self._flush()
        self._hung_up = True
        self.clearLineBuffer()
        # Ended and begun anew: for one that is to come sooner, the reactor looks through all the time-outs there are.
        self.setTimeout(None)
        self.setTimeout(CLOSING_TIME)
        if self.paused:
            super().resumeProducing()  # or we would not hear that the client's end of TLS is closed
        self.transport.unregisterProducer()
        if self._lingering:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()


def _who(peer: IAddress) -> tuple[str, bool]:
    if not isinstance(peer, (IPv4Address, IPv6Address)):
        return "", True
    address = ipaddress.ip_address(peer.host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address), address.is_loopback


def _why(error: BaseException | None) -> str:
    """OpenSSL's last word on what went wrong."""
    errors = error.args[0] if error is not None and error.args else None
    return str(errors[-1][-1]) if errors else "the client has gone"
