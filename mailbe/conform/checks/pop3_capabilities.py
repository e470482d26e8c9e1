"""CAPA, and each capability as good as its word (RFC 2449, RFC 3206, RFC 6856)."""

from __future__ import annotations

import re

from mailbe.conform.door import opened
from mailbe.conform.maildrop import Pop3
from mailbe.conform.pop3 import Capabilities, Pop3Wire, positive
from mailbe.conform.rules import MAY, MUST, Differs, Skip, pop3
from mailbe.conform.wire import shown

_LINE = re.compile(rb"[!-.0-9:-~][!-.0-9:-~]*(?: [!-~]+)*")
_CODE = re.compile(rb"(?:\+OK|-ERR) \[[A-Z0-9!#$%&'*+,:;<=>?@^_`|~.-]+(?:/[A-Z0-9!#$%&'*+,:;<=>?@^_`|~.-]+)*\].*", re.I)
_CHANGES = ("STLS", "SASL", "LOGIN-DELAY", "EXPIRE", "IMPLEMENTATION", "UTF8")
"""Those that may differ after log-in, or are of no use then; see the RFC of each."""


@pop3("RFC 2449 5", MAY)
def capa_is_known(at: Pop3) -> None:
    """CAPA is answered with a list, before log-in and after it."""
    for wire in (at.connect(), at.inside()):
        wire.ok("CAPA")
        wire.text()


@pop3("RFC 2449 3", MUST)
def capabilities_are_well_formed(at: Pop3) -> None:
    """Each line of CAPA is a name, and parameters behind one space each."""
    for line in _listing(at.connect()):
        if not _LINE.fullmatch(line):
            raise Differs("name *(SP parameter)", "CAPA", shown(line))


@pop3("RFC 2449 5", MUST)
def capabilities_stay_after_log_in(at: Pop3) -> None:
    """What is offered before log-in is offered after it, but for what has no meaning then."""
    before, after = _capabilities(at.safe()), _capabilities(at.inside())
    lost = [name for name in before if name not in after and name not in (*_CHANGES, "USER")]
    if lost:
        raise Differs(lost[0], "CAPA after log-in", "a list without it")


@pop3("RFC 2449 6.1", MUST, offers="TOP")
def top_is_as_good_as_its_word(at: Pop3) -> None:
    """If TOP is offered, it works."""
    wire = at.inside()
    wire.ok(f"TOP {at.mine(wire)[0].number} 0")
    wire.text()


@pop3("RFC 2449 6.8", MUST, offers="UIDL")
def uidl_is_as_good_as_its_word(at: Pop3) -> None:
    """If UIDL is offered, it works."""
    at.inside().judged_listing("UIDL")


@pop3("RFC 2449 6.2", MUST, offers="USER")
def user_is_as_good_as_its_word(at: Pop3) -> None:
    """If USER is offered, it is answered +OK."""
    at.safe().ok(f"USER {at.door.login.user}")


@pop3("RFC 2449 6.4", MUST)
def response_codes_are_announced(at: Pop3) -> None:
    """A text behind -ERR that begins with a bracket is a response code, and RESP-CODES says that there are some."""
    wire = at.connect()
    for line in ("RETR 1", "XYZZY", "USER"):
        status = wire.say(line)
        if not status[5:].startswith(b"["):
            continue
        if "RESP-CODES" not in at.drop.plain:
            raise Differs("RESP-CODES in CAPA, or no bracket", line, shown(status))
        if not _CODE.fullmatch(status):
            raise Differs("-ERR [code]", line, shown(status))


@pop3("RFC 2449 6.6", MUST, offers="PIPELINING")
def a_group_is_answered_in_order(at: Pop3) -> None:
    """If PIPELINING is offered, several commands in one segment are answered one by one, in their order."""
    wire = at.inside()
    number = at.mine(wire)[0].number
    wire.send(f"NOOP\r\nSTAT\r\nLIST {number}\r\nXYZZY\r\nRETR {number}\r\nNOOP\r\n".encode())
    for line, good in (
        ("NOOP", True),
        ("STAT", True),
        ("LIST", True),
        ("XYZZY", False),
        ("RETR", True),
        ("NOOP", True),
    ):
        status = wire.status()
        if positive(status) != good:
            raise Differs("+OK" if good else "-ERR", f"{line}, in a group", shown(status))
        if line == "RETR":
            wire.text()


@pop3("RFC 2449 6.6", MUST, offers="PIPELINING")
def a_log_in_in_one_segment(at: Pop3) -> None:
    """If PIPELINING is offered, USER, PASS and what follows in one segment are answered one by one."""
    if "USER" not in at.drop.capabilities:
        raise Skip("USER is not offered")
    at.door.wait()
    wire = at.safe()
    login = at.door.login
    group = f"USER {login.user}\r\nPASS {login.password}\r\nSTAT\r\nQUIT\r\n".encode()
    wire.send(group, "USER, PASS, STAT and QUIT in one segment")
    for line in ("USER", "PASS", "STAT", "QUIT"):
        if not opened(status := wire.status()):
            raise Differs("+OK", f"{line}, in a group", shown(status))


@pop3("RFC 2449 6.7", MUST, offers="EXPIRE")
def expire_is_well_formed(at: Pop3) -> None:
    """EXPIRE has a number of days or NEVER, and USER behind it where it may differ."""
    words = at.needs("EXPIRE")
    good = words and (words[0].upper() == "NEVER" or words[0].isdecimal())
    if not good or [word.upper() for word in words[1:]] not in ([], ["USER"]):
        raise Differs("EXPIRE (days | NEVER) [USER]", "CAPA", f"EXPIRE {' '.join(words)}")


@pop3("RFC 2449 6.5", MUST, offers="LOGIN-DELAY")
def login_delay_is_well_formed(at: Pop3) -> None:
    """LOGIN-DELAY has a number of seconds, and USER behind it where it may differ."""
    words = at.needs("LOGIN-DELAY")
    if not words or not words[0].isdecimal() or [word.upper() for word in words[1:]] not in ([], ["USER"]):
        raise Differs("LOGIN-DELAY seconds [USER]", "CAPA", f"LOGIN-DELAY {' '.join(words)}")


@pop3("RFC 2449 6.9", MUST, offers="IMPLEMENTATION")
def implementation_says_something(at: Pop3) -> None:
    """IMPLEMENTATION has a text."""
    if not at.needs("IMPLEMENTATION"):
        raise Differs("IMPLEMENTATION string", "CAPA", "IMPLEMENTATION")


@pop3("RFC 6856 2.1", MUST, offers="UTF8")
def utf8_is_taken_before_log_in(at: Pop3) -> None:
    """UTF8 is answered +OK before log-in, and the log-in goes on."""
    at.door.wait()
    wire = at.safe()
    wire.ok("UTF8")
    status = at.door.log_in(wire)
    if not opened(status):
        raise Differs("+OK", "the log-in after UTF8", shown(status))
    wire.ok("STAT")
    wire.ok("QUIT")


@pop3("RFC 6856 2.1", MUST, offers="UTF8")
def utf8_is_refused_after_log_in(at: Pop3) -> None:
    """UTF8 after log-in is answered -ERR."""
    at.inside().err("UTF8")


@pop3("RFC 6856 2.1", MUST, offers="UTF8")
def letters_in_utf8_for_who_has_not_asked(at: Pop3) -> None:
    """Without UTF8 a letter whose header is in UTF-8 is answered -ERR [UTF8], or comes in ASCII."""
    wire = at.inside()
    number = at.in_utf8(wire)
    status = wire.say(f"RETR {number}")
    if positive(status):
        header = wire.text().partition(b"\r\n\r\n")[0]
        if not header.isascii():
            raise Differs("a header in ASCII, or -ERR [UTF8]", f"RETR {number}", "a header in UTF-8")
    elif not status.upper().startswith(b"-ERR [UTF8]"):
        raise Differs("-ERR [UTF8]", f"RETR {number}", shown(status))


@pop3("RFC 6856 2.1", MUST, offers="UTF8")
def letters_in_utf8_for_who_has_asked(at: Pop3) -> None:
    """After UTF8 a letter whose header is in UTF-8 comes as it is."""
    wire = at.enter(utf8=True)
    number = at.in_utf8(wire)
    wire.ok(f"RETR {number}")
    if "grüße".encode() not in wire.text():
        raise Differs("X-Conform: grüße", f"RETR {number}", "a letter without it")


@pop3("RFC 6856 3", MUST, offers="LANG")
def languages_are_told(at: Pop3) -> None:
    """LANG without an argument lists languages."""
    for wire in (at.connect(), at.inside()):
        wire.ok("LANG")
        if not wire.text():
            raise Differs("a line for each language", "LANG", "an empty list")


@pop3("RFC 6856 3", MUST, offers="LANG")
def languages_can_be_chosen(at: Pop3) -> None:
    """LANG takes *, and each language that it lists; one that it does not know is answered -ERR."""
    wire = at.connect()
    languages = [line.split()[0].decode("ascii", "replace") for line in wire.listing("LANG") if line.split()]
    for tag in ["*", *languages]:
        wire.ok(f"LANG {tag}")
    wire.err("LANG x-conform")


def _listing(wire: Pop3Wire) -> list[bytes]:
    if not positive(wire.say("CAPA")):
        raise Skip("CAPA is not known")
    return wire.text().split(b"\r\n")[:-1]


def _capabilities(wire: Pop3Wire) -> Capabilities:
    if not (found := wire.capa()):
        raise Skip("CAPA is not known")
    return found
