"""Somebody's mail: log in, list, read, delete, send. Every call waits until it is done.

Of each maildrop, the received letters and the sent ones, one POP3 session is kept; where the server has hung up
meanwhile, as after ten minutes of silence (RFC 1939 3), the next call logs in again and finds its letters by their
unique-ids. What is deleted is marked here alone, so that it can be undone, until ``leave`` tells the server: a program
that dies before has deleted nothing.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TypeVar

from mailbe.client import drafts, reading
from mailbe.client.dial import Speaker, dial
from mailbe.client.dialogue import Listen, Protocol
from mailbe.client.drafts import Draft, Parcel
from mailbe.client.errors import (
    Gone,
    HungUp,
    InUse,
    MailError,
    NoSentMail,
    NotPrivate,
    Refused,
    TooManyFailures,
    TryLater,
    WrongPassword,
)
from mailbe.client.pop3 import BadCredentials, Pop3
from mailbe.client.printable import one_line
from mailbe.client.reading import Heading
from mailbe.client.sending import Smtp
from mailbe.client.servers import Servers
from mailbe.client.trust import Trust
from mailbe.client.wire import Progress, Wire

TRIES = 3
PATIENCE = 60.0  # seconds
SENT_SUFFIX = "+envoi"  # of the name by which a mailbe server opens the sent copies
LOG_IN_FIRST = "log in first"
BATCH = 50  # letters whose headers are asked for at once

_Value = TypeVar("_Value")
_Speaker = TypeVar("_Speaker", bound=Speaker)
_UNKNOWN = Heading("", "", "(the server does not show it)", None)


class Folder(enum.Enum):
    """A maildrop."""

    INBOX = "inbox"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter that lies on the server."""

    folder: Folder
    uid: str
    """Its unique-id (RFC 1939 7)."""
    octets: int


class _Session:
    """An open maildrop."""

    def __init__(self, pop3: Pop3) -> None:
        self.pop3 = pop3
        self.listed: dict[str, tuple[int, int]] | None = None
        """Number and size by unique-id, the oldest first; ``None`` while they were not asked for."""

    def list(self) -> dict[str, tuple[int, int]]:
        if self.listed is None:
            self.listed = {uid: (number, octets) for number, uid, octets in self.pop3.letters()}
        return self.listed


class Mail:
    """The mail of one person, at ``servers``.

    One call that fetches and one that sends may run at a time, each in its thread; others wait for them.
    """

    def __init__(self, servers: Servers, trust: Trust, listen: Listen, *, patience: float = PATIENCE) -> None:
        """:param listen: hears the dialogues with the servers, in the threads of the calls.

        :param patience: seconds that a server may keep silent.
        """
        self.name = ""
        self.address = ""
        """What stands in From."""
        self.tries_left = TRIES
        self._servers, self._trust, self._listen, self._patience = servers, trust, listen, patience
        self._password = ""
        self._plaintext_allowed = False
        self._keeps_no_sent_mail = False
        self._sessions: dict[Folder, _Session] = {}
        self._headings: dict[Letter, Heading] = {}
        self._deleted: set[Letter] = set()
        self._fetching, self._sending = Lock(), Lock()
        self._wires: dict[Lock, Wire] = {}  # what may be waited on
        self._cancelled: set[Lock] = set()

    def allow_plaintext(self) -> None:
        """Let passwords cross the network in plaintext, as somebody was asked who knows what that means."""
        self._plaintext_allowed = True

    def log_in(self, name: str, password: str) -> None:
        """Open the maildrop of ``name``, in the place of any before; its marks are forgotten.

        :raises WrongPassword, TooManyFailures: three wrong ones, and no more are tried.
        :raises NotTrusted, NotPrivate: ask, and try again.
        :raises NoAnswer, TryLater, InUse, Refused, Cancelled:
        """
        if not self.tries_left:
            raise self._too_many(name)
        if any(character in name + password for character in "\r\n\0") or not _is_text(name + password):
            raise Refused("a name and a password are text without line ends")
        with self._busy(self._fetching):
            self._rest_all()
            self._deleted.clear()
            self._headings.clear()
            self._keeps_no_sent_mail = False
            self.name, self._password = name, password
            self.address = name if "@" in name else f"{name}@{self._servers.domain}"
            try:
                self._sessions[Folder.INBOX] = self._open(Folder.INBOX)
            except InUse:
                raise
            except TryLater as error:
                raise TryLater(
                    f"nobody gets in now: {error}. If wrong passwords came before, the account is locked, for 15 "
                    f"minutes the first time: wait, or have it unlocked: mailbe user unlock {one_line(self.address)}"
                ) from error
            self.tries_left = TRIES

    def letters(self, folder: Folder = Folder.INBOX) -> list[Letter]:
        """What lies on the server now, the newest first.

        :raises NoSentMail: for ``SENT``, where the server does not keep it.
        :raises NoAnswer, TryLater, InUse, Refused, Cancelled, NotTrusted:
        """
        with self._busy(self._fetching):
            session = self._sessions.get(folder)
            if session is not None and session.listed is not None:
                self._rest(folder)  # a session sees the letters that were there when it began (RFC 1939 3)
            listed = self._in(folder, _Session.list)
            letters = [Letter(folder, uid, octets) for uid, (_, octets) in listed.items()]
            gone = {letter for letter in self._deleted if letter.folder is folder} - set(letters)
            self._deleted -= gone
            return letters[::-1]

    def headings(self, letters: Iterable[Letter]) -> Iterator[tuple[Letter, Heading]]:
        """What a list shows of each letter, as it comes. Letters that are gone are left out.

        :raises NoAnswer, TryLater, InUse, Refused, Cancelled, NotTrusted:
        """
        letters = list(letters)
        for begin in range(0, len(letters), BATCH):
            some = letters[begin : begin + BATCH]
            with self._busy(self._fetching):
                for folder in Folder:
                    wanted = [one for one in some if one.folder is folder and one not in self._headings]
                    if wanted:
                        self._headings.update(self._in(folder, partial(_headings, letters=wanted)))
            for letter in some:
                if letter in self._headings:
                    yield letter, self._headings[letter]

    def fetch(self, letter: Letter, progress: Progress | None = None) -> bytes:
        """A whole letter.

        :raises Gone:
        :raises NoAnswer, TryLater, InUse, Refused, Cancelled, NotTrusted:
        """

        def retrieve(session: _Session) -> bytes:
            if letter.uid not in (listed := session.list()):
                raise Gone("this letter is not on the server any more")
            number, octets = listed[letter.uid]
            return session.pop3.retr(number, octets, progress)

        with self._busy(self._fetching):
            return self._in(letter.folder, retrieve)

    def delete(self, letter: Letter) -> None:
        """Mark a letter; ``leave`` deletes it."""
        self._deleted.add(letter)

    def undelete(self, letter: Letter) -> None:
        """Take the mark away."""
        self._deleted.discard(letter)

    def is_deleted(self, letter: Letter) -> bool:
        """Whether it is marked."""
        return letter in self._deleted

    @property
    def deleted(self) -> frozenset[Letter]:
        """Those that are marked."""
        return frozenset(self._deleted)

    def check(self, draft: Draft) -> None:
        """Raise what ``send`` would raise before it asks a server, so that nobody writes a letter for nothing.

        :raises BadDraft, Refused:
        """
        self._parcel(draft)

    def send(self, draft: Draft, progress: Progress | None = None) -> tuple[str, ...]:
        """Send a letter to all its recipients, or to none; returns them.

        :raises BadDraft, Refused, TryLater: nobody gets it.
        :raises NoAnswer, Cancelled: nobody gets it, or the message says that it is not known.
        :raises NotTrusted, NotPrivate: ask, and try again.
        """
        parcel = self._parcel(draft)
        with self._busy(self._sending):
            smtp = self._dial(Smtp, "SMTP", self._sending)
            try:
                self._check_privacy(smtp.wire)
                if smtp.wants_log_in:
                    smtp.log_in(self.name, self._password)
                smtp.send(self.address, parcel.recipients, parcel.octets, progress)
            except (Refused, TryLater):
                smtp.quit()
                raise
            except BaseException:
                smtp.wire.close()
                raise
            smtp.quit()
        return parcel.recipients

    def leave(self) -> int:
        """Delete what is marked, and log out; returns how many letters were deleted. It can go on after that.

        :raises MailError: not all could be deleted. What may be there still keeps its mark.
        """
        count = 0
        with self._busy(self._fetching):
            for folder in Folder:
                marked = {letter for letter in self._deleted if letter.folder is folder}
                if marked:
                    try:
                        count += self._in(folder, partial(_delete, letters=marked))
                    finally:
                        self._drop(folder)
                    self._deleted -= marked
            self._rest_all()
        return count

    def rest(self) -> None:
        """Log out for a while, so that other programs can get at the maildrop; nothing is deleted, marks stay."""
        with self._busy(self._fetching):
            self._rest_all()

    def close(self) -> None:
        """Hang up at once. Nothing is deleted."""
        self.cancel()
        # Who waits for a connection cannot be called off, and has nothing open.
        here = self._fetching.acquire(timeout=1)
        try:
            for folder in Folder:
                self._drop(folder)
        finally:
            if here:
                self._fetching.release()

    def cancel(self) -> None:
        """From any thread: have the calls that wait raise ``Cancelled``."""
        for lock in (self._fetching, self._sending):
            if lock.locked():
                self._cancelled.add(lock)
                if wire := self._wires.get(lock):
                    wire.cancel()

    def _parcel(self, draft: Draft) -> Parcel:
        if not self._password:
            raise Refused(LOG_IN_FIRST)
        return drafts.parcel(draft, self.address)

    @contextmanager
    def _busy(self, lock: Lock) -> Iterator[None]:
        with lock:
            self._cancelled.discard(lock)
            yield

    def _in(self, folder: Folder, act: Callable[[_Session], _Value]) -> _Value:
        """Do something in a maildrop; anew, if the server had hung up since the last time."""
        was_open = folder in self._sessions
        try:
            return self._act(folder, act)
        except HungUp:
            if not was_open:
                raise
        return self._act(folder, act)

    def _act(self, folder: Folder, act: Callable[[_Session], _Value]) -> _Value:
        session = self._sessions.get(folder)
        if session is None:
            session = self._sessions[folder] = self._open(folder)
        self._wires[self._fetching] = session.pop3.wire
        try:
            return act(session)
        except (Refused, TryLater, Gone):
            raise  # replies like any other; the session goes on
        except BaseException:
            self._drop(folder)
            raise

    def _open(self, folder: Folder) -> _Session:
        if not self._password:
            raise Refused(LOG_IN_FIRST)
        pop3 = self._dial(Pop3, "POP3", self._fetching)
        try:
            self._check_privacy(pop3.wire)
            if folder is Folder.INBOX:
                self._open_inbox(pop3)
            else:
                self._open_sent(pop3)
        except BaseException as error:
            pop3.wire.close()
            if isinstance(error, InUse):
                raise InUse(f"{error}: leave the other mail program, or wait until it logs out") from error
            raise
        return _Session(pop3)

    def _open_inbox(self, pop3: Pop3) -> None:
        try:
            pop3.log_in(self.name, self._password)
        except BadCredentials:
            self.tries_left -= 1
            self._password = ""  # as it is wrong, it is not said again
            raise (WrongPassword(self.tries_left) if self.tries_left else self._too_many(self.name)) from None

    def _open_sent(self, pop3: Pop3) -> None:
        # Another server would take it for a wrong name, and might count it.
        if self._keeps_no_sent_mail or not pop3.is_ours:
            raise NoSentMail("this server keeps no copies of sent mail")
        local, at, domain = self.name.rpartition("@") if "@" in self.name else (self.name, "", "")
        try:
            pop3.log_in(f"{local}{SENT_SUFFIX}{at}{domain}", self._password)
        except BadCredentials as error:
            self._keeps_no_sent_mail = True
            raise NoSentMail("this server does not open its copies of sent mail over POP3") from error

    def _dial(self, speaker: type[_Speaker], protocol: Protocol, lock: Lock) -> _Speaker:
        servers = self._servers
        doors = servers.smtp if protocol == "SMTP" else servers.pop3

        def opening(wire: Wire) -> None:
            self._wires[lock] = wire
            if lock in self._cancelled:
                wire.cancel()

        return dial(speaker, protocol, doors, servers.name, self._trust, self._listen, self._patience, opening)

    def _check_privacy(self, wire: Wire) -> None:
        if not wire.private and not self._plaintext_allowed:
            raise NotPrivate(wire.place)

    def _rest_all(self) -> None:
        for folder in Folder:
            self._rest(folder)

    def _rest(self, folder: Folder) -> None:
        if session := self._sessions.pop(folder, None):
            with contextlib.suppress(MailError):  # nothing was to be done
                session.pop3.quit()

    def _drop(self, folder: Folder) -> None:
        if session := self._sessions.pop(folder, None):
            session.pop3.wire.close()

    def _too_many(self, name: str) -> TooManyFailures:
        site = f" at {self._servers.site}/password" if self._servers.site else ""
        return TooManyFailures(
            f"{TRIES} log-ins have failed, so no more are tried. What may be wrong, and what helps:\n"
            f"- The name: most servers want the whole address; you gave {one_line(name)}.\n"
            f"- The password: change it{site}, if you know the old one, or have a new one set by\n"
            f"  whoever looks after the server: mailbe user passwd {one_line(self.address)}\n"
            f"- After {TRIES} wrong passwords a mailbe server lets nobody in for 15 minutes, and longer each\n"
            f"  time: wait, or have it unlocked: mailbe user unlock {one_line(self.address)}"
        )


def _is_text(text: str) -> bool:
    """Whether it can be sent; a terminal makes surrogates of octets that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _headings(session: _Session, letters: Iterable[Letter]) -> dict[Letter, Heading]:
    listed = session.list()
    by_number = {listed[letter.uid][0]: letter for letter in letters if letter.uid in listed}
    return {
        by_number[number]: _UNKNOWN if header is None else reading.heading(header)
        for number, header in session.pop3.tops(list(by_number))
    }


def _delete(session: _Session, letters: Iterable[Letter]) -> int:
    listed = session.list()
    numbers = sorted(listed[letter.uid][0] for letter in letters if letter.uid in listed)
    marked = session.pop3.dele(numbers)
    try:
        session.pop3.quit()
    except (Refused, TryLater) as error:
        raise Refused(f"not all letters could be deleted: {error}") from error
    if marked < len(numbers):
        raise Refused(f"{len(numbers) - marked} of {len(numbers)} letters could not be deleted")
    return marked
