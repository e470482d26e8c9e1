"""Addresses: what is one, how it is printed, and which are the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.address import Address, BadAddress, ascii_domain, folded, is_domain, is_name, literal

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

    def test_utf8_is_taken_and_told_apart(self) -> None:
        for text in (
            "jörg@example",
            "a@bücher.example",
            "用户@例え.テスト",
            '"a ö"@b',
            "\N{KELVIN SIGN}@a",
            "\U0001f600@a",
        ):
            self.assertFalse(Address.parse(text).is_ascii)
            self.assertEqual(str(Address.parse(text)), text)
        self.assertTrue(Address.parse("a@xn--bcher-kva.example").is_ascii)

    def test_what_breaks_lines_or_is_no_character_is_no_part_of_an_address(self) -> None:
        for character in "\x80\x85\x9b\u2028\u2029\ud800\udcff":
            for text in (f"a{character}@b", f'"{character}"@b', f"a@b{character}"):
                self.assertRaises(BadAddress, Address.parse, text)

    def test_octets_count_and_not_characters(self) -> None:
        self.assertIsInstance(Address.parse("ö" * 32 + "@b"), Address)
        self.assertRaises(BadAddress, Address.parse, "ö" * 33 + "@b")


class Comparing(SynchronousTestCase):
    def test_case_does_not_count_in_local_accounts(self) -> None:
        self.assertEqual(Address.parse("Alice@LocalHost").key, Address.parse("aLICE@localhost").key)

    def test_the_address_is_printed_as_it_was_written(self) -> None:
        self.assertEqual(str(Address.parse("Alice@LocalHost")), "Alice@LocalHost")

    def test_a_name_is_the_same_however_it_is_composed_or_written(self) -> None:
        for text in ("JÖRG@b", "jo\u0308rg@B", "JO\u0308RG@b"):
            self.assertEqual(Address.parse(text).key, "jörg@b")
        self.assertNotEqual(folded("groß"), folded("gross"))
        self.assertEqual(folded("ΣΊΣΥΦΟΣ"), folded("Σίσυφος"))

    def test_no_character_beyond_ascii_is_taken_for_one_of_it_or_for_its_like(self) -> None:
        for code in (*range(0x80, 0xD800), *range(0xE000, 0x20000)):
            character = chr(code)
            self.assertFalse(folded(character).isascii(), ascii(character))
            if not is_name(character):
                self.assertEqual(folded(character), character)
        for name in (
            "\N{KELVIN SIGN}ilo",
            "\uff41lice",
            "\ufb01t",
            "\u017fmith",
            "a\u200bb",
            "a\u202eb",
            "\xa0",
            "\u2126",
        ):
            self.assertEqual(
                (is_name(name), folded(name)), (name == "\u2126", folded(name) if name == "\u2126" else name)
            )

    def test_what_nobody_sees_is_in_no_name(self) -> None:
        for character in ("\u034f", "\u115f", "\u1160", "\u17b4", "\u180b", "\u180f", "\ufe0f", "\U000e0100"):
            self.assertFalse(is_name(f"alice{character}"), ascii(character))

    @given(st.text(max_size=10), st.text(max_size=10))
    def test_folding_is_done_once_and_for_all(self, one: str, other: str) -> None:
        self.assertEqual(folded(folded(one)), folded(one))
        if is_name(one) and not is_name(other):
            self.assertNotEqual(folded(one), folded(other))

    def test_the_canonical_spelling_is_one(self) -> None:
        address = Address.parse("JÖRG@BÜCHER.example")
        self.assertEqual(address.canonical, Address("jörg", "xn--bcher-kva.example"))
        self.assertEqual((address.key, address.canonical.key), (str(address.canonical),) * 2)


class Domains(SynchronousTestCase):
    def test_u_labels_and_a_labels_are_one_domain(self) -> None:
        for text in ("bücher.example", "BÜCHER.Example", "bu\u0308cher.EXAMPLE", "xn--bcher-kva.example"):
            self.assertEqual(ascii_domain(text), "xn--bcher-kva.example")
        self.assertEqual(ascii_domain("XN--BCHER-KVA.example"), "xn--bcher-kva.example")
        self.assertEqual(ascii_domain("straße.example"), "xn--strae-oqa.example")

    def test_what_is_no_u_label_is_no_domain(self) -> None:
        for text in (
            *("\N{KELVIN SIGN}.example", "b\N{KELVIN SIGN}ü.example", "\uff41.example", "☃.example", "ü_.example"),
            *("a\u3002ü", "ü..example", "ü.", ".ü", "-ü.example", "ü-.example", "ü" * 64, "\u0308a.example", "a b.ü"),
            *(".".join(["ü" * 40] * 5), "א1a.example", "a\u200db.example", "ü@b"),
        ):
            self.assertFalse(is_domain(text), ascii(text))

    @given(st.text(max_size=60))
    def test_any_text_is_a_domain_or_is_none(self, text: str) -> None:
        if is_domain(text):
            self.assertTrue(is_domain(ascii_domain(text)))
            self.assertEqual(ascii_domain(ascii_domain(text)), ascii_domain(text))

    def test_a_domain_is_at_most_255_octets(self) -> None:
        self.assertTrue(is_domain("a" * 255))
        self.assertFalse(is_domain("a" * 256))

    def test_literals_are_tagged(self) -> None:
        self.assertEqual((literal("192.0.2.1"), literal("::1")), ("[192.0.2.1]", "[IPv6:::1]"))
