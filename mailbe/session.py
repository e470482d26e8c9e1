"""What a session is to the wire that it talks over, and the words that pass between the two.

``smtp`` and ``pop3`` have the sessions, ``conversation`` is the wire.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from zope.interface import Attribute, Interface


@dataclass(frozen=True, slots=True)
class Reply:
    """What a session says: its octets, or chunks of them, and whether it is the last word."""

    octets: bytes | Iterator[bytes]
    last: bool = False
    tls: bool = False
    """Whether TLS begins behind it."""
    error: bool = False
    """Whether it tells of a mistake of the client's; who makes many is hung up on."""
    effect: bool = False
    """Whether something has come of the conversation: what was counted against the client is forgotten."""
    part: bool = False
    """Whether a part of that has come, such as a piece of a letter: the command does not count against the client."""


class Refusal(Exception):
    """Unwinds a command; its reply is sent."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


class LineTooLong(Exception):
    """Unwinds a command whose line is over its limit; the wire hangs up."""


class PeerGone(Exception):
    """Unwinds a command that has asked the client for something and will never get it."""


class Farewell(Enum):
    """Why a wire hangs up by itself."""

    LINE_TOO_LONG = auto()
    PLAINTEXT = auto()
    """Something stood behind STARTTLS or STLS, where somebody else may have put it."""
    SILENCE = auto()
    SHUTDOWN = auto()
    NO_PLACE = auto()
    """There are too many connections, of this address or in all."""
    NO_EFFECT = auto()
    """Too many commands were wrong, or nothing has come of too many."""
    TOO_SLOW = auto()
    """Nothing has come of the conversation for too long, though the client was not silent."""


class Body(Protocol):
    """Takes what is not lines: the text that follows DATA."""

    def feed(self, data: bytes) -> bytes | None:
        """Take the next octets; return what came behind the end, or ``None`` before it."""


class ISession(Interface):
    """What one client may say in one state, and what it is told."""

    silence: float = Attribute("Seconds that a client may take for a line, or be silent within a letter.")
    patience: float = Attribute("Seconds after which something must have come of the conversation.")
    idle_commands: int = Attribute("Commands after which something must have come of it.")
    refusals: Mapping[type[Exception], Reply] = Attribute("The replies to the errors that storage raises.")
    fault: Reply = Attribute("The reply to an error that nobody expected.")
    farewells: Mapping[Farewell, bytes] = Attribute("What is said before hanging up; nothing where absent.")

    def greeting() -> Reply:
        """What a client is told first."""

    def answer(line: bytes) -> Reply | Coroutine[Any, Any, Reply | None]:
        """The reply to a command line, or a coroutine that returns it.

        :raises LineTooLong: where the line is longer than its command's lines may be.
        """

    def secured() -> None:
        """TLS has begun: what was learned before may be anybody's word (RFC 3207 4.2, RFC 2595 4)."""

    def ended() -> None:
        """The conversation is over, and no command runs any more."""
