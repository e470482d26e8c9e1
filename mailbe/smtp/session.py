"""The SMTP session: what a client may say, in which state, and what it is told (RFC 5321).

The table at the end has all of it. What MAIL begins is a ``Transaction``; where there is none, nothing is begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailbe.address import Address
from mailbe.conversation import Conversation
from mailbe.interfaces import (
    EnoughHeld,
    Envelope,
    IPostOffice,
    ISubmitter,
    MailboxFull,
    MailLoop,
    NoSuchMailbox,
    OverQuota,
    RelayDenied,
    TryLater,
)
from mailbe.journal import Journal
from mailbe.limits import Limits
from mailbe.peers import Network
from mailbe.session import Farewell, ISession, LineTooLong, Reply
from mailbe.smtp import grammar, times
from mailbe.smtp.authentication import Authentication
from mailbe.smtp.harvest import Harvest
from mailbe.smtp.incoming import Chunk, too_large
from mailbe.smtp.parameters import BINARY, Asked, Wanted
from mailbe.smtp.replies import Refusal, reply
from mailbe.smtp.transaction import Transaction

SILENCE = 300  # seconds, RFC 5321 4.5.3.2.7
PIECE = 1000  # octets of a chunk that is more than one more command without effect
MAX_LINE = 512  # octets, with its CRLF, RFC 5321 4.5.3.1.4
MAX_LIMIT = 999_999  # RFC 9422 4: no larger one can be told
OK = reply(250, "2.0.0 ok")
SENDER_OK = reply(250, "2.1.0 ok")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a listener wants of its sessions."""

    host: str
    """The name that we go by."""
    limits: Limits
    submission: bool = False
    """Whether only who has logged in may send (RFC 6409 4.3)."""
    networks: Sequence[Network] = ()
    """From where else than this machine letters may be handed over by LMTP."""
    classic: bool = False
    """Whether EHLO is unknown, and a client on this machine is believed to be who its MAIL says."""


@implementer(ISession)
class Session:
    """One SMTP conversation."""

    silence = SILENCE
    hello = "HELO or EHLO"
    transactions = Transaction  # what MAIL begins
    keyword, utf8_keyword = "ESMTP", "UTF8SMTP"  # RFC 3848, RFC 6531 4.3
    commands: Mapping[bytes, Command]
    fault = reply(451, "4.3.0 something went wrong here; try again later")
    refusals = {
        # No mistake of a client that sends to a long list; who tries out names is slowed by the harvest.
        NoSuchMailbox: replace(reply(550, "5.1.1 nobody of that name is here"), error=False),
        RelayDenied: reply(550, "5.7.1 mail is not passed on to other hosts"),
        MailLoop: reply(554, "5.4.6 the letter has been through too many hosts; it goes round in a loop"),
        EnoughHeld: reply(452, "4.3.1 as many letters of yours are held as may be; try again later"),
        OverQuota: reply(452, "4.2.2 the mailbox is full; try again later"),
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
        self._harvest = harvest
        self._journal = journal
        self._clock = clock
        self._now = now
        self._limits = settings.limits
        self._authentication = Authentication(wire, portal, offers_scram, self._limits.logins)
        self.patience = settings.limits.letter_seconds
        self.idle_commands = settings.limits.idle_commands + settings.limits.recipients
        self.helo = ""
        self.extended = False  # whether it was EHLO
        self.submitter: ISubmitter | None = None
        self.transaction: Transaction | None = None

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

    def answer(self, line: bytes) -> Reply | Coroutine[Any, Any, Reply | None]:
        verb, _, argument = line.rstrip(b" \t").partition(b" ")  # RFC 5321 4.1.1 wants white space at the end tolerated
        command = self.commands.get(verb.upper())
        if len(line) + 2 > (MAX_LINE if command is None else command.limit):
            raise LineTooLong
        if command is None:
            raise grammar.no_command(line)
        if command.needs is not None:
            command.needs(self)
        return command.run(self, *command.grammar(argument.strip(b" ")))

    def secured(self) -> None:
        self.helo, self.extended = "", False
        self.submitter = None
        self._forget()

    def ended(self) -> None:
        self._forget()

    # The commands. Their sections stand in the table below.

    def say_helo(self, name: str) -> Reply:
        """The client gives its name; what was begun before is forgotten."""
        self.helo, self.extended = name, False
        self._forget()
        return reply(250, self._settings.host)

    def say_ehlo(self, name: str) -> Reply:
        """The same as HELO, and the reply says what we can do beyond RFC 5321's minimum."""
        if self._settings.classic:
            raise Refusal(502, "5.5.1 no extensions here; say HELO")
        self.say_helo(name)
        self.extended = True
        tls = ["STARTTLS"] if self._wire.may_start_tls else []
        # A password may cross only what nobody reads along (RFC 8314 3.3).
        auth = [f"AUTH {' '.join(m.decode() for m in self._authentication.mechanisms)}"] if self._wire.private else []
        # HELP is named as 4.1.1.1 asks for all that 4.5.1 does not ask of everybody.
        return reply(250, self._settings.host, *self._extensions(), *tls, *auth, "ENHANCEDSTATUSCODES", "HELP")

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
        if self.submitter is not None or self.transaction is not None:
            raise Refusal(503, "5.5.1 AUTH comes once, and before MAIL")
        self.submitter = await self._authentication.log_in(mechanism, initial)
        return reply(235, "2.7.0 welcome")

    def mail(self, reverse_path: Address | None, asked: Asked) -> Reply | Coroutine[Any, Any, Reply | None]:
        """Begin a letter: from whom, and how large it will be, if that is known."""
        if asked.needs:
            self._see_that_are_offered(asked.needs)
        if asked.size > self._limits.size:
            raise too_large(self._limits.size)
        envelope = Envelope(reverse_path, self._sender(reverse_path), asked.size)
        if asked.needs:
            asked.extend(envelope, self._now())
        if envelope.release is not None:
            return self._begin_if_it_may_be_held(envelope, asked)
        return self._begin(envelope, asked)

    def rcpt(self, forward_path: Address | None, wanted: Wanted) -> Reply | Coroutine[Any, Any, Reply | None]:
        """One more whom the letter goes to."""
        transaction = self.transaction
        assert transaction is not None
        if transaction.incoming is not None:
            raise Refusal(503, "5.5.1 the letter is coming already")
        if wanted.needs:
            self._see_that_are_offered(wanted.needs)
        try:
            return transaction.add(forward_path, wanted)
        except NoSuchMailbox:
            if delay := self._delay():
                return self._nobody(delay)
            raise

    def data(self) -> Coroutine[Any, Any, Reply | None]:
        """The letter itself. 250 is said when it is safe on the disk in every mailbox, or not at all.

        It is read up to its lone dot whatever is wrong with it: only then has the client an ear for us.
        """
        transaction = self.transaction
        assert transaction is not None
        if transaction.incoming is not None:
            raise Refusal(503, "5.5.1 DATA and BDAT do not mix; BDAT goes on, RSET begins anew")
        if transaction.asked.body == BINARY:
            raise Refusal(503, "5.5.1 a letter with BODY=BINARYMIME comes by BDAT")
        self.transaction = None
        return transaction.read()

    async def bdat(self, octets: int, last: bool) -> Reply | None:
        """A piece of the letter, of so many octets; behind the last one the letter is delivered, as with DATA.

        They are taken whatever is wrong, or they would be obeyed as commands. A piece that is refused ends the
        letter: others may follow that were sent ahead, and must not make one of what is left (RFC 3030 2).
        """
        try:
            transaction = recipients_named(self)
            incoming = transaction.expect(octets)
        except Exception:
            self._forget()
            if octets:
                await self._wire.ask(None, Chunk(octets, _nowhere))
            raise
        if octets:
            await self._wire.ask(None, Chunk(octets, incoming.write))
        if last:
            self.transaction = None
            return await transaction.end()
        try:
            incoming.check()
        except Refusal:
            self._forget()
            raise
        return reply(250, f"2.0.0 {octets} octets received", part=octets >= PIECE)

    def rset(self) -> Reply:
        """Forget the letter that was begun."""
        self._forget()
        return OK

    def noop(self, _text: bytes) -> Reply:
        """Do nothing."""
        return OK

    def vrfy(self, name: str) -> Reply:
        """Say whether a mailbox is here to who has logged in, and nothing to others (RFC 5321 7.3).

        RCPT tells the same; but who gets nothing from it must not try names out here, where nobody slows him.
        """
        if self.submitter is None:
            return reply(252, "2.5.2 that is not told; send a letter and see")
        address = grammar.address(name if "@" in name else f"{name}@{self._office.postmaster().domain}", "5.1.3")
        self._office.destination(address, self.submitter)
        return Reply(f"250 2.1.5 <{address}>\r\n".encode())  # in UTF-8 for who has said SMTPUTF8 alone

    def expn(self, _name: bytes) -> Reply:
        """Say nothing of who is on a list: a site that does not tell answers 252 (RFC 5321 7.3)."""
        return reply(252, "2.5.2 that is not told")

    def help(self, topic: bytes) -> Reply:
        """Say what can be said here, or how a command is said and what it does."""
        if not topic:
            return reply(214, *(f"2.0.0 {command.syntax}" for command in self.commands.values()))
        command = self.commands.get(topic.upper())
        if command is None:
            raise Refusal(504, "5.5.4 there is no such command; HELP alone lists them")
        about, _, _ = (command.run.__doc__ or "").partition("\n")
        return reply(214, f"2.0.0 {command.syntax}", f"2.0.0 {about}", f"2.0.0 ({command.rfc})")

    def quit(self) -> Reply:
        """Good-bye."""
        return reply(221, f"2.0.0 {self._settings.host} says good-bye", last=True)

    # What they need.

    def _extensions(self) -> Iterator[str]:
        yield "PIPELINING"
        yield f"SIZE {self._limits.size}"
        yield "8BITMIME"
        yield "SMTPUTF8"
        yield "CHUNKING"
        yield BINARY
        yield "MT-PRIORITY MIXER"
        if self._limits.recipients <= MAX_LIMIT:
            yield f"LIMITS RCPTMAX={self._limits.recipients}"
        if self._wire.secure:
            yield "REQUIRETLS"
        if self._reports_arrive:
            yield "DSN"
        if self._settings.submission:
            yield "DELIVERBY"
            yield f"FUTURERELEASE {times.MAX_HOLD} {times.latest(self._now())}"

    @property
    def _reports_arrive(self) -> bool:
        """Whether the sender of a letter may have a mailbox here, where alone we can send reports.

        Who hands over letters of strangers hears nothing of DSN, and tells their senders himself that a host has them
        that will not tell more (RFC 3461 5.2.2).
        """
        return self._settings.submission or self._wire.at_home

    def _see_that_are_offered(self, needs: frozenset[str]) -> None:
        if not self.extended or not needs <= {line.partition(" ")[0] for line in self._extensions()}:
            raise Refusal(555, "5.5.4 a parameter is not for this connection; EHLO says which are")

    def _forget(self) -> None:
        """Forget the letter that was begun, and what has come of it."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.forget()

    def _begin(self, envelope: Envelope, asked: Asked) -> Reply:
        self.transaction = self.transactions(
            self._wire,
            self._settings.host,
            self._limits,
            self._office,
            self._journal,
            self._now,
            envelope,
            asked,
            self.helo,
            self._protocol(utf8=asked.utf8),
        )
        return SENDER_OK

    async def _begin_if_it_may_be_held(self, envelope: Envelope, asked: Asked) -> Reply:
        try:
            if (looking := self._office.may_hold(envelope.submitter)) is not None:
                await looking
        except EnoughHeld:
            # RFC 5321 4.1.1.11: a parameter that cannot be accommodated now; without it the letter would be taken.
            raise Refusal(455, "4.3.1 as many letters of yours are held as may be; send it without, or later") from None
        return self._begin(envelope, asked)

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

    def _protocol(self, *, utf8: bool) -> str:
        """How letters come, in the words of RFC 3848; it has none for HELO within TLS."""
        if not self.extended:
            return "SMTP"
        secure, known = self._wire.secure, self.submitter is not None
        return f"{self.utf8_keyword if utf8 else self.keyword}{'S' * secure}{'A' * known}"

    def _delay(self) -> float:
        """How many seconds it takes to say that nobody of a name is here."""
        return 0.0 if self.submitter is not None else self._harvest.delay(self._wire.peer)

    async def _nobody(self, delay: float) -> Reply:
        await deferLater(self._clock, delay)
        raise NoSuchMailbox


def greeted(session: Session) -> None:
    if not session.helo:
        raise Refusal(503, f"5.5.1 say {session.hello} first")


def no_letter(session: Session) -> None:
    greeted(session)
    if session.transaction is not None:
        raise Refusal(503, "5.5.1 a letter is begun already; RSET forgets it")


def letter_begun(session: Session) -> Transaction:
    if session.transaction is None:
        raise Refusal(503, "5.5.1 say MAIL first")
    return session.transaction


def recipients_named(session: Session) -> Transaction:
    transaction = letter_begun(session)
    if not transaction.envelope.recipients:
        raise Refusal(503, "5.5.1 say RCPT first")
    return transaction


def _nowhere(_data: bytes) -> None:
    """Where octets go that were announced and are of no use."""


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table."""

    run: Callable[..., Reply | Coroutine[Any, Any, Reply | None]]
    grammar: Callable[[bytes], tuple[Any, ...]]
    needs: Callable[[Session], object] | None
    syntax: str
    rfc: str
    limit: int = MAX_LINE
    """The longest line, in octets with its CRLF, and with what extensions add."""


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
    b"BDAT": Command(S.bdat,     g.chunk,       None,             "BDAT octets [LAST]",  "RFC 3030 2"),
    b"RSET": Command(S.rset,     g.nothing,     None,             "RSET",                "RFC 5321 4.1.1.5"),
    b"VRFY": Command(S.vrfy,     g.mailbox,     None,             "VRFY address",        "RFC 5321 4.1.1.6"),
    b"EXPN": Command(S.expn,     g.something,   None,             "EXPN list",           "RFC 5321 4.1.1.7"),
    b"HELP": Command(S.help,     g.anything,    None,             "HELP [command]",      "RFC 5321 4.1.1.8"),
    b"NOOP": Command(S.noop,     g.anything,    None,             "NOOP",                "RFC 5321 4.1.1.9"),
    b"QUIT": Command(S.quit,     g.nothing,     None,             "QUIT",                "RFC 5321 4.1.1.10"),
}
# fmt: on
Session.commands = COMMANDS
