"""RETR and TOP: each octet of a message as it is (RFC 1939 3, 5, 7, 11)."""

from __future__ import annotations

from mailbe.conform.maildrop import Message, Pop3
from mailbe.conform.rules import MAY, MUST, Differs, Unclear, pop3
from mailbe.conform.wire import shown


@pop3("RFC 1939 11", MUST)
def sizes_are_those_of_what_is_sent(at: Pop3) -> None:
    """The size in LIST is the number of octets that RETR sends, each line end counted as two and no dot stuffed."""
    wire = at.inside()
    for message in at.mine(wire):
        wire.ok(f"RETR {message.number}")
        octets = wire.text()
        if len(octets) != message.size:
            raise Differs(f"{message.size} octets, as LIST says", f"RETR {message.number}", f"{len(octets)}")


@pop3("RFC 1939 3", MUST)
def dots_are_stuffed(at: Pop3) -> None:
    """Lines that begin with a dot come with one more, and no other line ends the message."""
    wire = at.inside()
    message = _with(at.mine(wire), b"\r\n..\r\n")
    wire.ok(f"RETR {message.number}")
    body = wire.text().partition(b"\r\n\r\n")[2]
    if body != message.letter.body:
        raise Differs(shown(message.letter.body), f"RETR {message.number}", shown(body))


@pop3("RFC 1939 5", MUST)
def messages_can_be_read_again(at: Pop3) -> None:
    """RETR twice sends the same twice."""
    wire = at.inside()
    number = at.mine(wire)[0].number
    texts = []
    for _ in range(2):
        wire.ok(f"RETR {number}")
        texts.append(wire.text())
    if texts[0] != texts[1]:
        raise Differs("the same octets", f"RETR {number}, again", f"{len(texts[1])} octets instead of {len(texts[0])}")


@pop3("RFC 1939 7", MAY)
def top_is_known(at: Pop3) -> None:
    """TOP, which is optional, is implemented."""
    wire = at.inside()
    wire.ok(f"TOP {at.mine(wire)[0].number} 0")
    wire.text()


@pop3("RFC 1939 7", MUST)
def top_sends_as_many_lines(at: Pop3) -> None:
    """TOP sends the header, the empty line, and as many lines of the body as it is asked for."""
    wire = at.inside()
    message = _with(at.mine(wire), b"\r\nline 40\r\n")
    wire.need(f"RETR {message.number}")
    whole = wire.text()
    header, empty, body = whole.partition(b"\r\n\r\n")
    lines = body.split(b"\r\n")[:-1]
    for count in (0, 1, 7, len(lines)):
        wire.need(f"TOP {message.number} {count}")
        wanted = header + empty + b"".join(line + b"\r\n" for line in lines[:count])
        if (octets := wire.text()) != wanted:
            raise Differs(f"{len(wanted)} octets", f"TOP {message.number} {count}", f"{len(octets)} octets")


@pop3("RFC 1939 7", MUST)
def top_of_more_lines_than_there_are(at: Pop3) -> None:
    """TOP with more lines than the body has sends the whole message."""
    wire = at.inside()
    message = at.mine(wire)[0]
    wire.need(f"RETR {message.number}")
    whole = wire.text()
    wire.need(f"TOP {message.number} 99999999")
    if (octets := wire.text()) != whole:
        raise Differs(f"{len(whole)} octets", f"TOP {message.number} 99999999", f"{len(octets)}")


@pop3("RFC 1939 3", MUST)
def dots_are_stuffed_by_top(at: Pop3) -> None:
    """TOP stuffs dots as RETR does."""
    wire = at.inside()
    message = _with(at.mine(wire), b"\r\n..\r\n")
    wire.need(f"TOP {message.number} 3")
    body = wire.text().partition(b"\r\n\r\n")[2]
    wanted = b"".join(line + b"\r\n" for line in message.letter.body.split(b"\r\n")[:3])
    if body != wanted:
        raise Differs(shown(wanted), f"TOP {message.number} 3", shown(body))


def _with(messages: list[Message], text: bytes) -> Message:
    for message in messages:
        if text in b"\r\n" + message.letter.body:
            return message
    raise Unclear("the letter that it needs is not in the maildrop")
