"""A letter with UTF-8 in its header, fetched by who has asked for that and by who has not (RFC 6856)."""

from __future__ import annotations

import email
import email.policy
import poplib
from pathlib import Path

from tests.end_to_end.letters import SECONDS, below_trace, retrieve, send
from tests.end_to_end.programs import needs, run
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, EndToEndTestCase, Server

LETTER = "\r\n".join(
    [
        "From: Zoë <zoë@example.org>",
        "To: bob@localhost",
        "Subject: Crème brûlée",
        "MIME-Version: 1.0",
        "Content-Type: multipart/mixed; boundary=a",
        "",
        "--a",
        "Content-Type: text/plain; charset=utf-8",
        "",
        "à la carte",
        "--a",
        "Content-Type: text/plain; name=menü.txt",
        'Content-Disposition: attachment; filename="menü.txt"',
        "",
        "x" * 70,
        "--a--",
        "",
    ]
).encode()


class Utf8Tests(EndToEndTestCase):
    def serve_letter(self) -> Server:
        server = self.serve()
        send(server.submission, ALICE, [BOB], LETTER)
        return server

    def fetch(self, server: Server, *, utf8: bool) -> bytes:
        pop3 = poplib.POP3("127.0.0.1", server.pop3, SECONDS)
        try:
            if utf8:
                pop3.utf8()
            pop3.user(BOB)
            pop3.pass_(PASSWORDS[BOB])
            letter = retrieve(pop3, 1)
            self.assertEqual(pop3.stat(), (1, len(letter)))
            pop3.quit()
        finally:
            pop3.close()
        return letter

    def test_who_has_asked_gets_it_as_it_was_sent(self) -> None:
        self.assertEqual(below_trace(self.fetch(self.serve_letter(), utf8=True)), LETTER)

    def test_who_has_not_gets_one_that_can_be_read(self) -> None:
        server = self.serve_letter()
        letter = self.fetch(server, utf8=False)
        parsed = email.message_from_bytes(letter, policy=email.policy.default)
        for part in parsed.walk():
            self.assertTrue(all(f"{name}{value}".isascii() for name, value in part.raw_items()))
        self.assertEqual(parsed["Subject"], "Crème brûlée")
        self.assertEqual(parsed["From"].addresses[0].display_name, "Zoë <zoë@example.org>")
        text, attachment = parsed.iter_parts()
        self.assertEqual(text.get_content(), "à la carte")
        self.assertEqual(attachment.get_filename(), "menü.txt")
        header = letter.partition(b"\r\n\r\n")[0]
        self.assertTrue(header.isascii())
        self.assertEqual(self.fetch(server, utf8=True)[-len(LETTER) :], LETTER)  # on the disk it is as it was

    @needs("curl")
    def test_curl_gets_the_octets_that_it_was_told(self) -> None:
        server = self.serve_letter()
        url, login = f"pop3://127.0.0.1:{server.pop3}/", f"{BOB}:{PASSWORDS[BOB]}"
        listed = run(Path(self.scratch()), "curl", "-sS", "-u", login, url)
        letter = run(Path(self.scratch()), "curl", "-sS", "-u", login, f"{url}1")
        self.assertEqual(listed, b"1 %d\r\n" % len(letter))
