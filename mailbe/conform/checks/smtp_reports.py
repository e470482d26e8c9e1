"""Delivery status notifications (RFC 3461). All reports come to ourselves, and are deleted with the letters.

Each transaction that asks for one has a token in its ENVID: by it the report is found, whatever else stands in it.
"""

from __future__ import annotations

import email
import re
from collections.abc import Generator, Sequence
from email.message import Message

from mailbe.conform.letters import FIELD, Letter, Stored
from mailbe.conform.rules import MUST, SHOULD, Awaited, Differs, Skip, Steps, Unclear, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.wire import shown

ENVID_SIZE, ORCPT_SIZE = 100, 500  # characters with the keyword, RFC 3461 5.4
_DELIVERED = ("delivered", "relayed", "expanded")  # what becomes of a letter that is well, RFC 3461 5.2.2, 5.2.3, 5.2.7
_STATUS = re.compile(r"2\.[0-9]{1,3}\.[0-9]{1,3}(?:\s.*)?", re.DOTALL)
_FIELDS = "message/delivery-status"


@smtp("RFC 3461 5.1", MUST, offers="DSN")
def notify_is_taken(at: Smtp) -> None:
    """RCPT takes NOTIFY: NEVER, or a list of SUCCESS, FAILURE and DELAY."""
    wire = at.begun()
    wire.need("250", at.rcpt())
    for value in ("NEVER", "SUCCESS", "SUCCESS,FAILURE", "FAILURE,DELAY", "success,failure,delay"):
        wire.want("250", at.rcpt(f"NOTIFY={value}"))


@smtp("RFC 3461 5.1", SHOULD, offers="DSN")
def notify_that_is_none(at: Smtp) -> None:
    """Any other NOTIFY is answered 501, and so is NEVER together with others."""
    wire = at.begun()
    for value in ("ALWAYS", "NEVER,SUCCESS"):
        wire.want("501", at.rcpt(f"NOTIFY={value}"))


@smtp("RFC 3461 5.1", MUST, offers="DSN")
def orcpt_is_taken(at: Smtp) -> None:
    """RCPT takes ORCPT, a type and an address in xtext, alone and with NOTIFY."""
    wire = at.begun()
    wire.need("250", at.rcpt())
    encoded = f"+{ord(at.me[0]):02X}{_xtext(at.me[1:])}"
    for parameters in (f"ORCPT=rfc822;{encoded}", f"NOTIFY=FAILURE ORCPT=rfc822;{encoded}"):
        wire.want("250", at.rcpt(parameters))


@smtp("RFC 3461 5.1", SHOULD, offers="DSN")
def orcpt_that_is_none(at: Smtp) -> None:
    """An ORCPT without a type, or whose address is no xtext, is answered 501."""
    wire = at.begun()
    for value in (_xtext(at.me), f"rfc822;+GG{_xtext(at.me)}"):
        wire.want("501", at.rcpt(f"ORCPT={value}"))


@smtp("RFC 3461 5.1", MUST, offers="DSN")
def ret_and_envid_are_taken(at: Smtp) -> None:
    """MAIL takes RET=FULL, RET=HDRS, and ENVID in xtext."""
    wire = at.ready()
    for parameters in ("RET=FULL", "RET=HDRS", "ret=hdrs ENVID=conform+2B1", "ENVID=conform"):
        wire.want("250", at.mail(parameters))
        wire.need("250", "RSET")


@smtp("RFC 3461 5.1", MUST, offers="DSN")
def ret_that_is_none(at: Smtp) -> None:
    """Any other RET is answered 501."""
    at.ready().want("501", at.mail("RET=SOME"))


@smtp("RFC 3461 5.1", MUST, offers="DSN")
def envid_that_is_none(at: Smtp) -> None:
    """An ENVID that is no xtext is answered 501."""
    at.ready().want("501", at.mail("ENVID=conform+GG"))


# Section 5.1 has a MUST for those of MAIL, where 4.5 has a SHOULD for all of them.
@smtp("RFC 3461 4.5", SHOULD, offers="DSN")
def parameters_that_come_twice(at: Smtp) -> None:
    """RET or ENVID twice in one MAIL, and NOTIFY or ORCPT twice in one RCPT, are answered 501."""
    wire = at.ready()
    wire.want("501", at.mail("RET=HDRS RET=HDRS"))
    wire.want("501", at.mail("ENVID=conform ENVID=conform"))
    wire.need("250", at.mail())
    wire.want("501", at.rcpt("NOTIFY=NEVER NOTIFY=NEVER"))
    orcpt = f"ORCPT=rfc822;{_xtext(at.me)}"
    wire.want("501", at.rcpt(f"{orcpt} {orcpt}"))


@smtp("RFC 3461 5.4", MUST, offers="DSN")
def parameters_as_long_as_they_may_be(at: Smtp) -> None:
    """An ENVID of 100 characters is taken, and an ORCPT of 500 together with the longest NOTIFY."""
    wire = at.ready()
    wire.want("250", at.mail("ENVID=".ljust(ENVID_SIZE, "x")), f"250, for {ENVID_SIZE} characters")
    wire.need("250", at.rcpt())
    orcpt = "ORCPT=rfc822;".ljust(ORCPT_SIZE, "x")
    wire.want("250", at.rcpt(f"NOTIFY=SUCCESS,FAILURE,DELAY {orcpt}"), f"250, for {ORCPT_SIZE} characters")
    wire.need("250", "RSET")


# What nobody may report comes first: a report of it that comes all the same is there when those of the others are.
@smtp("RFC 3461 5.2.3", MUST, offers="DSN")
def never_is_obeyed(at: Smtp) -> Steps:
    """With NOTIFY=NEVER no report comes."""
    letter = at.letter()
    _send(at, letter, "NOTIFY=NEVER")
    found = yield Awaited(letter.token)
    if len(found) > 1:
        raise Differs("the letter alone", "NOTIFY=NEVER", f"{len(found)} letters")


@smtp("RFC 3461 5.2.3", MUST, offers="DSN")
def nobody_hears_of_success_unasked(at: Smtp) -> Steps:
    """With NOTIFY=FAILURE, and without NOTIFY, no report comes of a letter that was delivered."""
    letter = at.letter()
    _send(at, letter, "NOTIFY=FAILURE")
    _send(at, letter)
    found = yield Awaited(letter.token, 2)
    if len(found) > 2:
        raise Differs("the two letters alone", "NOTIFY=FAILURE, and no NOTIFY", f"{len(found)} letters")


@smtp("RFC 3461 5.2.3", MUST, offers="DSN")
def success_is_reported(at: Smtp) -> Steps:
    """With NOTIFY=SUCCESS a report tells that the letter was delivered, or relayed or expanded."""
    _, recipient = _fields((yield from _report(at)))
    if (action := recipient.get("Action", "")).strip().lower() not in _DELIVERED:
        raise Differs("Action: delivered", "NOTIFY=SUCCESS", f"Action: {action}")


@smtp("RFC 3461 6.2", MUST, offers="DSN")
def reports_are_multipart_reports(at: Smtp) -> Steps:
    """A report is a multipart/report of report-type delivery-status, whose second part is message/delivery-status."""
    report = email.message_from_bytes((yield from _report(at)).octets)
    kind, of = report.get_content_type(), str(report.get_param("report-type", "")).lower()
    if (kind, of) != ("multipart/report", "delivery-status"):
        got = f"Content-Type: {kind}; report-type={of}"
        raise Differs("Content-Type: multipart/report; report-type=delivery-status", "NOTIFY=SUCCESS", got)
    parts = [part.get_content_type() for part in report.get_payload() if isinstance(part, Message)]
    if len(parts) < 2 or parts[1] != _FIELDS:
        raise Differs(f"{_FIELDS} as the second part", "NOTIFY=SUCCESS", ", ".join(parts) or "no parts")


@smtp("RFC 3461 6.1", MUST, offers="DSN")
def reports_come_from_nobody(at: Smtp) -> Steps:
    """The reverse-path of a report is null."""
    report = yield from _report(at)
    if not (paths := report.field(b"Return-Path")):
        raise Skip("the report has no Return-Path that would tell")
    if paths[0] != b"<>":
        raise Differs("Return-Path: <>", "NOTIFY=SUCCESS", f"Return-Path: {shown(paths[0])}")


@smtp("RFC 3461 6.3", MUST, offers="DSN")
def reports_name_the_envelope(at: Smtp) -> Steps:
    """A report has the ENVID as Original-Envelope-Id, its xtext decoded."""
    letter = at.letter()
    about, _ = _fields((yield from _report(at, letter)))
    wanted = f"{letter.token}+1"
    if (got := about.get("Original-Envelope-Id", "")).strip() != wanted:
        raise Differs(f"Original-Envelope-Id: {wanted}", _envid(letter), got or "no such field")


@smtp("RFC 3461 6.3", MUST, offers="DSN")
def reports_have_the_fields_that_they_must_have(at: Smtp) -> Steps:
    """A report has Reporting-MTA, Final-Recipient with its type, Action, and a Status of class 2."""
    about, recipient = _fields((yield from _report(at)))
    if ";" not in (got := about.get("Reporting-MTA", "")):
        raise Differs("Reporting-MTA: type; name", "NOTIFY=SUCCESS", got or "no such field")
    if ";" not in (got := recipient.get("Final-Recipient", "")):
        raise Differs("Final-Recipient: rfc822; address", "NOTIFY=SUCCESS", got or "no such field")
    if not recipient.get("Action"):
        raise Differs("Action: delivered", "NOTIFY=SUCCESS", "no such field")
    if not _STATUS.fullmatch((got := recipient.get("Status", "")).strip()):
        raise Differs("Status: 2.y.z", "NOTIFY=SUCCESS", got or "no such field")


@smtp("RFC 3461 6.3", MUST, offers="DSN")
def reports_name_the_original_recipient(at: Smtp) -> Steps:
    """Where ORCPT was given, a report has it as Original-Recipient."""
    orcpt = f"rfc822;{_xtext(at.me)}"
    _, recipient = _fields((yield from _report(at, rcpt=f"ORCPT={orcpt}")))
    got = recipient.get("Original-Recipient", "")
    # That its xtext is decoded is said of ENVID alone.
    if _address(got) not in (at.me, _xtext(at.me)):
        raise Differs(f"Original-Recipient: rfc822;{at.me}", f"ORCPT={orcpt}", got or "no such field")


@smtp("RFC 3461 6.3", MUST, offers="DSN")
def reports_name_no_other_original_recipient(at: Smtp) -> Steps:
    """Where no ORCPT was given, there is no Original-Recipient, but for one with RCPT's address, as a relay may add."""
    _, recipient = _fields((yield from _report(at)))
    got = recipient.get("Original-Recipient")
    if got is not None and _address(got) not in (at.me, _xtext(at.me)):  # RFC 3461 5.2.1 (d)
        raise Differs("no Original-Recipient", "NOTIFY=SUCCESS, without ORCPT", got)


@smtp("RFC 3461 6.2", SHOULD, offers="DSN")
def reports_of_success_have_headers_alone(at: Smtp) -> Steps:
    """A report of success returns the letter's header and not its body, also with RET=FULL."""
    letter = at.letter(b"What nobody needs to have back.\r\n")
    report = yield from _report(at, letter, mail="RET=FULL")
    if letter.body.strip() in report.octets:
        raise Differs("the header alone", "NOTIFY=SUCCESS, RET=FULL", "the body, too")
    if FIELD + b": " + letter.token.encode() not in report.octets:
        raise Differs("the letter's header", "NOTIFY=SUCCESS", "a report without it")


def _report(
    at: Smtp, letter: Letter | None = None, mail: str = "", rcpt: str = ""
) -> Generator[Awaited, Sequence[Stored], Stored]:
    """Send a letter; returns the report that it was delivered."""
    letter = letter or at.letter()
    _send(at, letter, f"NOTIFY=SUCCESS {rcpt}".rstrip(), mail, comes=2)
    found = yield Awaited(letter.token, 2)
    reports = [stored for stored in found if not stored.field(FIELD)]
    if not reports:
        raise Unclear("the letter came twice, and no report")
    return reports[0]


def _send(at: Smtp, letter: Letter, rcpt: str = "", mail: str = "", comes: int = 1) -> None:
    wire = at.begun(f"{_envid(letter)} {mail}".rstrip())
    wire.need("250", at.rcpt(rcpt))
    at.taken(at.deliver(wire, letter, comes))
    wire.quit()


def _envid(letter: Letter) -> str:
    return f"ENVID={letter.token}+2B1"


def _fields(report: Stored) -> tuple[Message, Message]:
    """The fields about the letter, and those about its first recipient.

    :raises Unclear:
    """
    for part in email.message_from_bytes(report.octets).walk():
        blocks = part.get_payload()
        if part.get_content_type() == _FIELDS and isinstance(blocks, list) and len(blocks) > 1:
            about, recipient = blocks[:2]
            assert isinstance(about, Message)
            assert isinstance(recipient, Message)
            return about, recipient
    raise Unclear(f"a report came in which no part is a {_FIELDS} with a recipient")


def _address(value: str) -> str:
    """What stands behind the type in a field such as ``rfc822; somebody@example.org``."""
    return value.partition(";")[2].strip()


def _xtext(text: str) -> str:
    """ASCII as RFC 3461 4 has it in a parameter."""
    return "".join(char if "!" <= char <= "~" and char not in "+=" else f"+{ord(char):02X}" for char in text)
