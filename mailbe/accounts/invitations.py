"""Invitations: who knows the code of one may register, as often as it has uses and until it ends.

A code is ``k7mq-x3wz-9hfd-p2ra``: of random letters and digits that nobody takes for others, in groups for people. The
file keeps its first group, by which an operator names it, and a digest of all of it; the code itself is shown once.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from mailbe.accounts.database import Accounts
from mailbe.accounts.schema import INVITATIONS

ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"  # neither 0 and o, nor 1, i and l, nor u, which is much like v
GROUPS, GROUP = 4, 4  # 78 bits; 59 for who has read the first group in the file


class NoSuchInvitation(Exception):
    """There is none of this code, or of this first group: it never was, it is used up, or it has ended."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """One that is good still."""

    label: str
    """The first group of its code."""
    uses: int
    """How many it began with."""
    remaining: int
    ends: float
    """Seconds since 1970."""


def add(accounts: Accounts, uses: int, ends: float) -> str:
    """Make an invitation for so many accounts, good until ``ends`` (seconds since 1970); returns its code.

    :raises TryLater:
    """
    with accounts.change(lasting=True) as connection:
        connection.execute(delete(INVITATIONS).where(INVITATIONS.c.ends <= time.time()))
        taken = set(connection.execute(select(INVITATIONS.c.label)).scalars())
        while (code := _new_code())[:GROUP] in taken:
            pass
        values = {"label": code[:GROUP], "digest": _digest(code), "uses": uses, "remaining": uses, "ends": ends}
        connection.execute(insert(INVITATIONS), values)
    return "-".join(code[begin : begin + GROUP] for begin in range(0, len(code), GROUP))


def all_good(accounts: Accounts) -> list[Invitation]:
    """Those that are good now, the first to end first.

    :raises TryLater:
    """
    good = select(INVITATIONS).where(INVITATIONS.c.ends > time.time()).order_by(INVITATIONS.c.ends)
    with accounts.change() as connection:
        return [_invitation(row) for row in connection.execute(good)]


def remove(accounts: Accounts, code: str) -> Invitation:
    """Remove the invitation of this code, or of this first group of one; returns what it was.

    :raises NoSuchInvitation, TryLater:
    """
    plain = _plain(code)
    with accounts.change(lasting=True) as connection:
        this = or_(INVITATIONS.c.label == plain, INVITATIONS.c.digest == _digest(plain))
        row = connection.execute(delete(INVITATIONS).where(this).returning(*INVITATIONS.c)).one_or_none()
    if row is None:
        raise NoSuchInvitation(f"there is no invitation {code[:40]!a}")
    return _invitation(row)


def find(connection: Connection, code: str, now: float) -> Invitation:
    """The invitation of this code, if it is good ``now`` (seconds since 1970).

    How long a refusal takes does not tell how near ``code`` was.

    :raises NoSuchInvitation:
    """
    row = connection.execute(select(INVITATIONS).where(INVITATIONS.c.digest == _digest(_plain(code)))).one_or_none()
    if row is None or row.ends <= now:
        raise NoSuchInvitation
    return _invitation(row)


def use(connection: Connection, invitation: Invitation) -> None:
    """Use it once. In the transaction in which it was found, so two cannot have the last of its uses."""
    this = INVITATIONS.c.label == invitation.label
    if invitation.remaining == 1:
        connection.execute(delete(INVITATIONS).where(this))
    else:
        connection.execute(update(INVITATIONS).where(this).values(remaining=invitation.remaining - 1))


def _new_code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(GROUPS * GROUP))


def _plain(code: str) -> str:
    """The code without what people may put between its letters."""
    return re.sub("[^a-z0-9]", "", code.lower())


def _digest(code: str) -> bytes:
    # Of so many random letters a digest that is quick to compute is as good as a slow one.
    return sha256(code.encode()).digest()


def _invitation(row: Row[Any, Any, Any, Any, Any]) -> Invitation:
    return Invitation(row.label, row.uses, row.remaining, row.ends)
