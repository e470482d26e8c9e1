"""The folder that holds everything a server keeps, and the lock that makes it one server's own.

Layout::

    reception/<user>/{tmp,new,cur}   what arrived; <user> is the account's address
    envoi/<user>/{tmp,new,cur}       what that account sent
    removed/<user>.<time>/           the mail of accounts that were removed
    spool/                           letters on their way in
    accounts.sqlite3                 the accounts
    lock                             held by the running server, whose process id stands in it
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mailbe.address import Address
from mailbe.durable import make_folder, sync_folder

# What may stand in a folder's name as it is, beside letters, digits and "_.-~".
_SAFE = "@+=!#$&'^`{}"
MAX_FOLDER_NAME = 200  # octets; a file system allows 255, and removed/ adds the time


class Unusable(Exception):
    """The folder cannot serve as maildata; the message says why and what to do."""


def folder_name(address: Address) -> str:
    """The name of the folders of ``address``'s mailboxes: the address, percent-encoded where needed.

    It never has a ``/``, never begins with a dot, and two addresses never share one.
    """
    name = quote(str(address), safe=_SAFE)
    return name if not name.startswith(".") else "%2E" + name[1:]


@dataclass(frozen=True, slots=True)
class Maildata:
    """Where things lie in one maildata folder."""

    root: Path

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def accounts(self) -> Path:
        return self.root / "accounts.sqlite3"

    def reception(self, address: Address) -> Path:
        """The mailbox of what arrived for ``address``."""
        return self.root / "reception" / folder_name(address)

    def envoi(self, address: Address) -> Path:
        """The mailbox of what ``address`` sent."""
        return self.root / "envoi" / folder_name(address)

    def prepare(self) -> None:
        """Make what is missing of the layout, safely on the disk.

        :raises Unusable: where the folder cannot be made or written.
        """
        try:
            for folder in (self.root, self.root / "reception", self.root / "envoi", self.spool):
                make_folder(folder)
                if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                    raise Unusable(f"{folder}: this user may not write here; change its owner or --maildata")
        except OSError as error:
            where = error.filename or self.root
            raise Unusable(f"{where}: {error.strerror}; choose another folder with --maildata") from error

    def lock(self) -> int:
        """Hold this folder until the process ends; a crash frees it. Returns the descriptor.

        :raises Unusable: where another server holds it.
        """
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unusable(f"{self.root / 'lock'}: {error.strerror}; choose another --maildata") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise Unusable(
                f"{self.root}: a server (process {holder}) uses this folder already; "
                "stop it or choose another --maildata"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
        return descriptor

    def sweep(self) -> int:
        """Remove what a crash left in the spool: none of it was acknowledged. Returns how many.

        Only the holder of the lock may call this.
        """
        left = list(self.spool.iterdir())
        for path in left:
            path.unlink()
        return len(left)

    def put_aside(self, address: Address) -> Path | None:
        """Move ``address``'s mailboxes to ``removed/``, so that nobody who takes the name later sees them.

        Returns where they lie now, or ``None`` where there were none.
        """
        moved = None
        aside = self.root / "removed" / f"{folder_name(address)}.{time.time_ns()}"
        for mailbox in (self.reception(address), self.envoi(address)):
            if mailbox.is_dir():
                make_folder(aside)
                moved = aside
                with contextlib.suppress(FileNotFoundError):
                    mailbox.rename(aside / mailbox.parent.name)
                sync_folder(mailbox.parent)
        if moved:
            sync_folder(aside)
        return moved
