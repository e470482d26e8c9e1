"""Sizes and times as people read them."""

from __future__ import annotations

from datetime import datetime

KILO = 1000


def size(octets: int) -> str:
    """``512 B``, ``1.2 kB``, ``31 kB``, ``4.0 MB``: at most six columns, up to a terabyte."""
    if octets < KILO:
        return f"{octets} B"
    amount = float(octets)
    for unit in ("kB", "MB", "GB"):
        amount /= KILO
        if amount < 999.5 or unit == "GB":
            break
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"


def day(date: datetime | None) -> str:
    """The day and the time of a letter, in the time of this machine; nothing where it has no date."""
    return f"{local(date):%Y-%m-%d %H:%M}" if date else ""


def local(date: datetime) -> datetime:
    """``date`` in the time of this machine; a year that it cannot have there leaves it as it is."""
    try:
        return date.astimezone()
    except (OverflowError, ValueError, OSError):
        return date


def cut(text: str, most: int) -> str:
    """``text``, or so many characters of its beginning and how many there are more."""
    return text if len(text) <= most else f"{text[:most]}… [{len(text) - most} more characters]"


def count(number: int, thing: str) -> str:
    """``no letters``, ``1 letter``, ``2 letters``."""
    return f"{number or 'no'} {thing}{'' if number == 1 else 's'}"
