"""The SMTP session: what a client may say, in which state, and what it is told (RFC 5321)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from mailbe import sasl
from mailbe.address import Address
from mailbe.conversation import Conversation
from mailbe.dots import DotReader
from mailbe.interfaces import (
    Envelope,
    ILetter,
    IPostOffice,
    ISubmitter,
    MailboxFull,
    MailLoop,
    NoSuchMailbox,
    RelayDenied,
    TryLater,
)
from mailbe.journal import Journal
from mailbe.limits import Limits
from mailbe.session import Farewell, ISession, LineTooLong, Reply
from mailbe.smtp import grammar
from mailbe.smtp.harvest import Harvest
from mailbe.smtp.replies import Refusal, reply
from mailbe.trace import received

log = Logger()

SILENCE = 300  # seconds, RFC 5321 4.5.3.2.7
OK = reply(250, "2.0.0 ok")
SENDER_OK = reply(250, "2.1.0 ok")
RECIPIENT_OK = reply(250, "2.1.5 ok")
GO_AHEAD = reply(354, "go ahead; end with a line of one dot")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a listener wants of its sessions."""

    host: str
    """The name that we go by."""
    limits: Limits
    submission: bool = False
    """Whether only who has logged in may send (RFC 6409 4.3)."""
    classic: bool = False
    """Whether EHLO is unknown, and a client on this machine is believed to be who its MAIL says."""


@implementer(ISession)
class Session:
    """One SMTP conversation."""

    silence = SILENCE
    fault = reply(451, "4.3.0 something went wrong here; try again later")
    refusals = {
        # No mistake of a client that sends to a long list; who tries out names is slowed by the harvest.
        NoSuchMailbox: replace(reply(550, "5.1.1 nobody of that name is here"), error=False),
        RelayDenied: reply(550, "5.7.1 mail is not passed on to other hosts"),
        MailLoop: reply(554, "5.4.6 the letter has been through too many hosts; it goes round in a loop"),
        MailboxFull: reply(452, "4.3.1 there is no room for the letter now; try again later"),
        TryLater: reply(451, "4.3.0 the letter cannot be stored now; try again later"),
    }

    def __init__(
        self,
        wire: Conversation,
        settings: Settings,
        office: IPostOffice,
        portal: Portal,
        offers_scram: Callable[[], bool],
        harvest: Harvest,
        journal: Journal,
        clock: IReactorTime,
        now: Callable[[], float] = time.time,
    ) -> None:
        """:param clock: what waiting is measured with.
        :param now: the time of day, in seconds since 1970.
        """
        self._wire = wire
        self._settings = settings
        self._office = office
        self._portal = portal
        self._offers_scram = offers_scram
        self._harvest = harvest
        self._journal = journal
        self._clock = clock
        self._now = now
        self._limits = settings.limits
        self._logins = 0
        self.patience = settings.limits.letter_seconds
        self.idle_commands = settings.limits.idle_commands + settings.limits.recipients
        self.helo = ""
        self.extended = False  # whether it was EHLO
        self.submitter: ISubmitter | None = None
        self.envelope: Envelope | None = None

    @property
    def farewells(self) -> dict[Farewell, bytes]:
        host = self._settings.host
        return {
            Farewell.LINE_TOO_LONG: b"500 5.5.2 the line is too long\r\n",
            Farewell.PLAINTEXT: b"501 5.5.1 nothing may follow STARTTLS before TLS has begun\r\n",
            Farewell.SILENCE: f"421 4.4.2 {host} has waited long enough\r\n".encode("ascii"),
            Farewell.SHUTDOWN: f"421 4.3.2 {host} is shutting down\r\n".encode("ascii"),
            Farewell.NO_PLACE: f"421 4.7.0 {host} has too many connections now; try again later\r\n".encode("ascii"),
            Farewell.NO_EFFECT: f"421 4.7.0 {host} has waited for a letter through enough commands\r\n".encode("ascii"),
            Farewell.TOO_SLOW: f"421 4.4.2 {host} has waited long enough for a letter\r\n".encode("ascii"),
        }

    def greeting(self) -> Reply:
        return reply(220, f"{self._settings.host} {'SMTP' if self._settings.classic else 'ESMTP'} mailbe")

    def answer(self, line: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        verb, _, argument = line.partition(b" ")
        command = COMMANDS.get(verb.upper(), UNKNOWN)
        if len(line) + 2 > command.limit:
            raise LineTooLong
        if command.needs is not None:
            command.needs(self)
        return command.run(self, *command.grammar(argument.strip(b" ")))

    def secured(self) -> None:
        self.helo, self.extended = "", False
        self.submitter = None
        self.envelope = None

    def ended(self) -> None:
        self.envelope = None

    # The commands. Their sections stand in the table below.

    def say_helo(self, name: str) -> Reply:
        """The client gives its name; what was begun before is forgotten."""
        self.helo, self.extended = name, False
        self.envelope = None
        return reply(250, self._settings.host)

    def say_ehlo(self, name: str) -> Reply:
        """The same, and the reply says what we can do beyond RFC 5321's minimum."""
        if self._settings.classic:
            raise Refusal(502, "5.5.1 no extensions here; say HELO")
        self.say_helo(name)
        self.extended = True
        tls = ["STARTTLS"] if self._wire.may_start_tls else []
        # A password may cross only what nobody reads along (RFC 8314 3.3).
        auth = [f"AUTH {' '.join(m.decode() for m in self._mechanisms)}"] if self._wire.private else []
        return reply(
            250,
            self._settings.host,
            "PIPELINING",
            f"SIZE {self._limits.size}",
            "8BITMIME",
            *tls,
            *auth,
            "ENHANCEDSTATUSCODES",
        )

    def starttls(self) -> Reply:
        """Go on in TLS; what was said before is forgotten."""
        if self._wire.secure:
            raise Refusal(503, "5.5.1 TLS is on already")
        if not self._wire.may_start_tls:
            raise Refusal(502, "5.5.1 there is no TLS here")
        return Reply(b"220 2.0.0 go ahead with TLS\r\n", tls=True)

    async def auth(self, mechanism: bytes, initial: bytes | None) -> Reply:
        """Log in, once, and not within a transaction."""
        if not self._wire.private:
            raise Refusal(538, "5.7.11 no password is taken on a connection that others can read")
        if self.submitter is not None or self.envelope is not None:
            raise Refusal(503, "5.5.1 AUTH comes once, and before MAIL")
        if mechanism not in self._mechanisms:
            raise Refusal(504, "5.5.4 this mechanism is not known here")
        try:
            client = sasl.Client(self._challenge, self._wire.peer, self._wire.channel_binding)
            credentials = await sasl.exchange(mechanism, initial, client)
            self._count_login()
            _, submitter, _ = await self._portal.login(credentials, None, ISubmitter)
        except sasl.Cancelled:
            raise Refusal(501, "5.7.0 as you wish: no log-in") from None
        except sasl.Malformed as error:
            raise Refusal(501, f"5.5.2 {error}") from None
        except sasl.Refused as error:
            raise Refusal(535, f"5.7.8 {error}") from None
        except UnauthorizedLogin:
            raise Refusal(535, "5.7.8 the name or the password is wrong") from None
        except TryLater as error:
            if not error.logged:
                log.warn("log-in put off: {error}", error=error)
            raise Refusal(454, "4.7.0 nobody can log in now; try again later") from error
        self.submitter = cast(ISubmitter, submitter)
        return reply(235, "2.7.0 welcome")

    def mail(self, reverse_path: Address | None, size: int) -> Reply:
        """Begin a letter: from whom, and how large it will be, if that is known."""
        self._check_size(size)
        self.envelope = Envelope(reverse_path, self._sender(reverse_path))
        return SENDER_OK

    def rcpt(self, forward_path: Address | None) -> Reply | Coroutine[Any, Any, Reply]:
        """One more whom the letter goes to."""
        assert self.envelope is not None
        if len(self.envelope.recipients) >= self._limits.recipients:
            raise Refusal(452, "4.5.3 that is enough recipients; send the others the letter anew")
        recipient = forward_path or self._office.postmaster()
        try:
            destination = self._office.destination(recipient, self.envelope.submitter)
        except NoSuchMailbox:
            if self.submitter is None and (delay := self._harvest.delay(self._wire.peer)):
                return self._nobody(delay)
            raise
        self.envelope.recipients.append(recipient)
        self.envelope.destinations.append(destination)
        return RECIPIENT_OK

    async def data(self) -> Reply:
        """The letter itself. 250 is said when it is safe on the disk in every mailbox, or not at all.

        It is read up to its lone dot whatever is wrong with it: only then has the client an ear for us.
        """
        assert self.envelope is not None
        envelope, self.envelope = self.envelope, None
        letter = self._office.letter(envelope)
        try:
            letter.write(self._received(letter, envelope))
            await self._read(letter)
            await letter.deliver()
        finally:
            letter.discard()
        self._journal.note(f"{letter.id}: {envelope.reverse_path or '<>'} to {len(envelope.recipients)} recipients")
        return reply(250, f"2.0.0 ok {letter.id}", effect=True)

    def rset(self) -> Reply:
        """Forget the letter that was begun."""
        self.envelope = None
        return OK

    def noop(self, _text: bytes) -> Reply:
        """Do nothing."""
        return OK

    def vrfy(self, _name: bytes) -> Reply:
        """Say nothing of who has a mailbox here, in the one form that RFC 5321 7.3 leaves for it."""
        return reply(252, "2.5.2 that is not told; send a letter and see")

    def help(self, _text: bytes) -> Reply:
        """What can be said here."""
        return reply(214, *(f"2.0.0 {command.syntax}" for command in COMMANDS.values()))

    def quit(self) -> Reply:
        """Good-bye."""
        return reply(221, f"2.0.0 {self._settings.host} says good-bye", last=True)

    # What they need.

    def _sender(self, reverse_path: Address | None) -> ISubmitter | None:
        if self.submitter is not None:
            if not self.submitter.may_send_as(reverse_path):
                raise Refusal(553, "5.7.1 this is not an address of the account that you logged in with")
            return self.submitter
        believes = self._settings.classic and self._wire.at_home
        believed = self._office.believed(reverse_path) if believes else None
        if believed is None and self._settings.submission:
            raise Refusal(530, "5.7.0 log in first")
        return believed

    @property
    def _mechanisms(self) -> list[bytes]:
        return sasl.offered(self._wire.channel_binding, scram=self._scram)

    @cached_property
    def _scram(self) -> bool:
        # Asked once: a client says EHLO, STARTTLS, EHLO and AUTH in one breath.
        return self._offers_scram()

    def _count_login(self) -> None:
        self._logins += 1
        if self._logins > self._limits.logins:
            raise Refusal(421, "4.7.0 that is enough tries for one connection", last=True)

    async def _nobody(self, delay: float) -> Reply:
        await deferLater(self._clock, delay)
        raise NoSuchMailbox

    def _challenge(self, challenge: bytes) -> Awaitable[bytes]:
        return self._wire.ask(Reply(b"334 " + challenge + b"\r\n"))

    async def _read(self, letter: ILetter) -> None:
        def write(chunk: bytes) -> None:
            if reader.octets <= self._limits.size and not reader.bare:
                letter.write(chunk)

        reader = DotReader(write)
        await self._wire.ask(GO_AHEAD, reader)
        if reader.bare:
            raise Refusal(554, "5.6.0 a line of the letter has a CR or LF that is no line end")
        self._check_size(reader.octets)

    def _check_size(self, octets: int) -> None:
        if octets > self._limits.size:
            raise Refusal(552, f"5.3.4 letters of more than {self._limits.size} octets are not taken")

    def _received(self, letter: ILetter, envelope: Envelope) -> bytes:
        # RFC 3848; it has no keyword for HELO within TLS.
        secure, known = self._wire.secure, self.submitter is not None
        keyword = f"ESMTP{'S' * secure}{'A' * known}" if self.extended else "SMTP"
        return received(
            helo=self.helo,
            peer=self._wire.peer,
            by=self._settings.host,
            protocol=keyword,
            id=letter.id,
            time=self._now(),
            recipient=envelope.recipients[0] if len(envelope.recipients) == 1 else None,
        )


def greeted(session: Session) -> None:
    if not session.helo:
        raise Refusal(503, "5.5.1 say HELO or EHLO first")


def no_letter(session: Session) -> None:
    greeted(session)
    if session.envelope is not None:
        raise Refusal(503, "5.5.1 a letter is begun already; RSET forgets it")


def letter_begun(session: Session) -> None:
    if session.envelope is None:
        raise Refusal(503, "5.5.1 say MAIL first")


def recipients_named(session: Session) -> None:
    letter_begun(session)
    if session.envelope is not None and not session.envelope.recipients:
        raise Refusal(503, "5.5.1 say RCPT first")


def unknown(_session: Session, _text: bytes) -> Reply:
    raise Refusal(500, "5.5.2 this command is not known here")


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table."""

    run: Callable[..., Reply | Coroutine[Any, Any, Reply]]
    grammar: Callable[[bytes], tuple[Any, ...]]
    needs: Callable[[Session], None] | None
    syntax: str
    rfc: str
    limit: int = 512
    """The longest line, in octets with its CRLF (RFC 5321 4.5.3.1.4, and what extensions add)."""


S, g = Session, grammar
# fmt: off
COMMANDS: dict[bytes, Command] = {
    #                 run         argument       needs             for HELP               defined in           limit
    b"HELO": Command(S.say_helo, g.client_name, None,             "HELO host",           "RFC 5321 4.1.1.1"),
    b"HELLO":Command(S.say_helo, g.client_name, None,             "HELLO host",          "the school project"),
    b"EHLO": Command(S.say_ehlo, g.client_name, None,             "EHLO host",           "RFC 5321 4.1.1.1"),
    b"STARTTLS":Command(S.starttls,g.nothing,   None,             "STARTTLS",            "RFC 3207 4"),
    b"AUTH": Command(S.auth,     g.mechanism,   greeted,          "AUTH mechanism",      "RFC 4954 4", 12288),
    b"MAIL": Command(S.mail,     g.from_path,   no_letter,        "MAIL FROM:<address>", "RFC 5321 4.1.1.2", 2048),
    b"RCPT": Command(S.rcpt,     g.to_path,     letter_begun,     "RCPT TO:<address>",   "RFC 5321 4.1.1.3", 2048),
    b"DATA": Command(S.data,     g.nothing,     recipients_named, "DATA",                "RFC 5321 4.1.1.4"),
    b"RSET": Command(S.rset,     g.nothing,     None,             "RSET",                "RFC 5321 4.1.1.5"),
    b"VRFY": Command(S.vrfy,     g.something,   None,             "VRFY address",        "RFC 5321 4.1.1.6"),
    b"HELP": Command(S.help,     g.anything,    None,             "HELP",                "RFC 5321 4.1.1.8"),
    b"NOOP": Command(S.noop,     g.anything,    None,             "NOOP",                "RFC 5321 4.1.1.9"),
    b"QUIT": Command(S.quit,     g.nothing,     None,             "QUIT",                "RFC 5321 4.1.1.10"),
}
# fmt: on
UNKNOWN = Command(unknown, grammar.anything, None, "", "RFC 5321 4.2.4")
