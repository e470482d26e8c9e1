"""The small mail programs that people have: each sends through a real server, or fetches from it."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.letters import below_trace, fetch, letter, send
from tests.end_to_end.programs import needs, run, run_on_a_terminal
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, EndToEndTestCase, Security, Server

LETTER = letter(ALICE, [ALICE, BOB], "from another program")
MECHANISMS = ("plain", "login")
SCRAM = "scram-sha-256"  # of msmtp and mpop
TLS = (Security.STARTTLS, Security.IMPLICIT)
SCHEME_ENDS = {Security.NONE: "", Security.STARTTLS: "", Security.IMPLICIT: "s"}  # of curl's URLs


def curl_tls(server: Server, security: Security) -> list[str]:
    """What makes curl insist on TLS, with a certificate that it can check."""
    return [] if security is Security.NONE else ["--ssl-reqd", "--cacert", str(server.ca)]


def tls_settings(server: Server, security: Security) -> list[str]:
    """The same for msmtp and mpop."""
    if security is Security.NONE:
        return ["tls off"]
    starttls = "on" if security is Security.STARTTLS else "off"
    return ["tls on", f"tls_starttls {starttls}", f"tls_trust_file {server.ca}"]


class SendingTests(EndToEndTestCase):
    """Letters from alice to alice and bob, logged in where the server has AUTH."""

    def assert_sent(self, server: Server, protocol: bytes, letters: int = 1) -> None:
        """The letters have come as they were sent, over ``protocol``, and lie among those that alice sent."""
        for address in (ALICE, BOB):
            stored = fetch(server.pop3, address)
            self.assertEqual([below_trace(one) for one in stored], [LETTER] * letters)
            for one in stored:
                self.assertIn(b" with " + protocol + b" id ", one[: -len(LETTER)])
        self.assertEqual(len(server.letters("envoi", ALICE)), letters)

    def curl(self, server: Server, *options: str, security: Security = Security.NONE, host: str = "127.0.0.1") -> None:
        home = self.scratch()
        (home / "letter").write_bytes(LETTER)
        url = f"smtp{SCHEME_ENDS[security]}://{host}:{server.port('submission', security)}/client.test"
        recipients = ["--mail-from", ALICE, "--mail-rcpt", ALICE, "--mail-rcpt", BOB]
        how = ["-sS", "-u", f"{ALICE}:{PASSWORDS[ALICE]}", *curl_tls(server, security), *options]
        run(home, "curl", *how, *recipients, "-T", "letter", url)

    @needs("curl")
    def test_curl_sends_with_each_mechanism(self) -> None:
        server = self.serve()
        for mechanism in MECHANISMS:
            self.curl(server, "--login-options", f"AUTH={mechanism.upper()}")
        self.assert_sent(server, b"ESMTPA", len(MECHANISMS))

    @needs("curl")
    def test_curl_sends_in_tls(self) -> None:
        server = self.serve()
        hosts = ("localhost", "127.0.0.1")
        for security in TLS:
            for host in hosts:
                self.curl(server, security=security, host=host)
        self.assert_sent(server, b"ESMTPSA", len(TLS) * len(hosts))

    @needs("curl")
    def test_curl_sends_in_tls_as_a_stranger(self) -> None:
        server = self.serve()
        home = self.scratch()
        (home / "letter").write_bytes(LETTER)
        addresses = ["--mail-from", "stranger@example.com", "--mail-rcpt", BOB]
        url = f"smtp://localhost:{server.smtp}/client.test"
        run(home, "curl", "-sS", *curl_tls(server, Security.STARTTLS), *addresses, "-T", "letter", url)
        [stored] = fetch(server.pop3, BOB)
        self.assertEqual(below_trace(stored), LETTER)
        self.assertIn(b" with ESMTPS id ", stored)

    @needs("curl")
    def test_curl_sends_to_a_classic_server(self) -> None:
        server = self.serve("--classic")
        self.curl(server)
        self.assert_sent(server, b"SMTP")

    def swaks(self, server: Server, *options: str) -> str:
        """Send with swaks; returns its transcript."""
        home = self.scratch()
        (home / "letter").write_bytes(LETTER.removesuffix(b"\r\n"))  # swaks puts a line end after it
        where = ["--server", "127.0.0.1", "--port", str(server.submission), "--helo", "client.test"]
        who = ["--from", ALICE, "--to", f"{ALICE},{BOB}", "--auth-user", ALICE, "--auth-password", PASSWORDS[ALICE]]
        return run(home, "swaks", *where, *who, "--data", "@letter", *options).decode()

    @needs("swaks")
    def test_swaks_sends_with_each_mechanism(self) -> None:
        server = self.serve()
        for mechanism in MECHANISMS:
            self.swaks(server, "--auth", mechanism.upper())
        self.assert_sent(server, b"ESMTPA", len(MECHANISMS))

    @needs("swaks")
    def test_swaks_sends_its_commands_in_one_go(self) -> None:
        server = self.serve()
        transcript = self.swaks(server, "--auth", "PLAIN", "--pipeline")
        self.assertRegex(transcript, r" -> MAIL [^\n]*\n -> RCPT [^\n]*\n -> RCPT [^\n]*\n -> DATA\n")
        self.assert_sent(server, b"ESMTPA")

    @needs("swaks")
    def test_swaks_sends_to_a_classic_server(self) -> None:
        server = self.serve("--classic")
        transcript = self.swaks(server, "--auth-optional", "PLAIN")
        self.assertRegex(transcript, r" -> EHLO client\.test\n<\*\* 502 5\.5\.1 ")
        self.assert_sent(server, b"SMTP")

    def msmtp(self, server: Server, authentication: str, security: Security = Security.NONE) -> None:
        home = self.scratch()
        settings = home / "settings"
        lines = [
            "account default",
            "host 127.0.0.1",
            f"port {server.port('submission', security)}",
            *tls_settings(server, security),
            "domain client.test",
            f"auth {authentication}",
            f"user {ALICE}",
            f"password {PASSWORDS[ALICE]}",
        ]
        settings.write_text("\n".join(lines) + "\n")
        settings.chmod(0o600)
        run(home, "msmtp", "-C", "settings", "--from", ALICE, ALICE, BOB, stdin=LETTER)

    @needs("msmtp")
    def test_msmtp_sends_with_each_mechanism(self) -> None:
        server = self.serve()
        mechanisms = (*MECHANISMS, SCRAM)
        for mechanism in mechanisms:
            self.msmtp(server, mechanism)
        self.assert_sent(server, b"ESMTPA", len(mechanisms))

    @needs("msmtp")
    def test_msmtp_sends_in_tls_with_scram(self) -> None:
        server = self.serve()
        for security in TLS:
            self.msmtp(server, SCRAM, security)
        self.assert_sent(server, b"ESMTPSA", len(TLS))

    @needs("msmtp")
    def test_msmtp_sends_to_a_classic_server(self) -> None:
        server = self.serve("--classic")
        self.msmtp(server, "off")
        self.assert_sent(server, b"SMTP")


class FetchingTests(EndToEndTestCase):
    """Bob's letters, three of different sizes, fetched with other programs."""

    def serve_letters(self, *options: str) -> tuple[Server, list[bytes]]:
        """A server that holds letters for bob, and their octets."""
        server = self.serve(*options)
        for octets in (0, 5_000, 300_000):
            send(server.submission, ALICE, [BOB], letter(ALICE, [BOB], "hi", attachment=bytes(octets)), log_in=True)
        letters = fetch(server.pop3, BOB)
        self.assertEqual(len(letters), 3)
        return server, letters

    @needs("curl")
    def test_curl_lists_fetches_and_deletes_with_a_connection_each(self) -> None:
        server, letters = self.serve_letters()
        home = self.scratch()

        def curl(path: str, *options: str) -> bytes:
            url = f"pop3://127.0.0.1:{server.pop3}/{path}"
            return run(home, "curl", "-sS", "-u", f"{BOB}:{PASSWORDS[BOB]}", *options, url)

        listing = b"".join(b"%d %d\r\n" % (number, len(one)) for number, one in enumerate(letters, 1))
        self.assertEqual(curl(""), listing)
        unique_ids = curl("", "-X", "UIDL").splitlines()
        for number, octets in enumerate(letters, 1):
            self.assertEqual(curl(str(number)), octets)
        curl("2", "-X", "DELE", "--head")
        self.assertEqual(fetch(server.pop3, BOB), [letters[0], letters[2]])
        left = [line.split()[1] for line in curl("", "-X", "UIDL").splitlines()]
        self.assertEqual(left, [unique_ids[0].split()[1], unique_ids[2].split()[1]])

    @needs("curl")
    def test_curl_fetches_in_tls(self) -> None:
        server, letters = self.serve_letters()
        for security in TLS:
            for host in ("localhost", "127.0.0.1"):
                url = f"pop3{SCHEME_ENDS[security]}://{host}:{server.port('pop3', security)}/2"
                how = ["-sS", "-u", f"{BOB}:{PASSWORDS[BOB]}", *curl_tls(server, security)]
                self.assertEqual(run(self.scratch(), "curl", *how, url), letters[1])

    def mpop(self, server: Server, home: Path, *settings: str, security: Security = Security.NONE) -> None:
        """Fetch bob's mail into the Maildir ``fetched`` under ``home``."""
        for folder in ("tmp", "new", "cur"):
            (home / "fetched" / folder).mkdir(parents=True, exist_ok=True)
        lines = [
            "account default",
            "host 127.0.0.1",
            f"port {server.port('pop3', security)}",
            *tls_settings(server, security),
            f"user {BOB}",
            f"password {PASSWORDS[BOB]}",
            "received_header off",
            f"delivery maildir {home / 'fetched'}",
            f"uidls_file {home / 'uidls'}",
            *settings,
        ]
        rc = home / "settings"
        rc.write_text("\n".join(lines) + "\n")
        rc.chmod(0o600)
        run(home, "mpop", "-C", "settings", "--quiet")

    def assert_fetched(self, home: Path, letters: list[bytes]) -> None:
        """These letters, with the line ends of files, are in the Maildir ``fetched``."""
        fetched = [path.read_bytes() for path in (home / "fetched").glob("*/*")]
        self.assertEqual(sorted(fetched), sorted(one.replace(b"\r\n", b"\n") for one in letters))

    @needs("mpop")
    def test_mpop_keeping_the_letters_fetches_each_once(self) -> None:
        server, letters = self.serve_letters()
        home = self.scratch()
        for _ in range(2):
            self.mpop(server, home, "auth plain", "keep on", "pipelining auto")
            self.assert_fetched(home, letters)
        self.assertEqual(fetch(server.pop3, BOB), letters)
        send(server.submission, ALICE, [BOB], LETTER)
        self.mpop(server, home, "auth plain", "keep on", "pipelining auto")
        self.assert_fetched(home, fetch(server.pop3, BOB))

    @needs("mpop")
    def test_mpop_not_keeping_the_letters_leaves_an_empty_mailbox(self) -> None:
        server, letters = self.serve_letters()
        home = self.scratch()
        self.mpop(server, home, "auth user", "keep off", "pipelining on")
        self.assert_fetched(home, letters)
        self.assertEqual(fetch(server.pop3, BOB), [])
        self.assertEqual(server.letters("reception", BOB), [])

    @needs("mpop")
    def test_mpop_fetches_in_tls_with_scram(self) -> None:
        server, letters = self.serve_letters()
        for security in TLS:
            home = self.scratch()
            self.mpop(server, home, f"auth {SCRAM}", "keep on", security=security)
            self.assert_fetched(home, letters)

    @needs("mutt")
    def test_mutt_fetches_the_letters_and_deletes_them(self) -> None:
        server, letters = self.serve_letters()
        home = self.scratch()
        for folder in ("tmp", "new", "cur"):
            (home / "fetched" / folder).mkdir(parents=True)
        rc = home / "settings"
        rc.write_text(
            f'set mbox_type=Maildir spoolfile="{home / "fetched"}" folder="{home}"\n'
            f'set pop_host="pop://127.0.0.1:{server.pop3}" pop_user="{BOB}" pop_pass="{PASSWORDS[BOB]}"\n'
            "set pop_delete=yes ssl_force_tls=no ssl_starttls=no quit=yes\n"
            'push "<fetch-mail><quit>"\n'
        )
        run_on_a_terminal(home, "mutt", "-n", "-F", "settings")
        self.assert_fetched(home, letters)
        self.assertEqual(fetch(server.pop3, BOB), [])
