"""Letters that are held until a time (RFC 4865)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from mailbe.conform.rules import MUST, Awaited, Differs, Skip, Steps, smtp
from mailbe.conform.sender import Smtp

HOLD = 3  # seconds; these are the last that are sent before the maildrop is looked at
GRAIN = 1  # second; a server may count whole ones
SOON = timedelta(minutes=1)
_SECONDS = re.compile("[1-9][0-9]{0,8}")
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE)


@smtp("RFC 4865 3", MUST, offers="FUTURERELEASE")
def futurerelease_tells_its_limits(at: Smtp) -> None:
    """FUTURERELEASE has two parameters: the longest time in seconds, and the latest date."""
    words = at.needs("FUTURERELEASE")
    if len(words) != 2 or not _SECONDS.fullmatch(words[0]) or not _DATE.fullmatch(words[1]):
        raise Differs("FUTURERELEASE seconds date-time", "EHLO", f"FUTURERELEASE {' '.join(words)}")


@smtp("RFC 4865 3", MUST, offers="FUTURERELEASE")
def holdfor_and_holduntil_are_taken(at: Smtp) -> None:
    """MAIL takes HOLDFOR with seconds, and HOLDUNTIL with a date."""
    wire = at.ready()
    for parameter in (f"HOLDFOR={SOON.seconds}", f"HOLDUNTIL={_date(SOON)}"):
        wire.want("250", at.mail(parameter))
        wire.need("250", "RSET")


@smtp("RFC 4865 3", MUST, offers="FUTURERELEASE")
def holds_that_are_none(at: Smtp) -> None:
    """HOLDFOR and HOLDUNTIL at once are refused, and values that are none."""
    wire = at.ready()
    both = f"HOLDFOR={SOON.seconds} HOLDUNTIL={_date(SOON)}"
    for parameters in (both, "HOLDFOR=soon", "HOLDFOR=-5", "HOLDUNTIL=tomorrow", "HOLDUNTIL=2030-02-30T00:00:00Z"):
        wire.want("5", at.mail(parameters), "501")


@smtp("RFC 4865 4", MUST, offers="FUTURERELEASE")
def holds_beyond_the_limits(at: Smtp) -> None:
    """A time above the longest, and a date behind the latest that was told, are refused."""
    words = at.needs("FUTURERELEASE")
    if len(words) != 2 or not _SECONDS.fullmatch(words[0]) or not _DATE.fullmatch(words[1]):
        raise Skip("the limits are not well-formed")
    wire = at.ready()
    if _SECONDS.fullmatch(beyond := str(int(words[0]) + 1)):
        wire.want("5", at.mail(f"HOLDFOR={beyond}"), "501")
    latest = datetime.fromisoformat(words[1].upper())
    if latest.year < datetime.max.year:
        beyond = _written(latest + timedelta(days=1))  # it may move on with the clock
        wire.want("5", at.mail(f"HOLDUNTIL={beyond}"), "501")


@smtp("RFC 4865 4", MUST, offers="FUTURERELEASE")
def a_letter_is_held_for_a_time(at: Smtp) -> Steps:
    """A letter with HOLDFOR comes, and not before its time."""
    yield from _held(at, lambda: f"HOLDFOR={HOLD}")


@smtp("RFC 4865 4", MUST, offers="FUTURERELEASE")
def a_letter_is_held_until_a_date(at: Smtp) -> Steps:
    """A letter with HOLDUNTIL comes, and not before its date."""
    if not at.site.local:
        raise Skip("it is on another machine, whose clock may differ")
    yield from _held(at, lambda: f"HOLDUNTIL={_date(timedelta(seconds=HOLD))}")


def _held(at: Smtp, parameter: Callable[[], str]) -> Steps:
    letter = at.letter()
    wire = at.ready()  # before the date is told, which else might be past when it comes to MAIL
    begin = time.monotonic()
    said = parameter()  # not before, or a date in whole seconds might be nearer than a grain
    at.send(letter, said, wire)
    (stored,) = yield Awaited(letter.token)
    if stored.seen < begin + HOLD - GRAIN:
        raise Differs(f"a letter after {HOLD} s", said, f"it after {stored.seen - begin:.1f} s")


def _date(ahead: timedelta) -> str:
    return _written(datetime.now(UTC) + ahead)


def _written(date: datetime) -> str:
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
