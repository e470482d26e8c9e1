"""What is in a Maildir: its messages in order, at one moment, and whether that moment is still now."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mailbe.letterfile import base, contents, told_size, told_surrogate
from mailbe.surrogate import Surrogate

SETTLED = 1_000_000_000  # nanoseconds; coarser than any file system's clock ticks
TICK = 20_000_000  # nanoseconds; as coarse as the clock is that Linux stamps folders with
SCANS = 5  # tries to read two folders in a moment of peace

_UIDS = re.compile(r"(?:[!-~]{1,70}\0)*")  # RFC 1939 7, UIDL


@dataclass(frozen=True)
class Listing:
    """The messages of one maildrop, oldest first, as they were at one moment."""

    names: list[str]
    """Each with its folder: ``new/…``, ``cur/…``."""
    sizes: list[int]
    """Octets on the wire."""
    octets: int
    """All of them."""
    surrogates: dict[int, int]
    """By index, the sizes of those surrogates that are another size than their letters."""
    measured: dict[str, tuple[int, int]]
    """The sizes, by base name, that no name tells: the letter's, and its surrogate's."""
    stamps: tuple[int, int] | None
    """The folders' times of change; ``None`` where the listing must not be believed again."""
    taken: int
    """When, in nanoseconds since 1970."""
    clock: int
    """What ``_clock`` said then."""

    @cached_property
    def uids(self) -> list[str]:
        """Unique-ids: what stands before the first comma, which no program changes.

        Worked out for the first who asks: many never do.
        """
        bases = [base(name.partition("/")[2]) for name in self.names]
        parts = [name.partition(",")[0] for name in bases]
        # All of them at once, as nearly always all are good and no two the same.
        if _are_uids(parts) and len(set(parts)) == len(parts):
            return parts
        count = Counter(parts)
        return [
            part if count[part] == 1 and _are_uids([part]) else _digest(name)
            for name, part in zip(bases, parts, strict=True)
        ]

    def holds(self, stamps: tuple[int, int]) -> bool:
        """Whether this is what there is in folders that have these times of change."""
        return stamps == self.stamps and unchanged(stamps, self.taken, self.clock)


def unchanged(stamps: tuple[int, int], taken: int, clock: int) -> bool:
    """Whether folders that have these times of change, and had them when they were read, are as they were then.

    :param taken, clock: what ``moment`` said then.
    """
    now = time.time_ns()
    if abs(_clock() - clock) > SETTLED // 2:
        return False
    # A change within one tick of the file system's clock leaves no trace. So a stamp proves nothing where the
    # clock has stood since, or a little before.
    return not any(taken - SETTLED <= stamp <= now + SETTLED for stamp in stamps)


def times_of_change(mailbox: Path) -> tuple[int, int]:
    """When names in its two folders have last changed, in nanoseconds since 1970.

    :raises OSError:
    """
    # Not asked of Paths: making them would cost more than the asking.
    new, cur = os.stat(f"{mailbox}/new"), os.stat(f"{mailbox}/cur")  # noqa: PTH116
    return new.st_mtime_ns, cur.st_mtime_ns


def moment() -> tuple[int, int]:
    """Now, in nanoseconds since 1970, and what ``_clock`` says now."""
    return time.time_ns(), _clock()


def _clock() -> int:
    """What changes when somebody sets the clock, and hardly otherwise; in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


def list_mailbox(mailbox: Path, measured: dict[str, tuple[int, int]]) -> Listing:
    """Read the names in ``mailbox``, and measure the files whose size neither a name nor ``measured`` tells.

    :raises OSError: where a part of it cannot be read: better no maildrop than half of one.
    """
    taken, clock = moment()
    found, stamps = scan(mailbox)
    names: list[str] = []
    sizes: list[int] = []
    surrogates: dict[int, int] = {}
    still_measured: dict[str, tuple[int, int]] = {}
    for base_name in sorted(found):
        name = found[base_name]
        size = told_size(base_name)
        surrogate_size = told_surrogate(base_name) if ",A=" in base_name else None
        if size is None:
            both = measured.get(base_name)
            try:
                both = _measure(f"{mailbox}/{name}") if both is None else both
            except FileNotFoundError:
                continue
            still_measured[base_name] = both
            size, surrogate_size = both
        if surrogate_size is not None and surrogate_size != size:
            surrogates[len(names)] = surrogate_size
        names.append(name)
        sizes.append(size)
    return Listing(names, sizes, sum(sizes), surrogates, still_measured, stamps, taken, clock)


def _measure(path: str) -> tuple[int, int]:
    size = surrogate_size = 0
    letter = Surrogate()
    for chunk in contents(path):
        size += len(chunk)
        surrogate_size += len(letter.feed(chunk))
    return size, surrogate_size + len(letter.end())


def scan(mailbox: Path) -> tuple[dict[str, str], tuple[int, int] | None]:
    """The names of all messages, each with its folder, by base name, and the folders' times of change.

    Another program may rename while we read: what it renames can be met twice, or not at all. So a scan
    counts when nothing has changed meanwhile; if things never calm down (``None`` for the times), all that
    was met in several scans is what there is.
    """
    met: dict[str, str] = {}
    last: dict[str, str] | None = None
    for _ in range(SCANS):
        before, begun = times_of_change(mailbox), time.time_ns()
        found = {base(name): f"{folder}/{name}" for folder in ("new", "cur") for name in _names(mailbox / folder)}
        # A change within one tick of another leaves no trace; it does not happen twice in the same way.
        settled = max(before) < begun - TICK or found == last
        if settled and times_of_change(mailbox) == before:
            return found, before
        last = found
        met |= found
    return met, None


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]


def _are_uids(parts: list[str]) -> bool:
    return _UIDS.fullmatch("\0".join([*parts, ""])) is not None


def _digest(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=20).hexdigest()
