"""The lines that a server puts on top of a letter (RFC 5321 4.4, RFC 3848)."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from email.utils import parsedate_to_datetime

from mailbe.conform.letters import Stored
from mailbe.conform.rules import MUST, SHOULD, Awaited, Differs, Skip, Steps, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.wire import shown

_STAMP = re.compile(rb"from\s+\S+.*?\sby\s+\S+.*;\s*(?P<date>[^;]+)", re.IGNORECASE | re.DOTALL)
_WITH = re.compile(rb"\swith\s+([A-Za-z0-9]+)", re.IGNORECASE)
_LITERAL = re.compile(rb"\[[^\]]+\]")


@smtp("RFC 5321 4.4", MUST)
def return_path_is_the_reverse_path(at: Smtp) -> Steps:
    """At final delivery the letter gets a Return-Path with the address of MAIL."""
    letter = at.letter()
    at.send(letter)
    (stored,) = yield Awaited(letter.token)
    _check_return_path(stored.field(b"Return-Path"), f"<{at.me}>".encode())


@smtp("RFC 5321 4.4", MUST)
def return_path_may_be_null(at: Smtp) -> Steps:
    """For MAIL FROM:<> the Return-Path is <>."""
    letter = at.letter()
    wire = at.ready()
    wire.need("250", "MAIL FROM:<>")
    wire.need("250", at.rcpt())
    at.taken(at.deliver(wire, letter))
    (stored,) = yield Awaited(letter.token)
    _check_return_path(stored.field(b"Return-Path"), b"<>")


@smtp("RFC 5321 4.4", MUST)
def received_is_put_on_top(at: Smtp) -> Steps:
    """A Received field with from, by and a date stands above the letter's own fields."""
    stamps = yield from _stamps(at)
    if not stamps:
        raise Differs("a Received field", "a letter without one", "the letter without one")
    if not (match := _STAMP.fullmatch(stamps[-1])):
        raise Differs("from … by … ; date-time", "a letter", shown(stamps[-1]))
    try:
        parsedate_to_datetime(match["date"].decode("ascii", "replace"))
    except ValueError:
        raise Differs("a date-time behind the last semicolon", "a letter", shown(stamps[-1])) from None


@smtp("RFC 5321 4.4", SHOULD)
def received_tells_name_and_address(at: Smtp) -> Steps:
    """The from clause of Received has the name that EHLO gave, and the client's address as it is."""
    stamps = yield from _stamps(at)
    if not stamps:
        raise Skip("there is no Received field")
    clause = re.split(rb"\sby\s", stamps[-1], flags=re.IGNORECASE)[0]
    if not clause.lower().startswith(b"from") or not _LITERAL.search(clause):
        raise Differs("from name ([address])", "a letter", shown(clause))


@smtp("RFC 3848 1", SHOULD)
def received_tells_the_protocol(at: Smtp) -> Steps:
    """If Received has a with clause, it says ESMTP, with S in TLS and A after log-in."""
    stamps = yield from _stamps(at)
    if not stamps or not (match := _WITH.search(stamps[-1])):
        raise Skip("there is no with clause")
    secured = at.site.secured
    tls = at.site.route.implicit or (secured and "STARTTLS" in at.site.plain)
    wanted = f"ESMTP{'S' * tls}{'A' * secured}"
    # RFC 6531 4.3 has names for a letter with SMTPUTF8, which this is not.
    if match[1].decode().upper() != wanted:
        raise Differs(f"with {wanted}", "a letter", shown(match[0].strip()))


@smtp("RFC 5321 4.4", MUST)
def older_received_fields_stay(at: Smtp) -> Steps:
    """A Received field that was there stays as it is, below the new one."""
    older = b"Received: from a.invalid by b.invalid; Mon, 01 Jan 2024 00:00:00 +0000"
    letter = at.letter(b"x\r\n", older + b"\r\n")
    at.send(letter)
    (stored,) = yield Awaited(letter.token)
    if older not in stored.header.split(b"\r\n"):
        raise Differs("the same line", shown(older), "a header without it")


def _check_return_path(values: list[bytes], wanted: bytes) -> None:
    if len(values) != 1 or values[0].lower() != wanted.lower():
        got = "; ".join(f"Return-Path: {shown(value)}" for value in values) or "no Return-Path"
        raise Differs(f"Return-Path: {wanted.decode()}, once", "a letter", got)


def _stamps(at: Smtp) -> Generator[Awaited, Sequence[Stored], list[bytes]]:
    """Send a letter; returns the values of the Received fields that it gets, the topmost first."""
    letter = at.letter()
    at.send(letter)
    (stored,) = yield Awaited(letter.token)
    return stored.field(b"Received")
