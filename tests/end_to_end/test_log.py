"""The log of a real server, as ``twistd -n`` writes it, when those who connect would rather write it themselves."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from tests.end_to_end.letters import fetch
from tests.end_to_end.server import BOB, EndToEndTestCase, Server
from tests.end_to_end.wire import Wire
from tests.test_hostile_names import FORGED, NAMES

# Nobody is slowed or locked out: each try must be in the log.
PATIENT = ("--slowest-answer-seconds", "0", "--wrong-passwords", "1000000", "--address-failures", "1000000")
SECRET = b"Zq9-secret"
LINE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[+-][0-9]{4} \[([^\]]+)\] ([ -~]+)")
FAILED = re.compile(rb"log-in failed: user=('.*'|\".*\") peer=127\.0\.0\.1 reason=wrong-password")


class LogTests(EndToEndTestCase):
    def test_one_event_is_one_line_whoever_says_what(self) -> None:
        server = self.serve(*PATIENT)
        tries = sum(self.try_to_log_in(server, name) for name in NAMES)
        letters = sum(self.write_to_bob(server, name) for name in (b"example", b"a;b(c", *NAMES))
        self.say_what_is_no_tls(server)
        self.assertEqual(len(fetch(server.pop3, BOB)), letters)
        self.assertEqual(len(server.letters("reception", BOB)), letters)
        server.stop()

        (log,) = server.maildata.parent.glob("*.stdout")
        lines = log.read_bytes().removesuffix(b"\n").split(b"\n")
        for line in lines:
            self.assertRegex(line, rb"\A" + LINE.pattern + rb"\Z")
            self.assertNotIn(SECRET, line)
        said = [match.groups() for line in lines if (match := LINE.fullmatch(line))]
        failures = [text for system, text in said if system == b"mailbe.accounts.checker#warn"]
        self.assertEqual(len(failures), tries)
        for text in failures:
            self.assertRegex(text, rb"\A" + FAILED.pattern + rb"\Z")
        stored = [text for system, text in said if system == b"mailbe.journal#info"]
        self.assertEqual(len(stored), letters)
        self.assertEqual(len([text for _, text in said if text.startswith(b"no TLS with 127.0.0.1: ")]), 2)
        self.assertEqual(list((server.maildata / "reception").iterdir()), [server.mailbox("reception", BOB)])
        self.assertEqual([path.name for path in server.maildata.parent.iterdir() if path.is_dir()], ["maildata"])

    def try_to_log_in(self, server: Server, name: bytes) -> int:
        """Try it in three ways; returns how many of them were tries."""
        response = base64.b64encode(b"\0".join([b"", name, SECRET]))
        login = base64.b64encode(name), base64.b64encode(SECRET)
        tries = 0
        for port, lines in (
            (server.submission, (b"EHLO me", b"AUTH PLAIN " + response)),
            (server.submission, (b"EHLO me", b"AUTH LOGIN", *login)),
            (server.pop3, (b"USER " + name, b"PASS " + SECRET)),
        ):
            replies = list(self.say(port, *lines))
            # What USER refuses is no name, and nobody has tried it.
            tries += len(replies) > len(lines) and replies[-1].startswith((b"535 5.7.8", b"-ERR [AUTH]"))
        return tries

    def write_to_bob(self, server: Server, name: bytes) -> int:
        """Send bob a letter from a host of this name, and from one whose addresses look like the log."""
        sender = b'"' + FORGED.partition(b"] ")[2] + b'"@example.com'
        lines = (b"HELO " + name, b"MAIL FROM:<" + sender + b">", b"RCPT TO:<bob@localhost>", b"DATA", b"\r\n.")
        return list(self.say(server.smtp, *lines))[-1].startswith(b"250 2.0.0 ")

    def say(self, port: int, *lines: bytes) -> Iterator[bytes]:
        """Say line after line, as long as somebody listens; each reply's last line."""
        with Wire(port) as wire:
            yield wire.reply().encode()
            for line in lines:
                wire.socket.sendall(line + b"\r\n")
                yield (reply := wire.reply().encode())
                if reply.startswith((b"5", b"-ERR")):
                    break

    def say_what_is_no_tls(self, server: Server) -> None:
        with Wire(server.ports["pop3s"]) as wire:
            wire.socket.sendall(b"\n" + FORGED + b"\n")
            wire.rest()
        with Wire(server.smtp) as wire:
            wire.reply()
            wire.say("EHLO me", "STARTTLS")
            wire.socket.sendall(b"\n" + FORGED + b"\n")
            wire.rest()
