"""aiosmtpd with its own handler for a Maildir. As a program, it is the server: ``python -m bench.peers.aiosmtpd``.

All letters come into one mailbox, once, whoever their recipients are. For its note, see docs/performance.md.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import ssl
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import PASSWORD, Peer, certificate, free_port


class Aiosmtpd(Peer):
    """aiosmtpd, in one process."""

    name = "aiosmtpd"
    rows = ("S*", "I-SMTP")
    note = "does not sync the folder"
    one_mailbox = True

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("aiosmtpd") else "needs PyPI's aiosmtpd"

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version("aiosmtpd")

    def mailbox(self, user: str) -> Path:
        return self.folder / "mail"

    def command(self, users: Sequence[str]) -> list[str]:
        chain, key = certificate(self.folder)
        self.ports = {"smtp": free_port(), "submission": free_port()}
        ports = [str(self.ports[name]) for name in ("smtp", "submission")]
        return [sys.executable, "-m", __name__, str(self.folder / "mail"), *ports, str(chain), str(key)]


def serve(mail: str, smtp: str, submission: str, chain: str, key: str) -> None:
    """Serve until the process is ended."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Mailbox
    from aiosmtpd.smtp import AuthResult, LoginPassword

    def check(server: object, session: object, envelope: object, mechanism: str, data: object) -> AuthResult:
        return AuthResult(success=isinstance(data, LoginPassword) and data.password == PASSWORD.encode())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    handler = Mailbox(mail)
    for port, options in ((smtp, {}), (submission, {"tls_context": context, "authenticator": check})):
        Controller(handler, hostname="127.0.0.1", port=int(port), **options).start()
    threading.Event().wait()


if __name__ == "__main__":
    serve(*sys.argv[1:])
