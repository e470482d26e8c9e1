"""A letter with binary parts, as RFC 3030 lets them come, made one of lines: base64 in their place.

Maildir and POP3 know lines alone, and a client that took a bare LF for one's end could meet a lone dot in a picture.
So each part whose encoding is ``binary`` is encoded on its way in, chunk by chunk, and no octet of it is lost; what
is made of parts cannot be encoded (RFC 2045 6.4) and becomes ``8bit``. All else goes through as it is.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

MAX_HEADER = 64 * 1024  # octets of one part's header
MAX_DEPTH = 20  # parts within parts
_DELIMITER = 1000  # octets of a line that may be one: 70 are a boundary's (RFC 2046 5.1.1), the rest white space
_LINE = 57  # octets that are 76 characters in base64, RFC 2045 6.8

_VALUE = rb"[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)"
_TYPE = re.compile(rb"\ncontent-type" + _VALUE, re.IGNORECASE)
_ENCODING = re.compile(rb"(\ncontent-transfer-encoding)" + _VALUE, re.IGNORECASE)
_EITHER = re.compile(rb"\n(?i:content-t(?:ype|ransfer-encoding))" + _VALUE)
_MATTERS = (b"multipart/", b"message/", b"binary")  # what one of the two must begin with, or nothing is to be done
_HYPHENS = re.compile(rb"\r\n(--(?:[^\r\n]*[^\r\n \t])?)[ \t]*(?=\r\n)")
_COMMENT = re.compile(rb"\([^()]*\)")
_BOUNDARY = re.compile(rb';[ \t\r\n]*boundary[ \t\r\n]*=[ \t\r\n]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_MESSAGES = (b"message/rfc822", b"message/global")


@dataclass(frozen=True, slots=True)
class _Multipart:
    """One that we are in."""

    default: bytes
    """The type of its parts that have none."""
    delimiters: Mapping[bytes, tuple[int, bool]]
    """What its delimiters are, and those of the multiparts around it: of the how manieth, from the outside in, and
    whether it is the last. White space may stand behind them."""


class Lines:
    """Takes a letter chunk by chunk, and gives it back as lines.

    Millions of lines may begin as a delimiter, or be one. So they are looked for with few steps of Python for each.
    """

    def __init__(self) -> None:
        # Where a step begins, there is the CRLF before its first line. The letter has none: it is taken off again.
        self._buffer = b"\r\n"
        self._skip = 2
        self._at = 0  # in it: what stands before has been dealt with
        self._hyphens: Iterator[re.Match[bytes]] = iter(())  # the lines of the buffer that may be delimiters
        self._next: re.Match[bytes] | None = None  # the one that was looked at too early
        self._empty = self._field = -1  # where the next empty line stands, or field that matters; before _at: unknown
        self._out: list[bytes] = []
        self._step: Callable[[], bool] = self._header
        self._fields = bytearray()  # of the header that we are in; a list of its lines may be twenty times as large
        self._default = b"text/plain"  # the type of a part that has none
        self._multiparts: list[_Multipart] = []  # from the outside in
        self._base64: _Base64 | None = None  # where the part that we are in is binary
        self._lead = 0  # octets that stand before it
        self._dull = True  # whether nothing was to be done with the last part; often the same is true of the next

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on of the letter, with ``chunk``."""
        line_ends = b"\r\n" in self._buffer[-1:] + chunk
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        if not line_ends and self._step == self._header and len(self._fields) + len(self._buffer) - 2 <= MAX_HEADER:
            return b""  # or a long line that comes octet by octet would be looked at each time
        if self._multiparts:
            self._look_for_hyphens()
        self._empty = self._field = -1
        while self._step():
            pass
        return self._taken()

    def end(self) -> bytes:
        """What is left when the letter is at its end."""
        self._out.append(bytes(self._fields))
        rest = self._buffer[self._at :]
        if self._step == self._body and not (self._base64 and rest[2:].rstrip(b" \t") in self._delimiters):
            self._pass_on(rest)
            rest = b""
        if self._base64 is not None:
            self._out.append(self._base64.end())
        self._out.append(rest)
        return self._taken()

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        if self._skip and out:
            out, self._skip = out[self._skip :], 0
        return out

    # The steps. Each returns whether the next one can be taken with what there is.

    def _header(self) -> bool:
        """A header with the empty line behind it, or the delimiter of a part that has no more."""
        if self._empty < self._at:
            empty = self._buffer.find(b"\r\n\r\n", self._at)
            self._empty = empty if empty >= 0 else len(self._buffer)
        found = self._delimiter(self._empty, MAX_HEADER)
        if found is None and self._empty == len(self._buffer):
            whole = self._buffer.rfind(b"\r\n", self._at)
            self._fields += self._buffer[self._at : whole]
            self._at = whole
            too_long = len(self._fields) + len(self._buffer) - self._at - 2 > MAX_HEADER
            if too_long:
                self._give_up()
            return too_long
        end = self._empty + 2 if found is None else found[0].end()
        if len(self._fields) + end - self._at - 2 >= MAX_HEADER:
            self._give_up()
            return True
        header = bytes(self._fields) + self._buffer[self._at : end]
        self._fields.clear()
        self._at = end
        if found is None:
            self._body_begins(header)
        else:
            self._dull = True
            self._out.append(header)
            self._delimited(*found[1:])
        return True

    def _body(self) -> bool:
        """What stands up to a delimiter, and that."""
        found = self._delimiter(len(self._buffer), _DELIMITER)
        if found is None:
            self._pass_on_to(len(self._buffer) - self._undecided())
            return False
        begin, end = found[0].span()
        self._pass_on_to(begin)
        if self._base64 is not None:
            self._out.append(self._base64.end())
            self._base64 = None
        self._out.append(self._buffer[begin:end])
        self._at = end
        self._delimited(*found[1:])
        return True

    # What they need.

    @property
    def _delimiters(self) -> Mapping[bytes, tuple[int, bool]]:
        return self._multiparts[-1].delimiters if self._multiparts else {}

    def _look_for_hyphens(self) -> None:
        begin = self._buffer.find(b"\r\n--", self._at)  # which is faster than _HYPHENS where there is none
        self._hyphens = _HYPHENS.finditer(self._buffer, begin) if begin >= 0 else iter(())
        self._next = None

    def _hyphens_before(self, place: int) -> Iterator[re.Match[bytes]]:
        if self._next is not None:
            if self._next.start() >= place:
                return
            line, self._next = self._next, None
            yield line
        for line in self._hyphens:
            if line.start() >= place:
                self._next = line
                return
            yield line

    def _delimiter(self, before: int, most: int) -> tuple[re.Match[bytes], int, bool] | None:
        """The next delimiter that begins ``before`` there, of ``most`` octets with both its CRLFs.

        And which it is: see ``_Multipart.delimiters``.
        """
        delimiters = self._delimiters
        for line in self._hyphens_before(before) if delimiters else ():
            which = delimiters.get(line[1])
            if which is not None and line.end() + 2 - line.start() <= most:
                return line, *which
        return None

    def _undecided(self) -> int:
        """How many octets at the end of the buffer may be the beginning of a delimiter with its CRLF."""
        if not self._multiparts:
            return 0
        tail = self._buffer[max(self._at, len(self._buffer) - _DELIMITER + 1) :]
        begin = tail.rfind(b"\r\n")
        if begin >= 0 and b"--".startswith(tail[begin + 2 : begin + 4]):
            return len(tail) - begin
        return int(tail.endswith(b"\r"))

    def _body_begins(self, header: bytes) -> None:
        written = found[1] if (found := _TYPE.search(header)) else self._default
        kind = _plain(written.partition(b";")[0]) or self._default
        encoding = _plain(found[2]) if (found := _ENCODING.search(header)) else b"7bit"
        boundary = _BOUNDARY.search(written) if kind.startswith(b"multipart/") else None
        parts = kind.startswith(b"multipart/") or kind in _MESSAGES
        self._dull = not parts and encoding != b"binary"
        if encoding == b"binary":
            becomes = b": 8bit" if parts else b": base64"
            header = _ENCODING.sub(lambda field: field[1] + becomes, header)
            self._base64 = None if parts else _Base64()
        self._out.append(header)
        if kind in _MESSAGES and encoding in (b"binary", b"8bit", b"7bit"):
            self._default = b"text/plain"
            return
        if boundary is not None and len(self._multiparts) < MAX_DEPTH:
            text = re.sub(rb"\\(.)", rb"\1", boundary[1]) if boundary[2] is None else boundary[2]
            start, index = b"--" + text.rstrip(b" \t"), len(self._multiparts)  # none ends so, RFC 2046 5.1.1
            default = b"message/rfc822" if kind == b"multipart/digest" else b"text/plain"  # RFC 2046 5.1.5
            delimiters = {**self._delimiters, start: (index, False), start + b"--": (index, True)}
            if not self._multiparts:
                self._look_for_hyphens()  # nobody has, so far
            self._multiparts.append(_Multipart(default, delimiters))
        # The CRLF of the empty line may be that of a delimiter: it stays where it is.
        self._lead = 2
        self._step = self._body

    def _delimited(self, index: int, last: bool) -> None:
        """A delimiter has gone by, but for its CRLF."""
        self._default = self._multiparts[index].default
        del self._multiparts[index + (not last) :]
        self._step = self._body if last else self._header
        if not last and self._dull:
            self._pass_on_parts()

    def _pass_on_parts(self) -> None:
        """Pass on the parts that end before the next field that matters: whatever is in them, it goes through."""
        if self._field < self._at:
            self._field = self._next_field()
        same = (len(self._multiparts) - 1, False)
        delimiters = self._delimiters
        end = self._at
        for line in self._hyphens_before(self._field):
            which = delimiters.get(line[1])
            if which is not None:
                # What is longer may have a header that is none, or be too long for a delimiter.
                if which != same or line.end() + 2 - end > _DELIMITER:
                    self._next = line
                    break
                end = line.end()
        self._out.append(self._buffer[self._at : end])
        self._at = end

    def _next_field(self) -> int:
        """Where the next field stands that matters."""
        for field in _EITHER.finditer(self._buffer, self._at):
            if _plain(field[1].partition(b";")[0]).startswith(_MATTERS):
                return field.start()
        return len(self._buffer)

    def _give_up(self) -> None:
        """The header is none: let all that follows through."""
        self._out.append(bytes(self._fields))
        self._fields.clear()
        self._multiparts.clear()
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
    return (_COMMENT.sub(b"", value) if b"(" in value else value).strip().lower()
