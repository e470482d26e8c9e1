"""Readers of what a server says that forgive nothing, and Python's own POP3 client on the same octets."""

from __future__ import annotations

import poplib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.premises import Client

_SMTP_LINE = re.compile(rb"([2-5][0-9][0-9])([ -])[\t -~]*\r\n")  # RFC 5321 4.2, Reply-line
_POP3_LINE = re.compile(rb"(\+OK|-ERR)(?: [ -~]*)?\r\n|\+ [A-Za-z0-9+/=]*\r\n")  # RFC 1939 3, RFC 5034 4
_TRACE = re.compile(
    rb"Return-Path: <[^\r\n]*>\r\nReceived: from [^\r\n]+\r\n\tby [^\r\n]+\r\n(?:\tfor <[^\r\n]+>;\r\n)?"
    rb"\t[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} [+-][0-9]{4}\r\n"
)
MAX_REPLY_LINE = 512  # octets with its CRLF: RFC 5321 4.5.3.1.5, RFC 1939 3


def smtp_codes(said: bytes) -> list[int]:
    """The codes of all replies in ``said``, which must be whole replies and nothing else (RFC 5321 4.2)."""
    codes = []
    begun = None  # the code of a reply of several lines
    while said:
        line = _SMTP_LINE.match(said)
        assert line, f"no reply: {said[:200]!r}"
        assert len(line[0]) <= MAX_REPLY_LINE, f"too long: {line[0]!r}"
        assert begun in (None, line[1]), f"another code within a reply: {line[0]!r}"
        begun = line[1] if line[2] == b"-" else None
        if begun is None:
            codes.append(int(line[1]))
        said = said[line.end() :]
    assert begun is None, "a reply without its last line"
    return codes


def pop3_status(said: bytes) -> tuple[bytes, bytes]:
    """The first reply's status indicator, and what comes behind its line (RFC 1939 3)."""
    line = _POP3_LINE.match(said)
    assert line, f"no reply: {said[:200]!r}"
    assert len(line[0]) <= MAX_REPLY_LINE, f"too long: {line[0]!r}"
    return line[1] or b"+", said[line.end() :]


def pop3_statuses(said: bytes) -> list[bytes]:
    """The status indicators of replies of one line each."""
    statuses = []
    while said:
        status, said = pop3_status(said)
        statuses.append(status)
    return statuses


def pop3_text(said: bytes) -> tuple[bytes, bytes]:
    """The text behind the first line of a reply, its dots taken away, and what comes behind it (RFC 1939 3)."""
    status, said = pop3_status(said)
    assert status == b"+OK", said
    lines = []
    while True:
        line, end, said = said.partition(b"\r\n")
        assert end, f"no end: {line[-200:]!r}"
        if line == b".":
            return b"".join(lines), said
        lines.append(line.removeprefix(b".") + end)


def below_trace(letter: bytes) -> bytes:
    """A stored letter without the lines that were put on top, and with all that its sender may have put there."""
    trace = _TRACE.match(letter)
    assert trace, f"no trace lines: {letter[:500]!r}"
    return letter[trace.end() :]


class Poplib(poplib.POP3):
    """``poplib`` over a connection in memory; to it, whatever ends in LF is a line."""

    def __init__(self, client: Client) -> None:
        self._client = client
        super().__init__("memory")

    def _create_socket(self, timeout: object) -> Any:
        return _Socket(self._client)


class _Socket:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._heard = client.hear()

    def makefile(self, mode: str) -> _Socket:
        return self

    def sendall(self, octets: bytes) -> None:
        self._heard += self._client.ask(octets)

    def shutdown(self, how: int) -> None:
        self._client.lose()

    def close(self) -> None:
        """``shutdown`` came before."""

    def readline(self, limit: int) -> bytes:
        end = self._heard.find(b"\n") + 1 or len(self._heard)
        line, self._heard = self._heard[: min(end, limit)], self._heard[min(end, limit) :]
        return line
