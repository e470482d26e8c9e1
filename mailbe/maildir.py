"""Maildirs: the names in them, listing them, and one maildrop as one session holds it.

A message's name is ``<unique part>[,S=<octets>][,W=<octets>][:2,<flags>]``. S is the size of the file, W its
size on the wire, where every line ends in CRLF. Our own files are stored as they crossed the wire, so both
are the same, and sending one is copying it. A file that another program has put there may have lines that
end in LF, and a name that tells no size: it is converted on its way out, and measured once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from zope.interface import implementer

from mailbe.durable import lock_folder, make_mailbox, named, sync_folder, trouble
from mailbe.interfaces import IMaildrop, LetterGone, MaildropBusy, NotAllDeleted, OffReactor, TryLater

CHUNK = 256 * 1024  # octets that are read at once
SETTLED = 1_000_000_000  # nanoseconds; coarser than any file system's clock ticks
SCANS = 5  # tries to read two folders in a moment of peace
REMEMBERED = 200_000  # messages in all the listings that are remembered

_WIRE_SIZE = re.compile(r",W=(\d+)")
_UID = re.compile(r"[!-~]{1,70}")  # RFC 1939 7, UIDL


def base(name: str) -> str:
    """A message's name without its flags: what stays the same as long as the message is there."""
    return name.partition(":")[0]


def unique_part(name: str) -> str:
    """What of a message's name no other message has, and no program changes."""
    return base(name).partition(",")[0]


@dataclass(frozen=True, slots=True)
class Listing:
    """The messages of one maildrop, oldest first, as they were at one moment."""

    names: list[str]
    """Each with its folder: ``new/…``, ``cur/…``."""
    sizes: list[int]
    """Octets on the wire."""
    uids: list[str]
    """Unique-ids."""
    measured: dict[str, int]
    """The sizes, by base name, that no name tells."""
    stamps: tuple[int, int] | None
    """The folders' times of change; ``None`` where the listing must not be believed again."""
    taken: int
    """When, in nanoseconds since 1970."""
    clock: int
    """What ``_clock`` said then."""

    def holds(self, stamps: tuple[int, int]) -> bool:
        """Whether this is what there is in folders that have these times of change."""
        now = time.time_ns()
        if stamps != self.stamps or abs(_clock() - self.clock) > SETTLED // 2:
            return False
        # A change within one tick of the file system's clock leaves no trace. So a stamp proves nothing where the
        # clock has stood since, or a little before.
        return not any(self.taken - SETTLED <= stamp <= now + SETTLED for stamp in stamps)


class Maildrops:
    """Opens maildrops, each for one session at a time, and remembers what was in them."""

    def __init__(self, off_reactor: OffReactor) -> None:
        self._off_reactor = off_reactor
        self._remembered: OrderedDict[Path, Listing] = OrderedDict()
        self._messages = 0

    async def open(self, mailbox: Path) -> Maildrop:
        """The maildrop of ``mailbox``, ours alone until its ``close``.

        :raises MaildropBusy, TryLater:
        """
        try:
            try:
                return await self._open(mailbox)
            except FileNotFoundError:
                # A new account has no mailbox yet, and one whose making was cut short lacks a folder.
                await self._off_reactor(partial(make_mailbox, mailbox))
                return await self._open(mailbox)
        except OSError as error:
            raise trouble(error) from error

    async def _open(self, mailbox: Path) -> Maildrop:
        try:
            lock = lock_folder(mailbox)
        except BlockingIOError:
            raise MaildropBusy from None
        try:
            return Maildrop(mailbox, await self._list(mailbox), lock, self._off_reactor)
        except BaseException:
            os.close(lock)
            raise

    async def _list(self, mailbox: Path) -> Listing:
        known = self._remembered.get(mailbox)
        if known is not None and known.holds(_stamps(mailbox)):
            self._remembered.move_to_end(mailbox)
            return known
        measured = known.measured if known is not None else {}
        listing = await self._off_reactor(partial(list_mailbox, mailbox, measured))
        self._forget(mailbox)
        self._remembered[mailbox] = listing
        self._messages += len(listing.names)
        while self._messages > REMEMBERED and self._remembered:
            self._forget(next(iter(self._remembered)))
        return listing

    def _forget(self, mailbox: Path) -> None:
        listing = self._remembered.pop(mailbox, None)
        if listing is not None:
            self._messages -= len(listing.names)


def _stamps(mailbox: Path) -> tuple[int, int]:
    return (mailbox / "new").stat().st_mtime_ns, (mailbox / "cur").stat().st_mtime_ns


def _clock() -> int:
    """What changes when somebody sets the clock, and hardly otherwise; in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


def list_mailbox(mailbox: Path, measured: dict[str, int]) -> Listing:
    """Read the names in ``mailbox``, and measure the files whose size neither a name nor ``measured`` tells.

    :raises OSError: where a part of it cannot be read: better no maildrop than half of one.
    """
    taken, clock = time.time_ns(), _clock()
    found, stamps = _scan(mailbox)
    names: list[str] = []
    sizes: list[int] = []
    still_measured: dict[str, int] = {}
    for name, folder in sorted(found.values()):
        told = _WIRE_SIZE.search(base(name))
        size = int(told[1]) if told else measured.get(base(name))
        if size is None:
            try:
                size = sum(map(len, _contents(mailbox / folder / name)))
            except FileNotFoundError:
                continue
        if not told:
            still_measured[base(name)] = size
        names.append(f"{folder}/{name}")
        sizes.append(size)
    return Listing(names, sizes, _uids(names), still_measured, stamps, taken, clock)


def _scan(mailbox: Path) -> tuple[dict[str, tuple[str, str]], tuple[int, int] | None]:
    """The names of all messages and their folders, by base name, and the folders' times of change.

    Another program may rename while we read: what it renames can be met twice, or not at all. So a scan
    counts when nothing has changed meanwhile; if things never calm down (``None`` for the times), all that
    was met in several scans is what there is.
    """
    met: dict[str, tuple[str, str]] = {}
    for _ in range(SCANS):
        before = _stamps(mailbox)
        found = {base(name): (name, folder) for folder in ("new", "cur") for name in _names(mailbox / folder)}
        if _stamps(mailbox) == before:
            return found, before
        met |= found
    return met, None


def _uids(names: list[str]) -> list[str]:
    bases = [base(name.partition("/")[2]) for name in names]
    parts = [unique_part(name) for name in bases]
    count = Counter(parts)
    return [
        part if count[part] == 1 and _UID.fullmatch(part) else _digest(name)
        for name, part in zip(bases, parts, strict=True)
    ]


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]


def _contents(path: Path) -> Iterator[bytes]:
    """The chunks of a file of a maildrop as they go over the wire. It is open when the first is asked for.

    :raises OSError:
    """
    try:
        with path.open("rb", buffering=0) as file:
            chunks = iter(partial(file.read, CHUNK), b"")
            size = os.fstat(file.fileno()).st_size
            yield from chunks if _is_as_on_wire(path.name, size) else _with_crlf(chunks)
    except OSError as error:
        raise named(error, path) from None


def _is_as_on_wire(name: str, size: int) -> bool:
    """Whether the file needs no converting: its name tells two equal sizes, and they are true."""
    return f",S={size},W={size}," in f"{base(name)},"


def _with_crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """``chunks`` with every line end, LF or CRLF, made CRLF, and one at the very end."""
    held = b""
    last = b"\n"
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if data:
            last = data[-1:]
            yield data
    if held or last != b"\n":
        yield held + b"\r\n"


@implementer(IMaildrop)
class Maildrop:
    """One maildrop as one session holds it; see ``IMaildrop``."""

    def __init__(self, mailbox: Path, listing: Listing, lock: int, off_reactor: OffReactor) -> None:
        self._mailbox = mailbox
        self._names = listing.names
        self._uids = listing.uids
        self._moved: dict[str, tuple[str, str]] = {}
        self._lock = lock
        self._off_reactor = off_reactor
        self.sizes = listing.sizes

    def close(self) -> None:
        """Let other sessions have the maildrop."""
        os.close(self._lock)

    def uid(self, index: int) -> str:
        return self._uids[index]

    def read(self, index: int) -> Iterable[bytes]:
        name = self._names[index]
        try:
            try:
                return _opened(self._mailbox / name)
            except FileNotFoundError:
                return _opened(self._mailbox / self._renamed(name))
        except FileNotFoundError as error:
            self._check_place()
            raise LetterGone from error
        except OSError as error:
            raise trouble(error) from error

    async def delete(self, indices: Iterable[int]) -> None:
        await self._off_reactor(partial(self._delete, [self._names[index] for index in indices]))

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
            (self._mailbox / name).unlink()
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                (self._mailbox / self._renamed(name)).unlink()

    def _renamed(self, name: str) -> str:
        """Where the message is now: another program may have moved it, or changed its flags.

        :raises FileNotFoundError: where it is gone.
        """
        wanted = base(name.partition("/")[2])
        for scanned in (False, True):
            if scanned:
                self._moved, _ = _scan(self._mailbox)
            there, folder = self._moved.get(wanted, ("", ""))
            if there and (self._mailbox / folder / there).exists():
                return f"{folder}/{there}"
        raise FileNotFoundError(name)


def _digest(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=20).hexdigest()


def _opened(path: Path) -> Iterable[bytes]:
    """The chunks of a message, from a file that is open already; who asks for them may meet ``TryLater``."""
    chunks = _contents(path)
    return chain([next(chunks, b"")], _or_trouble(chunks))


def _or_trouble(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except OSError as error:
        raise trouble(error) from error
