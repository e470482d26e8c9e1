"""Letters that can be told apart and checked: each carries its token, its length and a digest.

The first line of a letter is ``X-Torture: <token> <octets> <digest>``, and both are of all that follows it. What the
server puts on top is not counted; but it must be whole header lines, with a Return-Path first.
"""

from __future__ import annotations

import hashlib
import random
import re
import time

from mailbe.torture.ledger import Found

TEXT = 512 * 1024  # octets that the texts of all letters are cut from

_MARK = re.compile(rb"^X-Torture: ([!-~]+) ([0-9]{1,9}) ([0-9a-f]{32})\r\n", re.MULTILINE)
_TRACE = re.compile(rb"Return-Path: <[^\r\n\0]*>\r\n(?:[^\r\n\0]+\r\n)*")


def chance(*seed: object) -> random.Random:
    """Random choices that are the same wherever ``seed`` is the same."""
    return random.Random(repr(seed))  # noqa: S311 - choices that can be repeated, and no secrets


class Texts:
    """Texts for letters: lines of many lengths, empty ones, lines of dots, octets above 127."""

    def __init__(self, choices: random.Random) -> None:
        letters = bytes(range(33, 127)) + "äöüß€ ".encode()
        lines = []
        octets = 0
        while octets < TEXT:
            line = bytes(choices.choices(letters, k=choices.choice([0, 1, 20, 76, 200])))
            lines.append(choices.choice([b"", b"", b"", b"."]) + line + b"\r\n")
            octets += len(lines[-1])
        self._text = b"".join(lines)

    def text(self, choices: random.Random, octets: int) -> bytes:
        """Whole lines from a random place: ``octets``, which are far less than ``TEXT``, or some more."""
        begin = self._text.index(b"\r\n", choices.randrange(max(1, TEXT - octets - 1000))) + 2
        return self._text[begin : self._text.find(b"\r\n", begin + octets) + 2]


def letter(token: str, text: bytes) -> bytes:
    """A letter, before its dots are stuffed; CRLF at the end of each line."""
    rest = f"From: <torture@example.org>\r\nSubject: {token}\r\n\r\n".encode() + text
    return f"X-Torture: {token} {len(rest)} {_digest(rest)}\r\n".encode() + rest


def examined(uid: str, octets: bytes) -> Found:
    """What ``octets``, just read under the unique-id ``uid`` in a mailbox, are: whose, and whether all of it."""
    seen = time.time()
    mark = _MARK.search(octets)
    if mark is None:
        return Found(uid, None, whole=False, seen=seen)
    rest = octets[mark.end() :]
    whole = (
        _TRACE.fullmatch(octets[: mark.start()]) is not None
        and len(rest) == int(mark[2])
        and _digest(rest) == mark[3].decode()
    )
    return Found(uid, mark[1].decode(), whole, seen)


def _digest(octets: bytes) -> str:
    return hashlib.blake2b(octets, digest_size=16).hexdigest()
