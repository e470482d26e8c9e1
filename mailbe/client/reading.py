"""A letter as it came, made into what a person reads: its headings, its text, its attachments.

Nothing that comes out of here can move a cursor or write a file outside the folder that was asked for, whatever the
letter holds; and there is no letter that cannot be shown.
"""

from __future__ import annotations

import contextlib
import email
import email.header
import email.policy
import email.utils
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.message import Message
from pathlib import Path
from typing import Any

from mailbe.client.errors import NotSaved
from mailbe.client.html import as_text
from mailbe.client.printable import one_line, printable

LONGEST_TEXT = 1_000_000  # characters that are shown of a letter
LONGEST_NAME = 150  # octets of an attachment's name
LONGEST_SUFFIX = 20  # of them behind the dot
LONGEST_HEADER = 20_000  # characters that are read of one
_ENCODED_WORD = r"=\?[^?\s]+\?[BbQq]\?[^?\s]*\?="
_ENCODED_WORDS = re.compile(rf"{_ENCODED_WORD}(?:\s*{_ENCODED_WORD})*")  # no space between them counts: RFC 2047 6.2
_FOLD = re.compile(r"[\r\n]+")  # in a header there are no other line ends: RFC 5322 2.2.3
_LETTERS = ("message/rfc822", "message/global", "message/global-headers")  # RFC 2046 5.2.1, RFC 6532 3.7, RFC 6533 6.2
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in From, To or Cc."""

    name: str
    """May be empty."""
    address: str

    def __str__(self) -> str:
        """As it may stand in a header, but for the encoding of what is not ASCII."""
        return f"{self.phrase} <{self.address}>" if self.name else self.address

    @property
    def phrase(self) -> str:
        """The name as it may stand there, in quotes where it must (RFC 5322 3.2.5)."""
        if re.fullmatch(r"[^\x00-\x1f()<>\[\]:;@\\,.\"]+", self.name):
            return self.name
        return '"' + re.sub(r'(["\\])', r"\\\1", self.name) + '"'


@dataclass(frozen=True, slots=True)
class Heading:
    """What a list shows of a letter."""

    sender: str
    """Who it says it is from: a name, or else the address."""
    recipients: str
    """The same of those it is to."""
    subject: str
    date: datetime | None
    """When it says it was written."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part of a letter that is not its text."""

    name: str
    """What the sender calls it; for a file, ``save`` makes it safe. Never empty."""
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """A letter to read."""

    heading: Heading
    sender: tuple[Person, ...]
    """From."""
    reply_to: tuple[Person, ...]
    to: tuple[Person, ...]
    cc: tuple[Person, ...]
    text: str
    attachments: tuple[Attachment, ...]
    headers: tuple[tuple[str, str], ...]
    """All of them, names and values, in their order."""

    def header(self, name: str) -> str:
        """The first header of this name, or an empty text."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class _Headers(email.policy.Compat32):
    """As the library reads letters, but for octets beyond ASCII in a header: they are UTF-8 (RFC 6532 3)."""

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value


_POLICY = _Headers()


def heading(octets: bytes) -> Heading:
    """What a list shows, of a letter or of its header alone."""
    return _heading(_parsed(_header_of(octets)))


def read(octets: bytes) -> Reading:
    """A whole letter."""
    try:
        message = _parsed(octets)
        text, attachments = _body(message)
    except RecursionError:
        # Parts within parts without end. Who wrote that wants it to be unreadable.
        message = _parsed(_header_of(octets))
        text, attachments = octets.decode("utf-8", "replace"), []
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}\n[{len(text) - LONGEST_TEXT} more characters]\n"
    return Reading(
        _heading(message),
        _people(message, "From"),
        _people(message, "Reply-To"),
        _people(message, "To"),
        _people(message, "Cc"),
        printable(text),
        tuple(attachments),
        tuple((one_line(name), _decoded(value)) for name, value in message.raw_items()),
    )


def save(attachment: Attachment, folder: Path) -> Path:
    """Write an attachment into ``folder`` under a safe name that no file there has yet; returns its path.

    :raises NotSaved:
    """
    name = safe_name(attachment.name)
    stem, suffix = Path(name).stem, Path(name).suffix
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for number in range(1, 1000):
        path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            raise NotSaved(f"{one_line(str(error.filename or path))}: {error.strerror}") from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(attachment.content)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise NotSaved(f"{path}: {error.strerror}") from error
        return path
    raise NotSaved(f"{folder / name} is there already, and many more of that name")


def safe_name(name: str) -> str:
    """A name for a file, made of what a stranger calls it: no folders, not hidden, not too long."""
    last = re.split(r"[/\\]", one_line(name))[-1]
    name = _UNSAFE.sub("_", last).strip().lstrip(".-").rstrip(". ") or "attachment"
    suffix = Path(name).suffix if len(Path(name).suffix.encode()) <= LONGEST_SUFFIX else ""
    stem = name.removesuffix(suffix)
    return stem.encode()[: LONGEST_NAME - LONGEST_SUFFIX].decode(errors="ignore") + suffix


def _parsed(octets: bytes) -> Message:
    return email.message_from_bytes(octets, policy=_POLICY)


def _header_of(octets: bytes) -> bytes:
    end = re.search(rb"\r?\n\r?\n", octets)
    return octets[: end.end()] if end else octets


def _heading(message: Message) -> Heading:
    return Heading(_names(message, "From"), _names(message, "To"), _decoded(_raw(message, "Subject")), _date(message))


def _names(message: Message, header: str) -> str:
    people = _people(message, header)
    # Where nobody can be made out, it is shown as it came.
    return ", ".join(person.name or person.address for person in people) or _decoded(_raw(message, header))


def _raw(message: Message, header: str) -> object:
    return next((value for name, value in message.raw_items() if name.lower() == header.lower()), "")


def _date(message: Message) -> datetime | None:
    try:
        return email.utils.parsedate_to_datetime(str(message.get("Date", "")))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _people(message: Message, name: str) -> tuple[Person, ...]:
    value = _FOLD.sub("", str(_raw(message, name)))[:LONGEST_HEADER]  # a line end ends a quoted name for the library
    pairs = email.utils.getaddresses([value])
    if len(pairs) > 1 and any(address and "@" not in address for _, address in pairs):
        return ()  # not every version of the library tells that it could not make sense of it
    return tuple(Person(_decoded(called), _decoded(address)) for called, address in pairs if address)


def _decoded(value: object) -> str:
    """A header's value on one line, its encoded words (MIME) read; octets that are not ASCII are taken for UTF-8."""
    text = str(value)[:LONGEST_HEADER].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return one_line(_ENCODED_WORDS.sub(_without_encoding, text))


def _without_encoding(words: re.Match[str]) -> str:
    """What encoded words say. The library gets nothing but these: of what is beside them it makes escapes."""
    # Header parsing of strange text fails in strange ways; then it is shown as it came.
    with contextlib.suppress(HeaderParseError, ValueError, LookupError, AttributeError):
        return "".join(_text_of(part, charset) for part, charset in email.header.decode_header(words[0]))
    return words[0]


def _text_of(octets: bytes, charset: str | None) -> str:
    # "ascii" says who has not thought of it; UTF-8 is the same, and more.
    if charset and charset.lower() not in ("us-ascii", "ascii"):
        # There are codecs that know no "replace", and names that no codec has.
        with contextlib.suppress(LookupError, ValueError):
            return octets.decode(charset, "replace")
    return octets.decode("utf-8", "replace")


def _body(message: Message) -> tuple[str, list[Attachment]]:
    """The text to show, and what is attached."""
    texts: list[str] = []
    attachments: list[Attachment] = []
    for part in _parts(message):
        kind, charset = part.get_content_type(), part.get_content_charset()
        name, is_attachment = _file_name(part), _is_attachment(part)
        octets = _octets(part)
        if kind in ("text/plain", "text/html") and not name and not is_attachment:
            text = _text_of(octets, charset)
            texts.append(as_text(text) if kind == "text/html" else text)
        else:
            called = name or f"part-{len(attachments) + 1}{_suffix(kind)}"
            attachments.append(Attachment(called, one_line(kind), octets))
    return "\n\n".join(texts), attachments


def _parts(message: Message) -> Iterator[Message]:
    """The parts that are shown or listed: of alternatives one, a letter within the letter as a whole."""
    kind = message.get_content_type()
    parts: list[Any] = list(message.get_payload()) if message.is_multipart() else []
    if not parts:
        yield message
    elif kind in _LETTERS:
        yield _whole(message, parts[0])
    elif kind == "multipart/alternative":
        plain = (part for part in parts if part.get_content_type() == "text/plain")
        yield from _parts(next(plain, parts[-1]))
    else:
        for part in parts:
            yield from _parts(part)


def _octets(part: Message) -> bytes:
    """The content of a part that has no parts."""
    try:
        content = part.get_payload(decode=True)
    except Exception:  # it reads the charset along the way, and trips over some
        del part["Content-Type"]
        content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _whole(message: Message, inner: Message) -> Message:
    """A letter that is attached, as one file."""
    made = Message()
    made["Content-Type"] = "application/octet-stream"
    made.add_header("Content-Disposition", "attachment", filename=_file_name(message) or "letter.eml")
    with contextlib.suppress(Exception):  # what cannot be written again as it came is an empty file
        made.set_payload(inner.as_bytes())
    return made


def _file_name(part: Message) -> str:
    with contextlib.suppress(ValueError, LookupError, IndexError, TypeError, AttributeError):
        told = part.get_param("filename", None, "Content-Disposition") or part.get_param("name") or ""
        # Not by get_filename, which takes the quotes off twice.
        return _decoded(told if isinstance(told, str) else email.utils.collapse_rfc2231_value(told))
    return ""


def _is_attachment(part: Message) -> bool:
    return str(part.get("Content-Disposition", "")).strip().lower().startswith("attachment")


def _suffix(kind: str) -> str:
    return {"text/plain": ".txt", "text/html": ".html", "text/calendar": ".ics"}.get(kind, "")
