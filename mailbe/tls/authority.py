"""A private authority, and the server's certificate that it signs, where the operator has given none.

``maildata/tls/`` holds::

    ca.key           the key of the authority
    ca.pem           its certificate: what users let their mail programs trust
    key.pem          the server's key
    certificate.pem  the server's certificate, and the authority's behind it

Each is made from those before it and appears whole. So what a crash left out is made at the next start, and
the server's certificate is made anew, by the same authority, by replacing one file.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailbe.address import is_domain
from mailbe.durable import make_folder, sync_folder
from mailbe.maildata import AUTHORITY, Unusable
from mailbe.tls.pem import PemFile, PrivateKey

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397  # what mail programs take is at most 398
RENEWAL_DAYS = 30
MAX_COMMON_NAME = 64  # characters, RFC 5280 appendix A
ONE_DAY = timedelta(days=1)
LOOPBACK = ("127.0.0.1", "::1")


def files(folder: Path) -> tuple[PemFile, PemFile]:
    """The server's certificate and its key in ``folder``."""
    again = "remove it, and a new one is made"
    return PemFile(folder / "certificate.pem", again), PemFile(folder / "key.pem", again)


def provide(folder: Path, domains: Sequence[str], now: datetime) -> None:
    """Make what is missing in ``folder``, and the server's certificate anew that ends soon or lacks one of ``domains``.

    Only the holder of maildata's lock may call this.

    :raises Unusable: where a file there is bad, or cannot be made.
    """
    chain_file, key_file = files(folder)
    try:
        make_folder(folder)
        authority, authority_key = _authority(folder, now)
        key = _key(key_file)
        if not chain_file.path.exists() or _is_stale(chain_file.certificates()[0], key, authority, domains, now):
            if authority_key is None:
                raise PemFile(folder / "ca.key", _put_back(folder)).bad(
                    "it is missing, and a certificate is to be made"
                )
            leaf = _server_certificate(key, authority, authority_key, domains, now)
            _write(chain_file.path, _pem(leaf) + _pem(authority), 0o644)
    except OSError as error:
        raise Unusable(f"{error.filename or folder}: {error.strerror}; change its owner or --maildata") from error


def _authority(folder: Path, now: datetime) -> tuple[x509.Certificate, PrivateKey | None]:
    """The authority, made where it is missing, and its key, if that is kept here."""
    file, key_file = PemFile(folder / AUTHORITY, _put_back(folder)), PemFile(folder / "ca.key", _put_back(folder))
    if not file.path.exists():
        _write(file.path, _pem(_authority_certificate(_key(key_file), now)), 0o644)
    authority = file.certificates()[0]
    if authority.not_valid_after_utc <= now:
        raise file.bad(f"it was valid until {authority.not_valid_after_utc:%Y-%m-%d}")
    if not key_file.path.exists():
        return authority, None
    key = key_file.private_key()
    if key.public_key() != authority.public_key():
        raise key_file.bad("this is not the key of ca.pem")
    return authority, key


def _put_back(folder: Path) -> str:
    return f"put back the one that was there, or remove {folder} and let users trust the new ca.pem"


def _is_stale(
    leaf: x509.Certificate, key: PrivateKey, authority: x509.Certificate, domains: Sequence[str], now: datetime
) -> bool:
    """Whether a new server certificate is to be made in the place of ``leaf``."""
    try:
        leaf.verify_directly_issued_by(authority)
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return True
    named = {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}
    return (
        leaf.public_key() != key.public_key()
        or leaf.not_valid_after_utc - now < RENEWAL_DAYS * ONE_DAY
        # The clock was ahead when it was made; not so where it is behind what the authority has seen.
        or authority.not_valid_before_utc <= now < leaf.not_valid_before_utc
        or not named.issuperset(name.lower() for name in _served(domains))
    )


def _served(domains: Sequence[str]) -> Sequence[str]:
    """The names by which clients ask for us: mail programs look for their settings at ``autoconfig`` in the domain."""
    asked = (f"autoconfig.{domain}" for domain in domains)
    return [*domains, *(name for name in asked if is_domain(name))]


def _authority_certificate(key: PrivateKey, now: datetime) -> x509.Certificate:
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    # NSS takes two authorities of one name and different keys for one; a name has at most 64 characters.
    name = _name(f"mailbe on {socket.gethostname()[:40]} {key_id[:4].hex()}")
    return _signed(_builder(name, key, now, now + AUTHORITY_DAYS * ONE_DAY, authority=True), name, key)


def _server_certificate(
    key: PrivateKey, authority: x509.Certificate, authority_key: PrivateKey, domains: Sequence[str], now: datetime
) -> x509.Certificate:
    hosts = (name for name in (socket.gethostname(), socket.getfqdn()) if is_domain(name) and name[0] != "[")
    names = list(dict.fromkeys([*_served(domains), "localhost", *hosts]))
    addresses = (x509.IPAddress(ipaddress.ip_address(address)) for address in LOOPBACK)
    alternatives = x509.SubjectAlternativeName([*map(x509.DNSName, names), *addresses])
    common = next(name for name in names if len(name) <= MAX_COMMON_NAME)
    end = min(now + (CERTIFICATE_DAYS - 1) * ONE_DAY, authority.not_valid_after_utc)
    builder = (
        _builder(_name(common), key, now, end, authority=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return _signed(builder, authority.subject, authority_key)


def _builder(
    name: x509.Name, key: PrivateKey, now: datetime, end: datetime, *, authority: bool
) -> x509.CertificateBuilder:
    """What both kinds of certificate have. It begins a day back, as the clocks of others may be slow."""
    public_key = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder(subject_name=name, public_key=public_key, serial_number=x509.random_serial_number())
        .not_valid_before(now - ONE_DAY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, issuer: x509.Name, key: PrivateKey) -> x509.Certificate:
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.issuer_name(issuer).add_extension(key_id, critical=False)
    algorithm = None if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else hashes.SHA256()
    return builder.sign(key, algorithm)


def _key(file: PemFile) -> PrivateKey:
    """The key in ``file``, made where it is missing: a signature with P-256 takes less than a tenth of RSA's time."""
    if not file.path.exists():
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key = ec.generate_private_key(ec.SECP256R1())
        _write(file.path, key.private_bytes(pem, pkcs8, serialization.NoEncryption()), 0o600)
    return file.private_key()


def _write(path: Path, octets: bytes, mode: int) -> None:
    """Make ``path``, or replace it: it is whole on the disk, or it is what it was."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)  # a crash may have left it
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
    aside.replace(path)
    sync_folder(path.parent)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
