"""The service as its operator sees it: it starts, says where, refuses with one line, and stops in time."""

from __future__ import annotations

import base64
import contextlib
import poplib
import re
import signal
import smtplib
import socket
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

from tests.end_to_end.letters import SECONDS, below_trace, fetch, letter, maildrop, send, sender
from tests.end_to_end.programs import needs, run
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    QUICK,
    START_SECONDS,
    EndToEndTestCase,
    Server,
    environment,
    eventually,
    twistd,
)

GREETINGS = {"smtp": b"220 ", "submission": b"220 ", "pop3": b"+OK "}
REFUSED, WRONG_USAGE = 1, 2


def endpoint(port: int, interface: str = "127.0.0.1") -> str:
    return f"tcp:{port}:interface={interface}"


class StartTests(EndToEndTestCase):
    def server(self, *options: str, **settings: str) -> Server:
        """A server on a new folder, with nobody in it."""
        server = Server(self.scratch() / "maildata", *options, **settings)  # type: ignore[arg-type]
        self.addCleanup(server.close)
        return server

    def assert_greets(self, server: Server, protocol: str) -> None:
        with socket.create_connection(("127.0.0.1", server.ports[protocol]), SECONDS) as connection:
            self.assertEqual(connection.recv(4), GREETINGS[protocol])

    def test_on_a_new_folder_it_says_where_it_listens_and_the_next_step(self) -> None:
        server = self.server().start()
        for protocol in GREETINGS:
            self.assert_greets(server, protocol)
        lines = server.stdout.splitlines()
        last = max(number for number, line in enumerate(lines) if " listens on " in line)
        self.assertIn("user add", lines[last + 1])

    def test_it_starts_in_an_empty_folder(self) -> None:
        server = self.server()
        server.maildata.mkdir()
        self.assert_greets(server.start(), "pop3")

    def test_it_opens_only_the_listeners_that_are_asked_for(self) -> None:
        server = Server(self.scratch() / "maildata", protocols=["pop3"])
        self.addCleanup(server.close)
        self.assertEqual(set(server.start().ports), {"pop3"})

    def test_two_servers_run_from_one_folder(self) -> None:
        folder = self.scratch()
        servers = [Server(folder / name) for name in ("one", "two")]
        for server in servers:
            self.addCleanup(server.close)
            server.start()
        for server in servers:
            self.assert_greets(server, "smtp")

    def test_beyond_this_host_it_listens_with_argon2id_or_where_md5_is_allowed(self) -> None:
        for option in (["--password-scheme", "argon2id"], ["--allow-md5"]):
            server = self.server(*option, interface="0.0.0.0")  # noqa: S104 - what the option is for
            self.assert_greets(server.start(), "smtp")
            server.stop()


class RefusalTests(EndToEndTestCase):
    def assert_refused(self, status: int, maildata: Path, *arguments: str) -> str:
        """The service ends with ``status`` before it serves anybody; returns the one line that says why."""
        done = subprocess.run(
            twistd("--maildata", str(maildata), *arguments),
            cwd=self.scratch(),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        said = f"{arguments}\n{done.stdout}{done.stderr}"
        self.assertEqual(done.returncode, status, said)
        self.assertEqual(len(done.stderr.splitlines()), 1, said)
        self.assertNotIn("Traceback", said)
        self.assertNotIn("next: ", said)
        return done.stderr

    def test_a_maildata_in_use(self) -> None:
        server = self.serve()
        line = self.assert_refused(REFUSED, server.maildata, "--pop3", endpoint(0))
        self.assertIn(str(server.maildata), line)
        self.assertEqual(fetch(server.pop3, ALICE), [])

    def test_a_taken_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = self.assert_refused(REFUSED, self.scratch(), "--smtp", endpoint(port))
        self.assertIn(str(port), line)

    def test_an_address_that_is_not_ours(self) -> None:
        somewhere = endpoint(0, "203.0.113.1")  # RFC 5737: of nobody's network
        line = self.assert_refused(REFUSED, self.scratch(), "--smtp", somewhere, "--allow-md5")
        self.assertIn("203.0.113.1", line)

    def test_a_folder_that_cannot_be_made(self) -> None:
        file = self.scratch() / "file"
        file.touch()
        for folder, named in ((file, file), (file / "maildata", file), (Path("/proc/maildata"), "/proc/maildata")):
            line = self.assert_refused(REFUSED, folder, "--smtp", endpoint(0))
            self.assertIn(str(named), line)

    def test_md5_beyond_this_host(self) -> None:
        cases = [
            ("--smtp", endpoint(0, "0.0.0.0")),  # noqa: S104 - it must be refused
            ("--submission", "tcp:0"),
            ("--pop3", "tcp6:0"),
            ("--pop3", endpoint(0), "--smtp", endpoint(0), "--smtp", endpoint(0, "0.0.0.0")),  # noqa: S104
        ]
        for arguments in cases:
            line = self.assert_refused(REFUSED, self.scratch(), *arguments)
            self.assertIn("argon2id", line)
            self.assertIn("--allow-md5", line)

    @needs("openssl")
    def test_a_certificate_or_a_key_that_does_not_serve(self) -> None:
        home = self.scratch()
        for name in ("mine", "other"):
            files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
            run(home, "openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost", *files)
        (home / "nonsense").write_text("no PEM\n")
        cases = [
            ("missing.pem", "mine.key", "missing.pem"),
            ("mine.pem", "missing.key", "missing.key"),
            (".", "mine.key", "--certificate"),  # a folder: what not even root can read
            ("mine.pem", ".", "--key"),
            ("nonsense", "mine.key", "nonsense"),
            ("mine.pem", "nonsense", "nonsense"),
            ("mine.key", "mine.pem", "mine.key"),
            ("mine.pem", "other.key", "other.key"),
        ]
        for certificate, key, named in cases:
            files = ["--certificate", str(home / certificate), "--key", str(home / key)]
            maildata = self.scratch()
            self.assertIn(named, self.assert_refused(REFUSED, maildata, "--pop3s", endpoint(0), *files))
            self.assertFalse((maildata / "tls").exists(), "no other certificate is made instead")

    def test_wrong_usage(self) -> None:
        cases = [
            ("--no-such-option",),
            ("--smtp",),
            ("a stray word",),
            ("--smtp", "nonsense"),
            ("--smtp", "nonsense:1"),
            ("--pop3", "tcp:pop3ish"),
            ("--submission", endpoint(0), "--max-size", "many"),
            ("--submission", endpoint(0), "--max-size", "-1"),
            ("--submission", endpoint(0), "--password-scheme", "rot13"),
            ("--submission", endpoint(0), "--domain", "no domain"),
            ("--submission", endpoint(0), "--certificate", "certificate.pem"),
            ("--submission", endpoint(0), "--key", "key.pem"),
        ]
        for arguments in cases:
            self.assert_refused(WRONG_USAGE, self.scratch(), *arguments)


class StopTests(EndToEndTestCase):
    def session(self, port: int) -> smtplib.SMTP:
        smtp = smtplib.SMTP("127.0.0.1", port, timeout=SECONDS)
        self.addCleanup(smtp.close)
        smtp.ehlo()
        return smtp

    def half_a_letter(self, port: int) -> tuple[smtplib.SMTP, bytes, bytes]:
        """A session in the middle of a letter to bob, the whole letter, and what of it was not sent yet."""
        octets = letter("stranger@example.com", [BOB], "in two halves", "no dots\n", bytes(200_000))
        half = len(octets) // 2
        smtp = self.session(port)
        smtp.mail("stranger@example.com")
        smtp.rcpt(BOB)
        self.assertEqual(smtp.docmd("DATA")[0], 354)
        smtp.send(octets[:half])
        return smtp, octets, octets[half:]

    def assert_stops_and_starts(self, number: signal.Signals) -> None:
        self.give_letters_time()
        server = self.serve()
        idle = self.session(server.smtp)
        sending, octets, rest = self.half_a_letter(server.smtp)
        with maildrop(server.pop3, ALICE) as logged_in:
            server.tell(number)
            self.assertEqual(idle.getreply()[0], 421)
            self.assertEqual(idle.file and idle.file.read(), b"")
            self.assertEqual(logged_in.file.read(), b"")
            logged_in.close()
        eventually(lambda: self.refuses(server.smtp), "no new connections")
        sending.send(rest + b".\r\n")
        self.assertEqual(sending.getreply()[0], 250)
        server.join()
        server.start()
        self.assertEqual([below_trace(one) for one in fetch(server.pop3, BOB)], [octets])

    def refuses(self, port: int) -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), SECONDS).close()
            return False
        return True

    def test_sigterm_lets_a_letter_come_in_and_sends_the_others_away(self) -> None:
        self.assert_stops_and_starts(signal.SIGTERM)

    def test_sigint_does_the_same(self) -> None:
        self.assert_stops_and_starts(signal.SIGINT)

    def test_a_letter_whose_end_does_not_come_holds_nothing_up(self) -> None:
        server = self.serve()
        self.half_a_letter(server.smtp)
        server.stop()
        # By its own clock, as a process may take its time to end where others want the processor; it has four seconds.
        begins, ends = (
            datetime.fromisoformat(re.findall(rf"^(\S+) .*{words}", server.stdout, re.MULTILINE)[0])
            for words in (r" Closed\)", r"Main loop terminated\.")
        )
        self.assertLessEqual(ends - begins, timedelta(seconds=20))
        self.assertEqual(server.letters("reception", BOB), [])
        self.assertEqual(list((server.maildata / "spool").iterdir()), [])


class LogTests(EndToEndTestCase):
    def test_no_password_is_written_to_the_log(self) -> None:
        server = self.serve(*QUICK)
        wrong = "jabberwock-3"
        for password in (PASSWORDS[ALICE], wrong):
            for mechanism in ("auth_plain", "auth_login"):
                with sender(server.submission) as smtp, contextlib.suppress(smtplib.SMTPAuthenticationError):
                    smtp.ehlo()
                    smtp.user, smtp.password = ALICE, password
                    smtp.auth(mechanism.removeprefix("auth_").upper(), getattr(smtp, mechanism))
            with contextlib.suppress(poplib.error_proto), maildrop(server.pop3, ALICE, password):
                pass
        send(server.submission, ALICE, [BOB], letter(ALICE, [BOB], "hi"))
        server.stop()
        said = server.stdout + server.stderr
        self.assertIn(ALICE, said)
        for password in (PASSWORDS[ALICE], wrong):
            for secret in (password, f"\0{ALICE}\0{password}"):
                self.assertNotIn(secret, said)
                self.assertNotIn(base64.b64encode(secret.encode()).decode(), said)
