"""HTTP/1.1 on one connection: a request comes whole and in time, or is refused; its answer goes; the next one comes.

The parser is Twisted's ``HTTPChannel``. Ours are the limits: the time for a request counts from its first octet to its
last, a body that is too large is refused while it arrives, and what is refused is answered with a page that the
client can read to its end.
"""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import implementer, provider

from mailbe.limits import Turns
from mailbe.peers import why_no_tls
from mailbe.web.exchange import Answer, Asked

if TYPE_CHECKING:
    from mailbe.web.door import Doorway
    from mailbe.web.site import Site

MAX_BODY = 16 * 1024  # octets
MAX_HEADER = 16 * 1024  # octets, with the request line
MAX_FIELDS = 100  # of a header
AT_ONCE = 2  # requests of one connection are answered before others have their turn
UNHEARD = 1024 * 1024  # octets that a client may send before it has read why it is hung up on

log = Logger()


@provider(INonQueuedRequestFactory)
class _Request(http.Request):
    """A request while it arrives, and its response while it leaves."""

    channel: Channel
    content: BytesIO

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.content = BytesIO()

    def gotLength(self, length: int | None) -> None:
        if length is not None and length > MAX_BODY:
            self.channel.refuse(413)

    def handleContentChunk(self, data: bytes) -> None:
        if self.content.tell() + len(data) > MAX_BODY:
            self.channel.refuse(413)
        else:
            self.content.write(data)

    def process(self) -> None:
        self.channel.take(self)


@implementer(IHandshakeListener)
class Channel(http.HTTPChannel):
    """What is said over one connection."""

    requestFactory: Any = _Request
    MAX_LENGTH = MAX_HEADER
    totalHeadersSize = MAX_HEADER
    maxHeaders = MAX_FIELDS
    timeOut = None  # it would begin anew with every octet
    transport: Any
    _networkProducer: Any

    def __init__(self, door: Doorway, site: Site, turns: Turns, *, secure: bool) -> None:
        super().__init__()
        self._door = door
        self._site = site
        self._turns = turns
        self._secure = secure
        self._shaking_hands = secure
        self._begun = False  # a request has come in part
        self._working = False
        self._last = False  # hang up when this request is answered
        self._hung_up = False
        self._lost = False
        self._unheard = 0
        self._turn = 0  # requests since the others had their turn
        self._drain: Deferred[None] | None = None  # until the client has taken what it was sent

    # What Twisted calls.

    def handshakeCompleted(self) -> None:
        self._shaking_hands = False

    def dataReceived(self, data: bytes) -> None:
        if self._hung_up:
            self._unheard += len(data)
            if self._unheard > UNHEARD:
                self._door.abort()
            return
        if not self._begun and not self._working:
            self._begun = True
            self._door.wait_for_client()
        super().dataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(431)

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # a length of thousands of digits
            self.refuse(400)
            return False

    def _respondToBadRequestAndDisconnect(self) -> None:
        too_large = self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders
        self.refuse(431 if too_large else 400)

    def _send100Continue(self) -> None:
        if not self._hung_up:
            super()._send100Continue()

    def requestDone(self, request: http.Request) -> None:
        self._working = self._begun = False
        self._door.wait_for_client()
        super().requestDone(request)

    def loseConnection(self) -> None:
        self.hang_up()

    def pauseProducing(self) -> None:
        super().pauseProducing()
        # Twisted's goes on reading where a request is being answered, and would keep all of it.
        self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._drained()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._shaking_hands and reason.check(SSL.Error):
            log.info("no TLS with {peer}: {why}", peer=self._door.peer, why=why_no_tls(reason.value))
        self._lost = self._hung_up = True
        self.clearLineBuffer()
        super().connectionLost(reason)
        self._drained()

    # What requests and the doorway call.

    @property
    def working(self) -> bool:
        """Whether a request is being answered."""
        return self._working

    def take(self, request: _Request) -> None:
        """Answer a request that has arrived."""
        if self._hung_up:
            return
        self._working = True
        self._door.wait_for_us()
        Deferred.fromCoroutine(self._answer(request)).addErrback(self._failed)

    def refuse(self, status: int) -> None:
        """Answer what has come of a request, or has not, with an error, and hang up."""
        if self._hung_up:
            return
        languages = self.requests[-1].getHeader("accept-language") if self.requests else None
        answer = self._site.refusal(status, languages or "")
        self.writeHeaders(b"HTTP/1.1", b"%d" % status, _phrase(status), self._head(answer, last=True))
        self.write(answer.body)
        self.hang_up(lingering=True)

    def too_slow(self) -> None:
        """A request has not come in time, or a response was not taken."""
        if self._drain is not None:
            self._door.abort()
        elif self._begun and not self._shaking_hands:
            self.refuse(408)
        else:
            self.hang_up()

    def wind_up(self) -> None:
        """Hang up, when the request that is being answered is."""
        self._last = True
        if not self._working:
            self.hang_up()

    def hang_up(self, *, lingering: bool = False) -> None:
        """Send what there is to send, and close the connection.

        :param lingering: the client may be sending still, and would hear of nothing but a reset: close our end alone.
        """
        if self._hung_up:
            return
        self._hung_up = True
        self.clearLineBuffer()
        self._networkProducer.resumeProducing()  # or we would not hear that the client's end is closed
        self._networkProducer.unregisterProducer()
        self._door.wait_for_close()
        if lingering and not self._secure and ITCPTransport.providedBy(self.transport):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()
            if self._last:
                # RFC 8446 6.1: TLS is ended when we have said so, and the service does not wait for the client's word.
                self._door.close()

    # Our own.

    async def _answer(self, request: _Request) -> None:
        asked = self._asked(request)
        self._turn += 1
        if self._turn > AT_ONCE:
            self._turn = 1
            await self._others_turn()
        if self._waitingForTransport:
            # What it has asked for meanwhile would pile up here.
            self._door.wait_for_client()
            self._drain = Deferred()
            await self._drain
            self._door.wait_for_us()
        answer = self._site.refusal(400, "") if asked is None else await self._site.answer(asked)
        if self._lost:
            self._working = False
            self._door.ended()
            return
        if self._last:
            self.persistent = False
        request.setResponseCode(answer.status, _phrase(answer.status))
        request.responseHeaders = self._head(answer, last=not self.persistent)
        request.write(answer.body)
        request.finish()

    def _failed(self, failure: Failure) -> None:
        log.failure("a request was not answered", failure)
        self._working = False
        self._door.abort()

    def _others_turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self._turns.wait(lambda: turn.callback(None))
        return turn

    def _drained(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)

    def _asked(self, request: _Request) -> Asked | None:
        """What the request says; ``None`` where that is no sense."""
        headers = {
            name.decode("ascii", "replace").lower(): ", ".join(value.decode("utf-8", "replace") for value in values)
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        try:
            host, target = _split(request.uri.decode("ascii"), headers.get("host", ""))
            path, _, words = target.partition("?")
            query = dict(parse_qsl(words, keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError:
            return None
        if not path.startswith("/"):
            return None
        request.content.seek(0)
        return Asked(
            request.method.decode("ascii"),
            path,
            target,
            query,
            headers,
            host,
            request.content.read(),
            self._door.peer,
            self._door.at_home,
            self._secure,
        )

    def _head(self, answer: Answer, *, last: bool) -> Headers:
        head = Headers()
        head.setRawHeaders("Date", [http.datetimeToString()])
        head.setRawHeaders("Content-Type", [answer.content_type])
        head.setRawHeaders("Content-Length", [str(len(answer.body))])
        for name, value in answer.headers.items():
            head.setRawHeaders(name, [value])
        if answer.cookies:
            head.setRawHeaders("Set-Cookie", answer.cookies)
        if last:
            head.setRawHeaders("Connection", ["close"])
        return head


def _split(target: str, host: str) -> tuple[str, str]:
    """The host that is meant, and the target there.

    :raises ValueError:
    """
    if target.startswith("/"):
        return host, target
    # RFC 9112 3.2.2: it counts, and not the header.
    url = urlsplit(target)
    return url.netloc, url._replace(scheme="", netloc="").geturl()


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")
