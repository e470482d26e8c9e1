"""Quotas: how much may lie in the mailbox of what arrives for an account.

The server has a default, an account may have its own. How much lies there is nowhere counted: ``rooms`` looks.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from mailbe.accounts.database import Account, Accounts
from mailbe.accounts.schema import QUOTAS
from mailbe.interfaces import Quota

NO_LIMIT = -1  # in place of a number; NULL is the server's default

_OWN = select(QUOTAS.c.octets, QUOTAS.c.letters)


def effective(octets: int | None, letters: int | None, default: Quota) -> Quota | None:
    """The quota of who has these of his own, see ``set_own``; ``None`` where nothing is limited."""
    quota = Quota(_limit(octets, default.octets), _limit(letters, default.letters))
    return None if quota == Quota() else quota


def own(accounts: Accounts, account: Account) -> tuple[int | None, int | None]:
    """The account's own octets and letters, as ``set_own`` takes them.

    :raises TryLater:
    """
    return accounts.answer(_own, account.id)


def set_own(accounts: Accounts, account: Account, octets: int | None, letters: int | None) -> None:
    """Give an account its own quota: numbers, ``NO_LIMIT``, or ``None`` for the server's.

    :raises TryLater:
    """
    with accounts.change(lasting=True) as connection:
        connection.execute(delete(QUOTAS).where(QUOTAS.c.account == account.id))
        if (octets, letters) != (None, None):
            connection.execute(insert(QUOTAS), {"account": account.id, "octets": octets, "letters": letters})


def _limit(own: int | None, default: int | None) -> int | None:
    return default if own is None else None if own == NO_LIMIT else own


def _own(connection: Connection, account: int) -> tuple[int | None, int | None]:
    row: Row[Any, Any] | None = connection.execute(_OWN.where(QUOTAS.c.account == account)).one_or_none()
    return (None, None) if row is None else (row.octets, row.letters)
