"""A server is who it says, or somebody has said that it may be believed; nothing secret is said before that."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailbe.client import dial
from mailbe.client.certificate import describe, fingerprint
from mailbe.client.dialogue import Said
from mailbe.client.errors import BadAuthority, NoAnswer, NotSaved, NotTrusted
from mailbe.client.mail import Mail
from mailbe.client.servers import Door, Servers
from mailbe.client.trust import Trust, config_folder
from mailbe.tls import authority
from tests.client_actor import Actor

POP3 = """
!tls
S: +OK hello
C: CAPA
S: -ERR
C: USER a
S: +OK
C: PASS b
S: +OK
"""
STLS = """
S: +OK hello
C: CAPA
S: +OK
S: STLS
S: .
C: STLS
S: +OK
!tls
C: CAPA
S: -ERR
C: USER a
S: +OK
C: PASS b
S: +OK
"""
REFUSED = "!tls"  # the client hangs up in the handshake
REFUSED_STLS = STLS.partition("!tls")[0] + "!tls"
LOOKED_AT = "!tls\nS: +OK hello\nC: CAPA\nS: -ERR\n!silence"


class TrustCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.remembered = self.folder / "config" / "certificates"

    def server(self, *scripts: str, name: str = "one") -> Actor:
        """A POP3 server with a certificate for ``localhost`` by an authority of its own."""
        folder = self.folder / name
        authority.provide(folder, ["mail.example"], datetime.now(UTC))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        actor = Actor(*scripts, tls=context)
        self.addCleanup(actor.close)
        return actor

    def der(self, name: str = "one") -> bytes:
        pem = (self.folder / name / "certificate.pem").read_text()
        return ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END") + 25] + "\n")

    def mail(self, port: int, *, implicit: bool | None = True, name: str = "localhost", ca: str = "") -> Mail:
        self.said: list[Said] = []
        self.trust = Trust([self.folder / ca / "ca.pem"] if ca else [], self.remembered)
        servers = Servers(name, "x", (Door("127.0.0.1", port, implicit),), ())
        mail = Mail(servers, self.trust, self.said.append)
        self.addCleanup(mail.close)
        return mail


class Verifying(TrustCase):
    def test_who_an_authority_vouches_for_is_not_asked_about(self) -> None:
        self.patch(dial, "SECONDS_FOR_A_GREETING", 60)  # which it waits no longer for than it takes to come
        for script, implicit in ((POP3, True), (STLS, False), (STLS, None)):
            self.mail(self.server(script).port, implicit=implicit, ca="one").log_in("a", "b")

    def test_a_port_that_waits_for_tls_is_found_out(self) -> None:
        self.patch(dial, "SECONDS_FOR_A_GREETING", 0.05)
        self.mail(self.server(POP3).port, implicit=None, ca="one").log_in("a", "b")

    def test_a_stranger_is_shown_as_what_he_says_of_himself(self) -> None:
        actor = self.server(REFUSED, LOOKED_AT)
        shown = self.assertRaises(NotTrusted, self.mail(actor.port).log_in, "a", "b").certificate
        self.assertEqual((shown.place, shown.changed), (f"localhost:{actor.port}", False))
        self.assertIn("mail.example", shown.names)
        self.assertIn("mailbe on", shown.issuer)
        self.assertEqual(shown.fingerprint, fingerprint(self.der()))
        self.assertGreater(shown.ends, datetime.now(UTC))
        self.assertIn("self-signed certificate", shown.why)
        self.assertNotIn("USER", " ".join(said.text for said in self.said))

    def test_a_certificate_for_somebody_else_does_not_verify(self) -> None:
        actor = self.server(REFUSED, LOOKED_AT)
        error = self.assertRaises(NotTrusted, self.mail(actor.port, name="other.example", ca="one").log_in, "a", "b")
        self.assertIn("other.example", error.certificate.why)

    def test_plaintext_slipped_in_before_tls_is_not_read(self) -> None:
        script = REFUSED_STLS.replace("C: STLS\nS: +OK", "C: STLS\nS: +OK\\r\\n+OK slipped in").replace("!tls", "!deaf")
        actor = self.server(script)
        error = self.assertRaises(NoAnswer, self.mail(actor.port, implicit=False, ca="one").log_in, "a", "b")
        self.assertIn("goes on in plaintext", str(error))

    def test_a_port_without_tls_where_it_should_be_gets_no_password(self) -> None:
        actor = self.server("S: +OK hello, in plaintext\n!deaf")
        self.assertIn("no TLS", str(self.assertRaises(NoAnswer, self.mail(actor.port).log_in, "a", "b")))

    def test_a_file_that_is_no_certificate_is_told_before_anything_else(self) -> None:
        (self.folder / "ca.txt").write_text("hello")
        for name, words in (("ca.txt", "there is no certificate in it"), ("none", "No such file or directory")):
            error = self.assertRaises(BadAuthority, Trust, [self.folder / name], self.remembered)
            self.assertEqual(str(error), f"{self.folder / name}: {words}")


class Accepting(TrustCase):
    def test_what_was_accepted_is_believed_from_then_on_and_nothing_else(self) -> None:
        actor = self.server(REFUSED, LOOKED_AT, REFUSED, POP3, REFUSED_STLS, STLS)
        error = self.assertRaises(NotTrusted, self.mail(actor.port).log_in, "a", "b")
        self.trust.accept(error.certificate)
        self.assertEqual(self.remembered.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.remembered.parent.stat().st_mode & 0o777, 0o700)
        for implicit in (True, False):  # in a new process, as it were; and over STLS, too
            self.mail(actor.port, implicit=implicit).log_in("a", "b")
        self.assertIn("one that you have accepted", " ".join(said.text for said in self.said))

    def test_another_certificate_is_asked_about_again_and_said_to_have_changed(self) -> None:
        first, second = self.server(), self.server(REFUSED, LOOKED_AT, name="two")
        first.close()
        mail = self.mail(second.port)
        self.trust.accept(describe(self.der(), "localhost", second.port, "", changed=False))
        error = self.assertRaises(NotTrusted, mail.log_in, "a", "b")
        self.assertTrue(error.certificate.changed)
        self.assertEqual(error.certificate.fingerprint, fingerprint(self.der("two")))

    def test_what_holds_for_one_port_holds_for_no_other(self) -> None:
        authority.provide(self.folder / "one", ["x"], datetime.now(UTC))
        trust = Trust([], self.remembered)
        der = self.der()
        trust.accept(describe(der, "Mail.example", 995, "", changed=False))
        trust.accept(describe(der, "other.example", 110, "", changed=False))
        trust.check(der, "mail.example", 995, "")
        for host, port in (("mail.example", 110), ("other.example", 995), ("mail.example.org", 995)):
            self.assertRaises(NotTrusted, trust.check, der, host, port, "why")

    def test_a_file_that_was_tampered_with_accepts_nobody(self) -> None:
        authority.provide(self.folder / "one", ["x"], datetime.now(UTC))
        self.remembered.parent.mkdir()
        for text in (b"localhost:1\n", b"\xff\xfe\n", b"localhost:1 AB:CD\n", b"* *\n"):
            self.remembered.write_bytes(text)
            self.assertRaises(NotTrusted, Trust([], self.remembered).check, self.der(), "localhost", 1, "why")

    def test_what_cannot_be_remembered_is_told(self) -> None:
        authority.provide(self.folder / "one", ["x"], datetime.now(UTC))
        self.remembered.parent.write_text("a file where the folder should be")
        shown = describe(self.der(), "localhost", 1, "", changed=False)
        self.assertRaises(NotSaved, Trust([], self.remembered).accept, shown)

    def test_a_certificate_that_cannot_be_read_can_still_be_shown(self) -> None:
        shown = describe(b"\x1b[2J", "localhost", 1, "no \x1b idea", changed=False)
        self.assertEqual((shown.names, shown.issuer, shown.ends, shown.why), ((), "unknown", None, "no \\x1b idea"))


class Settings(SynchronousTestCase):
    def test_they_lie_where_the_user_keeps_such_things(self) -> None:
        self.patch(os, "environ", {"HOME": "/home/alice"})
        self.assertEqual(config_folder(), Path("/home/alice/.config/mailbe"))
        os.environ["XDG_CONFIG_HOME"] = "/elsewhere"
        self.assertEqual(config_folder(), Path("/elsewhere/mailbe"))
        os.environ["XDG_CONFIG_HOME"] = "relative"
        self.assertEqual(config_folder(), Path("/home/alice/.config/mailbe"))
