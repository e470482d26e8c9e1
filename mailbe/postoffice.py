"""The post office: who is local, who may send where, and which mailboxes a letter goes to."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from zope.interface import implementer

from mailbe.accounts.database import Accounts
from mailbe.address import Address, ascii_domain
from mailbe.durable import SMALL, Draft, Parcel, Writer, trouble
from mailbe.interfaces import (
    Destination,
    Envelope,
    ILetter,
    IPostOffice,
    ISubmitter,
    MailLoop,
    NoSuchMailbox,
    RelayDenied,
    TryLater,
)
from mailbe.maildata import Maildata
from mailbe.surrogate import SurrogateSize
from mailbe.trace import MAX_HOPS, HeaderFilter, return_path

POSTMASTER = "postmaster"  # RFC 5321 4.5.1: every domain has one
MAX_HOST = 24  # octets in a name: a unique-id has room for 70 (RFC 1939 7)


@implementer(ISubmitter)
@dataclass(frozen=True, slots=True)
class Submitter:
    """An account whose owner is known to be the one who sends."""

    address: Address

    def may_send_as(self, reverse_path: Address | None) -> bool:
        return reverse_path is None or reverse_path.key == self.address.key


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A destination on this machine."""

    path: Path


@implementer(IPostOffice)
class PostOffice:
    """The post office of one maildata folder, for the domains it serves; see ``IPostOffice``."""

    def __init__(
        self,
        maildata: Maildata,
        accounts: Accounts,
        domains: Sequence[str],
        writer: Writer,
        memory: int = SMALL,
        now: Callable[[], float] = time.time,
    ) -> None:
        """:param memory: octets of a letter on its way in that are kept in memory.
        :param now: the time in seconds since 1970; letters are named after it.
        """
        self._maildata = maildata
        self._spool = maildata.spool
        self._accounts = accounts
        self._first_domain = domains[0]
        self._domains = {ascii_domain(domain) for domain in domains}
        self._writer = writer
        self._memory = memory
        self._now = now
        self._numbers = itertools.count()
        # A clock that is set back comes by the same time again, and in containers every process id may be the same.
        self._run = secrets.token_hex(4)
        self._host = _host_in_names(socket.gethostname())

    def destination(self, recipient: Address, submitter: ISubmitter | None) -> Destination:
        domain = ascii_domain(recipient.domain)
        if domain not in self._domains:
            raise RelayDenied
        account = self._accounts.at(recipient, lately=True)
        if account is not None:
            return Mailbox(self._maildata.reception(account.address))
        if recipient.local.lower() == POSTMASTER:
            # Kept until an account of that name is made, which then finds it.
            return Mailbox(self._maildata.reception(Address(POSTMASTER, domain)))
        raise NoSuchMailbox

    def postmaster(self) -> Address:
        return Address(POSTMASTER, self._first_domain)

    def believed(self, reverse_path: Address | None) -> ISubmitter | None:
        account = None if reverse_path is None else self._accounts.at(reverse_path)
        return None if account is None else Submitter(account.address)

    def letter(self, envelope: Envelope) -> ILetter:
        mailboxes = [cast(Mailbox, destination).path for destination in envelope.destinations]
        if envelope.submitter is not None:
            mailboxes.append(self._maildata.envoi(envelope.submitter.address))
        seconds, fraction = divmod(self._now(), 1)
        number = next(self._numbers)
        id = f"{int(seconds)}.M{int(fraction * 1e6):06}P{os.getpid()}Q{number:06}R{self._run}.{self._host}"
        draft = Draft(self._spool / id, self._memory)
        letter = Letter(id, draft, tuple(dict.fromkeys(mailboxes)), self._writer)
        letter.begin(envelope.reverse_path)
        return letter


@implementer(ILetter)
class Letter:
    """A letter on its way into mailboxes on this machine; see ``ILetter``."""

    def __init__(self, id: str, draft: Draft, mailboxes: tuple[Path, ...], writer: Writer) -> None:
        self.id = id
        self._draft = draft
        self._mailboxes = mailboxes
        self._writer = writer
        self._header = HeaderFilter()
        self._surrogate = SurrogateSize()
        self._failure: TryLater | None = None

    def begin(self, reverse_path: Address | None) -> None:
        """Put the Return-Path on top, where final delivery wants it (RFC 5321 4.4)."""
        self._store(return_path(reverse_path))

    def write(self, chunk: bytes) -> None:
        self._store(self._header.feed(chunk))

    async def deliver(self) -> None:
        self._store(self._header.end())
        if self._failure is not None:
            raise self._failure
        if self._header.hops > MAX_HOPS:
            raise MailLoop
        octets = self._draft.octets
        surrogate = self._surrogate.end()
        told = "" if surrogate is None else f",U={surrogate}"
        name = f"{self.id}{told},S={octets},W={octets}"
        await self._writer.store(Parcel(self._draft, name, self._mailboxes))

    def discard(self) -> None:
        self._writer.discard(self._draft)

    def _store(self, chunk: bytes) -> None:
        if self._failure is not None:
            return
        self._surrogate.feed(chunk)
        try:
            self._draft.write(chunk)
        except OSError as error:
            self._failure = trouble(error)
            self.discard()  # others may need its room while the rest of it comes in


def _host_in_names(host: str) -> str:
    """``host`` as it may stand in the name of a file in a Maildir, and short enough for a unique-id."""
    return host.replace("/", "\\057").replace(":", "\\072").replace(",", "\\054")[:MAX_HOST] or "localhost"
