"""Looks after the letters that are held: releases each at its time, and tries again where that fails (RFC 4865).

Once a second somebody looks whether there is anything new, and what is due. A letter is linked into its mailboxes; then
its sender is told what he wants to know; then it is taken out of ``held``, or what is left to do is written down there.
Whatever crash comes between, nothing is lost, and after it the letter is looked for in each mailbox before it goes
there: what may come twice is a report.

Times to release at are those of the system's clock: set forward, it releases letters at once; set back, it keeps them.
Pauses between tries are measured with one that nobody sets.

What the envelopes say is in memory only while somebody tries: for a thousand recipients it may be a megabyte, and
each who may send can have a thousand such letters held.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from mailbe.durable import ABREAST, trouble
from mailbe.held import Held, Letter, Stamps
from mailbe.interfaces import OffReactor
from mailbe.listing import moment, unchanged
from mailbe.release import Release
from mailbe.slip import Damaged, Slip

EVERY = 1.0  # seconds
PAUSES = (300.0, 600.0, 1200.0, 2400.0)  # seconds between the first tries
LONGEST_PAUSE = 3600.0
RECIPIENTS = 1000  # of letters that are tried at a time; others want the processor, too
REMEDY = "mend it, or move the letter into new/ of a mailbox in reception/"

log = Logger()


@dataclass(slots=True)
class Entry:
    """A letter that waits, as this process knows it."""

    id: str
    letter: Letter
    release: float
    """When it is to be released, in seconds since 1970."""
    recipients: int
    """How many there are."""
    doubtful: bool
    """Whether it may lie in some of its mailboxes already, by a try that was cut off."""
    slip: Slip | None = None
    """As it is now; ``None``: as it stands on the disk."""
    tries: int = 0
    again: float = 0.0
    """When it may be tried, on the monotonic clock."""


class Holder:
    """Looks after the held letters of one maildata folder, of which no other process does."""

    def __init__(
        self,
        held: Held,
        release: Release,
        off_reactor: OffReactor,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param now: the time in seconds since 1970.
        :param monotonic: what pauses are measured with, in seconds.
        """
        self._held = held
        self._release = release
        self._off_reactor = off_reactor
        self._now = now
        self._monotonic = monotonic
        self._entries: list[Entry] = []  # by the time of their release
        self._stamps: Stamps | None = None  # the folders' times of change, when somebody last looked
        self._seen = (0, 0)  # and the moment
        self._known: set[str] = set()  # the ids of all that lay there then, whether or not it could be read
        self._was_there = False  # whether what is new to us has come since we are here
        self._complaints: set[str] = set()  # what the log says already
        self._ended = False

    def end(self) -> None:
        """Begin with no more letters: the service stops."""
        self._ended = True

    async def run(self) -> None:
        """Release what is due."""
        try:
            if not (await self._off_reactor(self._has_changed) or self._due()):
                return
            lock = await self._off_reactor(self._look)
        except OSError as error:
            if self._entries or not isinstance(error, FileNotFoundError):  # else it is nobody's loss
                self._complain({f"held letters cannot be looked at: {trouble(error)}"})
            self._entries, self._stamps, self._was_there = [], None, False
            return
        if lock is None:
            return
        try:
            while not self._ended and (due := self._due()):
                await self._try(_some(due))
        finally:
            os.close(lock)

    def _due(self) -> list[Entry]:
        now, monotonic = self._now(), self._monotonic()
        released = takewhile(lambda entry: entry.release <= now, self._entries)
        return [entry for entry in released if entry.again <= monotonic]

    async def _try(self, due: Sequence[Entry]) -> None:
        slips = await self._off_reactor(partial(self._read, due))
        tries = [Deferred.fromCoroutine(self._attempt(entry, slips.get(entry.id))) for entry in due]
        left = await gatherResults(tries, consumeErrors=True)
        for entry, slip in zip(due, left, strict=True):
            # Whether or not it can be written down: while we are here, nobody is told twice.
            entry.slip = None if slip == slips.get(entry.id) and entry.slip is None else slip
        over = await self._off_reactor(partial(self._write_down, due))
        self._entries = [entry for entry in self._entries if entry.id not in over]

    async def _attempt(self, entry: Entry, slip: Slip | None) -> Slip | None:
        now = self._now()
        pause = PAUSES[entry.tries] if entry.tries < len(PAUSES) else LONGEST_PAUSE
        deadline = None if slip is None else slip.envelope.deadline
        if deadline is not None and now < deadline.until:
            pause = min(pause, deadline.until - now + EVERY)
        entry.tries += 1
        entry.again = self._monotonic() + pause
        if slip is None or not slip.envelope.recipients:
            return slip
        doubtful, entry.doubtful = entry.doubtful, True
        try:
            return await self._release.attempt(entry.id, entry.letter, slip, now, doubtful=doubtful)
        except Exception:  # whatever it is, others wait too
            log.failure("{id} is not released now", id=entry.id)
            return slip

    # What takes its time, in a thread. Meanwhile the reactor's thread waits, and changes nothing of ours.

    def _has_changed(self) -> bool:
        stamps = self._held.stamps()
        if stamps is None or stamps != self._stamps:
            return stamps != self._stamps or not self._was_there
        return not unchanged(stamps, *self._seen)

    def _look(self) -> int | None:
        """Take the lock, and see what there is; returns its descriptor, ``None`` where there is nothing to do now."""
        seen = moment()
        stamps = self._held.stamps()
        if stamps is None:
            self._entries, self._stamps, self._was_there = [], None, True
            return None
        try:
            lock = self._held.lock()
        except BlockingIOError:  # one of the operator's commands has it
            return None
        try:
            self._held.complete()
            self._stamps = stamps if self._scan() else None
        except BaseException:
            os.close(lock)
            raise
        self._seen, self._was_there = seen, True
        return lock

    def _scan(self) -> bool:
        """See what there is; whether it need not be looked at again before it changes."""
        complaints = set()
        finished = True
        try:
            self._held.finish()
        except OSError as error:  # others must not wait for that
            complaints.add(f"letters that were released cannot be taken away: {trouble(error)}")
            finished = False
        letters, alone = self._held.scan()
        complaints |= {f"{path}: its envelope is missing; {REMEDY}" for path in alone}
        known = {entry.id: entry for entry in self._entries}
        entries = []
        for id, letter in letters.items():
            entry = known.get(id)
            if entry is not None and entry.letter.version == letter.version:
                entry.letter = letter  # another program may have moved it from new to cur
                entries.append(entry)
                continue
            try:
                slip = self._held.read(id)
            except Damaged as error:
                complaints.add(f"{self._held.envelope(id)}: {error}; {REMEDY}")
                continue
            except FileNotFoundError:
                continue  # both have just gone
            except OSError as error:  # others must not wait for this one
                complaints.add(f"{id} cannot be released: {trouble(error)}")
                finished = False
                continue
            doubtful = not self._was_there or id in self._known
            entries.append(Entry(id, letter, slip.release, len(slip.envelope.recipients), doubtful))
        self._known = set(letters)
        self._entries = sorted(entries, key=lambda entry: (entry.release, entry.id))
        self._complain(complaints)
        self._complaints = complaints
        return finished

    def _complain(self, lines: set[str]) -> None:
        for line in sorted(lines - self._complaints):
            log.error("{line}", line=line)
        self._complaints |= lines

    def _read(self, entries: Sequence[Entry]) -> dict[str, Slip]:
        """What is known of each, by its id. Of what cannot be read, the log says why; it is tried again later."""
        slips = {}
        for entry in entries:
            try:
                slips[entry.id] = self._held.read(entry.id) if entry.slip is None else entry.slip
            except (Damaged, OSError) as error:
                log.error("{id} is not released now: {error}", id=entry.id, error=str(error))
        return slips

    def _write_down(self, entries: Sequence[Entry]) -> set[str]:
        """Write down what is left to do; returns the ids of those of which nothing is, and which are gone."""
        over = []
        for entry in entries:
            if entry.slip is None:
                continue
            if not entry.slip.envelope.recipients:
                over.append(entry)
            else:
                try:
                    version = self._held.write(entry.id, entry.slip)
                except OSError as error:
                    log.error("{id}: its envelope cannot be changed now: {error}", id=entry.id, error=trouble(error))
                    continue
                entry.letter = replace(entry.letter, version=version)
                entry.recipients = len(entry.slip.envelope.recipients)
                entry.slip = None
        try:
            self._held.remove(entry.id for entry in over)
        except OSError as error:
            log.error("letters that were released cannot be taken away: {error}", error=trouble(error))
            return set()
        return {entry.id for entry in over}


def _some(due: Sequence[Entry]) -> Sequence[Entry]:
    """The first of them, as many as are tried at a time."""
    count = recipients = 0
    for entry in due[:ABREAST]:
        recipients += entry.recipients
        if count and recipients > RECIPIENTS:
            break
        count += 1
    return due[:count]
