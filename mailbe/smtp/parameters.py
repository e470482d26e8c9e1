"""What stands behind a path: the parameters of MAIL (RFC 5321 4.1.1.11)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailbe.smtp.replies import Refusal

BINARY = "BINARYMIME"

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_PRIORITY = re.compile(r"-?[1-9]|0")
_BODIES = ("7BIT", "8BITMIME", BINARY)


@dataclass(frozen=True, slots=True)
class Asked:
    """What MAIL asks for a letter."""

    size: int = 0
    """The size announced, in octets; 0 if there is none."""
    body: str = "7BIT"
    utf8: bool = False
    """Whether addresses and header may be of UTF-8 (RFC 6531)."""
    priority: int | None = None
    """From -9 to 9 (RFC 6710)."""
    tls: bool = False
    """Whether it may go on in TLS only (RFC 8689)."""


def words(text: str) -> dict[str, str | None]:
    """The keywords in ``text``, in capitals, each with its value where it has one."""
    found: dict[str, str | None] = {}
    for word in filter(None, text.split(" ")):
        if not (match := _PARAMETER.fullmatch(word)):
            raise Refusal(501, "5.5.4 parameters are of the form KEYWORD or KEYWORD=value")
        keyword, value = match.groups()
        if keyword.upper() in found:
            raise Refusal(501, "5.5.4 a parameter is given twice")
        found[keyword.upper()] = value
    return found


def asked(text: str) -> Asked:
    """What the parameters of MAIL in ``text`` ask for."""
    values: dict[str, Any] = {}
    for keyword, value in words(text).items():
        if keyword not in _MAIL:
            raise unknown(keyword)
        field, grammar = _MAIL[keyword]
        if field is None:
            grammar(value)
        else:
            values[field] = grammar(value)
    return Asked(**values)


def unknown(keyword: str) -> Refusal:
    return Refusal(555, f"5.5.4 {keyword[:60]} is not known here")


def _size(value: str | None) -> int:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > 20:
        raise Refusal(501, "5.5.4 SIZE takes a number of octets")
    return int(value)


def _body(value: str | None) -> str:
    if value is None or value.upper() not in _BODIES:
        raise Refusal(501, "5.5.4 BODY is 7BIT, 8BITMIME or BINARYMIME")
    return value.upper()


def _authorized(value: str | None) -> None:
    # As we trust no client with it, it has no effect.
    if value is None:
        raise Refusal(501, "5.5.4 AUTH takes a mailbox or <>")


def _priority(value: str | None) -> int:
    if value is None or not _PRIORITY.fullmatch(value):
        raise Refusal(501, "5.5.4 MT-PRIORITY takes a number from -9 to 9")
    return int(value)


def _no_value(value: str | None) -> bool:
    if value is not None:
        raise Refusal(501, "5.5.4 this parameter takes no value")
    return True


_MAIL: dict[str, tuple[str | None, Callable[[str | None], Any]]] = {
    "SIZE": ("size", _size),  # RFC 1870 4
    "BODY": ("body", _body),  # RFC 6152 3, RFC 3030 3
    "AUTH": (None, _authorized),  # RFC 4954 5
    "SMTPUTF8": ("utf8", _no_value),  # RFC 6531 3.4
    "MT-PRIORITY": ("priority", _priority),  # RFC 6710 3
    "REQUIRETLS": ("tls", _no_value),  # RFC 8689 3
}
