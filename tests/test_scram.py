"""What is kept for SCRAM: what clients compute is what we keep, and nobody learns who has an account."""

from __future__ import annotations

import re
from base64 import b64decode

from scramp import ScramMechanism
from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts.scram import ITERATIONS, dummy_verifier, make_verifier

FORM = re.compile(r"SCRAM-SHA-256\$([0-9]+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
KEY = b"k" * 32


def parts(verifier: str | None) -> tuple[int, bytes, bytes, bytes]:
    match = FORM.fullmatch(verifier or "")
    assert match is not None, verifier
    return int(match[1]), b64decode(match[2]), b64decode(match[3]), b64decode(match[4])


class Verifiers(SynchronousTestCase):
    def check(self, password: str) -> None:
        iterations, salt, stored_key, server_key = parts(make_verifier(password.encode()))
        # By another hand than ours.
        expected = ScramMechanism().make_auth_info(password, iterations, salt)
        self.assertEqual(expected, (salt, stored_key, server_key, iterations))

    def test_it_is_what_a_client_computes(self) -> None:
        self.check("pencil")

    def test_a_password_may_have_any_script_spaces_and_commas(self) -> None:
        self.check("  Přílš,žluť=oučký kůň \u00a0")

    def test_the_same_password_in_two_encodings_is_one(self) -> None:
        # SASLprep, RFC 4013: e and combining acute is é, a soft hyphen is nothing.
        _, salt, stored_key, _ = parts(make_verifier("cafe\u0301\u00ad".encode()))
        expected = ScramMechanism().make_auth_info("caf\u00e9", ITERATIONS, salt)
        self.assertEqual(expected[1], stored_key)

    def test_each_has_a_salt_of_its_own(self) -> None:
        salts = {parts(make_verifier(b"pencil"))[1] for _ in range(2)}
        self.assertEqual({len(salt) for salt in salts}, {16})
        self.assertEqual(len(salts), 2)

    def test_there_are_as_many_iterations_as_the_rfc_wants(self) -> None:
        self.assertGreaterEqual(ITERATIONS, 4096)  # RFC 7677 4

    def test_a_password_that_no_client_could_use_has_none(self) -> None:
        for password in (b"", b"\xff", "\u00ad".encode(), b"bell\a", "\U0001f511".encode(), "\u0627a".encode()):
            self.assertIsNone(make_verifier(password), password)


class Dummies(SynchronousTestCase):
    def test_it_looks_like_any_other(self) -> None:
        iterations, *octets = parts(dummy_verifier(b"nobody", KEY))
        self.assertEqual(iterations, ITERATIONS)
        self.assertEqual([len(part) for part in octets], [16, 32, 32])

    def test_who_asks_twice_gets_the_same_in_whatever_case(self) -> None:
        self.assertEqual(dummy_verifier(b"nobody", KEY), dummy_verifier(b"NoBody", KEY))

    def test_every_name_and_every_key_has_its_own(self) -> None:
        dummies = [
            dummy_verifier(b"nobody", KEY),
            dummy_verifier(b"somebody", KEY),
            dummy_verifier(b"nobody", b"other"),
        ]
        octets = {part for dummy in dummies for part in parts(dummy)[1:]}
        self.assertEqual(len(octets), 9)

    def test_any_octets_are_a_name(self) -> None:
        parts(dummy_verifier(b"\xff\0$:", KEY))
