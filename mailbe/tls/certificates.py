"""The certificate that connections show: the operator's, or one that we made; looked for again on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mailbe.interfaces import ITls
from mailbe.tls import authority
from mailbe.tls.pem import PemFile, PrivateKey

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all good
BINDING_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 2
BINDING_OCTETS = 32
# RFC 5929 4.1: where the certificate's signature hashes with these, the binding does with SHA-256.
WEAK_HASHES = {"md5", "sha1"}


def given(certificate: Path, key: Path, now: Callable[[], float]) -> SSL.Context:
    """What ``--certificate`` and ``--key`` ask for: the server's certificate first, then those that signed it.

    :param now: the time of day, in seconds since 1970.
    :raises Unusable: where the files are bad, do not fit, or are not valid today.
    """
    chain_file = PemFile(
        certificate, "give the server's certificate, then those that signed it, as PEM", "--certificate "
    )
    key_file = PemFile(key, "give the certificate's key as PEM, without a passphrase", "--key ")
    chain, private = chain_file.certificates(), key_file.private_key()
    if chain[0].public_key() != private.public_key():
        raise key_file.bad(f"this is not the key of the first certificate in --certificate {certificate}")
    today = _date(now)
    if chain[0].not_valid_after_utc < today:
        raise chain_file.bad(f"it was valid until {chain[0].not_valid_after_utc:%Y-%m-%d}")
    if chain[0].not_valid_before_utc > today:
        raise chain_file.bad(f"it is valid from {chain[0].not_valid_before_utc:%Y-%m-%d} only, or the clock is wrong")
    return _context(chain, private, chain_file)


def made(folder: Path, domains: Sequence[str], now: Callable[[], float]) -> SSL.Context:
    """What stands in ``folder``, where that which is missing, ends soon or lacks one of ``domains`` is made first.

    Only the holder of maildata's lock may call this.

    :param now: the time of day, in seconds since 1970.
    :raises Unusable: where a file there is bad, or cannot be made.
    """
    authority.provide(folder, domains, _date(now))
    chain_file, key_file = authority.files(folder)
    return _context(chain_file.certificates(), key_file.private_key(), key_file)


def copied(certificate: Path, key: Path) -> SSL.Context:
    """What another process has found to be good, and has copied to these two files.

    :raises Unusable: where it is not.
    """
    chain_file, key_file = (
        PemFile(path, "this is a copy; see to the files it was made of") for path in (certificate, key)
    )
    return _context(chain_file.certificates(), key_file.private_key(), key_file)


@implementer(ITls)
class Certificates:
    """Gives every new connection the certificate that was found last."""

    def __init__(self, find: Callable[[], SSL.Context]) -> None:
        """:param find: ``given`` or ``made``, with its arguments.

        :raises Unusable:
        """
        self._find = find
        self._context = find()
        self._end_points: WeakKeyDictionary[SSL.Context, dict[str, bytes]] = WeakKeyDictionary()

    def reload(self) -> None:
        """Look again. Connections that are there keep what they have.

        Done once a day, this renews what we have made, and the key of session tickets with it.

        :raises Unusable: and new connections get the old certificate.
        """
        self._context = self._find()

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def channel_binding(self, transport: object) -> dict[str, bytes]:
        """What a log-in over ``transport`` can be bound to, by the name of the kind.

        Nothing where there is no TLS, or its handshake is not done. Source: RFC 9266 2, RFC 5929 4.
        """
        get_handle = getattr(transport, "getHandle", None)
        connection = get_handle() if get_handle is not None else None
        if not isinstance(connection, SSL.Connection) or connection.get_peer_finished() is None:
            return {}
        bindings = {}
        # RFC 9266 4: in TLS 1.2 only with an extended master secret, which pyOpenSSL does not tell.
        if connection.get_protocol_version() == SSL.TLS1_3_VERSION:
            # In TLS 1.3 no context is the same as the empty one.
            bindings["tls-exporter"] = connection.export_keying_material(BINDING_LABEL, BINDING_OCTETS)
        context = connection.get_context()
        if context not in self._end_points:
            self._end_points[context] = _end_point(connection)
        return bindings | self._end_points[context]


def _end_point(connection: SSL.Connection) -> dict[str, bytes]:
    leaf = connection.get_certificate(as_cryptography=True)
    assert leaf is not None
    algorithm = leaf.signature_hash_algorithm
    if algorithm is None:  # of Ed25519, for which RFC 5929 has no rule
        return {}
    return {"tls-server-end-point": leaf.fingerprint(hashes.SHA256() if algorithm.name in WEAK_HASHES else algorithm)}


def _context(chain: Sequence[x509.Certificate], key: PrivateKey, file: PemFile) -> SSL.Context:
    """:raises Unusable: where OpenSSL does not take them, as weak ones; it names ``file``."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # Clients that poll come back with a ticket, which costs us no memory.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection keeps some 34 KiB less
    try:
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error as error:
        raise file.bad(f"OpenSSL refuses it ({_reason(error)})") from error
    return context


def _date(now: Callable[[], float]) -> datetime:
    return datetime.fromtimestamp(now(), UTC)


def _reason(error: SSL.Error) -> str:
    """What OpenSSL says; its errors are lists of (library, function, reason)."""
    return str(error.args[0][-1][-1]) if error.args and error.args[0] else "no reason given"
