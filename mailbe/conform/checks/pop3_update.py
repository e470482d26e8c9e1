"""DELE, RSET and QUIT, and a maildrop that two want (RFC 1939 4, 5, 6). Only our own letters are deleted."""

from __future__ import annotations

from mailbe.conform.door import NoEntry
from mailbe.conform.maildrop import Message, Pop3
from mailbe.conform.pop3 import Pop3Wire, positive
from mailbe.conform.rules import MUST, Differs, pop3
from mailbe.conform.wire import Lost, shown


@pop3("RFC 1939 5", MUST)
def a_deleted_message_is_gone(at: Pop3) -> None:
    """After DELE every command that names the message is answered -ERR, DELE itself too."""
    wire = at.inside()
    number = at.mine(wire)[0].number
    wire.ok(f"DELE {number}")
    lines = [f"LIST {number}", f"RETR {number}", f"DELE {number}"]
    if "UIDL" in at.drop.capabilities:
        lines.append(f"UIDL {number}")
    if "TOP" in at.drop.capabilities:
        lines.append(f"TOP {number} 0")
    for line in lines:
        wire.err(line)


@pop3("RFC 1939 5", MUST)
def deleted_messages_do_not_count(at: Pop3) -> None:
    """After DELE neither number nor size in STAT has the message, nor have LIST and UIDL."""
    wire = at.inside()
    message = at.mine(wire)[0]
    before = _stat(wire)
    wire.need(f"DELE {message.number}")
    if (after := _stat(wire)) != (before[0] - 1, before[1] - message.size):
        raise Differs(
            f"+OK {before[0] - 1} {before[1] - message.size}", "STAT after DELE", f"+OK {after[0]} {after[1]}"
        )
    for line in ("LIST", "UIDL") if "UIDL" in at.drop.capabilities else ("LIST",):
        if b"%d" % message.number in [each.split()[0] for each in wire.listing(line)]:
            raise Differs(f"no line for message {message.number}", f"{line} after DELE", "one")


@pop3("RFC 1939 5", MUST)
def numbers_stay_in_a_session(at: Pop3) -> None:
    """DELE of one message changes the number of no other."""
    wire = at.inside()
    first, second, *_ = at.mine(wire, 2)
    wire.need(f"DELE {first.number}")
    status = wire.ok(f"LIST {second.number}")
    if status.split()[1:3] != [b"%d" % second.number, b"%d" % second.size]:
        raise Differs(f"+OK {second.number} {second.size}", f"LIST {second.number}", shown(status))


@pop3("RFC 1939 5", MUST)
def rset_brings_back_what_was_deleted(at: Pop3) -> None:
    """After RSET no message is deleted."""
    wire = at.inside()
    message = at.mine(wire)[0]
    before = _stat(wire)
    wire.need(f"DELE {message.number}")
    wire.ok("RSET")
    if (after := _stat(wire)) != before:
        raise Differs(f"+OK {before[0]} {before[1]}", "STAT after RSET", f"+OK {after[0]} {after[1]}")
    wire.ok(f"RETR {message.number}")
    wire.text()


@pop3("RFC 1939 3", MUST)
def without_quit_nothing_is_deleted(at: Pop3) -> None:
    """A session that ends without QUIT deletes nothing."""
    wire = at.enter()
    message = at.mine(wire)[0]
    wire.need(f"DELE {message.number}")
    wire.close()
    _check_there(at, message, "a session with DELE and without QUIT")


@pop3("RFC 1939 6", MUST)
def quit_deletes_what_is_marked(at: Pop3) -> None:
    """QUIT deletes what was marked and nothing else, says +OK, and the server hangs up."""
    wire = at.enter()
    before = len(wire.listing("LIST"))
    message = at.mine(wire, 2)[-1]
    wire.need(f"DELE {message.number}")
    wire.ok("QUIT")
    wire.check_end()
    wire = at.enter()
    if message.letter.token in _tokens(at, wire):
        raise Differs("the message is gone", "DELE and QUIT", "it is there")
    if (after := len(wire.listing("LIST"))) < before - 1:
        raise Differs(f"{before - 1} messages", "DELE of one, and QUIT", f"{after}")


@pop3("RFC 1939 6", MUST)
def quit_without_deletions_deletes_nothing(at: Pop3) -> None:
    """QUIT after RETR and no DELE deletes nothing."""
    wire = at.enter()
    message = at.mine(wire)[0]
    wire.need(f"RETR {message.number}")
    wire.text()
    wire.ok("QUIT")
    _check_there(at, message, "RETR and QUIT")


@pop3("RFC 1939 4", MUST)
def nobody_deletes_under_an_open_session(at: Pop3) -> None:
    """While a session is open, no other deletes its messages: it is refused, or its deletions do not show."""
    wire = at.enter()
    message = at.mine(wire, 3)[-1]
    other = at.safe()
    at.door.wait()
    try:
        if not positive(at.door.log_in(other)):
            return
        other.need(f"DELE {message.number}")
        other.need("QUIT")
    except (Lost, NoEntry):
        return
    status = wire.say(f"RETR {message.number}")
    if not positive(status):
        raise Differs("+OK: the message is there until this session ends", "DELE and QUIT in another", shown(status))
    wire.text()


@pop3("RFC 1939 4", MUST)
def the_maildrop_is_free_after_quit(at: Pop3) -> None:
    """When QUIT was answered, the maildrop can be opened at once."""
    at.enter().need("QUIT")
    at.door.wait()
    wire = at.safe()
    status = at.door.log_in(wire)
    if not positive(status):
        raise Differs("+OK", "a log-in after QUIT", shown(status))
    wire.need("QUIT")


def _stat(wire: Pop3Wire) -> tuple[int, int]:
    words = wire.need("STAT").split()
    return int(words[1]), int(words[2])


def _tokens(at: Pop3, wire: Pop3Wire) -> set[str]:
    return {message.letter.token for message in at.mine(wire, 0)}


def _check_there(at: Pop3, message: Message, after: str) -> None:
    wire = at.enter()
    if message.letter.token not in _tokens(at, wire):
        raise Differs("the message is there", after, "it is gone")
