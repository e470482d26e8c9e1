"""The POP3 session: an object for each state, and what a client may say in it (RFC 1939).

``Authorization`` knows nothing of messages, and ``Transaction`` has a maildrop: what a state does not
allow cannot be reached from it. The UPDATE state is the end of ``Transaction.quit``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, cast

from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.logger import Logger
from zope.interface import implementer

from mailbe import __version__, sasl
from mailbe.conversation import Conversation
from mailbe.interfaces import IMaildrop, LetterGone, Login, MaildropBusy, NotAllDeleted, TryLater
from mailbe.limits import Limits
from mailbe.pop3 import grammar
from mailbe.pop3.replies import Refusal, err, listing, ok, text
from mailbe.session import Farewell, ISession, LineTooLong, Reply

log = Logger()

SILENCE = 600  # seconds, RFC 1939 3: "at least 10 minutes"


class State:
    """What both states have in common."""

    silence = SILENCE
    fault = err("something went wrong here; try again later", "SYS/TEMP")
    # Silence gets no answer: RFC 1939 3, "without sending any response to the client".
    farewells = {
        Farewell.LINE_TOO_LONG: err("the line is too long").octets,
        Farewell.PLAINTEXT: err("nothing may follow STLS before TLS has begun").octets,
        Farewell.NO_PLACE: err("there are too many connections now; try again later", "SYS/TEMP").octets,
        Farewell.NO_EFFECT: err("that was enough of commands without effect").octets,
    }
    commands: Mapping[bytes, Command]

    def __init__(self, wire: Conversation, limits: Limits, offers_scram: Callable[[], bool]) -> None:
        self._wire = wire
        self._limits = limits
        self._offers_scram = offers_scram
        self.idle_commands = limits.idle_commands

    def greeting(self) -> Reply:
        return ok("mailbe is ready")

    def answer(self, line: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        verb, _, argument = line.partition(b" ")
        command = self.commands.get(verb.upper(), UNKNOWN)
        if len(line) + 2 > command.limit:
            raise LineTooLong
        return command.run(self, *command.grammar(argument))

    def capa(self) -> Reply:
        """What this server can do beyond RFC 1939's minimum, and nothing else."""
        tls = ["STLS"] if self._wire.may_start_tls else []
        # A password may cross only what nobody reads along (RFC 8314 3.3).
        log_in = ["USER", f"SASL {' '.join(self._mechanisms)}"] if self._wire.private else []
        return listing("this is what we can do", [*log_in, *tls, *CAPABILITIES])

    @property
    def _mechanisms(self) -> list[str]:
        # LOGIN is no standard, and only SMTP has clients that know nothing else.
        names = sasl.offered(self._wire.channel_binding, scram=self._offers_scram())
        return [name.decode() for name in names if name != b"LOGIN"]


@implementer(ISession)
class Authorization(State):
    """The AUTHORIZATION state: who are you? (RFC 1939 4)"""

    refusals = {
        UnauthorizedLogin: err("the name or the password is wrong", "AUTH"),
        MaildropBusy: err("another session has this maildrop open", "IN-USE"),
        TryLater: err("the maildrop cannot be opened now; try again later", "SYS/TEMP"),
    }

    def __init__(self, wire: Conversation, limits: Limits, portal: Portal, offers_scram: Callable[[], bool]) -> None:
        super().__init__(wire, limits, offers_scram)
        self._portal = portal
        self._name: bytes | None = None
        self._logins = 0
        self.patience = limits.letter_seconds  # a log-in takes less than a letter

    def secured(self) -> None:
        self._name = None

    def ended(self) -> None:
        """Nothing is held before log-in."""

    def stls(self) -> Reply:
        """Go on in TLS; what was said before is forgotten."""
        if not self._wire.may_start_tls:
            raise Refusal("TLS is on already" if self._wire.secure else "there is no TLS here")
        return Reply(b"+OK go ahead with TLS\r\n", tls=True)

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
        opened = Transaction(self._wire, self._limits, self._offers_scram, cast(IMaildrop, maildrop), logout)
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
    ) -> None:
        super().__init__(wire, limits, offers_scram)
        self._maildrop = maildrop
        self._logout: Callable[[], None] | None = logout
        self._deleted: set[int] = set()
        self.count = len(maildrop.sizes)
        self.octets = maildrop.octets

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
        sizes = self._maildrop.sizes
        if number is not None:
            return ok(f"{number} {sizes[self._index(number)]}")
        lines = [f"{index + 1} {sizes[index]}" for index in self._kept()]
        return listing(f"{self.count} messages, {self.octets} octets", lines)

    def uidl(self, number: int | None) -> Reply:
        """The unique-id of one message, or of each."""
        uid = self._maildrop.uid
        if number is not None:
            return ok(f"{number} {uid(self._index(number))}")
        return listing("unique-ids follow", [f"{index + 1} {uid(index)}" for index in self._kept()])

    def retr(self, number: int) -> Reply:
        """A message."""
        index = self._index(number)
        size = self._maildrop.sizes[index]
        return text(f"{size} octets", self._maildrop.read(index), size)

    def top(self, number: int, lines: int) -> Reply:
        """The header of a message, and the first lines of its body."""
        index = self._index(number)
        size = self._maildrop.sizes[index]
        return text("the top follows", top(self._maildrop.read(index), lines), size)

    def dele(self, number: int) -> Reply:
        """Mark a message as deleted; QUIT deletes it."""
        index = self._index(number)
        self._deleted.add(index)
        self.count -= 1
        self.octets -= self._maildrop.sizes[index]
        return ok(f"message {number} deleted", effect=True)

    def noop(self) -> Reply:
        """Do nothing."""
        return ok("here")

    def rset(self) -> Reply:
        """Unmark what was marked as deleted."""
        self._deleted.clear()
        self.count, self.octets = len(self._maildrop.sizes), self._maildrop.octets
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

    def _kept(self) -> Iterable[int]:
        every = range(len(self._maildrop.sizes))
        return [index for index in every if index not in self._deleted] if self._deleted else every

    def _index(self, number: int) -> int:
        if not 1 <= number <= len(self._maildrop.sizes):
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


def unknown(_state: State, _text: bytes) -> Reply:
    raise Refusal("this command is not known here, or not now")


@dataclass(frozen=True, slots=True)
class Command:
    """One row of a table."""

    run: Callable[..., Reply | Coroutine[Any, Any, Reply]]
    grammar: Callable[[bytes], tuple[Any, ...]]
    rfc: str
    limit: int = 512
    """The longest line, in octets with its CRLF; RFC 2449 4 asks for 255."""


A, T, g = Authorization, Transaction, grammar
# fmt: off
A.commands = {
    #                run     argument            defined in
    b"CAPA": Command(A.capa, g.nothing,          "RFC 2449 5"),
    b"STLS": Command(A.stls, g.nothing,          "RFC 2595 4"),
    b"USER": Command(A.user, g.text,             "RFC 1939 7"),
    b"PASS": Command(A.pass_, g.text,            "RFC 1939 7"),
    b"AUTH": Command(A.auth, g.mechanism,        "RFC 5034 4", limit=12288),
    b"QUIT": Command(A.quit, g.nothing,          "RFC 1939 4"),
}
T.commands = {
    b"CAPA": Command(T.capa, g.nothing,          "RFC 2449 5"),
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
CAPABILITIES = [
    "TOP",  # RFC 2449 6.1
    "UIDL",  # RFC 2449 6.8
    "PIPELINING",  # RFC 2449 6.6
    "RESP-CODES",  # RFC 2449 6.4
    "AUTH-RESP-CODE",  # RFC 3206 6
    "EXPIRE NEVER",  # RFC 2449 6.7
    f"IMPLEMENTATION mailbe-{__version__}",  # RFC 2449 6.9
]
UNKNOWN = Command(unknown, lambda argument: (argument,), "RFC 1939 3")
