"""Which servers are believed to be who they say: those that an authority vouches for, and those a person has accepted.

A certificate that a person has accepted is remembered by host, port and fingerprint, in
``$XDG_CONFIG_HOME/mailbe/certificates``, a line for each. It is compared with what is shown on the very connection that
is then used.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable
from pathlib import Path

from mailbe.client.certificate import Certificate, describe, fingerprint
from mailbe.client.errors import BadAuthority, NotSaved, NotTrusted

_LINE = re.compile(r"(\S+) ([0-9A-F]{2}(?::[0-9A-F]{2}){31})")


class Trust:
    """The authorities of this system, and ``authorities``; and what was accepted."""

    def __init__(self, authorities: Iterable[Path] = (), remembered: Path | None = None) -> None:
        """:param authorities: files of certificates, as PEM, that are trusted as well.

        :param remembered: where accepted certificates are kept; ``None``: in the user's settings.
        :raises BadAuthority:
        """
        self._path = remembered or config_folder() / "certificates"
        self.verifying = ssl.create_default_context()
        """Settings with which only a certificate passes that verifies."""
        for path in authorities:
            try:
                self.verifying.load_verify_locations(path)
            except OSError as error:
                reason = "there is no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
                raise BadAuthority(f"{path}: {reason}") from error
        self.looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        """Settings with which any passes: whoever uses them calls ``check`` before the first secret is said."""
        self.looking.check_hostname = False
        self.looking.verify_mode = ssl.CERT_NONE

    def check(self, der: bytes, host: str, port: int, why: str) -> None:
        """Pass a certificate that was accepted for this host and port.

        :param der: what the server has shown on this connection.
        :param why: it does not verify.
        :raises NotTrusted:
        """
        known = self._remembered().get(f"{host}:{port}".lower())
        if known is None or known != fingerprint(der):
            raise NotTrusted(describe(der, host, port, why, changed=known is not None))

    def accept(self, certificate: Certificate) -> None:
        """Trust this certificate from now on, for its host and port, in the place of any accepted before.

        :raises NotSaved: where that cannot be remembered.
        """
        remembered = self._remembered() | {certificate.place.lower(): certificate.fingerprint}
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_text("".join(f"{place} {value}\n" for place, value in sorted(remembered.items())))
            draft.replace(self._path)
        except OSError as error:
            raise NotSaved(f"{error.filename or self._path}: {error.strerror}") from error

    def _remembered(self) -> dict[str, str]:
        try:
            text = self._path.read_text("utf-8", "replace")
        except OSError:
            return {}  # nothing is accepted by a file that cannot be read
        return {match[1]: match[2] for line in text.splitlines() if (match := _LINE.fullmatch(line))}


def config_folder() -> Path:
    """Where a user's settings of mailbe lie (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    # That document has relative paths ignored.
    base = Path(given) if given.startswith("/") else Path.home() / ".config"
    return base / "mailbe"
