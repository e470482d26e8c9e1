"""The directory: which domains are served beside those of the server's options, and what leads to which account.

An alias is an address that leads to accounts, and to other aliases. The alias ``@domain``, which has nothing before the
@, is the domain's catch-all. An alias stays when the last of what it leads to has gone: nobody else gets its name then,
and its letters are refused. What comes first where several rules fit an address, the post office says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from sqlalchemy import CTE, Connection, Row, bindparam, delete, func, insert, select, text

from mailbe.accounts.database import Accounts
from mailbe.accounts.schema import ACCOUNTS, ALIASES, DOMAINS, QUOTAS, TARGETS
from mailbe.address import Address
from mailbe.interfaces import TryLater
from mailbe.maildata import Unusable

MOST = 1000  # accounts that an alias may lead to: their mailboxes are all waited for
CATCH_ALL = ""  # the local part of its alias
POSTMASTER = "postmaster"  # RFC 5321 4.5.1: every domain has one
ABUSE = "abuse"  # RFC 2142 2
OFFICES = (POSTMASTER, ABUSE)


class NotPossible(Exception):
    """The directory cannot be changed so; the message says why, in one line."""


class Resident(NamedTuple):
    """An account whom letters reach."""

    address: Address
    octets: int | None
    """Its own quota, see ``quotas``."""
    letters: int | None


class Alias(NamedTuple):
    """An alias, and where it leads."""

    address: Address
    targets: tuple[Address, ...]


def domain_key(name: str) -> str:
    """What all spellings of one domain share."""
    return Address(CATCH_ALL, name).key[1:]


def written(address: Address) -> str:
    """``address`` for people, which may be a catch-all's."""
    return str(address) if address.local else f"@{address.domain}"


def served(accounts: Accounts, asked: Sequence[str]) -> list[str]:
    """The domains ``asked`` for by options, and those in the directory, where that can be read now."""
    known = {domain_key(name) for name in asked}
    with suppress(TryLater, Unusable):
        return [*asked, *(name for name in accounts.answer(domains, None) if domain_key(name) not in known)]
    return list(asked)


# Questions for ``Accounts.answer``.


def is_served(connection: Connection, key: str) -> bool:
    """Whether the domain with this key is in the directory."""
    return connection.execute(_SERVED, {"key": key}).first() is not None


def domains(connection: Connection, _: None = None) -> tuple[str, ...]:
    """The domains in the directory, in the order of the alphabet."""
    return tuple(connection.execute(select(DOMAINS.c.name).order_by(DOMAINS.c.key)).scalars())


def resident(connection: Connection, key: str) -> Resident | None:
    """The account of this very address."""
    row: Row[Any, Any, Any, Any] | None = connection.execute(_RESIDENT, {"key": key}).one_or_none()
    return None if row is None else _resident(row)


def alias(connection: Connection, key: str) -> int | None:
    """The id of the alias of this very address."""
    found: int | None = connection.execute(_ALIAS, {"key": key}).scalar()
    return found


def known(connection: Connection, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the keys that are an account's or an alias's, in their order."""
    found = set(connection.execute(_KNOWN, {"keys": json.dumps(keys)}).scalars())
    return tuple(key for key in keys if key in found)


def members(connection: Connection, alias: int) -> list[Resident]:
    """The accounts that an alias leads to, each once, whatever way; a loop leads nowhere."""
    return [_resident(row) for row in connection.execute(_MEMBERS, {"id": alias})]


def aliases(connection: Connection, _: None = None) -> tuple[Alias, ...]:
    """Every alias, in the order of the alphabet: domain, then name."""
    found: dict[int, tuple[Address, list[Address]]] = {}
    rows = connection.execute(select(ALIASES.c.id, ALIASES.c.local, ALIASES.c.domain, ALIASES.c.key)).all()
    for row in sorted(rows, key=lambda row: row.key.rpartition("@")[::-1]):
        found[row.id] = Address(row.local, row.domain), []
    for target in connection.execute(_TARGETS):
        found[target.alias][1].append(Address(target.local, target.domain))
    return tuple(Alias(address, tuple(targets)) for address, targets in found.values())


# Changes.


def add_alias(accounts: Accounts, address: Address, targets: Sequence[Address]) -> None:
    """Have ``address`` lead to ``targets`` too; on return that is safely on the disk.

    :raises NotPossible, TryLater:
    """
    with accounts.change(lasting=True) as connection:
        _lead(connection, address, targets)


def remove_alias(accounts: Accounts, address: Address, targets: Sequence[Address] = ()) -> None:
    """Remove an alias, or of what it leads to only ``targets``.

    :raises NotPossible, TryLater:
    """
    with accounts.change(lasting=True) as connection:
        id = alias(connection, address.key)
        if id is None:
            raise NotPossible(f"there is no alias {written(address)}")
        if not targets:
            connection.execute(delete(ALIASES).where(ALIASES.c.id == id))
        for target in targets:
            account, other = _ids(connection, target)
            this = (TARGETS.c.alias == id, TARGETS.c.account == account, TARGETS.c.other == other)
            if not connection.execute(delete(TARGETS).where(*this)).rowcount:
                raise NotPossible(f"{written(address)} does not lead to {target}")


def add_domain(accounts: Accounts, name: str, postmaster: Address | None, catch_all: Address | None) -> None:
    """Serve the domain ``name`` from now on, and say who gets its postmaster's letters, and those to nobody.

    :raises NotPossible, TryLater:
    """
    with accounts.change(lasting=True) as connection:
        if is_served(connection, domain_key(name)):
            raise NotPossible(f"{name} is there already; its aliases say who gets what: mailbe alias add")
        connection.execute(insert(DOMAINS), {"key": domain_key(name), "name": name})
        for local, target in ((POSTMASTER, postmaster), (CATCH_ALL, catch_all)):
            if target is not None:
                _lead(connection, Address(local, name), [target])


def remove_domain(accounts: Accounts, name: str) -> tuple[int, int]:
    """Serve the domain ``name`` no more, unless the server's options say so.

    Returns how many accounts and how many aliases it has, which stay.

    :raises NotPossible, TryLater:
    """
    key = domain_key(name)
    with accounts.change(lasting=True) as connection:
        if not connection.execute(delete(DOMAINS).where(DOMAINS.c.key == key)).rowcount:
            raise NotPossible(f"the domain {name} was not added here; one of --domain goes with that option")
        left = [
            sum(_in(each, key) for each in connection.execute(select(table.c.key)).scalars())
            for table in (ACCOUNTS, ALIASES)
        ]
    return left[0], left[1]


def _in(key: str, domain: str) -> bool:
    return key.rpartition("@")[2] == domain


def _lead(connection: Connection, address: Address, targets: Sequence[Address]) -> None:
    if resident(connection, address.key) is not None:
        raise NotPossible(f"{address} is an account; remove that first")
    id = alias(connection, address.key)
    if id is None:
        values = {"local": address.local, "domain": address.domain, "key": address.key}
        id = connection.execute(insert(ALIASES).returning(ALIASES.c.id), values).scalar_one()
    for target in targets:
        account, other = _ids(connection, target)
        if not (account or other):
            raise NotPossible(f"{target} is neither an account nor an alias here, and nothing is sent to other hosts")
        if other and id in _below(connection, other):
            raise NotPossible(f"{target} leads to {written(address)}: letters would go round for ever")
        this = {"alias": id, "account": account, "other": other}
        if connection.execute(_THERE, this).first() is None:
            connection.execute(insert(TARGETS), this)
    for above in connection.execute(_ABOVE, {"id": id}).scalars().all():
        if connection.execute(_COUNT, {"id": above}).scalar_one() > MOST:
            raise NotPossible(f"an alias leads to {MOST} accounts at most; more are for a mailing list's program")


def _ids(connection: Connection, target: Address) -> tuple[int, int]:
    """The id of the account that ``target`` is, and of the alias; 0 for what it is not."""
    account = connection.execute(select(ACCOUNTS.c.id).where(ACCOUNTS.c.key == target.key)).scalar()
    return account or 0, alias(connection, target.key) or 0


def _below(connection: Connection, alias: int) -> Iterator[int]:
    """The alias and all others that it leads to."""
    yield alias
    yield from connection.execute(_OTHERS, {"id": alias}).scalars()


def _resident(row: Row[Any, Any, Any, Any]) -> Resident:
    return Resident(Address(row.local, row.domain), row.octets, row.letters)


def _reached() -> CTE:
    """What the alias ``id`` leads to, directly and by others. A union has each once, so that it ends in a loop too."""
    begin = select(TARGETS.c.account, TARGETS.c.other).where(TARGETS.c.alias == bindparam("id"))
    reached = begin.cte("reached", recursive=True)
    return reached.union(select(TARGETS.c.account, TARGETS.c.other).where(TARGETS.c.alias == reached.c.other))


def _leading() -> CTE:
    """The alias ``id``, and those that lead to it."""
    leading = select(bindparam("id").label("id")).cte("leading", recursive=True)
    return leading.union(select(TARGETS.c.alias).where(TARGETS.c.other == leading.c.id))


_REACHED, _LEADING = _reached(), _leading()
_WITH_QUOTAS = ACCOUNTS.outerjoin(QUOTAS, QUOTAS.c.account == ACCOUNTS.c.id)
_RESIDENTS = select(ACCOUNTS.c.local, ACCOUNTS.c.domain, QUOTAS.c.octets, QUOTAS.c.letters)
_RESIDENT = _RESIDENTS.select_from(_WITH_QUOTAS).where(ACCOUNTS.c.key == bindparam("key"))
_MEMBERS = (
    _RESIDENTS.select_from(_WITH_QUOTAS).where(ACCOUNTS.c.id.in_(select(_REACHED.c.account))).order_by(ACCOUNTS.c.id)
)
_OTHERS = select(_REACHED.c.other).where(_REACHED.c.other != 0)
_COUNT = select(func.count(_REACHED.c.account.distinct())).where(_REACHED.c.account != 0)
# One that leads to nothing but another alias leads to as many as that, and there may be ten thousand of them.
_OWN_TARGETS = select(func.count()).where(TARGETS.c.alias == _LEADING.c.id).scalar_subquery()
_ABOVE = select(_LEADING.c.id).where((_LEADING.c.id == bindparam("id")) | (_OWN_TARGETS > 1))
_ALIAS = select(ALIASES.c.id).where(ALIASES.c.key == bindparam("key"))
# As a text: SQLAlchemy takes five times as long to know its own expression again as SQLite takes to answer it.
_KNOWN = text(
    "SELECT key FROM accounts WHERE key IN (SELECT value FROM json_each(:keys))"
    " UNION ALL SELECT key FROM aliases WHERE key IN (SELECT value FROM json_each(:keys))"
)
_SERVED = select(DOMAINS.c.key).where(DOMAINS.c.key == bindparam("key"))
_THERE = select(TARGETS.c.alias).where(
    TARGETS.c.alias == bindparam("alias"),
    TARGETS.c.account == bindparam("account"),
    TARGETS.c.other == bindparam("other"),
)
_TARGETS = (
    select(
        TARGETS.c.alias,
        func.coalesce(ACCOUNTS.c.local, ALIASES.c.local).label("local"),
        func.coalesce(ACCOUNTS.c.domain, ALIASES.c.domain).label("domain"),
    )
    .select_from(TARGETS)
    .outerjoin(ACCOUNTS, ACCOUNTS.c.id == TARGETS.c.account)
    .outerjoin(ALIASES, ALIASES.c.id == TARGETS.c.other)
    .order_by(TARGETS.c.alias, TARGETS.c.account, TARGETS.c.other)
)
