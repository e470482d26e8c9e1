"""Many commands in one segment, and one command in many (RFC 2920)."""

from __future__ import annotations

from mailbe.conform.rules import MUST, Awaited, Differs, Steps, smtp
from mailbe.conform.sender import Smtp
from mailbe.dots import stuffed


@smtp("RFC 2920 3.2", MUST, offers="PIPELINING")
def a_group_is_answered_in_order(at: Smtp) -> None:
    """MAIL, several RCPT and DATA in one segment are answered one by one, in their order."""
    wire = at.ready()
    group = ["RSET", at.mail(), at.rcpt(), at.rcpt("XCONFORM=1"), at.rcpt(), "DATA"]
    wire.send("".join(f"{line}\r\n" for line in group).encode())
    for line, codes in zip(group, ("250", "250", "250", "4 5", "250", "354"), strict=True):
        wire.sent = line
        wire.judged(codes)


@smtp("RFC 2920 3.2", MUST, offers="PIPELINING")
def what_follows_a_letter_is_answered(at: Smtp) -> Steps:
    """What stands in one segment with the end of a letter is answered behind it."""
    letter = at.letter()
    wire = at.addressed()
    wire.need("354", "DATA")
    group = [at.mail(), at.rcpt(), "QUIT"]
    wire.send(b"".join(stuffed([letter.octets])) + "".join(f"{line}\r\n" for line in group).encode())
    wire.sent = "a letter"
    at.taken(at.noted(letter, wire.reply))
    for line, code in zip(group, ("250", "250", "221"), strict=True):
        wire.sent = line
        wire.judged(code)
    (stored,) = yield Awaited(letter.token)
    if stored.body != letter.body:
        raise Differs("the letter, and nothing behind it", "a letter", f"a body of {len(stored.body)} octets")


@smtp("RFC 5321 3.3", MUST, offers="PIPELINING")
def refused_recipients_in_a_group(at: Smtp) -> None:
    """If no recipient of a group is taken, DATA is refused, at once or when a lone dot has come."""
    wire = at.ready()
    wire.send(f"{at.mail()}\r\n{at.rcpt('XCONFORM=1')}\r\nDATA\r\n".encode())
    wire.sent = at.mail()
    wire.judged("250")
    wire.sent = at.rcpt("XCONFORM=1")
    wire.judged("4 5")
    wire.sent = "DATA"
    wire.want_no_data(line=None)


@smtp("RFC 5321 4.1.1", MUST)
def a_command_in_many_segments(at: Smtp) -> None:
    """A command that comes octet by octet is one command."""
    wire = at.hello()
    for octet in b"NOOP\r\n":
        wire.send(bytes([octet]))
    wire.sent = "NOOP, octet by octet"
    wire.judged("250")
    wire.want("250", "NOOP")
