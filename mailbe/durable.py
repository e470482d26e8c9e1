"""Safely on the disk: folders, and letters that share one wait for it.

A letter is written once, under its id, into the spool, and is linked from there into ``new/`` of every
mailbox that it goes to. It is acknowledged when all this is on the disk, in this order:

1. its octets (fsync of the file);
2. its names (a link a mailbox, then fsync of each ``new/``);
3. its name in the spool is taken away, and who waits is told.

So a letter in a mailbox is always whole, and what still lies in the spool is nowhere missed: it was never
acknowledged, or could not be taken away when it was in its mailboxes.
Letters that become ready while the disk is busy go through these steps together.

What an fsync that fails has lost, a second one does not tell: the system takes it for written. So nothing goes on
from there: a letter is thrown away, and a folder that was just made is taken away again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailbe.interfaces import MailboxFull, TryLater

log = Logger()

SMALL = 64 * 1024  # octets of a letter that stay in memory until it is complete
MAX_LEFT = 10_000  # names that could not be taken away and are kept in mind
ABREAST = 64  # letters that share the wait, and have a file open each meanwhile
LEFT_AT_ONCE = 10  # of them that are tried with each batch of letters
FOLDERS = ("tmp", "new", "cur")


def named(error: OSError, path: Path) -> OSError:
    """``error``, which names ``path`` if it named no file, as those of reading, writing and fsync do not."""
    error.filename = error.filename or str(path)
    return error


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk.

    :raises OSError:
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise named(error, folder) from None
    finally:
        os.close(descriptor)


def lock_folder(folder: Path, *, wait: bool = False) -> int:
    """An exclusive lock on a folder; it ends with its descriptor, so a crash frees it. Returns the descriptor.

    :param wait: whether to wait while another process, or another part of this one, has it.
    :raises BlockingIOError: where another has it, and that is not waited for.
    :raises OSError:
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise named(error, folder) from None
    return descriptor


def sync_way(folder: Path) -> None:
    """Wait until ``folder``'s own name is on the disk, and those of all folders above it.

    They may have been made a moment ago, by somebody who did not wait: what they lead to would go with them.

    :raises OSError:
    """
    for above in folder.absolute().parents:
        try:
            sync_folder(above)
        except OSError as error:
            # Some we may pass through and not open; and where nothing is ever written, nothing is to be synced.
            if error.errno not in (errno.EACCES, errno.EINVAL, errno.EROFS):
                raise


def make_folder(folder: Path) -> None:
    """Make ``folder`` and what is missing above it, each on the disk before the next; others may not look in.

    :raises OSError:
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    with _making(folder):
        sync_folder(folder)  # fails where a file has the name
        sync_folder(folder.parent)


def make_mailbox(mailbox: Path) -> None:
    """Make what is missing of a Maildir, safely on the disk; the folder above it must be there.

    If that is not there, the disk that it lay on has gone, and an empty mailbox made in its place would
    look like one whose letters were all deleted.

    :raises OSError:
    """
    lock = lock_folder(mailbox.parent, wait=True)  # of several processes, too, one at a time
    try:
        with _making(mailbox, *(mailbox / name for name in FOLDERS)):
            sync_folder(mailbox)
            sync_folder(mailbox.parent)
    finally:
        os.close(lock)


_one_maker = Lock()


@contextmanager
def _making(*folders: Path) -> Iterator[None]:
    """Make what is missing of ``folders``; take it away again where that fails, or what is done with them then.

    Who comes next must not find a folder whose fsync has failed: another fsync would tell him that all is well.
    """
    made: list[Path] = []
    with _one_maker:  # nor may he find it meanwhile
        try:
            for folder in folders:
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                    made.append(folder)
            yield
        except OSError:
            for folder in reversed(made):
                # A disk that does not take this takes nothing else before it is mended, and then it tells the truth.
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


def trouble(error: OSError) -> TryLater:
    """What a storage error means to who has to wait for its end."""
    where = ascii(str(error.filename or "maildata"))[1:-1]  # other programs name files as they like
    kind = MailboxFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else TryLater
    return kind(f"{where}: {error.strerror}")


class Draft:
    """A letter on its way in: in memory while it is small, in a file of the spool when it is not."""

    def __init__(self, path: Path, memory: int = SMALL) -> None:
        """:param memory: octets that are kept in memory."""
        self.path = path
        self.octets = 0
        self._memory = memory
        self._content = bytearray()  # and no list of chunks: of two octets each, they would take twenty times the room
        self._descriptor: int | None = None
        self._in_spool = False

    def write(self, chunk: bytes) -> None:
        """Take the next octets.

        :raises OSError:
        """
        self.octets += len(chunk)
        self._content += chunk
        if self._descriptor is not None or self.octets > self._memory:
            self._write_out()

    def begin(self) -> None:
        """Have the disk begin with the octets, and wait for nothing.

        :raises OSError:
        """
        self._write_out()
        assert self._descriptor is not None
        # What this is meant for is to give memory back; to that end the system begins to write at once.
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Wait until the octets are on the disk, under the draft's name.

        :raises OSError: and the draft is of no use any more: what a failed fsync has lost it does not tell twice.
        """
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise named(error, self.path) from None
        self._close()

    def forget(self) -> bool:
        """Forget its octets. Returns whether its name in the spool is to be taken away; that is told once."""
        self._content.clear()
        self._close()
        in_spool, self._in_spool = self._in_spool, False
        return in_spool

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):  # fsync has told already what there is to tell
                os.close(descriptor)

    def _write_out(self) -> None:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
            self._in_spool = True
        octets = memoryview(self._content)
        self._content = bytearray()
        try:
            while octets:
                octets = octets[os.write(self._descriptor, octets) :]
        except OSError as error:
            raise named(error, self.path) from None


class Shelved:
    """A letter that is on the disk already, under a name that stays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> None:
        """There is nothing to be written."""

    def sync(self) -> None:
        """It was synced before it got its name."""

    def forget(self) -> bool:
        """Its name is not for who stores it to take away."""
        return False


@dataclass(frozen=True, slots=True)
class Parcel:
    """A letter that is complete: what, under which name, and into which mailboxes."""

    draft: Draft | Shelved
    name: str
    mailboxes: tuple[Path, ...]


class Writer:
    """Stores letters, as many at a time as are waiting, in a thread of its own."""

    def __init__(self, call_from_thread: Callable[[Callable[[], None]], object]) -> None:
        """:param call_from_thread: runs a function in the thread that ``store`` is called from."""
        self._call_from_thread = call_from_thread
        self._waiting: SimpleQueue[tuple[Parcel, Deferred[None]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="mailbe writer")
        self._made: set[Path] = set()  # mailboxes whose folders are known to be on the disk
        self._left: deque[Path] = deque(maxlen=MAX_LEFT)  # names that could not be taken away

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Store what is waiting, and end."""
        self._waiting.put(None)
        self._thread.join()

    def store(self, parcel: Parcel) -> Deferred[None]:
        """Fires when ``parcel`` is safe on the disk in all its mailboxes.

        Fails with ``TryLater`` (or ``MailboxFull``), and then it is in none.
        """
        done: Deferred[None] = Deferred()
        self._waiting.put((parcel, done))
        return done

    def discard(self, draft: Draft | Shelved) -> None:
        """Take away what there is of ``draft``. What cannot be is told in the log, and tried again with each letter."""
        if draft.forget():
            self._take_away([draft.path])

    def remove(self, parcel: Parcel) -> None:
        """Take a parcel that was stored out of its mailboxes again, as ``discard`` takes away drafts."""
        self._take_away([mailbox / "new" / parcel.name for mailbox in parcel.mailboxes])

    def _take_away(self, names: Iterable[Path]) -> None:
        for name in names:
            if error := _remove(name):
                self._left.append(name)
                line = "cannot be taken away now, and is tried again with other letters: {error}"
                self._call_from_thread(partial(log.error, line, error=str(trouble(error))))

    def _keep(self, name: Path) -> None:
        """``name`` is not to be taken away any more. Others may add theirs meanwhile."""
        for _ in range(len(self._left)):
            if (each := self._left.popleft()) != name:
                self._left.append(each)

    def _take_away_what_is_left(self) -> None:
        for _ in range(min(len(self._left), LEFT_AT_ONCE)):
            name = self._left.popleft()
            if _remove(name):
                self._left.append(name)

    def _work(self) -> None:
        while batch := self._next_batch():
            outcome: list[Exception | None]
            try:
                outcome = self.store_all([parcel for parcel, _ in batch])
            except Exception as error:  # whatever it is, these wait for an answer, and more will come
                outcome = [error] * len(batch)
            self._call_from_thread(partial(_tell, [done for _, done in batch], outcome))

    def _next_batch(self) -> list[tuple[Parcel, Deferred[None]]]:
        """Those that wait, and at least one; nothing when it is time to end."""
        batch = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == ABREAST or self._waiting.empty():
                return batch
            item = self._waiting.get()
        if batch:
            self._waiting.put(None)
        return batch

    def store_all(self, parcels: list[Parcel]) -> list[Exception | None]:
        """Store ``parcels`` here and now; for each ``None``, or why it is in no mailbox."""
        outcome: list[Exception | None] = [None] * len(parcels)

        def each(step: Callable[[Parcel], None]) -> None:
            """Take those that have not failed one step further."""
            for index, parcel in enumerate(parcels):
                if outcome[index] is not None:
                    continue
                try:
                    step(parcel)
                except OSError as error:
                    if isinstance(error, FileNotFoundError):
                        self._made.clear()  # maildata has vanished, and what comes back may be a copy
                    outcome[index] = trouble(error)
                except Exception as error:  # whatever it is, somebody waits for an answer
                    outcome[index] = error

        self._take_away_what_is_left()
        each(lambda parcel: parcel.draft.begin())
        each(lambda parcel: parcel.draft.sync())
        each(self._link)
        synced: dict[Path, Exception | None] = {}
        each(lambda parcel: self._sync_names(parcel, synced))
        for parcel in parcels:
            self.discard(parcel.draft)
        return outcome

    def _link(self, parcel: Parcel) -> None:
        """Give the letter its name in each mailbox, or in none."""
        linked = 0
        try:
            for mailbox in parcel.mailboxes:
                if mailbox not in self._made:
                    make_mailbox(mailbox)
                    self._made.add(mailbox)
                name = f"{mailbox}/new/{parcel.name}"  # to make a Path of it takes half as long as the link
                try:
                    os.link(parcel.draft.path, name)
                except FileNotFoundError:
                    # Somebody has taken the mailbox away since we made it, and perhaps others.
                    self._made.clear()
                    make_mailbox(mailbox)
                    os.link(parcel.draft.path, name)
                if self._left:  # what could not be taken away before is what is wanted now
                    self._keep(Path(name))
                linked += 1
        except Exception:
            self._take_back([mailbox / "new" / parcel.name for mailbox in parcel.mailboxes[:linked]])
            raise

    def _sync_names(self, parcel: Parcel, synced: dict[Path, Exception | None]) -> None:
        """Sync the mailboxes that ``parcel`` was linked into, but for those in ``synced``; what failed fails again."""
        for mailbox in parcel.mailboxes:
            if mailbox not in synced:
                try:
                    sync_folder(mailbox / "new")
                    synced[mailbox] = None
                except Exception as error:  # whatever it is, the letter is in no mailbox
                    synced[mailbox] = error
            if (failure := synced[mailbox]) is not None:
                self._take_back([mailbox / "new" / parcel.name for mailbox in parcel.mailboxes])
                raise failure

    def _take_back(self, names: Sequence[Path]) -> None:
        """Take away the names of a letter that is refused: it should not come back after a power cut either."""
        self._take_away(names)
        for name in names:
            with contextlib.suppress(OSError):
                sync_folder(name.parent)


def _remove(name: Path) -> OSError | None:
    """Take ``name`` away; returns why it may be there still."""
    try:
        name.unlink()
    except FileNotFoundError as error:
        with contextlib.suppress(OSError):
            name.parent.stat()
            return None
        return error  # its folder has vanished as well, and both may come back
    except OSError as error:
        return error
    return None


def _tell(waiters: Iterable[Deferred[None]], outcome: Iterable[Exception | None]) -> None:
    for done, error in zip(waiters, outcome, strict=True):
        if error is None:
            done.callback(None)
        else:
            done.errback(error)
