"""A server's certificate as somebody needs to see it who has to decide whether to trust it."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from mailbe.client.printable import one_line


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is asked about. All text is safe to print."""

    host: str
    port: int
    names: tuple[str, ...]
    """Those that it is made for."""
    issuer: str
    """Who signed it; the same as for itself where nobody did."""
    ends: datetime | None
    """Until when it is valid."""
    fingerprint: str
    """The SHA-256 of its DER form, in pairs of hexadecimal digits with colons between them."""
    why: str
    """Why it does not verify."""
    changed: bool = False
    """Whether another one was accepted for this host and port before."""

    @property
    def place(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"


def fingerprint(der: bytes) -> str:
    """The SHA-256 of a certificate in DER form, as it is shown to people."""
    return hashlib.sha256(der).digest().hex(":").upper()


def describe(der: bytes, host: str, port: int, why: str, *, changed: bool) -> Certificate:
    """What ``der``, which ``host:port`` has shown, says of itself. It may say anything, or be unreadable."""
    names: list[str] = []
    issuer, ends = "unknown", None
    with contextlib.suppress(Exception):  # a stranger's certificate fails in many ways; what can be read of it is shown
        certificate = x509.load_der_x509_certificate(der)
        issuer = certificate.issuer.rfc4514_string() or "nobody"
        ends = certificate.not_valid_after_utc
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternatives.get_values_for_type(x509.DNSName)
        names += map(str, alternatives.get_values_for_type(x509.IPAddress))
    shown = tuple(dict.fromkeys(one_line(name) for name in names))
    return Certificate(host, port, shown, one_line(issuer), ends, fingerprint(der), one_line(why), changed)
