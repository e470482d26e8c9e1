"""A connection over which a check talks, and the dialogue that is kept of it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mailbe.conform.rules import Differs, Unclear

SHOWN = 200  # octets of a line in a dialogue
SHOWN_LINES = 12  # lines of one thing said


class Lost(Exception):
    """The connection ended, or could not be made; the message says how."""


class Silence(Unclear):
    """Nothing came in time. RFC 5321 4.5.3.2 gives a server minutes, so this is no judgement."""


@dataclass(slots=True)
class Dialogue:
    """What was said, line by line: ``C:`` by us, ``S:`` by the server, ``*`` a note."""

    lines: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    """Replies that are not of the form they must have."""

    def said(self, octets: bytes) -> None:
        self._add("C", octets)

    def heard(self, octets: bytes) -> None:
        self._add("S", octets)

    def note(self, text: str) -> None:
        self.lines.append(f"* {text}")

    def _add(self, who: str, octets: bytes) -> None:
        parts = octets.removesuffix(b"\r\n").split(b"\r\n")
        for part in parts[:SHOWN_LINES]:
            self.lines.append(f"{who}: {shown(part)}")
        if len(parts) > SHOWN_LINES:
            self.lines.append(f"{who}: … {len(parts) - SHOWN_LINES} more lines, {len(octets)} octets in all")


def shown(octets: bytes) -> str:
    """Octets as people can read them, on one line."""
    text = octets[:SHOWN].decode("utf-8", "backslashreplace")
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(octets) <= SHOWN else f"{text}… ({len(octets)} octets)"


@dataclass(frozen=True, slots=True)
class Route:
    """How to come to a server."""

    host: str
    port: int
    implicit: bool
    """Whether TLS begins with the first octet."""
    tls: ssl.SSLContext
    seconds: float
    """The most that one answer may take."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Wire:
    """One connection. Lines are read as they come; what is odd about their ends is noted."""

    def __init__(self, route: Route, dialogue: Dialogue) -> None:
        """:raises Lost:"""
        self.route = route
        self.dialogue = dialogue
        self.tls = False
        self.sent = "the connection"
        self._read = bytearray()
        try:
            self._socket = socket.create_connection((route.host, route.port), min(route.seconds, 10))
        except (OSError, UnicodeError) as error:
            raise Lost(f"no connection to {route}: {_reason(error)}") from error
        self._socket.settimeout(route.seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        dialogue.note(f"connected to {route}")
        if route.implicit:
            self.start_tls()

    def start_tls(self) -> None:
        """Begin TLS.

        :raises Lost:
        """
        self._read.clear()
        try:
            self._socket = self.route.tls.wrap_socket(self._socket, server_hostname=self.route.host)
        except OSError as error:
            self._socket.close()
            raise Lost(f"no TLS with {self.route}: {_reason(error)}") from error
        self.tls = True
        self.dialogue.note(f"TLS, {self._socket.version()}")

    @property
    def certificate(self) -> bytes:
        """The server's, as DER; empty without TLS."""
        return (self._socket.getpeercert(binary_form=True) or b"") if isinstance(self._socket, ssl.SSLSocket) else b""

    @property
    def address(self) -> str:
        """Our own IP address."""
        return str(self._socket.getsockname()[0])

    def close(self) -> None:
        self._socket.close()

    def send(self, octets: bytes, masked: str = "") -> None:
        """:param masked: what to show in its place, as it holds a secret.
        :raises Lost:
        """
        self.sent = masked or shown(octets.removesuffix(b"\r\n"))
        self.dialogue.said(masked.encode() if masked else octets)
        with self._failing():
            self._socket.sendall(octets)

    def line(self) -> bytes:
        """The next line, without its end.

        :raises Lost, Silence:
        """
        searched = 0
        while (end := self._read.find(b"\n", searched)) < 0:
            searched = len(self._read)
            self._more()
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        if not line.endswith(b"\r"):
            self.dialogue.oddities.append(f"a line that ends with a bare LF: {shown(line)}")
        return line.removesuffix(b"\r")

    def until(self, end: bytes) -> bytes:
        """All octets up to and with ``end``.

        :raises Lost, Silence:
        """
        searched = 0
        while (found := self._read.find(end, searched)) < 0:
            searched = max(0, len(self._read) - len(end))
            self._more()
        octets = bytes(self._read[: found + len(end)])
        del self._read[: found + len(end)]
        return octets

    def starts_with(self, octets: bytes) -> bool:
        """Whether what comes next begins so.

        :raises Lost, Silence:
        """
        while len(self._read) < len(octets) and octets.startswith(self._read):
            self._more()
        return self._read.startswith(octets)

    def check_end(self) -> None:
        """See that the server hangs up, and says nothing before.

        :raises Differs:
        """
        try:
            self._more()
        except Lost:
            if not self._read:
                return
        except Silence:
            pass
        raise Differs("the end of the connection", self.sent, shown(bytes(self._read)) or "the connection stays")

    def _more(self) -> None:
        with self._failing():
            octets = self._socket.recv(64 * 1024)
            if not octets:
                raise Lost("the connection ended")
            self._read += octets

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self.dialogue.note(f"nothing for {self.route.seconds:g} s")
            raise Silence(f"no answer to {self.sent} in {self.route.seconds:g} s; --timeout gives it longer") from error
        except Lost:
            self.dialogue.note("the server hung up")
            raise
        except OSError as error:
            self.dialogue.note(f"the connection was lost: {_reason(error)}")
            raise Lost(f"the connection was lost: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
