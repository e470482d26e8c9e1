"""TLS as clients meet it: on every port, with a certificate that they can check, and nothing slips in before it."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from tests.end_to_end.letters import SECONDS, Tls, below_trace, fetch, letter, maildrop, send, sender
from tests.end_to_end.programs import needs, outcome, run
from tests.end_to_end.server import ALICE, BOB, IMPLICIT_TLS, PROTOCOLS, EndToEndTestCase, Server, eventually
from tests.end_to_end.wire import Wire

HOSTS = ("localhost", "127.0.0.1")
OPENSSL_NAMES = {"smtp": "smtp", "submission": "smtp", "pop3": "pop3"}  # of what begins with plaintext
REQUESTS = {"smtp": ("EHLO client.test", "STARTTLS"), "submission": ("EHLO client.test", "STARTTLS"), "pop3": ("STLS",)}


def ways(server: Server, *protocols: str) -> Iterator[tuple[int, Tls]]:
    """Every port of these protocols, by every name that this host has for a client, with what it must do there."""
    for protocol in protocols:
        for host in HOSTS:
            implicit = protocol in IMPLICIT_TLS.values()
            yield server.ports[protocol], Tls(server.trusting(), implicit, host)


class LetterTests(EndToEndTestCase):
    def test_smtplib_sends_and_poplib_fetches_over_every_port(self) -> None:
        server = self.serve()
        octets = letter(ALICE, [BOB], "in TLS")
        ports = list(ways(server, "submission", "submissions"))
        for port, tls in ports:
            send(port, ALICE, [BOB], octets, tls=tls)
        for port, tls in ways(server, "pop3", "pop3s"):
            stored = fetch(port, BOB, tls)
            self.assertEqual([below_trace(one) for one in stored], [octets] * len(ports))
            for one in stored:
                self.assertIn(b" with ESMTPSA id ", one[: -len(octets)])

    def test_a_stranger_sends_over_starttls(self) -> None:
        server = self.serve()
        octets = letter("stranger@example.com", [BOB], "in TLS")
        for port, tls in ways(server, "smtp"):
            send(port, "stranger@example.com", [BOB], octets, log_in=False, tls=tls)
        for one in fetch(server.pop3, BOB):
            self.assertEqual(below_trace(one), octets)
            self.assertIn(b" with ESMTPS id ", one[: -len(octets)])


class CapabilityTests(EndToEndTestCase):
    def test_in_tls_no_more_tls_is_offered_and_none_is_begun(self) -> None:
        server = self.serve()
        for port, tls in ways(server, "smtp", "submission", "submissions"):
            with sender(port, tls=tls) as smtp:
                smtp.ehlo()
                self.assertFalse(smtp.has_extn("STARTTLS"))
                self.assertIn("SCRAM-SHA-256-PLUS", smtp.esmtp_features["auth"])
                self.assertEqual(smtp.docmd("STARTTLS")[0], 503)
        for port, tls in ways(server, "pop3", "pop3s"):
            with maildrop(port, BOB, tls=tls) as pop3:
                self.assertNotIn("STLS", pop3.capa())

    def test_what_was_said_before_starttls_is_forgotten(self) -> None:
        server = self.serve()
        with Wire(server.smtp) as wire:
            wire.reply()
            wire.say("EHLO client.test", "MAIL FROM:<stranger@example.com>", f"RCPT TO:<{BOB}>")
            self.assertEqual(wire.say("STARTTLS")[:4], "220 ")
            wire.start_tls(server.trusting())
            self.assertEqual(wire.say("DATA")[:4], "503 ")
            self.assertEqual(wire.say("MAIL FROM:<stranger@example.com>")[:4], "503 ")


@needs("openssl")
class OpenSslTests(EndToEndTestCase):
    def s_client(self, server: Server, protocol: str, *options: str) -> tuple[int, str]:
        """Connect and say good-bye in TLS; returns the status and what OpenSSL said."""
        where = ["-connect", f"127.0.0.1:{server.ports[protocol]}", "-brief", "-ign_eof", "-verify_return_error"]
        if protocol in OPENSSL_NAMES:
            where += ["-starttls", OPENSSL_NAMES[protocol]]
        status, _, said = outcome(self.scratch(), "openssl", "s_client", *where, *options, stdin=b"QUIT\r\n")
        return status, said

    def test_every_port_has_tls_1_2_and_1_3_with_a_good_certificate(self) -> None:
        server = self.serve()
        names = (("-verify_hostname", "localhost"), ("-verify_ip", "127.0.0.1"))
        for protocol in PROTOCOLS:
            for (version, printed), name in zip((("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")), names, strict=True):
                status, said = self.s_client(server, protocol, version, *name, "-CAfile", str(server.ca))
                self.assertEqual(status, 0, f"{protocol}: {said}")
                self.assertIn(f"Protocol version: {printed}\n", said)
                self.assertIn("Verification: OK\n", said)
                self.assertRegex(said, r"(?m)^(221 2\.0\.0|\+OK) ")

    def test_no_port_has_tls_1_1(self) -> None:
        server = self.serve()
        for protocol in PROTOCOLS:
            # A client that would take it.
            status, said = self.s_client(server, protocol, "-tls1_1", "-cipher", "ALL@SECLEVEL=0")
            self.assertEqual(status, 1)
            self.assertIn("alert protocol version", said)

    def test_a_client_that_does_not_trust_the_authority_turns_away(self) -> None:
        server = self.serve()
        for protocol in PROTOCOLS:
            status, said = self.s_client(server, protocol)
            self.assertEqual(status, 1)
            self.assertIn("certificate verify failed", said)
        for port, tls in ways(server, "smtp", "submissions"):
            with self.assertRaises(ssl.SSLCertVerificationError):
                send(
                    port, ALICE, [BOB], letter(ALICE, [BOB], "no"), tls=Tls(ssl.create_default_context(), tls.implicit)
                )
        self.assertEqual(fetch(server.pop3, BOB), [])


class InjectionTests(EndToEndTestCase):
    """What comes in plaintext behind STARTTLS or STLS may be of somebody between the client and the server."""

    def ready(self, server: Server, protocol: str) -> tuple[Wire, str]:
        """A client that is about to ask for TLS, and the line that asks."""
        wire = self.enterContext(Wire(server.ports[protocol]))
        wire.reply()
        *before, request = REQUESTS[protocol]
        wire.say(*before)
        return wire, request

    def assert_no_tls(self, wire: Wire, server: Server) -> None:
        with self.assertRaises(OSError) as caught:
            wire.start_tls(server.trusting())
            # Of a connection that is over already the first step makes TLS without a word, and none of that is heard.
            assert isinstance(wire.socket, ssl.SSLSocket)
            wire.socket.do_handshake()
        self.assertNotIsInstance(caught.exception, TimeoutError)

    def test_in_the_same_segment_it_is_refused_with_one_reply_and_the_end(self) -> None:
        server = self.serve()
        for protocol, refusal in (("smtp", b"501 5.5.1 "), ("submission", b"501 5.5.1 "), ("pop3", b"-ERR ")):
            for injected in ("NOOP", "QUIT", "RSET", "CAPA", "EHLO evil.test", "x"):
                wire, request = self.ready(server, protocol)
                wire.send(request, injected)
                said = wire.rest()
                self.assertTrue(said.startswith(refusal), said)
                self.assertEqual(said.count(b"\n"), 1, said)
                self.assertTrue(said.endswith(b"\r\n"), said)

    def test_half_a_line_in_the_same_segment_is_as_bad(self) -> None:
        server = self.serve()
        for protocol in REQUESTS:
            wire, request = self.ready(server, protocol)
            wire.socket.sendall(request.encode() + b"\r\nNO")
            self.assertEqual(wire.rest().count(b"\n"), 1)

    def test_in_a_segment_right_behind_it_is_not_answered(self) -> None:
        server = self.serve()
        for protocol in REQUESTS:
            wire, request = self.ready(server, protocol)
            wire.send(request)
            wire.send("NOOP", "NOOP")
            first, _, rest = wire.rest().partition(b"\r\n")
            # The server may have read both at once, or the request alone; then the rest is no TLS.
            self.assertRegex(first, rb"^(220 |\+OK |501 |-ERR )")
            self.assertNotRegex(rest, rb"[\r\n]", "no reply, but at most an alert of TLS")

    def test_after_the_reply_it_is_no_tls_and_the_end(self) -> None:
        server = self.serve()
        for protocol in REQUESTS:
            wire, request = self.ready(server, protocol)
            self.assertRegex(wire.say(request), r"^(220 |\+OK )")
            wire.send("NOOP")
            self.assert_no_tls(wire, server)

    def test_in_front_of_implicit_tls_it_is_not_answered(self) -> None:
        server = self.serve()
        for protocol in IMPLICIT_TLS.values():
            wire = self.enterContext(Wire(server.ports[protocol]))
            wire.send("NOOP")
            self.assertNotRegex(wire.rest(), rb"[\r\n]")

    def test_the_server_goes_on_with_others(self) -> None:
        server = self.serve()
        wire, request = self.ready(server, "smtp")
        wire.say(request)
        wire.send("NOOP")
        for port, tls in ways(server, "submission"):
            send(port, ALICE, [BOB], letter(ALICE, [BOB], "hi"), tls=tls)
        server.stop()
        self.assertNotIn("Traceback", server.stdout)


@needs("openssl")
class ReloadTests(EndToEndTestCase):
    KEPT = "the certificate in use is kept"

    def certificate(self) -> tuple[Path, Path]:
        """A new certificate of its own authority, and its key."""
        home = self.scratch()
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        run(home, "openssl", "req", "-x509", "-days", "2", *key, *names, "-out", "certificate.pem")
        return home / "certificate.pem", home / "key.pem"

    def serve_certificate(self) -> tuple[Server, Path, Path]:
        """A server with a certificate that is given, and the two files."""
        certificate, key = self.certificate()
        return self.serve("--certificate", str(certificate), "--key", str(key)), certificate, key

    def assert_told(self, server: Server, times: int) -> None:
        eventually(lambda: server.stdout.count(self.KEPT) >= times, "a line in the log")
        self.assertEqual(server.stdout.count(self.KEPT), times)

    def shown(self, server: Server) -> set[str]:
        """The certificates, as PEM, that new connections get; one, when all is well."""
        found = {ssl.get_server_certificate(("127.0.0.1", server.ports[name])) for name in IMPLICIT_TLS.values()}
        for protocol in REQUESTS:
            with Wire(server.ports[protocol]) as wire:
                wire.reply()
                wire.say(*REQUESTS[protocol])
                settings = ssl.create_default_context()
                settings.check_hostname, settings.verify_mode = False, ssl.CERT_NONE
                wire.start_tls(settings)
                assert isinstance(wire.socket, ssl.SSLSocket)
                certificate = wire.socket.getpeercert(binary_form=True)
                assert certificate
                found.add(ssl.DER_cert_to_PEM_cert(certificate))
        return found

    def test_after_sighup_new_connections_get_the_new_one_and_open_ones_go_on(self) -> None:
        server, certificate, key = self.serve_certificate()
        old = certificate.read_text()
        self.assertEqual(self.shown(server), {old})
        open_one = Tls(ssl.create_default_context(cafile=certificate), implicit=True, host="localhost")
        with sender(server.ports["submissions"], tls=open_one) as sending:
            with maildrop(server.ports["pop3s"], ALICE, tls=open_one) as fetching:
                for new, used in zip(self.certificate(), (certificate, key), strict=True):
                    shutil.copy(new, used)
                self.assertEqual(self.shown(server), {old}, "not before SIGHUP")
                server.tell(signal.SIGHUP)
                eventually(lambda: self.shown(server) == {certificate.read_text()}, "the new certificate")
                self.assertEqual(fetching.stat(), (0, 0))
            sending.login(ALICE, "white-rabbit-7")
            sending.sendmail(ALICE, [ALICE], letter(ALICE, [ALICE], "still here"), ["BODY=8BITMIME"])
        self.assertEqual(len(fetch(server.pop3, ALICE)), 1)

    def test_a_bad_one_at_sighup_leaves_the_old_and_one_line(self) -> None:
        server, certificate, key = self.serve_certificate()
        old = certificate.read_text()
        other, other_key = self.certificate()

        def is_missing() -> None:
            certificate.unlink()

        def is_no_pem() -> None:
            certificate.write_text("nonsense\n")

        def has_another_key() -> None:
            shutil.copy(other, certificate)

        for number, spoil in enumerate((is_missing, is_no_pem, has_another_key), 1):
            spoil()
            server.tell(signal.SIGHUP)
            self.assert_told(server, number)
            self.assertEqual(self.shown(server), {old})
        shutil.copy(other_key, key)
        server.tell(signal.SIGHUP)
        eventually(lambda: self.shown(server) == {other.read_text()}, "the new certificate")
        for line in server.stdout.splitlines():
            if self.KEPT in line:
                self.assertRegex(line, f"{self.KEPT}: .*({certificate}|{key})")
        server.stop()
        self.assertEqual(server.stdout.count(self.KEPT), 3)


class StopTests(EndToEndTestCase):
    def test_sigterm_takes_leave_of_idle_sessions_and_waits_for_no_handshake(self) -> None:
        server = self.serve()
        for protocol, requests in REQUESTS.items():
            silent = self.enterContext(Wire(server.ports[protocol]))
            silent.reply()
            silent.say(*requests)
        for protocol in IMPLICIT_TLS.values():
            self.enterContext(socket.create_connection(("127.0.0.1", server.ports[protocol]), SECONDS))
        idle = []
        for protocol in PROTOCOLS:
            wire = self.enterContext(Wire(server.ports[protocol]))
            if protocol in REQUESTS:
                wire.reply()
                wire.say(*REQUESTS[protocol])
                wire.start_tls(server.trusting())
                wire.say("CAPA" if protocol == "pop3" else "EHLO client.test")
            else:
                wire.start_tls(server.trusting())
                wire.reply()
            idle.append((protocol, wire))
        server.tell(signal.SIGTERM)
        for protocol, wire in idle:
            said = wire.rest()
            if not protocol.startswith("pop3"):
                self.assertRegex(said, rb"^421 4\.3\.2 [^\n]*\n$")
        server.join()
