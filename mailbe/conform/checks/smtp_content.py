"""What is sent is what arrives, and nothing but CRLF.CRLF ends it (RFC 5321 2.3.8, 4.1.1.4, 4.5.2; RFC 6152)."""

from __future__ import annotations

from collections.abc import Callable

from mailbe.conform.rules import MUST, SHOULD, Awaited, Differs, Steps, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.wire import Lost, shown


@smtp("RFC 5321 4.5.2", MUST)
def dots_are_transparent(at: Smtp) -> Steps:
    """Lines that begin with a dot, or are one, pass unchanged."""
    yield from _passes(at, b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n .\r\nx.\r\n")


@smtp("RFC 5321 4.5.2", MUST)
def a_dot_is_the_first_octet(at: Smtp) -> Steps:
    """A dot at the beginning of the body passes unchanged, and one at its end."""
    yield from _passes(at, b".first\r\nlast\r\n.\r\n")


@smtp("RFC 5321 4.5.2", MUST)
def spaces_and_empty_lines_stay(at: Smtp) -> Steps:
    """Spaces at the ends of lines, tabs and empty lines pass unchanged."""
    yield from _passes(at, b"\r\n\r\n  \r\n\tx \t \r\n\r\nFrom the first\r\n>From\r\n\r\n\r\n")


@smtp("RFC 5321 4.5.2", MUST)
def a_letter_without_a_body(at: Smtp) -> Steps:
    """A letter whose body is empty is taken, and has an empty body."""
    yield from _passes(at, b"")


@smtp("RFC 5322 3.6", SHOULD)
def fields_stay(at: Smtp) -> Steps:
    """The fields of the header arrive as they were sent, folded as they were, and in their order."""
    letter = at.letter(b"x\r\n", b"X-Conform: a\r\n b\r\n\tc\r\nX-Conform: %TOKEN%\r\n")
    at.send(letter)
    (stored,) = yield Awaited(letter.token)
    kept = [line for line in stored.header.split(b"\r\n") if line in letter.fields]
    if kept != [line for line in letter.fields if line in kept] or not set(letter.fields) <= set(kept):
        lost = next((line for line in letter.fields if line not in kept), b"another order")
        raise Differs("each line of the header", shown(lost), "a header without it")


@smtp("RFC 5321 4.5.2", MUST)
def control_characters_stay(at: Smtp) -> Steps:
    """Other control characters than CR and LF are no line ends, and pass unchanged."""
    yield from _passes(at, b"a\x0bb\x0cc\x1fd\x7f\r\n")


@smtp("RFC 6152 3", MUST, offers="8BITMIME")
def eight_bit_passes(at: Smtp) -> Steps:
    """With BODY=8BITMIME every octet above 127 passes unchanged."""
    body = "Grüße aus Köln, für 3 €.\r\n".encode() + bytes(range(128, 256)) + b"\r\n"
    fields = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    yield from _passes(at, body, "BODY=8BITMIME", fields)


@smtp("RFC 6152 3", MUST, offers="8BITMIME")
def seven_bit_is_taken(at: Smtp) -> None:
    """BODY=7BIT is taken, in any case."""
    wire = at.ready()
    for value in ("7BIT", "7bit", "8bitmime"):
        wire.want("250", at.mail(f"BODY={value}"))
        wire.need("250", "RSET")


@smtp("RFC 6152 3", MUST, offers="8BITMIME")
def other_bodies_are_refused(at: Smtp) -> None:
    """A BODY that is not known is refused."""
    at.ready().want("5", at.mail("BODY=9BIT"), "501")


def _does_not_end(end: bytes) -> Callable[[Smtp], None]:
    def check(at: Smtp) -> None:
        letter = at.letter(b"A test.")
        wire = at.addressed()
        wire.need("354", "DATA")
        # If the first were taken for the end, the rest would be an empty command and one that is a dot.
        wire.send(letter.octets + end + b"\r\n.\r\n")
        try:
            at.noted(letter, wire.reply)
            after = wire.say("NOOP")
        except Lost:
            return  # it was refused, and hung up on
        if after.code != "250":
            raise Differs("one reply, to the whole letter", f"a letter with {shown(end)} in it", f"two: {after}")

    return check


for _name, _end in {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "cr-dot-cr": b"\r.\r",
    "crlf-dot-cr": b"\r\n.\r",
    "cr-dot-crlf": b"\r.\r\n",
}.items():
    _check = _does_not_end(_end)
    _check.__name__ = f"{_name}-does-not-end-a-letter"
    _check.__module__ = __name__
    _check.__doc__ = f"{shown(_end)} is not the end of a letter."
    smtp("RFC 5321 4.1.1.4", MUST)(_check)


def _passes(at: Smtp, body: bytes, parameters: str = "", fields: bytes = b"") -> Steps:
    letter = at.letter(body, fields)
    at.send(letter, parameters)
    (stored,) = yield Awaited(letter.token)
    if stored.body != letter.body:
        raise Differs(f"the body {shown(letter.body)}", "the letter", shown(stored.body))
