"""A large letter in the pieces of BDAT, to a running server."""

from __future__ import annotations

from tests.end_to_end.letters import below_trace, fetch, letter
from tests.end_to_end.server import ALICE, BOB, EndToEndTestCase
from tests.end_to_end.wire import Wire


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
