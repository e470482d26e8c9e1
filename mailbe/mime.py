"""A letter with binary parts, as RFC 3030 lets them come, made one of lines: base64 in their place.

Maildir and POP3 know lines alone, and a client that took a bare LF for one's end could meet a lone dot in a picture.
So each part whose encoding is ``binary`` is encoded on its way in, chunk by chunk, and no octet of it is lost; what
is made of parts cannot be encoded (RFC 2045 6.4) and becomes ``8bit``. All else goes through as it is.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable

MAX_HEADER = 64 * 1024  # octets of one part's header
MAX_DEPTH = 20  # parts within parts
_DELIMITER = 1000  # octets of a line that may be one: 70 are a boundary's (RFC 2046 5.1.1), the rest white space
_LINE = 57  # octets that are 76 characters in base64, RFC 2045 6.8

_VALUE = rb"[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)"
_TYPE = re.compile(rb"^content-type" + _VALUE, re.IGNORECASE | re.MULTILINE)
_ENCODING = re.compile(rb"^(content-transfer-encoding)" + _VALUE, re.IGNORECASE | re.MULTILINE)
_COMMENT = re.compile(rb"\([^()]*\)")
_BOUNDARY = re.compile(rb';[ \t\r\n]*boundary[ \t\r\n]*=[ \t\r\n]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_MESSAGES = (b"message/rfc822", b"message/global")


class Lines:
    """Takes a letter chunk by chunk, and gives it back as lines."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # in it: what stands before has been dealt with
        self._out: list[bytes] = []
        self._step: Callable[[], bool] = self._header
        self._fields = bytearray()  # of the header that we are in; a list of its lines may be twenty times as large
        self._default = b"text/plain"  # the type of a part that has none
        self._boundaries: list[tuple[bytes, bytes]] = []  # from the outside in, each with the default for its parts
        self._starts: tuple[bytes, ...] = ()  # those boundaries alone, to be looked for
        self._base64: _Base64 | None = None  # where the part that we are in is binary
        self._lead = 0  # octets that stand before it

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on of the letter, with ``chunk``."""
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        while self._step():
            pass
        return self._taken()

    def end(self) -> bytes:
        """What is left when the letter is at its end."""
        self._out.append(bytes(self._fields))
        rest = self._buffer[self._at :]
        if self._step == self._body and not (self._base64 and self._delimits(rest.removeprefix(b"\r\n"))):
            self._pass_on(rest)
            rest = b""
        if self._base64 is not None:
            self._out.append(self._base64.end())
        self._out.append(rest)
        return self._taken()

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    # The steps. Each returns whether the next one can be taken with what there is.

    def _header(self) -> bool:
        """A line of a header, or the empty one behind it, or the delimiter of a part that has no more."""
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            if len(self._fields) + len(self._buffer) - self._at > MAX_HEADER:
                self._give_up()
            return False
        line = self._buffer[self._at : end]
        if not line:
            self._body_begins()
            return True
        if (found := self._delimits(line)) is not None:
            self._out += [bytes(self._fields), line]
            self._fields.clear()
            self._at = end
            self._delimited(*found)
            return True
        self._at = end + 2
        self._fields += line + b"\r\n"
        if len(self._fields) > MAX_HEADER:
            self._give_up()
        return True

    def _body(self) -> bool:
        """What stands up to what may be a delimiter, and that if it is one."""
        begin = self._candidate()
        if begin is None:
            return False
        end = self._buffer.find(b"\r\n", begin + 4)
        if end < 0 and len(self._buffer) - begin < _DELIMITER:
            return False
        if end < 0 or (found := self._delimits(self._buffer[begin + 2 : end])) is None:
            self._pass_on_to(begin + 2)
            return True
        if self._base64 is not None:
            self._out.append(self._base64.end())
            self._base64 = None
        self._out.append(self._buffer[begin:end])
        self._at = end
        self._delimited(*found)
        return True

    # What they need.

    def _candidate(self) -> int | None:
        """Pass on what stands before the next line that begins as a delimiter; where that is, if it has come."""
        begin = self._at
        while self._starts and (begin := self._buffer.find(b"\r\n--", begin)) >= 0:
            if self._buffer.startswith(self._starts, begin + 2):
                self._pass_on_to(begin)
                return begin
            if len(self._buffer) - begin < 2 + max(map(len, self._starts)):
                self._pass_on_to(begin)  # it may begin so with what comes next
                return None
            begin += 2
        self._pass_on_to(len(self._buffer) - (_beginning(self._buffer) if self._starts else 0))
        return None

    def _body_begins(self) -> None:
        header = bytes(self._fields)
        self._fields.clear()
        written = found[1] if (found := _TYPE.search(header)) else self._default
        kind = _plain(written.partition(b";")[0]) or self._default
        encoding = _plain(found[2]) if (found := _ENCODING.search(header)) else b"7bit"
        boundary = _BOUNDARY.search(written) if kind.startswith(b"multipart/") else None
        parts = kind.startswith(b"multipart/") or kind in _MESSAGES
        if encoding == b"binary":
            header = _ENCODING.sub(rb"\1: " + (b"8bit" if parts else b"base64"), header)
            self._base64 = None if parts else _Base64()
        self._out.append(header)
        if kind in _MESSAGES and encoding in (b"binary", b"8bit", b"7bit"):
            self._out.append(b"\r\n")
            self._at += 2
            self._default = b"text/plain"
            return
        if boundary is not None and len(self._boundaries) < MAX_DEPTH:
            text = re.sub(rb"\\(.)", rb"\1", boundary[1]) if boundary[2] is None else boundary[2]
            digest = kind == b"multipart/digest"  # RFC 2046 5.1.5
            self._boundaries.append((b"--" + text, b"message/rfc822" if digest else b"text/plain"))
            self._starts = tuple(start for start, _ in self._boundaries)
        # The CRLF of the empty line may be that of a delimiter: it stays where it is.
        self._lead = 2
        self._step = self._body

    def _delimits(self, line: bytes) -> tuple[int, bool] | None:
        """Whose delimiter a line is, and whether it is the last."""
        if not line.startswith(self._starts):
            return None
        for index in range(len(self._boundaries) - 1, -1, -1):
            boundary, _ = self._boundaries[index]
            if line.startswith(boundary):
                rest = line[len(boundary) :].rstrip(b" \t")
                if rest in (b"", b"--"):
                    return index, bool(rest)
        return None

    def _delimited(self, index: int, last: bool) -> None:
        """A delimiter has gone by, but for its CRLF."""
        _, self._default = self._boundaries[index]
        del self._boundaries[index + (not last) :]
        self._starts = tuple(start for start, _ in self._boundaries)
        if last:
            self._step = self._body
            return
        self._out.append(b"\r\n")
        self._at += 2
        self._step = self._header

    def _give_up(self) -> None:
        """The header is none: let all that follows through."""
        self._out.append(bytes(self._fields))
        self._fields.clear()
        self._boundaries.clear()
        self._starts = ()
        self._step = self._body

    def _pass_on_to(self, end: int) -> None:
        self._pass_on(self._buffer[self._at : end])
        self._at = end

    def _pass_on(self, content: bytes) -> None:
        if self._base64 is None:
            self._out.append(content)
            return
        self._out += [content[: self._lead], self._base64.feed(content[self._lead :])]
        self._lead -= min(self._lead, len(content))


class _Base64:
    """Encodes chunk by chunk; no CRLF stands behind the last line (RFC 2045 6.8)."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data
        whole = len(data) // _LINE * _LINE
        self._rest = data[whole:]
        return self._lines([data[begin : begin + _LINE] for begin in range(0, whole, _LINE)])

    def end(self) -> bytes:
        rest, self._rest = self._rest, b""
        return self._lines([rest] if rest else [])

    def _lines(self, pieces: list[bytes]) -> bytes:
        if not pieces:
            return b""
        before = b"\r\n" if self._begun else b""
        self._begun = True
        return before + b"\r\n".join(b2a_base64(piece, newline=False) for piece in pieces)


def _plain(value: bytes) -> bytes:
    return _COMMENT.sub(b"", value).strip().lower()


def _beginning(data: bytes) -> int:
    """How many octets at the end of ``data`` may be the beginning of a CRLF and two hyphens."""
    return next((length for length in (3, 2, 1) if data.endswith(b"\r\n--"[:length])), 0)
