"""How many letters each account has held, of which it may have so many (RFC 4865 6).

Nobody keeps books: what is held is what envelopes lie there, and each says whose letter it is. Somebody looks when
there is a question, once a second at most, and reads the beginnings of those that are new; a look that took long is
believed for twenty times as long. What we take meanwhile is added. So one process keeps to the number, over restarts
and crashes; of several, each hears late of what the others take, and an account may have as many more as they take
within that second. What was released makes room by the next look.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailbe.durable import trouble
from mailbe.held import Held
from mailbe.interfaces import EnoughHeld, OffReactor, TryLater
from mailbe.rooms import BELIEVED, REST

Accounts = dict[str, int | None]  # by the id of the letter that each has sent; None: nobody knows which


class Allowance:
    """Knows, for one process, how many letters each account has held. It belongs to one thread."""

    def __init__(
        self, held: Held, most: int, off_reactor: OffReactor, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """:param most: so many letters an account may have held."""
        self._held = held
        self._most = most
        self._off_reactor = off_reactor
        self._monotonic = monotonic
        self._seen: Accounts = {}  # by the last look
        self._ours: Accounts = {}  # what we have taken, and a look may have missed
        self._stored: list[str] = []  # those of them that lie there since the last look began
        self._count: Counter[int | None] = Counter()
        self._believed = 0.0  # until when, on the monotonic clock
        self._waiting: list[Deferred[TryLater | None]] = []

    def check(self, account: int | None) -> Awaitable[None] | None:
        """See that ``account`` may have one more letter held; ``None``: it may.

        :raises EnoughHeld, TryLater: the latter by what is awaited.
        """
        if self._monotonic() >= self._believed:
            return self._look_first(account)
        if self._count[account] >= self._most:
            raise EnoughHeld
        return None

    async def take(self, id: str, account: int | None) -> None:
        """Count one more, which is on its way to the disk; say ``stored`` or ``dropped`` when it is there, or is not.

        :raises EnoughHeld, TryLater:
        """
        if (looking := self.check(account)) is not None:
            await looking
        self._ours[id] = account
        self._count[account] += 1

    def stored(self, id: str) -> None:
        """A letter that was counted is on the disk."""
        self._stored.append(id)

    def dropped(self, id: str) -> None:
        """A letter that was counted was not stored."""
        self._count[self._ours.pop(id)] -= 1

    async def _look_first(self, account: int | None) -> None:
        """Who comes while somebody looks waits for what he sees."""
        mine: Deferred[TryLater | None] = Deferred()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            # What is stored from here on may be missed.
            stored, self._stored = self._stored, []
            known = self._seen | self._ours
            self._off_reactor(partial(self._look, known)).addBoth(self._looked, stored)
        if (error := await mine) is not None:
            raise error
        if self._count[account] >= self._most:
            raise EnoughHeld

    def _look(self, known: Accounts) -> tuple[Accounts, float]:
        """What is held, and how many seconds of a processor's time it took to see that."""
        begun = time.thread_time()
        try:
            return self._held.accounts(known), time.thread_time() - begun
        except OSError as error:
            raise trouble(error) from error

    def _looked(self, result: tuple[Accounts, float] | Failure, stored: list[str]) -> None:
        error = None
        if isinstance(result, Failure):
            self._stored += stored
            error = result.value if isinstance(result.value, TryLater) else TryLater(str(result.value))
        else:
            self._seen, took = result
            for id in stored:
                del self._ours[id]
            self._count = Counter(self._seen.values())
            self._count.update(account for id, account in self._ours.items() if id not in self._seen)
            self._believed = self._monotonic() + max(BELIEVED, REST * took)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(error)
