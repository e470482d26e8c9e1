"""The folder that holds everything a server keeps, and the lock that makes it one server's own.

Layout::

    reception/<user>/{tmp,new,cur}   what arrived; <user> is the account's address
    envoi/<user>/{tmp,new,cur}       what that account sent
    removed/<user>.<time>/           the mail of accounts that were removed
    held/{letters,envelopes}/        letters that wait for the time when they are to be released, and for whom they are
    spool/                           letters on their way in
    tls/                             the certificate that was made, where none was given
    accounts.sqlite3                 the accounts
    expiry                           its time of change says how late it was when somebody last looked for old letters
    pid                              the process id of the running server, which holds a lock on the folder
    listening.json                   what the running server listens on
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from mailbe.address import Address
from mailbe.durable import lock_folder, make_folder, sync_folder, sync_way

# What may stand in a folder's name as it is, beside letters, digits and "_.-~".
_SAFE = "@+="
_LETTER = re.compile(r"[0-9]+\.M[0-9]+P([0-9]+)Q[0-9]+(?:R[0-9a-f]+)?\.")  # as the post office names them
LAST_SECONDS = 10.0  # that the workers of a server may take to their end when it has died
LOOK_AGAIN = 0.05  # seconds
AUTHORITY = "ca.pem"
MAX_REMEMBERED = 10_000  # paths of mailboxes
MAX_FOLDER_NAME = 200  # octets; a file system allows 255, and removed/ adds the time


class Unusable(Exception):
    """The folder cannot serve as maildata; the message says why and what to do."""


def folder_name(address: Address) -> str:
    """The name of the folders of ``address``'s mailboxes: its canonical spelling, percent-encoded where needed.

    It never has a ``/``, never begins with a dot, and two accounts never share one.
    """
    name = quote(str(address.canonical), safe=_SAFE)
    return name if not name.startswith(".") else "%2E" + name[1:]


@lru_cache(MAX_REMEMBERED)  # every letter and every log-in asks, and most for a few
def _mailbox(root: Path, kind: str, address: Address) -> Path:
    return root / kind / folder_name(address)


@dataclass(frozen=True, slots=True)
class Maildata:
    """Where things lie in one maildata folder."""

    root: Path

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def held(self) -> Path:
        return self.root / "held"

    @property
    def held_letters(self) -> Path:
        """The mailbox of letters that wait for their release."""
        return self.held / "letters"

    @property
    def held_envelopes(self) -> Path:
        """What is known of these letters, in the form of a mailbox too: what writes letters writes it."""
        return self.held / "envelopes"

    @property
    def pid(self) -> Path:
        return self.root / "pid"

    @property
    def expiry(self) -> Path:
        return self.root / "expiry"

    @property
    def listening(self) -> Path:
        return self.root / "listening.json"

    @property
    def tls(self) -> Path:
        return self.root / "tls"

    @property
    def authority(self) -> Path:
        """The authority behind the certificate that was made: what users let their mail programs trust, as PEM."""
        return self.tls / AUTHORITY

    @property
    def accounts(self) -> Path:
        return self.root / "accounts.sqlite3"

    def reception(self, address: Address) -> Path:
        """The mailbox of what arrived for ``address``."""
        return _mailbox(self.root, "reception", address)

    def envoi(self, address: Address) -> Path:
        """The mailbox of what ``address`` sent."""
        return _mailbox(self.root, "envoi", address)

    def prepare_root(self) -> None:
        """Make the folder itself, and nothing in it: what the accounts need.

        Who makes a ``reception`` where none is makes a disk that is not mounted look like empty mailboxes.

        :raises Unusable: where it cannot be made or written.
        """
        self._make(self.root)

    def prepare(self) -> None:
        """Make what is missing of the layout, safely on the disk: what a server needs at its start.

        :raises Unusable: where it cannot be made or written.
        """
        self._make(*self._layout)

    def check(self) -> None:
        """See that all is still there that ``prepare`` has made.

        :raises Unusable: where it has vanished, as with a disk that is not mounted any more.
        """
        for folder in self._layout:
            try:
                folder.stat()
            except OSError as error:
                raise Unusable(f"{folder}: {error.strerror}; mount its disk, or put it back") from error

    @property
    def _layout(self) -> tuple[Path, ...]:
        return self.root, self.root / "reception", self.root / "envoi", self.held, self.spool

    def _make(self, *folders: Path) -> None:
        try:
            for folder in folders:
                make_folder(folder)
                if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                    raise Unusable(f"{folder}: this user may not write here; change its owner or --maildata")
            # They may have been made by somebody who did not wait for the disk.
            sync_folder(self.root)
            sync_way(self.root)
        except OSError as error:
            where = error.filename or self.root
            raise Unusable(f"{where}: {error.strerror}; choose another folder with --maildata") from error

    def lock(self) -> int:
        """Hold this folder until the process ends, and all that have the descriptor; a crash frees it.

        Where the holder has died, and its workers have not ended, this waits for them. Returns the descriptor.

        :raises Unusable: where another server holds it.
        """
        patience = time.monotonic() + LAST_SECONDS
        while True:
            try:
                descriptor = lock_folder(self.root)
                break
            except BlockingIOError:
                holder = self._holder()
                if not _is_dead(holder) or time.monotonic() > patience:
                    raise Unusable(
                        f"{self.root}: a server (process {holder}) uses this folder already; "
                        "stop it or choose another --maildata"
                    ) from None
            except OSError as error:
                raise Unusable(f"{self.root}: {error.strerror}; choose another --maildata") from error
            time.sleep(LOOK_AGAIN)
        with contextlib.suppress(OSError):
            self.pid.write_text(f"{os.getpid()}\n")
        return descriptor

    def _holder(self) -> str:
        with contextlib.suppress(OSError):
            return self.pid.read_text("ascii", "replace").strip()
        return "unknown"

    def sweep(self, process: int | None = None) -> int:
        """Remove the letters that a crash left in the spool: none was acknowledged. Returns how many.

        Envelopes of held letters go too, where the letter never came. Only the holder of the lock may call this.

        :param process: the id of one that has ended, and only its letters go; ``None``: nobody uses the spool.
        :raises Unusable:
        """
        try:
            left = _letters(self.spool.iterdir(), process)
            for path in left:
                path.unlink()
            for path in self._lone_envelopes(process):
                path.unlink(missing_ok=True)  # who has just released the letter takes it away, too
        except OSError as error:
            raise Unusable(f"{error.filename}: {error.strerror}; see to it by hand") from error
        return len(left)

    def _lone_envelopes(self, process: int | None) -> list[Path]:
        drafts = [] if process is not None else _letters(_in(self.held_envelopes / "tmp"), None)
        envelopes = _letters(_in(self.held_envelopes / "new"), process)
        letters = {path.name.partition(",")[0] for name in ("new", "cur") for path in _in(self.held_letters / name)}
        return drafts + [path for path in envelopes if path.name not in letters]

    def put_aside(self, address: Address) -> Path | None:
        """Move ``address``'s mailboxes to ``removed/``, so that nobody who takes the name later sees them.

        Returns where they lie now, or ``None`` where there were none.
        """
        mailboxes = [path for path in (self.reception(address), self.envoi(address)) if path.is_dir()]
        if not mailboxes:
            return None
        aside = self.root / "removed" / f"{folder_name(address)}.{time.time_ns()}"
        make_folder(aside)
        for mailbox in mailboxes:
            mailbox.rename(aside / mailbox.parent.name)
        # First where they are now: a name must be on the disk in one place before it goes from the other.
        for folder in (aside, *(mailbox.parent for mailbox in mailboxes)):
            sync_folder(folder)
        return aside


def _letters(paths: Iterable[Path], process: int | None) -> list[Path]:
    """Those of ``paths`` that a process (``None``: any) has named as it names letters."""
    named = ((path, _LETTER.match(path.name)) for path in paths)
    return [path for path, name in named if name and (process is None or int(name[1]) == process) and path.is_file()]


def _in(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _is_dead(process: str) -> bool:
    return process.isdecimal() and not lives(int(process))


def lives(process: int) -> bool:
    """Whether there is such a process; one that has died and was not waited for is none, as in many a container."""
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(") ")[2][:1] != "Z"  # proc(5)
    except OSError:
        return False
