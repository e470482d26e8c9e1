"""The letters that are sent: each to ourselves, each with a token by which it is found again."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from email.utils import formatdate

from mailbe.conform.rules import Skip

FIELD = b"Mailbe-Conform"  # in the header of each; a report has it in its body at most


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter as it is to be sent, before dots are stuffed."""

    token: str
    octets: bytes

    @property
    def body(self) -> bytes:
        return self.octets.partition(b"\r\n\r\n")[2]

    @property
    def fields(self) -> list[bytes]:
        return self.octets.partition(b"\r\n\r\n")[0].split(b"\r\n")


@dataclass(frozen=True, slots=True)
class Stored:
    """A letter as POP3 gives it back."""

    octets: bytes
    seen: float
    """When it was found, on the monotonic clock."""

    @property
    def header(self) -> bytes:
        return self.octets.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def body(self) -> bytes:
        return self.octets.partition(b"\r\n\r\n")[2]

    @property
    def fields(self) -> list[bytes]:
        """The header's fields, each on one line."""
        return self.header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n")[:-1]

    def field(self, name: bytes) -> list[bytes]:
        """The values of all fields of that name, the topmost first."""
        split = (field.partition(b":") for field in self.fields)
        return [value.strip() for key, _, value in split if key.strip().lower() == name.lower()]


class Post:
    """Makes letters to one address, and knows which tokens it has given away."""

    def __init__(self, address: str, why_not: str = "") -> None:
        """:param why_not: why a letter could not be deleted again; empty where it could."""
        self.address = address
        self.run = f"conform-{secrets.token_hex(8)}"
        self.accepted: dict[str, int] = {}
        """The tokens of letters that a server has said it will deliver, and how many with each have to come."""
        self.unanswered: set[str] = set()
        """The tokens of letters that were said, and to which no reply was read: a server may deliver them yet."""
        self.given = 0
        """How many tokens were."""
        self._guesser = ""
        self.why_not = why_not

    def letter(self, body: bytes, fields: bytes = b"") -> Letter:
        """A new letter. The token stands in its header, and where ``fields`` or ``body`` name ``%TOKEN%``.

        :param fields: more lines of the header, with their line ends.
        :raises Skip:
        """
        token = self.token()
        mine = token.encode()
        address = self.address.encode()
        octets = (
            b"%s: %s\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: Conformance test %s\r\nDate: %s\r\n"
            b"Message-ID: <%s@conform.invalid>\r\nMIME-Version: 1.0\r\n%s\r\n%s"
            % (FIELD, mine, address, address, mine, formatdate().encode(), mine, fields, body)
        )
        return Letter(token, octets.replace(b"%TOKEN%", mine))

    def token(self) -> str:
        """A new one.

        :raises Skip: no letter may be sent.
        """
        if self.why_not:
            raise Skip(self.why_not)
        self.given += 1
        return f"{self.run}-{self.given:04}"

    def guessing(self, listener: str) -> bool:
        """Whether this is the one listener on which a log-in may fail."""
        self._guesser = self._guesser or listener
        return self._guesser == listener
