"""A POP3 client in memory, and its maildrop: the same from log-in to the end, ours alone, and whole until QUIT."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mailbe.surrogate import surrogate
from tests.fuzz.clients import Client, owner
from tests.fuzz.ledger import RESPONSE, Broken, Exchange, Pop3Ledger


class Pop3Client(Client):
    def __init__(self, *given: Any, maildrops: dict[str, Pop3Client]) -> None:
        """:param maildrops: who has which open."""
        super().__init__(Pop3Ledger, *given)
        self._maildrops = maildrops
        self._name = b""
        self._utf8 = False
        self._marked: set[int] = set()
        self._letters: dict[str, bytes] | None = None
        """Those of the session in their order, by unique-id; ``None`` where some may have come while it was opened."""
        self._count = 0
        self._heard_of: dict[tuple[str, int], str] = {}
        self._stored_before = 0

    @property
    def _mailbox(self) -> str:
        return f"reception/{self.account}"

    def _whose(self, exchange: Exchange) -> tuple[str, str | None]:
        return ("USER", owner(self._name, exchange.argument)) if exchange.verb == "PASS" else super()._whose(exchange)

    def _learn(self, exchange: Exchange) -> None:
        if exchange.verb == "USER" and exchange.code == "+OK":
            self._name = exchange.argument
        elif exchange.verb == "UTF8" and exchange.code == "+OK":
            self._utf8 = True
        elif exchange.verb in ("PASS", "AUTH", RESPONSE):
            if exchange.code == "+OK" and exchange.reply.count(b"\r\n") == 1:
                self._opened(exchange)
            elif b"[IN-USE]" in exchange.reply:
                self._is_in_use()
        elif self.account:
            self._read(exchange)
        elif exchange.code == "+OK" and exchange.verb in (*_ABOUT, "RSET", "NOOP"):
            raise Broken(f"before log-in: {exchange}")
        self._stored_before = self.books.stored

    def _is_in_use(self) -> None:
        self.books.reached["maildrop in use"] += 1
        # Where storage is slow, somebody may be coming or going.
        if not (self._maildrops or any(pace.slow for pace in self.world.paces)):
            raise Broken(f"nobody has a maildrop open: {self}")

    def _opened(self, exchange: Exchange) -> None:
        if self.account:
            raise Broken("logged in twice")
        self._logged_in(exchange)
        if self.account in self._maildrops:
            raise Broken(f"{self._maildrops[self.account]} has it open")
        self._maildrops[self.account] = self
        self._marked.clear()
        letters = self.books.content(self._mailbox)
        if not self._utf8:
            letters = {id: b"".join(surrogate([letter])) for id, letter in letters.items()}
        self._count, octets = map(int, re.findall(r"\d+", exchange.first))
        self._letters = letters if self._count == len(letters) else None
        if self._letters is None and (self._count > len(letters) or self.books.stored == self._stored_before):
            raise Broken(f"{exchange.first} of {len(letters)} messages")
        if self._letters is not None and octets != sum(map(len, letters.values())):
            raise Broken(f"{exchange.first} of {list(map(len, letters.values()))}")

    def _read(self, exchange: Exchange) -> None:
        words = [word for word in exchange.argument.split(b" ") if word]
        number = int(words[0]) if words and re.fullmatch(rb"[0-9]{1,10}", words[0]) else 0
        there = 1 <= number <= self._count and number not in self._marked
        if exchange.verb == "QUIT":
            self._quit(exchange)
        elif exchange.code != "+OK":
            if exchange.verb in ("RETR", "DELE") and len(words) == 1 and there and not self.world.trouble:
                raise Broken(f"message {number} of {self._count} is there: {exchange}")
        elif exchange.verb == "RSET":
            self._marked.clear()
        elif exchange.verb in _ABOUT:
            if words and not there:
                raise Broken(f"no such message: {exchange}")
            _ABOUT[exchange.verb](self, exchange, number)

    def _stat(self, exchange: Exchange, _: int) -> None:
        letters = enumerate((self._letters or {}).values(), 1)
        sizes = [len(letter) for number, letter in letters if number not in self._marked]
        count, octets = map(int, exchange.first.split()[1:])
        if count != self._count - len(self._marked) or (self._letters is not None and octets != sum(sizes)):
            raise Broken(f"{exchange.first} of {sizes}")

    def _list(self, exchange: Exchange, number: int) -> None:
        lines = [exchange.first.removeprefix("+OK ")] if number else exchange.text.decode().splitlines()
        told = {int(line.split()[0]): line.split()[1] for line in lines}
        if not number and told.keys() != set(range(1, self._count + 1)) - self._marked:
            raise Broken(f"{exchange} of {self._count} without {self._marked}")
        for one, what in told.items():
            if self._letters is not None:
                id = list(self._letters)[one - 1]
                expected = id if exchange.verb == "UIDL" else str(len(self._letters[id]))
            else:
                expected = self._heard_of.setdefault((exchange.verb, one), what)
            if what != expected:
                raise Broken(f"{one} is {expected}: {exchange}")

    def _retr(self, exchange: Exchange, number: int) -> None:
        self.books.reached["letter fetched"] += 1
        if self._letters is None:
            return
        letter = list(self._letters.values())[number - 1]
        expected = letter if exchange.verb == "RETR" else top(letter, int(exchange.argument.split()[1]))
        if exchange.text != expected:
            raise Broken(f"{exchange.text[:1000]!r} is not {expected[:1000]!r}")

    def _dele(self, exchange: Exchange, number: int) -> None:
        self._marked.add(number)

    def _quit(self, exchange: Exchange) -> None:
        ids = self._marked_ids()
        if exchange.code != "+OK" or self._letters is None:
            self.books.may_go(self._mailbox, ids)
            self.books.reached["deletion not wholly done"] += exchange.code == "-ERR"
        elif ids:
            self.books.delete(self._mailbox, ids)
            self.books.reached["deletion done"] += 1
        self._let_go()

    def _marked_ids(self) -> set[str]:
        if self._letters is None:
            return set(self.books.content(self._mailbox)) if self._marked else set()
        return {id for number, id in enumerate(self._letters, 1) if number in self._marked}

    def _left_at_work(self, said: bytes) -> None:
        if self.account and said.strip().upper() == b"QUIT":
            self.books.may_go(self._mailbox, self._marked_ids())

    def _let_go(self) -> None:
        if self._maildrops.get(self.account) is self:
            del self._maildrops[self.account]
        self.account = ""


_ABOUT: dict[str, Callable[[Pop3Client, Exchange, int], None]] = {
    "STAT": Pop3Client._stat,
    "LIST": Pop3Client._list,
    "UIDL": Pop3Client._list,
    "RETR": Pop3Client._retr,
    "TOP": Pop3Client._retr,
    "DELE": Pop3Client._dele,
}


def top(letter: bytes, lines: int) -> bytes:
    """The header, and so many lines of the body (RFC 1939 7, TOP)."""
    header, blank, body = letter.partition(b"\r\n\r\n")
    return header + blank + b"".join(body.splitlines(keepends=True)[:lines]) if blank else letter
