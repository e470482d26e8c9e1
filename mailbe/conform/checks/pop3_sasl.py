"""AUTH in POP3 (RFC 5034). No wrong password is said here."""

from __future__ import annotations

from mailbe.conform import sasl
from mailbe.conform.door import opened
from mailbe.conform.maildrop import Pop3
from mailbe.conform.pop3 import Pop3Wire
from mailbe.conform.rules import MUST, Differs, Skip, pop3
from mailbe.conform.wire import shown


def _works(name: str) -> None:
    def check(at: Pop3) -> None:
        wire = _offered(at, name)
        _check(wire, f"AUTH {name}", wire.auth(name, at.door.who(wire)))

    check.__name__ = f"sasl-{name.lower()}-works"
    check.__module__ = __name__
    check.__doc__ = f"If SASL {name} is offered, it opens the maildrop."
    pop3("RFC 5034 4", MUST, offers="SASL")(check)


for _name in sasl.MECHANISMS:
    _works(_name)


@pop3("RFC 5034 4", MUST, offers="SASL")
def auth_without_an_initial_response(at: Pop3) -> None:
    """AUTH PLAIN without an initial response is answered "+ ", and then takes it."""
    wire = _offered(at, "PLAIN")
    _check(wire, "AUTH PLAIN and its response by itself", wire.auth("PLAIN", at.door.who(wire), initial=False))


@pop3("RFC 5034 4", MUST, offers="SASL")
def unknown_mechanisms_are_refused(at: Pop3) -> None:
    """A mechanism that is not known is answered -ERR."""
    at.safe().err("AUTH XCONFORM")


@pop3("RFC 5034 4", MUST, offers="SASL")
def auth_can_be_cancelled(at: Pop3) -> None:
    """A client that answers a challenge with * is told -ERR, and the session goes on."""
    wire = _asked(at)
    wire.err("*")
    wire.ok("CAPA")
    wire.text()


@pop3("RFC 5034 4", MUST, offers="SASL")
def responses_that_are_not_base64(at: Pop3) -> None:
    """A response that is not base64 is told -ERR."""
    _asked(at).err("this=is*not base64!")


def _offered(at: Pop3, name: str) -> Pop3Wire:
    if name not in [word.upper() for word in at.needs("SASL")]:
        raise Skip(f"{name} is not offered")
    at.door.wait()
    return at.safe()


def _asked(at: Pop3) -> Pop3Wire:
    wire = _offered(at, "PLAIN")
    wire.send(b"AUTH PLAIN\r\n")
    if not wire.starts_with(b"+ ") and not wire.starts_with(b"+\r"):
        raise Differs('"+ "', "AUTH PLAIN", shown(wire.status()))
    wire.dialogue.heard(wire.line())
    return wire


def _check(wire: Pop3Wire, sent: str, status: bytes) -> None:
    if not opened(status):
        raise Differs("+OK", sent, shown(status))
    wire.ok("STAT")
    wire.ok("QUIT")
