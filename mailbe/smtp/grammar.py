"""From octets to values: the arguments of SMTP commands (RFC 5321 4.1.2).

Each grammar takes what stands behind a verb and returns the values its command is called with, or
refuses with the reply that tells a client what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mailbe.address import DOMAIN, Address, BadAddress, NotAscii
from mailbe.smtp.replies import Refusal

MAX_PATH = 256  # octets with its angle brackets, RFC 5321 4.5.3.1.3
MAX_CACHED = 1000  # arguments, each of less than 2048 octets; most letters come from and go to a few addresses

_Parameters = dict[str, str | None]  # keyword in capitals, and value where there is one (RFC 5321 4.1.1.11)

# A source route (RFC 5321 4.1.2, A-d-l) is read and thrown away, as 3.3 and appendix C ask.
_PATH = re.compile(rf'<(?:@{DOMAIN}(?:,@{DOMAIN})*:(?!>))?((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: +(.*))?', re.DOTALL)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_NAME = re.compile(rb"[!-~]{1,255}")


def nothing(argument: bytes) -> tuple[()]:
    """For commands that take no argument."""
    if argument:
        raise Refusal(501, "5.5.4 this command takes no argument")
    return ()


def anything(argument: bytes) -> tuple[bytes]:
    """For commands whose argument is a text."""
    return (argument,)


def something(argument: bytes) -> tuple[bytes]:
    """For commands whose argument is a text that must be there."""
    if not argument:
        raise Refusal(501, "5.5.4 this command takes an argument")
    return (argument,)


def client_name(argument: bytes) -> tuple[str]:
    """What a client calls itself. More than a Domain is taken, as many clients do not know theirs."""
    if not _NAME.fullmatch(argument):
        raise Refusal(501, "5.5.4 say HELO or EHLO and the name of your host")
    return (argument.decode("ascii"),)


def mechanism(argument: bytes) -> tuple[bytes, bytes | None]:
    """A SASL mechanism and, maybe, an initial response (RFC 4954 4)."""
    words = [word for word in argument.split(b" ") if word]
    if not 1 <= len(words) <= 2:
        raise Refusal(501, "5.5.4 say AUTH and a mechanism")
    return words[0].upper(), words[1] if len(words) == 2 else None


@lru_cache(MAX_CACHED)
def from_path(argument: bytes) -> tuple[Address | None, int]:
    """``FROM:<reverse-path> [parameters]`` (RFC 5321 4.1.1.2).

    Returns the address, ``None`` for the null reverse-path, and the size announced, in octets, 0 if there is none.
    """
    inside, parameters = _path(argument, b"FROM:", "5.1.7")
    address = _address(inside, "5.1.7") if inside else None
    values = {"SIZE": 0} | {keyword: _known(keyword)(value) for keyword, value in parameters.items()}
    return address, values["SIZE"]


@lru_cache(MAX_CACHED)
def to_path(argument: bytes) -> tuple[Address | None]:
    """``TO:<forward-path>``; ``None`` is ``<Postmaster>`` without a domain (RFC 5321 4.1.1.3)."""
    inside, parameters = _path(argument, b"TO:", "5.1.3")
    for keyword in parameters:
        raise _unknown(keyword)
    return (None if inside.lower() == "postmaster" else _address(inside, "5.1.3"),)


def _size(value: str | None) -> int:
    """The value of MAIL's SIZE parameter, in octets (RFC 1870 4)."""
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > 20:
        raise Refusal(501, "5.5.4 SIZE takes a number of octets")
    return int(value)


def _body(value: str | None) -> str:
    """The value of MAIL's BODY parameter (RFC 6152 3)."""
    if value is None or value.upper() not in ("7BIT", "8BITMIME"):
        raise Refusal(501, "5.5.4 BODY is 7BIT or 8BITMIME")
    return value.upper()


def _authorized(value: str | None) -> str:
    """The value of MAIL's AUTH parameter (RFC 4954 5); as we trust no client with it, it has no effect."""
    if value is None:
        raise Refusal(501, "5.5.4 AUTH takes a mailbox or <>")
    return value


def _path(argument: bytes, keyword: bytes, status: str) -> tuple[str, _Parameters]:
    if argument[: len(keyword)].upper() != keyword:
        raise Refusal(501, f"5.5.4 {keyword.decode()}<address> is missing")
    # Many clients put a space behind the colon; no grammar has it, and nothing is to be gained by refusing.
    text = argument[len(keyword) :].strip(b" ").decode("latin-1")
    if not (match := _PATH.fullmatch(text)):
        raise Refusal(501, f"{status} the address must stand in angle brackets: <name@domain>")
    inside, rest = match.groups()
    if len(inside) + 2 > MAX_PATH:
        raise Refusal(501, f"{status} the address is longer than {MAX_PATH} octets")
    return inside, _parameters(rest or "")


def _address(text: str, status: str) -> Address:
    try:
        return Address.parse(text)
    except NotAscii:
        raise Refusal(553, "5.6.7 only ASCII addresses are taken") from None
    except BadAddress as error:
        raise Refusal(501, f"{status} {error}") from None


def _parameters(text: str) -> _Parameters:
    parameters: _Parameters = {}
    for word in filter(None, text.split(" ")):
        if not (match := _PARAMETER.fullmatch(word)):
            raise Refusal(501, "5.5.4 parameters are of the form KEYWORD or KEYWORD=value")
        keyword, value = match.groups()
        if keyword.upper() in parameters:
            raise Refusal(501, "5.5.4 a parameter is given twice")
        parameters[keyword.upper()] = value
    return parameters


_MAIL_PARAMETERS: dict[str, Callable[[str | None], Any]] = {
    "SIZE": _size,  # RFC 1870 4
    "BODY": _body,  # RFC 6152 3
    "AUTH": _authorized,  # RFC 4954 5
}


def _known(keyword: str) -> Callable[[str | None], Any]:
    if keyword not in _MAIL_PARAMETERS:
        raise _unknown(keyword)
    return _MAIL_PARAMETERS[keyword]


def _unknown(keyword: str) -> Refusal:
    return Refusal(555, f"5.5.4 {keyword[:60]} is not known here")
