"""A client's end of a conversation, which takes nothing for an answer that has not come to its end."""

from __future__ import annotations

import re
import socket
from types import TracebackType
from typing import Self

PATIENCE = 15.0  # seconds for one answer; a server that takes longer hangs

_LAST_LINE = re.compile(rb"[2-5][0-9][0-9](?: .*)?", re.DOTALL)
_OTHER_LINE = re.compile(rb"[2-5][0-9][0-9]-.*", re.DOTALL)


class Lost(Exception):
    """The connection ended, or nothing came for too long, before the answer was whole."""


class Refused(Exception):
    """The answer is whole, and is not the one that was hoped for."""


class Wire:
    """A connection over which lines go and answers come."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(PATIENCE)
        self._read = bytearray()

    @classmethod
    def to(cls, port: int) -> Wire:
        """A connection to ``port`` of this host.

        :raises Lost:
        """
        try:
            connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        except OSError as error:
            raise Lost(f"no connection: {error}") from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, octets: bytes) -> None:
        """:raises Lost:"""
        try:
            self._socket.sendall(octets)
        except OSError as error:
            raise Lost(f"not sent: {error}") from error

    def reply(self, *codes: bytes) -> bytes:
        """The last line of the next SMTP reply (RFC 5321 4.2), which must have one of ``codes``.

        :raises Lost, Refused:
        """
        return self.reply_lines(*codes)[-1]

    def reply_lines(self, *codes: bytes) -> list[bytes]:
        """All lines of it.

        :raises Lost, Refused:
        """
        lines = [self.line()]
        while _OTHER_LINE.fullmatch(lines[-1]):
            lines.append(self.line())
        if not _LAST_LINE.fullmatch(lines[-1]):
            raise Lost(f"no SMTP reply: {bytes(lines[-1][:80])!r}")
        if lines[-1][:3] not in codes:
            raise Refused(lines[-1].decode(errors="replace"))
        return lines

    def status(self) -> bytes:
        """The next POP3 status line (RFC 1939 3), which must be +OK.

        :raises Lost, Refused:
        """
        line = self.line()
        if line != b"+OK" and not line.startswith(b"+OK "):
            raise Refused(line.decode(errors="replace"))
        return line

    def text(self) -> bytes:
        """What follows the status line of a multi-line POP3 answer, without stuffed dots (RFC 1939 3).

        :raises Lost:
        """
        searched = 0
        while not self._read.startswith(b".\r\n"):
            end = self._read.find(b"\r\n.\r\n", max(0, searched - 4))
            if end >= 0:
                lines = b"\r\n" + bytes(self._read[: end + 2])
                del self._read[: end + 5]
                return lines.replace(b"\r\n.", b"\r\n")[2:]
            searched = len(self._read)
            self._more()
        del self._read[:3]
        return b""

    def line(self) -> bytes:
        """The next line, without its CRLF.

        :raises Lost:
        """
        searched = 0
        while (end := self._read.find(b"\r\n", max(0, searched - 1))) < 0:
            searched = len(self._read)
            self._more()
        line = bytes(self._read[:end])
        del self._read[: end + 2]
        return line

    def _more(self) -> None:
        try:
            octets = self._socket.recv(256 * 1024)
        except OSError as error:
            raise Lost(f"no answer: {error}") from error
        if not octets:
            raise Lost(f"the connection ended after {bytes(self._read[:80])!r}")
        self._read += octets
