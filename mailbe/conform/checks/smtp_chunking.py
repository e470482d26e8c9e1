"""BDAT and binary bodies (RFC 3030)."""

from __future__ import annotations

from mailbe.conform.rules import MUST, Awaited, Differs, Steps, Unclear, smtp
from mailbe.conform.sender import Smtp
from mailbe.conform.smtp import Reply, SmtpWire
from mailbe.conform.wire import Lost, shown


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def a_letter_in_one_chunk(at: Smtp) -> Steps:
    """BDAT with LAST delivers the letter; its dots are as they are."""
    letter = at.letter(b".\r\n..\r\n.x\r\n")
    wire = at.addressed()
    at.noted(letter, lambda: _want(wire, letter.octets, last=True))
    (stored,) = yield Awaited(letter.token)
    if stored.body != letter.body:
        raise Differs(shown(letter.body), "BDAT LAST", shown(stored.body))


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def a_letter_in_chunks_cut_anywhere(at: Smtp) -> Steps:
    """Several chunks are one letter, wherever they are cut, and each is answered 250."""
    letter = at.letter(b".\r\nx\r\n.\r\nend\r\n")
    wire = at.addressed()
    half = len(letter.octets) - 8
    for cut in ((0, 1), (1, half), (half, half + 1)):
        _want(wire, letter.octets[slice(*cut)])
    at.noted(letter, lambda: _want(wire, letter.octets[half + 1 :], last=True))
    (stored,) = yield Awaited(letter.token)
    if stored.body != letter.body:
        raise Differs(shown(letter.body), "BDAT in four chunks", shown(stored.body))


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def an_empty_last_chunk(at: Smtp) -> Steps:
    """BDAT 0 LAST ends a letter."""
    letter = at.letter()
    wire = at.addressed()
    _want(wire, letter.octets)
    at.noted(letter, lambda: _want(wire, b"", last=True))
    (stored,) = yield Awaited(letter.token)
    if stored.body != letter.body:
        raise Differs(shown(letter.body), "BDAT, BDAT 0 LAST", shown(stored.body))


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def data_after_bdat(at: Smtp) -> None:
    """DATA after BDAT in one transaction is answered 503."""
    letter = at.letter()
    wire = at.addressed()
    _want(wire, letter.octets)
    wire.want("503", "DATA")


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def bdat_after_the_last_chunk(at: Smtp) -> None:
    """BDAT after BDAT LAST is answered 503, and its octets are read."""
    letter = at.letter()
    wire = at.addressed()
    at.noted(letter, lambda: _want(wire, letter.octets, last=True))
    _swallowed(wire, "503")


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def octets_are_read_even_where_they_are_refused(at: Smtp) -> None:
    """BDAT without a transaction is refused, and its octets are read and thrown away."""
    _swallowed(at.ready(), "4 5")


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def rset_forgets_chunks(at: Smtp) -> Steps:
    """RSET between chunks throws those away that have come."""
    thrown_away, letter = at.letter(b"Not to be seen.\r\n"), at.letter()
    wire = at.addressed()
    _want(wire, thrown_away.octets)
    wire.want("250", "RSET")
    wire.need("250", at.mail())
    wire.need("250", at.rcpt())
    at.noted(letter, lambda: _want(wire, letter.octets, last=True))
    (stored,) = yield Awaited(letter.token)
    if thrown_away.token.encode() in stored.octets or stored.body != letter.body:
        raise Differs("the second letter alone", "BDAT, RSET, MAIL, RCPT, BDAT LAST", shown(stored.body))


@smtp("RFC 3030 2", MUST, offers="CHUNKING")
def bdat_that_is_none(at: Smtp) -> None:
    """BDAT without a number is refused."""
    at.addressed().want("5", "BDAT LAST", "501")


@smtp("RFC 3030 3", MUST, offers="BINARYMIME")
def binary_bodies_are_taken(at: Smtp) -> Steps:
    """With BODY=BINARYMIME a body of any octets is taken and delivered."""
    fields = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
    letter = at.letter(bytes(range(256)) + b"\r\n", fields)
    wire = at.addressed("BODY=BINARYMIME")
    at.noted(letter, lambda: _want(wire, letter.octets, last=True))
    yield Awaited(letter.token)


@smtp("RFC 3030 3", MUST, offers="BINARYMIME")
def data_with_a_binary_body(at: Smtp) -> None:
    """DATA after BODY=BINARYMIME is answered 503."""
    at.addressed("BODY=BINARYMIME").want("503", "DATA")


def _want(wire: SmtpWire, octets: bytes, *, last: bool = False) -> Reply:
    line = f"BDAT {len(octets)}{' LAST' if last else ''}"
    wire.send(f"{line}\r\n".encode() + octets)
    wire.sent = line
    # A mailbox that is full breaks no rule, nor would it after DATA.
    if (reply := wire.judged("250 4")).code != "250":
        raise Unclear(f"the letter was answered {reply}")
    return reply


def _swallowed(wire: SmtpWire, codes: str) -> None:
    wire.send(b"BDAT 6\r\nNOOP\r\n")
    wire.sent = "BDAT 6, and six octets"
    wire.judged(codes)
    try:
        reply = wire.say("XYZZY")
    except Lost:
        return  # it was refused, and hung up on
    if not reply.among("5"):
        raise Differs("one reply, to BDAT", "BDAT 6, and NOOP as its octets", f"two: {reply}")
