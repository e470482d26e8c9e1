"""A letter with more than ASCII in its header, as a client gets it that did not ask for UTF-8 (RFC 6856 2.1).

It gets a surrogate after RFC 6858: what can be told in ASCII is, the rest of the header is left out, and the body is as
it was. Parameters keep their value (RFC 2231), or attachments would lose their names, as RFC 6857 has it. What is no
UTF-8 either is taken for Latin-1.

A letter goes through chunk by chunk, and what comes out is the same wherever it is cut. Of its structure (RFC 2046) no
more is looked at than tells where a header begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.errors import MessageError
from email.header import Header
from email.utils import formataddr, getaddresses
from urllib.parse import quote

INVALID = "invalid@internationalized-address.invalid"  # RFC 6858 2.1: nobody has it (RFC 2606 2)
MAX_HEADER = 32 * 1024  # octets of all headers that are converted; then other characters become question marks
MAX_DELIMITER = 1000  # octets of a line that may be one between parts; RFC 2046 5.1.1 allows 74, and spaces
MAX_DASHES = 10_000  # lines that begin as delimiters do; what follows so many is one body
MAX_DEPTH = 50  # of parts within parts
MAX_PARAMETER = 900  # octets; a line has 998 at most (RFC 5322 2.1.1)

_COMMENT = re.compile(r"\([^()]*\)")  # RFC 5322 3.2.2; who puts one into another has none here
_EMPTY_GROUP = re.compile(r'([^()<>@,;:\\"\[\]]+):\s*;')  # RFC 5322 3.4
_PARAMETER = re.compile(r';[ \t]*([^=;\s]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)', re.DOTALL)
# The fields that tell where the next header begins.
_TELLING = re.compile(
    rb"\r\n(content-type|content-transfer-encoding)[ \t]*:(.*?)(?=\r\n(?![ \t])|\Z)", re.DOTALL | re.IGNORECASE
)
_QUESTION_MARKS = bytes(range(128)) + b"?" * 128
_UNENCODED = ("", "7bit", "8bit", "binary")  # RFC 2045 6.2: what stands in such a part can be read as it is
_MESSAGES = ("message/rfc822", "message/global")  # RFC 2046 5.2.1, RFC 6532 3.7


def surrogate(content: Iterable[bytes]) -> Iterable[bytes]:
    """``content``, with nothing but ASCII in its headers."""
    if isinstance(content, tuple) and all(map(bytes.isascii, content)):  # as most small letters are
        return content
    return _converted(content)


def _converted(content: Iterable[bytes]) -> Iterator[bytes]:
    letter = Surrogate()
    for chunk in content:
        yield letter.feed(chunk)
    yield letter.end()


class SurrogateSize:
    """Learns on a letter's way how large its surrogate will be, where its header needs one.

    A header in ASCII that tells of no parts needs none, nor does what is ASCII to its end; both are soon known.
    """

    def __init__(self) -> None:
        self._letter: Surrogate | None = Surrogate()
        self._octets = 0
        self._begun: bytes | None = b""  # of a letter, as long as that is small and ASCII

    def feed(self, chunk: bytes) -> None:
        if self._letter is None:
            return
        if self._begun is not None:
            self._begun += chunk
            header, blank, _ = self._begun.partition(b"\r\n\r\n")
            if blank and header.isascii() and not _tells_of_parts(header):
                self._letter = None
                return
            if self._begun.isascii() and len(self._begun) <= MAX_HEADER:
                return
            chunk, self._begun = self._begun, None
        self._octets += len(self._letter.feed(chunk))
        if not (self._letter.in_header or self._letter.has_parts or self._letter.changed):
            self._letter = None

    def end(self) -> int | None:
        """The octets of the surrogate; ``None`` where the letter needs none."""
        if self._letter is None:
            return None
        octets = self._octets + len(self._letter.end())
        return octets if self._letter.changed else None


class Surrogate:
    """Makes one letter's surrogate."""

    def __init__(self) -> None:
        self.in_header = True
        """Whether the letter's own header, or that of a part, has not come to its end."""
        self.changed = False
        """Whether the surrogate differs from the letter, as far as that has come."""
        self._held = b""  # the beginning of what cannot be told yet
        self._field = bytearray()  # the field that we are in; a list of its lines may be twenty times as large
        self._header_octets = 0  # of all headers that have come
        self._dashes = 0
        self._at_line_start = True
        self._parts: list[tuple[bytes, bool]] = []  # boundaries, the innermost last; whether of a digest
        self._in_digest = False  # whether this header is that of a part of a digest
        self._fields: dict[str, str] = {}  # those of this header that ``_TELLING`` has found

    @property
    def has_parts(self) -> bool:
        """Whether the header of a part may still come."""
        return bool(self._parts)

    def feed(self, chunk: bytes) -> bytes:
        """What of the surrogate, with ``chunk``, can be passed on now."""
        if not (self.in_header or self._held or self._may_delimit(chunk)):
            return chunk  # as most of a large letter: what is not copied costs nothing
        data = self._held + chunk
        out: list[bytes] = []
        begin = 0
        while begin < len(data):
            end = self._header(data, begin, out) if self.in_header else self._body(data, begin, out)
            if end == begin:
                break
            begin = end
        self._held = data[begin:]
        return b"".join(out)

    def end(self) -> bytes:
        """The rest of the surrogate, when the letter is at its end."""
        out: list[bytes] = []
        rest, self._held = self._held, b""
        if self.in_header:
            self._line(rest, out)
            self._end_field(out)
        else:
            out.append(rest)
        return b"".join(out)

    def _header(self, data: bytes, begin: int, out: list[bytes]) -> int:
        if self._header_octets > MAX_HEADER:
            return self._long_header(data, begin, out)
        # Once for each chunk, as it looks at all of it.
        if not begin and self._at_line_start and not self._parts and (end := self._plain_header(data, out)):
            return end
        end = data.find(b"\r\n", begin) + 2
        if end < 2:
            if self._header_octets + len(data) - begin <= MAX_HEADER:
                return begin
            end = len(data) - data.endswith(b"\r")  # nobody can make us hoard it
        if end > begin:  # or that CR may begin the empty line
            self._line(data[begin:end], out)
        return end

    def _plain_header(self, data: bytes, out: list[bytes]) -> int:
        """Pass on a header, or the rest of one, that has come whole and is ASCII: line by line costs more."""
        found = data.find(b"\r\n\r\n")
        if found < 0 or data.startswith((b" ", b"\t", b"\r\n")):
            return 0
        header = data[: found + 2]
        if not header.isascii() or self._header_octets + len(header) > MAX_HEADER:
            return 0
        self._end_field(out)
        self._header_octets += len(header)
        for name, value in _TELLING.findall(b"\r\n" + header):
            self._fields[name.decode().lower()] = _text(b":" + value)
        out.append(header)
        return found + 2

    def _long_header(self, data: bytes, begin: int, out: list[bytes]) -> int:
        if self._at_line_start and data.startswith(b"\r\n", begin):
            self._line(b"\r\n", out)
            return begin + 2
        # In one jump to the end of the header, or of what has come of it.
        found = data.find(b"\r\n\r\n", begin)
        found = data.rfind(b"\r\n", begin) if found < 0 else found
        end = found + 2 if found >= 0 else begin
        if found < 0 and len(data) - begin > MAX_HEADER:
            end = len(data) - data.endswith(b"\r")
        if end > begin:
            self._at_line_start = data.endswith(b"\r\n", begin, end)
            out.append(self._question_marks(data[begin:end]))
        return end

    def _question_marks(self, octets: bytes) -> bytes:
        self.changed |= not octets.isascii()
        return octets.translate(_QUESTION_MARKS)

    def _line(self, line: bytes, out: list[bytes]) -> None:
        if self._at_line_start and not line.startswith((b" ", b"\t")):
            self._end_field(out)
            if line == b"\r\n":
                out.append(line)
                self._end_header()
                return
            if self._is_delimiter(line):
                out.append(line)
                return
        self._at_line_start = line.endswith(b"\r\n")
        self._field += line
        self._header_octets += len(line)
        if self._header_octets > MAX_HEADER:
            out.append(self._question_marks(bytes(self._field)))
            self._field.clear()

    def _end_field(self, out: list[bytes]) -> None:
        field = bytes(self._field)
        if not field:
            return
        self._field.clear()
        if telling := _TELLING.match(b"\r\n" + field):
            self._fields[telling[1].decode().lower()] = _text(b":" + telling[2])
        if not field.isascii():
            self.changed = True
            field = _field_in_ascii(field)
        out.append(field)

    def _end_header(self) -> None:
        fields, self._fields = self._fields, {}
        kind, parameters = _parsed(fields.get("content-type", _MESSAGES[0] if self._in_digest else ""))
        self._in_digest = False
        encoding = fields.get("content-transfer-encoding", "").lower()
        boundary = parameters.get("boundary", "")
        if kind.startswith("multipart/") and boundary and boundary.isascii() and len(self._parts) < MAX_DEPTH:
            self._parts.append((boundary.encode(), kind == "multipart/digest"))
        self.in_header = kind in _MESSAGES and encoding in _UNENCODED
        self._at_line_start = True

    def _body(self, data: bytes, begin: int, out: list[bytes]) -> int:
        if not self._parts:
            out.append(data[begin:])
            return len(data)
        if self._at_line_start:
            if data.startswith(b"--", begin):
                end = data.find(b"\r\n", begin, begin + MAX_DELIMITER) + 2
                if end < 2 and len(data) - begin < MAX_DELIMITER:
                    return begin
                if end >= 2 and self._is_delimiter(data[begin:end]):
                    out.append(data[begin:end])
                    return end
            elif data[begin:] == b"-":
                return begin
        # Up to the next line that may be a delimiter.
        found = data.find(b"\r\n--", begin)
        end = found + 2 if found >= 0 else len(data) - _is_cut(data)
        self._at_line_start = found >= 0
        if end > begin:
            out.append(data[begin:end])
        return max(begin, end)

    def _may_delimit(self, chunk: bytes) -> bool:
        if not self._parts:
            return False
        # A dash first: base64 has none, and line ends at every step.
        return self._at_line_start or (b"-" in chunk and b"\r\n--" in chunk) or _is_cut(chunk) > 0

    def _is_delimiter(self, line: bytes) -> bool:
        """Whether a line ends the part that we are in; what comes behind it is prepared for."""
        if not line.startswith(b"--") or not line.endswith(b"\r\n"):
            return False
        self._dashes += 1
        if self._dashes > MAX_DASHES:
            self._parts.clear()
        text = line[2:].rstrip(b" \t\r\n")
        for depth in reversed(range(len(self._parts))):
            boundary, of_digest = self._parts[depth]
            if text in (boundary, boundary + b"--"):
                self.in_header = text == boundary
                self._in_digest = self.in_header and of_digest
                del self._parts[depth + self.in_header :]
                self._at_line_start = True
                self._fields = {}
                return True
        return False


def _tells_of_parts(header: bytes) -> bool:
    """Whether headers of parts may follow this one. Where it seems so and is not, a look is wasted."""
    header = header.lower()
    return b"multipart/" in header or b"message/" in header


def _is_cut(data: bytes) -> int:
    """How many octets at the end of ``data`` may begin a delimiter with its line end."""
    return next((length for length in (3, 2, 1) if data.endswith(b"\r\n--"[:length])), 0)


def _field_in_ascii(field: bytes) -> bytes:
    """A field in ASCII, CRLF at its end; nothing where it can only be left out (RFC 6858 2.4)."""
    raw_name = field.partition(b":")[0]
    if not raw_name.isascii():
        return b""
    name = raw_name.decode()
    convert = CONVERSIONS.get(name.strip().lower())
    if convert is None:
        return b""
    try:
        converted = convert(_text(field), name)
    except (MessageError, ValueError, RecursionError):  # comments may stand in comments
        return b""
    line = f"{name}: {converted}"
    if not line.isascii() or re.search(r"[\r\n]", line.replace("\r\n ", "")):
        return b""
    return line.encode() + b"\r\n"


def _text(field: bytes) -> str:
    """What a field says, unfolded."""
    value = field.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _words(text: str, name: str = "") -> str:
    """Text as encoded words (RFC 2047)."""
    return Header(text, "utf-8", header_name=name).encode(linesep="\r\n")


def _addresses(text: str, name: str) -> str:
    pairs = [(phrase, address) for phrase, address in getaddresses([text]) if phrase or address]
    if len(pairs) > 1 or any(phrase or "@" in address for phrase, address in pairs):  # else of words only one is left
        return ",\r\n ".join(_mailbox(phrase, address) for phrase, address in pairs)
    group = _EMPTY_GROUP.fullmatch(text)
    return f"{_words(text)} <{INVALID}>" if group is None else f"{_words(group[1])}:;"


def _mailbox(phrase: str, address: str) -> str:
    if not address.isascii():
        # RFC 6858 2.1: it shows who was meant, and mail for it goes nowhere.
        shown = f"{phrase} <{address}>" if phrase else address
        return f"{_words(shown)} <{INVALID}>"
    return formataddr((phrase, address)) if phrase.isascii() else f"{_words(phrase)} <{address}>"


def _return_path(text: str, name: str) -> str:
    return f"<{INVALID}>"


def _uncommented(text: str, name: str) -> str:
    """``text`` without its comments: a time zone's name is one where many programs write it."""
    return _COMMENT.sub("", text).strip()


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    """The value of a field with parameters, and those, their names in lower case and nothing quoted."""
    kind = text.partition(";")[0].strip().lower()
    return kind, {name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(text)}


def _unquoted(value: str) -> str:
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    return value.strip()


def _parameters(text: str, name: str) -> str:
    parts = [_uncommented(text.partition(";")[0], name)]
    found = _PARAMETER.findall(text)
    names = {parameter.lower() for parameter, _ in found}
    for parameter, value in found:
        if not value.isascii():
            if "*" in parameter or f"{parameter.lower()}*" in names:
                continue  # RFC 2231 has no such thing; or it has it already
            parameter, value = f"{parameter}*", "utf-8''" + quote(_unquoted(value), safe="")
        if len(parameter) + len(value) <= MAX_PARAMETER and parameter.isascii():
            parts.append(f"{parameter}={value.strip()}")
    return ";\r\n ".join(parts)


_ADDRESS_FIELDS = ("from", "sender", "reply-to", "to", "cc", "bcc")
CONVERSIONS: Mapping[str, Callable[[str, str], str]] = {
    **{f"{prefix}{name}": _addresses for prefix in ("", "resent-") for name in _ADDRESS_FIELDS},
    "return-path": _return_path,
    **dict.fromkeys(("date", "resent-date", "mime-version", "content-transfer-encoding"), _uncommented),
    "subject": _words,
    "comments": _words,
    "content-description": _words,
    "content-type": _parameters,
    "content-disposition": _parameters,
}
