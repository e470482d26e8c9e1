"""Dot-stuffing both ways: DotReader takes it away on the way in, stuffed() puts it on on the way out.

RFC 5321 4.5.2 and RFC 1939 3 mean the same: a line that begins with a dot gets one more, and a line
that is one dot ends the text. Both directions work on chunks of any size, cut anywhere: whatever may
be the beginning of something (a CR, a CRLF, a CRLF and a dot) is held back until its rest has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

_DOT = b"\r\n."  # a dot that begins a line
_END = b"\r\n.\r\n"


class DotReader:
    """Takes a dot-stuffed text chunk by chunk, up to its lone dot, and hands its content on, unstuffed.

    Only CRLF ends a line, and only CRLF.CRLF ends the text (RFC 5321 2.3.8, 4.1.1.4).
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._held = b"\r\n"  # the text begins at the beginning of a line
        self._skip = 2  # ... and that CRLF is none of it
        self.octets = 0
        """The content's size so far, in octets, dots of the wire not counted (RFC 1870 3)."""
        self.bare = False
        """Whether a CR or LF that is no part of a CRLF has been seen: no line may have one (RFC 5321 2.3.8)."""

    def feed(self, data: bytes) -> bytes | None:
        """Take the next octets; what came behind the lone dot, or ``None`` while it has not come."""
        data = self._held + data
        # One octet is found ten times as fast as three, and base64, as which large letters come, has no dots at all.
        end = data.find(_END) if b"." in data and _DOT in data else -1
        if end >= 0:
            self._pass_on(data[: end + 2])
            return data[end + len(_END) :]
        held = _beginning_of_end(data)
        self._held = data[len(data) - held :]
        self._pass_on(data[: len(data) - held])
        return None

    def _pass_on(self, text: bytes) -> None:
        if not text:
            return
        if not self.bare:
            # To count them, octet by octet, takes ten times as long.
            others = text.replace(b"\r\n", b"  ")
            self.bare = b"\r" in others or b"\n" in others
        content = (text.replace(_DOT, b"\r\n") if b"." in text else text)[self._skip :]
        self._skip = 0
        if content:
            self.octets += len(content)
            self._write(content)


def _beginning_of_end(data: bytes) -> int:
    """How many octets at the end of ``data`` may be the beginning of CRLF.CRLF."""
    for length in range(len(_END) - 1, 0, -1):
        if data.endswith(_END[:length]):
            return length
    return 0


def stuffed(content: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of ``content`` dot-stuffed, and the lone dot at the end.

    Every line of ``content`` must end in CRLF (RFC 1939 3); where the last does not, it will.
    """
    end = b"\r\n"  # of what has gone by; the text begins at the beginning of a line
    for chunk in content:
        if not chunk:
            continue
        out = chunk.replace(b"\r\n.", b"\r\n..") if b"." in chunk else chunk
        # What no chunk shows by itself: a dot that follows a CRLF in the chunk before, or one that is cut in two.
        if end == b"\r\n" and chunk.startswith(b"."):
            out = b"." + out
        elif end.endswith(b"\r") and chunk.startswith(b"\n."):
            out = b"\n." + out[1:]
        yield out
        end = (end + chunk[-2:])[-2:]
    yield b".\r\n" if end == b"\r\n" else b"\r\n.\r\n"
