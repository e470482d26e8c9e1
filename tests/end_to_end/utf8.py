"""Jörg, whose address is of UTF-8, his letter, and how he fetches what he got as it was sent."""

from __future__ import annotations

import poplib

from tests.end_to_end.letters import SECONDS, retrieve
from tests.end_to_end.server import EndToEndTestCase, Server, user

JOERG, PASSWORD = "jörg@bücher.example", "gryphon-11"
STORED_AS = "j%C3%B6rg@xn--bcher-kva.example"  # the name of his mailbox
LETTER = f"From: {JOERG}\r\nTo: {JOERG}\r\nSubject: größer\r\n\r\nHallo, Jörg\r\n".encode()


class JoergTestCase(EndToEndTestCase):
    def serve_joerg(self, *options: str) -> Server:
        """A server that serves his domain, where he has an account beside alice and bob."""
        server = self.serve("--domain", "localhost", "--domain", "bücher.example", *options)
        user(server.maildata, "add", JOERG, PASSWORD)
        return server


def fetch(port: int, name: str = JOERG) -> list[bytes]:
    """The octets of all messages in his maildrop, for who has said UTF8 (RFC 6856 2); they stay there."""
    pop3 = poplib.POP3("127.0.0.1", port, timeout=SECONDS)
    try:
        pop3.utf8()
        pop3.user(name)
        pop3.pass_(PASSWORD)
        letters = [retrieve(pop3, number) for number in range(1, pop3.stat()[0] + 1)]
        pop3.quit()
    finally:
        pop3.close()
    return letters
