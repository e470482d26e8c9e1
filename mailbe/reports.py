"""Reports to a sender of what has become of his letter (RFC 3461 6, RFC 3464).

A report is a letter of three parts (RFC 6522): what a person reads, what a program reads, and what has come of the
letter itself, so that its sender knows which one it was. They are put together by hand: a letter comes back with the
octets that it has, and composing by the standard library would read it and write it anew.

It goes by the post office, and with a null reverse-path, so there is never a report of a report (RFC 3461 6.1). Who has
no mailbox here gets none: we send nothing to other hosts.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from binascii import b2a_qp
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.header import decode_header, make_header
from email.utils import formatdate

from twisted.logger import Logger

from mailbe.interfaces import (
    Envelope,
    IPostOffice,
    MailboxFull,
    NoSuchMailbox,
    OverQuota,
    Recipient,
    RelayDenied,
    TryLater,
)

log = Logger()

MAX_HEADER = 64 * 1024  # octets of a header that are sent back
MAX_RETURNED = 1024 * 1024  # octets of a letter that is sent back whole; else it is the header (RFC 3461 6.2)
MAX_LINE = 998  # octets without CRLF, RFC 5322 2.1.1
MAX_TOLD = 200  # characters of a subject that are told

_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_WHY = {
    NoSuchMailbox: "nobody of that name is here",
    RelayDenied: "that is another host's",
    OverQuota: "the mailbox is full",
    MailboxFull: "there is no room on the disk",
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of a letter to one recipient."""

    recipient: Recipient
    action: str
    """``delivered``, ``delayed`` or ``failed`` (RFC 3464 2.3.3)."""
    status: str
    """The enhanced status code: ``2.1.5`` (RFC 3463)."""
    text: str = ""
    """Why, for people, in ASCII; empty where there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Action:
    """What is said where that has happened, and who is told."""

    wish: str
    """The word of NOTIFY for those who want to know."""
    by_default: bool
    """Whether those want to know who have not said."""
    subject: str
    people: str


# In the order in which they count for a subject.
ACTIONS = {
    "failed": Action("FAILURE", True, "Your letter could not be delivered", "It could not be delivered to:"),
    "delayed": Action("DELAY", True, "Your letter is late", "It could not be delivered yet, and is tried again, to:"),
    "delivered": Action("SUCCESS", False, "Your letter was delivered", "It is now in the mailbox of:"),
}


class Reports:
    """Makes reports, and has the post office deliver them."""

    def __init__(self, office: IPostOffice, host: str, now: Callable[[], float] = time.time) -> None:
        """:param host: the name that we go by.
        :param now: the time of day, in seconds since 1970.
        """
        self._office = office
        self._host = host
        self._now = now

    async def send(
        self, envelope: Envelope, letter: str, arrived: float, fates: Sequence[Fate], content: Iterable[bytes]
    ) -> bool:
        """Tell the sender, in one report, those of ``fates`` that he has asked for; there may be none.

        It is safely in his mailbox when this returns. Where it cannot be (he is not local, it has no room, ...), one
        line stands in the log, and nothing is raised. Returns whether he knows now all that he has asked for.

        :param letter: its id, see ``ILetter``.
        :param arrived: when it came, in seconds since 1970.
        :param content: the letter, its trace lines included, in chunks of any size. Only as many are taken as are
            sent back: the header, or all of it if it failed and ``envelope.whole`` is set.
        """
        told = [fate for fate in fates if _is_wanted(fate)]
        if envelope.reverse_path is None or not told:
            return True
        try:
            await self._deliver(Report(envelope, letter, arrived, told, self._host, self._now()), content)
        except (NoSuchMailbox, RelayDenied, TryLater, OSError) as error:
            why = _WHY.get(type(error)) or str(error)
            log.warn("{letter}: no report to {sender}: {why}", letter=letter, sender=_ascii(envelope), why=why)
            return False
        except Exception:
            # It must not be the end of what has gone well without it.
            log.failure("{letter}: no report to {sender}", letter=letter, sender=_ascii(envelope))
            return False
        return True

    async def _deliver(self, report: Report, content: Iterable[bytes]) -> None:
        sender = report.envelope.reverse_path
        assert sender is not None
        destination = self._office.destination(sender, None)
        letter = self._office.letter(Envelope(None, recipients=[Recipient(sender, destination)]))
        try:
            letter.write(report.compose(content, str(self._office.postmaster())))
            await letter.deliver()
        finally:
            letter.discard()


class Report:
    """One report."""

    def __init__(
        self, envelope: Envelope, letter: str, arrived: float, fates: Sequence[Fate], host: str, now: float
    ) -> None:
        self.envelope = envelope
        self._letter = letter
        self._arrived = arrived
        self._fates = sorted(fates, key=lambda fate: list(ACTIONS).index(fate.action))
        self._host = host
        self._now = now

    def compose(self, content: Iterable[bytes], postmaster: str) -> bytes:
        """The report as a letter: lines with CRLF, of UTF-8 where they must be.

        :param content: see ``Reports.send``.
        :param postmaster: whom it is from.
        """
        returned, whole = self._returned(content)
        header = _header(returned)
        parts = [
            _part("text/plain", self._for_people(_readable(_field(header, b"subject")))),
            _part("message/delivery-status", self._for_programs()),
            _part("message/rfc822", returned) if whole else _part("text/rfc822-headers", header),
        ]
        boundary = secrets.token_hex(16)
        ids = _ID.findall(_field(header, b"message-id"))[:1]
        lines = [
            f"From: Mail Delivery System <{postmaster}>",
            f"To: <{self.envelope.reverse_path}>",
            f"Subject: {ACTIONS[self._fates[0].action].subject}",
            f"Date: {formatdate(self._now, localtime=True)}",
            f"Message-ID: <{secrets.token_hex(16)}@{self._host}>",
            *(f"{name}: {id}" for id in ids for name in ("In-Reply-To", "References")),
            "Auto-Submitted: auto-replied",  # RFC 3834 5
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
            *([] if all(map(bytes.isascii, parts)) else ["Content-Transfer-Encoding: 8bit"]),
        ]
        delimiter = f"\r\n--{boundary}".encode()
        body = b"".join(delimiter + b"\r\n" + part for part in parts)
        return "\r\n".join(lines).encode() + b"\r\n" + body + delimiter + b"--\r\n"

    def _returned(self, content: Iterable[bytes]) -> tuple[bytes, bool]:
        """What is sent back: the letter, or what has its header at least; and whether it is the letter."""
        whole = self.envelope.whole and self._fates[0].action == "failed"
        most = MAX_RETURNED if whole else MAX_HEADER
        taken = bytearray()
        for chunk in content:
            taken += chunk
            if len(taken) > most or (not whole and b"\r\n\r\n" in taken):
                return bytes(taken), False
        return bytes(taken), whole

    def _for_people(self, subject: str) -> bytes:
        lines = [
            f"This is the mail server of {self._host}. You have sent a letter,",
            "",
            *([f"    Subject: {subject}"] if subject else []),
            f"    Arrived: {formatdate(self._arrived, localtime=True)}",
        ]
        for action, about in ACTIONS.items():
            fates = [fate for fate in self._fates if fate.action == action]
            if fates:
                lines += ["", about.people, ""]
            for fate in fates:
                address, meant = str(fate.recipient.address), fate.recipient.original.partition(";")[2]
                said = f", when you wrote to {meant}" if meant not in ("", address) else ""
                lines.append(f"    {_printable(address + said)}")
                if fate.text:
                    lines.append(f"        {_printable(fate.text)} ({fate.status})")
        lines += ["", "What follows is for mail programs, and a part of your letter."]
        return "".join(f"{line}\r\n" for line in lines).encode()

    def _for_programs(self) -> bytes:
        """The fields of RFC 3464 2.2 and 2.3."""
        envelope = self.envelope
        kind = "dns" if "." in self._host else "x-local-hostname"  # RFC 3461 6.3
        lines = [
            *([f"Original-Envelope-Id: {envelope.id}"] if envelope.id else []),
            f"Reporting-MTA: {kind}; {self._host}",
            f"Arrival-Date: {formatdate(self._arrived, localtime=True)}",
            # RFC 2852 5, RFC 4865 5.1.2.
            *([f"Deliver-By-Date: {formatdate(envelope.deadline.until, localtime=True)}"] if envelope.deadline else []),
            *([f"Future-Release-Request: {envelope.hold}"] if envelope.hold else []),
        ]
        for fate in self._fates:
            lines += ["", *self._about(fate)]
        return "".join(f"{line}\r\n" for line in lines).encode()

    def _about(self, fate: Fate) -> Iterator[str]:
        recipient = fate.recipient
        if recipient.original:
            yield f"Original-Recipient: {recipient.original}"
        yield f"Final-Recipient: {'rfc822' if recipient.address.is_ascii else 'utf-8'}; {recipient.address}"
        yield f"Action: {fate.action}"
        yield f"Status: {fate.status}"
        if fate.text:
            yield f"Diagnostic-Code: x-mailbe; {_printable(fate.text)}"
        yield f"Last-Attempt-Date: {formatdate(self._now, localtime=True)}"
        yield f"Final-Log-Id: {self._letter}"


# RFC 6533 4: what these are called where they have UTF-8.
_GLOBAL = {
    "message/delivery-status": "message/global-delivery-status",
    "message/rfc822": "message/global",
    "text/rfc822-headers": "message/global-headers",
}


def _part(kind: str, content: bytes) -> bytes:
    """A part of a report, its header before it."""
    head = content.partition(b"\r\n\r\n")[0] if kind == "message/rfc822" else content
    lines = [f"Content-Type: {kind}; charset=utf-8" if kind == "text/plain" else f"Content-Type: {kind}"]
    if kind in _GLOBAL and not head.isascii() and _is_utf8(head):
        lines = [f"Content-Type: {_GLOBAL[kind]}"]
    if kind == "text/rfc822-headers" and not (_is_utf8(content) and _has_lines(content)):
        # RFC 6522 4, for a header that no header should be.
        content = b2a_qp(content)
        lines.append("Content-Transfer-Encoding: quoted-printable")
    elif not content.isascii():
        lines.append("Content-Transfer-Encoding: 8bit")
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + content


def _header(content: bytes) -> bytes:
    """The whole lines of the header that ``content`` begins with."""
    header, end, _ = content[:MAX_HEADER].partition(b"\r\n\r\n")
    return header + b"\r\n" if end else header[: header.rfind(b"\r\n") + 2]


def _field(header: bytes, name: bytes) -> str:
    """What stands in the first field of this name; to take all fields apart takes long where there are thousands."""
    found = re.search(rb"(?:\A|\r\n)%b[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)" % name, header, re.IGNORECASE)
    return found[1].decode("utf-8", "replace") if found else ""


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_lines(content: bytes) -> bool:
    return b"\0" not in content and all(len(line) <= MAX_LINE for line in content.split(b"\r\n"))


def _is_wanted(fate: Fate) -> bool:
    action, wishes = ACTIONS[fate.action], fate.recipient.notify
    return action.by_default if wishes is None else action.wish in wishes


def _readable(field: str) -> str:
    """A field of a letter as people read it, in one line."""
    field = " ".join(field.split())[: 4 * MAX_TOLD]
    with contextlib.suppress(MessageError, ValueError, LookupError):  # or as it stands
        field = str(make_header(decode_header(field)))
    return _printable(field)[:MAX_TOLD]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _ascii(envelope: Envelope) -> str:
    return str(envelope.reverse_path).encode("ascii", "backslashreplace").decode()
