"""The AUTHORIZATION state (RFC 1939 4, 7)."""

from __future__ import annotations

from mailbe.conform import sasl
from mailbe.conform.door import opened
from mailbe.conform.maildrop import Pop3
from mailbe.conform.pop3 import Pop3Wire, positive
from mailbe.conform.rules import MAY, MUST, Differs, Skip, Unclear, pop3
from mailbe.conform.wire import Lost, shown


@pop3("RFC 1939 4", MUST)
def the_greeting_says_ok(at: Pop3) -> None:
    """The greeting is a positive status line."""
    wire = Pop3Wire(at.drop.route, at.dialogue)
    status = wire.status()
    wire.close()
    if not positive(status):
        raise Differs("+OK", "the connection", shown(status))


@pop3("RFC 1939 3", MUST)
def unknown_commands_are_refused(at: Pop3) -> None:
    """A command that is not recognized is answered -ERR, and the session goes on."""
    wire = at.connect()
    wire.err("XYZZY")
    wire.err("XYZZY something")
    wire.ok("QUIT")


@pop3("RFC 1939 3", MUST)
def messages_are_for_who_has_logged_in(at: Pop3) -> None:
    """Before log-in STAT, LIST, RETR, DELE, NOOP, RSET, TOP and UIDL are answered -ERR."""
    for line in ("STAT", "LIST", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 0", "UIDL"):
        wire = at.connect()
        wire.err(line)
        wire.close()


@pop3("RFC 1939 4", MUST)
def quit_before_log_in(at: Pop3) -> None:
    """QUIT before log-in is answered +OK, and the server hangs up."""
    wire = at.connect()
    wire.ok("QUIT")
    wire.check_end()


@pop3("RFC 1939 3", MUST)
def keywords_in_any_case(at: Pop3) -> None:
    """Keywords may be written in lower case."""
    wire = at.connect()
    wire.ok("quit")
    wire = at.enter()
    for line in ("stat", "nOOp", "rset", "Quit"):
        wire.ok(line)


@pop3("RFC 1939 7", MUST)
def user_and_pass_log_in(at: Pop3) -> None:
    """USER and PASS open the maildrop."""
    if at.drop.capabilities and "USER" not in at.drop.capabilities:
        raise Skip("USER is not offered")
    at.door.wait()
    wire = at.safe()
    wire.ok(f"USER {at.door.login.user}")
    status = wire.say(f"PASS {at.door.login.password}", "PASS ****")
    if not opened(status):
        raise Differs("+OK", "PASS", shown(status))
    wire.ok("STAT")
    wire.ok("QUIT")


@pop3("RFC 1939 7", MUST)
def pass_without_user(at: Pop3) -> None:
    """PASS without a USER before it is answered -ERR."""
    at.safe().err("PASS something")


@pop3("RFC 1939 7", MUST)
def a_wrong_password(at: Pop3) -> None:
    """A wrong password is answered -ERR, and afterwards the right one opens the maildrop."""
    if at.drop.capabilities and "USER" not in at.drop.capabilities:
        raise Skip("USER is not offered")
    at.door.wait()
    wire = at.safe()
    if not positive(wire.say(f"USER {at.door.login.user}")):
        raise Unclear("USER is refused")
    status = wire.say(f"PASS {sasl.WRONG}", "PASS, with a wrong password")
    if positive(status):
        raise Differs("-ERR", "PASS, with a wrong password", shown(status))
    at.door.refused = status
    # The server may hang up now, so that the right one goes over a connection of its own; and it may take its time.
    wire.close()
    at.enter().need("QUIT")


@pop3("RFC 3206 6", MUST, offers="AUTH-RESP-CODE")
def a_wrong_password_has_its_code(at: Pop3) -> None:
    """Who offers AUTH-RESP-CODE says [AUTH], or [SYS/…], with the -ERR for a wrong password."""
    if not at.door.refused:
        raise Skip("no wrong password was said, see the rule before")
    if not at.door.refused.upper().startswith((b"-ERR [AUTH]", b"-ERR [SYS/")):
        raise Differs("-ERR [AUTH]", "PASS, with a wrong password", shown(at.door.refused))


@pop3("RFC 1939 3", MUST)
def log_in_comes_once(at: Pop3) -> None:
    """After log-in USER, PASS, APOP and AUTH are answered -ERR."""
    wire = at.inside()
    for line in ("USER somebody", "PASS something", "APOP somebody 0123456789abcdef0123456789abcdef", "AUTH PLAIN"):
        wire.err(line)


@pop3("RFC 1939 3", MUST)
def status_lines_are_well_formed(at: Pop3) -> None:
    """Status lines begin with +OK or -ERR in upper case and have at most 512 octets, and CRLF ends every line."""
    wire = at.connect()
    try:
        for line in ("XYZZY", "CAPA", "USER"):
            if positive(wire.say(line)) and line == "CAPA":
                wire.text()
        inside = at.enter()
        for line in ("STAT", "RETR", "RETR 0", "DELE 99999999", "XYZZY", "NOOP", "QUIT"):
            inside.say(line)
    except Lost as error:
        raise Differs("a status line", wire.sent, str(error)) from error
    if at.dialogue.oddities:
        raise Differs("lines of the form of section 3", "several commands", at.dialogue.oddities[0])


@pop3("RFC 2449 4", MUST)
def commands_of_255_octets(at: Pop3) -> None:
    """Who knows CAPA takes commands of 255 octets with their CRLF."""
    if not at.drop.capabilities:
        raise Skip("CAPA is not known")
    wire = at.connect()
    try:
        wire.say("USER " + "x" * (255 - len("USER \r\n")))
        wire.say("CAPA")
    except Lost as error:
        raise Differs("+OK or -ERR, and the session goes on", "USER with 255 octets", str(error)) from error


@pop3("RFC 1939 7", MAY)
def apop_is_offered(at: Pop3) -> None:
    """The greeting has a timestamp for APOP."""
    wire = Pop3Wire(at.drop.route, at.dialogue)
    greeting = wire.status()
    wire.close()
    if b"<" not in greeting or b"@" not in greeting:
        raise Differs("+OK … <timestamp@host>", "the connection", shown(greeting))
