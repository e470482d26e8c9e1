"""Getting through to a server: the first port that answers, TLS as it is offered, a certificate that is trusted."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from mailbe.client import dialogue
from mailbe.client.dialogue import Listen, Transcript
from mailbe.client.errors import Unreachable
from mailbe.client.servers import Door
from mailbe.client.trust import Trust
from mailbe.client.wire import Wire

SECONDS_FOR_A_GREETING = 3  # before a port of unknown kind is taken for one that waits for TLS


class Speaker(Protocol):
    """One who speaks a protocol as a client."""

    wire: Wire

    def __init__(self, wire: Wire) -> None: ...

    def greet(self) -> None:
        """Hear the greeting, if it is still to come, and ask what the server can do."""

    @property
    def may_start_tls(self) -> bool:
        """Whether the server offers TLS."""

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Go on in TLS, and greet again."""


_Speaker = TypeVar("_Speaker", bound=Speaker)


def dial(
    speaker: type[_Speaker],
    protocol: dialogue.Protocol,
    doors: Sequence[Door],
    name: str,
    trust: Trust,
    listen: Listen,
    patience: float,
    opening: Callable[[Wire], None],
) -> _Speaker:
    """A connection on which the greeting is over, in TLS if the server has that.

    :param name: what its certificate must be made for.
    :param patience: seconds that the server may keep silent.
    :param opening: is told of each connection before it is opened.
    :raises NoAnswer, NotTrusted, Refused, Cancelled:
    """

    def through(door: Door, context: ssl.SSLContext) -> _Speaker:
        wire = Wire(door.host, door.port, Transcript(protocol, listen), patience)
        opening(wire)
        try:
            wire.connect()
            implicit = door.implicit_tls
            if implicit or (implicit is None and not wire.speaks_first(min(SECONDS_FOR_A_GREETING, patience))):
                wire.start_tls(context, name)
            speaks = speaker(wire)
            speaks.greet()
            if not wire.tls and speaks.may_start_tls:
                speaks.start_tls(context, name)
        except BaseException:
            wire.close()
            raise
        return speaks

    def enter(door: Door) -> _Speaker:
        try:
            return through(door, trust.verifying)
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message or str(error)
        speaks = through(door, trust.looking)
        try:
            trust.check(speaks.wire.certificate, name, door.port, reason)
        except BaseException:
            speaks.wire.close()
            raise
        speaks.wire.transcript.note("the certificate is one that you have accepted")
        return speaks

    failures = []
    for door in doors:
        try:
            return enter(door)
        except Unreachable as error:
            failures.append(str(error))
    raise Unreachable("; ".join(failures) or f"{name} has no port for {protocol}")
