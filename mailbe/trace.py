"""Trace lines: the Received and Return-Path fields that we put on top of a letter (RFC 5321 4.4)."""

from __future__ import annotations

import re
from email.utils import formatdate
from functools import lru_cache

from mailbe.address import Address, is_domain, literal

MAX_HOPS = 100  # RFC 5321 6.3: "normally at least 100 Received entries"
_LONGEST_NAME = 1000  # octets of a line in which its field's name is looked for: RFC 5321 4.5.3.1.6's longest line
# The end of a line, before an empty one or a field that HeaderFilter looks for.
_LOOKED_AT = re.compile(rb"\r\n(?=\r\n|received[ \t]*:|return-path[ \t]*:)", re.IGNORECASE)


def return_path(reverse_path: Address | None) -> bytes:
    """The Return-Path line of a letter (``None``: the null reverse-path), CRLF at its end."""
    return f"Return-Path: <{reverse_path or ''}>\r\n".encode()


def received(
    *,
    helo: str,
    peer: str,
    by: str,
    protocol: str,
    id: str,
    time: float,
    recipient: Address | None = None,
    priority: int | None = None,
) -> bytes:
    """The Received line of one letter, folded, CRLF at its end.

    :param helo: what the peer called itself; anything may stand in it.
    :param peer: the peer's IP address; empty where it has none.
    :param protocol: the keyword after ``with`` (RFC 3848, RFC 6531 4.3).
    :param time: seconds since the epoch.
    :param recipient: the only recipient; with several, none is named, so that a blind copy stays blind
        (RFC 5321 7.2).
    :param priority: the one that was asked for, if any (RFC 6710).
    """
    to = f"\r\n\tfor <{recipient}>" if recipient else ""
    if priority is not None:
        to += f"\r\n\tPRIORITY {priority}"
    return (
        f"Received: from {_who(helo, peer)}\r\n\tby {by} with {protocol} id {id}{to};\r\n\t{_date(int(time))}\r\n"
    ).encode()


@lru_cache(1000)
def _who(helo: str, peer: str) -> str:
    name = helo if is_domain(helo) else re.sub(r"[^A-Za-z0-9._-]", "?", helo)
    return f"{name} ({literal(peer) if peer else 'local'})"


@lru_cache(10)
def _date(second: int) -> str:
    return formatdate(second, localtime=True)


class HeaderFilter:
    """Lets a letter through, chunk by chunk, and looks at its header on the way.

    It counts the Received lines, and takes out Return-Path lines: the server that makes final delivery
    puts its own on top (RFC 5321 4.4), and there is to be only one.
    """

    def __init__(self) -> None:
        self.hops = 0
        self._in_header = True
        self._held = b""  # the beginning of a line, too little of it to tell what it is
        self._begun = False  # whether what comes next goes on with a line whose beginning is passed on
        self._drop = False  # whether the field that we are in is taken out

    def feed(self, chunk: bytes) -> bytes:
        """What of the letter, with ``chunk``, can be passed on now."""
        if not self._in_header:
            return chunk
        text, self._held = self._held + chunk, b""
        kept: list[bytes] = []
        begin = 0
        while begin < len(text):
            if begin and not self._drop:
                # In one jump over the lines that are passed on as they are: a header may have very many.
                match = _LOOKED_AT.search(text, begin - 2)
                line = match.end() if match else text.rfind(b"\r\n") + 2
                kept.append(text[begin:line])
                begin = line
            end = text.find(b"\r\n", begin) + 2
            if end < 2:
                self._hold(text[begin:], kept)
                break
            if end == begin + 2 and not self._begun:
                self._in_header = False
                kept.append(text[begin:])
                break
            self._pass_on(text[begin:end], kept)
            self._begun = False
            begin = end
        return b"".join(kept)

    def end(self) -> bytes:
        """What is still held back when the letter is at its end."""
        rest, self._held = self._held, b""
        return rest

    def _hold(self, text: bytes, kept: list[bytes]) -> None:
        """Deal with a line whose end has not come; nobody can make us hoard it."""
        if len(text) <= _LONGEST_NAME and not self._begun:
            self._held = text
            return
        whole = len(text) - text.endswith(b"\r")  # a CR may be half of the line's end
        self._pass_on(text[:whole], kept)
        self._begun = True
        self._held = text[whole:]

    def _pass_on(self, text: bytes, kept: list[bytes]) -> None:
        if not self._begun and not text.startswith((b" ", b"\t")):
            name = text[:_LONGEST_NAME].partition(b":")[0].rstrip(b" \t").lower()
            self._drop = name == b"return-path"
            self.hops += name == b"received"
        if not self._drop:
            kept.append(text)
