"""POP3 replies: one line that says yes or no, and behind some a text that ends with a lone dot (RFC 1939 3).

Their words are English here, in ASCII, and are found by them in the tables of ``languages``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from mailbe import session
from mailbe.dots import stuffed
from mailbe.session import Reply

NO_MISTAKE = ("SYS/TEMP", "IN-USE", "LOGIN-DELAY")  # codes that tell of something that the client cannot help
SMALL = 64 * 1024  # octets of a text up to which it is sent in one piece


def ok(text: str, *, last: bool = False, effect: bool = False) -> Reply:
    """Yes. ``last``: hang up behind it. ``effect``: something has come of the conversation."""
    return Reply(f"+OK {text}\r\n".encode(), last, effect=effect)


def err(text: str, code: str = "", *, last: bool = False) -> Reply:
    """No, with a response code where a program should know why (RFC 2449 8, RFC 3206)."""
    mistake = code not in NO_MISTAKE
    return Reply(f"-ERR {f'[{code}] ' if code else ''}{text}\r\n".encode(), last, error=mistake)


def listing(text: str, lines: Iterable[str]) -> Reply:
    """Yes, and one line for each of ``lines``, none of which begins with a dot."""
    return Reply("\r\n".join([f"+OK {text}", *lines, ".\r\n"]).encode())


def text(first: str, content: Iterable[bytes], size: int) -> Reply:
    """Yes, and ``content`` dot-stuffed.

    :param size: about how large the content is, in octets.
    """
    head = f"+OK {first}\r\n".encode()
    if size <= SMALL:
        return Reply(b"".join([head, *stuffed(content)]), effect=True)
    return Reply(chain([head], stuffed(content)), effect=True)


class Refusal(session.Refusal):
    """Unwinds a command with the ``-ERR`` that refuses it."""

    def __init__(self, text: str, code: str = "", *, last: bool = False) -> None:
        super().__init__(err(text, code, last=last))
