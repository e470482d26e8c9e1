"""STLS, and TLS from the first octet (RFC 2595, RFC 8314)."""

from __future__ import annotations

from mailbe.conform.door import opened
from mailbe.conform.maildrop import Pop3
from mailbe.conform.pop3 import Pop3Wire, positive
from mailbe.conform.rules import MAY, MUST, Differs, Family, Skip, pop3
from mailbe.conform.wire import Lost, shown


@pop3("RFC 2595 4", MUST)
def stls_begins_tls(at: Pop3) -> None:
    """STLS is answered +OK, TLS begins, and commands are answered in it."""
    wire = _offered(at)
    wire.ok("STLS")
    wire.start_tls()
    wire.ok("CAPA")
    wire.text()


@pop3("RFC 2595 4", MUST)
def stls_comes_once(at: Pop3) -> None:
    """In TLS, STLS is answered -ERR."""
    wire = _offered(at)
    wire.need("STLS")
    wire.start_tls()
    wire.err("STLS")


@pop3("RFC 2595 4", MUST)
def stls_is_not_for_who_has_logged_in(at: Pop3) -> None:
    """After log-in, STLS is answered -ERR."""
    at.inside().err("STLS")


@pop3("RFC 1939 7", MAY)
def stls_forgets_the_user(at: Pop3) -> None:
    """PASS comes immediately behind USER: after STLS it needs one of its own."""
    wire = _offered(at)
    if not positive(wire.say(f"USER {at.door.login.user}")):
        raise Skip("USER is not taken before TLS")
    wire.need("STLS")
    wire.start_tls()
    at.door.wait()
    status = wire.say(f"PASS {at.door.login.password}", "PASS ****")
    if positive(status):
        raise Differs("-ERR, as USER was forgotten", "USER, STLS, PASS", shown(status))


@pop3("RFC 2595 4", MUST)
def what_stands_behind_stls_is_not_obeyed(at: Pop3) -> None:
    """What comes in plaintext behind STLS is not taken for something that was said in TLS."""
    wire = _offered(at)
    # Were it obeyed, its -ERR would come before the reply to CAPA.
    wire.send(b"STLS\r\nXYZZY\r\n")
    try:
        if not positive(wire.status()):
            return
        wire.start_tls()
        status = wire.say("CAPA")
    except Lost:
        return  # it was noticed, and hung up on
    if not positive(status):
        raise Differs("the answer to CAPA alone", "STLS and XYZZY in one segment", shown(status))


@pop3("RFC 8314 3.1", MUST, family=Family.POP3_TLS)
def the_greeting_comes_in_tls(at: Pop3) -> None:
    """TLS begins at once, and the greeting comes in it."""
    at.connect().ok("QUIT")


@pop3("RFC 2595 4", MUST, family=Family.POP3_TLS)
def no_stls_within_implicit_tls(at: Pop3) -> None:
    """In TLS, STLS is neither offered nor taken."""
    wire = at.connect()
    if "STLS" in wire.capa():
        raise Differs("no STLS", "CAPA in TLS", "STLS")
    wire.err("STLS")


@pop3("RFC 8314 3.1", MUST, family=Family.POP3_TLS)
def a_log_in_within_implicit_tls(at: Pop3) -> None:
    """A log-in within TLS opens the maildrop."""
    at.door.wait()
    wire = at.connect()
    at.drop.capabilities = wire.capa()
    if not opened(status := at.door.log_in(wire)):
        raise Differs("+OK", "the log-in", shown(status))
    wire.ok("STAT")
    wire.ok("QUIT")


def _offered(at: Pop3) -> Pop3Wire:
    if at.drop.route.implicit:
        raise Skip("here TLS begins with the first octet")
    at.needs("STLS", at.drop.plain)
    return at.connect()
