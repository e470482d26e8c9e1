"""A client's end of a real connection, plain or in TLS, that may cut, stall, reset and corrupt whatever it likes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator

CHUNK = 65536


class Gone(Exception):
    """The connection is no more."""


class Wire:
    """A connection to a port of this host. TLS runs over buffers in memory, so that its octets can be spoilt."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.certificate = b""
        """The server's, as DER; nothing before TLS is ready."""

    async def connect(self, port: int, source: str, *, narrow: bool) -> None:
        """:param source: the address it comes from.
        :param narrow: with little room for what is not read.
        """
        if narrow:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.bind((source, 0))
        await self._loop.sock_connect(self._socket, ("127.0.0.1", port))

    async def send(self, octets: bytes) -> None:
        """:raises Gone:"""
        if self._tls is not None:
            with _gone():
                self._tls.write(octets)
            octets = self._outgoing.read()
        await self.send_bare(octets)

    async def send_bare(self, octets: bytes) -> None:
        """Send these very octets, TLS or not.

        :raises Gone:
        """
        with _gone():
            await self._loop.sock_sendall(self._socket, octets)

    async def receive(self) -> bytes:
        """The next octets; none at the end of the connection.

        :raises Gone: where it is reset, or TLS is broken.
        """
        if self._tls is None:
            with _gone():
                return await self._loop.sock_recv(self._socket, CHUNK)
        while True:
            with _gone(), contextlib.suppress(ssl.SSLWantReadError):
                return self._tls.read(CHUNK)
            await self._fill()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """:raises Gone: where the handshake fails."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        done = False
        while not done:
            with _gone(), contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                done = True
            await self.send_bare(self._outgoing.read())
            if not done:
                await self._fill()
        self.certificate = self._tls.getpeercert(binary_form=True) or b""

    def shut(self) -> None:
        """Say nothing more, and go on reading."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection at once, what is under way included."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._socket.close()

    async def _fill(self) -> None:
        with _gone():
            octets = await self._loop.sock_recv(self._socket, CHUNK)
        if octets:
            self._incoming.write(octets)
        else:
            self._incoming.write_eof()


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise Gone(str(error)) from error
