"""TLS: a certificate that clients accept, one that is renewed, and bad files that are named in one line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailbe.maildata import Unusable
from mailbe.tls.certificates import Certificates, given, made
from mailbe.tls.pem import PrivateKey

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FILES = ("ca.key", "ca.pem", "key.pem", "certificate.pem")


def clock_at(moment: datetime) -> Clock:
    clock = Clock()
    clock.advance(moment.timestamp())
    return clock


def handshake(
    server: SSL.Connection, client: ssl.SSLObject, from_client: ssl.MemoryBIO, to_client: ssl.MemoryBIO
) -> None:
    """Carry octets between the two until both are content, or one is not."""
    server.set_accept_state()
    for _ in range(6):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        if from_client.pending:
            server.bio_write(from_client.read())
        with contextlib.suppress(SSL.WantReadError):
            server.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            to_client.write(server.bio_read(2**16))


def connect(
    context: SSL.Context,
    ca: Path | None = None,
    name: str = "localhost",
    version: ssl.TLSVersion | None = None,
    session: ssl.SSLSession | None = None,
    mine: ssl.SSLContext | None = None,
) -> ssl.SSLObject:
    """The client's side of a connection, when the handshake is done; it trusts ``ca``, or whomever there is none.

    :raises ssl.SSLError: where the client does not like it.
    :raises SSL.Error: where the server does not.
    """
    settings = mine or client_settings(ca, version)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = settings.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
    server = SSL.Connection(context, None)
    handshake(server, client, outgoing, incoming)
    server.send(b"hello")
    incoming.write(server.bio_read(2**16))
    assert client.read(5) == b"hello"  # what comes before it are the tickets of TLS 1.3
    return client


def client_settings(ca: Path | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    settings = ssl.create_default_context(cafile=ca)
    if ca is None:
        settings.check_hostname = False
        settings.verify_mode = ssl.CERT_NONE
    if version is not None:
        settings.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL would not even ask for 1.1
        settings.minimum_version = settings.maximum_version = version
    return settings


def pem(key: PrivateKey | x25519.X25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def self_signed(key: PrivateKey, begin: datetime = NOW - DAY, end: datetime = NOW + DAY) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "given.example")])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA384()
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
        .sign(key, algorithm)
        .public_bytes(serialization.Encoding.PEM)
    )


def openssl(*arguments: object) -> str:
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


class FolderCase(SynchronousTestCase):
    """A folder for ``made``, and a host whose name is known."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "maildata" / "tls"
        self.patch(socket, "gethostname", lambda: "mars")
        self.patch(socket, "getfqdn", lambda: "mars.example")

    def make(self, *domains: str, at: datetime = NOW) -> SSL.Context:
        return made(self.folder, domains or ("mail.example",), clock_at(at).seconds)

    def read(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in FILES}

    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates(self.read()["certificate.pem"])[0]


class Made(FolderCase):
    def test_openssl_finds_nothing_wrong(self) -> None:
        self.make()
        ca, certificate = self.folder / "ca.pem", self.folder / "certificate.pem"
        for extra in (("localhost",), ("mail.example",), ("mars",), ("mars.example",)):
            openssl("verify", "-x509_strict", "-attime", int(NOW.timestamp()), "-purpose", "sslserver",
                    "-verify_hostname", *extra, "-CAfile", ca, certificate)  # fmt: skip
        text = openssl("x509", "-noout", "-text", "-in", certificate)
        for expected in (
            "CA:FALSE",
            "prime256v1",
            "TLS Web Server Authentication",
            "DNS:mail.example",
            "IP Address:127.0.0.1",
        ):
            self.assertIn(expected, text)
        text = openssl("x509", "-noout", "-text", "-in", ca)
        for expected in ("CA:TRUE, pathlen:0", "Certificate Sign", "CN = mailbe on mars"):
            self.assertIn(expected, text)

    def test_how_long_they_are_valid(self) -> None:
        self.make()
        leaf, authority = x509.load_pem_x509_certificates(self.read()["certificate.pem"])
        self.assertEqual(leaf.not_valid_before_utc, NOW - DAY)
        self.assertEqual(leaf.not_valid_after_utc - leaf.not_valid_before_utc, 397 * DAY)
        self.assertEqual(authority.not_valid_after_utc, NOW + 3650 * DAY)

    def test_a_client_that_trusts_ca_pem_accepts_every_name_and_no_other(self) -> None:
        today = datetime.now(UTC)  # Python's ssl has no other clock
        context = self.make("mail.example", "other.example", at=today)
        for name in ("localhost", "127.0.0.1", "::1", "mars", "mars.example", "mail.example", "other.example"):
            connect(context, self.folder / "ca.pem", name)
        for name in ("evil.example", "127.0.0.2", "x.localhost"):
            self.assertRaises(ssl.SSLCertVerificationError, connect, context, self.folder / "ca.pem", name)

    def test_others_may_not_look_at_the_keys(self) -> None:
        self.make()
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        for name in ("ca.key", "key.pem"):
            self.assertEqual((self.folder / name).stat().st_mode & 0o777, 0o600)

    def test_a_host_or_domain_with_an_odd_name_is_no_obstacle(self) -> None:
        self.patch(socket, "gethostname", lambda: "my_host" * 9)
        self.patch(socket, "getfqdn", lambda: "")
        long = ".".join(["a" * 62] * 4)  # no room for autoconfig before it
        self.make(long)
        names = self.leaf().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), [long, "localhost"])

    def test_where_mail_programs_look_for_their_settings_is_named(self) -> None:
        self.make("example.org", "example.net")
        names = self.leaf().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = names.get_values_for_type(x509.DNSName)
        self.assertEqual(named[:4], ["example.org", "example.net", "autoconfig.example.org", "autoconfig.example.net"])

    def test_the_next_start_changes_nothing(self) -> None:
        self.make("Mail.Example")
        before = self.read()
        self.make("mail.example", at=NOW + 365 * DAY)
        self.assertEqual(self.read(), before)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), sorted(FILES))

    def test_what_ends_soon_is_renewed_by_the_same_authority(self) -> None:
        self.make()
        before = self.read()
        self.make(at=NOW + 367 * DAY)
        after = self.read()
        self.assertEqual([name for name in FILES if before[name] != after[name]], ["certificate.pem"])
        self.assertEqual(self.leaf().not_valid_after_utc, NOW + (367 + 396) * DAY)

    def test_what_a_clock_ahead_has_made_is_made_anew_when_the_clock_is_right(self) -> None:
        self.make()
        self.make(at=NOW + 800 * DAY)
        self.make(at=NOW + 10 * DAY)
        self.assertEqual(self.leaf().not_valid_before_utc, NOW + 9 * DAY)

    def test_a_clock_that_begins_in_1970_before_it_is_set_changes_nothing(self) -> None:
        self.make()
        before = self.read()
        self.make(at=datetime(1970, 1, 2, tzinfo=UTC))
        self.assertEqual(self.read(), before)

    def test_a_new_domain_gets_a_new_certificate(self) -> None:
        self.make("mail.example")
        before = self.read()
        self.make("mail.example", "new.example")
        after = self.read()
        self.assertEqual([name for name in FILES if before[name] != after[name]], ["certificate.pem"])
        self.make("mail.example")
        self.assertEqual(self.read(), after)

    def test_no_certificate_outlives_its_authority(self) -> None:
        self.make()
        self.make(at=NOW + 3600 * DAY)
        self.assertEqual(self.leaf().not_valid_after_utc, NOW + 3650 * DAY)
        error = self.assertRaises(Unusable, self.make, at=NOW + 3650 * DAY)
        self.assertIn("ca.pem: it was valid until 2039-12-30", str(error))

    def test_who_keeps_the_authoritys_key_elsewhere_brings_it_back_for_a_renewal(self) -> None:
        self.make()
        away = (self.folder / "ca.key").rename(self.folder.parent / "ca.key")
        self.make()
        error = self.assertRaises(Unusable, self.make, at=NOW + 380 * DAY)
        self.assertIn("ca.key: it is missing", str(error))
        away.rename(self.folder / "ca.key")
        self.make(at=NOW + 380 * DAY)

    def test_a_crash_anywhere_is_repaired_by_the_next_start(self) -> None:
        for name in FILES:
            for step in ("unlink", "replace"):
                with self.subTest(name=name, step=step):
                    self._crash_at(step, name)

    def _crash_at(self, step: str, name: str) -> None:
        class Crash(BaseException):
            pass

        self.folder = Path(self.mktemp()) / "tls"
        ordinary = getattr(Path, step)

        def crash(path: Path, *args: object, **kwargs: object) -> object:
            if path.name == f"{name}.new":
                raise Crash
            return ordinary(path, *args, **kwargs)

        patch = self.patch(Path, step, crash)
        self.assertRaises(Crash, self.make)
        patch.restore()
        whole = list(FILES[: FILES.index(name)])
        self.assertEqual([each for each in FILES if (self.folder / each).exists()], whole)
        kept = {each: (self.folder / each).read_bytes() for each in whole}
        connect(self.make())
        self.assertEqual({each: (self.folder / each).read_bytes() for each in whole}, kept)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), sorted(FILES))

    def test_a_crash_in_a_renewal_leaves_the_old(self) -> None:
        self.make()
        before = self.read()
        patch = self.patch(os, "fsync", self._no_disk)
        self.assertRaises(Unusable, self.make, "new.example")
        patch.restore()
        self.assertEqual(self.read(), before)
        self.make("new.example")
        self.assertNotEqual(self.read(), before)

    def _no_disk(self, descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    def test_a_lost_key_of_the_server_is_made_anew_and_a_lost_authority_too(self) -> None:
        for name in ("key.pem", "ca.pem"):
            self.make()
            (self.folder / name).unlink()
            connect(self.make())
        (self.folder / "ca.pem").unlink()
        (self.folder / "ca.key").unlink()
        connect(self.make())
        openssl(
            "verify",
            "-attime",
            int(NOW.timestamp()),
            "-CAfile",
            self.folder / "ca.pem",
            self.folder / "certificate.pem",
        )

    def test_a_bad_file_is_named_with_what_to_do(self) -> None:
        self.make()
        whole = self.read()
        for name in FILES:
            for content in (b"", b"junk\n", whole[name][: len(whole[name]) // 3]):
                (self.folder / name).write_bytes(content)
                error = self.assertRaises(Unusable, self.make)
                self.assertIn(f"{self.folder / name}: there is no ", str(error))
                self.assertIn("remove", str(error))
                self.assertNotIn("\n", str(error))
                (self.folder / name).write_bytes(whole[name])
            (self.folder / name).unlink()
            (self.folder / name).mkdir()
            self.assertIn(f"{self.folder / name}: Is a directory", str(self.assertRaises(Unusable, self.make)))
            (self.folder / name).rmdir()
            (self.folder / name).write_bytes(whole[name])
        self.make()

    def test_the_key_of_another_authority_is_named(self) -> None:
        self.make()
        (self.folder / "ca.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
        self.assertIn("ca.key: this is not the key of ca.pem", str(self.assertRaises(Unusable, self.make)))

    def test_a_key_too_weak_for_openssl_is_refused(self) -> None:
        self.make()
        (self.folder / "key.pem").write_bytes(pem(rsa.generate_private_key(65537, 1024)))  # noqa: S505 - the point
        error = self.assertRaises(Unusable, self.make)
        self.assertIn("key.pem: OpenSSL refuses it (ee key too small); remove it", str(error))

    def test_a_file_in_the_folders_place_is_named(self) -> None:
        self.folder.parent.mkdir(parents=True)
        self.folder.write_text("")
        error = self.assertRaises(Unusable, self.make)
        self.assertIn(f"{self.folder}: Not a directory", str(error))


class Given(SynchronousTestCase):
    def setUp(self) -> None:
        self.certificate, self.key = Path(self.mktemp()), Path(self.mktemp())
        self.ours = ec.generate_private_key(ec.SECP256R1())
        self.certificate.write_bytes(self_signed(self.ours))
        self.key.write_bytes(pem(self.ours))

    def load(self) -> SSL.Context:
        return given(self.certificate, self.key, clock_at(NOW).seconds)

    def refused(self, reason: str, option: str) -> None:
        error = str(self.assertRaises(Unusable, self.load))
        path = self.certificate if option == "--certificate" else self.key
        self.assertTrue(error.startswith(f"{option} {path}: {reason}"), error)
        self.assertIn("; give the ", error)
        self.assertNotIn("\n", error)
        for line in self.key.read_text("ascii", "replace").splitlines() if self.key.is_file() else ():
            self.assertFalse(len(line) > 20 and line in error, "a key in a message")

    def test_every_usual_kind_of_key_is_served(self) -> None:
        for key in (self.ours, rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()):
            self.certificate.write_bytes(self_signed(key))
            self.key.write_bytes(pem(key))
            shown = connect(self.load()).getpeercert(binary_form=True)
            self.assertEqual(shown, ssl.PEM_cert_to_DER_cert(self.certificate.read_text()))

    def test_certificate_and_key_may_be_one_file_with_other_things(self) -> None:
        self.certificate.write_bytes(
            b"Bag Attributes\n    x: y\n" + self.certificate.read_bytes() + self.key.read_bytes()
        )
        self.key = self.certificate
        connect(self.load())

    def test_those_that_signed_it_are_sent_along(self) -> None:
        folder = Path(self.mktemp())
        made(folder, ["localhost"], clock_at(NOW).seconds)
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        server, client = SSL.Connection(self.load(), None), SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        shake_hands(server, client)
        chain = client.get_peer_cert_chain(as_cryptography=True)
        self.assertEqual(chain, x509.load_pem_x509_certificates(self.certificate.read_bytes()))

    def test_a_file_that_cannot_be_read_is_named(self) -> None:
        self.key.unlink()
        self.refused("No such file or directory", "--key")
        self.key.mkdir()
        self.refused("Is a directory", "--key")
        self.certificate.unlink()
        self.refused("No such file or directory", "--certificate")
        self.certificate.mkdir()
        self.refused("Is a directory", "--certificate")

    def test_a_file_that_is_not_what_it_should_be_is_named(self) -> None:
        good = self.key.read_bytes()
        for junk in (
            b"",
            b"\0\xff" * 99,
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            good[:-90],
        ):
            self.key.write_bytes(junk)
            self.refused("there is no private key", "--key")
        for junk in (b"", b"\0\xff" * 99, good, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            self.certificate.write_bytes(junk)
            self.refused("there is no certificate", "--certificate")

    def test_a_key_with_a_passphrase_is_refused(self) -> None:
        self.key.write_bytes(pem(self.ours, b"secret"))
        self.refused("the key is encrypted", "--key")

    def test_a_key_that_signs_nothing_is_refused(self) -> None:
        self.key.write_bytes(pem(x25519.X25519PrivateKey.generate()))
        self.refused("this kind of key", "--key")

    def test_a_key_that_does_not_fit_is_refused(self) -> None:
        for key in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
            self.key.write_bytes(pem(key))
            self.refused("this is not the key of the first certificate", "--key")

    def test_a_certificate_that_is_not_valid_today_is_refused(self) -> None:
        self.certificate.write_bytes(self_signed(self.ours, NOW - 9 * DAY, NOW - DAY))
        self.refused("it was valid until 2029-12-31", "--certificate")
        self.certificate.write_bytes(self_signed(self.ours, NOW + DAY, NOW + 9 * DAY))
        self.refused("it is valid from 2030-01-02", "--certificate")

    def test_a_key_too_weak_for_openssl_is_refused(self) -> None:
        weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - the point of it
        self.certificate.write_bytes(self_signed(weak))
        self.key.write_bytes(pem(weak))
        self.refused("OpenSSL refuses it (ee key too small)", "--certificate")


class Connections(FolderCase):
    def test_tls_1_2_and_1_3_and_none_before(self) -> None:
        context = self.make()
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            client = connect(context, version=version)
            self.assertEqual(client.version(), name)
            self.assertIsNone(client.compression())
        self.assertRaises(SSL.Error, connect, context, version=ssl.TLSVersion.TLSv1_1)

    def test_only_ciphers_with_forward_secrecy_and_authentication(self) -> None:
        context = self.make()
        settings = client_settings(None, ssl.TLSVersion.TLSv1_2)
        for weak in ("ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256", "aNULL"):
            settings.set_ciphers(f"{weak}:@SECLEVEL=0")
            self.assertRaises(SSL.Error, connect, context, mine=settings)
        settings.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384")
        cipher = connect(context, mine=settings).cipher()
        assert cipher is not None
        self.assertEqual(cipher[0], "ECDHE-ECDSA-AES256-GCM-SHA384")  # our order, not the client's

    def test_who_comes_back_resumes_its_session(self) -> None:
        context = self.make()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            settings = client_settings(None, version)
            first = connect(context, mine=settings)
            self.assertFalse(first.session_reused)
            self.assertTrue(connect(context, mine=settings, session=first.session).session_reused)

    def test_a_reload_changes_new_connections_only(self) -> None:
        certificates = Certificates(partial(made, self.folder, ["a.example"], (clock := clock_at(NOW)).seconds))
        verifyObject(IOpenSSLServerConnectionCreator, certificates)
        old = certificates.serverConnectionForTLS(None)
        clock.advance(380 * DAY.total_seconds())
        certificates.reload()
        new = certificates.serverConnectionForTLS(None)
        self.assertLess(*(each.get_certificate(as_cryptography=True).not_valid_after_utc for each in (old, new)))
        shake_hands(old, SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None))

    def test_a_bad_reload_keeps_the_old(self) -> None:
        self.make()
        files = (self.folder / "certificate.pem", self.folder / "key.pem")
        certificates = Certificates(partial(given, *files, clock_at(NOW).seconds))
        before = certificates.serverConnectionForTLS(None).get_certificate(as_cryptography=True)
        files[0].write_text("junk")
        self.assertIn(str(files[0]), str(self.assertRaises(Unusable, certificates.reload)))
        connection = certificates.serverConnectionForTLS(None)
        self.assertEqual(connection.get_certificate(as_cryptography=True), before)
        shake_hands(connection, SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None))


def shake_hands(server: SSL.Connection, client: SSL.Connection) -> None:
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(6):
        for here, there in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                here.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                there.bio_write(here.bio_read(2**16))


class Bindings(FolderCase):
    def bound(self, context: SSL.Context, version: int) -> tuple[dict[str, bytes], SSL.Connection]:
        """The binding of a Twisted transport, and its client's end."""
        factory = TLSMemoryBIOFactory(Certificates(lambda: context), False, Factory.forProtocol(Protocol), Clock())
        wrapper, wire = factory.buildProtocol(None), StringTransport()
        wrapper.makeConnection(wire)
        certificates = Certificates(lambda: context)
        self.assertEqual(certificates.channel_binding(wrapper), {})  # before the handshake there is none
        settings = SSL.Context(SSL.TLS_CLIENT_METHOD)
        settings.set_max_proto_version(version)
        client = SSL.Connection(settings, None)
        client.set_connect_state()
        for _ in range(3):
            with contextlib.suppress(SSL.WantReadError):
                client.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                wrapper.dataReceived(client.bio_read(2**16))
            if wire.value():
                client.bio_write(wire.value())
                wire.clear()
        return certificates.channel_binding(wrapper.wrappedProtocol.transport), client

    def test_both_ends_have_the_same_exporter(self) -> None:
        binding, client = self.bound(self.make(), SSL.TLS1_3_VERSION)
        expected = client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        self.assertEqual(binding["tls-exporter"], expected)
        self.assertEqual(len(expected), 32)
        self.assertNotEqual(self.bound(self.make(), SSL.TLS1_3_VERSION)[0]["tls-exporter"], expected)

    def test_tls_1_2_has_no_exporter_that_is_sure_to_be_unique(self) -> None:
        self.assertEqual(list(self.bound(self.make(), SSL.TLS1_2_VERSION)[0]), ["tls-server-end-point"])

    def test_the_end_point_is_a_digest_of_the_certificate(self) -> None:
        binding, client = self.bound(self.make(), SSL.TLS1_2_VERSION)
        leaf = client.get_peer_certificate(as_cryptography=True)
        assert leaf is not None
        der = leaf.public_bytes(serialization.Encoding.DER)
        self.assertEqual(binding["tls-server-end-point"], hashlib.sha256(der).digest())

    def test_its_digest_is_that_of_the_certificates_signature(self) -> None:
        certificate, key = Path(self.mktemp()), Path(self.mktemp())
        for private in (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()):
            certificate.write_bytes(self_signed(private))
            key.write_bytes(pem(private))
            binding, _ = self.bound(given(certificate, key, clock_at(NOW).seconds), SSL.TLS1_3_VERSION)
            der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
            expected = None if isinstance(private, ed25519.Ed25519PrivateKey) else hashlib.sha384(der).digest()
            self.assertEqual(binding.get("tls-server-end-point"), expected)

    def test_without_tls_there_is_nothing_to_bind_to(self) -> None:
        self.assertEqual(Certificates(self.make).channel_binding(StringTransport()), {})
