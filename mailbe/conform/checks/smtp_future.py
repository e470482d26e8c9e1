"""Letters that are held until a time (RFC 4865)."""

from __future__ import annotations

import time

from mailbe.conform.rules import MUST, Awaited, Differs, Steps, smtp
from mailbe.conform.sender import Smtp

HOLD = 5  # seconds; this is the last that is sent before the maildrop is looked at


@smtp("RFC 4865 4", MUST, offers="FUTURERELEASE")
def futurerelease_tells_its_limits(at: Smtp) -> None:
    """FUTURERELEASE has two parameters: the longest time in seconds, and the latest date."""
    words = at.needs("FUTURERELEASE")
    if len(words) != 2 or not words[0].isdecimal() or "T" not in words[1].upper():
        raise Differs("FUTURERELEASE seconds date-time", "EHLO", f"FUTURERELEASE {' '.join(words)}")


@smtp("RFC 4865 4", MUST, offers="FUTURERELEASE")
def holdfor_and_holduntil_are_taken(at: Smtp) -> None:
    """MAIL takes HOLDFOR with seconds, and HOLDUNTIL with a date."""
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    wire = at.ready()
    for parameter in ("HOLDFOR=60", f"HOLDUNTIL={soon}"):
        wire.want("250", at.mail(parameter))
        wire.need("250", "RSET")


@smtp("RFC 4865 4", MUST, offers="FUTURERELEASE")
def holds_that_are_none(at: Smtp) -> None:
    """Both at once, a value that is none, and a time above the limit are refused."""
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    longest = at.needs("FUTURERELEASE")[:1]
    wire = at.ready()
    wrong = [f"HOLDFOR=60 HOLDUNTIL={soon}", "HOLDFOR=soon", "HOLDUNTIL=tomorrow"]
    if longest and longest[0].isdecimal() and len(str(int(longest[0]) + 1)) <= 9:
        wrong.append(f"HOLDFOR={int(longest[0]) + 1}")
    for parameters in wrong:
        wire.want("5", at.mail(parameters), "501")


@smtp("RFC 4865 4", MUST, offers="FUTURERELEASE")
def a_letter_is_held(at: Smtp) -> Steps:
    """A letter with HOLDFOR comes, and not before its time."""
    letter = at.letter()
    begin = time.monotonic()
    at.send(letter, f"HOLDFOR={HOLD}")
    (stored,) = yield Awaited(letter.token)
    if stored.seen < begin + HOLD * 0.8:
        raise Differs(f"a letter after {HOLD} s", f"HOLDFOR={HOLD}", f"it after {stored.seen - begin:.1f} s")
