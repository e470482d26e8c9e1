"""Dot-stuffing both ways: DotReader takes it away on the way in, stuffed() puts it on on the way out.

RFC 5321 4.5.2 and RFC 1939 3 mean the same: a line that begins with a dot gets one more, and a line
that is one dot ends the text. Both directions work on chunks of any size, cut anywhere: whatever may
be the beginning of something (a CR, a CRLF, a CRLF and a dot) is held back until its rest has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

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
        end = data.find(_END)
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
            lines = text.count(b"\r\n")
            self.bare = text.count(b"\n") != lines or text.count(b"\r") != lines
        content = text.replace(b"\r\n.", b"\r\n")[self._skip :]
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
    held = b"\r\n"
    skip = 2
    for chunk in content:
        data = held + chunk
        # A dot that follows a CRLF is stuffed here, one that may still follow is left to the next chunk.
        keep = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
        held = data[len(data) - keep :]
        out = data[: len(data) - keep].replace(b"\r\n.", b"\r\n..")
        if len(out) > skip:
            yield out[skip:]
            skip = 0
        elif out:
            skip -= len(out)
    yield held[skip:] + (b".\r\n" if held == b"\r\n" else b"\r\n.\r\n")
