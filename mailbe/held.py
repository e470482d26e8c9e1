"""Letters that are held until a time that their senders gave (RFC 4865), as they lie on the disk.

Each is two files. Its octets are final, and lie under their final name in ``held/letters``, a Maildir like the others:
to release it is to link it into the mailboxes. What its envelope says lies as JSON, under the letter's id, in
``held/envelopes/new``. The envelope is safely there before the letter comes. When nothing is left to do it is linked
into ``cur``, and goes when the letter has gone. So an envelope without its letter is what a crash has left, and is
nowhere missed; a letter without its envelope was damaged by somebody, and is left alone.

Who changes or removes any of this holds the lock meanwhile; who adds to it need not.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from mailbe.address import Address
from mailbe.durable import lock_folder, named, sync_folder
from mailbe.interfaces import Deadline, Envelope, Recipient
from mailbe.letterfile import told_size
from mailbe.listing import scan
from mailbe.maildata import Maildata

MAX_ENVELOPE = 64 * 1024 * 1024  # octets; a thousand recipients take a fraction of it
NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
EARLIEST, LATEST = -1e10, 1e11  # seconds since 1970 that a date can be made of

Stamps = tuple[int, int]
Version = tuple[int, int]


class Damaged(ValueError):
    """A file that should tell what an envelope says does not."""


@dataclass(frozen=True, slots=True)
class Slip:
    """What is known of a held letter beside its octets."""

    envelope: Envelope
    """With those recipients alone of whom it is still to be decided; neither submitter nor destinations stand in it."""
    submitter: Address | None
    """The account that sent it."""
    arrived: float
    """Seconds since 1970, as all times here."""
    failing: float | None = None
    """Since when it cannot be delivered."""
    told: frozenset[str] = frozenset()
    """What of its being late the sender knows: ``delay``, ``deadline``."""
    done: frozenset[str] = frozenset()
    """The names of mailboxes that have it, though other recipients do not yet."""
    account: int | None = None
    """The submitter's id, which nobody else ever gets: who has his name later is not told of his letters."""

    @property
    def release(self) -> float:
        """When it is to be released."""
        return self.envelope.release or 0.0

    def released(self, time: float) -> Self:
        """The same, to be released at another time."""
        return replace(self, envelope=replace(self.envelope, release=time))

    def left(self, recipients: Iterable[Recipient]) -> Self:
        """The same, for these recipients alone."""
        return replace(self, envelope=replace(self.envelope, recipients=list(recipients)))

    def encode(self) -> bytes:
        """As it is written down."""
        envelope = self.envelope
        deadline = envelope.deadline
        fields = {
            "release": self.release,
            "hold": envelope.hold,
            "arrived": self.arrived,
            "reverse_path": _written(envelope.reverse_path),
            "submitter": _written(self.submitter),
            "account": self.account,
            "recipients": [
                {
                    "address": str(recipient.address),
                    "notify": None if recipient.notify is None else sorted(recipient.notify),
                    "original": recipient.original,
                }
                for recipient in envelope.recipients
            ],
            "id": envelope.id,
            "whole": envelope.whole,
            "utf8": envelope.utf8,
            "deadline": deadline and [deadline.until, deadline.give_up, deadline.trace],
            "failing": self.failing,
            "told": sorted(self.told),
            "done": sorted(self.done),
        }
        return json.dumps(fields, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """The slip that ``encode`` has written down.

        :raises Damaged:
        """
        try:
            fields = json.loads(octets)
            envelope = Envelope(
                _address(fields["reverse_path"]),
                recipients=_recipients(fields["recipients"]),
                utf8=_is(bool, fields["utf8"]),
                id=_line(fields["id"]),
                whole=_is(bool, fields["whole"]),
                deadline=_deadline(fields["deadline"]),
                release=_time(fields["release"]),
                hold=_line(fields["hold"]),
            )
            return cls(
                envelope,
                _address(fields["submitter"]),
                _time(fields["arrived"]),
                None if fields["failing"] is None else _time(fields["failing"]),
                frozenset(_line(each) for each in fields["told"]),
                frozenset(_line(each) for each in fields["done"]),
                None if fields["account"] is None else _is(int, fields["account"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:  # BadAddress is one of the first
            raise Damaged(f"{type(error).__name__}: {str(error)[:100]!a}") from error


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

    def envelope(self, id: str) -> Path:
        """The file of a letter's envelope."""
        return self._envelopes / "new" / id

    def read(self, id: str) -> Slip:
        """What is known of a letter.

        :raises Damaged:
        """
        path = self.envelope(id)
        try:
            with open(path, "rb", opener=_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Damaged("it is no file")
                return Slip.decode(file.read(MAX_ENVELOPE))
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
            with suppress(FileExistsError):
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


def _written(address: Address | None) -> str | None:
    return None if address is None else str(address)


def _address(text: object) -> Address | None:
    return None if text is None else Address.parse(_is(str, text))


def _recipients(all_fields: Any) -> list[Recipient]:
    # To nobody there would be nothing left to do, and the letter would go.
    if not (found := [_recipient(fields) for fields in all_fields]):
        raise ValueError("it is for nobody")
    return found


def _recipient(fields: Any) -> Recipient:
    notify: Sequence[str] | None = fields["notify"]
    if notify is not None and not NOTIFY.issuperset(notify):
        raise ValueError(notify)
    address = Address.parse(_is(str, fields["address"]))
    return Recipient(address, (), None if notify is None else frozenset(notify), _line(fields["original"]))


def _time(value: object) -> float:
    if type(value) not in (int, float) or not EARLIEST <= value <= LATEST:  # type: ignore[operator]
        raise ValueError("it is no time")
    return float(value)  # type: ignore[arg-type]


def _deadline(fields: Any) -> Deadline | None:
    if fields is None:
        return None
    until, give_up, trace = fields
    return Deadline(_time(until), _is(bool, give_up), _is(bool, trace))


def _line(value: object) -> str:
    """A text of which reports can make one line."""
    text: str = _is(str, value)
    text.encode()
    if len(f"{text}.".splitlines()) > 1:
        raise ValueError("it is more than a line")
    return text


def _is(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(value)
    return value
