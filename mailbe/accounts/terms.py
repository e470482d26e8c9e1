"""The terms of maildrops: how long letters are kept, and how soon one may log in again (RFC 2449 6.5, 6.7).

The server has its defaults, an account may have its own. When a maildrop was opened last stands in the account
database too, so all processes know, and a restart changes nothing; it is written only where somebody has to wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import Connection, Row, bindparam, delete, insert, select
from twisted.logger import Logger

from mailbe.accounts.database import Account, Accounts
from mailbe.accounts.schema import ACCOUNTS, FETCHED, TERMS
from mailbe.address import Address
from mailbe.interfaces import Announcement, LoginTooSoon, Terms, TryLater

FOR_EVER = -1  # in place of days
DAY = 86400.0  # seconds

log = Logger()


class AccountTerms:
    """The terms of the maildrops of ``accounts``; ``defaults`` are those of who has none of his own.

    ``announced``, ``of``, ``own`` and ``check`` belong to the one thread that asks ``accounts``; the others wait for
    the disk and may run in any. All raise ``TryLater`` where the file cannot be used now.

    :param now: the time in seconds since 1970.
    """

    def __init__(self, accounts: Accounts, defaults: Terms, now: Callable[[], float] = time.time) -> None:
        self._accounts = accounts
        self._defaults = defaults
        self._now = now

    def announced(self) -> Announcement:
        """What can be said to who has not logged in."""
        try:
            return self._accounts.answer(_announced, self._defaults)
        except TryLater:  # nobody can log in now, and who tries is told so
            return Announcement(self._defaults)

    def of(self, address: Address) -> Terms:
        """The terms of this account's maildrops. Its log-in was judged a moment ago, see ``Accounts.answer``."""
        own = self._accounts.answer(_own, address.key, same_look=True)
        return self._defaults if own is None else _terms(own.days, own.delay, self._defaults)

    def own(self, address: Address) -> tuple[int | None, int | None]:
        """The account's own days (``FOR_EVER``) and delay; ``None`` for what are the server's."""
        own = self._accounts.answer(_own, address.key)
        return (None, None) if own is None else (own.days, own.delay)

    def check(self, address: Address, delay: int, *, sent: bool) -> None:
        """See that it is so many seconds since the maildrop was opened.

        :raises LoginTooSoon:
        """
        self._check(self._accounts.answer(_fetched, (address.key, sent)), delay)

    def opened(self, address: Address, delay: int, *, sent: bool) -> None:
        """Write down that it is opened now.

        :raises LoginTooSoon: where it was meanwhile.
        """
        try:
            with self._accounts.change() as connection:
                self._check(_fetched(connection, (address.key, sent)), delay)
                account = select(ACCOUNTS.c.id).where(ACCOUNTS.c.key == address.key).scalar_subquery()
                here = (FETCHED.c.account == account, FETCHED.c.sent == sent)
                connection.execute(delete(FETCHED).where(*here))
                values = select(ACCOUNTS.c.id, bindparam("sent", sent), bindparam("at", self._now()))
                values = values.where(ACCOUNTS.c.key == address.key)
                connection.execute(insert(FETCHED).from_select(["account", "sent", "at"], values))
        except TryLater as error:
            log.error("a log-in of {user} is not written down: {reason}", user=str(address), reason=str(error))

    def set(self, account: Account, *, days: int | None, delay: int | None) -> None:
        """Give an account terms of its own: days, or ``FOR_EVER``, and seconds; ``None``: the server's."""
        with self._accounts.change(lasting=True) as connection:
            connection.execute(delete(TERMS).where(TERMS.c.account == account.id))
            if days is not None or delay is not None:
                connection.execute(insert(TERMS), {"account": account.id, "days": days, "delay": delay})

    def expiring(self) -> list[tuple[Address, float]]:
        """Whose letters do not stay for ever, and how many seconds they stay."""
        with self._accounts.change() as connection:
            rows = connection.execute(_EVERY).all()
        terms = [(Address(row.local, row.domain), _terms(row.days, row.delay, self._defaults).days) for row in rows]
        return [(address, days * DAY) for address, days in terms if days is not None]

    def _check(self, last: float | None, delay: int) -> None:
        # The distance: a clock that was set back, by however much, makes nobody wait for longer than twice that.
        if last is not None and abs(self._now() - last) < delay:
            raise LoginTooSoon


def _terms(days: int | None, delay: int | None, defaults: Terms) -> Terms:
    if days is None:
        days = defaults.days
    return Terms(None if days == FOR_EVER else days, defaults.delay if delay is None else delay)


_JOINED = ACCOUNTS.join(TERMS, TERMS.c.account == ACCOUNTS.c.id)
_OWN = select(TERMS.c.days, TERMS.c.delay).select_from(_JOINED).where(ACCOUNTS.c.key == bindparam("key"))
_EVERY = select(ACCOUNTS.c.local, ACCOUNTS.c.domain, TERMS.c.days, TERMS.c.delay).select_from(
    ACCOUNTS.outerjoin(TERMS, TERMS.c.account == ACCOUNTS.c.id)
)
_FETCHED = (
    select(FETCHED.c.at)
    .select_from(ACCOUNTS.join(FETCHED, FETCHED.c.account == ACCOUNTS.c.id))
    .where(ACCOUNTS.c.key == bindparam("key"), FETCHED.c.sent == bindparam("sent"))
)
_DISTINCT = select(TERMS.c.days, TERMS.c.delay).distinct()


def _own(connection: Connection, key: str) -> Row[Any, Any] | None:
    return connection.execute(_OWN, {"key": key}).one_or_none()


def _fetched(connection: Connection, about: tuple[str, bool]) -> float | None:
    key, sent = about
    return cast("float | None", connection.execute(_FETCHED, {"key": key, "sent": sent}).scalar())


def _announced(connection: Connection, defaults: Terms) -> Announcement:
    rows = connection.execute(_DISTINCT)
    every = {defaults, *(_terms(row.days, row.delay, defaults) for row in rows)}
    days, delays = {terms.days for terms in every}, {terms.delay for terms in every}
    fewest = min((each for each in days if each is not None), default=None)
    return Announcement(Terms(fewest, max(delays)), days_differ=len(days) > 1, delays_differ=len(delays) > 1)
