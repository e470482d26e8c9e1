"""The sizes that every server must be able to take (RFC 5321 4.5.3.1), and SIZE and LIMITS, which tell of more."""

from __future__ import annotations

import re

from mailbe.conform.rules import MAY, MUST, Awaited, Differs, Skip, Steps, Unclear, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.wire import Lost

RECIPIENTS = 100  # RFC 5321 4.5.3.1.8
CONTENT = 64 * 1024  # octets, RFC 5321 4.5.3.1.7
LARGE = 4 * 1024 * 1024  # octets; a limit above this is not tried out
_LIMIT = re.compile(r"[A-Z][A-Z0-9_-]*(?:=[!-:<-~]+)?", re.IGNORECASE)
_SIZE = re.compile(r"[0-9]{1,20}")
_COUNTS = {"RCPTMAX": RECIPIENTS, "MAILMAX": 1, "RCPTDOMAINMAX": 1}


@smtp("RFC 5321 4.5.3.1.4", MUST)
def command_lines_of_512_octets(at: Smtp) -> None:
    """A command line of 512 octets with its CRLF is taken."""
    wire = at.hello()
    wire.want("250", "NOOP " + "x" * (512 - len("NOOP \r\n")))
    wire.want("250", "NOOP")


@smtp("RFC 5321 4.1.1.10", MAY)
def longer_lines_do_not_end_the_session(at: Smtp) -> None:
    """After a command line that is too long (500) the session goes on."""
    wire = at.hello()
    try:
        wire.say("NOOP " + "x" * 5000)
        wire.say("NOOP")
    except Lost as error:
        raise Differs("500, and the session goes on", "NOOP with 5000 octets", str(error)) from error


@smtp("RFC 5321 4.5.3.1.8", MUST)
def a_hundred_recipients(at: Smtp) -> None:
    """A hundred recipients of one letter are taken (here: one of them, a hundred times)."""
    wire = at.begun()
    wire.need("250", at.rcpt())
    for number in range(2, RECIPIENTS + 1):
        wire.want("250 251", at.rcpt(), f"250, as for the {number - 1} before it")
    wire.need("250", "RSET")


@smtp("RFC 5321 4.5.3.1.6", MUST)
def text_lines_of_1000_octets(at: Smtp) -> Steps:
    """A line of text of 1000 octets with its CRLF passes whole."""
    letter = at.letter(b"x" * 998 + b"\r\n" + b"y" * 998 + b"\r\n")
    at.send(letter)
    (stored,) = yield Awaited(letter.token)
    if stored.body != letter.body:
        longest = max(map(len, stored.body.split(b"\r\n")))
        raise Differs("two lines of 998 octets", "the same", f"{len(stored.body)} octets, the longest line {longest}")


@smtp("RFC 5321 4.5.3.1.7", MUST)
def letters_of_64_kibibytes(at: Smtp) -> Steps:
    """A letter of 64 KiB is taken and passes whole."""
    line = b"0123456789abcdef" * 4 + b"\r\n"
    letter = at.letter(line * (CONTENT // len(line)))
    wire = at.addressed()
    reply = at.deliver(wire, letter)
    if reply.code.startswith("5"):
        raise Differs("250", f"a letter of {len(letter.octets)} octets", str(reply))
    at.taken(reply)
    (stored,) = yield Awaited(letter.token)
    if stored.body != letter.body:
        raise Differs("the same octets", f"a body of {len(letter.body)} octets", f"one of {len(stored.body)}")


@smtp("RFC 1870 3", MUST, offers="SIZE")
def size_is_a_number(at: Smtp) -> None:
    """SIZE has no parameter, or one of 1 to 20 digits."""
    parameters = at.needs("SIZE")
    if len(parameters) > 1 or not all(_SIZE.fullmatch(word) for word in parameters):
        raise Differs("SIZE [1*20DIGIT]", "EHLO", f"SIZE {' '.join(parameters)}")


@smtp("RFC 1870 6", MUST, offers="SIZE")
def size_is_taken(at: Smtp) -> None:
    """MAIL takes SIZE of a letter that is not too large."""
    at.ready().want("250", at.mail("SIZE=1000"))


@smtp("RFC 1870 7", MUST, offers="SIZE")
def size_above_the_limit(at: Smtp) -> None:
    """MAIL with a SIZE above the limit that was told is answered 552."""
    limit = _limit(at)
    if len(str(limit + 1)) > 20:
        raise Skip("the limit is as large as a number can be")
    at.ready().want("552", at.mail(f"SIZE={limit + 1}"))


@smtp("RFC 1870 3", MUST, offers="SIZE")
def size_that_is_no_number(at: Smtp) -> None:
    """A SIZE that is no number is refused."""
    at.ready().want("5", at.mail("SIZE=many"), "501")


@smtp("RFC 1870 5", MUST, offers="SIZE")
def size_counts_in_data(at: Smtp) -> None:
    """A letter larger than the limit is refused, though its size was not announced."""
    limit = _limit(at)
    if limit > LARGE:
        raise Skip(f"the limit is {limit} octets, which is too much to try")
    letter = at.letter((b"x" * 70 + b"\r\n") * (limit // 72 + 2))
    wire = at.addressed()
    if at.deliver(wire, letter).code == "250":
        raise Differs("552", f"a letter of {len(letter.octets)} octets", "250")


@smtp("RFC 9422 3", MUST, offers="LIMITS")
def limits_are_well_formed(at: Smtp) -> None:
    """LIMITS has parameters of the form name=value, and those that are registered are numbers above zero."""
    for word in at.needs("LIMITS"):
        name, _, value = word.partition("=")
        if not _LIMIT.fullmatch(word) or (name.upper() in _COUNTS and not re.fullmatch("[1-9][0-9]{0,5}", value)):
            raise Differs("name=value", "EHLO", word)


@smtp("RFC 5321 4.5.3.1.8", MUST, offers="LIMITS")
def as_many_recipients_as_limits_says(at: Smtp) -> None:
    """RCPTMAX is not below the hundred of RFC 5321 4.5.3.1.8."""
    said = dict(word.upper().split("=", 1) for word in at.needs("LIMITS") if "=" in word)
    if "RCPTMAX" not in said:
        raise Skip("LIMITS says nothing of RCPTMAX")
    if int(said["RCPTMAX"]) < RECIPIENTS:
        raise Differs(f"{RECIPIENTS} or more", "EHLO", f"RCPTMAX={said['RCPTMAX']}")


@smtp("RFC 9422 4.1", MUST, offers="LIMITS")
def as_many_letters_as_limits_says(at: Smtp) -> None:
    """As many transactions as MAILMAX says can be begun in one session (at most 20 are tried)."""
    said = dict(word.upper().split("=", 1) for word in at.needs("LIMITS") if "=" in word)
    if "MAILMAX" not in said:
        raise Skip("LIMITS says nothing of MAILMAX")
    wire = at.ready()
    for _ in range(min(int(said["MAILMAX"]), 20)):
        wire.want("250", at.mail(), f"250, as MAILMAX is {said['MAILMAX']}")
        wire.need("250", "RSET")


def _limit(at: Smtp) -> int:
    parameters = at.needs("SIZE")
    if not parameters or not _SIZE.fullmatch(parameters[0]):
        raise Skip("SIZE tells no limit")
    if not (limit := int(parameters[0])):
        raise Skip("SIZE 0 says that there is no limit")
    if limit < CONTENT:
        raise Unclear(f"a limit of {limit} octets is below what every server must take")
    return limit
