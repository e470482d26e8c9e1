"""Letters that have to be delivered by a time (RFC 2852). None of these is sent: each ends with MAIL."""

from __future__ import annotations

import re

from mailbe.conform.rules import MUST, Differs, Skip, smtp
from mailbe.conform.sender import Smtp

FAR = 3600  # seconds
_OFFER = re.compile(r"(?P<least>[0-9]{1,9})?(?:,[!-+\--~]+)*")


@smtp("RFC 2852 2", MUST, offers="DELIVERBY")
def deliverby_tells_its_least_time(at: Smtp) -> None:
    """DELIVERBY has no parameter, or the least number of seconds that it takes with R, and others behind commas."""
    words = at.needs("DELIVERBY")
    if len(words) > 1 or not all(map(_OFFER.fullmatch, words)):
        raise Differs("DELIVERBY [seconds]", "EHLO", f"DELIVERBY {' '.join(words)}")


@smtp("RFC 2852 4", MUST, offers="DELIVERBY")
def deliverby_is_taken(at: Smtp) -> None:
    """MAIL takes BY with a time, to be returned (R) or told of (N) when it is over, and to be traced (T)."""
    seconds = max(FAR, _least(at))
    wire = at.ready()
    for value in (f"{seconds};R", f"{seconds};N", f"{seconds};RT", f"{seconds};NT", f"+{seconds};n"):
        wire.want("250", at.mail(f"BY={value}"))
        wire.need("250", "RSET")


@smtp("RFC 2852 4", MUST, offers="DELIVERBY")
def deliverby_may_be_over_already(at: Smtp) -> None:
    """With N the time may be zero or negative."""
    wire = at.ready()
    for value in ("0;N", "-5;N", "-5;NT"):
        wire.want("250", at.mail(f"BY={value}"))
        wire.need("250", "RSET")


@smtp("RFC 2852 4", MUST, offers="DELIVERBY")
def deliverby_that_is_none(at: Smtp) -> None:
    """BY without a mode, with one that is not known, or without a time, is refused."""
    wire = at.ready()
    for value in ("3600", "3600;X", "3600;T", "3600;TR", ";N", "soon;N", "1234567890;N"):
        wire.want("5", at.mail(f"BY={value}"), "501")


@smtp("RFC 2852 4", MUST, offers="DELIVERBY")
def deliverby_that_leaves_no_time(at: Smtp) -> None:
    """With R a time that is zero or negative is refused."""
    wire = at.ready()
    for value in ("0;R", "-5;R", "-5;RT"):
        wire.want("5", at.mail(f"BY={value}"), "501")


@smtp("RFC 2852 2", MUST, offers="DELIVERBY")
def deliverby_below_the_least_time(at: Smtp) -> None:
    """With R a time below the least one that was told is refused."""
    least = _least(at)
    if least < 2:
        raise Skip("no time is too short")
    at.ready().want("4 5", at.mail(f"BY={least - 1};R"), "501, or another refusal")


def _least(at: Smtp) -> int:
    found = _OFFER.fullmatch(" ".join(at.needs("DELIVERBY")))
    return int(found["least"] or 0) if found else 0
