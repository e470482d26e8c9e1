"""The guard against guessing: who fails too often is slowed, then refused for a while, and let in again.

It keeps counters of *different* failures in the account database, so every process on one maildata shares them
and a restart changes nothing:

- one for each account, or name that nobody has, for the world, and one more for each address from which that
  account logged in well lately. So an attack from elsewhere does not lock the owner out, and the other way round.
- one for each address and one for each IPv4 network, over all accounts.

A counter that is full is locked for a while, twice as long each time. While it is, passwords are not even looked
at. Whether there is such an account changes nothing of this.
"""

from __future__ import annotations

import ipaddress
import math
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from threading import Lock
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select

from mailbe.accounts.counters import DAY, HOUR, NOTHING, Counter, Unwritten, from_row, purge, write
from mailbe.accounts.database import Account, Accounts, secret
from mailbe.accounts.schema import COUNTERS, LOGINS
from mailbe.address import Address, BadAddress, login_name
from mailbe.interfaces import TryLater
from mailbe.peers import household

NETWORK_WEIGHT = 3  # an IPv4 network is as bad as one address after so many times its failures
LOGIN_WRITTEN_EVERY = HOUR  # a client that asks every minute must not cost a write each time
PURGE_EVERY = 100  # failures

WORLD = ""  # the origin of an account's counter for all addresses that have none of their own
ANYBODY = ""  # the subject of an address's counter
PROOF = "s"  # what the marks of wrong proofs begin with, and those of wrong passwords do not


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is too much, and what happens then."""

    wrong_passwords: int = 3
    """Different ones in a row that lock an account."""
    lock_seconds: float = 900
    """How long the first time; twice as long each time, up to ``longest_lock_seconds``."""
    longest_lock_seconds: float = 86400
    address_failures: int = 10
    """Different ones within an hour, over all accounts, that block an address."""
    known_address_days: float = 30
    """So long after a good log-in the address has a counter of its own for that account."""
    slowest_answer_seconds: float = 10


class Locked(TryLater):
    """Nobody is let in here before ``ends``, not even with the right password."""

    def __init__(self, reason: str, ends: float, delay: float) -> None:
        """:param reason: ``locked`` (the account) or ``blocked`` (the address).
        :param ends: seconds since 1970.
        :param delay: seconds to wait before the answer.
        """
        super().__init__(f"{reason} until {datetime.fromtimestamp(ends):%Y-%m-%d %H:%M}")
        self.reason = reason
        self.ends = ends
        self.delay = delay

    logged = True


class Visit(NamedTuple):
    """Who wants in, and from where."""

    account: int
    """The account's id; 0: there is none."""
    name: str
    """What names the account, the same however it is written."""
    subject: str
    """Under which its counters stand: the name, which has an @, or a digest where nobody has it."""
    peer: str
    origin: str
    """What counts as one address: of IPv6 a /64, as every household has one."""
    network: str
    """The IPv4 /24; empty where there is none."""
    local: bool
    """From this machine, where one address may stand for everybody."""


class Admission(NamedTuple):
    """What a good log-in still needs."""

    delay: float
    """Seconds to wait before the answer."""
    settled: bool
    """Whether there is nothing to write down."""


class Report(NamedTuple):
    """What ``mailbe user list`` tells of an account. Times are seconds since 1970."""

    last: float | None
    peer: str
    locks: tuple[tuple[str, float], ...]
    """The origin (``WORLD`` or an address) and the end of each lock."""


class Standing(NamedTuple):
    """What the file holds about a visit."""

    own: Counter
    world: Counter
    address: Counter
    network: Counter
    last: float | None
    """The last good log-in to the account from this address."""


class Guard:
    """Judges log-ins by the counters in ``accounts``.

    ``admit``, ``visit``, ``secret`` and ``report`` belong to the one thread that asks ``accounts``; the others
    wait for the disk and may run in any. All raise ``TryLater`` where the file cannot be used now.

    :param domain: which one a plain name means that nobody has; without it ``bob`` and ``bob@localhost`` had two
        counters where ``alice`` and ``alice@localhost`` have one, and that would tell who exists.
    :param now: the time in seconds since 1970.
    """

    def __init__(
        self,
        accounts: Accounts,
        *,
        domain: str = "localhost",
        limits: Limits | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._domain = domain
        self._limits = limits or Limits()
        self._now = now
        self._until_purge = 0
        self._kept_secret = b""
        self._unwritten = Unwritten()
        self._unwritten_secret = secrets.token_bytes(32)
        self._one_at_a_time = Lock()

    def visit(self, account: Account | None, username: bytes, peer: str) -> Visit:
        """Who it is that calls himself ``username``, and is ``account``, at the IP address ``peer``."""
        place = place_of(peer)
        if account is not None:
            key = account.address.key
            return Visit(account.id, key, key, peer, *place)
        # The same spellings are one name here as where accounts are looked up by name, or it would tell who exists.
        name = login_name(username)
        with suppress(BadAddress):  # then nobody can have it, however it is written
            name = (Address.parse(name) if "@" in name else Address(name, self._domain)).key
        # A digest, as some type their password where the name belongs, and a name may be long.
        return Visit(0, name, _digest(self.secret(), b"name", name.encode(), 16), peer, *place)

    def secret(self) -> bytes:
        """What only this file knows, and keeps."""
        # Kept, so that names that nobody has, which alone need it here, take no longer than others.
        self._kept_secret = self._kept_secret or self._accounts.answer(secret, None)
        return self._kept_secret

    def admit(self, visit: Visit, *, same_look: bool = False) -> Admission:
        """Whether the visitor may try, or after a good try: come in.

        :param same_look: whether the account was looked up a moment ago, see ``Accounts.answer``.
        :raises Locked:
        """
        now = self._now()
        standing = self._accounts.answer(_standing, visit, same_look=same_look)
        unwritten = self._unwritten_standing(visit, standing.last)
        for each in (standing, unwritten):
            self._check(each, now)
        known = self._known(standing, now)
        return Admission(
            0.0 if known else self._slowness(standing, now),
            all((each.own if known else each.world) is NOTHING for each in (standing, unwritten))
            and standing.last is not None
            and abs(now - standing.last) < LOGIN_WRITTEN_EVERY
            and not (standing.address.failures and _without(standing.address, visit) is not standing.address),
        )

    def failed(self, visit: Visit, password: bytes | None) -> float:
        """Write a failure down; returns how many seconds to wait before the answer.

        :param password: the wrong one; ``None`` where there was a wrong proof of one.
        :raises Locked: where others have failed too often in the meantime.
        :raises TryLater: where it cannot be written; it is kept in memory then, and counts all the same.
        """
        now = self._now()
        try:
            with self._accounts.change() as connection:
                self._purge(connection, now)
                standing = _standing(connection, visit)
                self._check(standing, now)
                mark = _mark(secret(connection), visit, password)
                known = self._known(standing, now)
                for subject, origin, counter in self._failing(visit, standing, mark, now, known=known):
                    write(connection, subject, origin, counter)
                return self._slowness(_standing(connection, visit), now)
        except Locked:
            raise
        except TryLater:
            with self._one_at_a_time:
                # As nobody may be able to tell whether the address is known, it counts for either case.
                standing = self._unwritten_standing(visit, None)
                mark = _mark(self._unwritten_secret, visit, password)
                for subject, origin, counter in self._failing(visit, standing, mark, now, known=None):
                    self._unwritten.put(subject, origin, counter)
            raise

    def succeeded(self, visit: Visit) -> None:
        """Write a good log-in down: when and from where, and that its failures no longer count.

        :raises Locked: where others have failed too often in the meantime.
        """
        now = self._now()
        with self._accounts.change() as connection:
            standing = _standing(connection, visit)
            self._check(standing, now)
            origin = visit.origin if self._known(standing, now) else WORLD
            for counted in (origin, visit.origin):
                self._unwritten.put(visit.subject, counted, NOTHING)
            write(connection, visit.subject, origin, NOTHING)
            if (forgiven := _without(standing.address, visit)) is not standing.address:
                write(connection, ANYBODY, visit.origin, forgiven)
            here = and_(LOGINS.c.account == visit.account, LOGINS.c.origin == visit.origin)
            connection.execute(delete(LOGINS).where(here))
            values = {"account": visit.account, "origin": visit.origin, "at": now, "peer": visit.peer}
            connection.execute(insert(LOGINS), values)

    def unlock(self, address: Address) -> bool:
        """End every lock of the account, and forget its failures; returns whether there was a lock."""
        now = self._now()
        of_account = COUNTERS.c.subject == address.key
        with self._accounts.change() as connection:
            rows = connection.execute(select(COUNTERS).where(of_account)).all()
            connection.execute(delete(COUNTERS).where(of_account))
        return any(from_row(row).locked(now) for row in rows)

    def report(self, account: Account) -> Report:
        """The last log-in to ``account``, and what locks there are."""
        now = self._now()
        last, peer, rows = self._accounts.answer(_history, (account.id, account.address.key))
        locks = ((origin, counter) for origin, counter in rows if counter.locked(now))
        return Report(last, peer, tuple((origin, counter.ends(now)) for origin, counter in locks))

    def _known(self, standing: Standing, now: float) -> bool:
        return standing.last is not None and abs(now - standing.last) < self._limits.known_address_days * DAY

    def _check(self, standing: Standing, now: float) -> None:
        known = self._known(standing, now)
        account = standing.own if known else standing.world
        if account.locked(now):
            raise Locked("locked", account.ends(now), self._slowness(standing, now))
        if known:
            return  # it shares the address with whoever misbehaves there, and has a counter of its own
        for counter in (standing.address, standing.network):
            if counter.locked(now):
                raise Locked("blocked", counter.ends(now), self._slowness(standing, now))

    def _slowness(self, standing: Standing, now: float) -> float:
        slowest = self._limits.slowest_answer_seconds
        if standing.address.locked(now) or standing.network.locked(now):
            return slowest
        failures = len(standing.address.recent(now, HOUR))
        failures = max(failures, len(standing.network.recent(now, HOUR)) // NETWORK_WEIGHT)
        return min(2.0 ** (min(failures, 30) - 1), slowest) if failures else 0.0

    def _unwritten_standing(self, visit: Visit, last: float | None) -> Standing:
        get = self._unwritten.get
        return Standing(
            own=get(visit.subject, visit.origin),
            world=get(visit.subject, WORLD),
            address=get(ANYBODY, visit.origin),
            network=get(ANYBODY, visit.network),
            last=last,
        )

    def _failing(
        self, visit: Visit, standing: Standing, mark: str, now: float, *, known: bool | None
    ) -> Iterator[tuple[str, str, Counter]]:
        """The counters that one more failure changes: subject, origin, and what they are then."""
        for subject, origin, counter, limit, span in self._counters(visit, standing, known):
            start = NOTHING if counter.forgotten(now) else counter
            tag = mark if subject else _tag(visit) + mark
            new = start.failing(tag, now, span, proof=mark.startswith(PROOF))
            if len(new.failures) >= limit and not (visit.local and not subject):
                new = new.locking(now, self._limits.lock_seconds, self._limits.longest_lock_seconds)
            if new is not counter:
                yield subject, origin, replace(new, failures=new.failures[-limit:])

    def _counters(
        self, visit: Visit, standing: Standing, known: bool | None
    ) -> Iterator[tuple[str, str, Counter, int, float]]:
        """Those that a failure counts in: subject, origin, counter, its limit, how long a failure counts."""
        if known is not False:
            yield visit.subject, visit.origin, standing.own, self._limits.wrong_passwords, math.inf
        if known is not True:
            yield visit.subject, WORLD, standing.world, self._limits.wrong_passwords, math.inf
        yield ANYBODY, visit.origin, standing.address, self._limits.address_failures, HOUR
        if visit.network:
            yield ANYBODY, visit.network, standing.network, self._limits.address_failures * NETWORK_WEIGHT, HOUR

    def _purge(self, connection: Connection, now: float) -> None:
        self._until_purge -= 1
        if self._until_purge > 0:
            return
        self._until_purge = PURGE_EVERY
        purge(connection, now)
        others = LOGINS.alias()
        newest = select(func.max(others.c.at)).where(others.c.account == LOGINS.c.account).scalar_subquery()
        stale = LOGINS.c.at < now - self._limits.known_address_days * DAY
        connection.execute(delete(LOGINS).where(stale, LOGINS.c.at < newest))


_ROWS = select(COUNTERS).where(
    or_(
        and_(
            COUNTERS.c.subject == bindparam("subject"),
            or_(COUNTERS.c.origin == WORLD, COUNTERS.c.origin == bindparam("origin")),
        ),
        and_(
            COUNTERS.c.subject == ANYBODY,
            or_(COUNTERS.c.origin == bindparam("origin"), COUNTERS.c.origin == bindparam("network")),
        ),
    )
)
_LAST = select(LOGINS.c.at).where(LOGINS.c.account == bindparam("account"), LOGINS.c.origin == bindparam("origin"))


def _standing(connection: Connection, visit: Visit) -> Standing:
    about = {"subject": visit.subject, "origin": visit.origin, "network": visit.network}
    rows = {(row.subject, row.origin): from_row(row) for row in connection.execute(_ROWS, about)}
    return Standing(
        own=rows.get((visit.subject, visit.origin), NOTHING),
        world=rows.get((visit.subject, WORLD), NOTHING),
        address=rows.get((ANYBODY, visit.origin), NOTHING),
        network=rows.get((ANYBODY, visit.network), NOTHING),
        last=connection.execute(_LAST, {"account": visit.account, "origin": visit.origin}).scalar(),
    )


def _history(connection: Connection, about: tuple[int, str]) -> tuple[float | None, str, list[tuple[str, Counter]]]:
    account, key = about
    logins = select(LOGINS.c.at, LOGINS.c.peer).where(LOGINS.c.account == account).order_by(LOGINS.c.at.desc())
    last = connection.execute(logins.limit(1)).first()
    rows = connection.execute(select(COUNTERS).where(COUNTERS.c.subject == key).order_by(COUNTERS.c.origin))
    return last and last.at, last.peer if last else "", [(row.origin, from_row(row)) for row in rows]


def _mark(secret: bytes, visit: Visit, password: bytes | None) -> str:
    """What two failures share that are one and the same try again."""
    if password is None:
        return PROOF + _digest(secret, b"proof", visit.origin.encode(), 2)
    # A wrong password is often nearly the right one, and this is quicker to compute than any record. So it must
    # be of no use to who steals the file, with the secret in it: of every 65536 guesses one has these 16 bits. Two
    # different passwords that share them count as one, which a guesser can neither see nor choose.
    return _digest(secret, b"guess", visit.subject.encode() + b"\0" + password, 2)


def _tag(visit: Visit) -> str:
    """What the marks of one account begin with in an address's counter."""
    return _digest(b"", b"tag", visit.subject.encode(), 4)


def _without(counter: Counter, visit: Visit) -> Counter:
    """``counter`` without the failures at this account; itself where it has none."""
    tag = _tag(visit)
    failures = tuple(failure for failure in counter.failures if not failure.mark.startswith(tag))
    return counter if len(failures) == len(counter.failures) else replace(counter, failures=failures)


def _digest(key: bytes, person: bytes, data: bytes, octets: int) -> str:
    return blake2b(data, digest_size=octets, key=key, person=person).hexdigest()


@lru_cache(10_000)
def place_of(peer: str) -> tuple[str, str, bool]:
    """The origin, the network, and whether it is this machine: the last of the fields of a ``Visit``."""
    if not peer:
        return "local", "", True
    address = ipaddress.ip_address(peer)
    if address.version == 6:
        return household(peer), "", address.is_loopback
    network = "" if address.is_loopback else str(ipaddress.ip_network((peer, 24), strict=False))
    return peer, network, address.is_loopback
