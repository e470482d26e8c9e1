"""Letters to send, and the octets of those that came back."""

from __future__ import annotations

import email.policy
import poplib
import re
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import cast
from urllib.parse import quote

from tests.end_to_end.server import PASSWORDS

DOTTED_TEXT = "Grüße aus Köln, für 3 €.\n.\n..\n.x\n...\n\n.\nund Schluß\n"
SECONDS = 60  # the most that one reply may take

# What mailbe puts on top of a letter: one Return-Path line and one Received field, folded.
_TRACE = re.compile(rb"Return-Path: <[^\r\n]*>\r\nReceived: [^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*")


@dataclass(frozen=True)
class Tls:
    """How a client comes to TLS: by a command, or from the first octet."""

    context: ssl.SSLContext
    implicit: bool = False
    host: str = "127.0.0.1"
    """Whose name or address must stand in the certificate."""


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
def sender(port: int, address: str | None = None, tls: Tls | None = None) -> Iterator[smtplib.SMTP]:
    """An SMTP session, logged in as ``address`` where one is given."""
    client = "client.test"
    smtp: smtplib.SMTP
    if tls and tls.implicit:
        smtp = smtplib.SMTP_SSL(tls.host, port, client, timeout=SECONDS, context=tls.context)
    else:
        smtp = smtplib.SMTP(tls.host if tls else "127.0.0.1", port, client, timeout=SECONDS)
    with smtp:
        if tls and not tls.implicit:
            smtp.starttls(context=tls.context)
        if address:
            smtp.login(address, PASSWORDS[address])
        yield smtp


def send(
    port: int,
    address: str,
    recipients: Sequence[str],
    octets: bytes,
    *,
    log_in: bool = True,
    tls: Tls | None = None,
) -> None:
    """Send a letter from ``address``; every recipient must be taken."""
    with sender(port, address if log_in else None, tls) as smtp:
        refused = smtp.sendmail(address, recipients, octets, mail_options=["BODY=8BITMIME"])
        assert not refused, refused


@contextmanager
def maildrop(port: int, name: str, password: str | None = None, tls: Tls | None = None) -> Iterator[poplib.POP3]:
    """A POP3 session of ``name``, which ends with QUIT unless the test ended it before."""
    pop3: poplib.POP3
    if tls and tls.implicit:
        pop3 = poplib.POP3_SSL(tls.host, port, timeout=SECONDS, context=tls.context)
    else:
        pop3 = poplib.POP3(tls.host if tls else "127.0.0.1", port, timeout=SECONDS)
    try:
        if tls and not tls.implicit:
            pop3.stls(tls.context)
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


def fetch(port: int, name: str, tls: Tls | None = None) -> list[bytes]:
    """The octets of all messages in a maildrop; they stay there."""
    with maildrop(port, name, tls=tls) as pop3:
        return [retrieve(pop3, number) for number in range(1, pop3.stat()[0] + 1)]


def below_trace(stored: bytes) -> bytes:
    """A stored letter without the trace lines that mailbe put on top."""
    trace = _TRACE.match(stored)
    assert trace, f"no Return-Path and Received lines on top: {stored[:500]!r}"
    return stored[trace.end() :]
