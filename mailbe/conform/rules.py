"""What a rule is, how a check tells that a server keeps it, and the table of all of them.

A check is a function that holds a conversation; its docstring is the rule in our words, its decorator says where it
is written and how much it binds. It returns where the rule is kept, and raises ``Differs`` where it is not. What
stands in the way of a judgement is ``Unclear``, and is no fault of the server.

A check that sends a letter to be looked at is a generator: it yields ``Awaited`` and is handed what the maildrop holds
of it, when all letters have come. So one log-in fetches the letters of all checks.

Where an RFC tells in plain indicative what a server does, that is taken for a MUST, as RFC 1939 throughout; what it
leaves free is a MAY, and then not doing so is no fault.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from mailbe.conform.letters import Stored
    from mailbe.conform.maildrop import Pop3
    from mailbe.conform.sender import Smtp


class Level(enum.Enum):
    """How much a rule binds (RFC 2119)."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


MUST, SHOULD, MAY = Level


class Verdict(enum.Enum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    ABSENT = "absent"
    """What the RFC allows is not there; no fault."""
    SKIPPED = "skipped"
    """There is nothing to judge: the extension is not offered, or there is no way to look."""
    UNCLEAR = "unclear"
    """The conversation took another way before it came to the point."""


class Differs(Exception):
    """The server does not keep the rule."""

    def __init__(self, wanted: str, sent: str, got: str) -> None:
        super().__init__(f"sent {sent}, got {got}, wanted {wanted}")
        self.wanted, self.sent, self.got = wanted, sent, got


class Unclear(Exception):
    """The rule cannot be judged; the message says why."""


class Skip(Exception):
    """The rule does not apply here; the message says why."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Letters that a check wants to see, or not to see."""

    token: str
    """What stands in them, and in no other letter."""
    count: int = 1
    """How many to wait for; they are looked for once more when all others have come."""


Steps: TypeAlias = Generator[Awaited, "Sequence[Stored]", None]
_At = TypeVar("_At", "Smtp", "Pop3")


class Family(enum.Enum):
    """Which listeners a check is for."""

    SMTP = "smtp"
    POP3 = "pop3"
    SMTP_TLS = "smtp in TLS"
    """Those with TLS from the first octet."""
    POP3_TLS = "pop3 in TLS"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    name: str
    text: str
    level: Level
    section: str
    """RFC and section."""
    family: Family
    offers: str
    """The extension or capability that must be offered; empty: none."""
    check: Callable[..., Steps | None]


RULES: list[Rule] = []


def smtp(
    section: str, level: Level, *, offers: str = "", family: Family = Family.SMTP
) -> Callable[[Callable[[Smtp], Steps | None]], Callable[[Smtp], Steps | None]]:
    """Put an SMTP check into the table."""
    return _row(section, level, offers, family)


def pop3(
    section: str, level: Level, *, offers: str = "", family: Family = Family.POP3
) -> Callable[[Callable[[Pop3], Steps | None]], Callable[[Pop3], Steps | None]]:
    """Put a POP3 check into the table."""
    return _row(section, level, offers, family)


def _row(
    section: str, level: Level, offers: str, family: Family
) -> Callable[[Callable[[_At], Steps | None]], Callable[[_At], Steps | None]]:
    def enter(check: Callable[[_At], Steps | None]) -> Callable[[_At], Steps | None]:
        assert check.__doc__, check.__name__
        text = " ".join(check.__doc__.split())
        RULES.append(Rule(check.__name__.replace("_", "-"), text, level, section, family, offers, check))
        return check

    return enter
