"""What must be true of the mail: which letters are in which mailbox, by what clients were told."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Set
from dataclasses import dataclass

from mailbe.durable import SMALL
from tests.fuzz.ledger import Broken
from tests.fuzz.worlds import Letters, World

_TRACE = re.compile(rb"Return-Path: <[^\r\n]*>\r\nReceived: [^\r\n]+\r\n(?:\t[^\r\n]+\r\n)+")
_REPORT = re.compile(
    rb"Return-Path: <>\r\n.*\r\nAuto-Submitted: auto-replied\r\n.*\r\nFinal-Log-Id: ([!-~]+)\r\n.*", re.DOTALL
)
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


@dataclass(frozen=True)
class Sent:
    """A letter that is complete, and all that must get it."""

    text: bytes
    """As it is stored, below what the server puts on top."""
    mailboxes: frozenset[str]
    later: frozenset[str] = frozenset()
    """Where it may come when it is released (RFC 4865), and where it may be reported that it was not."""

    def may_be_in(self, holders: Set[str]) -> bool:
        """Whether it may be in these mailboxes, and in no other."""
        return self.mailboxes <= holders <= self.mailboxes | self.later

    def is_in(self, letter: bytes) -> bool:
        return letter.endswith(self.text) and bool(_TRACE.fullmatch(letter[: len(letter) - len(self.text)]))


def sent(said: bytes, *mailboxes: frozenset[str]) -> Sent:
    """:param said: what followed DATA, with its lone dot.
    :param mailboxes: as ``Sent`` has them.
    """
    text = re.sub(rb"(?:^|(?<=\r\n))\.", b"", said.removesuffix(b"\r\n").removesuffix(b"."))
    return Sent(_without_return_path(text), *mailboxes)


def sent_in_pieces(text: bytes, *mailboxes: frozenset[str]) -> Sent:
    """:param text: all that BDAT has brought.
    :param mailboxes: as ``Sent`` has them.
    """
    whole = text if not text or text.endswith(b"\r\n") else text + b"\r\n"
    return Sent(_without_return_path(whole), *mailboxes)


class Books:
    """The letters of one world."""

    def __init__(self, world: World, reached: Counter[str]) -> None:
        """:param reached: counts what was brought about, over many worlds."""
        self._world = world
        self._certain: Letters = defaultdict(dict)
        self._maybe: list[Sent] = []
        self._held: dict[str, Sent] = {}
        self._leaving: dict[str, set[str]] = defaultdict(set)
        self.reached = reached
        self.stored = 0
        """Counts the letters, so that who opens a maildrop knows whether any has come meanwhile."""
        self.proofs: dict[bytes, str] = {}
        """The account that each line with a true proof of SCRAM lets in."""

    def acknowledge(self, id: str, letter: Sent) -> None:
        """The client was told that ``letter`` is stored: now it must be, everywhere.

        :raises Broken:
        """
        if _BARE.search(letter.text):
            raise Broken("a letter with a bare CR or LF was taken")
        # A large letter may lie in the spool, whole, when its disk gets full.
        had_room = self._world.trouble == "disk full" and len(letter.text) > SMALL
        if self._world.trouble in self._world.hopeless and not had_room:
            raise Broken(f"a letter was taken by storage with this trouble: {self._world.trouble}")
        disk = self._world.letters()
        holders = {mailbox for mailbox, letters in disk.items() if id in letters}
        if not letter.may_be_in(holders):
            raise Broken(f"{id} is in {holders}, and not in {set(letter.mailboxes)}")
        for mailbox in holders:
            if not letter.is_in(disk[mailbox][id]):
                raise Broken(f"{id} is {disk[mailbox][id][:2000]!r} and not {letter.text[:1000]!r}")
            self._certain[mailbox][id] = disk[mailbox][id]
        self._keep_in_mind(id, letter)
        self.reached["letter stored"] += 1

    def may_come(self, letter: Sent) -> None:
        """Nobody will be told what becomes of ``letter``."""
        self._maybe.append(letter)

    def may_go(self, mailbox: str, ids: set[str]) -> None:
        """Nobody will be told, or only that it was not wholly done, what becomes of these deletions."""
        self._leaving[mailbox] |= ids

    def delete(self, mailbox: str, ids: set[str]) -> None:
        """The client was told that these are deleted.

        :raises Broken:
        """
        if left := self._world.letters().get(mailbox, {}).keys() & ids:
            raise Broken(f"deleted, and still in {mailbox}: {left}")
        for id in ids:
            del self._certain[mailbox][id]

    def content(self, mailbox: str) -> dict[str, bytes]:
        """What is in ``mailbox`` now, in order."""
        self.audit()
        return self._world.letters().get(mailbox, {})

    def audit(self) -> None:
        """See that the mailboxes hold what was acknowledged, and nothing else.

        :raises Broken:
        """
        disk = self._world.letters()
        for mailbox, letters in self._certain.items():
            there = disk.get(mailbox, {})
            if lost := letters.keys() - there.keys() - self._leaving[mailbox]:
                raise Broken(f"lost from {mailbox}: {lost}")
            for id in self._leaving[mailbox] - there.keys():
                letters.pop(id, None)
        for mailbox, letters in disk.items():
            for id in letters.keys() - self._certain[mailbox].keys():
                if any(id in certain for certain in self._certain.values()):
                    self._released(id, mailbox, letters[id])
                elif not self._is_report(mailbox, letters[id]):
                    self._found(id, disk)
                self._certain[mailbox][id] = letters[id]

    def settle(self) -> None:
        """Nothing is under way: what has not gone stays."""
        self.audit()
        self._leaving.clear()
        self._maybe.clear()

    def _found(self, id: str, disk: Letters) -> None:
        holders = frozenset(mailbox for mailbox, letters in disk.items() if id in letters)
        content = disk[next(iter(holders))][id]
        for letter in self._maybe:
            if letter.may_be_in(holders) and letter.is_in(content):
                self._maybe.remove(letter)
                break
        else:
            raise Broken(f"nobody was told of {id} in {set(holders)}: {content[:2000]!r}")
        for mailbox in holders:
            self._certain[mailbox][id] = disk[mailbox][id]
        self._keep_in_mind(id, letter)
        self.reached["letter stored, and its sender gone"] += 1

    def _released(self, id: str, mailbox: str, content: bytes) -> None:
        letter = self._held.get(id)
        if letter is None or mailbox not in letter.later or not letter.is_in(content):
            raise Broken(f"{id} has come to {mailbox} too: {content[:2000]!r}")
        self.stored += 1
        self.reached["letter released"] += 1

    def _is_report(self, mailbox: str, content: bytes) -> bool:
        """Whether this tells a sender what has become of a letter that was held."""
        match = _REPORT.fullmatch(content)
        letter = self._held.get(match[1].decode()) if match else None
        if letter is None or mailbox not in letter.later:
            return False
        self.stored += 1
        self.reached["report"] += 1
        return True

    def _keep_in_mind(self, id: str, letter: Sent) -> None:
        self.stored += 1
        if letter.later:
            self._held[id] = letter
            self.reached["letter held"] += 1


def _without_return_path(text: bytes) -> bytes:
    """RFC 5321 4.4: at final delivery an old Return-Path goes."""
    if text.startswith(b"\r\n"):
        return text
    header, blank, body = text.partition(b"\r\n\r\n")
    lines = header.split(b"\r\n") if blank else header.split(b"\r\n")[:-1]
    kept = []
    goes = False
    for line in lines:
        if not line.startswith((b" ", b"\t")):
            goes = bool(re.match(rb"return-path[ \t]*(?::|$)", line, re.IGNORECASE))
        if not goes:
            kept.append(line + b"\r\n")
    return b"".join(kept) + (b"\r\n" + body if blank else b"")
