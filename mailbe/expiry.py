"""Deletes letters whose time is over, where somebody has asked for that (RFC 2449 6.7, EXPIRE).

A letter's days begin when its file came to its place in the mailbox, or was last moved or linked there: it may stay
longer than was said, and never shorter. A maildrop that a session has open is left alone until the next time.
Nor does a clock that is set forward, for a year by mistake, delete all mail: from one look to the next it is a day
later at most, so there is time to see what the log says. How late it was at the last look is the time of the file
``expiry``, as most clocks are wrong when a machine, and so the server, has just begun.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from mailbe.accounts.terms import DAY, AccountTerms
from mailbe.durable import lock_folder, sync_folder, trouble
from mailbe.interfaces import TryLater
from mailbe.maildata import Maildata

EVERY = 3600.0  # seconds

log = Logger()


class Expiry:
    """Looks through the mailboxes of one maildata folder.

    :param now: the time in seconds since 1970.
    """

    def __init__(self, maildata: Maildata, terms: AccountTerms, now: Callable[[], float] = time.time) -> None:
        self._maildata = maildata
        self._terms = terms
        self._now = now
        self._ended = False
        self._mark = maildata.expiry

    def end(self) -> None:
        """Do no more: the service stops. Any thread may call this."""
        self._ended = True

    def run(self) -> int:
        """Delete what is too old, and return how many letters that was. Takes its time: not for the reactor's thread.

        What goes wrong with one mailbox is told in the log, and the others are looked through.
        """
        try:
            expiring = self._terms.expiring()
        except TryLater as error:
            log.warn("no letters expire now: {error}", error=error)
            return 0
        try:
            if not expiring:
                self._mark.unlink(missing_ok=True)
                return 0
            now = self._believed()
        except OSError as error:
            log.warn("no letters expire now: {error}", error=trouble(error))
            return 0
        count = 0
        for address, seconds in expiring:
            for mailbox in (self._maildata.reception(address), self._maildata.envoi(address)):
                if self._ended:
                    return count
                try:
                    gone = _delete(mailbox, now - seconds)
                except OSError as error:
                    log.warn("letters of {user} do not expire: {error}", user=str(address), error=trouble(error))
                    continue
                if gone:
                    log.info("{count} letters have expired in {mailbox}", count=gone, mailbox=str(mailbox))
                count += gone
        return count

    def _believed(self) -> float:
        """The time, or a day later than at the last look where that is before it.

        :raises OSError: where that cannot be known, or kept in mind.
        """
        now = self._now()
        try:
            looked = self._mark.stat().st_mtime
        except FileNotFoundError:
            looked = now
        if now > looked + DAY:
            days = (now - looked) / DAY
            log.warn("nobody has looked for {days:.0f} days, by the clock; letters expire a day at a time", days=days)
            now = looked + DAY
        self._mark.touch(mode=0o600)
        os.utime(self._mark, (now, now))
        return now


def _delete(mailbox: Path, before: float) -> int:
    """Delete the letters that came to ``mailbox`` before a time; how many, safely on the disk."""
    try:
        if not _old(mailbox, before):
            return 0  # as nearly always, and nobody has met a lock
        lock = lock_folder(mailbox)
    except (FileNotFoundError, BlockingIOError):  # it has no letters yet; a session has it open
        return 0
    try:
        old = _old(mailbox, before)
        for path in old:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in old}:
            sync_folder(folder)
        return len(old)
    finally:
        os.close(lock)


def _old(mailbox: Path, before: float) -> list[Path]:
    found = []
    for folder in ("new", "cur"):
        with os.scandir(mailbox / folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                    try:
                        times = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # another program has just moved it
                    if times.st_ctime < before:
                        found.append(Path(entry.path))
    return found
