"""STAT, LIST and UIDL (RFC 1939 5, 7)."""

from __future__ import annotations

import re

from mailbe.conform.maildrop import Pop3
from mailbe.conform.pop3 import Pop3Wire
from mailbe.conform.rules import MAY, MUST, Differs, pop3
from mailbe.conform.wire import shown

_STAT = re.compile(rb"\+OK ([0-9]+) ([0-9]+)(?: .*)?")
_SCAN = re.compile(rb"([0-9]+) ([0-9]+)(?: .*)?")
_UNIQUE = re.compile(rb"([0-9]+) ([!-~]{1,70})")


@pop3("RFC 1939 5", MUST)
def stat_tells_two_numbers(at: Pop3) -> None:
    """STAT is answered +OK, a space, the number of messages, a space, and their size."""
    _stat(at.inside())


@pop3("RFC 1939 5", MUST)
def list_numbers_all_messages(at: Pop3) -> None:
    """LIST has a line for each message, number and size; numbers run from 1, and the sums are those of STAT."""
    wire = at.inside()
    count, octets = _stat(wire)
    scans = [_scan(line) for line in wire.judged_listing("LIST")]
    if [number for number, _ in scans] != list(range(1, count + 1)):
        raise Differs(f"messages 1 to {count}, as STAT says", "LIST", f"{len(scans)} lines")
    if sum(size for _, size in scans) != octets:
        raise Differs(f"{octets} octets in all, as STAT says", "LIST", f"{sum(size for _, size in scans)}")


@pop3("RFC 1939 5", MUST)
def list_of_one_message(at: Pop3) -> None:
    """LIST with a number is answered +OK, the number and the size that LIST says, on that line."""
    wire = at.inside()
    for message in at.mine(wire)[:3]:
        status = wire.ok(f"LIST {message.number}")
        if _scan(status[4:]) != (message.number, message.size):
            raise Differs(f"+OK {message.number} {message.size}", f"LIST {message.number}", shown(status))


@pop3("RFC 1939 5", MUST)
def numbers_that_no_message_has(at: Pop3) -> None:
    """LIST, RETR, DELE, TOP and UIDL of a message that there is not are answered -ERR."""
    wire = at.inside()
    beyond = _stat(wire)[0] + 1
    for verb in ("LIST", "RETR", "DELE", "UIDL"):
        wire.err(f"{verb} {beyond}")
        wire.err(f"{verb} 0")
    wire.err(f"TOP {beyond} 0")
    wire.err("LIST 99999999999999999999")


@pop3("RFC 1939 3", MUST)
def arguments_that_are_none(at: Pop3) -> None:
    """RETR, DELE and TOP without a number, or with something that is none, are answered -ERR."""
    wire = at.inside()
    for line in ("RETR", "DELE", "TOP", "TOP 1", "RETR one", "DELE one", "LIST one", "TOP 1 -1", "TOP 1 few"):
        wire.err(line)


@pop3("RFC 1939 7", MAY)
def uidl_is_known(at: Pop3) -> None:
    """UIDL, which is optional, is implemented."""
    at.inside().judged_listing("UIDL")


@pop3("RFC 1939 7", MUST)
def unique_ids_are_well_formed(at: Pop3) -> None:
    """UIDL has a line for each message: its number, and 1 to 70 characters from 0x21 to 0x7E, for each another."""
    wire = at.inside()
    count, _ = _stat(wire)
    found = [_UNIQUE.fullmatch(line) or _bad(line) for line in wire.listing("UIDL")]
    if [int(match[1]) for match in found] != list(range(1, count + 1)):
        raise Differs(f"messages 1 to {count}, as STAT says", "UIDL", f"{len(found)} lines")
    if len({match[2] for match in found}) < count:
        raise Differs("a unique-id for each", "UIDL", "one that two messages have")


@pop3("RFC 1939 7", MUST)
def unique_id_of_one_message(at: Pop3) -> None:
    """UIDL with a number is answered +OK, the number and the same unique-id, on that line."""
    wire = at.inside()
    for line in wire.listing("UIDL")[:3]:
        status = wire.ok(f"UIDL {line.split()[0].decode()}")
        if status[4:].split() != line.split():
            raise Differs(f"+OK {shown(line)}", f"UIDL {line.split()[0].decode()}", shown(status))


@pop3("RFC 1939 7", MUST)
def unique_ids_stay(at: Pop3) -> None:
    """Unique-ids are the same in the next session, also of messages that were read."""
    wire = at.enter()
    message = at.mine(wire)[0]
    before = wire.listing("UIDL")
    wire.need(f"RETR {message.number}")
    wire.text()
    wire.need("QUIT")
    after = at.enter().listing("UIDL")
    kept = {line.split()[1] for line in after}
    if gone := [line for line in before if line.split()[1] not in kept]:
        raise Differs("the same unique-ids", "UIDL in the next session", f"none for {shown(gone[0])}")


@pop3("RFC 1939 5", MUST)
def noop_says_ok(at: Pop3) -> None:
    """NOOP is answered +OK."""
    at.inside().ok("NOOP")


def _stat(wire: Pop3Wire) -> tuple[int, int]:
    status = wire.ok("STAT")
    if not (match := _STAT.fullmatch(status)):
        raise Differs("+OK number octets", "STAT", shown(status))
    return int(match[1]), int(match[2])


def _scan(line: bytes) -> tuple[int, int]:
    if not (match := _SCAN.fullmatch(line)):
        raise Differs("number octets", "LIST", shown(line))
    return int(match[1]), int(match[2])


def _bad(line: bytes) -> re.Match[bytes]:
    raise Differs("number unique-id", "UIDL", shown(line))
