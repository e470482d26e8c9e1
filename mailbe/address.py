"""Mail addresses: parse, print, compare (RFC 5321 4.1.2 and 4.1.3).

Only ASCII is an address here; UTF-8 in addresses (RFC 6531) is refused with a reason of its own.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_LOCAL_PART = 64  # octets, RFC 5321 4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 4.5.3.1.2

# RFC 5321 4.1.2, with the names that stand there.
_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
QUOTED_STRING = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_SUB_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*"
_LITERAL = r"\[[!-Z^-~]+\]"
DOMAIN = rf"(?:{_NAME}|{_LITERAL})"

_DOT_STRING = re.compile(DOT_STRING)
_MAILBOX = re.compile(rf"({DOT_STRING}|{QUOTED_STRING})@({DOMAIN})")
_DOMAIN_NAME = re.compile(_NAME)
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[!-Z^-~]+")


class BadAddress(ValueError):
    """What was given is no mail address; the message says why, for people."""


class NotAscii(BadAddress):
    """An address that only RFC 6531 (SMTPUTF8) would allow."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mail address: a local part without its quotes, and a domain or an address literal."""

    local: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that ``text`` (``local@domain``, no angle brackets) is.

        :raises BadAddress: with the reason. Source: RFC 5321 4.1.2 (``Mailbox``).
        """
        if not text.isascii():
            raise NotAscii(f"{text[:60]!a} has characters outside ASCII")
        if not (match := _MAILBOX.fullmatch(text)):
            raise BadAddress(f"{text[:60]!a} is not of the form name@domain")
        written, domain = match.groups()
        if len(written) > MAX_LOCAL_PART:
            raise BadAddress(f"the part before the @ is longer than {MAX_LOCAL_PART} octets")
        if not is_domain(domain):
            raise BadAddress(f"{domain[:60]!a} is neither a domain nor an address literal")
        local = re.sub(r"\\(.)", r"\1", written[1:-1]) if written.startswith('"') else written
        return cls(local, domain)

    @property
    def key(self) -> str:
        """What two spellings of one *local* account share: case does not count in it.

        RFC 5321 2.4 leaves the case of a local part to the host that it names: here, to us.
        """
        return f"{self.local.casefold()}@{self.domain.lower()}"

    def __str__(self) -> str:
        """The address as it is written on the wire, quoted where it must be (RFC 5321 4.1.2)."""
        if _DOT_STRING.fullmatch(self.local):
            return f"{self.local}@{self.domain}"
        quoted = re.sub(r'(["\\])', r"\\\1", self.local)
        return f'"{quoted}"@{self.domain}'


def is_domain(text: str) -> bool:
    """Whether ``text`` is a ``Domain`` or an ``address-literal`` (RFC 5321 4.1.2, 4.1.3)."""
    if len(text) > MAX_DOMAIN:
        return False
    if text.startswith("["):
        return text.endswith("]") and _is_literal(text[1:-1])
    return bool(_DOMAIN_NAME.fullmatch(text))


def _is_literal(inside: str) -> bool:
    tag, colon, rest = inside.partition(":")
    try:
        if not colon:
            return bool(ipaddress.IPv4Address(inside))
        if tag.lower() == "ipv6":
            return bool(ipaddress.IPv6Address(rest))
    except ValueError:
        return False
    return bool(_GENERAL_LITERAL.fullmatch(inside))


def literal(host: str) -> str:
    """The address literal of an IP address: ``[192.0.2.1]``, ``[IPv6:2001:db8::1]`` (RFC 5321 4.1.3)."""
    return f"[IPv6:{host}]" if ":" in host else f"[{host}]"
