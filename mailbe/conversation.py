"""One conversation with one client: a line comes, its reply goes, in order. SMTP and POP3 share it.

A session (``session.ISession``) answers lines; the wire (``Conversation``) does all the rest. At any moment the
wire is in one of four conditions, and the ``_settle`` method alone draws the consequences:

===========  ==========================================  ===========  ========
condition    what it means                               obeys lines  time-out
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
``async`` method. As no line is obeyed while one is being answered, replies are in order by construction
however long one takes; of a client that sends ahead all the same nothing more is read, so TCP itself slows it.

How replies leave is in ``outlet``, how silence is timed in ``silence``, and how much a client may take of us in
``limits``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from mailbe.interfaces import TryLater
from mailbe.limits import Patience, Turns
from mailbe.outlet import Outlet
from mailbe.peers import who, why_no_tls
from mailbe.session import Body, Farewell, ISession, LineTooLong, PeerGone, Refusal, Reply
from mailbe.silence import Silence

if TYPE_CHECKING:
    from mailbe.listener import Listener

log = Logger()

MAX_LINE = 12288  # octets, the longest line that any session takes: RFC 4954 4, AUTH
CLOSING_TIME = 30  # seconds that a client has for reading our last words
LINGERING = (Farewell.LINE_TOO_LONG, Farewell.NO_EFFECT, Farewell.TOO_SLOW)  # the client may still be sending
UNHEARD = 1024 * 1024  # octets that it may send before it has read why


@implementer(IPushProducer, IHalfCloseableProtocol, IHandshakeListener)
class Conversation(LineReceiver):
    """The wire between one client and its session."""

    delimiter = b"\r\n"
    MAX_LENGTH = MAX_LINE - 2
    transport: Any  # whatever it is, it is a consumer and can abort; Twisted has no one interface for that

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._command: Coroutine[Any, Any, Reply | None] | None = None  # the command that is being answered
        self._question: Deferred[bytes] | None = None  # what that command wants of the client
        self._body: Body | None = None  # ... if it is not a line
        self._resting = False
        self._turn = 0  # commands since the others had their turn
        self._patience = Patience(listener.clock)
        self._deaf = False  # whether the transport was told to read no more
        self._silence = Silence(listener.clock, self._is_our_word, self._too_silent)
        self._closing = False  # hang up when the command is answered
        self._all_said = False  # the client's end is closed: hang up when all that it said is answered
        self._hung_up = False
        self._lost = False  # the connection is gone, and the command finishes
        self._lingering = False  # ... but the client may go on sending until it has read why
        self._unheard = 0  # octets that came after that
        self._has_place = False
        self._outlet: Outlet
        self.session: ISession
        self.peer = ""
        """The client's IP address; empty where it has none."""
        self.secure = listener.implicit_tls
        """Whether TLS is on."""
        self._shaking_hands = listener.implicit_tls  # until TLS is ready, what we write would be taken for clogging
        self._local = False
        self._bindings: dict[str, bytes] = {}

    # What Twisted calls.

    def connectionMade(self) -> None:
        self._listener.conversations.add(self)
        if ITCPTransport.providedBy(self.transport):
            # With Nagle's algorithm, a reply that follows another waits for the client's delayed ACK.
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._outlet = Outlet(self.transport, self._listener.turns, self._listener.limits.memory)
        self.peer, self._local = who(self.transport.getPeer())
        self.session = self._listener.begin(self)
        self._has_place = self._listener.places.take(self.peer, local=self._local)
        if not self._has_place:
            self._turn_away()
            return
        self._silence.allow(self.session.silence)
        if not self._shaking_hands:
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
        if data and self.paused:
            self._stop_reading()
        elif data:
            self._turn = 0
            if self._patience.seconds > self.session.patience:
                self._farewell(Farewell.TOO_SLOW)
                return
        super().dataReceived(data)
        self._outlet.flush()
        if self._all_said and not self.paused and not self._hung_up:
            self._hang_up()

    def lineReceived(self, line: bytes) -> None:
        self._silence.broken()
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
        self._silence.broken()
        rest = self._body.feed(data)
        if rest is None:
            return
        self._body = None
        self.setLineMode()
        self._buffer = rest  # not by setLineMode, for which it would be news from the client, and so a new turn
        self._answer_question(b"")
        self._settle()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._farewell(Farewell.LINE_TOO_LONG)

    def pauseProducing(self) -> None:
        """The transport has more to send than the client takes."""
        self._outlet.clogged = True
        self._settle()

    def resumeProducing(self) -> None:
        """The client has taken what there was."""
        self._silence.broken()
        self._outlet.unclog()
        self._settle()

    def stopProducing(self) -> None:
        """The connection is lost, as ``connectionLost`` is told as well."""

    def readConnectionLost(self) -> None:
        """The client has said all it will say, and may be listening: what it said before is answered."""
        self._all_said = True
        if self._hung_up:
            self.transport.loseConnection()
        elif not self.paused:
            self._hang_up()

    def writeConnectionLost(self) -> None:
        """The client listens no more; ``connectionLost`` follows."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._shaking_hands and reason is not None and reason.check(SSL.Error):
            log.info("no TLS with {peer}: {why}", peer=self.peer, why=why_no_tls(reason.value))
        self._hung_up = True
        self.clearLineBuffer()
        self._silence.end()
        if self._has_place:
            self._listener.places.leave(self.peer)
        self._outlet.close()
        question, self._question = self._question, None
        if question is not None:
            question.errback(PeerGone())
        # A command that is at work finishes: a letter that has arrived is delivered.
        self._lost = self._command is not None
        if not self._lost:
            self._ended()

    # What sessions call.

    @property
    def at_home(self) -> bool:
        """Whether the client is on this machine."""
        return self._local

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
        # Asked for at every step of a log-in, and the same for as long as the channel is. There is none before it is.
        if not self._bindings and self._listener.tls and self.secure:
            self._bindings = self._listener.tls.channel_binding(self.transport)
        return self._bindings

    def ask(self, question: Reply | None, body: Body | None = None) -> Awaitable[bytes]:
        """Say ``question`` and wait for the line that answers it, or until ``body`` has all it wants.

        :param question: ``None`` where the client sends on without being asked.
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
            if question is not None:
                self._outlet.flush()
            self._settle()
        return answer

    def reply_to(self, failure: Failure) -> Reply | None:
        """What a client is told whose command has failed; ``None`` where nobody is there any more."""
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
        self._silence.end()
        self._outlet.close()
        self.transport.abortConnection()

    # Commands, and what is said to them.

    def _greet(self) -> None:
        self._reply(self.session.greeting())
        self._outlet.flush()
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
            self._reply(self.reply_to(Failure()))
            return
        if isinstance(reply, Reply):
            self._reply(reply)
        else:
            self._begin(reply)

    def _begin(self, command: Coroutine[Any, Any, Reply | None]) -> None:
        self._command = command
        self._go_on(None)

    def _go_on(self, outcome: object) -> None:
        """Let the command work on, up to where it has to wait again; for ``outcome`` it has waited.

        ``Deferred.fromCoroutine`` does the same and more, at three times the price.
        """
        command = self._command
        assert command is not None
        try:
            if isinstance(outcome, Failure):
                waits_for = outcome.throwExceptionIntoGenerator(command)
            else:
                waits_for = command.send(outcome)
        except StopIteration as end:
            self._obeyed(end.value)
        except Exception:
            self._obeyed(self.reply_to(Failure()))
        else:
            waits_for.addBoth(self._go_on)

    def _obeyed(self, reply: Reply | None) -> None:
        self._command = None
        if self._hung_up:
            if self._lost:
                self._ended()
            return
        self._silence.broken()
        if reply is not None:
            self._reply(reply)
        if self._closing and self._command is None:
            self._farewell(Farewell.SHUTDOWN)
        self._outlet.flush()
        self._settle()

    def _answer_question(self, line: bytes) -> None:
        question, self._question = self._question, None
        assert question is not None
        question.callback(line)

    def _reply(self, reply: Reply | None) -> None:
        if self._hung_up or reply is None:
            return
        self._patience.told(reply)
        if not isinstance(reply.octets, bytes):
            self._begin(self._send_all(reply.octets))
            return
        if reply.tls and self.clearLineBuffer():
            # It came in plaintext and would be obeyed as if it had come in TLS (RFC 3207 4.2).
            self._farewell(Farewell.PLAINTEXT)
            return
        if self._outlet.add(reply.octets):
            self._turn = Turns.COMMANDS
        if reply.tls:
            self._start_tls()
        if reply.last:
            # Whose mistake ends it may still be sending.
            self._lingering = self._lingering or (reply.error and self._may_linger)
            self._hang_up()

    async def _send_all(self, chunks: Iterator[bytes]) -> None:
        """Where a chunk cannot be had, only a lost connection tells the client that it has not got them all."""
        try:
            await self._outlet.send_all(chunks)
        except PeerGone:
            pass
        except TryLater as error:
            log.warn("a reply could not be sent to its end: {error}", error=error)
            self.abort()
        except Exception:
            log.failure("a reply could not be sent to its end")
            self.abort()

    def _start_tls(self) -> None:
        assert self._listener.tls is not None
        self._outlet.flush()
        self.secure = self._shaking_hands = True
        # A transport that is clogged when TLS begins does not tell when it is no more.
        self._outlet.clogged = False
        self.transport.startTLS(self._listener.tls)
        self.session.secured()

    # Whether the next line is obeyed.

    def _settle(self) -> None:
        """Obey the next line or not, as our condition wants it."""
        if self._hung_up:
            return
        if self._is_thinking or self._outlet.clogged or self._resting:
            self.paused = True
            if self._buffer:
                self._stop_reading()
        elif self.paused:
            self._read_on()

    @property
    def _is_thinking(self) -> bool:
        return self._command is not None and self._question is None

    def _stop_reading(self) -> None:
        # For a client that sends ahead, and no other: most wait for our reply, and to tell the transport has its price.
        if not self._deaf:
            self._deaf = True
            self.transport.pauseProducing()

    def _read_on(self) -> None:
        self.paused = False
        if self._deaf:
            self._deaf = False
            self.transport.resumeProducing()
        self.dataReceived(b"")

    def _take_turns(self) -> None:
        self._turn += 1
        if self._turn >= Turns.COMMANDS and not self._resting and not self._hung_up:
            self._resting = True
            self._listener.turns.wait(self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._turn = 0
        self._settle()

    # The end.

    def _turn_away(self) -> None:
        if self._shaking_hands:
            self.abort()
        else:
            self._farewell(Farewell.NO_PLACE)

    @property
    def _is_tired(self) -> bool:
        patience = self._patience
        return patience.errors >= self._listener.limits.errors or patience.commands >= self.session.idle_commands

    def _is_our_word(self) -> bool:
        """Whether it is for us to speak, and no silence of the client's."""
        return self._is_thinking and not self._outlet.clogged

    def _too_silent(self) -> None:
        if self._hung_up or self._shaking_hands or self._outlet.waits:
            self.abort()
        else:
            self._farewell(Farewell.SILENCE)

    def _farewell(self, why: Farewell) -> None:
        # A client that is still sending would hear of nothing but a reset: first we close our end alone.
        self._lingering = why in LINGERING and self._may_linger
        self._reply(Reply(self.session.farewells.get(why, b""), last=True))

    @property
    def _may_linger(self) -> bool:
        return not self.secure and ITCPTransport.providedBy(self.transport)

    def _hang_up(self) -> None:
        self._outlet.flush()
        self._hung_up = True
        self.clearLineBuffer()
        self._silence.allow(CLOSING_TIME)
        if self.paused:
            self._read_on()  # or we would not hear that the client's end of TLS is closed
        self.transport.unregisterProducer()
        if self._lingering:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def _ended(self) -> None:
        self.session.ended()
        self._listener.ended(self)
