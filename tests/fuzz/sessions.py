"""What a client of the long run does: one of many acts, and one of many ends."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path

from tests.dialogue import read
from tests.fuzz import speech
from tests.fuzz.ledger import Broken, Turn
from tests.fuzz.login import POP3_MECHANISMS, SMTP_MECHANISMS, LogIn
from tests.fuzz.talk import PATIENCE, Talk
from tests.fuzz.wire import Gone

# Beside those of the dialogues, as a maildrop has room for one client at a time.
ACCOUNTS = {**speech.PASSWORDS, **{f"user{number}@localhost": b"pass-%d" % number for number in range(10)}}
DIALOGUES = Path(__file__).parents[1] / "dialogues"
MOST_MISSING = 1_000_000  # octets of a piece that are said to come to its end


@cache
def corpus(folder: str) -> list[list[bytes]]:
    """What the clients say in ``tests/dialogues/<folder>``, segment by segment."""
    return [
        [exchange.said for scene in read(path).scenes for exchange in scene.exchanges if exchange.said]
        for path in sorted((DIALOGUES / folder).glob("*.txt"))
    ]


class Session(Talk):
    """A client that comes, talks, and goes."""

    _name = "s@example.org"  # who it has tried to log in as

    async def play(self) -> None:
        """:raises Broken:"""
        try:
            await self.open()
            await self._act()
            await self.random.choice(_ENDS)(self)
        except Gone:
            pass
        finally:
            await self.close()

    async def _act(self) -> None:
        await self.random.choice(_POP3_ACTS if self.pop3 else _SMTP_ACTS)(self)

    async def _play_dialogue(self) -> None:
        """A dialogue's client, with faults."""
        for segment in self._dialogue():
            await self.say(segment if self.random.randrange(4) else speech.mutated(self.random, segment))
            if self.random.randrange(2):
                await self.until_answered(1)

    async def _splice_dialogues(self) -> None:
        octets = speech.spliced(self.random, b"".join(self._dialogue()), b"".join(self._dialogue()))
        await self.say(speech.mutated(self.random, octets, self.random.randrange(4)))

    def _dialogue(self) -> Sequence[bytes]:
        # Now and then one of the other protocol.
        own, other = ("pop3", "smtp") if self.pop3 else ("smtp", "pop3")
        return self.random.choice(corpus(own if self.random.randrange(10) else other))

    async def _command(self) -> None:
        """Commands in any order."""
        await self._log_in()
        command = speech.pop3_command if self.pop3 else speech.smtp_command
        for _ in range(self.random.randrange(1, 6)):
            octets = speech.lines(speech.several(self.random, command))
            await self.say(speech.mutated(self.random, octets, self.random.choice([0, 0, 1, 3])))

    async def _send_letters(self) -> None:
        if self.port.startswith("submission") or not self.random.randrange(3):
            await self._log_in()
        for _ in range(self.random.randrange(1, 4)):
            sender = self.random.choice([b"s@example.org", self._name.encode(), self._name.encode(), b""])
            recipients = [speech.address(self.random) for _ in range(self.random.randrange(4))]
            recipients.append(self.random.choice(list(ACCOUNTS)).encode())
            wish = self.random.choice([b"", b"", b" NOTIFY=SUCCESS", b" NOTIFY=SUCCESS,FAILURE,DELAY"])
            paths = [b"RCPT TO:<" + address + b">" + wish for address in recipients]
            hold = self.random.choice(
                [b"", b"", b" HOLDFOR=1", b" HOLDFOR=5"] if self.port.startswith("submission") else [b""]
            )
            letter = speech.letter(self.random)
            if not self.random.randrange(40):
                letter = b"0123456789\r\n" * self.random.choice([10_000, 120_000]) + letter
            begin = [b"DATA"]
            if not self.random.randrange(3):
                begin, letter = [], speech.in_pieces(self.random, letter)
            envelope = speech.lines([b"EHLO me", b"MAIL FROM:<" + sender + b">" + hold, *paths, *begin])
            if self.random.randrange(3):
                await self.say(envelope)
                await self.until_answered(5)
                await self.say(letter)
            else:
                await self.say(envelope + letter)

    async def _fetch(self) -> None:
        await self._log_in()
        verbs = [b"RETR ", b"DELE ", b"LIST ", b"UIDL ", b"TOP 1 "]
        commands = [self.random.choice(verbs) + b"%d" % self.random.randrange(1, 9) for _ in range(8)]
        await self.say(speech.lines([b"STAT", b"LIST", b"UIDL", *commands]))

    async def _flood(self) -> None:
        """Much at once, and its answers not read at first."""
        if self.random.randrange(2):
            await self._log_in()
        some = [b"CAPA", b"UIDL", b"RETR 1", b"x"] if self.pop3 else [b"HELP", b"NOOP", b"RSET", b"EHLO me", b"x"]
        octets = speech.lines([self.random.choice(some)] * self.random.choice([100, 500, 500, 2000, 20_000]))
        deaf = not self.random.randrange(2) and self.ledger.turn is not Turn.HANDSHAKE
        if deaf:
            await self.deafen()
        saying = asyncio.ensure_future(self.say(octets, whole=True))
        await asyncio.wait({saying}, timeout=self.random.choice([0.1, 0.5, 2]))
        if deaf and not self.closed:
            self.listen()
        try:
            await asyncio.wait_for(saying, PATIENCE)
        except TimeoutError:
            raise Broken("it does not read on, though its answers are read") from None

    async def _babble(self) -> None:
        """Garbage; within TLS, or of it."""
        for _ in range(self.random.randrange(1, 4)):
            octets = speech.garbage(self.random)
            if self.wire.certificate and not self.random.randrange(4):
                await self.say_bare(octets)
            await self.say(octets)

    async def _start_tls(self) -> None:
        """STARTTLS or STLS, and then something."""
        octets = b"STLS\r\n" if self.pop3 else b"EHLO me\r\nSTARTTLS\r\n"
        if not self.random.randrange(6):
            octets += speech.lines(speech.several(self.random, speech.smtp_command))
        await self.say(octets, whole=True)
        await self.until_answered(5)
        await self._act()

    async def _log_in(self) -> None:
        """By any mechanism, with the right password or another."""
        await self.until_answered(5)
        mechanism = self.random.choice(POP3_MECHANISMS if self.pop3 else SMTP_MECHANISMS)
        self._name, password = self.random.choice(list(ACCOUNTS.items()))
        password = self.random.choice([password, password, password, password, b"wrong"])
        if mechanism == "USER":
            await self.say(speech.lines([b"USER " + self._name.encode(), b"PASS " + password]))
            return
        certificate = self.wire.certificate
        bindings = {"tls-server-end-point": hashlib.sha256(certificate).digest()} if certificate else {}
        log_in = LogIn(self._name, password, mechanism, bindings, self.random)
        await self.say((b"" if self.pop3 else b"EHLO me\r\n") + log_in.command() + b"\r\n")
        await self.until_answered(5)
        while self.ledger.turn is Turn.RESPONSE and self.ledger.last is not None and not self.ledger.owed:
            challenge = self.ledger.last.reply.removesuffix(b"\r\n").partition(b" ")[2]
            await self.say(log_in.answer(challenge) + b"\r\n")
            await self.until_answered(5)

    # How it may end.

    async def _quit(self) -> None:
        await self._finish()
        await self.say(b"QUIT\r\n")
        await self.until(lambda: self.closed)

    async def _finish(self) -> None:
        """Come to the end of what is begun; all that was said must be answered."""
        ends = {Turn.LETTER: b"\r\n.\r\n", Turn.RESPONSE: b"\r\n", Turn.COMMAND: b"\r\n"}
        await self.until_answered()
        for _ in range(2):
            if self.ledger.missing > MOST_MISSING:
                await self.reset()
            if self.ledger.missing > 0:
                await self.say(b"z" * self.ledger.missing, whole=True)
                await self.until_answered()
            if self.ledger.turn in ends:
                await self.say(ends[self.ledger.turn], whole=True)
                await self.until_answered()

    async def _shut(self) -> None:
        """Shut our end: without TLS, that takes nothing from what was said before."""
        self.excused = True
        self.tell("shuts its end")
        self.wire.shut()
        await self.until(lambda: self.closed)
        # Where TLS was to begin, an end is both ends' end already.
        plain = not (self.wire.certificate or self.ledger.owed.strip().upper() in (b"STARTTLS", b"STLS"))
        if plain and not (self.ledger.in_order or self.was_reset):
            raise Broken(f"no answer to {self.ledger.owed[:500]!r}, as no more could come")

    async def _close(self) -> None:
        self.tell("closes the connection")

    async def _stall(self) -> None:
        await asyncio.sleep(self.random.choice([0.1, 1, 3]))
        await self.reset()


Act = Callable[[Session], Awaitable[None]]
_SMTP_ACTS: list[Act] = [
    Session._play_dialogue,
    Session._play_dialogue,
    Session._splice_dialogues,
    Session._command,
    Session._send_letters,
    Session._send_letters,
    Session._flood,
    Session._babble,
    Session._start_tls,
]
_POP3_ACTS: list[Act] = [
    Session._play_dialogue,
    Session._splice_dialogues,
    Session._command,
    Session._fetch,
    Session._fetch,
    Session._flood,
    Session._babble,
    Session._start_tls,
]
_ENDS: list[Act] = [
    Session._quit,
    Session._quit,
    Session._finish,
    Session._shut,
    Session.reset,
    Session._close,
    Session._stall,
]
