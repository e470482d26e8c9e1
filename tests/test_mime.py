"""A letter with binary parts comes out as lines, and a mail program finds the same octets in it."""

from __future__ import annotations

import email
import gc
import re
import sys
import tracemalloc
from email.message import Message
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.mime import MAX_HEADER, Lines

BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


def converted(letter: bytes, *cuts: int) -> bytes:
    lines = Lines()
    edges = [0, *sorted(cuts), len(letter)]
    return b"".join([*(lines.feed(letter[a:b]) for a, b in pairwise(edges)), lines.end()])


def octet_by_octet(letter: bytes) -> bytes:
    return converted(letter, *range(1, len(letter)))


# What is nearly a delimiter, or an end of one, stands in parts as other octets do.
pieces = st.sampled_from(
    [b"\r\n", b"--", b"-", b"\r", b"\n", b"\r\n--", b"--b0", b"\r\n--b0x", b".", b"\0", b"\xff", b"x"]
)
contents = st.lists(pieces | st.binary(max_size=80), max_size=8).map(b"".join)


# Lines that matter, in any order, and what is nearly one of them.
marked = st.sampled_from(
    [
        *(b"", b"", b"x", b"\0", b"--", b"----", b"--a", b"--a--", b"--a \t", b"--a--  ", b"--ax", b"--b", b"--b--"),
        *(b'Content-Type: multipart/x; boundary="a"', b"content-type: multipart/digest;\r\n boundary=b"),
        *(b'Content-Type: multipart/x; boundary=""', b"Content-Type: message/rfc822", b"a\nContent-Type: text/x"),
        *(b"Content-Transfer-Encoding: binary", b"content-transfer-encoding :BINARY", b" Content-Type: multipart/x"),
        *(b"--a" + b" " * 993, b"--a" + b" " * 994, b"--a--" + b"\t" * 991, b"--a--" + b"\t" * 992),
    ]
)
ends = st.sampled_from([b"\r\n"] * 8 + [b"", b"\r", b"\n"])
of_lines = st.lists(st.tuples(marked, ends).map(b"".join), max_size=20).map(b"".join)


@st.composite
def trees(draw: Any, depth: int = 0) -> tuple[bytes, list[bytes]]:
    """An entity, header and all, and the contents of its leaves in order."""
    kind = draw(st.sampled_from(["binary", "binary", "text", "multipart", "message"] if depth < 3 else ["binary"]))
    if kind == "multipart":
        boundary = b"=_%d" % depth
        parts = draw(st.lists(trees(depth + 1), min_size=1, max_size=3))
        head = (
            b'Content-Type: multipart/mixed;\r\n boundary="%s"\r\nContent-Transfer-Encoding: binary\r\n\r\n' % boundary
        )
        preamble = draw(st.sampled_from([b"", b"for the others\r\n"]))
        body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part, _ in parts)
        end = b"--%s--" % boundary + draw(st.sampled_from([b"", b"\r\nbehind it"]))
        return head + preamble + body + end, [leaf for _, leaves in parts for leaf in leaves]
    if kind == "message":
        inner, leaves = draw(trees(depth + 1))
        return (
            b"Content-Type: message/rfc822\r\ncontent-transfer-encoding: BINARY\r\n\r\nSubject: a\r\n" + inner,
            leaves,
        )
    if kind == "text":
        return b"Content-Type: text/plain\r\n\r\nHello", [b"Hello"]
    content = draw(contents)
    return b"Content-Type: image/x\r\nContent-Transfer-Encoding: (no) binary\r\n\r\n" + content, [content]


def leaves(message: Message) -> list[bytes]:
    if message.is_multipart():
        return [leaf for part in message.get_payload() for leaf in leaves(part)]  # type: ignore[union-attr]
    return [message.get_payload(decode=True)]  # type: ignore[list-item]


class Converting(SynchronousTestCase):
    @given(trees(), st.lists(st.integers(0, 400), max_size=4))
    def test_no_octet_of_a_part_is_lost_wherever_it_is_cut(
        self, tree: tuple[bytes, list[bytes]], cuts: list[int]
    ) -> None:
        letter, contents = tree
        letter = b"MIME-Version: 1.0\r\n" + letter
        lines = converted(letter)
        self.assertIsNone(BARE.search(lines), lines)
        self.assertEqual(leaves(email.message_from_bytes(lines)), contents, lines)
        self.assertEqual(converted(letter, *(cut for cut in cuts if cut < len(letter))), lines)
        self.assertEqual(octet_by_octet(letter), lines)
        self.assertLessEqual(max(map(len, lines.split(b"\r\n"))), 78)

    @given(st.lists(pieces | st.sampled_from([b"Content-Type: multipart/x; boundary=b0", b"\r\n\r\n"]), max_size=20))
    def test_what_has_no_binary_parts_goes_through_as_it_is(self, some: list[bytes]) -> None:
        letter = b"".join(some)
        self.assertEqual((converted(letter), octet_by_octet(letter)), (letter, letter))

    @given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
    def test_any_octets_come_out_the_same_however_they_are_cut(self, letter: bytes, cuts: list[int]) -> None:
        letter = b"Content-Transfer-Encoding: binary\r\nContent-Type: multipart/x; boundary=a\r\n" + letter
        self.assertEqual(converted(letter, *(cut for cut in cuts if cut < len(letter))), converted(letter))

    @given(st.sampled_from([b"a", b"b", b""]), of_lines, st.lists(st.integers(0, 2000), max_size=4))
    @example(b"", b'--a\r\nContent-Type: multipart/x; boundary="a"\r\n\r\n', [])
    def test_lines_come_out_the_same_however_they_are_cut(self, boundary: bytes, some: bytes, cuts: list[int]) -> None:
        letter = b"Content-Type: multipart/x; boundary=%s\r\n\r\n--%s\r\n%s" % (boundary, boundary, some)
        lines = octet_by_octet(letter)
        self.assertEqual(converted(letter), lines)
        self.assertEqual(converted(letter, *(cut for cut in cuts if cut < len(letter))), lines)

    def test_a_line_of_a_thousand_octets_is_no_delimiter_wherever_it_is_cut(self) -> None:
        letter = (
            b"Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\nContent-Transfer-Encoding: binary\r\n\r\n\n"
            b"\r\n--a%s\r\n--a--\r\n"
        )
        for spaces, lines in ((993, b"\r\nCg==\r\n--a"), (994, b"\r\nCg0KLS1h")):
            for convert in (converted, octet_by_octet):
                self.assertIn(lines, convert(letter % (b" " * spaces)), (spaces, convert))

    def test_a_header_that_is_too_long_is_none_wherever_it_is_cut(self) -> None:
        fields = b"Content-Transfer-Encoding: binary\r\n"
        for more, result in ((-1, b"base64"), (0, b"binary")):
            header = fields + b"X" * (MAX_HEADER - 2 + more - len(fields)) + b"\r\n"
            for cuts in ((), range(1, len(header) + 2, 1000), range(len(header) - 3, len(header) + 3)):
                self.assertIn(result, converted(header + b"\r\n\n", *cuts)[:40], (more, cuts))

    def test_a_boundary_does_not_end_with_white_space(self) -> None:
        letter = (
            b'Content-Type: multipart/x; boundary="a \t"\r\n\r\n--a\r\nContent-Transfer-Encoding: binary\r\n\r\n\n'
            b"\r\n--a--\r\n"
        )
        self.assertEqual(
            converted(letter), letter.replace(b"binary", b"base64").replace(b"\n\r\n--a--", b"Cg==\r\n--a--")
        )

    def test_millions_of_lines_cost_few_steps_each(self) -> None:
        calls = 0

        def count(_frame: object, event: str, _about: object) -> None:
            nonlocal calls
            calls += event == "call"

        gc.disable()  # what it may call is no step of ours
        self.addCleanup(gc.enable)
        head = b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: %s\r\n\r\n"
        for encoding in (b"binary", b"7bit"):
            for line in (b"--bx\r\n", b"--\r\n", b"--b\r\n", b"--b\r\n\r\n", b"--b\r\na\r\n", b"a\r\n"):
                lines, calls = Lines(), 0
                sys.setprofile(count)
                try:
                    lines.feed(head % encoding + line * 4000)
                finally:
                    sys.setprofile(None)
                self.assertLess(calls, 5000, line)

    def test_an_example(self) -> None:
        letter = (
            b"From: a\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\r\n--b--\r\n"
        )
        self.assertEqual(
            converted(letter),
            b"From: a\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b--\r\n",
        )

    def test_a_multipart_whose_parts_cannot_be_told_is_not_encoded(self) -> None:
        for parameter in (b"", b"; boundary*0=b"):
            head = b"Content-Type: multipart/x%s\r\nContent-Transfer-Encoding: %s\r\n\r\n--b\r\n"
            self.assertEqual(converted(head % (parameter, b"binary")), head % (parameter, b"8bit"))

    def test_a_digest_holds_messages(self) -> None:
        head = b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n"
        lines = converted(head + b"Content-Transfer-Encoding: binary\r\n\r\n\n\n\r\n--b--\r\n")
        self.assertEqual(lines, head + b"Content-Transfer-Encoding: base64\r\n\r\nCgo=\r\n--b--\r\n")

    def test_an_outer_delimiter_ends_what_is_within(self) -> None:
        letter = (
            b"Content-Type: multipart/x; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/x; boundary=i\r\n\r\n--i\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\n\n\r\n--o\r\n\r\n--i\r\n--o--"
        )
        self.assertEqual(
            converted(letter), letter.replace(b"binary", b"base64").replace(b"\r\n\n\r\n", b"\r\nCg==\r\n")
        )

    def test_headers_that_end_with_their_part_do_not_add_up(self) -> None:
        head = b"Content-Type: multipart/x; boundary=b\r\n\r\n" + b"--b\r\nX: y\r\n" * (MAX_HEADER // 5)
        lines = converted(head + b"--b\r\nContent-Transfer-Encoding: binary\r\n\r\n\n\r\n--b--\r\n")
        self.assertEqual(lines, head + b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\nCg==\r\n--b--\r\n")

    def test_a_header_of_short_lines_takes_no_more_room_than_its_octets(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        lines = Lines()
        lines.feed(b"a\r\n" * (MAX_HEADER // 3))
        self.assertLess(tracemalloc.get_traced_memory()[0], 3 * MAX_HEADER)
        self.assertFalse(lines.feed(b""))

    def test_a_header_without_end_is_not_hoarded(self) -> None:
        for line in (b"X" * 100, b"X: y\r\n" * 20):
            lines = Lines()
            out = b"".join(lines.feed(line) for _ in range(2 * MAX_HEADER // len(line)))
            self.assertGreater(len(out), MAX_HEADER)
            self.assertEqual(out + lines.end(), line * (2 * MAX_HEADER // len(line)))
