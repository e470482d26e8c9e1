"""A client that says what it is told to, line by line, and at first nothing of its own."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from types import TracebackType
from typing import Self

from tests.end_to_end.letters import SECONDS


def encoded(*fields: str) -> str:
    """The fields of an AUTH PLAIN response, or one of AUTH LOGIN, in base64."""
    return base64.b64encode("\0".join(fields).encode()).decode()


class Wire:
    """A connection to ``port`` of this host, from the loopback address ``source``."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), SECONDS, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *lines: str) -> None:
        """Send lines in one segment."""
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def reply(self) -> str:
        """The next reply, or the last line of it where SMTP has several."""
        while True:
            while b"\n" not in self._read:
                octets = self.socket.recv(65536)
                assert octets, f"no reply, but the end of the connection after {self._read!r}"
                self._read += octets
            line, _, self._read = self._read.partition(b"\n")
            if not re.match(rb"\d{3}-", line):
                return line.decode().removesuffix("\r")

    def say(self, *lines: str) -> str:
        """Send each line when the one before is answered; returns the last reply."""
        last = ""
        for line in lines:
            self.send(line)
            last = self.reply()
        return last

    def rest(self) -> bytes:
        """All that comes up to the end of the connection, which the server must bring about."""
        octets = self._read
        try:
            while more := self.socket.recv(65536):
                octets += more
        except ConnectionResetError:
            pass  # an end as well
        return octets

    def start_tls(self, context: ssl.SSLContext, host: str = "127.0.0.1") -> None:
        """Go on in TLS."""
        assert not self._read
        self.socket = context.wrap_socket(self.socket, server_hostname=host)
