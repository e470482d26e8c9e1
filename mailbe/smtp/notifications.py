"""What a client says of reports: whom they are about, and when it wants any (RFC 3461 4, RFC 6533 3).

Values come as xtext, in which ``+2B`` is a plus sign, and addresses of UTF-8 as unitext, in which it is ``\\x{2B}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zope.interface import implementer

from mailbe.interfaces import ILetter, OverQuota
from mailbe.reports import MAX_HEADER
from mailbe.smtp.replies import Refusal

MAX_ID = 100  # octets, RFC 3461 5.4, like the next
MAX_ORIGINAL = 500

NEVER = "NEVER"
_WISHES = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_RETURNED = {"FULL": True, "HDRS": False}

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_XTEXT_CODE = re.compile(r"\+(..)")
_TYPE = re.compile(r"[!#-'*+/0-9?A-Z^-~-]+")  # an atom, without what no value may have
_UTF8 = r"\xa0-\u2027\u202a-\ud7ff\ue000-\U0010ffff"  # no C1 controls, nothing that breaks a line
_TEXT = re.compile(r"[\t -~]*")
_UTF8_TEXT = re.compile(rf"[ -~{_UTF8}]*")
_HEXPOINT = (
    "[01][1-9]|10|20|2B|3D|7F|5C|[89A-F][0-9A-F]|[1-9A-F][0-9A-F]{2}"
    "|[1-9A-CEF][0-9A-F]{3}|D[0-7][0-9A-F]{2}|[1-9A-F][0-9A-F]{4}|10[0-9A-F]{4}"
)
_UNITEXT = re.compile(rf"(?:[!-*,-<>-\[\]-~{_UTF8}]|\\x\{{(?:{_HEXPOINT})\}})+", re.IGNORECASE)
_UNITEXT_CODE = re.compile(r"\\x\{(\w+)\}", re.IGNORECASE)


def returned(value: str | None) -> bool:
    """Whether all of a letter that fails is to come back (RET)."""
    if value is None or value.upper() not in _RETURNED:
        raise Refusal(501, "5.5.4 RET is FULL or HDRS")
    return _RETURNED[value.upper()]


def envelope_id(value: str | None) -> str:
    """What the sender calls the letter (ENVID)."""
    if value is None or len(value) > MAX_ID or (text := _decoded(value)) is None:
        raise Refusal(501, f"5.5.4 ENVID takes xtext of at most {MAX_ID} octets")
    return text


def notify(value: str | None) -> frozenset[str]:
    """Of what the sender is to be told (NOTIFY)."""
    # The lists of RFC 3461 4.1 may have empty elements.
    wishes = frozenset(filter(None, (value or "").upper().split(",")))
    if wishes == {NEVER}:
        return frozenset()
    if not wishes or not wishes <= _WISHES or not (value or "").isascii():  # the long s is an S in capitals
        raise Refusal(501, "5.5.4 NOTIFY is NEVER, or of SUCCESS, FAILURE and DELAY with commas between")
    return wishes


def original(value: str | None) -> str:
    """Whom the sender wrote to (ORCPT): the kind of the address, a semicolon, and the address without its coding."""
    kind, semicolon, address = (value or "").partition(";")
    if not semicolon or len(kind) + 1 + len(address.encode()) > MAX_ORIGINAL or not _TYPE.fullmatch(kind):
        raise _no_original()
    text = _utf8_address(address) if kind.lower() == "utf-8" else _decoded(address)
    if text is None:
        raise _no_original()
    return f"{kind};{text}"


def _no_original() -> Refusal:
    return Refusal(501, f"5.5.4 ORCPT takes the kind of an address, a semicolon and xtext, of {MAX_ORIGINAL} octets")


def _decoded(xtext: str) -> str | None:
    """What ``xtext`` stands for, if it is any, and of printable characters alone (RFC 3461 4.2, 4.4)."""
    if not _XTEXT.fullmatch(xtext):
        return None
    text = _XTEXT_CODE.sub(_character, xtext)
    return text if _TEXT.fullmatch(text) else None


def _utf8_address(address: str) -> str | None:
    """What stands behind ``utf-8;``; what is not of its form is copied as it is (RFC 6533 3)."""
    if _UNITEXT.fullmatch(address):
        text = _UNITEXT_CODE.sub(_character, address)
        if _UTF8_TEXT.fullmatch(text):
            return text
    return address if _UTF8_TEXT.fullmatch(address) else None


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


@implementer(ILetter)
class Witnessed:
    """A letter whose header is kept, since somebody wants a report."""

    def __init__(self, letter: ILetter, arrived: float) -> None:
        """:param arrived: when it has begun to come, in seconds since 1970."""
        self.id = letter.id
        self.arrived = arrived
        self.header = bytearray()
        """And what has come with its end; at most ``MAX_HEADER`` octets."""
        self._letter = letter
        self._whole = False

    def write(self, chunk: bytes) -> None:
        if not self._whole:
            begin = max(0, len(self.header) - 3)
            self.header += chunk[: MAX_HEADER - len(self.header)]
            self._whole = len(self.header) == MAX_HEADER or self.header.find(b"\r\n\r\n", begin) >= 0
        self._letter.write(chunk)

    async def deliver(self) -> None:
        await self._letter.deliver()

    async def deliver_to_each(self) -> Sequence[OverQuota | None]:
        return await self._letter.deliver_to_each()

    def discard(self) -> None:
        self._letter.discard()
