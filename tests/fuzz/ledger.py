"""What a client said and what it was told, side by side: one well-formed reply to each complete command, in order.

A ledger is fed with both streams, cut anywhere. Of the protocols it knows what any client must know: where a command
ends and where a reply does, and which replies a command may have. It is read with the RFCs in hand, and shares no
code with the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

LONGEST_REPLY = 512  # octets of a line with its CRLF: RFC 5321 4.5.3.1.5, RFC 2449 4
LONGEST_LINE = 512  # octets that every command may have: RFC 5321 4.5.3.1.4


class Broken(AssertionError):
    """The server has not kept to the protocol."""


class Turn(Enum):
    """What comes next from the client."""

    GREETING = auto()
    """Nothing: it is the server's turn."""
    COMMAND = auto()
    RESPONSE = auto()
    """A line of an AUTH exchange."""
    LETTER = auto()
    """Text up to a lone dot."""
    HANDSHAKE = auto()
    """TLS; nothing is a word of either side before it is done."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One thing that the client said, and its reply."""

    verb: str
    """The command's, in capitals; of other things a name in brackets."""
    said: bytes
    """The line without its CRLF; a letter with its dot."""
    reply: bytes
    code: str
    """``250``, ``+OK``."""

    @property
    def argument(self) -> bytes:
        """What stood behind the verb."""
        return self.said.partition(b" ")[2]

    @property
    def first(self) -> str:
        """The first line of the reply."""
        return self.reply.partition(b"\r\n")[0].decode()

    @property
    def text(self) -> bytes:
        """What follows a first line of POP3, its dots taken away."""
        content = self.reply.partition(b"\r\n")[2].removesuffix(b".\r\n")
        return re.sub(rb"(?:^|(?<=\r\n))\.", b"", content)


GREETING, RESPONSE, LETTER, UNKNOWN, FAREWELL = "(greeting)", "(response)", "(letter)", "(unknown)", "(farewell)"


class Ledger:
    """The two streams of one connection. ``SmtpLedger`` and ``Pop3Ledger`` know the words."""

    verbs: frozenset[str]

    def __init__(self, *, implicit_tls: bool = False) -> None:
        """:param implicit_tls: whether TLS comes first (RFC 8314 3)."""
        self._said = bytearray()
        self._heard = bytearray()
        self.turn = Turn.HANDSHAKE if implicit_tls else Turn.GREETING
        self.left = b""
        """What stood in plaintext behind the command that began TLS; nobody may obey it."""
        self.last: Exchange | None = None
        self.over = False
        """Whether the server has said its last word."""

    @property
    def owed(self) -> bytes:
        """What is complete and has no reply yet, or nothing."""
        if self.over or self.turn is Turn.HANDSHAKE:
            return b""
        return b"(greeting)" if self.turn is Turn.GREETING else self._next() or b""

    @property
    def missing(self) -> int:
        """How many octets the client has announced, and not said."""
        return 0

    @property
    def in_order(self) -> bool:
        """Whether the server may close the connection now, to a client that says nothing more."""
        return not self.owed or self._may_go(self.last)

    def say(self, octets: bytes) -> None:
        """The client says ``octets``; in TLS, what stands within."""
        self._said += octets

    def hear(self, octets: bytes) -> list[Exchange]:
        """The server says ``octets``; returns what that completes.

        :raises Broken:
        """
        self._heard += octets
        exchanges = []
        while self._heard:
            if self.over or self.turn is Turn.HANDSHAKE:
                raise Broken(f"said behind its last word: {self._heard[:200]!r}")
            exchange = self._pair()
            if exchange is None:
                break
            self.last = exchange
            exchanges.append(exchange)
        return exchanges

    def secured(self) -> None:
        """The handshake of TLS is done."""
        self.turn = Turn.GREETING if self.last is None else Turn.COMMAND

    def close(self, *, excused: bool) -> None:
        """The server has closed the connection.

        :param excused: whether the client gave it a reason to go without a word.
        :raises Broken:
        """
        if excused or self.turn is Turn.HANDSHAKE:
            return
        if self._heard:
            raise Broken(f"a reply is cut off: {self._heard[-200:]!r}")
        if not self.over and not self._may_go(self.last):
            raise Broken(f"closed without a last word; owed is the reply to {self.owed[:200]!r}, last: {self.last}")

    def _next(self) -> bytes | None:
        """The next complete thing that the client said, with its end."""
        if self.turn is Turn.LETTER:
            if self._said.startswith(b".\r\n"):
                return bytes(self._said[:3])
            end = self._said.find(b"\r\n.\r\n")
            return bytes(self._said[: end + 5]) if end >= 0 else None
        end = self._said.find(b"\r\n")
        return bytes(self._said[: end + 2]) if end >= 0 else None

    def _pair(self) -> Exchange | None:
        said: bytes | None = b"" if self.turn is Turn.GREETING else self._next()
        verb = FAREWELL if said is None else self._verb(said)
        reply = self._first_reply(verb, said or b"")
        if reply is None:
            return None
        del self._heard[: len(reply)]
        del self._said[: len(said or b"")]
        exchange = Exchange(verb, (said or b"").removesuffix(b"\r\n"), reply, self._check(verb, said or b"", reply))
        if said is None or self._is_last(exchange):
            self.over = True
        else:
            self._go_on(exchange)
        return exchange

    def _verb(self, said: bytes) -> str:
        names = {Turn.GREETING: GREETING, Turn.RESPONSE: RESPONSE, Turn.LETTER: LETTER}
        if self.turn in names:
            return names[self.turn]
        verb = said.removesuffix(b"\r\n").partition(b" ")[0].upper().decode("latin-1")
        return verb if verb in self.verbs else UNKNOWN

    def _start_tls(self) -> None:
        self.left = bytes(self._said)
        self._said.clear()
        self.turn = Turn.HANDSHAKE

    # What the protocols differ in.

    def _first_reply(self, verb: str, said: bytes) -> bytes | None:
        """The reply that has come, if it is complete."""
        raise NotImplementedError

    def _check(self, verb: str, said: bytes, reply: bytes) -> str:
        """The code of a reply.

        :raises Broken: where it is not well-formed, or ``verb`` may not have it.
        """
        raise NotImplementedError

    def _is_last(self, exchange: Exchange) -> bool:
        """Whether nothing can follow this."""
        raise NotImplementedError

    def _may_go(self, last: Exchange | None) -> bool:
        """Whether the server may close the connection behind this."""
        raise NotImplementedError

    def _go_on(self, exchange: Exchange) -> None:
        """Whose turn it is now, and for what."""
        raise NotImplementedError


_NEVER = {"501", "503"}  # the argument, the order
_LATER = {"451"}
# RFC 5321 4.3.2, RFC 4954 6, RFC 3207 4, RFC 1870 6; 421 may come at any time.
SMTP_CODES: dict[str, set[str]] = {
    GREETING: {"220"},
    "HELO": {"250", "501"},
    "HELLO": {"250", "501"},
    "EHLO": {"250", "501", "502"},
    "STARTTLS": {"220", "502"} | _NEVER,
    "AUTH": {"235", "334", "454", "504", "535", "538"} | _NEVER,
    RESPONSE: {"235", "334", "454", "501", "535"},
    "MAIL": {"250", "455", "530", "552", "553", "555"} | _NEVER | _LATER,
    "RCPT": {"250", "452", "550", "553", "555"} | _NEVER | _LATER,
    "DATA": {"354"} | _NEVER | _LATER,
    LETTER: {"250", "452", "552", "554"} | _LATER,
    "BDAT": {"250", "452", "552", "554"} | _NEVER | _LATER,
    "RSET": {"250", "501"},
    "VRFY": {"250", "252", "501", "550", "553"},
    "EXPN": {"252", "501"},
    "HELP": {"214", "504"},
    "NOOP": {"250"},
    "QUIT": {"221", "501"},
    UNKNOWN: {"500"},
    FAREWELL: {"421", "500"},
}
# RFC 2034 4: every reply has one, but the greeting, that to HELO or EHLO, and those to a client that is to go on.
_WITHOUT_STATUS = {("HELO", "250"), ("HELLO", "250"), ("EHLO", "250"), (GREETING, "220")}
_WITHOUT_STATUS_CODES = {"334", "354"}
_BDAT = re.compile(rb"BDAT +([0-9]+)(?: +LAST)?[ \t]*\r\n", re.IGNORECASE)
_SMTP_LINE = re.compile(rb"([2-5][0-9][0-9])([ -])([ -~]*)\r\n")
_TEXT = rb"(?:[ -~]|[\xc2-\xf4][\x80-\xbf]+)*"
_UTF8_LINE = re.compile(rb"([2-5][0-9][0-9])([ -])(" + _TEXT + rb")\r\n")


class SmtpLedger(Ledger):
    verbs = frozenset(SMTP_CODES)

    def _next(self) -> bytes | None:
        said = super()._next()
        if said is None or self.missing > 0:
            return None
        return bytes(self._said[: len(said) + self._announced(said)])

    @property
    def missing(self) -> int:
        """How many octets the server waits for that were announced (RFC 3030 2)."""
        said = super()._next()
        return len(said) + self._announced(said) - len(self._said) if said is not None else 0

    def _announced(self, said: bytes) -> int:
        match = _BDAT.fullmatch(said) if self.turn is Turn.COMMAND else None
        # Python makes no number of thousands of digits, and so many are too many whatever they are.
        return int(match[1].lstrip(b"0")[:30] or b"0") if match else 0

    def _verb(self, said: bytes) -> str:
        verb = super()._verb(said.removesuffix(b"\r\n").rstrip(b" \t"))  # RFC 5321 4.1.1
        # What others may take for BDAT is as bad as one that tells no number.
        return "BDAT" if verb == UNKNOWN and said.lstrip().upper().startswith(b"BDAT") else verb

    def _first_reply(self, verb: str, said: bytes) -> bytes | None:
        begin = 0
        while (end := self._heard.find(b"\r\n", begin) + 2) > 1:
            if self._heard[begin + 3 : begin + 4] != b"-":
                return bytes(self._heard[:end])
            begin = end
        return None

    def _check(self, verb: str, said: bytes, reply: bytes) -> str:
        codes = set()
        in_utf8 = verb == "VRFY" and b"SMTPUTF8" in said.upper().split()  # RFC 6531 3.7.4.2
        for line in reply.splitlines(keepends=True):
            match = (_UTF8_LINE if in_utf8 else _SMTP_LINE).fullmatch(line)
            if not match or len(line) > LONGEST_REPLY:
                raise Broken(f"no line of a reply to {verb}: {line!r}")
            code = match[1].decode()
            codes.add(code)
            bare = (verb, code) in _WITHOUT_STATUS or code in _WITHOUT_STATUS_CODES
            if not bare and not re.match(rf"{code[0]}\.\d{{1,3}}\.\d{{1,3}} ".encode(), match[3]):
                raise Broken(f"no enhanced status code in the reply to {verb}: {line!r}")
        if len(codes) != 1:
            raise Broken(f"several codes in one reply to {verb}: {reply!r}")
        (code,) = codes
        if code not in SMTP_CODES[verb] | {"421"} and b"5.5.2 the line is too long" not in reply:
            raise Broken(f"{verb} may not be answered by {reply!r}")
        return code

    def _is_last(self, exchange: Exchange) -> bool:
        # Behind a BDAT that tells no number nothing can be obeyed.
        return exchange.code in ("221", "421") or (exchange.verb, exchange.code) == ("BDAT", "501")

    def _may_go(self, last: Exchange | None) -> bool:
        if last is None:
            return False
        # Too long a line, or plaintext behind STARTTLS.
        long = last.code == "500" and len(last.said) + 2 > LONGEST_LINE
        return long or (last.verb == "STARTTLS" and last.code == "501")

    def _go_on(self, exchange: Exchange) -> None:
        turns = {"334": Turn.RESPONSE, "354": Turn.LETTER}
        self.turn = turns.get(exchange.code, Turn.COMMAND)
        if exchange.verb == "STARTTLS" and exchange.code == "220":
            self._start_tls()


_AUTHORIZATION = {"CAPA", "STLS", "UTF8", "LANG", "USER", "PASS", "AUTH", "QUIT"}
_TRANSACTION = {"CAPA", "STAT", "LIST", "UIDL", "RETR", "TOP", "DELE", "NOOP", "RSET", "QUIT"}
_POP3_LINE = re.compile(
    rb"(\+OK|-ERR)(?: (?:\[(IN-USE|AUTH|SYS/TEMP|SYS/PERM|LOGIN-DELAY)\] )?(?!\[)"
    + _TEXT
    + rb")?\r\n"  # UTF-8, where LANG was said
)
_CHALLENGE = re.compile(rb"\+ [A-Za-z0-9+/=]*\r\n")


class Pop3Ledger(Ledger):
    verbs = frozenset(_AUTHORIZATION | _TRANSACTION)

    def _first_reply(self, verb: str, said: bytes) -> bytes | None:
        end = self._heard.find(b"\r\n") + 2
        if end < 2:
            return None
        if self._heard.startswith(b"+OK") and self._has_text(verb, said.removesuffix(b"\r\n").partition(b" ")[2]):
            end = self._heard.find(b"\r\n.\r\n", end - 2) + 5
            if end < 5:
                return None
        return bytes(self._heard[:end])

    def _has_text(self, verb: str, argument: bytes) -> bool:
        if verb in ("LIST", "UIDL", "AUTH", "LANG"):
            return not argument.strip(b" ")
        return verb in ("CAPA", "RETR", "TOP")

    def _check(self, verb: str, said: bytes, reply: bytes) -> str:
        line = reply[: reply.index(b"\r\n") + 2]
        if verb in ("AUTH", RESPONSE) and _CHALLENGE.fullmatch(line):
            return "+"
        match = _POP3_LINE.fullmatch(line)
        if not match or len(line) > LONGEST_REPLY:
            raise Broken(f"no reply to {verb}: {line!r}")
        code = match[1].decode()
        allowed = {GREETING: ("+OK", "-ERR"), UNKNOWN: ("-ERR",), FAREWELL: ("-ERR",)}
        if code not in allowed.get(verb, ("+OK", "-ERR")):
            raise Broken(f"{verb} may not be answered by {reply!r}")
        return code

    def _is_last(self, exchange: Exchange) -> bool:
        return (exchange.verb, exchange.code) in (("QUIT", "+OK"), (GREETING, "-ERR"))

    def _may_go(self, last: Exchange | None) -> bool:
        return last is not None and last.code == "-ERR"

    def _go_on(self, exchange: Exchange) -> None:
        self.turn = Turn.RESPONSE if exchange.code == "+" else Turn.COMMAND
        if exchange.verb == "STLS" and exchange.code == "+OK":
            self._start_tls()
