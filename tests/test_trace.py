"""Trace lines, and the look at a header on its way."""

from __future__ import annotations

import email
import email.utils

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.address import Address
from mailbe.trace import HeaderFilter, received, return_path
from tests.test_dots import cut, cuts

headers = st.lists(
    st.sampled_from(
        [
            b"Received: a\r\n",
            b"Return-Path: <x>\r\n",
            b"return-path : y\r\n",
            b"\tfolded\r\n",
            b"S: t\r\n",
            b"\r\n",
            b"x",
        ]
    ),
    max_size=10,
).map(b"".join)


def through(text: bytes, at: list[int]) -> tuple[bytes, int]:
    header = HeaderFilter()
    out = b"".join([header.feed(chunk) for chunk in cut(text, at)])
    return out + header.end(), header.hops


class Header(SynchronousTestCase):
    @given(headers, cuts)
    def test_where_the_stream_is_cut_makes_no_difference(self, text: bytes, at: list[int]) -> None:
        self.assertEqual(through(text, at), through(text, []))

    def test_return_path_lines_go_with_what_is_folded_behind_them(self) -> None:
        text = b"Return-Path: <a>\r\n\tb\r\nRETURN-PATH\t: <c>\r\nSubject: d\r\n\r\nReturn-Path: <e>\r\n"
        self.assertEqual(through(text, []), (b"Subject: d\r\n\r\nReturn-Path: <e>\r\n", 0))

    def test_received_lines_are_counted_in_the_header_alone(self) -> None:
        text = b"Received: a\r\n\tfolded: Received:\r\nX-Received: b\r\nreceived:c\r\n\r\nReceived: d\r\n"
        self.assertEqual(through(text, []), (text, 2))

    def test_a_letter_without_a_body_is_let_through(self) -> None:
        for text in (b"", b"\r\n", b"Subject: a", b"Subject: a\r\n", b"no header at all\r\n"):
            self.assertEqual(through(text, []), (text, 0))

    @given(st.lists(st.integers(0, 10_000), max_size=8))
    def test_nor_does_it_within_a_long_line(self, at: list[int]) -> None:
        text = b"X-Long: %b\r\nReturn-Path: %b\r\n\t%b\r\nReceived: b\r\n\r\nReturn-Path: c\r\n"
        long = b"x" * 3000
        kept = b"X-Long: %b\r\nReceived: b\r\n\r\nReturn-Path: c\r\n" % long
        self.assertEqual(through(text % (long, long, long), at), (kept, 1))

    def test_a_line_without_end_is_not_hoarded(self) -> None:
        header = HeaderFilter()
        self.assertEqual(header.feed(b"x" * 5000), b"x" * 5000)
        self.assertEqual(header.feed(b"x" * 5000 + b"\r"), b"x" * 5000)
        self.assertEqual(header.feed(b"\nReturn-Path: a\r\nb"), b"\r\n")


class Lines(SynchronousTestCase):
    def received(self, **changes: object) -> str:
        values: dict[str, object] = {"helo": "a.example", "peer": "192.0.2.1", "by": "b.example"}
        values |= {"protocol": "ESMTP", "id": "x1", "time": 0.0} | changes
        return received(**values).decode()  # type: ignore[arg-type]

    def test_received_says_who_when_and_how(self) -> None:
        line = email.message_from_string(self.received() + "\r\n")["Received"]
        self.assertEqual(
            " ".join(line.split(";")[0].split()), "from a.example ([192.0.2.1]) by b.example with ESMTP id x1"
        )
        self.assertEqual(email.utils.parsedate_to_datetime(line.split(";")[1]).timestamp(), 0)

    def test_an_only_recipient_is_named(self) -> None:
        self.assertIn("\r\n\tfor <c@d>;\r\n", self.received(recipient=Address("c", "d")))

    def test_addresses_may_be_of_utf8(self) -> None:
        address = Address.parse("jörg@bücher.example")
        self.assertIn("\r\n\tfor <jörg@bücher.example>;\r\n", self.received(recipient=address))
        self.assertEqual(return_path(address), "Return-Path: <jörg@bücher.example>\r\n".encode())

    def test_a_priority_stands_last(self) -> None:
        text = self.received(recipient=Address("c", "d"), priority=-3)
        self.assertIn("\r\n\tfor <c@d>\r\n\tPRIORITY -3;\r\n", text)
        self.assertNotIn("PRIORITY", self.received())

    def test_an_ipv6_peer_is_tagged(self) -> None:
        self.assertIn("([IPv6:2001:db8::1])", self.received(peer="2001:db8::1"))

    def test_a_name_that_is_no_domain_cannot_break_the_line(self) -> None:
        self.assertTrue(self.received(helo="a(b)\r\nc;d>").startswith("Received: from a?b???c?d? ("))

    def test_a_peer_without_an_address_is_local(self) -> None:
        self.assertIn("(local)", self.received(peer=""))

    def test_the_null_reverse_path_is_empty(self) -> None:
        self.assertEqual(return_path(None), b"Return-Path: <>\r\n")
        self.assertEqual(return_path(Address("a b", "c")), b'Return-Path: <"a b"@c>\r\n')
