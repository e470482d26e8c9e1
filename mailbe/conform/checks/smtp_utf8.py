"""Addresses and headers in UTF-8 (RFC 6531)."""

from __future__ import annotations

import re

from mailbe.conform.rules import MAY, MUST, SHOULD, Awaited, Differs, Skip, Steps, Unclear, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.wire import shown

_NAME = "grüße-περίπου"


@smtp("RFC 6531 3.1", MUST, offers="SMTPUTF8")
def smtputf8_is_taken(at: Smtp) -> None:
    """MAIL takes SMTPUTF8, alone and with BODY=8BITMIME."""
    wire = at.ready()
    for parameters in ("SMTPUTF8", "smtputf8", "BODY=8BITMIME SMTPUTF8"):
        wire.want("250", at.mail(parameters))
        wire.need("250", "RSET")


@smtp("RFC 6531 3.4", MUST, offers="SMTPUTF8")
def smtputf8_has_no_value(at: Smtp) -> None:
    """SMTPUTF8 with a value is refused."""
    at.ready().want("5", at.mail("SMTPUTF8=yes"), "501")


@smtp("RFC 6531 3.2", MUST, offers="SMTPUTF8")
def mailboxes_in_utf8_are_read(at: Smtp) -> None:
    """With SMTPUTF8 a recipient in UTF-8 is no mistake in itself (who has no such mailbox says so)."""
    wire = at.begun("SMTPUTF8")
    line = f"RCPT TO:<{_NAME}@{at.me.rpartition('@')[2]}>"
    reply = wire.say(line)
    if reply.among("500 501") or (reply.code == "553" and b".6.7" in reply.text):
        raise Differs("any reply but 500, 501 or 553 5.6.7", line, str(reply))


# Who says so breaks a rule (RFC 5321 4.1.2); that a server has to refuse it, stands nowhere.
@smtp("RFC 6531 3.5", MAY)
def mailboxes_in_utf8_without_smtputf8(at: Smtp) -> None:
    """Without SMTPUTF8 a recipient in UTF-8 is refused: 501, or 553 where the extension is known."""
    at.begun().want("4 5", f"RCPT TO:<{_NAME}@{at.me.rpartition('@')[2]}>", "501, or 553 with 5.6.7")


@smtp("RFC 6531 3.1", MUST, offers="SMTPUTF8")
def headers_in_utf8_pass(at: Smtp) -> Steps:
    """A letter whose header is in UTF-8 is taken; its body passes unchanged."""
    body = "Grüße.\r\n".encode()
    fields = "X-Conform: grüße\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    letter = at.letter(body, fields.encode())
    at.send(letter, "BODY=8BITMIME SMTPUTF8")
    (stored,) = yield Awaited(letter.token)
    if stored.body == letter.body:
        return
    if stored.field(b"Content-Transfer-Encoding") != [b"8bit"]:
        raise Unclear("POP3 gives a plainer form of it to who has not asked for UTF-8 (RFC 6856 2.1)")
    raise Differs(shown(letter.body), "a letter with SMTPUTF8", shown(stored.body))


@smtp("RFC 6531 3.7.3", SHOULD, offers="SMTPUTF8")
def received_tells_of_utf8(at: Smtp) -> Steps:
    """The Received field of a letter with SMTPUTF8 says: with UTF8SMTP, and S in TLS, and A after log-in."""
    letter = at.letter()
    at.send(letter, "SMTPUTF8")
    (stored,) = yield Awaited(letter.token)
    stamps = stored.field(b"Received")
    if not stamps or not (match := re.search(rb"\swith\s+([A-Za-z0-9]+)", stamps[-1])):
        raise Skip("there is no with clause")
    tls = at.site.route.implicit or (at.site.secured and "STARTTLS" in at.site.plain)
    wanted = f"UTF8SMTP{'S' * tls}{'A' * at.site.secured}"
    if match[1].decode().upper() != wanted:
        raise Differs(f"with {wanted}", "a letter with SMTPUTF8", shown(match[0].strip()))


@smtp("RFC 6531 3.7.4.2", MUST, offers="SMTPUTF8")
def vrfy_takes_smtputf8(at: Smtp) -> None:
    """VRFY takes the parameter SMTPUTF8."""
    at.ready().want("250 251 252 55", f"VRFY {at.me} SMTPUTF8", "what VRFY answers without it")
