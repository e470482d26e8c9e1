"""Addresses: what is one, how it is printed, and which are the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.address import Address, BadAddress, NotAscii, is_domain, literal

locals_ = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


class Parsing(SynchronousTestCase):
    @given(locals_)
    def test_what_is_printed_is_read_back(self, local: str) -> None:
        address = Address(local, "example.org")
        self.assertEqual(Address.parse(str(address)), address)

    @given(st.text(max_size=60))
    def test_any_text_is_an_address_or_is_refused(self, text: str) -> None:
        try:
            address = Address.parse(text)
        except BadAddress as error:
            self.assertTrue(str(error).isascii())
        else:
            self.assertEqual(Address.parse(str(address)), address)

    def test_quotes_that_are_not_needed_do_not_count(self) -> None:
        self.assertEqual(Address.parse('"alice"@localhost'), Address.parse("alice@localhost"))
        self.assertEqual(Address.parse(r'"a\lice"@localhost'), Address("alice", "localhost"))

    def test_bad_addresses_are_refused(self) -> None:
        for text in (
            *("", "@", "a@", "@b", "a", "a@b@c", "a b@c", ".a@b", "a.@b", "a..b@c", "<a@b>", "a@b.", "a@.b", "a@b..c"),
            *("a@-b", "a@b-", "a@b_c", 'a"b@c', '"a@c', '"a"b@c', "a\0@b", "a\n@b", "a@b\n", "a" * 65 + "@b"),
            *("a@" + "b" * 256, "a@[1.2.3]", "a@[1.2.3.400]", "a@[IPv6:1]", "a@[]", "a@[x", "a@[x:y z]", "a@[nope]"),
        ):
            self.assertRaises(BadAddress, Address.parse, text)

    def test_good_addresses_are_taken(self) -> None:
        for text in (
            *(
                "a@b",
                "a.b@c.d",
                "a@1.example",
                "!#$%&'*+-/=?^_`{|}~@a-b.c",
                '""@a',
                '"a b"@c',
                r'"\""@c',
                "a" * 64 + "@b",
            ),
            *("a@[192.0.2.1]", "a@[IPv6:::1]", "a@[ipv6:2001:db8::1]", "a@[x-tag:anything]", "A@B"),
        ):
            self.assertIsInstance(Address.parse(text), Address)

    def test_utf8_is_refused_with_a_reason_of_its_own(self) -> None:
        self.assertRaises(NotAscii, Address.parse, "jörg@example")
        self.assertRaises(NotAscii, Address.parse, "a@bücher.example")


class Comparing(SynchronousTestCase):
    def test_case_does_not_count_in_local_accounts(self) -> None:
        self.assertEqual(Address.parse("Alice@LocalHost").key, Address.parse("aLICE@localhost").key)

    def test_the_address_is_printed_as_it_was_written(self) -> None:
        self.assertEqual(str(Address.parse("Alice@LocalHost")), "Alice@LocalHost")


class Domains(SynchronousTestCase):
    def test_a_domain_is_at_most_255_octets(self) -> None:
        self.assertTrue(is_domain("a" * 255))
        self.assertFalse(is_domain("a" * 256))

    def test_literals_are_tagged(self) -> None:
        self.assertEqual((literal("192.0.2.1"), literal("::1")), ("[192.0.2.1]", "[IPv6:::1]"))
