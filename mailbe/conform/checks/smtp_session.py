"""How a session begins and ends (RFC 5321 3.1, 3.2, 3.8, 4.1.1.1, 4.1.1.10)."""

from __future__ import annotations

import re

from mailbe.address import is_domain
from mailbe.conform.rules import MUST, SHOULD, Awaited, Differs, Steps, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.smtp import SmtpWire
from mailbe.conform.wire import Lost, shown

_KEYWORD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*(?: [!-~]+)*")


@smtp("RFC 5321 4.2", MUST)
def greeting_names_the_host(at: Smtp) -> None:
    """The greeting is 220 and begins with the server's domain or address."""
    wire = SmtpWire(at.site.route, at.dialogue)
    reply = wire.reply()
    wire.quit()
    _check_host(reply.code == "220", reply.lines[0], "the connection", str(reply), "220 and the server's domain")


@smtp("RFC 5321 4.1.1.1", MUST)
def ehlo_is_known(at: Smtp) -> None:
    """EHLO is answered 250, and the first line begins with the server's domain."""
    wire = at.connect()
    reply = wire.want("250", f"EHLO {wire.literal}")
    _check_host(True, reply.lines[0], "EHLO", str(reply), "250 and the server's domain")


@smtp("RFC 5321 4.1.1.1", MUST)
def ehlo_keywords_are_well_formed(at: Smtp) -> None:
    """Each further line of the reply to EHLO is a keyword, and parameters behind one space each."""
    wire = at.connect()
    for line in wire.need("250", f"EHLO {wire.literal}").lines[1:]:
        if not _KEYWORD.fullmatch(line):
            raise Differs("keyword *(SP parameter)", "EHLO", shown(line))


@smtp("RFC 5321 3.2", MUST)
def helo_gets_no_extensions(at: Smtp) -> None:
    """HELO is known, and its reply has one line: no extensions are offered to who did not ask."""
    wire = at.connect()
    reply = wire.want("250", f"HELO {wire.literal}")
    if len(reply.lines) > 1 and any(_KEYWORD.fullmatch(line) for line in reply.lines[1:]):
        raise Differs("250 without a list of extensions", "HELO", str(reply))


@smtp("RFC 5321 4.1.4", MUST)
def ehlo_with_a_name_that_resolves_to_nothing(at: Smtp) -> None:
    """Mail is not refused because the name in EHLO does not belong to the client's address."""
    wire = at.connect()
    wire.want("250", "EHLO client.invalid")
    if at.site.why_not or at.site.secured:
        return
    wire.want("250", at.mail())
    wire.want("250", at.rcpt())


@smtp("RFC 5321 4.1.3", MUST)
def ehlo_with_address_literals(at: Smtp) -> None:
    """EHLO takes an address literal, of IPv4 and of IPv6."""
    wire = at.connect()
    for literal in ("[192.0.2.1]", "[IPv6:2001:db8::1]"):
        wire.want("250", f"EHLO {literal}")


@smtp("RFC 5321 4.1.1.10", MUST)
def quit_says_221_and_hangs_up(at: Smtp) -> None:
    """QUIT is answered 221, and then the server closes the connection."""
    wire = at.hello()
    wire.want("221", "QUIT")
    wire.check_end()


@smtp("RFC 5321 4.1.1.10", MUST)
def quit_in_a_transaction(at: Smtp) -> None:
    """QUIT is taken within a transaction."""
    at.addressed().want("221", "QUIT")


@smtp("RFC 5321 4.1.1.10", MUST)
def quit_before_ehlo(at: Smtp) -> None:
    """QUIT is taken at any time, before EHLO as well."""
    at.connect().want("221", "QUIT")


@smtp("RFC 5321 3.8", MUST)
def unknown_commands_do_not_end_the_session(at: Smtp) -> None:
    """The connection is not closed for a command that is not understood."""
    wire = at.hello()
    for line in ("XYZZY", "FNORD something", "NOOP"):
        try:
            wire.say(line)
        except Lost as error:
            raise Differs("a reply, and the session goes on", "XYZZY", str(error)) from error


@smtp("RFC 5321 4.1.1.10", MUST)
def a_letter_that_is_cut_off_is_not_delivered(at: Smtp) -> Steps:
    """A connection that is lost in the midst of a letter leaves nothing of it."""
    letter = at.letter()
    wire = at.addressed()
    wire.need("354", "DATA")
    wire.send(letter.octets)
    wire.close()
    if found := (yield Awaited(letter.token, 0)):
        raise Differs(
            "nothing", "a letter without its end", f"a letter of {len(found[0].octets)} octets in the maildrop"
        )


@smtp("RFC 5321 3.8", MUST)
def a_transaction_that_is_cut_off_leaves_the_server_well(at: Smtp) -> None:
    """A client that goes without QUIT keeps nobody from being served."""
    at.begun().close()
    at.hello().want("250", "NOOP")


@smtp("RFC 5321 4.2", MUST)
def replies_are_well_formed(at: Smtp) -> None:
    """Replies are lines of three digits, a space or hyphen, and at most 512 octets, each ended by CRLF."""
    wire = at.hello()
    for line in ("NOOP", "XYZZY", "VRFY", "HELP", "MAIL", "RCPT TO:<>", f"MAIL FROM:<{'x' * 300}@conform.invalid>"):
        try:
            wire.say(line)
        except Lost as error:
            if "no SMTP" in str(error):
                raise Differs("an SMTP reply", line, str(error)) from error
            raise
    if at.dialogue.oddities:
        raise Differs("lines of the form of 4.2", "several commands", at.dialogue.oddities[0])


@smtp("RFC 5321 4.1.4", SHOULD)
def some_commands_need_no_ehlo(at: Smtp) -> None:
    """NOOP, RSET, HELP and VRFY are processed normally before EHLO: not answered 503."""
    wire = at.connect()
    for line in ("NOOP", "RSET", "HELP", f"VRFY {at.me}"):
        reply = wire.say(line)
        if reply.code == "503":
            raise Differs("another code than 503", line, str(reply))


def _check_host(good: bool, text: bytes, sent: str, got: str, wanted: str) -> None:
    name = text.decode("ascii", "replace").split(" ")[0]
    if not (good and is_domain(name)):
        raise Differs(wanted, sent, got)
