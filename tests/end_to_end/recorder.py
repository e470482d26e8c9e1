"""Stands between a client and a server, and writes down what the client said, and in how many breaths."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Recorder:
    """A port of this host whose connections go on to another.

    Octets are passed on only when they have been written down. So lines of one ``breath`` were said without waiting
    for the answer to the first: it could not have come yet.
    """

    def __init__(self, port: int) -> None:
        self._onward = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[list[bytes]] = []
        """The breaths of each client, in the order in which they came."""

    @property
    def breaths(self) -> list[str]:
        """Those of all clients."""
        return [breath.decode(errors="replace") for breaths in list(self.connections) for breath in list(breaths)]

    @property
    def said(self) -> str:
        """All that clients said."""
        return "".join(self.breaths)

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _shut(self._listener)
        self._threads[0].join()
        self._listener.close()
        for end in self._ends:
            _shut(end)
        for thread in self._threads[1:]:
            thread.join()
        for end in self._ends:
            end.close()

    def _begin(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._onward))
                breaths: list[bytes] = []
                self.connections.append(breaths)
                self._ends += [client, server]
                self._begin(_pass_on, client, server, breaths)
                self._begin(_pass_on, server, client, [])


def _pass_on(source: socket.socket, target: socket.socket, breaths: list[bytes]) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(1 << 20):
            breaths.append(octets)
            target.sendall(octets)
    _shut(target)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
