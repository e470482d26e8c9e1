"""Talking SMTP: replies, and a wire that judges them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mailbe.conform import sasl
from mailbe.conform.rules import Differs, Unclear
from mailbe.conform.wire import Lost, Wire, shown
from mailbe.dots import stuffed

MAX_REPLY_LINE = 512  # octets with CRLF, RFC 5321 4.5.3.1.5
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STRICT = re.compile(rb"[2-5][0-5][0-9](?:[ -][\t -~]*)?")  # RFC 5321 4.2, Reply-line
Offers = dict[str, list[str]]
"""What an EHLO reply offers: keyword in capitals, and its parameters."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, of one or more lines."""

    code: str
    lines: tuple[bytes, ...]
    """What stands behind the code in each."""

    @property
    def text(self) -> bytes:
        return self.lines[-1]

    def __str__(self) -> str:
        more = f" (and {len(self.lines) - 1} more lines)" if len(self.lines) > 1 else ""
        return f"{self.code} {shown(self.lines[0])}{more}".rstrip()

    def among(self, codes: str) -> bool:
        """Whether it is one of ``codes``, such as ``250``, ``500 502`` or ``5``, which is any 5yz."""
        return any(self.code.startswith(code) for code in codes.split())

    def offers(self) -> Offers:
        """What it offers, as the reply to EHLO."""
        words = [line.decode("ascii", "replace").split() for line in self.lines[1:]]
        return {word[0].upper(): word[1:] for word in words if word}


class SmtpWire(Wire):
    """A connection to an SMTP server."""

    refusals = 0
    """How often it has said 5yz; who says it too often may hang up."""

    def reply(self) -> Reply:
        """The next reply.

        :raises Lost: the connection ended, or this is no SMTP.
        :raises Silence:
        """
        lines: list[bytes] = []
        codes: list[bytes] = []
        while True:
            line = self.line()
            self.dialogue.heard(line)
            if not (found := _LINE.fullmatch(line)):
                raise Lost(f"this is no SMTP reply: {shown(line)}")
            if not _STRICT.fullmatch(line):
                self.dialogue.oddities.append(f"a line with another code or other characters: {shown(line)}")
            if len(line) + 2 > MAX_REPLY_LINE:
                self.dialogue.oddities.append(f"a line of {len(line) + 2} octets: {shown(line)}")
            lines.append(found[3] or b"")
            codes.append(found[1])
            if found[2] != b"-":
                break
        if len(set(codes)) > 1:
            self.dialogue.oddities.append(f"codes {b' '.join(codes).decode()} in one reply")
        reply = Reply(codes[-1].decode(), tuple(lines))
        self.refusals += reply.code.startswith("5")
        return reply

    def say(self, line: str | bytes, masked: str = "") -> Reply:
        """Say a line, and hear the reply.

        :raises Lost, Silence:
        """
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n", masked)
        return self.reply()

    def want(self, codes: str, line: str | bytes, wanted: str = "") -> Reply:
        """Say a line whose reply is judged.

        :param codes: those that keep the rule, see ``Reply.among``.
        :param wanted: the same in words.
        :raises Differs, Silence:
        """
        return self.judged(codes, wanted, line)

    def judged(self, codes: str, wanted: str = "", line: str | bytes | None = None) -> Reply:
        """The same; without a line, for the reply to what was said before."""
        try:
            reply = self.reply() if line is None else self.say(line)
        except Lost as error:
            if self.refusals:
                raise Unclear(f"it hung up after {self.refusals} mistakes") from error
            raise Differs(wanted or _words(codes), self.sent, str(error)) from error
        if reply.code == "421":
            raise Unclear(f"{self.sent} was answered {reply}, which a server may say at any time (RFC 5321 3.8)")
        if not reply.among(codes):
            raise Differs(wanted or _words(codes), self.sent, str(reply))
        return reply

    def want_no_data(self, line: str | None = "DATA") -> None:
        """See that DATA is refused: at once, or when a lone dot has come (RFC 5321 3.3).

        :param line: ``None`` where it was said in a group.
        :raises Differs, Silence:
        """
        if self.judged("354 5", "503 or 554", line).code == "354":
            self.send(b".\r\n")
            self.judged("4 5", "a refusal, as there is nobody to deliver to")

    def need(self, codes: str, line: str | bytes) -> Reply:
        """Say a line on the way to what is judged.

        :raises Unclear:
        """
        try:
            reply = self.say(line)
        except Lost as error:
            raise Unclear(f"on the way, {self.sent} was answered: {error}") from error
        if not reply.among(codes):
            raise Unclear(f"on the way, {self.sent} was answered {reply}")
        return reply

    def hello(self, verb: str = "EHLO") -> Offers:
        """Say EHLO with our address, the one name that is always right (RFC 5321 4.1.3).

        :raises Unclear:
        """
        return self.need("250", f"{verb} {self.literal}").offers()

    @property
    def literal(self) -> str:
        """Our address as a literal (RFC 5321 4.1.3)."""
        address = ipaddress.ip_address(self.address.partition("%")[0])
        return f"[{'IPv6:' if address.version == 6 else ''}{address}]"

    def auth(self, mechanism: str, login: sasl.Login, *, initial: bool = True) -> Reply:
        """Log in; returns the last reply.

        :param initial: whether to send the initial response with the command, where the mechanism has one.
        :raises Lost, Silence, Unclear:
        """
        client, first = sasl.begun(mechanism, login)
        with_it = f" {(first or b'=').decode()}" if initial and first is not None else ""
        reply = self.say(f"AUTH {mechanism}{with_it}", f"AUTH {mechanism}{' ****' if with_it else ''}")
        pending = None if with_it else first
        while reply.code == "334":
            response = pending if pending is not None else sasl.answer(client, reply.text)
            pending = None
            reply = self.say(response, "****")
        return reply

    def content(self, octets: bytes) -> Reply:
        """Send a letter after 354, and hear what becomes of it.

        :raises Lost, Silence:
        """
        self.send(b"".join(stuffed([octets])))
        return self.reply()

    def quit(self) -> None:
        """Say good-bye, whatever is answered."""
        try:
            self.say("QUIT")
        except (Lost, Unclear):
            pass
        finally:
            self.close()


def _words(codes: str) -> str:
    return " or ".join(f"{code}yz" if len(code) == 1 else code for code in codes.split())
