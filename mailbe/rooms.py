"""How full the mailboxes are that have a quota.

Nobody counts what is delivered and deleted: other processes do both, and so do other programs. What lies in a mailbox
is what the names in it tell, so somebody must look. That there is room is believed for a second, and only as long as
several times what we have delivered since would fit, as other processes may have delivered as much; then the folders'
times of change tell whether to look again. That there is none is believed only while these times prove it. So what is
deleted makes room at once, and a mailbox gets more than its quota by little else than what is on its way when it fills.

A look that took long, as into a mailbox of 100,000 letters, is believed for twenty times as long, whatever it found:
else who sends there again and again would have somebody look all the time, and everybody wait.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailbe.durable import trouble
from mailbe.interfaces import OffReactor, OverQuota, Quota
from mailbe.letterfile import told_size
from mailbe.listing import moment, scan, times_of_change, unchanged

BELIEVED = 1.0  # seconds
LONG = 0.01  # seconds of a processor's time: the look into some thousands of letters
REST = 20  # times as long as such a look took, nobody looks again
SHARE = 8  # processes that may be delivering as much as we do
REMEMBERED = 10_000  # mailboxes

Limited = tuple[Path, Quota]


@dataclass(slots=True)
class Usage:
    """What lay in one mailbox when somebody looked, and what we have delivered since."""

    letters: int = 0
    octets: int = 0
    new_letters: int = 0
    new_octets: int = 0
    """Of these the look may have seen some: it takes its time."""
    stamps: tuple[int, int] | None = None
    """The folders' times of change; ``None`` where they prove nothing."""
    seen: tuple[int, int] = (0, 0)
    """The ``moment`` when somebody looked."""
    believed: float = 0.0
    """Until when, on the monotonic clock, it is taken for what lies there if it has room."""
    took: float = 0.0
    """Seconds of a processor's time that the look took."""
    rest: float = 0.0
    """Until when it is taken for that in any case."""

    def has_room(self, quota: Quota, octets: int, *, share: int = 1) -> bool:
        """Whether a letter of so many octets fits, where so many processes have delivered as much as we have."""
        letters, more = self.letters + share * self.new_letters, self.octets + share * self.new_octets
        return quota.has_room(letters, more, octets)


class Rooms:
    """Knows, for one process, how much lies in the mailboxes that it delivers to. It belongs to one thread."""

    def __init__(self, off_reactor: OffReactor, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._off_reactor = off_reactor
        self._monotonic = monotonic
        self._known: OrderedDict[Path, Usage] = OrderedDict()
        self._looking: dict[Path, list[Deferred[Usage | Exception]]] = {}

    def check(self, mailboxes: Iterable[Limited], octets: int) -> Awaitable[None] | None:
        """See that each has room for a letter of so many octets; see ``IPostOffice.room``.

        :raises OverQuota:
        """
        doubtful = [each for each in mailboxes if not self._has_room(*each, octets)]
        return self._look_closely(doubtful, octets) if doubtful else None

    def delivered(self, mailbox: Path, octets: int) -> None:
        """We have put a letter of so many octets there."""
        if (known := self._known.get(mailbox)) is not None:
            known.new_letters += 1
            known.new_octets += octets
            known.stamps = None  # it may have been there when they were taken, and would count twice for ever

    def _has_room(self, mailbox: Path, quota: Quota, octets: int) -> bool:
        known = self._known.get(mailbox)
        if known is None or not known.has_room(quota, octets, share=SHARE):
            return False
        now = self._monotonic()
        if now < known.believed:
            return True
        if self._is_true(mailbox, known):
            known.believed = now + BELIEVED
            return True
        return False

    def _is_true(self, mailbox: Path, known: Usage) -> bool:
        """Whether nothing has changed since somebody looked; so we have delivered nothing either."""
        try:
            stamps = times_of_change(mailbox)
        except OSError:
            return False
        return stamps == known.stamps and unchanged(stamps, *known.seen)

    async def _look_closely(self, mailboxes: Sequence[Limited], octets: int) -> None:
        for mailbox, quota in mailboxes:
            known = self._known.get(mailbox)
            if known is None or not (self._monotonic() < known.rest or self._is_true(mailbox, known)):
                known = await self._look(mailbox)
            if not known.has_room(quota, octets):
                raise OverQuota(str(mailbox))

    async def _look(self, mailbox: Path) -> Usage:
        """What lies there now. Who comes while somebody looks waits for what he sees."""
        mine: Deferred[Usage | Exception] = Deferred()
        waiting = self._looking.setdefault(mailbox, [])
        waiting.append(mine)
        if len(waiting) == 1:
            before = self._known.get(mailbox) or self._remember(mailbox, Usage())
            known = before.new_letters, before.new_octets
            self._off_reactor(partial(usage, mailbox)).addBoth(self._looked, mailbox, before, known)
        seen = await mine
        if isinstance(seen, Exception):
            raise seen
        return seen

    def _looked(self, seen: Usage | Failure, mailbox: Path, before: Usage, known: tuple[int, int]) -> None:
        if isinstance(seen, Usage):
            seen.new_letters, seen.new_octets = before.new_letters - known[0], before.new_octets - known[1]
            if seen.new_letters:
                seen.stamps = None
            now = self._monotonic()
            seen.rest = now + REST * seen.took if seen.took > LONG else 0.0
            seen.believed = max(now + BELIEVED, seen.rest)
            self._remember(mailbox, seen)
        for each in self._looking.pop(mailbox):
            each.callback(seen if isinstance(seen, Usage) else cast(Exception, seen.value))

    def _remember(self, mailbox: Path, usage: Usage) -> Usage:
        self._known[mailbox] = usage
        self._known.move_to_end(mailbox)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return usage


def usage(mailbox: Path) -> Usage:
    """What lies in ``mailbox``. Takes its time where that is much.

    :raises TryLater:
    """
    seen, begun = moment(), time.thread_time()
    octets = 0
    try:
        names, stamps = scan(mailbox)
        for base_name, name in names.items():
            size = told_size(base_name)
            if size is None:
                with suppress(FileNotFoundError):  # another program has just moved it
                    size = os.stat(f"{mailbox}/{name}").st_size  # noqa: PTH116
            octets += size or 0
    except FileNotFoundError:
        return Usage()  # it is made with its first letter
    except OSError as error:
        raise trouble(error) from error
    return Usage(len(names), octets, stamps=stamps, seen=seen, took=time.thread_time() - begun)
