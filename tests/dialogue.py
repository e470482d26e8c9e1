r"""Plays a conversation from a file against a session, in memory: no socket, no sleep.

A file is read line by line::

    # what it shows, and where that is written
    @ submission classic          which session it is for, and how the world is (see ``Stage``)
    C: MAIL FROM:<a@b>            a line from the client; lines with no S: between them are one segment
    C~ half a li                  the same without CRLF
    S: 250 2.1.0 *                a line that must come from the server; * stands for anything
    S* 250-*                      as many such lines as there are, or none
    ! 299                         so many seconds go by
    ! lost                        the client goes
    ! again                       it, or another one, comes
    ! tls                         the handshake of TLS, which was begun, is done
    ! open, ! closed, ! cut       the server has not hung up, has hung up, has cut the client off
    ! bob@localhost 1             so many letters are in a mailbox (sent ones: ! envoi/bob@localhost 1)
    ! bob@localhost has To: *     the newest one there has such a line; or it "lacks" one
    ! held 60                     the newest letter that is kept back is so for so many seconds from now

``\r``, ``\n``, ``\0``, ``\xff`` and ``\\`` are escapes, and ``{12*abc}`` is ``abc`` twelve times.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mailbe.conversation import Conversation
from mailbe.interfaces import MailboxFull, Quota, Terms, TryLater
from mailbe.journal import Journal
from mailbe.limits import Limits, Places, Turns
from mailbe.listener import Listener
from mailbe.peers import network
from mailbe.pop3.session import Authorization
from mailbe.session import ISession
from mailbe.smtp.harvest import Harvest
from mailbe.smtp.lmtp import Lmtp
from mailbe.smtp.session import Session, Settings
from tests.fakes import FakeChecker, FakePostOffice, FakeRealm, FakeTls, Pace, World

LETTERS = (
    b"Subject: one\r\n\r\nHello\r\n",
    b"Subject: two\r\n\r\n.\r\n..dots\r\nend\r\n",
)
UTF8_LETTER = "Subject: Été\r\nX-Note: né\r\n\r\né\r\n".encode()
LIMITS = {
    "small": Limits(size=100),
    "patient": Limits(letter_seconds=1_000_000),
    "strict": Limits(errors=3, idle_commands=5, logins=2, letter_seconds=1000, recipients=2, held=1),
}
ALIASES = {
    "aliases": {
        "info@localhost": {"alice@localhost"},
        "team@localhost": {"alice@localhost", "bob@localhost"},
        "staff@localhost": {"team@localhost", "bob@localhost", "staff@localhost"},
        "bob+work@localhost": {"alice@localhost"},
        "deserted@localhost": set(),
        "info@example.org": {"bob@localhost"},
    },
    "postmaster": {"postmaster@localhost": {"alice@localhost"}},
    "catchall": {"@localhost": {"bob@localhost"}},
}


class Transport(StringTransport):
    """A transport in memory that can be cut off; as with a real one, it then is not ``disconnecting``."""

    aborted = False
    tls: object = None

    def startTLS(self, factory: object) -> None:
        self.tls = factory

    def abortConnection(self) -> None:
        self.aborted = True


class Stage:
    """A session and all that stands behind it, made after the words of a file's ``@`` line.

    ``smtp`` (unless told otherwise), ``submission``, ``lmtp``, ``pop3``; ``classic``; ``remote``: the client is
    on another machine; ``handed``: which may hand letters over by LMTP; ``small``: letters of at most 100 octets;
    ``full``, ``broken``, ``bug``: storage fails; ``later``: nobody can log in now; ``mail``: alice has two letters;
    ``busy``: and has them open elsewhere; ``hashes``: an account has no SCRAM verifier;
    ``tls``: there is TLS; ``implicit``: from the first octet; ``segment``: what is one segment must come as one;
    ``patient``: a letter may take any time; ``strict``: the ``LIMITS`` are low;
    ``aliases``, ``postmaster``, ``catchall``: there are those of ``ALIASES``; ``domains``: ``example.org`` is served
    too; ``quota``: alice may have two letters, and 200 octets.

    ``sent``: alice has sent a letter; ``utf8``: she has one more, with UTF-8 in its header; ``delay``: a minute lies
    between two log-ins to one maildrop, and two for bob; ``expire``: alice's letters are kept for 30 days, bob's for 7.
    """

    def __init__(
        self, words: list[str], *, slow: bool = False, transport: Callable[..., Transport] = Transport
    ) -> None:
        self.words = set(words)
        self.clock = Clock()
        self.clock.advance(1_000_000_000)
        passwords = {"alice@localhost": b"secret", "bob@localhost": b"two words ", "j\u00f6rg@localhost": b"geheim"}
        self.world = World(passwords, Pace(slow=slow))
        for word, failure in (("full", MailboxFull()), ("broken", TryLater("disk")), ("bug", ZeroDivisionError())):
            if word in self.words:
                self.world.failure = failure
        drop = self.world.reception["alice@localhost"]
        if "mail" in self.words:
            drop.letters = {f"uid-{number}": letter for number, letter in enumerate(LETTERS, 1)}
        if "utf8" in self.words:
            drop.letters["uid-3"] = UTF8_LETTER
        drop.busy = "busy" in self.words
        delayed, expiring = "delay" in self.words, "expire" in self.words
        self.world.terms = {
            "alice@localhost": Terms(30 if expiring else None, 60 if delayed else 0),
            "bob@localhost": Terms(7 if expiring else None, 120 if delayed else 0),
        }
        self.world.seconds = self.clock.seconds
        if "sent" in self.words:
            self.world.envoi["alice@localhost"].letters = {"uid-sent": b"Subject: sent\r\n\r\nBye\r\n"}
        for word in self.words & ALIASES.keys():
            self.world.aliases |= ALIASES[word]
        if "domains" in self.words:
            self.world.domains.add("example.org")
        if "quota" in self.words:
            self.world.quotas["alice@localhost"] = Quota(octets=200, letters=2)
        self.checker = FakeChecker(self.world)
        if "later" in self.words:
            self.checker.failure = TryLater("accounts")
        self._portal = Portal(FakeRealm(self.world), [self.checker])
        self._office = FakePostOffice(self.world)
        tls = FakeTls() if self.words & {"tls", "implicit"} else None
        self.limits = next((limits for word, limits in LIMITS.items() if word in self.words), Limits())
        self.world.most_held = self.limits.held
        places, turns = Places(self.limits, 100), Turns(self.clock)
        self.listener = Listener(
            self._begin, self.clock, self.limits, places, turns, tls, implicit_tls="implicit" in self.words
        )
        self._new_transport = transport
        self.connect()

    def connect(self) -> None:
        """A client comes; from now on the stage is about this one."""
        self.transport = self._new_transport(peerAddress=IPv4Address("TCP", self._peer, 4321))
        self.wire = self.listener.buildProtocol(None)
        self.wire.makeConnection(self.transport)

    def shake_hands(self) -> None:
        """TLS is ready; what it does to the octets is left out here."""
        assert self.wire.secure, "TLS was not asked for"
        self.wire.handshakeCompleted()

    @property
    def _peer(self) -> str:
        return "192.0.2.1" if "remote" in self.words else "127.0.0.1"

    def _begin(self, wire: Conversation) -> ISession:
        if "pop3" in self.words:
            return Authorization(wire, self.limits, self._portal, self._offers_scram, self.world.announced)
        settings = Settings(
            host="mail.test",
            limits=self.limits,
            submission="submission" in self.words,
            classic="classic" in self.words,
            networks=[network("192.0.2.0/24")] if "handed" in self.words else [],
        )
        return (Lmtp if "lmtp" in self.words else Session)(
            wire,
            settings,
            self._office,
            self._portal,
            self._offers_scram,
            Harvest(self.clock),
            Journal(self.clock),
            self.clock,
            self.clock.seconds,
        )

    def _offers_scram(self) -> bool:
        return "hashes" not in self.words

    def hear(self) -> bytes:
        """What the server has said since the last time, when all that it waits for has come."""
        self._rest()
        while self.world.pace.go():
            self._rest()
        said = self.transport.value()
        self.transport.clear()
        return bytes(said)

    def _rest(self) -> None:
        """Let the conversation go on as often as it lets others have their turn."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def lose(self) -> None:
        """The client goes."""
        self.wire.connectionLost(Failure(ConnectionDone()))

    def letters(self, mailbox: str) -> list[bytes]:
        """The letters in ``bob@localhost`` or ``envoi/bob@localhost``."""
        folder, _, address = mailbox.rpartition("/")
        drops = self.world.envoi if folder else self.world.reception
        return list(drops[address].letters.values()) if address in drops else []


@dataclass
class Exchange:
    """One segment from the client, and the lines that must answer it."""

    said: bytes = b""
    expected: list[str] = field(default_factory=list)


@dataclass
class Scene:
    """Exchanges, and what happens or is looked at behind them."""

    exchanges: list[Exchange]
    event: str = ""


@dataclass
class Dialogue:
    """A file."""

    words: list[str]
    scenes: list[Scene]


def read(path: Path) -> Dialogue:
    """The dialogue in a file."""
    words: list[str] = []
    scenes = [Scene([Exchange()])]
    for line in path.read_text("utf-8").splitlines():
        kind, text = line[:2], line[3:]
        exchanges = scenes[-1].exchanges
        match kind:
            case "C:" | "C~":
                if exchanges[-1].expected:
                    exchanges.append(Exchange())
                exchanges[-1].said += _unescaped(text) + (b"\r\n" if kind == "C:" else b"")
            case "S:":
                exchanges[-1].expected.append(_unescaped(text).decode("latin-1"))
            case "S*":
                exchanges[-1].expected.append(MANY + _unescaped(text).decode("latin-1"))
            case "! ":
                scenes[-1].event = line[2:]
                scenes.append(Scene([Exchange()]))
            case "@ ":
                words += line[2:].split()
            case _:
                if line.strip() and not line.startswith("#"):
                    raise ValueError(f"{path}: {line}")
    return Dialogue(words, scenes)


def _unescaped(text: str) -> bytes:
    text = re.sub(r"\{(\d+)\*(.*?)\}", lambda match: match[2] * int(match[1]), text)
    return text.encode("ascii").decode("unicode_escape").encode("latin-1")


MANY = "\0"  # before a pattern of lines of which there may be any number
WAYS = ("whole", "bytes", "pipelined", "slow")


def play(dialogue: Dialogue, way: str) -> None:
    """Play a dialogue: whole segments, byte by byte, all of a scene at once, or that with slow storage.

    :raises AssertionError: with what was said, at the first difference.
    """
    stage = Stage(dialogue.words, slow=way == "slow")
    for scene in dialogue.scenes:
        exchanges = scene.exchanges if way in ("whole", "bytes") else [_joined(scene.exchanges)]
        for exchange in exchanges:
            for segment in _segments(exchange.said, "whole" if "segment" in dialogue.words else way):
                stage.wire.dataReceived(segment)
            _compare(exchange, stage.hear())
        if scene.event:
            _happens(scene.event, stage)


def _joined(exchanges: list[Exchange]) -> Exchange:
    return Exchange(b"".join(e.said for e in exchanges), [line for e in exchanges for line in e.expected])


def _segments(said: bytes, way: str) -> Iterator[bytes]:
    if way == "bytes":
        yield from (said[index : index + 1] for index in range(len(said)))
    elif said:
        yield said


def _compare(exchange: Exchange, heard: bytes) -> None:
    lines = heard.decode("latin-1").split("\r\n")
    story = f"\nsaid: {exchange.said[:500]!r}\nexpected: {exchange.expected}\nheard: {lines}"
    assert lines.pop() == "", f"no CRLF at the end{story}"
    if any(pattern.startswith(MANY) for pattern in exchange.expected):
        assert _fit(lines, exchange.expected), f"these are other lines{story}"
        return
    assert len(lines) == len(exchange.expected), f"another number of lines{story}"
    for line, pattern in zip(lines, exchange.expected, strict=True):
        assert _fits(line, pattern), f"{line!r} is not {pattern!r}{story}"


def _fit(lines: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not lines
    pattern, *others = patterns
    if pattern.startswith(MANY) and _fit(lines, others):
        return True
    if not lines or not _fits(lines[0], pattern.removeprefix(MANY)):
        return False
    return _fit(lines[1:], patterns if pattern.startswith(MANY) else others)


def _fits(line: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(line, pattern.replace("[", "[[]"))


def _look(letters: list[bytes], word: str, pattern: str) -> None:
    _check(bool(letters), "no letter is there")
    lines = letters[-1].decode("latin-1").split("\r\n")
    wanted = _unescaped(pattern).decode("latin-1")
    _check(any(_fits(line, wanted) for line in lines) == (word == "has"), f"{lines} {word} {wanted!r}")


def _happens(event: str, stage: Stage) -> None:
    word, _, rest = event.partition(" ")
    actions: dict[str, Any] = {
        "lost": stage.lose,
        "again": stage.connect,
        "tls": stage.shake_hands,
        "open": lambda: _check(not stage.transport.disconnecting, "the server has hung up"),
        "cut": lambda: _check(stage.transport.aborted, "the server has not cut the client off"),
        "closed": lambda: _check(stage.transport.disconnecting, "the server has not hung up"),
    }
    if word in actions:
        actions[word]()
    elif word == "held":
        seconds = stage.world.held[-1][0] - stage.clock.seconds()
        _check(seconds == float(rest), f"held for {seconds} seconds")
    elif rest.startswith(("has ", "lacks ")):
        _look(stage.letters(word), *rest.split(" ", 1))
    elif "@" in word:
        count = len(stage.letters(word))
        _check(count == int(rest), f"{count} letters in {word}")
    else:
        stage.clock.advance(float(word))


def _check(true: bool, message: str) -> None:
    assert true, message
