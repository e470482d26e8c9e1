"""What goes in by DATA comes out by RETR and by TOP, octet for octet: any octets, in any pieces."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.dialogue import Stage
from tests.premises import PASSWORDS, Premises
from tests.storage import BOB
from tests.strict import below_trace, pop3_text, smtp_codes
from tests.test_dots import cut

OPENING = b"EHLO me\r\nMAIL FROM:<s@example>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\n"
PIECES = [
    *(b"\r\n", b"\r\n", b"\r\n\r\n", b".", b"..", b"\r\n.", b"\r\n.\r\n", b"\r\n..\r\n", b"\r\n.\r\n.\r\n"),
    *(b" ", b"\t", b":", b"\0", b"\xff", b"\xe2\x80\xa8", b"\x1a", b"From ", b">From ", b"Subject: a\r\n"),
    *(b"Received: b\r\n", b"\r\nReceived:", b"Return-Path: <x@y>\r\n", b"\r\nReturn-Path:", b"RETURN-PATH\t:"),
    *(b"\r\n\tfolded", b"\r\n Return-Path: a\r\n", b"Return-Path", b"x" * 998, b"y" * 5000),
    (b"z" * 77 + b"\r\n") * 900,
]  # fmt: skip
octets = st.binary(max_size=40).map(lambda octets: re.sub(rb"[\r\n]", b"", octets))
contents = st.lists(st.sampled_from(PIECES) | octets, max_size=20).map(
    lambda pieces: b"".join([*pieces, b"\r\n"]) if pieces else b""
)
picks = st.lists(st.integers(0, 200_000), max_size=8)


def pieces(stream: bytes, picks: list[int]) -> list[bytes]:
    """The stream cut at some edges, half of them next to what may end a line or a letter."""
    near = [match.start() for match in re.finditer(rb"[\r\n.]", stream)]
    return cut(stream, [near[pick // 2 % len(near)] if pick % 2 else pick // 2 % len(stream) for pick in picks])


def on_the_wire(content: bytes) -> bytes:
    """The content dot-stuffed, with the lone dot behind it (RFC 5321 4.5.2)."""
    return re.sub(rb"(\A|\r\n)\.", rb"\1..", content) + b".\r\n"


def without_return_path(content: bytes) -> bytes:
    """The content without the Return-Path fields of its header: final delivery takes them out (RFC 5321 4.4)."""
    if content.startswith(b"\r\n"):
        return content
    header, blank, body = content.partition(b"\r\n\r\n")
    if blank:
        header += b"\r\n"
    fields = re.findall(rb"(?s)(?:\A[ \t]|[^ \t]).*?\r\n(?:[ \t].*?\r\n)*", header)
    assert b"".join(fields) == header
    kept = b"".join(field for field in fields if not re.match(rb"(?i)return-path[ \t]*:", field))
    return kept + blank[2:] + body


class RoundTrip(SynchronousTestCase):
    def test_what_the_pieces_are_made_of_is_no_accident(self) -> None:
        text = b"\tfirst\r\nReturn-Path : a\r\n b\r\nA: b\r\nreturn-path:\r\n\r\nReturn-Path: c\r\n"
        self.assertEqual(without_return_path(text), b"\tfirst\r\nA: b\r\n\r\nReturn-Path: c\r\n")
        self.assertEqual(on_the_wire(b".\r\n.a\r\nb."), b"..\r\n..a\r\nb..\r\n")

    @given(contents, picks)
    @settings(max_examples=700)
    def test_a_letter_comes_out_of_its_file_as_it_went_in(self, content: bytes, picks: list[int]) -> None:
        client = self.premises.connect("smtp")
        codes = smtp_codes(client.ask(*pieces(OPENING + on_the_wire(content), picks)))
        self.assertEqual(codes, [250, 250, 250, 354, 250])
        client.lose()
        (stored,) = self.premises.letters("reception", "bob")
        self.assertEqual(below_trace(stored), without_return_path(content))

        pop3 = self.premises.connect("pop3")
        said = pop3.ask(b"UTF8\r\nUSER bob\r\nPASS " + PASSWORDS[BOB] + b"\r\n")
        self.assertIn(b"+OK 1 messages, %d octets\r\n" % len(stored), said)
        text, behind = pop3_text(pop3.ask(b"RETR 1\r\n"))
        self.assertEqual((text, behind), (stored, b""))
        header, blank, body = stored.partition(b"\r\n\r\n")
        lines = re.findall(rb"(?s).*?\r\n", body)
        for count in {0, 1, 2, len(lines) - 1, len(lines), len(lines) + 1} - {-1}:
            text, behind = pop3_text(pop3.ask(b"TOP 1 %d\r\n" % count))
            self.assertEqual((text, behind), (header + blank + b"".join(lines[:count]), b""))
        pop3.lose()
        self.premises.empty()

    @given(contents, picks)
    @settings(max_examples=2500)
    def test_and_out_of_memory(self, content: bytes, picks: list[int]) -> None:
        stage = Stage([])
        for piece in pieces(OPENING + on_the_wire(content), picks):
            stage.wire.dataReceived(piece)
        self.assertEqual(smtp_codes(stage.hear())[-1], 250)
        (stored,) = stage.letters("bob@localhost")
        self.assertEqual(below_trace(stored), without_return_path(content))
        stage.lose()

    def setUp(self) -> None:
        self.premises = Premises(self)
