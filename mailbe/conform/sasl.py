"""The client's side of the SASL mechanisms that mail servers offer, each a generator from challenge to response."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial

from cryptography import x509

from mailbe.conform.rules import Unclear


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in."""

    user: str
    password: str
    certificate: bytes = b""
    """The server's, as DER, where there is TLS."""


Client = Generator["bytes | None", bytes, None]
"""Yields first its initial response, ``None`` where the server speaks first, and then a response to each challenge."""


def plain(login: Login) -> Client:
    """RFC 4616."""
    yield f"\0{login.user}\0{login.password}".encode()


def login(login: Login) -> Client:
    """Never standardized; draft-murchison-sasl-login-00."""
    yield None
    yield login.user.encode()
    yield login.password.encode()


def cram_md5(login: Login) -> Client:
    """RFC 2195."""
    challenge = yield None
    digest = hmac.new(login.password.encode(), challenge, "md5").hexdigest()
    yield f"{login.user} {digest}".encode()


def scram(login: Login, *, digest: str, plus: bool) -> Client:
    """RFC 5802, RFC 7677; with -PLUS, the binding is tls-server-end-point (RFC 5929)."""
    header = b"p=tls-server-end-point,," if plus else b"n,,"
    nonce = secrets.token_urlsafe(18)
    name = login.user.replace("=", "=3D").replace(",", "=2C")
    first = f"n={name},r={nonce}"
    challenge = yield header + first.encode()
    found = re.fullmatch(rb"r=([!-+\--~]+),s=([^,]+),i=([0-9]{1,7})(?:,.*)?", challenge)
    if not found or not found[1].startswith(nonce.encode()):
        raise Unclear("the server's first message of SCRAM is not of its form")
    salted = hashlib.pbkdf2_hmac(digest, login.password.encode(), base64.b64decode(found[2]), int(found[3]))
    binding = base64.b64encode(header + (_end_point(login.certificate) if plus else b"")).decode()
    final = f"c={binding},r={found[1].decode()}"
    said = f"{first},{challenge.decode()},{final}".encode()
    client_key = hmac.digest(salted, b"Client Key", digest)
    mask = hmac.digest(hashlib.new(digest, client_key).digest(), said, digest)
    proof = bytes(a ^ b for a, b in zip(client_key, mask, strict=True))
    challenge = yield f"{final},p={base64.b64encode(proof).decode()}".encode()
    signature = hmac.digest(hmac.digest(salted, b"Server Key", digest), said, digest)
    if challenge != b"v=" + base64.b64encode(signature):
        raise Unclear("the server does not prove that it knows the password")
    yield b""


def _end_point(certificate: bytes) -> bytes:
    kind = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    name = "sha256" if kind is None or kind.name in ("md5", "sha1") else kind.name
    return hashlib.new(name, certificate).digest()


MECHANISMS: dict[str, Callable[[Login], Client]] = {
    "PLAIN": plain,
    "LOGIN": login,
    "CRAM-MD5": cram_md5,
    "SCRAM-SHA-1": partial(scram, digest="sha1", plus=False),
    "SCRAM-SHA-1-PLUS": partial(scram, digest="sha1", plus=True),
    "SCRAM-SHA-256": partial(scram, digest="sha256", plus=False),
    "SCRAM-SHA-256-PLUS": partial(scram, digest="sha256", plus=True),
}


WRONG = "this-is-not-the-password"  # always the same: a server may count different ones as guesses


def chosen(words: Iterable[str]) -> str:
    """The mechanism to log in by: the first of ours that is among those offered.

    :raises Unclear: none is.
    """
    offered = {word.upper() for word in words}
    for name in MECHANISMS:
        if name in offered:
            return name
    raise Unclear("no mechanism of SASL is offered that is known to this program")


def answer(client: Client, challenge: bytes) -> bytes:
    """The response, in base64, to a challenge in base64.

    :raises Unclear: the challenge is none, or nothing is left to be said.
    """
    try:
        response = client.send(base64.b64decode(challenge, validate=True))
    except ValueError:
        raise Unclear("the server's challenge is not base64") from None
    except StopIteration:
        raise Unclear("the server asks for more than the mechanism has") from None
    return base64.b64encode(response or b"")


def begun(mechanism: str, login: Login) -> tuple[Client, bytes | None]:
    """An exchange, and its initial response in base64, ``None`` where it has none.

    :raises Unclear: the mechanism is not known here.
    """
    if mechanism not in MECHANISMS:
        raise Unclear(f"{mechanism} is not known to this program")
    client = MECHANISMS[mechanism](login)
    initial = next(client)
    return client, None if initial is None else base64.b64encode(initial)
