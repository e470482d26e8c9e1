"""The model: five listeners, a thread for each connection, and one mailbox in memory."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mailbe.tls import authority
from tests.model.pop3 import Pop3Talk
from tests.model.report import report
from tests.model.smtp import Envelope, SmtpTalk
from tests.model.talk import DOMAIN, Fault, Gone, Talk


class Model:
    """The server: five listeners, each connection in a thread."""

    def __init__(self, folder: Path, fault: Fault | None = None) -> None:
        """:param folder: where its certificate is kept, for the next one as well."""
        self.recipients: set[str] = set()
        """All that were asked for."""
        self.failures: list[bytes] = []
        """The wrong passwords."""
        self.retrieved: set[str] = set()
        """The unique-ids of letters that were read, or of which a part was."""
        self.fault = fault or Fault()
        self.letters: dict[str, bytes] = {}
        """Of the one who has a mailbox, by unique-id."""
        self.copies: dict[str, bytes] = {}
        """Of what was sent after log-in."""
        self.names: list[str] = []
        """By which somebody has logged in, or tried to; empty where none was given."""
        self.open = False
        """Whether somebody is in the maildrop."""
        self.held_on = False
        """Whether the next one who comes is told so, though nobody is."""
        authority.provide(folder, ["localhost"], datetime.now(UTC))
        self.ca = folder / "ca.pem"
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        self._sockets: list[socket.socket] = []
        self._count = 0
        smtp: dict[str, Callable[[socket.socket], Talk]] = {
            "smtp": lambda peer: SmtpTalk(self, peer, implicit=False, submission=False),
            "submission": lambda peer: SmtpTalk(self, peer, implicit=False, submission=True),
            "submissions": lambda peer: SmtpTalk(self, peer, implicit=True, submission=True),
            "pop3": lambda peer: Pop3Talk(self, peer, implicit=False),
            "pop3s": lambda peer: Pop3Talk(self, peer, implicit=True),
        }
        self.ports = {name: self._listen(begin) for name, begin in smtp.items()}

    def _listen(self, begin: Callable[[socket.socket], Talk]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(server)

        def accept() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

        def serve(peer: socket.socket) -> None:
            with contextlib.suppress(Gone, OSError):
                talk = begin(peer)
                try:
                    talk.run()
                finally:
                    talk.socket.close()

        threading.Thread(target=accept, daemon=True).start()
        return int(server.getsockname()[1])

    def deliver(self, letter: Envelope, octets: bytes, talk: SmtpTalk) -> None:
        protocol = "UTF8SMTP" if "SMTPUTF8" in letter.parameters else "ESMTP"
        protocol += "S" * talk.secure + "A" * talk.known
        date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
        trace = f"Return-Path: <{letter.sender}>\r\nReceived: from {talk.helo} ([127.0.0.1])\r\n\tby {DOMAIN}"
        trace += f" with {protocol};\r\n\t{date}\r\n"
        whole = trace.encode() + octets
        if talk.known:
            self._put(self.copies, whole)
        if letter.hold and "holds-nothing" not in self.fault.words:
            threading.Timer(letter.hold, self._arrive, [letter, whole]).start()
        else:
            self._arrive(letter, whole)

    def _arrive(self, letter: Envelope, octets: bytes) -> None:
        self._put(self.letters, octets)
        always = "reports-always" in self.fault.words
        told = [each for each in letter.recipients if always or "SUCCESS" in each.parameters.get("NOTIFY", "").upper()]
        if told and "reports-nothing" not in self.fault.words:
            self._put(self.letters, self.fault.reports(report(letter, told, octets)))

    def _put(self, maildrop: dict[str, bytes], octets: bytes) -> None:
        self._count += 1
        maildrop[f"uid{self._count}-{time.monotonic_ns()}"] = self.fault.stores(octets)

    def close(self) -> None:
        for server in self._sockets:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
