"""From octets to values: the arguments of SMTP commands (RFC 5321 4.1.2).

Each grammar takes what stands behind a verb and returns the values its command is called with, or
refuses with the reply that tells a client what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from mailbe.address import DOMAIN, Address, BadAddress
from mailbe.smtp.parameters import Asked, Wanted, asked, wanted
from mailbe.smtp.replies import Refusal

MAX_PATH = 256  # octets with its angle brackets, RFC 5321 4.5.3.1.3
MAX_CACHED = 1000  # arguments, each of less than 2048 octets; most letters come from and go to a few addresses

# A source route (RFC 5321 4.1.2, A-d-l) is read and thrown away, as 3.3 and appendix C ask.
_PATH = re.compile(rf'<(?:@{DOMAIN}(?:,@{DOMAIN})*:(?!>))?((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: +(.*))?', re.DOTALL)
_NAME = re.compile(rb"[!-~]{1,255}")
_CHUNK = re.compile(rb"([0-9]+)(?: +(LAST))?", re.IGNORECASE)


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
        raise Refusal(501, "5.5.4 say the name of your host as well, in printable ASCII")
    return (argument.decode("ascii"),)


def mechanism(argument: bytes) -> tuple[bytes, bytes | None]:
    """A SASL mechanism and, maybe, an initial response (RFC 4954 4)."""
    words = [word for word in argument.split(b" ") if word]
    if not 1 <= len(words) <= 2:
        raise Refusal(501, "5.5.4 say AUTH and a mechanism")
    return words[0].upper(), words[1] if len(words) == 2 else None


def chunk(argument: bytes) -> tuple[int, bool]:
    """How many octets follow, and whether they are the last of the letter (RFC 3030 2).

    Who has said that in a way that we do not understand is hung up on: what follows would be taken for commands.
    """
    if not (match := _CHUNK.fullmatch(argument)):
        raise _no_chunk()
    return int(match[1]), match[2] is not None


def no_command(line: bytes) -> Refusal:
    """What a line gets whose verb is none (RFC 5321 4.2.4).

    BDAT with something else than a space behind it, or with something before it, is a BDAT to others, and octets of a
    letter may follow: that is as bad as one whose number we do not understand.
    """
    if line.lstrip().upper().startswith(b"BDAT"):
        return _no_chunk()
    return Refusal(500, "5.5.2 this command is not known here")


def mailbox(argument: bytes) -> tuple[str]:
    """A name or a mailbox, with angle brackets or without; of UTF-8 only before SMTPUTF8 (RFC 6531 3.7.4.2)."""
    text = _decoded(something(argument)[0])
    name, _, last = text.rpartition(" ")
    if name and last.upper() == "SMTPUTF8":
        text = name.rstrip(" ")
    elif not text.isascii():
        raise not_ascii()
    return (text.removeprefix("<").removesuffix(">"),)


@lru_cache(MAX_CACHED)
def from_path(argument: bytes) -> tuple[Address | None, Asked]:
    """``FROM:<reverse-path> [parameters]`` (RFC 5321 4.1.1.2).

    Returns the address, ``None`` for the null reverse-path, and what the parameters ask for.
    """
    inside, rest = _path(argument, b"FROM:", "5.1.7")
    asks = asked(rest)
    if not inside:
        return None, asks
    if not (asks.utf8 or inside.isascii()):
        raise not_ascii()
    return address(inside, "5.1.7"), asks


@lru_cache(MAX_CACHED)
def to_path(argument: bytes) -> tuple[Address | None, Wanted]:
    """``TO:<forward-path> [parameters]`` (RFC 5321 4.1.1.3).

    Returns the address, ``None`` for ``<Postmaster>`` without a domain, and what is wanted for it.
    """
    inside, rest = _path(argument, b"TO:", "5.1.3")
    wants = replace(wanted(rest), utf8=not inside.isascii())
    return (None if inside.lower() == "postmaster" else address(inside, "5.1.3")), wants


def address(text: str, status: str) -> Address:
    """The address that ``text`` is; who gives a bad one is told so with the enhanced code ``status``."""
    try:
        return Address.parse(text)
    except BadAddress as error:
        raise Refusal(501, f"{status} {error}") from None


def not_ascii() -> Refusal:
    """For addresses that are not ASCII where SMTPUTF8 was not said (RFC 6531 3.5), or that are not UTF-8 either."""
    return Refusal(553, "5.6.7 an address beyond ASCII is of UTF-8, and SMTPUTF8 must have been said")


def _no_chunk() -> Refusal:
    return Refusal(501, "5.5.4 say BDAT and a number of octets, and LAST behind it or nothing", last=True)


def _path(argument: bytes, keyword: bytes, status: str) -> tuple[str, str]:
    if argument[: len(keyword)].upper() != keyword:
        raise Refusal(501, f"5.5.4 {keyword.decode()}<address> is missing")
    # Many clients put a space behind the colon; no grammar has it, and nothing is to be gained by refusing.
    text = _decoded(argument[len(keyword) :].strip(b" "))
    if not (match := _PATH.fullmatch(text)):
        raise Refusal(501, f"{status} the address must stand in angle brackets: <name@domain>")
    inside, rest = match.groups()
    if len(inside if inside.isascii() else inside.encode()) + 2 > MAX_PATH:
        raise Refusal(501, f"{status} the address is longer than {MAX_PATH} octets")
    return inside, rest or ""


def _decoded(argument: bytes) -> str:
    try:
        return argument.decode()
    except UnicodeDecodeError:
        raise not_ascii() from None
