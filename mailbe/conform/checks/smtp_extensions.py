"""Small extensions: status codes (RFC 2034), priorities (RFC 6710) and required TLS (RFC 8689)."""

from __future__ import annotations

import re

from mailbe.conform.rules import MAY, MUST, Differs, Skip, Unclear, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.smtp import Reply, SmtpWire

_STATUS = re.compile(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: .*)?", re.DOTALL)


@smtp("RFC 2034 4", MUST, offers="ENHANCEDSTATUSCODES")
def replies_have_status_codes(at: Smtp) -> None:
    """Every line of a 2yz, 4yz or 5yz reply, but to HELO and EHLO, begins with a status code of the same class."""
    wire = at.ready()
    lines = ["NOOP", "XYZZY", at.rcpt(), "DATA", at.mail("XCONFORM=1"), at.mail(), "RCPT TO:<>", at.rcpt(), "RSET"]
    for line in [*lines, f"VRFY {at.me}", "HELP", "RSET now", "QUIT"]:
        _check_status(wire, line, wire.say(line))


@smtp("RFC 2034 4", MUST, offers="ENHANCEDSTATUSCODES")
def a_letter_taken_has_a_status_code(at: Smtp) -> None:
    """The reply to a letter begins with a status code of the same class."""
    letter = at.letter()
    wire = at.addressed()
    _check_status(wire, "a letter", at.deliver(wire, letter))


def _check_status(wire: SmtpWire, line: str, reply: Reply) -> None:
    if reply.code[0] not in "245":
        return
    for text in reply.lines:
        if not (match := _STATUS.fullmatch(text)) or match[1].decode() != reply.code[0]:
            raise Differs(f"{reply.code} {reply.code[0]}.x.y", line, str(reply))


@smtp("RFC 6710 3", MUST, offers="MT-PRIORITY")
def priorities_are_taken(at: Smtp) -> None:
    """MAIL takes MT-PRIORITY from -9 to 9."""
    wire = at.ready()
    for value in (-9, 0, 9):
        wire.want("250", at.mail(f"MT-PRIORITY={value}"))
        wire.need("250", "RSET")


@smtp("RFC 6710 3", MUST, offers="MT-PRIORITY")
def priorities_that_are_none(at: Smtp) -> None:
    """An MT-PRIORITY that is not from -9 to 9 is refused."""
    wire = at.ready()
    for value in ("10", "-10", "high", "+3"):
        wire.want("5", at.mail(f"MT-PRIORITY={value}"), "501")


@smtp("RFC 8689 2", MAY)
def requiretls_is_offered_in_tls_alone(at: Smtp) -> None:
    """REQUIRETLS is not offered before TLS has begun."""
    if at.site.route.implicit:
        raise Skip("here TLS begins with the first octet")
    if "REQUIRETLS" in at.site.plain:
        raise Differs("no REQUIRETLS", "EHLO without TLS", "REQUIRETLS")


@smtp("RFC 8689 2", MUST)
def requiretls_is_taken(at: Smtp) -> None:
    """Where REQUIRETLS is offered, MAIL takes it; it has no value."""
    wire = at.in_tls()
    offers = wire.hello()
    at.needs("REQUIRETLS", offers)
    if at.site.why_not:
        raise Unclear(at.site.why_not)
    if at.site.secured:
        wire = at.ready()
    wire.want("250", at.mail("REQUIRETLS"))
    wire.need("250", "RSET")
    wire.want("5", at.mail("REQUIRETLS=1"), "501")


@smtp("RFC 3030 3", MUST, offers="BINARYMIME")
def binarymime_comes_with_chunking(at: Smtp) -> None:
    """Who offers BINARYMIME offers CHUNKING."""
    if "CHUNKING" not in at.site.offers:
        raise Differs("CHUNKING", "EHLO", "BINARYMIME without it")


@smtp("RFC 6531 3.1", MUST, offers="SMTPUTF8")
def smtputf8_comes_with_8bitmime(at: Smtp) -> None:
    """Who offers SMTPUTF8 offers 8BITMIME."""
    if "8BITMIME" not in at.site.offers:
        raise Differs("8BITMIME", "EHLO", "SMTPUTF8 without it")
