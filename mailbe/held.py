"""Letters that are held until a time that their senders gave (RFC 4865), as they lie on the disk.

Each is two files. Its octets are final, and lie under their final name in ``held/letters``, a Maildir like the others:
to release it is to link it into the mailboxes. What its envelope says lies as JSON, under the letter's id, in
``held/envelopes/new``. The envelope is safely there before the letter comes. When nothing is left to do it is linked
into ``cur``, and goes when the letter has gone. So an envelope without its letter is what a crash has left, and is
nowhere missed; a letter without its envelope was damaged by somebody, and is left alone.

Who changes or removes any of this holds the lock meanwhile; who adds to it need not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailbe.durable import FOLDERS, lock_folder, make_mailbox, named, sync_folder
from mailbe.letterfile import told_size
from mailbe.listing import scan
from mailbe.maildata import Maildata
from mailbe.slip import HEAD, Damaged, Slip, account_in

MAX_ENVELOPE = 64 * 1024 * 1024  # octets; a thousand recipients take a fraction of it

Stamps = tuple[int, int]
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Letter:
    """A held letter's file, and which version of its envelope lies beside it."""

    path: Path
    octets: int
    version: Version
    """Another one whenever the envelope was written anew."""


class Held:
    """The held letters of one maildata folder, by their ids. All methods take their time: not for the reactor's thread.

    Each raises ``OSError``.
    """

    def __init__(self, maildata: Maildata) -> None:
        self._letters = maildata.held_letters
        self._envelopes = maildata.held_envelopes

    def lock(self, *, wait: bool = False) -> int:
        """Be the only one who changes anything; returns the descriptor that holds the lock.

        :raises BlockingIOError: where another is, and that is not waited for.
        """
        return lock_folder(self._letters, wait=wait)

    def stamps(self) -> Stamps | None:
        """When names in the folders of letters and envelopes have last changed; ``None``: nothing was ever held."""
        try:
            letters, envelopes = (folder / "new" for folder in (self._letters, self._envelopes))
            return letters.stat().st_mtime_ns, envelopes.stat().st_mtime_ns
        except FileNotFoundError:
            self._letters.parent.stat()  # or maildata has vanished
            return None

    def complete(self) -> None:
        """Make what is missing of the folders: empty ones are nothing to many a backup.

        For the server alone, or they are not its own.
        """
        for mailbox in (self._letters, self._envelopes):
            if not all((mailbox / name).is_dir() for name in FOLDERS):
                make_mailbox(mailbox)

    def scan(self) -> tuple[dict[str, Letter], list[Path]]:
        """The letters there are, and those without an envelope."""
        # First the letters: each that is there now has had its envelope before.
        found, _ = scan(self._letters)
        with os.scandir(self._envelopes / "new") as entries:
            versions = {entry.name: version for entry in entries if (version := _version_of(entry)) is not None}
        over = self._over()
        letters, alone = {}, []
        for base_name, name in found.items():
            id, path = id_of(base_name), self._letters / name
            if id in over:
                continue
            try:
                octets = told_size(base_name) or path.stat().st_size
            except FileNotFoundError:
                continue
            if id in versions:
                letters[id] = Letter(path, octets, versions[id])
            elif path.exists():  # or both have gone meanwhile
                alone.append(path)
        return letters, alone

    def _over(self) -> set[str]:
        """The ids of letters that are in their mailboxes, and only to be removed here."""
        return {path.name for path in (self._envelopes / "cur").iterdir()}

    def accounts(self, known: Mapping[str, int | None]) -> dict[str, int | None]:
        """By which account each letter was sent, by its id, without those of which nobody can tell.

        :param known: what was seen before; these are not read again.
        """
        found = {}
        try:
            over = self._over()
            names = os.listdir(self._envelopes / "new")  # noqa: PTH208 - no Paths for ten thousand names
        except FileNotFoundError:
            self._envelopes.parent.stat()  # or maildata has vanished
            return {}
        for id in names:
            if id in over:
                continue
            if id in known:
                found[id] = known[id]
                continue
            with suppress(Damaged, OSError):  # others must not wait for this one
                found[id] = self._account(id)
        return found

    def _account(self, id: str) -> int | None:
        try:
            return account_in(self._read(id, HEAD))
        except Damaged:
            return self.read(id).account  # somebody has mended it, and does not write as we do

    def envelope(self, id: str) -> Path:
        """The file of a letter's envelope."""
        return self._envelopes / "new" / id

    def read(self, id: str) -> Slip:
        """What is known of a letter.

        :raises Damaged:
        """
        return Slip.decode(self._read(id, MAX_ENVELOPE))

    def _read(self, id: str, octets: int) -> bytes:
        path = self.envelope(id)
        try:
            with open(path, "rb", opener=_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Damaged("it is no file")
                return file.read(octets)
        except OSError as error:
            raise named(error, path) from None

    def write(self, id: str, slip: Slip) -> Version:
        """Change what is known of a letter, safely on the disk; returns the version."""
        path = self.envelope(id)
        draft = self._envelopes / "tmp" / id
        owner = path.stat()
        try:
            with draft.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)  # root's commands must not take it from the server
                file.write(slip.encode())
                file.flush()
                os.fsync(file.fileno())
                version = _version(os.fstat(file.fileno()))
        except OSError as error:
            raise named(error, draft) from None
        draft.rename(path)
        sync_folder(path.parent)
        return version

    def remove(self, ids: Iterable[str]) -> None:
        """Remove letters and their envelopes, safely on the disk."""
        for id in ids:
            # From here on everybody knows that it is over, whoever dies: what waits for its letter has no name in cur.
            # Where somebody has just taken the envelope away, the letter is one without: others are not kept for that.
            with suppress(FileExistsError, FileNotFoundError):
                os.link(self.envelope(id), self._envelopes / "cur" / id)
        self.finish()

    def finish(self) -> None:
        """Remove the rest of what was to be removed."""
        if not (over := self._over()):
            return
        found, _ = scan(self._letters)
        letters = [name for base_name, name in found.items() if id_of(base_name) in over]
        _remove(self._letters, letters, sync=("new", "cur"))
        # Not before: a letter without an envelope would be called damaged.
        for name in ("new", "cur"):
            _remove(self._envelopes, [f"{name}/{id}" for id in over], sync=[name])


def _remove(mailbox: Path, names: Iterable[str], sync: Iterable[str]) -> None:
    for name in names:
        (mailbox / name).unlink(missing_ok=True)
    for folder in sync:
        sync_folder(mailbox / folder)


def _at_once(path: str, flags: int) -> int:
    """Open a file; wait for nobody where it is a pipe, and take no link to nowhere for a file that has just gone."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _version(status: os.stat_result) -> Version:
    # Of two changes, the second may get the file number that the first has set free.
    return status.st_ino, status.st_mtime_ns


def _version_of(entry: os.DirEntry[str]) -> Version | None:
    try:
        return _version(entry.stat(follow_symlinks=False))
    except FileNotFoundError:  # it has just gone
        return None


def id_of(name: str) -> str:
    """The id of the letter that a file of this name is."""
    return name.partition(",")[0]
