"""What client and server say to each other, line by line, fit to be shown to anybody: no password, little of letters.

A ``Transcript`` is given the octets of one connection as they go by, in both directions, and makes ``Said`` of them.
It knows just so much of the protocol as it takes to see where a reply ends, which command it answers, and which
section of which RFC that command stands in.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mailbe.client.printable import printable

Protocol = Literal["SMTP", "POP3"]
MASK = "********"
SHOWN_LINES = 2  # of a letter, or of a list
SHOWN_CAPABILITIES = 40
LONGEST = 500  # characters of a line that are shown


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a dialogue."""

    protocol: Protocol
    who: Literal["C", "S", "*"]
    """The client, the server, or nobody: what happened to the connection."""
    text: str
    """Without its line end, safe to print; passwords are masked."""
    section: str | None = None
    """Where the RFCs define the command that this is, or answers; ``None`` for lines of a letter or a list."""


Listen = Callable[[Said], None]
"""Is told every line, in the thread that talks to the server."""

SECTIONS: dict[Protocol, dict[str, str]] = {
    "SMTP": {
        "": "RFC 5321 4.3.1",  # the greeting
        "EHLO": "RFC 5321 4.1.1.1",
        "HELO": "RFC 5321 4.1.1.1",
        "MAIL": "RFC 5321 4.1.1.2",
        "MAIL SMTPUTF8": "RFC 6531 3.4",
        "RCPT": "RFC 5321 4.1.1.3",
        "DATA": "RFC 5321 4.1.1.4",
        "RSET": "RFC 5321 4.1.1.5",
        "NOOP": "RFC 5321 4.1.1.9",
        "QUIT": "RFC 5321 4.1.1.10",
        "STARTTLS": "RFC 3207 4",
        "AUTH": "RFC 4954 4",
    },
    "POP3": {
        "": "RFC 1939 4",
        "CAPA": "RFC 2449 5",
        "STLS": "RFC 2595 4",
        "UTF8": "RFC 6856 2.1",
        "USER": "RFC 1939 7",
        "PASS": "RFC 1939 7",
        "AUTH": "RFC 5034 4",
        "LIST": "RFC 1939 5",
        "UIDL": "RFC 1939 7",
        "RETR": "RFC 1939 5",
        "TOP": "RFC 1939 7",
        "DELE": "RFC 1939 5",
        "NOOP": "RFC 1939 5",
        "QUIT": "RFC 1939 6",
    },
}
# Commands that are answered with many lines, and how many of these are shown.
LISTINGS = {
    "CAPA": SHOWN_CAPABILITIES,
    "LIST": SHOWN_LINES,
    "UIDL": SHOWN_LINES,
    "RETR": SHOWN_LINES,
    "TOP": SHOWN_LINES,
}


@dataclass(slots=True)
class _Text:
    """A text of many lines up to a lone dot, of which the first are shown, and how many more there were."""

    who: Literal["C", "S"]
    still_shown: int
    hidden: int = 0
    octets: int = 0


class Transcript:
    """One connection's dialogue; ``listen`` hears it."""

    def __init__(self, protocol: Protocol, listen: Listen) -> None:
        self._protocol = protocol
        self._listen = listen
        self._asked: deque[str] = deque([""])  # verbs whose replies are still to come; first the greeting
        self._secret = False  # whether the client's next line answers a challenge
        self._text: _Text | None = None  # what goes by now

    def note(self, text: str) -> None:
        """Something that happened to the connection."""
        self._say("*", text)

    def sent(self, octets: bytes) -> None:
        """The client sends whole lines: commands, a response to a challenge, or a letter with its lone dot."""
        for line in octets.split(b"\r\n")[:-1] if octets.endswith(b"\r\n") else octets.split(b"\r\n"):
            if self._text is not None and self._text.who == "C":
                self._content(line)
            else:
                self._command(line)

    def received(self, line: bytes) -> None:
        """The server has sent one line; its line end may be with it."""
        line = line.rstrip(b"\r\n")
        if self._text is not None and self._text.who == "S":
            self._content(line)
            return
        verb = self._asked[0] if self._asked else ""
        self._say("S", _decoded(line), self._section(verb))
        if self._protocol == "SMTP":
            self._smtp_reply(verb, line)
        else:
            self._pop3_reply(verb, line)

    def _smtp_reply(self, verb: str, line: bytes) -> None:
        if line[3:4] == b"-":
            return
        if line.startswith(b"334"):
            self._secret = True
        elif line.startswith(b"354") and verb == "DATA":
            self._text = _Text("C", SHOWN_LINES)
        elif self._asked:
            self._asked.popleft()

    def _pop3_reply(self, verb: str, line: bytes) -> None:
        if line.startswith(b"+ ") or line == b"+":
            self._secret = True
            return
        if self._asked:
            self._asked.popleft()
        if line.startswith(b"+OK") and verb in LISTINGS:
            self._text = _Text("S", LISTINGS[verb])

    def _command(self, line: bytes) -> None:
        if self._secret:
            self._secret = False
            # A lone * gives the exchange up (RFC 4954 4, RFC 5034 4), and is no secret.
            self._say("C", "*" if line == b"*" else MASK, self._section("AUTH"))
            return
        verb = _verb(_decoded(line).upper())
        self._asked.append(verb)
        self._say("C", masked(_decoded(line)), self._section(verb))

    def _content(self, line: bytes) -> None:
        text = self._text
        assert text is not None
        if line == b".":
            if text.hidden:
                self._say(text.who, f"[{text.hidden} more lines, {text.octets} octets]")
            self._say(text.who, ".")
            self._text = None
        elif text.still_shown:
            text.still_shown -= 1
            self._say(text.who, _decoded(line))
        else:
            text.hidden += 1
            text.octets += len(line) + 2

    def _section(self, verb: str) -> str | None:
        return SECTIONS[self._protocol].get(verb)

    def _say(self, who: Literal["C", "S", "*"], text: str, section: str | None = None) -> None:
        self._listen(Said(self._protocol, who, text, section))


def _verb(command: str) -> str:
    """What a command is called in ``SECTIONS``."""
    verb, _, arguments = command.partition(" ")
    # With this one word at its end it is a command of another RFC, which lets UTF-8 into all that follows.
    return "MAIL SMTPUTF8" if verb == "MAIL" and "SMTPUTF8" in arguments.split()[1:] else verb


_SECRETS = re.compile(r"(?i)(PASS|AUTH +\S+|APOP +\S+) .*")


def masked(command: str) -> str:
    """A command line without the password, or the initial response of AUTH, that is in it."""
    return _SECRETS.sub(rf"\1 {MASK}", command)


def _decoded(line: bytes) -> str:
    text = line[: LONGEST + 4].decode("utf-8", "replace")
    return printable(text[:LONGEST] + " ..." if len(text) > LONGEST else text).replace("\n", "\\n")
