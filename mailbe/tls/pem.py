"""PEM files, and what to say where one is bad."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from mailbe.maildata import Unusable

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True, slots=True)
class PemFile:
    """A PEM file, and what to say where it is bad."""

    path: Path
    remedy: str
    option: str = ""

    def bad(self, why: str) -> Unusable:
        return Unusable(f"{self.option}{self.path}: {why}; {self.remedy}")

    def certificates(self) -> list[x509.Certificate]:
        """All certificates in it, at least one.

        :raises Unusable:
        """
        try:
            chain = x509.load_pem_x509_certificates(self._read())
            chain[0].public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise self.bad("there is no certificate in PEM form that can be used") from error
        return chain

    def private_key(self) -> PrivateKey:
        """The key in it.

        :raises Unusable: and no message has anything of the key.
        """
        try:
            key = serialization.load_pem_private_key(self._read(), password=None)
        except TypeError:  # cryptography's way of saying that it wants a password
            raise self.bad("the key is encrypted, and nobody is there to type its passphrase") from None
        except (ValueError, UnsupportedAlgorithm):
            raise self.bad("there is no private key in PEM form that can be used") from None
        if not isinstance(key, PrivateKey):
            raise self.bad("this kind of key is of no use in TLS")
        return key

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise self.bad(error.strerror or "cannot be read") from error
