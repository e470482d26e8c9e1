"""From octets to values: the arguments of POP3 commands (RFC 1939 3).

Each grammar takes what stands behind a verb and returns the values its command is called with.
"""

from __future__ import annotations

import re

from mailbe.characters import has_prohibited
from mailbe.pop3.replies import Refusal

MAX_DIGITS = 10  # of a message number
_NUMBER = re.compile(rb"[0-9]{1,%d}" % MAX_DIGITS)
_LANGUAGE = re.compile(rb" *(\*|[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*) *")  # RFC 4647 2.1
_MECHANISM = re.compile(rb"([A-Za-z0-9_-]{1,20})(?: +([^ ]+))? *")


def nothing(argument: bytes) -> tuple[()]:
    """For commands that take no argument."""
    if argument.strip(b" "):
        raise Refusal("this command takes no argument")
    return ()


def text(argument: bytes) -> tuple[bytes]:
    """The whole argument, each of its spaces kept: a password may have some (RFC 1939 7, PASS)."""
    if not argument:
        raise Refusal("this command takes an argument")
    return (argument,)


def prepared(argument: bytes) -> tuple[bytes]:
    """A name or a password as it stands, once it is known that it has nothing that none may have (RFC 6856 2.2).

    Whoever compares it sees to what SASLprep would make of it.
    """
    (octets,) = text(argument)
    if octets.isascii() and octets.decode().isprintable():
        return (octets,)
    try:
        fits = not has_prohibited(octets.decode())
    except UnicodeDecodeError:
        fits = False
    if not fits:
        raise Refusal("this can be neither a name nor a password", "AUTH")
    return (octets,)


def language(argument: bytes) -> tuple[str | None]:
    """The range of a language, or nothing (RFC 6856 3.2)."""
    if not argument.strip(b" "):
        return (None,)
    if not _LANGUAGE.fullmatch(argument):
        raise Refusal("this command takes the tag of a language, or *")
    return (argument.strip(b" ").decode(),)


def number(argument: bytes) -> tuple[int]:
    """A message number."""
    if argument.isdigit() and len(argument) <= MAX_DIGITS:  # as nearly always
        return (int(argument),)
    (one,) = _numbers(argument, 1)
    return (one,)


def maybe_number(argument: bytes) -> tuple[int | None]:
    """A message number, or nothing."""
    return number(argument) if argument.strip(b" ") else (None,)


def number_and_lines(argument: bytes) -> tuple[int, int]:
    """A message number, and how many lines (RFC 1939 7, TOP)."""
    message, lines = _numbers(argument, 2)
    return message, lines


def mechanism(argument: bytes) -> tuple[bytes | None, bytes | None]:
    """A SASL mechanism and, maybe, an initial response; or nothing (RFC 5034 4)."""
    if not argument.strip(b" "):
        return None, None
    if not (match := _MECHANISM.fullmatch(argument)):
        raise Refusal("say AUTH and a mechanism")
    return match[1].upper(), match[2]


def _numbers(argument: bytes, count: int) -> list[int]:
    words = [word for word in argument.split(b" ") if word]
    if len(words) != count or not all(_NUMBER.fullmatch(word) for word in words):
        raise Refusal("a message number is missing" if not words else "these are not the numbers it takes")
    return [int(word) for word in words]
