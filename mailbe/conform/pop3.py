"""Talking POP3: status lines, and a wire that judges them."""

from __future__ import annotations

import re

from mailbe.conform import sasl
from mailbe.conform.rules import Differs, Unclear
from mailbe.conform.wire import Lost, Wire, shown

MAX_STATUS_LINE = 512  # octets with CRLF, RFC 1939 3, RFC 2449 4
Capabilities = dict[str, list[str]]
"""What a reply to CAPA says: capability in capitals, and its parameters."""


class Pop3Wire(Wire):
    """A connection to a POP3 server."""

    refusals = 0
    """How often it has said -ERR; who says it too often may hang up."""

    def status(self) -> bytes:
        """The next status line.

        :raises Lost: the connection ended, or this is no POP3.
        :raises Silence:
        """
        line = self.line()
        self.dialogue.heard(line)
        if not re.match(rb"(?:\+OK|-ERR)(?: |\Z)", line, re.IGNORECASE):
            if not re.match(rb"\+OK|-ERR", line):
                raise Lost(f"this is no status line: {shown(line)}")
            self.dialogue.oddities.append(f"no space behind the status indicator: {shown(line)}")
        elif not line.startswith((b"+OK", b"-ERR")):
            self.dialogue.oddities.append(f"a status indicator that is not in upper case: {shown(line)}")
        if len(line) + 2 > MAX_STATUS_LINE:
            self.dialogue.oddities.append(f"a line of {len(line) + 2} octets: {shown(line)}")
        self.refusals += not positive(line)
        return line

    def say(self, line: str | bytes, masked: str = "") -> bytes:
        """Say a line, and hear the status.

        :raises Lost, Silence:
        """
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n", masked)
        return self.status()

    def ok(self, line: str | bytes) -> bytes:
        """Say a line that must be answered +OK; returns the status line.

        :raises Differs, Silence:
        """
        return self._judged(line, "+OK", good=True)

    def err(self, line: str | bytes) -> None:
        """Say a line that must be answered -ERR.

        :raises Differs, Silence:
        """
        self._judged(line, "-ERR", good=False)

    def _judged(self, line: str | bytes, wanted: str, *, good: bool) -> bytes:
        try:
            status = self.say(line)
        except Lost as error:
            if self.refusals:
                raise Unclear(f"it hung up after {self.refusals} mistakes, as a server may") from error
            raise Differs(wanted, self.sent, str(error)) from error
        if positive(status) != good:
            raise Differs(wanted, self.sent, shown(status))
        return status

    def need(self, line: str | bytes) -> bytes:
        """Say a line on the way to what is judged, which needs +OK.

        :raises Unclear:
        """
        try:
            status = self.say(line)
        except Lost as error:
            raise Unclear(f"on the way, {self.sent} was answered: {error}") from error
        if not positive(status):
            raise Unclear(f"on the way, {self.sent} was answered {shown(status)}")
        return status

    def text(self) -> bytes:
        """What follows the status line of a multi-line answer, unstuffed, without its lone dot (RFC 1939 3).

        :raises Lost, Silence:
        """
        octets = b"" if self.starts_with(b".\r\n") else self.until(b"\r\n.\r\n")[:-3]
        if not octets:
            self.until(b".\r\n")
        self.dialogue.heard(octets + b".\r\n")
        return (b"\r\n" + octets).replace(b"\r\n.", b"\r\n")[2:]

    def listing(self, line: str) -> list[bytes]:
        """Say a line that is answered with a list, on the way to what is judged.

        :raises Unclear, Lost:
        """
        self.need(line)
        return self.text().split(b"\r\n")[:-1]

    def judged_listing(self, line: str) -> list[bytes]:
        """The same, where it must be answered +OK.

        :raises Differs, Unclear, Lost:
        """
        self.ok(line)
        return self.text().split(b"\r\n")[:-1]

    def capa(self) -> Capabilities:
        """What the server can do; nothing where it does not know CAPA.

        :raises Lost, Silence:
        """
        if not positive(self.say("CAPA")):
            return {}
        words = [line.decode("ascii", "replace").split(" ") for line in self.text().split(b"\r\n")[:-1]]
        return {word[0].upper(): word[1:] for word in words}

    def auth(self, mechanism: str, login: sasl.Login, *, initial: bool = True) -> bytes:
        """Log in by SASL; returns the status line. For the parameters see ``SmtpWire.auth``.

        :raises Lost, Silence, Unclear:
        """
        client, first = sasl.begun(mechanism, login)
        with_it = f" {(first or b'=').decode()}" if initial and first is not None else ""
        pending = None if with_it else first
        self.send(f"AUTH {mechanism}{with_it}\r\n".encode(), f"AUTH {mechanism}{' ****' if with_it else ''}")
        while self.starts_with(b"+ ") or self.starts_with(b"+\r"):
            line = self.line()
            self.dialogue.heard(line)
            response = pending if pending is not None else sasl.answer(client, line[2:])
            pending = None
            self.send(response + b"\r\n", "****")
        return self.status()


def positive(status: bytes) -> bool:
    """Whether a status line says yes."""
    return status[:3].upper() == b"+OK"
