"""A server that says its lines from a script, and hears whether the client says its own."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Sequence
from threading import Event, Thread

SECONDS = 60  # to give up a test that hangs


class Actor:
    """A server on a port of its own; one script for each connection, in turn.

    A script has a line ``S: ...`` for what the server says and ``C: ...`` for what it must hear, or ``C~ ...`` for what
    that must look like. ``S> n`` says n octets of text in lines, ``C>`` hears lines up to a lone dot, ``!tls`` goes on
    in TLS. ``!silence`` says nothing more until the client hangs up, which must say nothing either; ``!deaf`` is the
    same whatever the client says. At the end of its script it hangs up.
    """

    def __init__(self, *scripts: str, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self.heard: list[bytes] = []
        """The letters of ``C>``."""
        self.silent = Event()
        """Set when it has fallen silent."""
        self._faults: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self._played = 0
        self._thread = Thread(target=self._play, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See that all was played as it is written; what was not is an ``AssertionError``."""
        if self._played < len(self._scripts) and not self._faults:
            self._listener.settimeout(0.01)  # who has not come by now does not come
            with socket.socket() as knock:
                knock.settimeout(1)
                knock.connect_ex(("127.0.0.1", self.port))
        self._thread.join(SECONDS)
        self._listener.close()
        assert not self._faults, self._faults
        assert self._played == len(self._scripts), f"only {self._played} of {len(self._scripts)} connections came"

    def _play(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
                connection.settimeout(SECONDS)
                with connection:
                    self._perform(connection, script.strip().splitlines())
                self._played += 1
            except (OSError, AssertionError) as error:
                self._faults.append(f"{error!r} in:\n{script}")
                return

    def _perform(self, connection: socket.socket, lines: Sequence[str]) -> None:
        stream = connection.makefile("rb")
        for line in filter(None, map(str.strip, lines)):
            if line.startswith("S:"):
                connection.sendall(
                    line[2:].strip().encode("latin-1").decode("unicode_escape").encode("latin-1") + b"\r\n"
                )
            elif line.startswith("S> "):
                connection.sendall((b"x" * 70 + b"\r\n") * (int(line[3:]) // 72))
            elif line.startswith("C: "):
                said = stream.readline().decode("latin-1").rstrip("\r\n")
                assert said == line[3:], f"{said!r} instead of {line[3:]!r}"
            elif line.startswith("C~ "):
                said = stream.readline().decode("latin-1").rstrip("\r\n")
                assert re.fullmatch(line[3:], said), f"{said!r} instead of {line[3:]!r}"
            elif line == "C>":
                letter = b""
                while (said_line := stream.readline()) not in (b".\r\n", b""):
                    letter += said_line
                self.heard.append(letter)
            elif line == "!silence":
                self.silent.set()
                assert not stream.read(1), "the client goes on"
            elif line == "!deaf":
                self.silent.set()
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(65536):
                        pass
            elif line == "!tls":
                assert self._tls
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                except (ssl.SSLError, ConnectionError):
                    return  # the client does not like the certificate, and says so, or just hangs up
                stream = connection.makefile("rb")
            else:
                raise AssertionError(f"no such line in a script: {line}")
