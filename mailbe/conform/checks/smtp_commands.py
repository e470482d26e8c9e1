"""How commands are written, and those that say something about the server (RFC 5321 2.4, 3.5, 4.1, 4.2.4)."""

from __future__ import annotations

from mailbe.conform.rules import MAY, MUST, SHOULD, Differs, Skip, smtp
from mailbe.conform.sender import Smtp

_COMMANDS = {
    # A keyword that is a command as well, and a harmless way to say it.
    "VRFY": "VRFY postmaster",
    "EXPN": "EXPN postmaster",
    "HELP": "HELP",
    "ETRN": "ETRN conform.invalid",
    "TURN": "TURN",
    "ATRN": "ATRN conform.invalid",
    "AUTH": "AUTH",
    "STARTTLS": "STARTTLS now",
}


@smtp("RFC 5321 4.2.4", SHOULD)
def unknown_commands_are_answered_500(at: Smtp) -> None:
    """A command that is not recognized is answered 500; 502 is for one that is recognized and not implemented."""
    at.hello().want("500", "XYZZY")


@smtp("RFC 5321 4.2.4", MUST)
def what_is_offered_is_implemented(at: Smtp) -> None:
    """No command is offered by EHLO and then answered 500 or 502."""
    wire = at.hello()
    for keyword, line in _COMMANDS.items():
        if keyword in at.site.plain and (reply := wire.say(line)).among("500 502"):
            raise Differs("neither 500 nor 502", line, str(reply))


@smtp("RFC 5321 2.4", MUST)
def commands_in_any_case(at: Smtp) -> None:
    """Verbs and keywords may be written in upper or lower case, or mixed."""
    wire = at.ready()
    wire.want("250", f"eHlO {wire.literal}")
    if at.site.secured:
        wire = at.ready()
    wire.want("250", f"mail from:<{at.me}>")
    wire.want("250", f"rCPt tO:<{at.me}>")
    wire.want("250", "noop")
    wire.want("250", "rsEt")
    wire.want("221", "quit")


@smtp("RFC 5321 4.1.1", SHOULD)
def trailing_spaces_are_tolerated(at: Smtp) -> None:
    """White space before the CRLF of a command is tolerated."""
    wire = at.begun()
    wire.want("250", f"{at.rcpt()} ")
    wire.want("250", "RSET ")
    wire.want("221", "QUIT  ")


@smtp("RFC 5321 4.1.1", SHOULD)
def arguments_where_none_belong(at: Smtp) -> None:
    """DATA, RSET and QUIT with an argument are refused as a syntax error."""
    wire = at.addressed()
    wire.want("5", "DATA now", "501")
    wire.want("5", "RSET now", "501")
    wire.want("5", "QUIT now", "501")


@smtp("RFC 5321 4.1.1.9", SHOULD)
def noop_ignores_its_argument(at: Smtp) -> None:
    """NOOP with a string is answered 250."""
    at.hello().want("250", "NOOP something")


@smtp("RFC 5321 4.1.1.1", MAY)
def ehlo_without_a_name(at: Smtp) -> None:
    """EHLO without a name is refused as a syntax error."""
    at.connect().want("5", "EHLO", "501")


@smtp("RFC 5321 4.5.1", MUST)
def vrfy_is_known(at: Smtp) -> None:
    """VRFY is implemented; who tells nothing answers 252."""
    at.ready().want("250 251 252 55", f"VRFY {at.me}", "250, 251 or 252 (a site may disable it with 252, see 7.3)")


@smtp("RFC 5321 3.5.3", MUST)
def vrfy_verifies_before_it_says_250(at: Smtp) -> None:
    """VRFY does not answer 250 for a name that it has not verified."""
    name = "nobody-of-this-name-here"
    reply = at.ready().say(f"VRFY {name}")
    if reply.code != "250":
        return
    if at.begun().say(f"RCPT TO:<{name}@{at.me.rpartition('@')[2]}>").code == "250":
        raise Skip("every name is somebody's here")
    raise Differs("252, 550 or another code than 250", f"VRFY {name}", str(reply))


@smtp("RFC 5321 4.1.1.1", MUST)
def commands_that_nobody_needs_to_have_are_listed(at: Smtp) -> None:
    """Commands that are not among those of 4.5.1, as HELP and EXPN, are listed in the reply to EHLO where they work."""
    for line, codes in (("HELP", "2"), (f"EXPN {at.me}", "250")):
        reply = at.ready().say(line)
        if reply.among(codes) and line[:4] not in at.site.plain | at.site.offers:
            raise Differs(f"{line[:4]} in the reply to EHLO", line, str(reply))


@smtp("RFC 5321 3.5.2", SHOULD)
def expn_is_known(at: Smtp) -> None:
    """EXPN is supported; where it is disabled, it is answered 252 (7.3)."""
    reply = at.ready().say(f"EXPN {at.me}")
    if reply.among("500 502"):
        raise Differs("250, 252 or 550, but neither 500 nor 502", f"EXPN {at.me}", str(reply))


@smtp("RFC 5321 4.1.1.8", SHOULD)
def help_is_known(at: Smtp) -> None:
    """HELP without an argument is supported."""
    at.ready().want("2", "HELP", "211 or 214")


@smtp("RFC 5321 4.3.1", SHOULD)
def help_has_its_code(at: Smtp) -> None:
    """Where HELP is supported, it is answered 211 or 214."""
    reply = at.ready().say("HELP")
    if not reply.among("2"):
        raise Skip("HELP is not supported")
    if not reply.among("211 214"):
        raise Differs("211 or 214", "HELP", str(reply))


@smtp("RFC 5321 4.1.1.8", MAY)
def help_with_an_argument(at: Smtp) -> None:
    """HELP tells about one command."""
    at.ready().want("2", "HELP MAIL", "211 or 214")


@smtp("RFC 5321 4.2.4", MUST)
def broken_syntax_is_refused(at: Smtp) -> None:
    """MAIL and RCPT whose keyword is wrong, or is missing, are refused with a 5yz reply."""
    wire = at.ready()
    wire.want("5", "MAIL", "501")
    wire.want("5", f"MAIL FRM:<{at.me}>", "501")
    wire.need("250", at.mail())
    wire.want("5", "RCPT", "501")
    wire.want("5", f"RCPT FROM:<{at.me}>", "501")
    wire.want("250", at.rcpt())


@smtp("RFC 5321 4.1.1.11", MUST)
def unknown_parameters_are_refused(at: Smtp) -> None:
    """A parameter of MAIL or RCPT that is not known is refused."""
    wire = at.ready()
    wire.want("5", at.mail("XCONFORM=1"), "555")
    wire.need("250", at.mail())
    wire.want("5", at.rcpt("XCONFORM=1"), "555")


@smtp("RFC 5321 4.1.1.11", SHOULD)
def unknown_parameters_are_answered_555(at: Smtp) -> None:
    """The code for a parameter that is not recognized is 555."""
    wire = at.ready()
    wire.want("555", at.mail("XCONFORM=1"))
    wire.need("250", at.mail())
    wire.want("555", at.rcpt("XCONFORM=1"))


# What each extension adds to MAIL and RCPT, to be refused where the extension is not offered.
_MAIL_PARAMETERS = {
    "8BITMIME": "BODY=8BITMIME",
    "BINARYMIME": "BODY=BINARYMIME",
    "SIZE": "SIZE=100",
    "SMTPUTF8": "SMTPUTF8",
    "REQUIRETLS": "REQUIRETLS",
    "MT-PRIORITY": "MT-PRIORITY=3",
    "DELIVERBY": "BY=3600;N",
    "FUTURERELEASE": "HOLDFOR=60",
    "DSN": "RET=HDRS ENVID=conform",
}
_RCPT_PARAMETERS = {"DSN": "NOTIFY=NEVER"}


@smtp("RFC 5321 4.1.1.11", SHOULD)
def parameters_of_extensions_that_are_not_offered(at: Smtp) -> None:
    """What belongs to an extension that is not offered is refused, as 555 or another 5yz."""
    for_mail = [what for name, what in _MAIL_PARAMETERS.items() if name not in at.site.offers]
    for_rcpt = [what for name, what in _RCPT_PARAMETERS.items() if name not in at.site.offers]
    if not (for_mail or for_rcpt):
        raise Skip("every extension that has a parameter is offered")
    wire = at.ready()
    for parameters in for_mail:
        wire.want("5", at.mail(parameters), "555")
    wire.need("250", at.mail())
    for parameters in for_rcpt:
        wire.want("5", at.rcpt(parameters), "555")


@smtp("RFC 3030 2", SHOULD)
def bdat_where_chunking_is_not_offered(at: Smtp) -> None:
    """Where CHUNKING is not offered, BDAT is refused."""
    if "CHUNKING" in at.site.offers:
        raise Skip("CHUNKING is offered")
    at.hello().want("5", "BDAT 0 LAST", "500 or 502")
