"""An SMTP client in memory, and the envelope that its replies make: who must get its letter, and who must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mailbe.smtp import grammar
from tests.fuzz.books import sent, sent_in_pieces
from tests.fuzz.clients import Client
from tests.fuzz.ledger import LETTER, RESPONSE, Broken, Exchange, SmtpLedger, Turn
from tests.fuzz.speech import PASSWORDS

PUT_OFF = {"451", "452", "454", "455"}


@dataclass
class Envelope:
    """What MAIL and RCPT have brought about."""

    copy: str
    """The account that gets one of what it sends."""
    held: bool = False
    """Whether it is to be released later (RFC 4865)."""
    recipients: set[str] = field(default_factory=set)
    pieces: list[bytes] = field(default_factory=list)
    """What BDAT has brought."""

    @property
    def mailboxes(self) -> tuple[frozenset[str], frozenset[str]]:
        """Where the letter goes at once, and later."""
        copies = {f"envoi/{self.copy}"} if self.copy else set()
        if self.held:
            told = {f"reception/{self.copy}", "reception/postmaster@localhost"}
            return frozenset(copies), frozenset(self.recipients | told)
        return frozenset(self.recipients | copies), frozenset()


class SmtpClient(Client):
    def __init__(self, *given: Any, classic: bool) -> None:
        super().__init__(SmtpLedger, *given)
        self._classic = classic
        self._greeted = False
        self._envelope: Envelope | None = None
        self._sending: Envelope | None = None

    def _learn(self, exchange: Exchange) -> None:
        if exchange.code == "503" and self._is_in_order(exchange.verb):
            raise Broken(f"it is in order: {exchange}")
        if (step := _SMTP.get((exchange.verb, exchange.code))) is not None:
            step(self, exchange)
        elif exchange.verb == "BDAT":
            self._envelope = None
            self.books.reached["letter in pieces refused"] += 1
        elif exchange.verb == LETTER:
            self._sending = None
            self.books.reached["letter refused"] += 1
        if exchange.code in PUT_OFF and exchange.verb != "RCPT":
            self.books.reached[f"put off: {exchange.first[:9]}"] += 1

    def _is_in_order(self, verb: str) -> bool:
        """Whether this may come now (RFC 5321 4.1.4, RFC 4954 4)."""
        envelope = self._envelope
        return {
            "MAIL": self._greeted and envelope is None,
            "RCPT": envelope is not None and not envelope.pieces,
            "DATA": envelope is not None and bool(envelope.recipients) and not envelope.pieces,
            "BDAT": envelope is not None and bool(envelope.recipients),
            "AUTH": self._greeted and envelope is None and not self.account,
        }.get(verb, verb != "STARTTLS" or not self.transport.secure)

    def _greet(self, exchange: Exchange) -> None:
        self._greeted = True
        self._envelope = None

    def _start_tls(self, exchange: Exchange) -> None:
        self._greeted = False
        self._envelope = None

    def _forget(self, exchange: Exchange) -> None:
        self._envelope = None

    def _mail(self, exchange: Exchange) -> None:
        sender, asked = grammar.from_path(exchange.argument.rstrip(b" \t").lstrip(b" "))
        known = sender.key if sender is not None and sender.key in PASSWORDS else ""
        believed = known if self._classic and self.private else ""
        if self.account and sender is not None and known != self.account:
            raise Broken(f"{self.account} sends as {exchange.said!r}")
        if self.port.startswith("submission") and not (self.account or believed):
            raise Broken(f"a stranger submits: {exchange.said!r}")
        if self._envelope is not None:
            raise Broken("a letter within a letter")
        self._envelope = Envelope(self.account or believed, held=asked.hold is not None)

    def _rcpt(self, exchange: Exchange) -> None:
        recipient, _ = grammar.to_path(exchange.argument.rstrip(b" \t").lstrip(b" "))
        key = recipient.key if recipient is not None else "postmaster@localhost"
        if self._envelope is None or key not in {*PASSWORDS, "postmaster@localhost"}:
            raise Broken(f"a recipient who is nobody: {exchange.said!r}")
        self._envelope.recipients.add(f"reception/{key}")

    def _data(self, exchange: Exchange) -> None:
        if self._envelope is None or not self._envelope.recipients:
            raise Broken("a letter for nobody")
        self._sending, self._envelope = self._envelope, None

    def _piece(self, exchange: Exchange) -> None:
        if self._envelope is None or not self._envelope.recipients:
            raise Broken("a piece of a letter for nobody")
        self._envelope.pieces.append(piece(exchange.said))
        if b"LAST" in exchange.said.partition(b"\r\n")[0].upper():
            envelope, self._envelope = self._envelope, None
            letter = sent_in_pieces(b"".join(envelope.pieces), *envelope.mailboxes)
            self.books.acknowledge(exchange.first.rpartition(" ")[2], letter)
            self.books.reached["letter in pieces"] += 1

    def _stored(self, exchange: Exchange) -> None:
        assert self._sending is not None
        letter = sent(exchange.said, *self._sending.mailboxes)
        self._sending = None
        self.books.acknowledge(exchange.first.rpartition(" ")[2], letter)

    def _left_at_work(self, said: bytes) -> None:
        if self.ledger.turn is Turn.LETTER and self._sending is not None:
            self.books.may_come(sent(said, *self._sending.mailboxes))
        elif self._envelope is not None and self._envelope.recipients and said[:4].upper() == b"BDAT":
            text = b"".join([*self._envelope.pieces, piece(said.removesuffix(b"\r\n"))])
            self.books.may_come(sent_in_pieces(text, *self._envelope.mailboxes))

    def _let_go(self) -> None:
        self._envelope = self._sending = None


def piece(said: bytes) -> bytes:
    """The octets behind BDAT's line, the last CRLF of which is missing in ``said``."""
    line, _, octets = said.partition(b"\r\n")
    count = int(line.split()[1])
    return octets if len(octets) == count else octets + b"\r\n"[: count - len(octets)]


_SMTP: dict[tuple[str, str], Callable[[SmtpClient, Exchange], None]] = {
    ("HELO", "250"): SmtpClient._greet,
    ("HELLO", "250"): SmtpClient._greet,
    ("EHLO", "250"): SmtpClient._greet,
    ("RSET", "250"): SmtpClient._forget,
    ("STARTTLS", "220"): SmtpClient._start_tls,
    ("AUTH", "235"): SmtpClient._logged_in,
    (RESPONSE, "235"): SmtpClient._logged_in,
    ("MAIL", "250"): SmtpClient._mail,
    ("RCPT", "250"): SmtpClient._rcpt,
    ("DATA", "354"): SmtpClient._data,
    (LETTER, "250"): SmtpClient._stored,
    ("BDAT", "250"): SmtpClient._piece,
}
