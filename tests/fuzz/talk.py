"""A connection to a real server, whatever is said over it, held to its ledger."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.end_to_end.server import IMPLICIT_TLS, PROTOCOLS
from tests.fuzz import speech
from tests.fuzz.ledger import Broken, Pop3Ledger, SmtpLedger, Turn
from tests.fuzz.wire import Gone, Wire

# Seconds without any answer after which there is none. Some are delayed on purpose, and fifty letters that come at once
# to a disk which takes 300 ms for each wait for a quarter of a minute.
PATIENCE = 90
LONGEST = 120  # seconds that anything is waited for
ADDRESSES = 200  # 127.0.0.2 and following


@dataclass
class Figures:
    """What was done over all connections."""

    sessions: int = 0
    octets: int = 0
    replies: int = 0
    in_tls: int = 0
    resets: int = 0
    """Connections that the server reset, so that its last words may be lost."""
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Verb and code."""


@dataclass(frozen=True)
class Target:
    """Whom we talk to."""

    ports: Mapping[str, int]
    tls: ssl.SSLContext


class Talk:
    """One connection. How it comes about, where it is cut and what it says are drawn from a seed and a number."""

    def __init__(self, target: Target, seed: int, number: int, figures: Figures) -> None:
        self.random = random = Random(f"{seed}/{number}")
        self.port = random.choice(PROTOCOLS)
        self.pop3 = self.port.startswith("pop3")
        implicit = self.port in IMPLICIT_TLS.values()
        self.ledger = (Pop3Ledger if self.pop3 else SmtpLedger)(implicit_tls=implicit)
        self.wire = Wire()
        self.closed = False
        """Whether the server has closed the connection, or we need not hear it any more."""
        self.excused = False
        """Whether the server need not have a last word for us."""
        self.was_reset = False
        self._target = target
        self._figures = figures
        self._source = f"127.0.0.{2 + random.randrange(ADDRESSES)}"
        self._reader: asyncio.Future[None] | None = None
        self._news = asyncio.Event()
        self._last_news = time.monotonic()
        self._broken: Broken | None = None
        self._story: list[bytes | str] = [f"session {number} of seed {seed}: {self.port} from {self._source}"]

    def story(self) -> list[str]:
        """What was done, as in a dialogue's file."""
        lines: list[str] = []
        for said in self._story:
            lines += speech.written(said) if isinstance(said, bytes) else [f"# {said}"]
        return lines

    def tell(self, what: str) -> None:
        """Keep what is done, in case that something is found."""
        self._story.append(what)

    async def open(self) -> None:
        """:raises Gone:"""
        await self.wire.connect(self._target.ports[self.port], self._source, narrow=not self.random.randrange(4))
        if self.ledger.turn is Turn.HANDSHAKE:
            await self._begin_tls()
        else:
            self.listen()

    async def close(self) -> None:
        """:raises Broken: where anything was found meanwhile."""
        await self.deafen()
        self.wire.close()
        self._figures.sessions += 1
        if self._broken is not None:
            raise self._broken

    async def reset(self) -> None:
        """:raises Gone:"""
        self.tell("resets the connection")
        await self.deafen()
        self.wire.reset()
        raise Gone

    async def say(self, octets: bytes, *, whole: bool = False) -> None:
        """Say ``octets``, in TLS if it was to begin.

        :param whole: in one piece.
        :raises Gone:
        """
        if self.ledger.turn is Turn.HANDSHAKE:
            await self._begin_tls()
        if self.closed:
            raise Gone
        self.ledger.say(octets)
        self._story.append(octets)
        self._figures.octets += len(octets)
        pieces = [octets] if whole else speech.cut(self.random, octets)
        if not whole and not self.random.randrange(20):
            pieces = [octets[at : at + 1] for at in range(min(40, len(octets)))] + [octets[40:]]
        pause = self.random.choice([0, 0, 0.002, 0.02])
        for piece in pieces:
            await self.wire.send(piece)
            if pause and piece is not pieces[-1]:
                await asyncio.sleep(pause)

    async def say_bare(self, octets: bytes) -> None:
        """Say what is not TLS where TLS is, and then nothing more.

        :raises Gone:
        """
        self._story += ["not in TLS:", octets]
        await self.wire.send_bare(octets)
        await asyncio.sleep(0.1)
        await self.reset()

    async def until_answered(self, seconds: float = PATIENCE) -> None:
        await self.until(lambda: not self.ledger.owed, seconds)

    async def until(self, come: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until it has come, or until nothing has come for so many ``seconds``.

        :raises Broken: where that is too long.
        :raises Gone: where this has taken too long in all.
        """
        begin = time.monotonic()
        while not (come() or self.closed or self.ledger.turn is Turn.HANDSHAKE):
            now = time.monotonic()
            if now - max(self._last_news, begin) > seconds:
                if seconds >= PATIENCE:
                    raise Broken(f"no answer to {self.ledger.owed[:500]!r}")
                return
            if now - begin > LONGEST:
                await self.reset()
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), 0.25)

    def listen(self) -> None:
        self._reader = asyncio.ensure_future(self._hear())

    async def deafen(self) -> None:
        """Hear nothing more."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def _begin_tls(self) -> None:
        if not self.random.randrange(15):
            await self.say_bare(speech.garbage(self.random))
        self.tell("TLS begins")
        try:
            await self.wire.start_tls(self._target.tls)
        except Gone as error:
            if self.ledger.left:
                raise  # that was not its handshake
            raise Broken(f"no TLS: {error}") from error
        self._figures.in_tls += 1
        self.ledger.secured()
        self.listen()

    async def _hear(self) -> None:
        while not self.closed and self.ledger.turn is not Turn.HANDSHAKE:
            try:
                octets = await self.wire.receive()
            except Gone:
                octets = b""
                self.was_reset = True
                self._figures.resets += not self.excused
            self.closed = not octets
            try:
                for exchange in self.ledger.hear(octets):
                    self._figures.replies += 1
                    self._figures.pairs[exchange.verb, exchange.code] += 1
                if self.closed:
                    self.ledger.close(excused=self.excused or self.was_reset)
            except Broken as error:
                self._broken = error
                self.closed = True
            self._last_news = time.monotonic()
            self._news.set()
