"""Letters that come in pieces: what is stored of them, and what is refused, wherever they are cut."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailbe.interfaces import Envelope
from mailbe.smtp.incoming import Chunk, Incoming
from mailbe.smtp.replies import Refusal
from tests.fakes import FakePostOffice, World
from tests.storage import ALICE, reached

BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
MOST = 60
octets = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"x", b"\r\n.\r\n", b"\xff\0"]), max_size=30).map(
    b"".join
)
edges = st.lists(st.integers(0, 80), max_size=6)


def pieces(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(places)]


class Chunks(SynchronousTestCase):
    @given(octets, octets, edges)
    def test_a_chunk_takes_what_was_announced_and_not_an_octet_more(
        self, announced: bytes, behind: bytes, cuts: list[int]
    ) -> None:
        taken: list[bytes] = []
        announced += b"!"  # nothing is asked of the wire for a chunk without octets
        chunk = Chunk(len(announced), taken.append)
        rest, left = None, pieces(announced + behind, cuts)
        while rest is None:
            rest = chunk.feed(left.pop(0))
        self.assertEqual((b"".join(taken), rest + b"".join(left)), (announced, behind))


class Letters(SynchronousTestCase):
    def incoming(self, *, binary: bool = False) -> Incoming:
        self.world = World({"alice@localhost": b""})
        office = FakePostOffice(self.world)
        envelope = Envelope(None, recipients=reached(office, ALICE))
        return Incoming(office.letter(envelope), MOST, binary=binary)

    def ended(self, incoming: Incoming) -> Deferred[None]:
        return Deferred.fromCoroutine(incoming.end())

    def refused(self, incoming: Incoming) -> bytes:
        """The codes that the letter is refused with."""
        refusal = self.failureResultOf(self.ended(incoming), Refusal).value
        return bytes(refusal.reply.octets[:9])

    def stored(self, incoming: Incoming) -> bytes:
        """What is stored below the Return-Path."""
        self.successResultOf(Deferred.fromCoroutine(incoming.letter.deliver()))  # type: ignore[arg-type]
        (letter,) = self.world.reception["alice@localhost"].letters.values()
        return letter.removeprefix(b"Return-Path: <>\r\n")

    @given(octets, edges)
    def test_a_line_has_its_end_and_nothing_else_is_one(self, content: bytes, cuts: list[int]) -> None:
        incoming = self.incoming()
        for piece in pieces(content, cuts):
            incoming.expect(len(piece))
            for octet in range(0, len(piece), 3):
                incoming.write(piece[octet : octet + 3])
        if len(content) > MOST:
            self.assertEqual(self.refused(incoming), b"552 5.3.4")
        elif BARE.search(content):
            self.assertEqual(self.refused(incoming), b"554 5.6.0")
        else:
            self.successResultOf(self.ended(incoming))
            whole = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
            self.assertEqual(self.stored(incoming), whole)

    def test_a_binary_letter_is_stored_as_lines(self) -> None:
        incoming = self.incoming(binary=True)
        for piece in (b"Content-Transfer-Encoding: binary\r", b"\n\r\n\r.\n", b"\0"):
            incoming.expect(len(piece))
            incoming.write(piece)
        self.successResultOf(self.ended(incoming))
        self.assertEqual(self.stored(incoming), b"Content-Transfer-Encoding: base64\r\n\r\nDS4KAA==\r\n")

    def test_what_is_too_large_is_known_before_it_comes_and_is_not_kept(self) -> None:
        incoming = self.incoming()
        incoming.expect(MOST + 1)
        incoming.write(b"x" * MOST)
        self.assertRaises(Refusal, incoming.check)
        self.assertEqual(self.stored(incoming), b"")
