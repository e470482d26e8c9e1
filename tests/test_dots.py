"""Dot-stuffing: the same result wherever the stream is cut, and nothing but CRLF.CRLF ends a text."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.dots import DotReader, stuffed

# Texts made of what matters here, so that every edge is met often.
texts = st.lists(
    st.sampled_from([b"\r\n", b".", b"a", b"\r", b"\n", b"..", b"\r\n.", b"\0", b"\xff"]), max_size=14
).map(b"".join)
cuts = st.lists(st.integers(0, 40), max_size=6)


def cut(text: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(index, len(text)) for index in at), len(text)]
    return [text[begin:end] for begin, end in pairwise(edges)]


def read(wire: list[bytes]) -> tuple[bytes, bytes | None, DotReader]:
    content: list[bytes] = []
    reader = DotReader(content.append)
    for number, chunk in enumerate(wire):
        rest = reader.feed(chunk)
        if rest is not None:
            return b"".join(content), rest + b"".join(wire[number + 1 :]), reader
    return b"".join(content), None, reader


class Reading(SynchronousTestCase):
    @given(texts, cuts)
    def test_what_was_stuffed_comes_out_as_it_was(self, text: bytes, at: list[int]) -> None:
        wire = b"".join(stuffed(cut(text, at)))
        content, rest, reader = read(cut(wire + b"REST", at))
        complete = text if text.endswith(b"\r\n") or not text else text + b"\r\n"
        self.assertEqual((content, rest, reader.octets), (complete, b"REST", len(complete)))

    @given(texts, cuts)
    def test_where_the_stream_is_cut_makes_no_difference(self, wire: bytes, at: list[int]) -> None:
        whole, pieces = read([wire]), read(cut(wire, at))
        self.assertEqual(whole[1], pieces[1])
        if whole[1] is not None:
            self.assertEqual(whole[0], pieces[0])
            self.assertEqual((whole[2].octets, whole[2].bare), (pieces[2].octets, pieces[2].bare))

    @given(texts)
    def test_only_a_lone_dot_between_crlfs_ends_the_text(self, wire: bytes) -> None:
        end = re.search(rb"(?:\A|\r\n)\.\r\n", wire)
        self.assertEqual(read([wire])[1], wire[end.end() :] if end else None)

    @given(texts)
    def test_a_cr_or_lf_that_is_no_line_end_is_noticed(self, text: bytes) -> None:
        _, _, reader = read([*stuffed([text])])
        alone = re.sub(rb"\r\n", b"", text)
        self.assertEqual(reader.bare, b"\r" in alone or b"\n" in alone)

    def test_an_empty_text_is_empty(self) -> None:
        self.assertEqual(read([b".\r\n"])[:2], (b"", b""))
        self.assertEqual(b"".join(stuffed([])), b".\r\n")


class Stuffing(SynchronousTestCase):
    @given(texts, cuts)
    def test_every_line_that_begins_with_a_dot_gets_one_more(self, text: bytes, at: list[int]) -> None:
        complete = text if text.endswith(b"\r\n") or not text else text + b"\r\n"
        lines = re.findall(rb"(?s).*?\r\n", complete)
        wanted = b"".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"
        self.assertEqual(b"".join(stuffed(cut(text, at))), wanted)
