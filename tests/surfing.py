"""The web side in memory: a site with a fake desk, one who asks for its pages, and HTTP said octet by octet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from urllib.parse import parse_qsl, urlencode

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy

from mailbe.interfaces import ITls
from mailbe.limits import Limits, Places, Turns
from mailbe.listening import Listening, Port
from mailbe.web.door import Doorway, WebListener
from mailbe.web.exchange import Answer, Asked
from mailbe.web.site import Site
from tests.dialogue import Transport
from tests.fakes import FakeDesk, FakeTls, Pace, World

TOLD = Listening(
    ("example.org", "example.net"),
    (Port("pop3s", "0.0.0.0", 995), Port("submissions", "0.0.0.0", 465), Port("http", "0.0.0.0", 443)),  # noqa: S104
    classic=False,
    has_authority=True,
)
CA = b"-----BEGIN CERTIFICATE-----\n"
ELSEWHERE = "192.0.2.7"
FORM = "application/x-www-form-urlencoded"


class Web:
    """A site of example.org and example.net, and its desk."""

    def __init__(self, registration: str = "open", *, certified: bool = False, told: Listening = TOLD) -> None:
        self.pace = Pace()
        self.world = World({"alice@example.org": b"white-rabbit"}, self.pace)
        self.desk = FakeDesk(self.world, registration, ("example.org", "example.net"))
        self.now = 1_700_000_000.0
        self.site = Site(self.desk, lambda: told, None if certified else lambda: CA, now=lambda: self.now)


class Browser:
    """Asks for pages, and keeps cookies, as one on this machine does."""

    def __init__(self, case: SynchronousTestCase, web: Web, host: str = "localhost:2080") -> None:
        self._case = case
        self._web = web
        self.host = host
        self.secure = False
        self.peer = "127.0.0.1"
        self.headers: dict[str, str] = {}
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """One request; of a header's name, underscores stand for dashes."""
        path, _, query = target.partition("?")
        said = {name.replace("_", "-"): value for name, value in (self.headers | headers).items()}
        if self.cookies:
            said["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        asked = Asked(
            method,
            path,
            target,
            dict(parse_qsl(query)),
            said,
            self.host,
            body,
            self.peer,
            at_home=self.peer == "127.0.0.1",
            secure=self.secure,
        )
        answer = self._case.successResultOf(Deferred.fromCoroutine(self._web.site.answer(asked)))
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, **headers)

    def post(self, target: str, fields: Mapping[str, str], **headers: str) -> Answer:
        return self.ask("POST", target, urlencode(fields).encode(), content_type=FORM, **headers)

    def fill_in(self, target: str, **fields: str) -> Answer:
        """Look at a form, and send it with these values in its fields."""
        page = text(self.get(target))
        token = re.search(r'name="token" value="([^"]+)"', page)
        assert token, page
        return self.post(target, {"token": token[1], **fields})


def text(answer: Answer) -> str:
    return answer.body.decode()


def errors(answer: Answer) -> dict[str, str]:
    """What a page says beside each of its fields."""
    found = re.findall(r'<p class="error" id="(\w+)-error"><span[^>]*>[^<]*</span>(.*?)</p>', text(answer))
    return {field: unescape(sentence) for field, sentence in found}


def summary(answer: Answer) -> str:
    """What stands above a form that was not taken; nothing where it was."""
    found = re.search(r'<div class="summary" role="alert".*?</div>', text(answer), re.DOTALL)
    return unescape(found[0]) if found else ""


@dataclass(frozen=True)
class Heard:
    """A response as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """One connection to a port of the web side, from the client's end."""

    def __init__(self, port: WebPort, peer: str = "127.0.0.1") -> None:
        self._clock = port.clock
        address = IPv4Address("TCP", peer, 4321)
        self.transport = Transport(peerAddress=address)
        directlyProvides(self.transport, providedBy(self.transport), ITCPTransport)
        self.transport.setTcpNoDelay = lambda on: None  # type: ignore[attr-defined]
        self.transport.half_closed = False  # type: ignore[attr-defined]
        self.transport.loseWriteConnection = self._half_close  # type: ignore[method-assign]
        self.doorway: Doorway = port.listener.buildProtocol(address)
        self.doorway.makeConnection(self.transport)

    def say(self, *segments: bytes) -> None:
        for segment in segments:
            self.doorway.dataReceived(segment)

    def octets(self) -> bytes:
        """What was said since the last time."""
        said = bytes(self.transport.value())
        self.transport.clear()
        return said

    def hear(self, *, head: bool = False) -> list[Heard]:
        """The responses since the last time, each whole.

        :param head: they answer HEAD, and have no content.
        """
        self._clock.advance(0)  # those who have asked for much wait for their turn
        said, heard = self.octets(), []
        while said:
            top, _, said = said.partition(b"\r\n\r\n")
            status, *lines = top.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = 0 if head else int(headers.get("content-length", "0"))
            assert len(said) >= length, "a response is not whole"
            heard.append(Heard(int(status.split()[1]), headers, said[:length]))
            said = said[length:]
        return heard

    @property
    def ending(self) -> bool:
        """Whether the server has said all it will say."""
        return bool(self.transport.disconnecting or self.transport.half_closed or self.transport.aborted)

    def lose(self) -> None:
        """The connection is lost."""
        self.doorway.connectionLost(Failure(ConnectionDone()))

    def _half_close(self) -> None:
        self.transport.half_closed = True  # type: ignore[attr-defined]


class WebPort:
    """A port that nobody listens on."""

    def __init__(self, web: Web, limits: Limits | None = None, tls: ITls | None = None) -> None:
        self.clock = Clock()
        places = Places(limits or Limits(), 1000)
        self.listener = WebListener(web.site, self.clock, places, Turns(self.clock), tls or FakeTls())

    def connect(self, peer: str = "127.0.0.1") -> Wire:
        return Wire(self, peer)
