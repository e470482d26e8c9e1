"""Password schemes: how a password becomes a record, and whether it fits one.

A record names its scheme in braces, as Dovecot's password files do::

    {MD5}5f4dcc3b5aa765d61d8327deb882cf99            read, never written: no salt, one round
    {MD5-CRYPT}$1$<salt>$<digest>                    salted, 1000 rounds of MD5
    {ARGON2ID}$argon2id$v=19$m=65536,t=3,p=4$...     memory-hard (RFC 9106)
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from passlib.exc import PasswordValueError
from passlib.hash import argon2, hex_md5, md5_crypt
from passlib.utils import saslprep

from mailbe.characters import has_prohibited

# RFC 9106 4, the second recommended option: 3 passes over 64 MiB with 4 lanes.
_ARGON2ID = argon2.using(type="ID", rounds=3, memory_cost=64 * 1024, parallelism=4)

# Weakest first. libpass has no type information, hence Any.
_SCHEMES: dict[str, Any] = {"MD5": hex_md5, "MD5-CRYPT": md5_crypt, "ARGON2ID": _ARGON2ID}
_STRENGTH = list(_SCHEMES)

# libpass looks for what computes a scheme when it is first used, and then there may be no descriptor to open it with.
for _handler in (md5_crypt, argon2):
    _handler.set_backend()

CHOICES = {"md5-crypt": "MD5-CRYPT", "argon2id": "ARGON2ID"}  # --password-scheme -> the scheme it means
DEFAULT = "md5-crypt"  # of CHOICES

# A POP3 line has at most 255 octets (RFC 2449 4); one that PASS can carry may be that long and no longer.
MAX_PASSWORD = 128  # octets of UTF-8

_RECORD = re.compile(r"\{([A-Z0-9-]+)\}(.+)", re.DOTALL)


class BadPassword(ValueError):
    """This cannot be a password; the message says why, for people, and never shows it."""


class BadRecord(ValueError):
    """A record that no password can be held against. The message never shows the record."""


def check_password_rules(password: str) -> None:
    """Whether ``password`` may become somebody's.

    :raises BadPassword: with the reason: it is empty, has control characters, or is nothing that POP3 can carry.
    """
    try:
        octets = len(password.encode())
    except UnicodeEncodeError:
        raise BadPassword("the password is not UTF-8") from None
    if not octets:
        raise BadPassword("the password is empty")
    if any(unicodedata.category(character) == "Cc" for character in password):
        raise BadPassword("the password has control characters")
    if has_prohibited(password):
        raise BadPassword("the password has characters that POP3 takes in none")
    if octets > MAX_PASSWORD:
        raise BadPassword(f"the password is longer than {MAX_PASSWORD} octets")


def prepared(password: bytes) -> bytes:
    """What SASLprep makes of ``password``, as it is to be kept (RFC 4616 2); itself where that knows no such password.

    Two keyboards may compose one character otherwise.
    """
    if password.isascii():
        return password
    try:
        return saslprep(password.decode()).encode() or password
    except ValueError:
        return password


def hash_password(password: bytes, scheme: str) -> str:
    """A new record of ``scheme`` (one of the values of ``CHOICES``) that ``password`` fits.

    :raises BadPassword: where the scheme cannot take this password (NUL, thousands of octets).
    :raises ValueError: where the scheme is none that is written.
    """
    if scheme not in CHOICES.values():
        raise ValueError(f"no record of the scheme {scheme!a} is ever written")
    try:
        return f"{{{scheme}}}{_SCHEMES[scheme].hash(password)}"
    except PasswordValueError as error:
        raise BadPassword(f"{scheme} cannot take this password") from error


def verify(password: bytes, record: str) -> bool:
    """Whether ``password`` fits ``record``. How long a refusal takes does not tell how near it was.

    :raises BadRecord: where the record is of no known scheme or is damaged.
    """
    scheme, digest = _split(record)
    try:
        return bool(_SCHEMES[scheme].verify(password, digest))
    except PasswordValueError:
        return False
    except ValueError:
        # From None: the reason that libpass gives may show the record.
        raise BadRecord(f"a damaged record of the scheme {scheme}") from None


def is_below(record: str, scheme: str) -> bool:
    """Whether ``record`` is of a weaker scheme than ``scheme``, or of the same with outdated parameters.

    :raises BadRecord: where the record is of no known scheme or is damaged.
    """
    have, digest = _split(record)
    if have != scheme:
        return _STRENGTH.index(have) < _STRENGTH.index(scheme)
    try:
        return bool(_SCHEMES[scheme].needs_update(digest))
    except ValueError:
        raise BadRecord(f"a damaged record of the scheme {scheme}") from None


def stronger_than(scheme: str) -> list[str]:
    """The schemes above ``scheme``, weakest first."""
    return _STRENGTH[_STRENGTH.index(scheme) + 1 :]


def scheme_of(record: str) -> str:
    """The scheme that ``record`` names.

    :raises BadRecord: where it names none, or one that is not known here.
    """
    return _split(record)[0]


def _split(record: str) -> tuple[str, str]:
    if not (match := _RECORD.fullmatch(record)):
        raise BadRecord("a record that does not begin with its {SCHEME}")
    scheme, digest = match.groups()
    if scheme not in _SCHEMES:
        raise BadRecord(f"a record of the unknown scheme {scheme[:20]}")
    return scheme, digest
