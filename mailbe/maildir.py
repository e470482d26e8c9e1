"""Maildrops: opening them, what is remembered of them, and one as one session holds it."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from zope.interface import implementer

from mailbe.durable import lock_folder, make_mailbox, sync_folder, trouble
from mailbe.interfaces import IMaildrop, LetterGone, MaildropBusy, NotAllDeleted, OffReactor, Terms, TryLater
from mailbe.letterfile import base, content
from mailbe.listing import Listing, list_mailbox, scan, times_of_change

FREE = Terms()
REMEMBERED = 200_000  # messages in all the listings that are remembered
EMPTY = 10  # messages that take as much memory as a listing without any


class Maildrops:
    """Opens maildrops, each for one session at a time, and remembers what was in them."""

    def __init__(self, off_reactor: OffReactor) -> None:
        self._off_reactor = off_reactor
        self._remembered: OrderedDict[Path, Listing] = OrderedDict()
        self._messages = 0

    async def open(self, mailbox: Path, terms: Terms = FREE) -> Maildrop:
        """The maildrop of ``mailbox``, ours alone until its ``close``, and what holds for it.

        :raises MaildropBusy, TryLater:
        """
        try:
            try:
                return await self._open(mailbox, terms)
            except FileNotFoundError:
                # A new account has no mailbox yet, and one whose making was cut short lacks a folder.
                await self._off_reactor(partial(make_mailbox, mailbox))
                return await self._open(mailbox, terms)
        except OSError as error:
            raise trouble(error) from error

    async def _open(self, mailbox: Path, terms: Terms) -> Maildrop:
        try:
            lock = lock_folder(mailbox)
        except BlockingIOError:
            raise MaildropBusy from None
        try:
            return Maildrop(mailbox, await self._list(mailbox), lock, self._off_reactor, terms)
        except BaseException:
            os.close(lock)
            raise

    async def _list(self, mailbox: Path) -> Listing:
        known = self._remembered.get(mailbox)
        if known is not None and known.holds(times_of_change(mailbox)):
            self._remembered.move_to_end(mailbox)
            return known
        measured = known.measured if known is not None else {}
        listing = await self._off_reactor(partial(list_mailbox, mailbox, measured))
        self._forget(mailbox)
        self._remembered[mailbox] = listing
        self._messages += EMPTY + len(listing.names)
        while self._messages > REMEMBERED and self._remembered:
            self._forget(next(iter(self._remembered)))
        return listing

    def _forget(self, mailbox: Path) -> None:
        listing = self._remembered.pop(mailbox, None)
        if listing is not None:
            self._messages -= EMPTY + len(listing.names)


@implementer(IMaildrop)
class Maildrop:
    """One maildrop as one session holds it; see ``IMaildrop``."""

    def __init__(self, mailbox: Path, listing: Listing, lock: int, off_reactor: OffReactor, terms: Terms) -> None:
        self.terms = terms
        self._mailbox = mailbox
        self._way = f"{mailbox}/"  # a text, as joining Paths would take longer than reading a letter
        self._listing = listing
        self._moved: dict[str, str] = {}
        self._lock = lock
        self._off_reactor = off_reactor
        self.sizes = listing.sizes
        self.surrogates = listing.surrogates
        self.octets = listing.octets

    def close(self) -> None:
        """Let other sessions have the maildrop."""
        os.close(self._lock)

    def uid(self, index: int) -> str:
        return self._listing.uids[index]

    def read(self, index: int) -> Iterable[bytes]:
        name, size = self._listing.names[index], self.sizes[index]
        try:
            try:
                return content(self._way + name, size)
            except FileNotFoundError:
                return content(self._way + self._renamed(name), size)
        except FileNotFoundError as error:
            self._check_place()
            raise LetterGone from error
        except OSError as error:
            raise trouble(error) from error

    async def delete(self, indices: Iterable[int]) -> None:
        await self._off_reactor(partial(self._delete, [self._listing.names[index] for index in indices]))

    def _check_place(self) -> None:
        """A letter that is not there was taken by another program only where the mailbox itself is there still.

        :raises TryLater:
        """
        try:
            there = os.path.samestat(os.fstat(self._lock), self._mailbox.stat())
        except OSError as error:
            raise trouble(error) from error
        if not there:
            raise TryLater(f"{self._mailbox}: this is not the mailbox that was opened")

    def _delete(self, names: list[str]) -> None:
        try:
            self._check_place()
        except TryLater as error:
            raise NotAllDeleted(str(error)) from error
        failures: list[str] = []
        for name in names:
            try:
                self._unlink(name)
            except OSError as error:
                failures.append(str(trouble(error)))
        for folder in ("new", "cur"):
            try:
                sync_folder(self._mailbox / folder)
            except OSError as error:
                failures.append(str(trouble(error)))
        if failures:
            raise NotAllDeleted("; ".join(failures[:3]))

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(self._way + name)  # noqa: PTH108
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._way + self._renamed(name))  # noqa: PTH108

    def _renamed(self, name: str) -> str:
        """Where the message is now: another program may have moved it, or changed its flags.

        :raises FileNotFoundError: where it is gone.
        """
        wanted = base(name.partition("/")[2])
        for scanned in (False, True):
            if scanned:
                self._moved, _ = scan(self._mailbox)
            there = self._moved.get(wanted)
            if there is not None and (self._mailbox / there).exists():
                return there
        raise FileNotFoundError(name)
