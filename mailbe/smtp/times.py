"""Times that MAIL asks for: how soon a letter is to be delivered (RFC 2852), or how late (RFC 4865)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mailbe.interfaces import Deadline
from mailbe.smtp.replies import Refusal

MAX_HOLD = 366 * 24 * 60 * 60  # seconds that a letter is kept back at most

_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)
_SECONDS = re.compile(r"[1-9][0-9]{0,8}")
_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,30}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Within:
    """In how many seconds a letter is to be delivered, and else what; see ``Deadline``."""

    seconds: int
    give_up: bool
    trace: bool

    def deadline(self, now: float) -> Deadline:
        """What it comes to where the time is ``now``."""
        return Deadline(now + self.seconds, self.give_up, self.trace)


@dataclass(frozen=True, slots=True)
class Hold:
    """How long a letter is to be kept back: for some time, or until one."""

    asked: str
    """As it was asked for, see ``Envelope.hold``."""
    seconds: int | None = None
    until: float = 0.0

    def release(self, now: float) -> float:
        """Until when, where the time is ``now``; both in seconds since 1970.

        :raises Refusal: where that is past, or too far away (RFC 4865 4.2).
        """
        release = self.until if self.seconds is None else now + self.seconds
        if not now < release <= now + MAX_HOLD:
            raise Refusal(501, "5.5.4 that time is past, or later than EHLO says")
        return release


def within(value: str | None) -> Within:
    """How soon a letter is to be delivered (BY)."""
    if value is None or not (match := _BY.fullmatch(value)):
        raise Refusal(501, "5.5.4 BY takes a number of seconds, a semicolon, and N, R, NT or RT")
    seconds, mode, trace = match.groups()
    give_up = mode.upper() == "R"
    if give_up and int(seconds) <= 0:
        raise Refusal(501, "5.5.4 a letter cannot be given up before it has come")
    return Within(int(seconds), give_up, bool(trace))


def hold_for(value: str | None) -> Hold:
    """How many seconds a letter is to be kept back (HOLDFOR)."""
    if value is None or not _SECONDS.fullmatch(value):
        raise Refusal(501, "5.5.4 HOLDFOR takes a number of seconds")
    return Hold(f"for;{value}", seconds=int(value))


def hold_until(value: str | None) -> Hold:
    """Until when a letter is to be kept back (HOLDUNTIL), as RFC 3339 5.6 writes times."""
    match = None if value is None else _DATE_TIME.fullmatch(value)
    until = None if match is None else _seconds(match)
    if until is None:
        raise Refusal(501, "5.5.4 HOLDUNTIL takes a time of the form 2030-12-31T23:59:59Z")
    return Hold(f"until;{value}", until=until)


def latest(now: float) -> str:
    """The latest time that can be asked for, as RFC 3339 5.6 writes it."""
    return datetime.fromtimestamp(int(now) + MAX_HOLD, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(match: re.Match[str]) -> float | None:
    """The time that was matched, in seconds since 1970; ``None`` where there is none such."""
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, *offset = match.groups()[6:]
    # RFC 3339 5.7: some minutes have a second more.
    leap = second == 60
    hours, minutes = map(int, offset) if sign else (0, 0)
    if hours > 23 or minutes > 59:
        return None
    try:
        local = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
        ahead = timedelta(hours=hours, minutes=minutes) * (-1 if sign == "-" else 1)
        return (local - ahead).timestamp() + leap + float(f"0.{fraction or 0}")
    except (ValueError, OverflowError):
        return None
