"""What the guard counts: different failures, the locks they lead to, and when all of it is forgotten.

A counter is a value; its row in the account database is found by subject and origin, whose meaning is the guard's.
Times are seconds since 1970.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select

from mailbe.accounts.schema import COUNTERS

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0  # seconds
PEACE = DAY  # after so long without a failure or lock a counter is forgotten
SCRAM_REPEATS = 3  # wrong proofs within a minute that count as one
MAX_STRANGERS = 20_000  # counters of addresses, networks and names that nobody has
MAX_UNWRITTEN = 20_000  # counters in memory


class Failure(NamedTuple):
    mark: str
    at: float
    times: int


@dataclass(frozen=True, slots=True)
class Counter:
    """Different failures, and the lock that they led to. Times are seconds since 1970."""

    failures: tuple[Failure, ...] = ()
    locks: int = 0
    """How many, without a good log-in or a day of peace between them."""
    locked_at: float = 0.0
    locked_for: float = 0.0
    touched: float = 0.0

    def locked(self, now: float) -> bool:
        # The distance: a clock that was set back, by however much, makes a lock at most twice as long.
        return abs(now - self.locked_at) < self.locked_for

    def ends(self, now: float) -> float:
        return min(self.locked_at, now) + self.locked_for

    def recent(self, now: float, span: float) -> tuple[Failure, ...]:
        return tuple(failure for failure in self.failures if abs(now - failure.at) < span)

    def forgotten(self, now: float) -> bool:
        last = max(self.touched, self.locked_at + self.locked_for)
        return not self.touched - PEACE < now < last + PEACE

    def failing(self, mark: str, now: float, span: float, *, proof: bool) -> Counter:
        """With one more failure, or this very counter where it is none that counts."""
        failures = self.recent(now, span)
        same = [failure for failure in failures if failure.mark == mark]
        if same and not proof:
            return self
        # A proof does not show which password it is of. So a client that repeats one costs the account little,
        # and who guesses gains no more than these few.
        if same and same[-1].times < SCRAM_REPEATS and abs(now - same[-1].at) < MINUTE:
            again = same[-1]._replace(times=same[-1].times + 1)
            failures = tuple(again if failure is same[-1] else failure for failure in failures)
        else:
            failures = (*failures, Failure(mark, now, 1))
        return replace(self, failures=failures, touched=now)

    def locking(self, now: float, shortest: float, longest: float) -> Counter:
        """Locked from now on: for the ``shortest`` time, or twice as long as the last time, up to the ``longest``."""
        length = min(shortest * 2.0 ** min(self.locks, 30), longest)
        return Counter((), self.locks + 1, now, length, now)


NOTHING = Counter()


class Unwritten:
    """The counters that the file did not take. They are kept in memory, or a full disk would set guessers free."""

    def __init__(self) -> None:
        self._counters: OrderedDict[tuple[str, str], Counter] = OrderedDict()

    def get(self, subject: str, origin: str) -> Counter:
        return self._counters.get((subject, origin), NOTHING)

    def put(self, subject: str, origin: str, counter: Counter) -> None:
        self._counters.pop((subject, origin), None)
        if counter.failures or counter.locks:
            self._counters[subject, origin] = counter
        if len(self._counters) > MAX_UNWRITTEN:
            self._counters.popitem(last=False)


def from_row(row: Row[Any, Any, Any, Any, Any, Any, Any]) -> Counter:
    failures = tuple(Failure(*failure) for failure in json.loads(row.failures))
    return Counter(failures, row.locks, row.locked_at, row.locked_for, row.touched)


def write(connection: Connection, subject: str, origin: str, counter: Counter) -> None:
    connection.execute(delete(COUNTERS).where(COUNTERS.c.subject == subject, COUNTERS.c.origin == origin))
    if counter.failures or counter.locks:
        values = {"subject": subject, "origin": origin, **asdict(counter)}
        connection.execute(insert(COUNTERS), values | {"failures": json.dumps(counter.failures)})


def purge(connection: Connection, now: float) -> None:
    """Delete what is forgotten, and the oldest of what strangers have left where that is too much."""
    touched, lock_ends = COUNTERS.c.touched, COUNTERS.c.locked_at + COUNTERS.c.locked_for
    past = and_(touched <= now - PEACE, lock_ends <= now - PEACE)
    connection.execute(delete(COUNTERS).where(or_(past, touched >= now + PEACE)))
    # However many names and addresses a flood may have, it does not fill the disk.
    strangers = COUNTERS.c.subject.not_like("%@%")
    excess = select(touched).where(strangers).order_by(touched.desc()).offset(MAX_STRANGERS).limit(1)
    if (latest := connection.execute(excess).scalar()) is not None:
        connection.execute(delete(COUNTERS).where(strangers, touched <= latest))
