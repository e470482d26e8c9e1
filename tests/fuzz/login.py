"""The client's side of each way to log in, one answer a challenge, honest or not."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random

from tests.fuzz.speech import encoded

SMTP_MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
POP3_MECHANISMS = ("USER", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")

_Answers = Generator[bytes, bytes, None]  # of challenges, both without base64


@dataclass
class LogIn:
    """One exchange: the ``command`` that begins it, and the ``answer`` to each challenge."""

    name: str
    password: bytes
    mechanism: str
    bindings: Mapping[str, bytes]
    """Those of the TLS channel, by type; SCRAM-SHA-256-PLUS takes the first."""
    random: Random
    proofs: set[bytes] = field(default_factory=set)
    """Lines with a proof, made with ``password``."""

    def __post_init__(self) -> None:
        self._answers = _MECHANISMS[self.mechanism](self)
        self._begun = False

    def command(self) -> bytes:
        """The AUTH line, with an initial response or without one."""
        words = [b"AUTH", self.mechanism.encode()]
        if self.random.randrange(2):
            self._begun = True
            words.append(b64encode(next(self._answers)))
        return b" ".join(words)

    def answer(self, challenge: bytes) -> bytes:
        """The line that answers a challenge of the server, which is in base64.

        ``*`` where the mechanism has no more to say, or the challenge is another one's.
        """
        try:
            response = self._answers.send(b64decode(challenge)) if self._begun else next(self._answers)
        except (StopIteration, ValueError, KeyError):
            return b"*"
        self._begun = True
        line = b64encode(response)
        if b",p=" in response:
            self.proofs.add(line)
        return line

    def plain(self) -> _Answers:
        yield b"\0".join((b"", self.name.encode(), self.password))

    def login(self) -> _Answers:
        yield self.name.encode()
        yield self.password

    def scram(self) -> _Answers:
        """RFC 5802; as the tests of ``sasl`` have scramp for a client, this one may be quick, and may cheat."""
        kind = next(iter(self.bindings), "tls-exporter")
        header = f"p={kind},,".encode() if self.mechanism.endswith("-PLUS") else b"n,,"
        binding = header + (self.bindings.get(kind, b"") if self.mechanism.endswith("-PLUS") else b"")
        first = b"n=%b,r=%b" % (self.name.encode(), encoded(self.random.randbytes(9)))
        server_first = yield header + first
        fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
        bare = b"c=%b,r=%b" % (b64encode(binding), fields[b"r"])
        salted = _salted(self.password, b64decode(fields[b"s"]), int(fields[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        said = b",".join((first, server_first, bare))
        mask = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, mask, strict=True))
        yield b"%b,p=%b" % (bare, b64encode(proof))
        yield b""


@cache
def _salted(password: bytes, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


_MECHANISMS = {
    "PLAIN": LogIn.plain,
    "LOGIN": LogIn.login,
    "SCRAM-SHA-256": LogIn.scram,
    "SCRAM-SHA-256-PLUS": LogIn.scram,
}
