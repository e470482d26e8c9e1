"""Letters to send, and the octets of those that came back."""

from __future__ import annotations

import email.policy
import poplib
import re
import smtplib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from typing import cast
from urllib.parse import quote

from tests.end_to_end.server import PASSWORDS

DOTTED_TEXT = "Grüße aus Köln, für 3 €.\n.\n..\n.x\n...\n\n.\nund Schluß\n"
SECONDS = 30  # the most that one reply may take

# What mailbe puts on top of a letter: one Return-Path line and one Received field, folded.
_TRACE = re.compile(rb"Return-Path: <[^\r\n]*>\r\nReceived: [^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*")


def letter(
    sender: str, recipients: Sequence[str], subject: str, text: str = DOTTED_TEXT, attachment: bytes | None = None
) -> bytes:
    """A letter with 8-bit text as it goes over the wire, before dots are stuffed."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = subject
    message["Date"] = "Sat, 22 Nov 2025 21:00:00 +0100"
    message["Message-ID"] = f"<{quote(subject)}@client.test>"
    message.set_content(text, cte="8bit")
    if attachment is not None:
        message.add_attachment(attachment, "application", "octet-stream", filename="attachment.bin")
    return message.as_bytes()


@contextmanager
def sender(port: int, address: str | None = None) -> Iterator[smtplib.SMTP]:
    """An SMTP session, logged in as ``address`` where one is given."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=SECONDS) as smtp:
        if address:
            smtp.login(address, PASSWORDS[address])
        yield smtp


def send(port: int, address: str, recipients: Sequence[str], octets: bytes, *, log_in: bool = True) -> None:
    """Send a letter from ``address``; every recipient must be taken."""
    with sender(port, address if log_in else None) as smtp:
        refused = smtp.sendmail(address, recipients, octets, mail_options=["BODY=8BITMIME"])
        assert not refused, refused


@contextmanager
def maildrop(port: int, name: str, password: str | None = None) -> Iterator[poplib.POP3]:
    """A POP3 session of ``name``, which ends with QUIT unless the test ended it before."""
    pop3 = poplib.POP3("127.0.0.1", port, timeout=SECONDS)
    try:
        pop3.user(name)
        pop3.pass_(password or PASSWORDS[name])
        yield pop3
        if pop3.sock:
            pop3.quit()
    finally:
        pop3.close()


def retrieve(pop3: poplib.POP3, number: int) -> bytes:
    """The octets of one message, as many as LIST says."""
    octets = b"".join(line + b"\r\n" for line in pop3.retr(number)[1])
    answer = cast(bytes, pop3.list(number))  # typeshed knows only the answer to LIST without a number
    listed = int(answer.split()[2])
    assert len(octets) == listed, f"message {number}: LIST says {listed} octets, RETR sent {len(octets)}"
    return octets


def fetch(port: int, name: str) -> list[bytes]:
    """The octets of all messages in a maildrop; they stay there."""
    with maildrop(port, name) as pop3:
        return [retrieve(pop3, number) for number in range(1, pop3.stat()[0] + 1)]


def below_trace(stored: bytes) -> bytes:
    """A stored letter without the trace lines that mailbe put on top."""
    trace = _TRACE.match(stored)
    assert trace, f"no Return-Path and Received lines on top: {stored[:500]!r}"
    return stored[trace.end() :]
