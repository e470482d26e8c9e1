"""What both states of a POP3 session share: how a line becomes a reply, and what is told of what we can do.

A state is an object whose table of commands says what a client may say in it (RFC 1939 3).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mailbe import __version__, sasl, session
from mailbe.conversation import Conversation
from mailbe.interfaces import Terms
from mailbe.limits import Limits
from mailbe.pop3.languages import I_DEFAULT, LISTING, Language, matching
from mailbe.pop3.replies import Refusal, err, listing, ok
from mailbe.session import Farewell, LineTooLong, Reply

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
    refusals: Mapping[type[Exception], Reply]
    commands: Mapping[bytes, Command]

    def __init__(self, wire: Conversation, limits: Limits, offers_scram: Callable[[], bool]) -> None:
        self._wire = wire
        self._limits = limits
        self._offers_scram = offers_scram
        self._language = I_DEFAULT
        self.idle_commands = limits.idle_commands

    def greeting(self) -> Reply:
        return ok("mailbe is ready")

    def answer(self, line: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        verb, _, argument = line.partition(b" ")
        command = self.commands.get(verb.upper(), UNKNOWN)
        if len(line) + 2 > command.limit:
            raise LineTooLong
        if self._language is not I_DEFAULT:
            return self._answer_in_language(command, argument)
        return command.run(self, *command.grammar(argument))

    def _answer_in_language(self, command: Command, argument: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        try:
            reply = command.run(self, *command.grammar(argument))
        except session.Refusal as refusal:
            return self._language.said(refusal.reply)
        return self._language.said(reply) if isinstance(reply, Reply) else self._awaited(reply)

    async def _awaited(self, command: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            return self._language.said(await command)
        except session.Refusal as refusal:
            return self._language.said(refusal.reply)

    def speak(self, language: Language) -> None:
        """Give every text in ``language`` from now on."""
        self._language = language
        kind = type(self)
        self.refusals = {error: language.said(reply) for error, reply in kind.refusals.items()}
        self.fault = language.said(kind.fault)
        self.farewells = {why: language.said(Reply(octets)).octets for why, octets in kind.farewells.items()}

    def lang(self, wanted: str | None) -> Reply:
        """Go on in a language; without one, say which there are."""
        if wanted is None:
            return listing("these are the languages", LISTING)
        language = matching(wanted)
        if language is None:
            raise Refusal("this language is not known here")
        self.speak(language)
        return ok(f"{language.tag} {language.changed}")

    def capa(self) -> Reply:
        """What this server can do beyond RFC 1939's minimum, and nothing else."""
        tls = ["STLS"] if self._wire.may_start_tls else []
        # A password may cross only what nobody reads along (RFC 8314 3.3).
        log_in = ["USER", f"SASL {' '.join(self._mechanisms)}"] if self._wire.private else []
        return listing("this is what we can do", [*log_in, *tls, *CAPABILITIES, *self._terms(), IMPLEMENTATION])

    def _terms(self) -> Iterable[str]:
        """What a client should know of log-ins and letters' ends (RFC 2449 6.5, 6.7)."""
        raise NotImplementedError

    @property
    def _mechanisms(self) -> list[str]:
        # LOGIN is no standard, and only SMTP has clients that know nothing else.
        names = sasl.offered(self._wire.channel_binding, scram=self._offers_scram())
        return [name.decode() for name in names if name != b"LOGIN"]


def capabilities(terms: Terms, delays_differ: bool = False, days_differ: bool = False) -> list[str]:
    """How ``terms`` are announced; where they differ for users, more is known after log-in (RFC 2449 6.5, 6.7)."""
    delay = [f"LOGIN-DELAY {terms.delay}{' USER' if delays_differ else ''}"] if terms.delay or delays_differ else []
    days = "NEVER" if terms.days is None else str(terms.days)
    return [*delay, f"EXPIRE {days}{' USER' if days_differ else ''}"]


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


CAPABILITIES = [
    "TOP",  # RFC 2449 6.1
    "UIDL",  # RFC 2449 6.8
    "PIPELINING",  # RFC 2449 6.6
    "RESP-CODES",  # RFC 2449 6.4
    "AUTH-RESP-CODE",  # RFC 3206 6
    "UTF8 USER",  # RFC 6856 2
    "LANG",  # RFC 6856 3
]
IMPLEMENTATION = f"IMPLEMENTATION mailbe-{__version__}"  # RFC 2449 6.9
UNKNOWN = Command(unknown, lambda argument: (argument,), "RFC 1939 3")
