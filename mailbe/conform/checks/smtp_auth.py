"""AUTH (RFC 4954). One wrong password is said in all, and between two failures somebody logs in well."""

from __future__ import annotations

import base64
import re

from mailbe.conform import sasl
from mailbe.conform.rules import MAY, MUST, SHOULD, Differs, Skip, Unclear, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.smtp import Offers, Reply, SmtpWire

_MECHANISM = re.compile("[A-Z0-9_-]{1,20}")


@smtp("RFC 4422 3.1", MUST)
def mechanisms_are_names(at: Smtp) -> None:
    """AUTH offers one mechanism or more, each a name of up to 20 capitals, digits, hyphens and underscores."""
    _, offers = _able(at)
    words = offers["AUTH"]
    if not words or not all(_MECHANISM.fullmatch(word) for word in words):
        raise Differs("AUTH mechanism *(SP mechanism)", "EHLO", f"AUTH {' '.join(words)}")


def _works(name: str) -> None:
    def check(at: Smtp) -> None:
        wire, offers = _able(at)
        _offers(offers, name)
        _logged_in(f"AUTH {name}", wire.auth(name, at.who(wire)))

    check.__name__ = f"auth-{name.lower()}-works"
    check.__module__ = __name__
    check.__doc__ = f"If {name} is offered, it works."
    smtp("RFC 4954 4", MUST)(check)


for _name in sasl.MECHANISMS:
    _works(_name)


@smtp("RFC 4954 4", MUST)
def auth_without_an_initial_response(at: Smtp) -> None:
    """AUTH PLAIN without an initial response is answered 334, and then takes it."""
    wire, offers = _able(at)
    _offers(offers, "PLAIN")
    _logged_in("AUTH PLAIN and its response by itself", wire.auth("PLAIN", at.who(wire), initial=False))


@smtp("RFC 5321 2.4", MAY)
def auth_in_any_case(at: Smtp) -> None:
    """The name of a mechanism may be written in lower case."""
    wire, offers = _able(at)
    _offers(offers, "PLAIN")
    client, initial = sasl.begun("PLAIN", at.who(wire))
    client.close()
    _logged_in("auth plain", wire.say(f"auth plain {(initial or b'').decode()}", "auth plain ****"))


@smtp("RFC 4954 4", MUST)
def unknown_mechanisms_are_refused(at: Smtp) -> None:
    """A mechanism that is not known is refused with a 5yz reply."""
    wire, _ = _able(at)
    wire.want("5", "AUTH XCONFORM", "504")


@smtp("RFC 4954 4", SHOULD)
def unknown_mechanisms_are_answered_504(at: Smtp) -> None:
    """The code for a mechanism that is not known is 504."""
    wire, _ = _able(at)
    wire.want("504", "AUTH XCONFORM")


@smtp("RFC 4954 4", MUST)
def auth_without_a_mechanism(at: Smtp) -> None:
    """AUTH without a mechanism is a syntax error."""
    wire, _ = _able(at)
    wire.want("5", "AUTH", "501")


@smtp("RFC 4954 4", MUST)
def auth_can_be_cancelled(at: Smtp) -> None:
    """A client that answers a challenge with * is told 501, and the session goes on."""
    wire, offers = _able(at)
    _sparing(at)
    wire.need("334", f"AUTH {_asking(offers)}")
    wire.want("501", "*")
    wire.want("250", "NOOP")


@smtp("RFC 4954 4", MUST)
def responses_that_are_not_base64(at: Smtp) -> None:
    """A response that is not base64 is told 501."""
    wire, offers = _able(at)
    _sparing(at)
    wire.need("334", f"AUTH {_asking(offers)}")
    wire.want("501", "this=is*not base64!")


@smtp("RFC 4954 4", MUST)
def auth_after_auth(at: Smtp) -> None:
    """After a log-in, AUTH is answered 503."""
    wire, offers = _able(at)
    _log_in(at, wire, offers)
    wire.want("503", f"AUTH {sasl.chosen(offers['AUTH'])}")


@smtp("RFC 4954 4", MUST)
def auth_in_a_transaction(at: Smtp) -> None:
    """In a transaction, AUTH is answered 503."""
    wire, offers = _able(at)
    if wire.say(at.mail()).code != "250":
        raise Skip("no transaction can begin before the log-in")
    wire.want("503", f"AUTH {sasl.chosen(offers['AUTH'])}")


@smtp("RFC 4954 4", MUST)
def a_wrong_password(at: Smtp) -> None:
    """A wrong password is refused, and the session goes on."""
    wire, offers = _able(at)
    _sparing(at)
    _offers(offers, "PLAIN")
    secret = base64.b64encode(f"\0{at.login.user}\0{sasl.WRONG}".encode())
    reply = wire.say(b"AUTH PLAIN " + secret, "AUTH PLAIN, with a wrong password")
    if not reply.among("535 5 454"):
        raise Differs("535", "AUTH with a wrong password", str(reply))
    _log_in(at, wire, offers)
    wire.want("250", "NOOP")


@smtp("RFC 4954 5", MUST)
def mail_takes_auth(at: Smtp) -> None:
    """Where AUTH is offered, MAIL takes the parameter AUTH, with <> and with an address."""
    _able(at)
    for value in ("<>", "somebody@example.invalid"):
        wire = at.ready()
        wire.want("250", at.mail(f"AUTH={value}"))
        wire.quit()


@smtp("RFC 6409 4.3", MUST)
def submission_asks_for_a_log_in(at: Smtp) -> None:
    """A submission server does not take mail of somebody who has not logged in (530)."""
    if at.site.name == "smtp":
        raise Skip("this is no submission server")
    wire = at.safe()
    reply = wire.say(at.mail())
    if reply.code == "250":
        reply = wire.say("RCPT TO:<somebody@conform.invalid>")
    if reply.code == "250" and at.site.local:
        raise Unclear("it was taken, but from this machine itself, which may be known already")
    if reply.code == "250":
        raise Differs("530", at.mail(), str(reply))


def _able(at: Smtp) -> tuple[SmtpWire, Offers]:
    """A connection that may carry a password, and offers AUTH."""
    wire = at.safe()
    offers = wire.hello()
    at.needs("AUTH", offers)
    if not (wire.tls or at.site.local or at.site.secured):
        raise Skip("there is no TLS, and others could read the password")
    return wire, offers


def _sparing(at: Smtp) -> None:
    """Whatever may count as a failure is done on one listener alone."""
    if not at.post.guessing(at.site.name):
        raise Skip("it was tried on another listener, and many failures would lock the account")


def _offers(offers: Offers, name: str) -> None:
    if name not in [word.upper() for word in offers["AUTH"]]:
        raise Skip(f"{name} is not offered")


def _asking(offers: Offers) -> str:
    """A mechanism that asks something before it knows anything."""
    for name in ("PLAIN", "LOGIN", "CRAM-MD5"):
        if name in [word.upper() for word in offers["AUTH"]]:
            return name
    raise Skip("no mechanism with a challenge is offered")


def _log_in(at: Smtp, wire: SmtpWire, offers: Offers) -> None:
    reply = wire.auth(sasl.chosen(offers["AUTH"]), at.who(wire))
    if reply.code != "235":
        raise Unclear(f"the log-in was answered {reply}")


def _logged_in(sent: str, reply: Reply) -> None:
    if reply.code != "235":
        raise Differs("235", sent, str(reply))
