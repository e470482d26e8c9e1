"""The model's delivery reports (RFC 3461 6, RFC 3464)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.model.smtp import Envelope, Recipient
from tests.model.talk import DOMAIN

_REPORT = """\
Return-Path: <>
From: <postmaster@{domain}>
To: <{sender}>
Subject: It was delivered
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=x

--x
Content-Type: text/plain

Somebody has your letter.

--x
Content-Type: message/delivery-status

Reporting-MTA: dns; {domain}
{about}
{recipients}
--x
Content-Type: text/rfc822-headers

{header}

--x--
"""


def report(letter: Envelope, recipients: Sequence[Recipient], octets: bytes) -> bytes:
    """What the sender is told: these have the letter."""
    text = _REPORT.format(
        domain=DOMAIN,
        sender=letter.sender,
        about=f"Original-Envelope-Id: {_plain(envid)}\n" if (envid := letter.parameters.get("ENVID")) else "",
        recipients="\n".join(map(_block, recipients)),
        header=octets.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n", "\n"),
    )
    return text.replace("\n", "\r\n").encode()


def _block(recipient: Recipient) -> str:
    orcpt = recipient.parameters.get("ORCPT")
    original = f"Original-Recipient: {_plain(orcpt)}\n" if orcpt else ""
    return f"{original}Final-Recipient: rfc822; {recipient.address}\nAction: delivered\nStatus: 2.1.5\n"


def _plain(xtext: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), xtext)
