"""Passwords and their records."""

import contextlib
from traceback import format_exception

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts.schemes import (
    CHOICES,
    DEFAULT,
    MAX_PASSWORD,
    BadPassword,
    BadRecord,
    check_password_rules,
    hash_password,
    is_below,
    scheme_of,
    verify,
)

# Records of "password" that other programs made.
FOREIGN = {
    "MD5": "{MD5}5f4dcc3b5aa765d61d8327deb882cf99",  # md5sum
    "MD5-CRYPT": "{MD5-CRYPT}$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",  # openssl passwd -1 -salt saltsalt
    # The Argon2 reference implementation's test vectors.
    "ARGON2ID": "{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
}
# Argon2 as this module writes it, made once: a hash of it is slow on purpose.
ARGON2ID = hash_password(b"password", "ARGON2ID")


class Records(SynchronousTestCase):
    def test_records_of_other_programs_are_read(self):
        for scheme, record in FOREIGN.items():
            self.assertEqual(scheme_of(record), scheme)
            self.assertTrue(verify(b"password", record), scheme)
            self.assertFalse(verify(b"Password", record), scheme)
            self.assertFalse(verify(b"", record), scheme)

    def test_the_md5_of_the_school_project_may_be_written_in_capitals(self):
        self.assertTrue(verify(b"password", FOREIGN["MD5"].upper()))

    @settings(max_examples=30)
    @given(st.binary(max_size=MAX_PASSWORD).filter(lambda password: b"\0" not in password))
    def test_what_was_hashed_is_verified_and_nothing_else(self, password):
        record = hash_password(password, "MD5-CRYPT")
        self.assertTrue(record.startswith("{MD5-CRYPT}$1$"))
        self.assertTrue(verify(password, record))
        self.assertFalse(verify(password + b"x", record))

    def test_argon2id_is_what_rfc_9106_recommends(self):
        self.assertTrue(ARGON2ID.startswith("{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=4$"), ARGON2ID)
        self.assertTrue(verify(b"password", ARGON2ID))
        self.assertFalse(verify(b"passwor", ARGON2ID))

    def test_the_same_password_never_gives_the_same_record(self):
        self.assertNotEqual(hash_password(b"password", "MD5-CRYPT"), hash_password(b"password", "MD5-CRYPT"))

    def test_plain_md5_and_unknown_schemes_are_never_written(self):
        for scheme in ("MD5", "md5-crypt", "ROT13", ""):
            with self.assertRaises(ValueError):
                hash_password(b"password", scheme)

    def test_a_password_that_a_scheme_cannot_take_fits_no_record(self):
        for record in (FOREIGN["MD5"], FOREIGN["MD5-CRYPT"], ARGON2ID):
            self.assertIs(verify(b"pass\0word", record), False)
            self.assertIs(verify(b"x" * 100_000, record), False)

    def test_a_password_that_a_scheme_cannot_take_gives_no_record(self):
        with self.assertRaises(BadPassword) as caught:
            hash_password(b"sec\0ret", "MD5-CRYPT")
        self.assertNotIn("sec", str(caught.exception))

    def test_what_is_no_record_says_so_and_does_not_show_it(self):
        for record in (
            "",
            "secret",
            "5f4dcc3b5aa765d61d8327deb882cf99secret",
            "{ROT13}secret",
            "{md5}5f4dcc3b5aa765d61d8327deb882cf99",
            "{MD5}",
            "{MD5}secret",
            "{MD5-CRYPT}$1$secret",
            "{MD5-CRYPT}$1$secret$",
            "{ARGON2ID}$argon2id$v=19$secret",
            FOREIGN["ARGON2ID"].replace("c29tZXNhbHQ", "secret=="),
        ):
            with self.assertRaises(BadRecord) as caught:
                verify(b"password", record)
            self.assertNotIn("secret", "".join(format_exception(caught.exception)))

    @given(st.sampled_from(["", "{MD5}", "{MD5-CRYPT}", "{MD5-CRYPT}$1$", "{ARGON2ID}"]), st.text(max_size=40))
    def test_no_record_raises_anything_else(self, start, rest):
        with contextlib.suppress(BadRecord):
            self.assertFalse(verify(b"password", start + rest))


class Strength(SynchronousTestCase):
    def test_each_scheme_is_below_those_that_stand_after_it(self):
        strength = ["MD5", "MD5-CRYPT", "ARGON2ID"]
        records = [FOREIGN["MD5"], FOREIGN["MD5-CRYPT"], ARGON2ID]
        for at, record in enumerate(records):
            for other, scheme in enumerate(strength):
                self.assertIs(is_below(record, scheme), at < other, (record, scheme))

    def test_outdated_parameters_are_below(self):
        self.assertTrue(is_below(FOREIGN["ARGON2ID"], "ARGON2ID"))  # 2 passes
        self.assertTrue(is_below(ARGON2ID.replace("m=65536", "m=1024"), "ARGON2ID"))
        self.assertTrue(is_below(ARGON2ID.replace("argon2id$", "argon2i$"), "ARGON2ID"))

    def test_a_damaged_record_cannot_be_judged(self):
        with self.assertRaises(BadRecord):
            is_below("{ARGON2ID}secret", "ARGON2ID")
        with self.assertRaises(BadRecord):
            is_below("secret", "ARGON2ID")

    def test_every_choice_can_be_written(self):
        self.assertIn(DEFAULT, CHOICES)
        for scheme in CHOICES.values():
            self.assertFalse(is_below(hash_password(b"password", scheme), scheme))


class Rules(SynchronousTestCase):
    def test_good_passwords_are_taken(self):
        for password in (
            "x",
            "correct horse battery staple",
            "pässwörd",
            "密码",
            "\U0001f600",
            "\u05e91",
            ":",
            "x" * MAX_PASSWORD,
        ):
            check_password_rules(password)

    def test_bad_passwords_are_refused_with_the_reason(self):
        for password, reason in (
            ("", "empty"),
            ("sec\rret", "control"),
            ("sec\nret", "control"),
            ("sec\0ret", "control"),
            ("sec\x7fret", "control"),
            ("sec\x85ret", "control"),
            ("x" * (MAX_PASSWORD + 1), "longer than 128"),
            ("ä" * (MAX_PASSWORD // 2 + 1), "longer than 128"),
            ("sec\udcffret", "UTF-8"),
            ("sec\ue000ret", "POP3"),
            ("sec\u200eret", "POP3"),
        ):
            with self.assertRaises(BadPassword) as caught:
                check_password_rules(password)
            self.assertIn(reason, str(caught.exception))
            self.assertNotIn("sec", str(caught.exception))
