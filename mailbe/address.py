"""Mail addresses: parse, print, compare (RFC 5321 4.1.2 and 4.1.3, RFC 6531 3.3).

A local part may be of UTF-8, and a domain of U-labels. Two spellings of one domain, with U-labels or with A-labels,
are one domain. Which spellings of a local part are one account is for the host that the domain names; see ``key``.
"""

from __future__ import annotations

import codecs
import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import idna

codecs.lookup("punycode")  # idna's; so it is read at the start, and not when somebody sends the first such name

MAX_LOCAL_PART = 64  # octets, RFC 5321 4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 4.5.3.1.2

# RFC 5321 4.1.2, with the names that stand there. RFC 6531 3.3 adds all that is not ASCII; RFC 5198 2 wants no C1
# controls in it, and what breaks a line anywhere has no place in one.
_UTF8 = r"\xa0-\u2027\u202a-\ud7ff\ue000-\U0010ffff"
_ATOM = rf"[A-Za-z0-9!#$%&'*+\-/=?^_`{{|}}~{_UTF8}]+"
DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
QUOTED_STRING = rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*"'
_SUB_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*"
_LABEL = rf"[A-Za-z0-9{_UTF8}](?:[A-Za-z0-9{_UTF8}-]*[A-Za-z0-9{_UTF8}])?"  # which idna looks at more closely
_LITERAL = r"\[[!-Z^-~]+\]"
DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|{_LITERAL})"

_DOT_STRING = re.compile(DOT_STRING)
_MAILBOX = re.compile(rf"({DOT_STRING}|{QUOTED_STRING})@({DOMAIN})")
_DOMAIN_NAME = re.compile(_NAME)
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[!-Z^-~]+")
# The characters of RFC 8264 9.1, LetterDigits.
_LETTERS = ("Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc")
# And those of them that nobody sees, which 9.13 takes out again: the letters among Default_Ignorable_Code_Point.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


class BadAddress(ValueError):
    """What was given is no mail address; the message says why, for people, in ASCII."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mail address: a local part without its quotes, and a domain or an address literal."""

    local: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that ``text`` (``local@domain``, no angle brackets) is.

        :raises BadAddress: with the reason. Source: RFC 5321 4.1.2 (``Mailbox``), RFC 6531 3.3.
        """
        if not (match := _MAILBOX.fullmatch(text)):
            raise BadAddress(f"{text[:60]!a} is not of the form name@domain")
        written, domain = match.groups()
        if _octets(written) > MAX_LOCAL_PART:
            raise BadAddress(f"the part before the @ is longer than {MAX_LOCAL_PART} octets")
        if not is_domain(domain):
            raise BadAddress(f"{domain[:60]!a} is neither a domain nor an address literal")
        local = re.sub(r"\\(.)", r"\1", written[1:-1]) if written.startswith('"') else written
        return cls(local, domain)

    @property
    def is_ascii(self) -> bool:
        """Whether it can be used without SMTPUTF8 (RFC 6531)."""
        return self.local.isascii() and self.domain.isascii()

    @property
    def canonical(self) -> Address:
        """The one spelling of one *local* account: case does not count in it, nor does how UTF-8 is composed.

        RFC 5321 2.4 leaves the case of a local part to the host that it names: here, to us.
        """
        return Address(folded(self.local), ascii_domain(self.domain))

    @property
    def key(self) -> str:
        """What all spellings of one local account share, and no two accounts do."""
        local, domain = self.local, self.domain
        if local.isascii() and domain.isascii():  # as nearly always, and every RCPT asks
            return f"{local.lower()}@{domain.lower()}"
        return f"{folded(local)}@{ascii_domain(domain)}"

    def __str__(self) -> str:
        """The address as it is written on the wire, quoted where it must be (RFC 5321 4.1.2)."""
        if _DOT_STRING.fullmatch(self.local):
            return f"{self.local}@{self.domain}"
        quoted = re.sub(r'(["\\])', r"\\\1", self.local)
        return f'"{quoted}"@{self.domain}'


def folded(local: str) -> str:
    """A local part as one account's spellings share it: in lower case, and composed (NFC), as in RFC 8265 3.3.

    What no account's may be is given back as it is, so it is nobody's.
    """
    if local.isascii():
        return local.lower()
    return _fold(local) if is_name(local) else local


def login_name(octets: bytes) -> str:
    """The name that a client gave: of UTF-8 (RFC 4616 2), or of ISO 8859-1, as Thunderbird sends it in SMTP."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def is_name(local: str) -> bool:
    """Whether an account's local part may be this: beside ASCII, the letters and digits of RFC 8264 9.1 alone.

    So no character is taken for another one, as the Kelvin sign would be for a k, or a full-width a for an a.
    """
    if local.isascii():
        return True
    return not _UNSEEN.search(local) and all(
        character.isascii()
        or (
            unicodedata.category(character) in _LETTERS
            and not (composed := unicodedata.normalize("NFC", character)).isascii()
            and unicodedata.normalize("NFKC", character) == composed
        )
        for character in local
    )


def is_domain(text: str) -> bool:
    """Whether ``text`` is a ``Domain`` or an ``address-literal`` (RFC 5321 4.1.2, 4.1.3, RFC 6531 3.3)."""
    if _octets(text) > MAX_DOMAIN:
        return False
    if text.startswith("["):
        return text.endswith("]") and _is_literal(text[1:-1])
    try:
        name = ascii_domain(text)
    except idna.IDNAError:
        return False
    return len(name) <= MAX_DOMAIN and bool(_DOMAIN_NAME.fullmatch(name))


def find_domain(text: str, domains: Iterable[str]) -> str | None:
    """The one of ``domains`` that ``text``, whatever it is, is a spelling of; ``None`` where it is none of them."""
    if not is_domain(text):
        return None
    wanted = ascii_domain(text)
    return next((domain for domain in domains if ascii_domain(domain) == wanted), None)


def ascii_domain(domain: str) -> str:
    """``domain`` in lower case, each of its U-labels as the A-label that is the same (RFC 5890 2.3.2.1)."""
    return domain.lower() if domain.isascii() else _a_labels(domain)


def _a_labels(domain: str) -> str:
    """:raises idna.IDNAError: a subclass of ValueError, where a label is none."""
    return ".".join(label.lower() if label.isascii() else _a_label(label) for label in domain.split("."))


def _a_label(label: str) -> str:
    # People write their domains in capitals, and IDNA itself knows none (RFC 5895 2). But a Kelvin sign is no k.
    if any(not character.isascii() and _fold(character).isascii() for character in label):
        raise idna.IDNAError("a character that stands for another one")
    return idna.alabel(_fold(label)).decode("ascii")


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def _octets(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


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
