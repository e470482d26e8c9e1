"""STARTTLS, and TLS from the first octet (RFC 3207, RFC 8314)."""

from __future__ import annotations

from mailbe.conform import sasl
from mailbe.conform.rules import MAY, MUST, Differs, Family, Skip, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.smtp import SmtpWire
from mailbe.conform.wire import Lost


@smtp("RFC 3207 4", MUST)
def starttls_begins_tls(at: Smtp) -> None:
    """STARTTLS is answered 220, TLS begins, and EHLO is answered in it."""
    wire = _offered(at)
    wire.want("220", "STARTTLS")
    wire.start_tls()
    wire.want("250", f"EHLO {wire.literal}")


@smtp("RFC 3207 4.2", MUST)
def starttls_forgets_the_transaction(at: Smtp) -> None:
    """What the client said before TLS is forgotten: sender and recipients too."""
    wire = _offered(at)
    if wire.say(at.mail()).code != "250":
        raise Skip("no transaction can begin before TLS")
    wire.need("220", "STARTTLS")
    wire.start_tls()
    wire.want("503 530", at.rcpt(), "503, as MAIL was forgotten")


@smtp("RFC 3207 4.2", MUST)
def starttls_is_not_offered_in_tls(at: Smtp) -> None:
    """In TLS, EHLO does not offer STARTTLS again."""
    wire = at.in_tls()
    if "STARTTLS" in wire.hello():
        raise Differs("no STARTTLS", "EHLO in TLS", "STARTTLS")


@smtp("RFC 3207 4.2", MAY)
def starttls_in_tls_is_refused(at: Smtp) -> None:
    """STARTTLS in TLS is refused."""
    at.in_tls().want("5", "STARTTLS", "503, or another refusal")


@smtp("RFC 3207 4", MUST)
def starttls_with_an_argument(at: Smtp) -> None:
    """STARTTLS with an argument is answered 501."""
    _offered(at).want("501", "STARTTLS now")


@smtp("RFC 3207 4.2", MUST)
def what_stands_behind_starttls_is_not_obeyed(at: Smtp) -> None:
    """What comes in plaintext behind STARTTLS is not taken for something that was said in TLS."""
    wire = _offered(at)
    # An unknown command: were it obeyed, its reply would come before that to EHLO.
    wire.send(b"STARTTLS\r\nXYZZY\r\n")
    try:
        if wire.reply().code != "220":
            return
        wire.start_tls()
        reply = wire.say(f"EHLO {wire.literal}")
    except Lost:
        return  # it was noticed, and hung up on
    if reply.code != "250":
        raise Differs("the reply to EHLO alone", "STARTTLS and XYZZY in one segment", str(reply))


@smtp("RFC 3207 4", MUST)
def mail_is_taken_without_tls(at: Smtp) -> None:
    """A server that all the world sends to does not insist on STARTTLS."""
    if at.site.name != "smtp":
        raise Skip("this is about servers that all the world sends to")
    refused = _offered(at).say("MAIL FROM:<>")
    if refused.code == "530" and (taken := at.in_tls().say("MAIL FROM:<>")).code == "250":
        raise Differs("any reply but 530", "MAIL FROM:<> without TLS", f"{refused}; and {taken} in TLS")


@smtp("RFC 8314 3.3", MUST, family=Family.SMTP_TLS)
def the_greeting_comes_in_tls(at: Smtp) -> None:
    """TLS begins at once, and the greeting comes in it."""
    wire = at.connect()
    wire.want("250", f"EHLO {wire.literal}")


@smtp("RFC 3207 4.2", MUST, family=Family.SMTP_TLS)
def no_starttls_within_implicit_tls(at: Smtp) -> None:
    """In TLS, EHLO does not offer STARTTLS."""
    wire = at.connect()
    if "STARTTLS" in wire.hello():
        raise Differs("no STARTTLS", "EHLO in TLS", "STARTTLS")


@smtp("RFC 8314 3.3", MUST, family=Family.SMTP_TLS)
def a_log_in_within_implicit_tls(at: Smtp) -> None:
    """In TLS, AUTH is offered and works."""
    wire = at.connect()
    offers = wire.hello()
    if "AUTH" not in offers:
        raise Differs("AUTH", "EHLO in TLS", "no AUTH")
    reply = wire.auth(sasl.chosen(offers["AUTH"]), at.who(wire))
    if reply.code != "235":
        raise Differs("235", "AUTH with the right password", str(reply))


def _offered(at: Smtp) -> SmtpWire:
    wire = at.hello()
    if at.site.route.implicit:
        raise Skip("here TLS begins with the first octet")
    at.needs("STARTTLS", at.site.plain)
    return wire
