"""The POP3 session: an object for each state, and what a client may say in it (RFC 1939).

``Authorization`` knows nothing of messages, and ``Transaction`` has a maildrop: what a state does not
allow cannot be reached from it. The UPDATE state is the end of ``Transaction.quit``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from math import inf
from typing import Any, cast

from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.logger import Logger
from zope.interface import implementer

from mailbe import sasl
from mailbe.conversation import Conversation
from mailbe.interfaces import (
    Announcement,
    IMaildrop,
    LetterGone,
    Login,
    LoginTooSoon,
    MaildropBusy,
    NotAllDeleted,
    TryLater,
)
from mailbe.limits import Limits
from mailbe.pop3 import grammar
from mailbe.pop3.languages import I_DEFAULT
from mailbe.pop3.replies import Refusal, err, listing, ok, text
from mailbe.pop3.state import Command, State, capabilities
from mailbe.session import ISession, Reply
from mailbe.surrogate import surrogate

log = Logger()


@implementer(ISession)
class Authorization(State):
    """The AUTHORIZATION state: who are you? (RFC 1939 4)"""

    refusals = {
        UnauthorizedLogin: err("the name or the password is wrong", "AUTH"),
        MaildropBusy: err("another session has this maildrop open", "IN-USE"),
        LoginTooSoon: err("this maildrop was open a moment ago; wait a little", "LOGIN-DELAY"),
        TryLater: err("the maildrop cannot be opened now; try again later", "SYS/TEMP"),
    }

    def __init__(
        self,
        wire: Conversation,
        limits: Limits,
        portal: Portal,
        offers_scram: Callable[[], bool],
        announced: Callable[[], Announcement],
    ) -> None:
        super().__init__(wire, limits, offers_scram)
        self._portal = portal
        self._announced = announced
        self._utf8 = False
        self._name: bytes | None = None
        self._logins = 0
        self.patience = limits.letter_seconds  # a log-in takes less than a letter

    def secured(self) -> None:
        self._name = None
        self.speak(I_DEFAULT)

    def ended(self) -> None:
        """Nothing is held before log-in."""

    def stls(self) -> Reply:
        """Go on in TLS; what was said before is forgotten."""
        if not self._wire.may_start_tls:
            raise Refusal("TLS is on already" if self._wire.secure else "there is no TLS here")
        if self._utf8:
            raise Refusal("TLS comes before UTF8")
        return Reply(b"+OK go ahead with TLS\r\n", tls=True)

    def utf8(self) -> Reply:
        """From now on headers may be UTF-8, as they are in the letters (RFC 6532)."""
        self._utf8 = True
        return ok("UTF-8 it is")

    def _terms(self) -> Iterable[str]:
        announced = self._announced()
        return capabilities(announced.terms, announced.delays_differ, announced.days_differ)

    def user(self, name: bytes) -> Reply:
        """A name; whether there is such a user is not told."""
        self._check_privacy()
        self._name = name
        return ok("and the password?")

    async def pass_(self, password: bytes) -> Reply:
        """The password of the USER before, spaces and all."""
        if self._name is None:
            raise Refusal("say USER first")
        name, self._name = self._name, None
        return await self._log_in(Login(name, password, self._wire.peer, maildrop=True))

    async def auth(self, mechanism: bytes | None, initial: bytes | None) -> Reply:
        """Log in by a SASL mechanism; without one, say which there are (RFC 1734's habit, still in use)."""
        self._check_privacy()
        if mechanism is None:
            return listing("these are the mechanisms", self._mechanisms)
        if mechanism.decode() not in self._mechanisms:
            raise Refusal("this mechanism is not known here")
        try:
            client = sasl.Client(self._challenge, self._wire.peer, self._wire.channel_binding, maildrop=True)
            return await self._log_in(await sasl.exchange(mechanism, initial, client))
        except sasl.Cancelled:
            raise Refusal("as you wish: no log-in") from None
        except sasl.Malformed as error:
            raise Refusal(str(error)) from None
        except sasl.Refused as error:
            raise Refusal(str(error), "AUTH") from None

    def quit(self) -> Reply:
        """Good-bye."""
        return ok("good-bye", last=True)

    def _check_privacy(self) -> None:
        if not self._wire.private:
            raise Refusal("no password is taken on a connection that others can read", "AUTH")

    def _challenge(self, challenge: bytes) -> Awaitable[bytes]:
        return self._wire.ask(Reply(b"+ " + challenge + b"\r\n"))

    async def _log_in(self, credentials: ICredentials) -> Reply:
        self._logins += 1
        if self._logins > self._limits.logins:
            raise Refusal("that is enough tries for one connection", "AUTH", last=True)
        _, maildrop, logout = await self._portal.login(credentials, None, IMaildrop)
        opened = Transaction(
            self._wire, self._limits, self._offers_scram, cast(IMaildrop, maildrop), logout, utf8=self._utf8
        )
        if self._language is not I_DEFAULT:
            opened.speak(self._language)
        self._wire.session = opened
        return ok(f"{opened.count} messages, {opened.octets} octets", effect=True)


@implementer(ISession)
class Transaction(State):
    """The TRANSACTION state: the maildrop is open, and ours alone (RFC 1939 5)."""

    refusals = {
        LetterGone: err("another program has taken this message away"),
        TryLater: err("the message cannot be read now; try again later", "SYS/TEMP"),
    }

    patience = inf  # a slow client may take hours to fetch what there is

    def __init__(
        self,
        wire: Conversation,
        limits: Limits,
        offers_scram: Callable[[], bool],
        maildrop: IMaildrop,
        logout: Callable[[], None],
        *,
        utf8: bool,
    ) -> None:
        """:param utf8: whether the client takes UTF-8 in headers."""
        super().__init__(wire, limits, offers_scram)
        self._maildrop = maildrop
        self._utf8 = utf8
        self._sizes, self._octets = maildrop.sizes, maildrop.octets
        if not utf8 and maildrop.surrogates:
            self._sizes = [maildrop.surrogates.get(index, size) for index, size in enumerate(maildrop.sizes)]
            self._octets = sum(self._sizes)
        self._logout: Callable[[], None] | None = logout
        self._deleted: set[int] = set()
        self.count, self.octets = len(self._sizes), self._octets

    def secured(self) -> None:
        """TLS begins before log-in or not at all (RFC 2595 4)."""

    def ended(self) -> None:
        """Let the maildrop go; what was marked as deleted stays, unless QUIT came (RFC 1939 6)."""
        logout, self._logout = self._logout, None
        if logout is not None:
            logout()

    def stat(self) -> Reply:
        """How many messages, and their octets in all; deleted ones do not count."""
        return ok(f"{self.count} {self.octets}")

    def list(self, number: int | None) -> Reply:
        """The size of one message in octets, or of each."""
        sizes = self._sizes
        if number is not None:
            return ok(f"{number} {sizes[self._index(number)]}", effect=True)
        lines = [f"{index + 1} {sizes[index]}" for index in self._kept()]
        return listing(f"{self.count} messages, {self.octets} octets", lines)

    def uidl(self, number: int | None) -> Reply:
        """The unique-id of one message, or of each."""
        uid = self._maildrop.uid
        if number is not None:
            return ok(f"{number} {uid(self._index(number))}", effect=True)
        return listing("unique-ids follow", [f"{index + 1} {uid(index)}" for index in self._kept()])

    def retr(self, number: int) -> Reply:
        """A message."""
        index = self._index(number)
        size = self._sizes[index]
        return text(f"{size} octets", self._content(index), size)

    def top(self, number: int, lines: int) -> Reply:
        """The header of a message, and the first lines of its body."""
        index = self._index(number)
        size = self._sizes[index]
        return text("the top follows", top(self._content(index), lines), size)

    def dele(self, number: int) -> Reply:
        """Mark a message as deleted; QUIT deletes it."""
        index = self._index(number)
        self._deleted.add(index)
        self.count -= 1
        self.octets -= self._sizes[index]
        return ok(f"message {number} deleted", effect=True)

    def noop(self) -> Reply:
        """Do nothing."""
        return ok("here")

    def rset(self) -> Reply:
        """Unmark what was marked as deleted."""
        self._deleted.clear()
        self.count, self.octets = len(self._sizes), self._octets
        return ok(f"{self.count} messages, {self.octets} octets")

    def quit(self) -> Reply | Coroutine[Any, Any, Reply]:
        """The UPDATE state: delete what is marked, let the maildrop go, good-bye (RFC 1939 6)."""
        if self._deleted:
            return self._update()
        self.ended()
        return ok("good-bye", last=True)

    async def _update(self) -> Reply:
        try:
            await self._maildrop.delete(sorted(self._deleted))
        except (NotAllDeleted, TryLater) as error:
            log.warn("not all could be deleted: {error}", error=error)
            return err("some deleted messages not removed", "SYS/TEMP", last=True)
        finally:
            self.ended()
        return ok("good-bye", last=True)

    def _terms(self) -> Iterable[str]:
        return capabilities(self._maildrop.terms)

    def _content(self, index: int) -> Iterable[bytes]:
        content = self._maildrop.read(index)
        return content if self._utf8 else surrogate(content)

    def _kept(self) -> Iterable[int]:
        every = range(len(self._sizes))
        return [index for index in every if index not in self._deleted] if self._deleted else every

    def _index(self, number: int) -> int:
        if not 1 <= number <= len(self._sizes):
            raise Refusal("no such message")
        if number - 1 in self._deleted:
            raise Refusal(f"message {number} is deleted")
        return number - 1


def top(content: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """The header of ``content``, the empty line behind it, and as many lines of the body (RFC 1939 7, TOP)."""
    before = b"\n"  # what may be the beginning of the empty line: the last three octets that went by
    in_header = True
    for chunk in content:
        begin = 0
        if in_header:
            seen = before + chunk
            blank = seen.find(b"\n\r\n")
            if blank < 0:
                before = seen[-3:]
                yield chunk
                continue
            in_header = False
            begin = blank + 3 - len(before)
        ends = chunk.count(b"\n", begin)
        if ends < lines:
            lines -= ends
            yield chunk
            continue
        end = begin
        for _ in range(lines):
            end = chunk.index(b"\n", end) + 1
        yield chunk[:end]
        return


A, T, g = Authorization, Transaction, grammar
# fmt: off
A.commands = {
    #                run     argument            defined in
    b"CAPA": Command(A.capa, g.nothing,          "RFC 2449 5"),
    b"STLS": Command(A.stls, g.nothing,          "RFC 2595 4"),
    b"UTF8": Command(A.utf8, g.nothing,          "RFC 6856 2.1"),
    b"LANG": Command(A.lang, g.language,         "RFC 6856 3"),
    b"USER": Command(A.user, g.prepared,         "RFC 1939 7"),
    b"PASS": Command(A.pass_, g.prepared,        "RFC 1939 7"),
    b"AUTH": Command(A.auth, g.mechanism,        "RFC 5034 4", limit=12288),
    b"QUIT": Command(A.quit, g.nothing,          "RFC 1939 4"),
}
T.commands = {
    b"CAPA": Command(T.capa, g.nothing,          "RFC 2449 5"),
    b"LANG": Command(T.lang, g.language,         "RFC 6856 3"),
    b"STAT": Command(T.stat, g.nothing,          "RFC 1939 5"),
    b"LIST": Command(T.list, g.maybe_number,     "RFC 1939 5"),
    b"UIDL": Command(T.uidl, g.maybe_number,     "RFC 1939 7"),
    b"RETR": Command(T.retr, g.number,           "RFC 1939 5"),
    b"TOP":  Command(T.top,  g.number_and_lines, "RFC 1939 7"),
    b"DELE": Command(T.dele, g.number,           "RFC 1939 5"),
    b"NOOP": Command(T.noop, g.nothing,          "RFC 1939 5"),
    b"RSET": Command(T.rset, g.nothing,          "RFC 1939 5"),
    b"QUIT": Command(T.quit, g.nothing,          "RFC 1939 6"),
}
# fmt: on
