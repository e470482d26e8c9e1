"""How many connections each of several processes has: a board in shared memory, on which each writes its own page.

Every process reads all pages, and nobody waits for a lock. Of an address a page holds a mark of 64 bits and a number,
in one of the few places where that mark may stand. Where they are all taken, which is rare, the address is counted
by its own process alone.

What is read may be a moment old: of two processes that give away the last place at the same instant, both may.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from hashlib import blake2b

BUCKETS = 4096  # of one page
WAYS = 8  # places of one bucket
HEAD = 8  # words; the first is the number of all connections, the second tells whether it takes clients
WORDS = HEAD + BUCKETS * WAYS * 2  # a mark and a number in each place
OCTETS = 8 * WORDS  # of one page: no memory but for what was written


@dataclass(frozen=True, slots=True)
class Handle:
    """What another process needs to use the same board."""

    descriptor: int
    pages: int
    key: bytes


class Board:
    """A board as one process uses it."""

    def __init__(self, handle: Handle, own: int | None = None) -> None:
        """:param own: the number of the page that this process writes; ``None``: it writes none."""
        self.handle = handle
        self._memory = mmap.mmap(handle.descriptor, handle.pages * OCTETS)
        self._words = memoryview(self._memory).cast("Q")
        self._own = own
        self._others = [page * WORDS for page in range(handle.pages) if page != own]

    @classmethod
    def make(cls, pages: int) -> Board:
        """A new one, of which nobody has written a page."""
        descriptor = os.memfd_create("mailbe-connections")
        os.ftruncate(descriptor, pages * OCTETS)
        return cls(Handle(descriptor, pages, os.urandom(32)))

    @property
    def is_first(self) -> bool:
        """Whether this process is the first of those that have pages."""
        return self._own == 0

    def serve(self) -> None:
        """Say that this process takes clients from now on."""
        assert self._own is not None
        self._words[self._own * WORDS + 1] = 1

    def wipe(self, page: int) -> None:
        """Take away what a process has written that has ended."""
        self._memory[page * OCTETS : (page + 1) * OCTETS] = bytes(OCTETS)

    def put(self, address: str, count: int, of_all: int) -> None:
        """Write that this process has ``count`` connections of ``address``, and ``of_all`` in all."""
        assert self._own is not None
        words, start = self._words, self._own * WORDS
        words[start] = of_all
        mark = self._mark(address)
        free = None
        bucket = start + HEAD + mark % BUCKETS * WAYS * 2
        for place in range(bucket, bucket + WAYS * 2, 2):
            if not words[place + 1]:
                free = place if free is None else free
            elif words[place] == mark:
                words[place + 1] = count
                return
        if count and free is not None:
            words[free] = mark  # before the number: without one it does not count
            words[free + 1] = count

    def elsewhere(self, address: str) -> int:
        """How many connections of ``address`` the other processes have."""
        mark = self._mark(address)
        offset = HEAD + mark % BUCKETS * WAYS * 2
        found = 0
        for start in self._others:
            bucket = self._words[start + offset : start + offset + WAYS * 2].tolist()
            if mark in bucket:
                found += sum(count for its, count in zip(bucket[::2], bucket[1::2], strict=True) if its == mark)
        return found

    def all_elsewhere(self) -> int:
        """How many connections the other processes have."""
        return sum(self._words[start] for start in self._others)

    def is_ahead(self) -> bool:
        """Whether this process has so many more connections than another one that the next is better taken there."""
        assert self._own is not None
        least = min((self._words[start] for start in self._others if self._words[start + 1]), default=None)
        return least is not None and self._words[self._own * WORDS] > least + least // 8

    def _mark(self, address: str) -> int:
        return int.from_bytes(blake2b(address.encode(), digest_size=8, key=self.handle.key).digest())
