"""SASL mechanisms, server side, each a short exchange; SMTP AUTH and POP3 AUTH share them (RFC 4422).

A protocol says how its client is asked (``Client``) and gets back credentials for the portal. What a challenge
looks like on the wire (``334 …`` or ``+ …``) is the protocol's business, its base64 is ours. PLAIN and LOGIN end
with a password; SCRAM with an ``IProof``, as its other half needs what is kept of the account.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from passlib.utils import saslprep
from zope.interface import implementer

from mailbe.address import MAX_DOMAIN, MAX_LOCAL_PART, folded, login_name
from mailbe.interfaces import IProof, Login, TryLater

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge, in base64, and returns the line that the client answers."""


class Cancelled(Exception):
    """The client gave the exchange up with a ``*`` (RFC 4954 4, RFC 5034 4)."""


class Malformed(Exception):
    """The client's response is not base64, or not what the mechanism asks for."""


class Refused(Exception):
    """The client asks for what nobody gets, or does not hold what it says to: the log-in has failed."""


@dataclass(frozen=True, slots=True)
class Client:
    """Whom an exchange is with."""

    ask: Ask
    peer: str
    """Its IP address; empty where it has none."""
    channel_binding: Mapping[str, bytes]
    """The bindings to the TLS channel below, by type (RFC 5056); none where there is no TLS."""
    maildrop: bool = False
    """Whether it names a maildrop, see ``sent``, or else an account."""

    async def respond(self, challenge: bytes) -> bytes:
        """The response to a challenge, both without their base64.

        :raises Cancelled, Malformed:
        """
        return _decoded(await self.ask(base64.b64encode(challenge)))


async def plain(client: Client, initial: bytes | None) -> Login:
    """PLAIN: authorization identity, name and password in one response, NUL between them (RFC 4616 2)."""
    response = await client.respond(b"") if initial is None else initial
    fields = response.split(b"\0")
    if len(fields) != 3 or not fields[1]:
        raise Malformed("PLAIN takes [authzid] NUL name NUL password")
    acting_for, name, password = fields
    _check_for_oneself(acting_for, name)
    return Login(name, password, client.peer, maildrop=client.maildrop)


async def login(client: Client, initial: bytes | None) -> Login:
    """LOGIN: name and password, each asked for; clients insist on these very prompts.

    Never standardized; draft-murchison-sasl-login-00.
    """
    name = await client.respond(b"Username:") if initial is None else initial
    password = await client.respond(b"Password:")
    if not name or b"\0" in name or b"\0" in password:
        raise Malformed("LOGIN takes a name and a password")
    return Login(name, password, client.peer, maildrop=client.maildrop)


# RFC 5802 7. Extensions that we do not know are ignored, but for m, which says that they may not be.
_NAME = r"(?:[^\0,=]|=2C|=3D)+"
MAX_NAME = 2 + 2 * MAX_LOCAL_PART + 1 + MAX_DOMAIN  # characters; no account has a longer one
_NONCE = r"[\x21-\x2b\x2d-\x7e]+"
_EXTENSIONS = r"(?:,(?![acimnprsve]=)[A-Za-z]=[^\0,]+)*"
_CLIENT_FIRST = re.compile(
    rf"(?P<header>(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<acting_for>{_NAME}))?,)"
    rf"(?P<bare>n=(?P<name>{_NAME}),r=(?P<nonce>{_NONCE}){_EXTENSIONS})"
)
_CLIENT_FINAL = re.compile(rf"(?P<bare>c=(?P<binding>[^,]+),r=(?P<nonce>{_NONCE}){_EXTENSIONS}),p=(?P<proof>[^,]+)")
_KEY = "[A-Za-z0-9+/]{43}="  # 32 octets in base64
_VERIFIER = re.compile(
    rf"SCRAM-SHA-256\$(?P<iterations>[0-9]+):(?P<salt>[A-Za-z0-9+/=]+)\$(?P<stored>{_KEY}):(?P<server>{_KEY})"
)
_DIGEST = hashlib.sha256().digest_size


async def scram(client: Client, initial: bytes | None, *, plus: bool, nonce: str | None = None) -> Proof:
    """SCRAM-SHA-256, and with ``plus`` SCRAM-SHA-256-PLUS, up to the client's first message (RFC 5802, RFC 7677).

    :param nonce: the server's part of it, if not a random one.
    """
    response = await client.respond(b"") if initial is None else initial
    first = _matched(_CLIENT_FIRST, response)
    flag, kind = first["flag"], first["type"]
    if plus != (kind is not None):
        raise Malformed("with -PLUS, and only with it, SCRAM takes a channel binding")
    if flag == "y" and client.channel_binding:
        # RFC 5802 6: somebody between us has taken -PLUS out of what we offer.
        raise Refused("a channel binding is offered here, and you were told that it is not")
    if kind is not None and kind not in client.channel_binding:
        raise Refused("this type of channel binding is not known here")
    name = _prepared(first["name"])
    if first["acting_for"] is not None:
        _check_for_oneself(_prepared(first["acting_for"]), name)
    binding = first["header"].encode() + (client.channel_binding[kind] if kind else b"")
    whole_nonce = first["nonce"] + (nonce or secrets.token_urlsafe(24))
    return Proof(client, name, first["bare"], binding, whole_nonce)


@implementer(IProof)
class Proof:
    """Somebody's name, and the rest of a SCRAM exchange, which proves that they know the password."""

    def __init__(self, client: Client, username: bytes, client_first: str, binding: bytes, nonce: str) -> None:
        self.username = username
        self.peer = client.peer
        self.maildrop = client.maildrop
        self._client = client
        self._client_first = client_first
        self._binding = binding
        self._nonce = nonce

    async def prove(self, verifier: str, admit: Callable[[], object]) -> bool:
        """Whether the client knows the password that ``verifier`` was made of; if so, it was told that we know it.

        :param admit: asked before it is told, as others may have guessed too often since the exchange began.

        :raises Cancelled, Malformed, Refused: the proof was not looked at, or our own was not accepted.
        """
        if not (kept := _VERIFIER.fullmatch(verifier)):
            name = ascii(self.username.decode())
            raise TryLater(f"the SCRAM verifier of {name} is damaged; a new password mends it: mailbe user passwd")
        stored_key, server_key = _base64(kept["stored"]), _base64(kept["server"])

        server_first = f"r={self._nonce},s={kept['salt']},i={kept['iterations']}"
        final = _matched(_CLIENT_FINAL, await self._client.respond(server_first.encode()))
        binding, proof = _base64(final["binding"]), _base64(final["proof"])
        if len(proof) != _DIGEST:
            raise Malformed("a proof of SCRAM-SHA-256 has 32 octets")
        if not hmac.compare_digest(binding, self._binding):
            raise Refused("your channel is not the one that ends here")
        if final["nonce"] != self._nonce:
            raise Refused("the nonce is not that of this exchange")

        said = f"{self._client_first},{server_first},{final['bare']}".encode()
        mask = hmac.digest(stored_key, said, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, mask, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key):
            return False
        admit()
        # Neither RFC 4954 nor RFC 5034 has room for it in the last reply, so it is one more challenge.
        signature = base64.b64encode(hmac.digest(server_key, said, "sha256"))
        if await self._client.respond(b"v=" + signature):
            raise Malformed("nothing is left to be said in SCRAM")
        return True


MECHANISMS: dict[bytes, Callable[[Client, bytes | None], Coroutine[Any, Any, Login | Proof]]] = {
    b"PLAIN": plain,
    b"LOGIN": login,
    b"SCRAM-SHA-256": partial(scram, plus=False),
    b"SCRAM-SHA-256-PLUS": partial(scram, plus=True),
}


def offered(channel_binding: Mapping[str, bytes], *, scram: bool) -> list[bytes]:
    """The names of the mechanisms that work on a connection with these bindings.

    :param scram: whether every account can use SCRAM. Some clients choose it where they see it, and give up
        where it fails.
    """
    return [
        name
        for name in MECHANISMS
        if (channel_binding or not name.endswith(b"-PLUS")) and (scram or not name.startswith(b"SCRAM-"))
    ]


async def exchange(mechanism: bytes, initial: bytes | None, client: Client) -> Login | Proof:
    """Run one exchange as far as it goes without the account; what it returns is for the portal.

    :param mechanism: one of those ``offered``.
    :param initial: the initial response as it came, in base64, ``=`` for an empty one; ``None`` where the
        client sent none (RFC 4954 4).
    :raises Cancelled, Malformed, Refused: as ``Proof.prove`` may, too.
    """
    first = None if initial is None else b"" if initial == b"=" else _decoded(initial)
    return await MECHANISMS[mechanism](client, first)


def _check_for_oneself(acting_for: bytes, name: bytes) -> None:
    # The authorization identity: none, or one's own. Where one of the two is the part before the @ alone, that decides.
    acting, own = (folded(login_name(identity)) for identity in (acting_for, name))
    if not ("@" in acting and "@" in own):
        own, acting = own.partition("@")[0], acting.partition("@")[0] or own.partition("@")[0]
    if acting != own:
        raise Refused("nobody logs in for another here")


def _matched(message: re.Pattern[str], response: bytes) -> re.Match[str]:
    try:
        match = message.fullmatch(response.decode())
    except UnicodeDecodeError:
        match = None
    if match is None:
        raise Malformed("this is no message of SCRAM, or asks for what is not known here")
    return match


def _prepared(name: str) -> bytes:
    """A name in a SCRAM message as we know it (RFC 5802 5.1, attribute n)."""
    plain = name.replace("=2C", ",").replace("=3D", "=")
    try:
        # SASLprep of all that a line can hold takes 20 ms, and everybody waits.
        prepared: str = saslprep(plain) if len(plain) <= MAX_NAME else ""
    except ValueError:
        prepared = ""
    if not prepared:
        raise Malformed("this cannot be a name")
    return prepared.encode()


def _decoded(response: bytes) -> bytes:
    if response == b"*":
        raise Cancelled
    return _base64(response)


def _base64(text: bytes | str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # a str that is not ASCII is no binascii.Error
        raise Malformed("not base64") from error
