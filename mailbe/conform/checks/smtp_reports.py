"""Delivery status notifications (RFC 3461, RFC 3464). All reports come to ourselves."""

from __future__ import annotations

import re

from mailbe.conform.rules import MUST, Awaited, Differs, Steps, Unclear, smtp
from mailbe.conform.sender import Smtp

_ACTION = re.compile(rb"^Action:[ \t]*(?:delivered|relayed|expanded)", re.IGNORECASE | re.MULTILINE)


@smtp("RFC 3461 4.1", MUST, offers="DSN")
def notify_is_taken(at: Smtp) -> None:
    """RCPT takes NOTIFY: NEVER, or a list of SUCCESS, FAILURE and DELAY."""
    wire = at.begun()
    for value in ("NEVER", "SUCCESS", "SUCCESS,FAILURE", "FAILURE,DELAY", "success,failure,delay"):
        wire.want("250", at.rcpt(f"NOTIFY={value}"))


@smtp("RFC 3461 4.1", MUST, offers="DSN")
def notify_that_is_none(at: Smtp) -> None:
    """Any other NOTIFY is refused, and NEVER together with others."""
    wire = at.begun()
    for value in ("ALWAYS", "NEVER,SUCCESS"):
        wire.want("5", at.rcpt(f"NOTIFY={value}"), "501")


@smtp("RFC 3461 4.2", MUST, offers="DSN")
def orcpt_is_taken(at: Smtp) -> None:
    """RCPT takes ORCPT, a type and an address in xtext."""
    wire = at.begun()
    wire.want("250", at.rcpt("ORCPT=rfc822;somebody+2Belse@example.invalid"))
    wire.want("250", at.rcpt("NOTIFY=FAILURE ORCPT=rfc822;somebody@example.invalid"))


@smtp("RFC 3461 4.3", MUST, offers="DSN")
def ret_and_envid_are_taken(at: Smtp) -> None:
    """MAIL takes RET=FULL, RET=HDRS, and ENVID in xtext."""
    wire = at.ready()
    for parameters in ("RET=FULL", "RET=HDRS", "ret=hdrs ENVID=conform+2B1", "ENVID=conform"):
        wire.want("250", at.mail(parameters))
        wire.need("250", "RSET")


@smtp("RFC 3461 4.3", MUST, offers="DSN")
def ret_that_is_none(at: Smtp) -> None:
    """Any other RET is refused."""
    at.ready().want("5", at.mail("RET=SOME"), "501")


@smtp("RFC 3461 4.1", MUST, offers="DSN")
def success_is_reported(at: Smtp) -> Steps:
    """With NOTIFY=SUCCESS a report tells that the letter was delivered, with the ENVID that was given."""
    letter = at.letter()
    wire = at.begun(f"RET=HDRS ENVID={letter.token}")
    wire.need("250", at.rcpt("NOTIFY=SUCCESS"))
    at.taken(at.deliver(wire, letter))
    found = yield Awaited(letter.token, 2)
    reports = [stored for stored in found if b"multipart/report" in stored.header.lower()]
    if not reports:
        raise Unclear("two letters came, and none of them is a report")
    if not _ACTION.search(reports[0].octets):
        raise Differs("Action: delivered", "NOTIFY=SUCCESS", "a report without it")
    if b"original-envelope-id: " + letter.token.encode() not in reports[0].octets.lower():
        raise Differs(f"Original-Envelope-Id: {letter.token}", "ENVID", "a report without it")
    if (path := reports[0].field(b"Return-Path")) and path[0] != b"<>":
        raise Differs("the null reverse-path", "NOTIFY=SUCCESS", path[0].decode("ascii", "replace"))


@smtp("RFC 3461 4.1", MUST, offers="DSN")
def never_is_obeyed(at: Smtp) -> Steps:
    """With NOTIFY=NEVER no report comes."""
    letter = at.letter()
    wire = at.begun(f"ENVID={letter.token}")
    wire.need("250", at.rcpt("NOTIFY=NEVER"))
    at.taken(at.deliver(wire, letter))
    found = yield Awaited(letter.token)
    if len(found) > 1:
        raise Differs("the letter alone", "NOTIFY=NEVER", f"{len(found)} letters")
