"""From octets to values: the arguments of POP3 commands (RFC 1939 3).

Each grammar takes what stands behind a verb and returns the values its command is called with.
"""

from __future__ import annotations

import re

from mailbe.pop3.replies import Refusal

MAX_DIGITS = 10  # of a message number
_NUMBER = re.compile(rb"[0-9]{1,%d}" % MAX_DIGITS)
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
