"""curl, swaks and Python's own client send to a mailbox of UTF-8, and from it, each in its own way."""

from __future__ import annotations

import email
import email.policy
import smtplib
from pathlib import Path

from tests.end_to_end.letters import SECONDS, below_trace
from tests.end_to_end.programs import needs, outcome, run
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.server import Server, user
from tests.end_to_end.utf8 import JOERG, LETTER, PASSWORD, STORED_AS, JoergTestCase, fetch

IVAN = "иван@пример.example"
LOUD = "JÖRG@BÜCHER.example"  # the same mailbox
A_LABEL = "xn--bcher-kva.example"
# curl has the domain's A-label where the locale is of UTF-8, and says the domain as it is where it is not.
LOCALES = {"C.UTF-8": A_LABEL, "C": "bücher.example"}


class AddressTests(JoergTestCase):
    def home(self) -> Path:
        home = self.scratch()
        (home / "letter").write_bytes(LETTER)
        return home

    def assert_has(self, server: Server, keyword: bytes, count: int = 1) -> None:
        """So many of the letters, which came with this protocol, are in Jörg's maildrop and nobody else's."""
        letters = fetch(server.pop3)
        self.assertEqual([below_trace(one) for one in letters], [LETTER] * count)
        for one in letters:
            self.assertIn(b" with " + keyword + b" id ", one)
        self.assertEqual([path.name for path in server.mailbox("reception", "").iterdir()], [STORED_AS])

    @needs("curl")
    def test_curl_sends_from_there_and_to_there(self) -> None:
        server = self.serve_joerg()
        for locale, domain in LOCALES.items():
            with Recorder(server.submission) as wire:
                who = ["--mail-from", JOERG, "--mail-rcpt", JOERG, "-u", f"{JOERG}:{PASSWORD}", "-T", "letter"]
                url = f"smtp://127.0.0.1:{wire.port}/client.test"
                run(self.home(), "env", f"LC_ALL={locale}", "curl", "-sS", *who, url)
            said = f"MAIL FROM:<jörg@{domain}> SIZE={len(LETTER)} SMTPUTF8\r\nRCPT TO:<jörg@{domain}>\r\n"
            self.assertIn(said, wire.said)
        self.assert_has(server, b"UTF8SMTPA", len(LOCALES))
        sent = fetch(server.pop3, "jörg+envoi@bücher.example")
        self.assertEqual([below_trace(one) for one in sent], [LETTER] * len(LOCALES))

    @needs("curl")
    def test_a_domain_is_the_same_in_both_its_forms(self) -> None:
        server = self.serve_joerg()
        for name, domain in (("carol", "bücher.example"), ("dave", A_LABEL)):
            user(server.maildata, "add", f"{name}@{domain}", PASSWORD)
            for locale in LOCALES:
                for to in LOCALES.values():
                    who = ["--mail-from", "s@example.org", "--mail-rcpt", f"{name}@{to}", "-T", "letter"]
                    url = f"smtp://127.0.0.1:{server.smtp}/client.test"
                    run(self.home(), "env", f"LC_ALL={locale}", "curl", "-sS", *who, url)
            for form in LOCALES.values():
                letters = fetch(server.pop3, f"{name}@{form}")
                self.assertEqual([below_trace(one) for one in letters], [LETTER] * 4)

    @needs("curl")
    def test_curl_which_knows_no_utf8_over_pop3_gets_what_it_can_read(self) -> None:
        server = self.serve_joerg()
        home = self.home()
        who = ["--mail-from", JOERG, "--mail-rcpt", JOERG, "-T", "letter"]
        run(home, "curl", "-sS", *who, f"smtp://127.0.0.1:{server.smtp}/client.test")
        for name in (JOERG, LOUD, "jörg"):
            stored = run(home, "curl", "-sS", "-u", f"{name}:{PASSWORD}", f"pop3://127.0.0.1:{server.pop3}/1")
            header, _, body = stored.partition(b"\r\n\r\n")
            self.assertTrue(header.isascii())
            self.assertEqual(body, "Hallo, Jörg\r\n".encode())
            parsed = email.message_from_bytes(stored, policy=email.policy.default)
            self.assertEqual(parsed["Subject"], "größer")
            self.assertEqual(parsed["From"].addresses[0].display_name, JOERG)

    @needs("swaks")
    def test_swaks_sends(self) -> None:
        server = self.serve_joerg()
        where = ["--server", "127.0.0.1", "--port", str(server.submission), "--helo", "client.test"]
        login = ["--auth", "LOGIN", "--auth-user", JOERG, "--auth-password", PASSWORD]
        home = self.home()
        (home / "letter").write_bytes(LETTER.removesuffix(b"\r\n"))

        def swaks(sender: str) -> tuple[int, bytes, str]:
            return outcome(home, "swaks", *where, *login, "--from", sender, "--to", LOUD, "--data", "@letter")

        status, _, said = swaks(JOERG)
        self.assertNotEqual(status, 0)
        self.assertIn("553 5.6.7 ", said)
        # It has no option for a parameter of MAIL; this ends the path, and its own > ends another parameter.
        status, _, said = swaks(f"{JOERG}> SMTPUTF8 AUTH=<")
        self.assertEqual(status, 0, said)
        self.assertIn(f"MAIL FROM:<{JOERG}> SMTPUTF8 AUTH=<>", said)
        self.assert_has(server, b"UTF8SMTPA")

    def test_smtplib_sends_from_elsewhere(self) -> None:
        server = self.serve_joerg()
        with smtplib.SMTP("127.0.0.1", server.smtp, "client.test", timeout=SECONDS) as smtp:
            smtp.sendmail(IVAN, [LOUD], LETTER, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        self.assert_has(server, b"UTF8SMTP")
        [stored] = fetch(server.pop3)
        self.assertTrue(stored.startswith(f"Return-Path: <{IVAN}>\r\n".encode()), stored)
