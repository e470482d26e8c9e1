"""Our own letters in the maildrop: found by their tokens, and deleted whatever has happened; nobody else's is touched.

A letter that was there before the run is never asked for. One that comes meanwhile is looked at: its header, and the
rest where it may be a report about one of ours. Without UIDL nobody could tell one from another, so then no letter is
sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

from mailbe.conform.door import Door, depart
from mailbe.conform.letters import Stored
from mailbe.conform.pop3 import Pop3Wire
from mailbe.conform.rules import Awaited
from mailbe.conform.wire import Dialogue

PAUSE = 0.5  # seconds between looks
LARGE = 1024 * 1024  # octets; a report about one of ours is smaller


class Mailbox:
    """What we know of the maildrop's letters, by unique-id."""

    def __init__(self, door: Door, run: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._door = door
        self._run = run.encode()
        self._token = re.compile(self._run + rb"-[0-9]{4}")
        self._sleep = sleep
        self._known: dict[bytes, frozenset[str]] = {}
        """The tokens in each letter; none in those that are not ours."""
        self._stored: dict[bytes, Stored] = {}

    def begin(self) -> None:
        """Learn what is there before the run.

        :raises NoEntry, Lost, Unclear:
        """
        wire = self._door.enter(Dialogue(), utf8=True)
        self._known = {name: frozenset() for name in self._names(wire).values()}
        depart(wire)

    def find(self, wire: Pop3Wire) -> dict[str, int]:
        """The numbers of our letters in a session, by their tokens.

        What is said for it stands in no dialogue: somebody else's letter may have come meanwhile.

        :raises Lost, Unclear:
        """
        dialogue, wire.dialogue = wire.dialogue, Dialogue()
        try:
            self._look(wire)
            names = self._names(wire)
        finally:
            wire.dialogue = dialogue
        return {token: number for number, name in names.items() for token in self._known.get(name, ())}

    def gather(self, awaited: Iterable[Awaited], seconds: float) -> dict[str, list[Stored]]:
        """Wait until all letters have come, or for so many seconds; what came of each token.

        :raises NoEntry, Lost, Unclear:
        """
        wanted = {one.token: one.count for one in awaited}
        end = time.monotonic() + seconds
        while True:
            wire = self._door.enter(Dialogue(), utf8=True)
            self._look(wire)
            depart(wire)
            found = {token: self._with(token) for token in wanted}
            if all(len(found[token]) >= count for token, count in wanted.items()) or time.monotonic() > end:
                return found
            self._sleep(PAUSE)

    def clean(self) -> int:
        """Delete all of our letters; returns how many are left.

        :raises NoEntry, Lost, Unclear:
        """
        left = 0
        for _ in range(3):  # one may come in between
            self._door.forget()
            wire = self._door.enter(Dialogue(), utf8=True)
            self._look(wire)
            sizes = self._sizes(wire)
            ours = [number for number, name in self._names(wire).items() if self._known.get(name)]
            # Read once more: who has a fault may give one unique-id to two letters.
            ours = [number for number in ours if self._run in (self._read(wire, number, sizes.get(number, 0)) or b"")]
            for number in ours:
                wire.say(f"DELE {number}")
            wire.say("QUIT")
            wire.close()
            left = len(ours)
            if not left:
                break
        return left

    def _with(self, token: str) -> list[Stored]:
        return [stored for name, stored in self._stored.items() if token in self._known[name]]

    def _look(self, wire: Pop3Wire) -> None:
        new = {number: name for number, name in self._names(wire).items() if name not in self._known}
        if not new:
            return
        sizes = self._sizes(wire)
        for number, name in new.items():
            octets = self._read(wire, number, sizes.get(number, 0))
            if octets is None:
                continue
            tokens = frozenset(found.decode() for found in self._token.findall(octets))
            self._known[name] = tokens
            if tokens:
                self._stored[name] = Stored(octets, time.monotonic())

    def _read(self, wire: Pop3Wire, number: int, size: int) -> bytes | None:
        """As much of a letter as tells whether it is ours; ``None`` where it cannot be read now."""
        if wire.say(f"TOP {number} 0").startswith(b"+OK"):
            header = wire.text()
            ours = self._run in header or b"multipart/report" in header.lower()
            if not ours or size > LARGE:
                return header
        elif size > LARGE:
            return b""
        return wire.text() if wire.say(f"RETR {number}").startswith(b"+OK") else None

    def _names(self, wire: Pop3Wire) -> dict[int, bytes]:
        return {int(number): name for number, name, *_ in map(bytes.split, wire.listing("UIDL"))}

    def _sizes(self, wire: Pop3Wire) -> dict[int, int]:
        return {int(number): int(size) for number, size, *_ in map(bytes.split, wire.listing("LIST"))}
