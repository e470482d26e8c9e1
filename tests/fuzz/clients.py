"""A client in memory, and what must be true of its session, whatever the protocol; step by step, as replies come."""

from __future__ import annotations

import weakref
from base64 import b64decode
from random import Random

from mailbe.address import Address, BadAddress
from tests.end_to_end.server import IMPLICIT_TLS
from tests.fuzz.books import Books
from tests.fuzz.ledger import FAREWELL, RESPONSE, Broken, Exchange, Ledger, Turn
from tests.fuzz.login import LogIn
from tests.fuzz.speech import PASSWORDS
from tests.fuzz.transport import MemoryTransport
from tests.fuzz.worlds import World

POP3_SILENCE = 600  # seconds: RFC 1939 3, and no word is said
POP3_LOG_IN = 3600  # seconds that a log-in may take, see tests/dialogues/pop3/too-slow-to-log-in.txt


class Client:
    """A connection, its two streams, and its account where it has logged in."""

    def __init__(
        self, kind: type[Ledger], world: World, books: Books, port: str, peer: str, broken: list[Broken]
    ) -> None:
        """:param broken: gets what is found wrong while the server is at work, who would take it for its own fault."""
        self.world = world
        self.books = books
        self.port = port
        self.peer = peer
        self.name = "nobody"
        self.random = Random(0)
        """Cuts what is said of itself."""
        self.ledger = kind(implicit_tls=port in IMPLICIT_TLS.values())
        self.transport = MemoryTransport(world.clock, peer, self._hear)
        self.account = ""
        """Who it has logged in as."""
        self.log_in: LogIn | None = None
        """How it does that."""
        self.server_stops = False
        self.exchanges = 0
        """Counts what was answered."""
        self._broken = broken
        self._open = False
        self._left = False  # whether it has gone, or has shut its end
        self._begun = self._last_line = world.clock.seconds()
        self._auth: list[bytes] = []  # what it has said since AUTH

    def __repr__(self) -> str:
        return f"<{self.name}, on {self.port} from {self.peer}: {self.ledger.last}>"

    def connect(self) -> weakref.ref[object]:
        """Begin; returns what tells when the server has forgotten it."""
        self._open = True
        conversation = self.world.conversation(self.port)
        self.transport.begin(conversation)
        self.move()
        return weakref.ref(conversation)

    @property
    def gone(self) -> bool:
        return not self._open

    @property
    def ended(self) -> bool:
        """Whether the server says nothing more."""
        return self.gone or self.transport.server_has_shut

    @property
    def ready(self) -> bool:
        """Whether the server waits for a command."""
        return self._is_awaited and self.ledger.turn is Turn.COMMAND

    @property
    def is_asked(self) -> bool:
        """Whether the server waits for the answer to a challenge."""
        return self._is_awaited and self.ledger.turn is Turn.RESPONSE

    @property
    def _is_awaited(self) -> bool:
        return not (self.gone or self.ledger.over or self.ledger.owed)

    @property
    def private(self) -> bool:
        return self.transport.secure or self.peer.startswith("127.")

    def say(self, *pieces: bytes) -> None:
        self.transport.send(*pieces)
        self.move()

    def answer(self) -> bytes:
        """The line that answers the challenge which was the last thing that was heard."""
        assert self.ledger.last is not None
        challenge = self.ledger.last.reply.removesuffix(b"\r\n").partition(b" ")[2]
        return b"*" if self.log_in is None else self.log_in.answer(challenge)

    def move(self) -> bool:
        """Let all move that can; whether anything did."""
        moved = self.transport.move(self._say)
        if self.transport.gone and self._open:
            self._close()
        return moved

    def shake_hands(self) -> None:
        self.ledger.secured()
        self.books.reached[f"TLS on: {self.port}"] += 1
        self.transport.shake_hands()
        self.move()

    def shut(self) -> None:
        self._left = True
        self.transport.shut()
        self.move()

    def lose(self) -> None:
        self._left = True
        self.transport.lose()
        self.move()

    def _say(self, segment: bytes) -> None:
        self.ledger.say(segment)
        if b"\r\n" in segment:
            self._last_line = self.world.clock.seconds()

    def _hear(self, octets: bytes) -> None:
        if self._broken:
            return
        try:
            for exchange in self.ledger.hear(octets):
                self.exchanges += 1
                self._book(exchange)
        except Broken as error:
            self._broken.append(error)

    def _close(self) -> None:
        self._open = False
        if self._broken:
            return  # what follows from that is not news
        now, pop3 = self.world.clock.seconds(), self.port.startswith("pop3")
        silent = pop3 and now - self._last_line >= POP3_SILENCE
        slow = pop3 and not self.account and now - self._begun >= POP3_LOG_IN
        unread = self.transport.aborted and self.transport.window is not None
        self.ledger.close(excused=self._left or self.server_stops or silent or slow or unread)
        if self.ledger.owed:
            self._left_at_work(self.ledger.owed)
        self._let_go()

    def _book(self, exchange: Exchange) -> None:
        if exchange.verb == FAREWELL or exchange.code == "421":
            self.books.reached[f"farewell: {exchange.first[:9]}"] += 1
            return
        if exchange.verb == "AUTH":
            self._auth = []
        if exchange.verb in ("AUTH", RESPONSE):
            self._auth.append(exchange.said)
        if exchange.verb in ("STARTTLS", "STLS") and exchange.code in ("220", "+OK"):
            if self.ledger.left:
                raise Broken(f"TLS begins, and before it stood {self.ledger.left!r}")
            self.account = ""
        self._learn(exchange)

    def _logged_in(self, exchange: Exchange) -> None:
        """The server says that the log-in was good.

        :raises Broken: where it was not.
        """
        mechanism, account = self._whose(exchange)
        if account is None:
            raise Broken(f"let in by {self._auth or exchange.said}")
        if not self.private:
            raise Broken(f"a password was taken that others could read: {self}")
        self.account = account
        self.books.reached[f"log-in: {self.port.rstrip('s')} {mechanism}"] += 1

    def _whose(self, exchange: Exchange) -> tuple[str, str | None]:
        words = self._auth[0].split()
        mechanism = words[1].decode().upper()
        lines = [*words[2:], *self._auth[1:]]
        if mechanism.startswith("SCRAM-"):
            # Each lets in once.
            return mechanism, next(filter(None, (self.books.proofs.pop(line, None) for line in lines)), None)
        fields = [field for line in lines for field in b64decode(line.replace(b"=", b"", line == b"=")).split(b"\0")]
        return mechanism, owner(*fields[-2:])

    # What the protocols differ in.

    def _learn(self, exchange: Exchange) -> None:
        """Go on from a reply."""
        raise NotImplementedError

    def _left_at_work(self, said: bytes) -> None:
        """The connection is gone, and the server may be doing this still."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """The session is over."""
        raise NotImplementedError


def owner(name: bytes, password: bytes) -> str | None:
    """The account that this name and password let in."""
    try:
        account = Address.parse(name.decode() if b"@" in name else f"{name.decode()}@localhost").key
    except (BadAddress, UnicodeDecodeError):
        return None
    return account if PASSWORDS.get(account) == password else None
