"""The names of maildrops of what was sent, and what the checker tells the realm of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.address import Address
from mailbe.sent import avatar_id, owner, parse_avatar_id

OWNERS = {
    b"alice+envoi": b"alice",
    b"Alice+ENVOI@Localhost": b"Alice@Localhost",
    b'"john smith+envoi"@example.org': b'"john smith"@example.org',
    b'"a@b+envoi"@[192.0.2.1]': b'"a@b"@[192.0.2.1]',
    b"alice+envoi+envoi": b"alice+envoi",
    b"+envoi": b"",
    b"alice": None,
    b"alice@localhost": None,
    b"alice+envoi@localhost+envoi": b"alice@localhost+envoi",
    b"alice@localhost+envoi": None,
    b"alice@+envoi": None,
    b"aliceenvoi": None,
    b"alice+envoi ": None,
    b"alice+env\xf6i": None,
    "alice+envo\u0131".encode(): None,
    "élise+envoi@bücher.example".encode(): "élise@bücher.example".encode(),
    b"\xe9lise+envoi": b"\xe9lise",
    b"": None,
}


class Names(SynchronousTestCase):
    def test_the_suffix_stands_before_the_at_in_any_case(self) -> None:
        for name, account in OWNERS.items():
            self.assertEqual(owner(name), account, name)

    @given(st.binary())
    def test_any_octets_may_be_a_name(self, name: bytes) -> None:
        without = owner(name)
        self.assertTrue(without is None or len(without) == len(name) - len("+envoi"))


class AvatarIds(SynchronousTestCase):
    def test_what_the_checker_says_is_what_the_realm_hears(self) -> None:
        for local in ("alice", "alice+envoi", "a b", "envoi +envoi", ' +envoi"\\', "élise"):
            address = Address(local, "localhost" if local.isascii() else "bücher.example")
            for sent in (False, True):
                self.assertEqual(parse_avatar_id(avatar_id(address, sent=sent)), (address, sent))
