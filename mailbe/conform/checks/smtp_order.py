"""Which command may come when, and what each of them forgets (RFC 5321 3.3, 4.1.1.2-4.1.1.5, 4.1.4)."""

from __future__ import annotations

from mailbe.conform.rules import MUST, Differs, smtp
from mailbe.conform.sender import Smtp


@smtp("RFC 5321 4.1.4", MUST)
def mail_before_ehlo(at: Smtp) -> None:
    """MAIL before EHLO is processed, or is out of order (503, or 530 where a log-in comes first)."""
    at.connect().want("250 503 530", at.mail(), "250, or 503")


@smtp("RFC 5321 3.3", MUST)
def rcpt_without_mail(at: Smtp) -> None:
    """RCPT without MAIL is answered 503."""
    at.ready().want("503", at.rcpt())


@smtp("RFC 5321 3.3", MUST)
def data_without_mail(at: Smtp) -> None:
    """DATA without MAIL is refused: 503 or 554, at once or when the data have come."""
    wire = at.ready()
    wire.want_no_data()


@smtp("RFC 5321 3.3", MUST)
def data_without_rcpt(at: Smtp) -> None:
    """DATA without a recipient is refused: 503 or 554, at once or when the data have come."""
    wire = at.begun()
    wire.want_no_data()


@smtp("RFC 5321 4.1.4", MUST)
def mail_in_a_transaction(at: Smtp) -> None:
    """A second MAIL is out of order (503), or begins anew, and the session goes on."""
    wire = at.begun()
    wire.want("250 503", at.mail(), "503")
    wire.want("250", "NOOP")


@smtp("RFC 5321 4.1.4", MUST)
def out_of_order_changes_nothing(at: Smtp) -> None:
    """After a 503 the server is in the state that it was in before."""
    wire = at.ready()
    if wire.say(at.rcpt()).code != "503":
        raise Differs("503", wire.sent, "something else")
    wire.want("250", at.mail())
    wire.want("250", at.rcpt())


@smtp("RFC 5321 4.1.1.5", MUST)
def rset_is_answered_250(at: Smtp) -> None:
    """RSET is answered 250, within a transaction and without one."""
    wire = at.addressed()
    wire.want("250", "RSET")
    wire.want("250", "RSET")


@smtp("RFC 5321 4.1.1.5", MUST)
def rset_forgets_sender_and_recipients(at: Smtp) -> None:
    """After RSET there is neither sender nor recipient."""
    wire = at.addressed()
    wire.need("250", "RSET")
    wire.want("503", at.rcpt(), "503, as MAIL was forgotten")
    wire.need("250", at.mail())
    wire.want_no_data()


@smtp("RFC 5321 4.1.1.5", MUST)
def rset_keeps_the_session(at: Smtp) -> None:
    """After RSET a transaction may begin without a new EHLO or log-in."""
    wire = at.addressed()
    wire.need("250", "RSET")
    wire.want("250", at.mail())
    wire.want("250", at.rcpt())


@smtp("RFC 5321 4.1.4", MUST)
def ehlo_ends_a_transaction(at: Smtp) -> None:
    """EHLO in a transaction forgets it, as RSET would."""
    wire = at.addressed()
    wire.hello()
    wire.want("503", at.rcpt(), "503, as MAIL was forgotten")


@smtp("RFC 5321 4.1.1.1", MUST)
def helo_ends_a_transaction(at: Smtp) -> None:
    """HELO in a transaction forgets it, too: its 250 says that there is none in progress."""
    wire = at.addressed()
    wire.hello("HELO")
    wire.want("503", at.rcpt(), "503, as MAIL was forgotten")


@smtp("RFC 5321 4.1.1.9", MUST)
def noop_changes_nothing(at: Smtp) -> None:
    """NOOP is answered 250 and leaves sender and recipients as they are."""
    wire = at.begun()
    wire.want("250", "NOOP")
    wire.want("250", at.rcpt())
    wire.want("250", "NOOP")
    wire.want("354", "DATA")


@smtp("RFC 5321 4.1.1.4", MUST)
def a_delivered_letter_is_forgotten(at: Smtp) -> None:
    """After a letter was taken the buffers are empty: RCPT is out of order."""
    letter = at.letter()
    wire = at.addressed()
    at.taken(at.deliver(wire, letter))
    wire.want("503", at.rcpt(), "503, as the transaction is over")


@smtp("RFC 5321 3.3", MUST)
def one_session_sends_several_letters(at: Smtp) -> None:
    """After one letter another may follow, without a new EHLO."""
    letters = [at.letter(), at.letter()]
    wire = at.addressed()
    at.taken(at.deliver(wire, letters[0]))
    wire.want("250", at.mail())
    wire.want("250", at.rcpt())
    wire.want("354", "DATA")
    at.noted(letters[1], lambda: wire.content(letters[1].octets))


@smtp("RFC 5321 3.3", MUST)
def a_refused_recipient_does_not_end_the_transaction(at: Smtp) -> None:
    """A recipient that is refused leaves the others and the transaction as they are."""
    wire = at.begun()
    wire.need("5", at.rcpt("XCONFORM=1"))
    wire.want("250", at.rcpt())
    wire.want("354", "DATA")
