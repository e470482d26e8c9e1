"""How often one address has registered lately, and how often it has tried to in vain.

The counters stand among the guard's, and one address and one IPv4 network are to it what they are to the guard. Unlike
a lock, what is too much ends by itself as the oldest is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b

from sqlalchemy import Connection, select

from mailbe.accounts.counters import DAY, HOUR, NOTHING, Counter, from_row, purge, write
from mailbe.accounts.guard import NETWORK_WEIGHT, place_of
from mailbe.accounts.schema import COUNTERS
from mailbe.interfaces import TooOften

# The subjects of the counters. An account's has an @, and that of a name that nobody has is a longer digest.
REGISTERED = "registered"
REFUSED = "refused"

ALLOWED = {  # so many in so many seconds
    REGISTERED: ((15, HOUR), (40, DAY)),
    REFUSED: ((10, HOUR), (30, DAY)),  # a taken name tells who is here
}
LOCAL_WEIGHT = 10  # behind a proxy this machine is everybody, and without any limit a script would fill the disk


def check(connection: Connection, subject: str, peer: str, now: float) -> None:
    """See that ``peer`` may do one more of what ``subject`` counts.

    :raises TooOften:
    """
    for origin, weight in _origins(peer):
        counter = _counter(connection, subject, origin, now)
        for number, span in ALLOWED[subject]:
            recent = counter.recent(now, span)
            if len(recent) >= number * weight:
                raise TooOften(min(recent[-number * weight].at, now) + span)


def count(connection: Connection, subject: str, peer: str, what: str, now: float) -> None:
    """Count one more; the same ``what`` again on the same day is none. It must not be secret."""
    purge(connection, now)
    mark = _mark(what)
    for origin, weight in _origins(peer):
        counter = _counter(connection, subject, origin, now).failing(mark, now, DAY, proof=False)
        most = max(number for number, _ in ALLOWED[subject]) * weight
        write(connection, subject, origin, replace(counter, failures=counter.failures[-most:]))


def has(connection: Connection, subject: str, peer: str, what: str, now: float, span: float) -> bool:
    """Whether ``what`` was counted for this address within the last ``span`` seconds."""
    [(origin, _), *_] = _origins(peer)
    mark = _mark(what)
    return any(failure.mark == mark for failure in _counter(connection, subject, origin, now).recent(now, span))


def _mark(what: str) -> str:
    return blake2b(what.encode(), digest_size=8).hexdigest()


def _origins(peer: str) -> Iterator[tuple[str, int]]:
    """What counts as this peer, and how many times an address's share it has."""
    origin, network, local = place_of(peer)
    yield origin, LOCAL_WEIGHT if local else 1
    if network:
        yield network, NETWORK_WEIGHT


def _counter(connection: Connection, subject: str, origin: str, now: float) -> Counter:
    this = select(COUNTERS).where(COUNTERS.c.subject == subject, COUNTERS.c.origin == origin)
    row = connection.execute(this).one_or_none()
    counter = NOTHING if row is None else from_row(row)
    return NOTHING if counter.forgotten(now) else counter
