"""SASL mechanisms, server side, each a short exchange; SMTP AUTH and POP3 AUTH share them (RFC 4422).

A protocol gives an exchange a way to ask the client (``Ask``) and gets back who wants to log in. What a
challenge looks like on the wire (``334 …`` or ``+ …``) is the protocol's business, its base64 is ours.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge, in base64, and returns the line that the client answers."""

Respond = Callable[[bytes], Awaitable[bytes]]
"""The same without the base64: challenge in, response out."""


class Cancelled(Exception):
    """The client gave the exchange up with a ``*`` (RFC 4954 4, RFC 5034 4)."""


class Malformed(Exception):
    """The client's response is not base64, or not what the mechanism asks for."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who somebody says to be, and the proof."""

    name: bytes
    password: bytes = field(repr=False)
    acting_for: bytes = b""
    """The authorization identity; empty: the name's own (RFC 4616 2)."""

    @property
    def for_oneself(self) -> bool:
        """Whether nobody else's mailbox is wanted, as we let nobody act for another.

        Who logs in by the part before the @ alone may name himself in full.
        """
        name, acting_for = self.name.lower(), self.acting_for.lower()
        return acting_for in (b"", name) or acting_for.partition(b"@")[0] == name


async def plain(ask: Respond, initial: bytes | None) -> Claim:
    """PLAIN: authorization identity, name and password in one response, NUL between them (RFC 4616 2)."""
    response = await ask(b"") if initial is None else initial
    fields = response.split(b"\0")
    if len(fields) != 3 or not fields[1]:
        raise Malformed("PLAIN takes [authzid] NUL name NUL password")
    acting_for, name, password = fields
    return Claim(name, password, acting_for)


async def login(ask: Respond, initial: bytes | None) -> Claim:
    """LOGIN: name and password, each asked for; clients insist on these very prompts.

    Never standardized; draft-murchison-sasl-login-00.
    """
    name = await ask(b"Username:") if initial is None else initial
    password = await ask(b"Password:")
    if not name or b"\0" in name or b"\0" in password:
        raise Malformed("LOGIN takes a name and a password")
    return Claim(name, password)


MECHANISMS: dict[bytes, Callable[[Respond, bytes | None], Coroutine[Any, Any, Claim]]] = {
    b"PLAIN": plain,
    b"LOGIN": login,
}


async def exchange(mechanism: bytes, initial: bytes | None, ask: Ask) -> Claim:
    """Run one exchange to its end.

    :param mechanism: one of ``MECHANISMS``.
    :param initial: the initial response as it came, in base64, ``=`` for an empty one; ``None`` where the
        client sent none (RFC 4954 4).
    :raises Cancelled, Malformed:
    """

    async def respond(challenge: bytes) -> bytes:
        return _decoded(await ask(base64.b64encode(challenge)))

    first = None if initial is None else b"" if initial == b"=" else _decoded(initial)
    return await MECHANISMS[mechanism](respond, first)


def _decoded(response: bytes) -> bytes:
    if response == b"*":
        raise Cancelled
    try:
        return base64.b64decode(response, validate=True)
    except binascii.Error as error:
        raise Malformed("not base64") from error
