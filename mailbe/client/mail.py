"""Somebody's mail: log in, list, read, delete, send. Every call waits until it is done.

Of each maildrop, the received letters and the sent ones, one POP3 session is kept; where the server has hung up
meanwhile, as after ten minutes of silence (RFC 1939 3), the next call logs in again and finds its letters by their
unique-ids. What is deleted is marked here alone, so that it can be undone, until ``leave`` tells the server: a program
that dies before has deleted nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TypeVar

from mailbe.client import drafts
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
from mailbe.client.maildrop import Folder, Letter, Maildrop
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
        self._maildrops: dict[Folder, Maildrop] = {}
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
                self._maildrops[Folder.INBOX] = self._open(Folder.INBOX)
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
            maildrop = self._maildrops.get(folder)
            if maildrop is not None and maildrop.was_listed:
                self._rest(folder)  # it shows the letters that were there when it was opened (RFC 1939 3)
            letters = self._in(folder, Maildrop.letters)
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
                        self._headings.update(self._in(folder, partial(Maildrop.headings, letters=wanted)))
            for letter in some:
                if letter in self._headings:
                    yield letter, self._headings[letter]

    def fetch(self, letter: Letter, progress: Progress | None = None) -> bytes:
        """A whole letter.

        :raises Gone:
        :raises NoAnswer, TryLater, InUse, Refused, Cancelled, NotTrusted:
        """
        with self._busy(self._fetching):
            return self._in(letter.folder, partial(Maildrop.fetch, letter=letter, progress=progress))

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
                smtp.send(parcel.sender, parcel.recipients, parcel.octets, progress)
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
                        count += self._in(folder, partial(Maildrop.delete, letters=marked))
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

    def _in(self, folder: Folder, act: Callable[[Maildrop], _Value]) -> _Value:
        """Do something in a maildrop; anew, if the server had hung up since the last time."""
        was_open = folder in self._maildrops
        try:
            return self._act(folder, act)
        except HungUp:
            if not was_open:
                raise
        return self._act(folder, act)

    def _act(self, folder: Folder, act: Callable[[Maildrop], _Value]) -> _Value:
        maildrop = self._maildrops.get(folder)
        if maildrop is None:
            maildrop = self._maildrops[folder] = self._open(folder)
        self._wires[self._fetching] = maildrop.wire
        try:
            return act(maildrop)
        except (Refused, TryLater, Gone):
            raise  # replies like any other; the session goes on
        except BaseException:
            self._drop(folder)
            raise

    def _open(self, folder: Folder) -> Maildrop:
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
        return Maildrop(folder, pop3)

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
        if maildrop := self._maildrops.pop(folder, None):
            with contextlib.suppress(MailError):  # nothing was to be done
                maildrop.quit()

    def _drop(self, folder: Folder) -> None:
        if maildrop := self._maildrops.pop(folder, None):
            maildrop.wire.close()

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
