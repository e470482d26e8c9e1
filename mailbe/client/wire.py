"""One connection to a server, in plaintext or TLS, whose lines are told to a ``Transcript``.

Its calls wait. ``cancel`` ends them from any other thread. It looks enough like a socket for ``smtplib`` to talk on it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from mailbe.client.dialogue import Transcript
from mailbe.client.errors import Cancelled, HungUp, NoAnswer, Unreachable
from mailbe.client.printable import one_line

CHUNK = 64 * 1024
CONNECT_SECONDS = 15
GLANCE_SECONDS = 0.1
LONGEST_LINE = 64 * 1024 * 1024  # octets; more than a letter that mailbe takes
Progress = Callable[[int, int], None]
"""Is told of so many octets of so many."""


class Wire:
    """A connection to ``host:port``."""

    def __init__(self, host: str, port: int, transcript: Transcript, patience: float) -> None:
        """:param patience: seconds that the server may keep silent."""
        self.place = f"{host}:{port}"
        self.transcript = transcript
        self.progress: Progress | None = None
        """Is told how much of a long ``sendall`` has gone."""
        self.tls = False
        self.patience = patience
        """Seconds that the server may keep silent."""
        self.local = ""
        """Our own IP address."""
        self._host, self._port = host, port
        self._at_home = False
        self._buffer = bytearray()
        self._cancelled = False
        self._socket = socket.socket()  # closed, or the connection

    def connect(self) -> None:
        """:raises Unreachable, Cancelled:"""
        self._socket.close()
        try:
            ways = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, OverflowError) as error:
            raise Unreachable(f"{self.place} cannot be reached: {why(error)}") from error
        reason: Exception = OSError("it has no address")
        for family, kind, protocol, _, address in ways:
            try:
                self._socket = socket.socket(family, kind, protocol)
                self._reach(address)
            except OSError as error:
                self._socket.close()
                if self._cancelled:
                    raise Cancelled("broken off") from None
                reason = error
            except BaseException:
                self._socket.close()
                raise
            else:
                self.transcript.note(f"connected to {self.place}")
                return
        raise Unreachable(f"{self.place} cannot be reached: {why(reason)}")

    def _reach(self, address: Any) -> None:
        """Connect to an address; what waits here looks up now and then, as nothing else can call it off."""
        self._socket.setblocking(False)
        end = time.monotonic() + min(self.patience, CONNECT_SECONDS)
        failed = self._socket.connect_ex(address)
        while failed == errno.EINPROGRESS:
            self._check_cancelled()
            if time.monotonic() > end:
                raise TimeoutError
            if select.select([], [self._socket], [], GLANCE_SECONDS)[1]:
                failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
        self._socket.settimeout(self.patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local = self._socket.getsockname()[0].partition("%")[0]
        self._at_home = ipaddress.ip_address(address[0].partition("%")[0]).is_loopback

    @property
    def private(self) -> bool:
        """Whether nobody can read along: in TLS, or within this machine."""
        return self.tls or self._at_home

    def speaks_first(self, seconds: float) -> bool:
        """Whether the server says something by itself within this time, as it does unless it waits for TLS."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Go on in TLS with the server ``name``.

        :raises ssl.SSLCertVerificationError:
        :raises NoAnswer:
        """
        if self._buffer:
            # What came in plaintext must not be taken for something said in TLS (RFC 3207 6).
            raise NoAnswer(f"{self.place} goes on in plaintext where TLS should begin")
        try:
            with self._waiting("the TLS handshake"):
                # In two steps, as ``cancel`` must always find the socket that is waited for.
                self._socket = secured = context.wrap_socket(
                    self._socket, server_hostname=name, do_handshake_on_connect=False
                )
                self._check_cancelled()
                secured.do_handshake()
        except ssl.SSLCertVerificationError:
            self.transcript.note("the certificate does not verify")
            raise
        self.tls = True
        cipher = secured.cipher()
        self.transcript.note(f"{secured.version()} begins" + (f", {cipher[0]}" if cipher else ""))

    @property
    def certificate(self) -> bytes:
        """The server's certificate in DER form; empty without TLS."""
        return (isinstance(self._socket, ssl.SSLSocket) and self._socket.getpeercert(binary_form=True)) or b""

    def be_patient(self, seconds: float) -> None:
        """Let the server keep silent so long from now on."""
        self.patience = seconds
        self._socket.settimeout(seconds)

    def sendall(self, octets: bytes) -> None:
        """Send whole lines.

        :raises NoAnswer, Cancelled:
        """
        begin = 0
        with self._waiting("it to take what is sent"):
            while begin < len(octets):
                # Line by line as it goes, so that nothing is told of that was never sent.
                end = octets.rfind(b"\n", begin, begin + CHUNK) + 1 or begin + CHUNK
                chunk = octets[begin:end]
                self.transcript.sent(chunk)
                self._socket.sendall(chunk)
                begin = end
                if self.progress is not None:
                    self.progress(min(begin, len(octets)), len(octets))

    def readline(self, limit: int = -1) -> bytes:
        """The next line, with its line end; at most ``limit`` octets of it, if that is not negative.

        :raises NoAnswer, Cancelled:
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0 and not 0 <= limit <= len(self._buffer):
            searched = len(self._buffer)
            if searched > LONGEST_LINE:
                raise NoAnswer(f"{self.place} sends a line without end")
            with self._waiting("an answer"):
                chunk = self._socket.recv(CHUNK)
            self._check_cancelled()
            if not chunk:
                raise HungUp(f"{self.place} has hung up")
            self._buffer += chunk
        length = end + 1 if end >= 0 else limit
        if 0 <= limit < length:
            length = limit
        line = bytes(self._buffer[:length])
        del self._buffer[:length]
        self.transcript.received(line)
        return line

    def makefile(self, mode: str) -> Self:
        """What ``smtplib`` reads replies from."""
        return self

    def close(self) -> None:
        """Hang up; may be called again."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            self.transcript.note("connection closed")

    def cancel(self) -> None:
        """Hang up at once, and have who waits in another thread raise ``Cancelled``."""
        self._cancelled = True
        with contextlib.suppress(OSError):
            # Of the socket below TLS: that would say good-bye, and wait.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise Cancelled("broken off")

    @contextmanager
    def _waiting(self, for_what: str) -> Iterator[None]:
        self._check_cancelled()
        try:
            yield
        except ssl.SSLCertVerificationError:
            raise
        except OSError as error:
            if self._cancelled:
                raise Cancelled("broken off") from None
            if isinstance(error, TimeoutError):
                raise NoAnswer(f"{self.place} is silent: waited {self.patience:g} seconds for {for_what}") from None
            raise HungUp(f"{self.place}: {why(error)}") from error


def why(error: Exception) -> str:
    """What an error of the network says, for people."""
    if isinstance(error, ssl.SSLError):
        return one_line(f"no TLS: {error.reason or error}".replace("_", " ").lower().replace("tls", "TLS"))
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    return one_line(str(error))
