"""Postfix hands letters over, haproxy passes clients on, and mail programs use addresses of UTF-8."""

from __future__ import annotations

import shutil
import smtplib
import tempfile
import time
from pathlib import Path

from tests.end_to_end.letters import SECONDS, below_trace, fetch, letter, maildrop, retrieve
from tests.end_to_end.neighbours import haproxy, is_root, postfix
from tests.end_to_end.programs import needs, run
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, EndToEndTestCase, Server, of_one_process, user
from tests.end_to_end.wire import Wire

JOERG, PASSWORD = "jörg@localhost", "gryphon-11"
UTF8_LETTER = f"From: {JOERG}\r\nTo: {JOERG}\r\nSubject: größer\r\n\r\nHallo\r\n".encode()


class Utf8Tests(EndToEndTestCase):
    """RFC 6531: a mailbox whose name is of UTF-8 gets mail, and its owner sends and fetches."""

    def serve_joerg(self, *options: str) -> Server:
        server = self.serve(*options)
        user(server.maildata, "add", "JÖRG@localhost", PASSWORD)
        return server

    def assert_has(self, server: Server, name: str, keyword: bytes, count: int = 1) -> None:
        with maildrop(server.pop3, "alice@localhost") as pop3:
            self.assertEqual(pop3.stat()[0], 0)
        with maildrop(server.pop3, "bob@localhost") as pop3:
            self.assertEqual(pop3.stat()[0], 0)
        self.assertEqual(len(server.letters("reception", "j%C3%B6rg@localhost")), count)
        # poplib says ASCII alone.
        stored = run(self.scratch(), "curl", "-sS", "-u", f"{name}:{PASSWORD}", f"pop3://127.0.0.1:{server.pop3}/1")
        self.assertEqual(below_trace(stored), UTF8_LETTER)
        self.assertIn(b" with " + keyword + b" id ", stored)

    @needs("curl")
    def test_curl_sends_and_fetches(self) -> None:
        server = self.serve_joerg()
        home = self.scratch()
        (home / "letter").write_bytes(UTF8_LETTER)
        who = ["--mail-from", JOERG, "--mail-rcpt", "JÖRG@localhost", "-u", f"jörg:{PASSWORD}"]
        run(home, "curl", "-sS", *who, "-T", "letter", f"smtp://127.0.0.1:{server.submission}/client.test")
        self.assert_has(server, "jörg", b"UTF8SMTPA")
        for name in ("jörg+envoi", "JÖRG+envoi@localhost"):
            sent = run(home, "curl", "-sS", "-u", f"{name}:{PASSWORD}", f"pop3://127.0.0.1:{server.pop3}/1")
            self.assertEqual(below_trace(sent), UTF8_LETTER)

    @needs("curl")
    def test_a_domain_is_the_same_in_both_its_forms(self) -> None:
        server = self.serve("--domain", "localhost", "--domain", "BÜCHER.example")
        for number, domain in enumerate(("bücher.example", "xn--bcher-kva.example"), 1):
            name = f"carol{number}"
            user(server.maildata, "add", f"{name}@{domain}", PASSWORD)
            for to in ("bücher.example", "xn--bcher-kva.example"):
                home = self.scratch()
                (home / "letter").write_bytes(UTF8_LETTER)
                who = ["--mail-from", "s@example.org", "--mail-rcpt", f"{name}@{to}"]
                run(home, "curl", "-sS", *who, "-T", "letter", f"smtp://127.0.0.1:{server.smtp}/client.test")
            self.assertEqual(len(server.letters("reception", f"{name}@xn--bcher-kva.example")), 2)
            with maildrop(server.pop3, f"{name}@xn--bcher-kva.example", PASSWORD) as pop3:
                self.assertEqual(below_trace(retrieve(pop3, 1)), UTF8_LETTER)

    @needs("curl", "swaks")
    def test_swaks_sends(self) -> None:
        server = self.serve_joerg()
        home = self.scratch()
        (home / "letter").write_bytes(UTF8_LETTER.removesuffix(b"\r\n"))
        where = ["--server", "127.0.0.1", "--port", str(server.submission), "--helo", "client.test"]
        # It has no option for a parameter of MAIL; this ends the path, and its own > ends another parameter.
        sender = f"{JOERG}> SMTPUTF8 AUTH=<"
        who = ["--from", sender, "--to", JOERG, "--auth", "LOGIN", "--auth-user", JOERG, "--auth-password", PASSWORD]
        said = run(home, "swaks", *where, *who, "--data", "@letter").decode()
        self.assertIn(f"MAIL FROM:<{JOERG}> SMTPUTF8 AUTH=<>", said)
        self.assert_has(server, JOERG, b"UTF8SMTPA")

    @needs("curl")
    def test_smtplib_sends(self) -> None:
        server = self.serve_joerg()
        with smtplib.SMTP("127.0.0.1", server.smtp, "client.test", timeout=SECONDS) as smtp:
            smtp.sendmail("иван@пример.example", [JOERG], UTF8_LETTER, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        self.assert_has(server, JOERG, b"UTF8SMTP")


class ChunkTests(EndToEndTestCase):
    def test_a_large_letter_in_pieces_comes_out_as_it_went_in(self) -> None:
        server = self.serve()
        text = letter(ALICE, [BOB], "in pieces", attachment=bytes(range(256)) * 8000)
        with Wire(server.smtp) as wire:
            wire.reply()
            wire.say("EHLO client.test", "MAIL FROM:<s@example.org>", f"RCPT TO:<{BOB}>")
            pieces = [text[at : at + 100_000] for at in range(0, len(text), 100_000)]
            # All in one go, as RFC 2920 allows.
            for number, piece in enumerate(pieces, 1):
                last = " LAST" if number == len(pieces) else ""
                wire.socket.sendall(f"BDAT {len(piece)}{last}\r\n".encode() + piece)
            for _ in pieces[:-1]:
                self.assertRegex(wire.reply(), r"^250 2\.0\.0 100000 octets received$")
            self.assertRegex(wire.reply(), r"^250 2\.0\.0 ok ")
        [stored] = fetch(server.pop3, BOB)
        self.assertEqual(below_trace(stored), text)


class PostfixTests(EndToEndTestCase):
    if not is_root():
        skip = "Postfix is started by root only"

    @of_one_process("a UNIX socket is for one process")
    @needs("postfix")
    def test_postfix_hands_letters_over_by_lmtp(self) -> None:
        text = b"Subject: from Postfix\n\n.\n..\nend\n"
        for endpoint in ("unix", "tcp"):
            folder = Path(tempfile.mkdtemp(prefix="mailbe-"))  # a socket needs a short path
            self.addCleanup(shutil.rmtree, folder)
            there = f"unix:{folder}/lmtp" if endpoint == "unix" else "tcp:0:interface=127.0.0.1"
            server = self.serve("--lmtp", there, maildata=folder / "maildata")
            folder.chmod(0o755)
            where = f"unix:{folder}/lmtp" if endpoint == "unix" else f"inet:127.0.0.1:{server.ports['lmtp']}"
            with postfix(f"lmtp:{where}") as host:
                said = host.send("s@example.org", ALICE, BOB, "nobody@localhost", letter=text)
            self.assertEqual(said.count("status=sent (250 2.0.0 ok "), 2, said)
            self.assertRegex(said, r"to=<nobody@localhost>.* dsn=5\.1\.1, status=bounced")
            for address in (ALICE, BOB):
                [stored] = fetch(server.pop3, address)
                self.assertTrue(stored.endswith(b"\r\n\r\n.\r\n..\r\nend\r\n"))
                self.assertIn(b" with LMTP id ", stored)
            server.stop()

    @needs("postfix")
    def test_postfix_sends_utf8_and_pipelines(self) -> None:
        server = self.serve()
        user(server.maildata, "add", JOERG, PASSWORD)
        with postfix(f"smtp:[127.0.0.1]:{server.smtp}") as host:
            said = host.send(JOERG, JOERG, ALICE, letter=UTF8_LETTER.replace(b"\r\n", b"\n"))
        self.assertEqual(said.count("status=sent (250 2.0.0 ok "), 2, said)
        self.assertEqual(len(server.letters("reception", "j%C3%B6rg@localhost")), 1)
        [stored] = fetch(server.pop3, ALICE)
        self.assertIn(b" with UTF8SMTP id ", stored)
        self.assertIn(f"Return-Path: <{JOERG}>\r\n".encode(), stored)


class HaproxyTests(EndToEndTestCase):
    """haproxy and its clients are on this machine, at 127.0.0.1 and 127.0.0.7."""

    @needs("haproxy")
    def test_the_client_is_who_haproxy_says(self) -> None:
        for version in (1, 2):
            folder = self.scratch()
            maildata = folder / "maildata"
            for address, password in PASSWORDS.items():
                user(maildata, "add", address, password)
            options = ["--smtp", "haproxy:tcp:0:interface=127.0.0.1", "--proxy-from", "127.0.0.1"]
            options += [
                "--workers",
                str(version),
                "--pop3s",
                "haproxy:tcp:0:interface=127.0.0.1",
                "--password-scheme",
                "argon2id",
            ]
            server = Server(maildata, *options, protocols=("pop3",))
            self.addCleanup(server.close)
            server.start()
            with haproxy(folder, server.ports["smtp"], version=version) as port, Wire(port, "127.0.0.7") as wire:
                wire.reply()
                wire.say("EHLO me", "MAIL FROM:<>", f"RCPT TO:<{BOB}>", "DATA", ".")
            [stored] = fetch(server.pop3, BOB)
            self.assertIn(b"Received: from me ([127.0.0.7])\r\n", stored)
            with haproxy(folder, server.ports["pop3s"], version=version) as port, Wire(port) as wire:
                wire.start_tls(server.trusting())
                self.assertRegex(wire.reply(), r"^\+OK ")
            server.stop()

    def test_who_is_no_balancer_and_who_says_nothing_of_a_client_is_cut_off(self) -> None:
        options = ["--smtp", "haproxy:tcp:0:interface=127.0.0.1", "--proxy-from", "127.0.0.8"]
        server = Server(self.scratch() / "maildata", *options, "--allow-md5", protocols=("pop3",))
        self.addCleanup(server.close)
        server.start()
        with Wire(server.ports["smtp"], "127.0.0.7") as wire:
            self.assertEqual(wire.rest(), b"")
        begin = time.monotonic()
        with Wire(server.ports["smtp"], "127.0.0.8") as wire:
            wire.send("EHLO me")
            self.assertEqual(wire.rest(), b"")
        self.assertLess(time.monotonic() - begin, SECONDS)
        self.assertRegex(server.stdout, r"127\.0\.0\.7 is no balancer .*\n.*no PROXY header from 127\.0\.0\.8: ")
