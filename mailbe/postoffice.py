"""The post office: who is local, who may send where, and which mailboxes a letter goes to.

Whom an address means, the first of these that there is tells:

1. an account of that very address, in whatever case;
2. an alias of it, which leads to accounts (``accounts/directory.py``);
3. the same without its tag (RFC 5233): ``alice+a+b`` is ``alice+a`` if there is one, else ``alice``;
4. for ``abuse``: whom ``postmaster`` means (RFC 2142);
5. the domain's catch-all, which is the alias ``@domain``;
6. for ``postmaster`` and ``abuse``: the mailbox that is kept until somebody reads it.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from sqlalchemy import Connection
from zope.interface import implementer

from mailbe.accounts import directory, quotas
from mailbe.accounts.database import Accounts
from mailbe.accounts.directory import ABUSE, OFFICES, POSTMASTER
from mailbe.address import Address
from mailbe.allowance import Allowance
from mailbe.durable import SMALL, Draft, Parcel, Writer, trouble
from mailbe.interfaces import (
    Destination,
    Envelope,
    ILetter,
    IPostOffice,
    ISubmitter,
    MailLoop,
    NoSuchMailbox,
    OverQuota,
    Quota,
    Recipient,
    RelayDenied,
    TryLater,
)
from mailbe.maildata import Maildata
from mailbe.rooms import Limited, Rooms
from mailbe.slip import Slip
from mailbe.surrogate import SurrogateSize
from mailbe.trace import MAX_HOPS, HeaderFilter, return_path

NO_QUOTA = Quota()
ELSEWHERE = -1  # in place of an alias's id: the domain is not served
FEW = 4  # names that are asked for one by one
MAX_HOST = 24  # octets in a name: a unique-id has room for 70 (RFC 1939 7)


@implementer(ISubmitter)
@dataclass(frozen=True, slots=True)
class Submitter:
    """An account whose owner is known to be the one who sends."""

    address: Address
    office: PostOffice

    def may_send_as(self, reverse_path: Address | None) -> bool:
        return (
            reverse_path is None
            or reverse_path.key == self.address.key
            or self.office.leads_to_one(reverse_path, self.address)
        )


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox on this machine."""

    path: Path
    quota: Quota | None
    """How much may lie in it, when a letter comes this way."""


Mailboxes = tuple[Mailbox, ...]  # a destination


@implementer(IPostOffice)
class PostOffice:
    """The post office of one maildata folder, for the domains it serves; see ``IPostOffice``."""

    def __init__(
        self,
        maildata: Maildata,
        accounts: Accounts,
        domains: Sequence[str],
        writer: Writer,
        rooms: Rooms,
        allowance: Allowance,
        *,
        separator: str = "+",
        quota: Quota = NO_QUOTA,
        memory: int = SMALL,
        now: Callable[[], float] = time.time,
    ) -> None:
        """:param domains: those that are served beside the directory's; the first is the server's name.
        :param separator: what stands between a name and its tag; empty: names have no tags.
        :param quota: of accounts that have none of their own.
        :param memory: octets of a letter on its way in that are kept in memory.
        :param now: the time in seconds since 1970; letters are named after it.
        """
        self._maildata = maildata
        self._spool = maildata.spool
        self._accounts = accounts
        self._first_domain = domains[0]
        self._domains = {directory.domain_key(domain) for domain in domains}
        self._rooms = rooms
        self._allowance = allowance
        self._separator = separator
        self._quota = quota
        self._writer = writer
        self._memory = memory
        self._now = now
        self._whom = partial(self._named)  # answers are kept by their question, and a method is slow to hash
        self._numbers = itertools.count()
        # A clock that is set back comes by the same time again, and in containers every process id may be the same.
        self._run = secrets.token_hex(4)
        self._host = _host_in_names(socket.gethostname())

    def destination(self, recipient: Address, submitter: ISubmitter | None) -> Destination:
        found = self._accounts.answer(self._whom, recipient.key, lately=True)
        if type(found) is tuple:  # as nearly always
            return found
        if found == ELSEWHERE:
            raise RelayDenied
        if not (mailboxes := self._meant(recipient)):
            raise NoSuchMailbox
        return mailboxes

    def room(self, destination: Destination, octets: int) -> Awaitable[None] | None:
        mailboxes: Mailboxes = destination  # type: ignore[assignment]
        for mailbox in mailboxes:
            if mailbox.quota is not None:
                # Where the size is not known, one octet must fit.
                return self._rooms.check(_limited(mailboxes), octets or 1)
        return None

    def may_hold(self, submitter: ISubmitter | None) -> Awaitable[None] | None:
        return self._allowance.check(self._sent_by(submitter))

    def leads_to_one(self, address: Address, account: Address) -> bool:
        """Whether letters to ``address`` reach this account, and nobody else.

        :raises TryLater:
        """
        try:
            mailboxes = cast(Mailboxes, self.destination(address, None))
        except (RelayDenied, NoSuchMailbox):
            return False
        return [mailbox.path for mailbox in mailboxes] == [self._maildata.reception(account)]

    def submitter(self, address: Address) -> Submitter:
        """The account of this address, which has logged in."""
        return Submitter(address, self)

    def account(self, address: Address) -> int | None:
        """The id of the account of this very address, which no other account ever has.

        :raises TryLater:
        """
        account = self._accounts.at(address)
        return None if account is None else account.id

    def postmaster(self) -> Address:
        return Address(POSTMASTER, self._first_domain)

    def believed(self, reverse_path: Address | None) -> ISubmitter | None:
        account = None if reverse_path is None else self._accounts.at(reverse_path)
        return None if account is None else self.submitter(account.address)

    def letter(self, envelope: Envelope) -> ILetter:
        copies: Mailboxes = ()
        if envelope.submitter is not None:
            copies = (Mailbox(self._maildata.envoi(envelope.submitter.address), None),)
        now = self._now()
        seconds, fraction = divmod(now, 1)
        number = next(self._numbers)
        id = f"{int(seconds)}.M{int(fraction * 1e6):06}P{os.getpid()}Q{number:06}R{self._run}.{self._host}"
        wait = None if envelope.release is None else self._hold(id, envelope, now)
        recipients, others = (envelope.recipients, copies) if wait is None else ((), (wait.mailbox, *copies))
        draft = Draft(self._spool / id, self._memory)
        letter = Letter(id, draft, recipients, others, self._writer, self._rooms, wait)
        letter.begin(envelope.reverse_path)
        return letter

    def _hold(self, id: str, envelope: Envelope, now: float) -> Wait:
        """Quotas are asked for when it is released."""
        submitter = None if envelope.submitter is None else envelope.submitter.address
        account = self._sent_by(envelope.submitter)
        octets = Slip(envelope, submitter, now, account=account).encode()
        draft = Draft(self._spool / f"{id}.envelope", len(octets))
        draft.write(octets)
        slip = Parcel(draft, id, (self._maildata.held_envelopes,))
        return Wait(Mailbox(self._maildata.held_letters, None), slip, account, self._allowance)

    def _sent_by(self, submitter: ISubmitter | None) -> int | None:
        return None if submitter is None else self.account(submitter.address)

    def _meant(self, recipient: Address) -> Mailboxes:
        """The mailboxes of an address that is no account's."""
        names = list(_names(recipient.local, self._separator))
        plain = {name.lower() for name in names}
        if ABUSE in plain:
            names.append(POSTMASTER)
        keys = tuple(Address(name, recipient.domain).key for name in (*names, directory.CATCH_ALL))
        if len(keys) > FEW:  # a stranger may write thirty tags, and each question keeps others waiting
            keys = self._accounts.answer(directory.known, keys, same_look=True)
        found = None
        for key in keys:
            found = self._accounts.answer(self._whom, key, same_look=True)
            if found is not None:
                break
        if isinstance(found, int):
            found = self._accounts.answer(self._members, found, same_look=True)
        if plain.isdisjoint(OFFICES):
            return found or ()
        # RFC 5321 4.5.1: their letters are taken, with hardly an exception.
        kept = self._maildata.reception(Address(POSTMASTER, recipient.domain))
        return tuple(Mailbox(mailbox.path, None) for mailbox in found or ()) or (Mailbox(kept, None),)

    # What is asked of the file, and kept in memory.

    def _named(self, connection: Connection, key: str) -> Mailboxes | int | None:
        """The mailbox of the account of this very address, or the id of the alias; ``ELSEWHERE``, or nobody's."""
        domain = key.rpartition("@")[2]
        if domain not in self._domains and not directory.is_served(connection, domain):
            return ELSEWHERE
        resident = directory.resident(connection, key)
        if resident is None:
            return directory.alias(connection, key)
        return (self._mailbox(resident, limited=key.rpartition("@")[0] not in OFFICES),)

    def _members(self, connection: Connection, alias: int) -> Mailboxes:
        return tuple(self._mailbox(resident) for resident in directory.members(connection, alias))

    def _mailbox(self, resident: directory.Resident, *, limited: bool = True) -> Mailbox:
        quota = quotas.effective(resident.octets, resident.letters, self._quota) if limited else None
        return Mailbox(self._maildata.reception(resident.address), quota)


@dataclass(frozen=True, slots=True)
class Wait:
    """Where a letter waits that is to be released later."""

    mailbox: Mailbox
    slip: Parcel
    """What is to be safe on the disk before the letter has any name but its draft's."""
    account: int | None
    """By whose allowance it waits."""
    allowance: Allowance


@implementer(ILetter)
class Letter:
    """A letter on its way into mailboxes on this machine; see ``ILetter``."""

    def __init__(
        self,
        id: str,
        draft: Draft,
        recipients: Sequence[Recipient],
        others: Mailboxes,
        writer: Writer,
        rooms: Rooms,
        wait: Wait | None = None,
    ) -> None:
        """:param others: where it goes to beside its recipients."""
        self.id = id
        self._draft = draft
        self._recipients = recipients
        self._others = others
        self._writer = writer
        self._rooms = rooms
        self._wait = wait
        self._header = HeaderFilter()
        self._surrogate = SurrogateSize()
        self._failure: TryLater | None = None

    def begin(self, reverse_path: Address | None) -> None:
        """Put the Return-Path on top, where final delivery wants it (RFC 5321 4.4)."""
        self._store(return_path(reverse_path))

    def write(self, chunk: bytes) -> None:
        self._store(self._header.feed(chunk))

    async def deliver(self) -> None:
        self._complete()
        mailboxes = self._reached_by(self._recipients)
        if limited := _limited(mailboxes):
            await self._see_room(limited)
        await self._put_into(mailboxes)

    async def deliver_to_each(self) -> list[OverQuota | None]:
        self._complete()
        full: dict[int, OverQuota | None] = {}  # by destination, as many may be one
        for recipient in self._recipients:
            if id(recipient.destination) not in full:
                full[id(recipient.destination)] = await self._is_over_quota(cast(Mailboxes, recipient.destination))
        outcome = [full[id(recipient.destination)] for recipient in self._recipients]
        taken = [one for one, error in zip(self._recipients, outcome, strict=True) if error is None]
        if taken:
            await self._put_into(self._reached_by(taken))
        return outcome

    def discard(self) -> None:
        self._writer.discard(self._draft)

    def _complete(self) -> None:
        """It has come whole.

        :raises MailLoop, TryLater:
        """
        self._store(self._header.end())
        if self._failure is not None:
            raise self._failure
        if self._header.hops > MAX_HOPS:
            raise MailLoop

    def _reached_by(self, recipients: Sequence[Recipient]) -> Mailboxes:
        """Where it goes to for these recipients, and whoever they are."""
        return (*joined(recipient.destination for recipient in recipients), *self._others)

    async def _is_over_quota(self, mailboxes: Mailboxes) -> OverQuota | None:
        try:
            await self._see_room(_limited(mailboxes))
        except OverQuota as error:
            return error
        return None

    async def _see_room(self, limited: list[Limited]) -> None:
        """:raises OverQuota, TryLater:"""
        if (looking := self._rooms.check(limited, self._draft.octets)) is not None:
            await looking

    async def _put_into(self, mailboxes: Mailboxes) -> None:
        octets = self._draft.octets
        surrogate = self._surrogate.end()
        told = "" if surrogate is None else f",A={surrogate}"
        name = f"{self.id}{told},S={octets},W={octets}"
        parcel = Parcel(self._draft, name, tuple(mailbox.path for mailbox in mailboxes))
        if self._wait is not None:
            await self._hold(parcel, self._wait)
        else:
            await self._writer.store(parcel)
        for mailbox, _ in _limited(mailboxes):
            self._rooms.delivered(mailbox, octets)

    async def _hold(self, parcel: Parcel, wait: Wait) -> None:
        await wait.allowance.take(self.id, wait.account)
        try:
            await self._writer.store(wait.slip)
            try:
                await self._writer.store(parcel)
            except Exception:
                self._writer.remove(wait.slip)
                raise
        except Exception:
            wait.allowance.dropped(self.id)
            raise
        wait.allowance.stored(self.id)

    def _store(self, chunk: bytes) -> None:
        if self._failure is not None:
            return
        self._surrogate.feed(chunk)
        try:
            self._draft.write(chunk)
        except OSError as error:
            self._failure = trouble(error)
            self.discard()  # others may need its room while the rest of it comes in


def joined(destinations: Iterable[Destination]) -> Mailboxes:
    """The mailboxes of one letter to all ``destinations``.

    By whichever way it comes to a mailbox, it comes there once; a way without a quota goes before others.
    """
    mailboxes: dict[Path, Mailbox] = {}
    # Each once, as a thousand recipients may be one list of a thousand, with a thousand tags.
    for destination in {id(destination): destination for destination in destinations}.values():
        for mailbox in cast(Mailboxes, destination):
            if mailbox.quota is None or mailbox.path not in mailboxes:
                mailboxes[mailbox.path] = mailbox
    return tuple(mailboxes.values())


def _limited(mailboxes: Mailboxes) -> list[Limited]:
    return [(mailbox.path, mailbox.quota) for mailbox in mailboxes if mailbox.quota is not None]


def _names(local: str, separator: str) -> Iterator[str]:
    """A local part, and what stays of it without its last tag, without its last two, and so on."""
    yield local
    while separator and (cut := local.rfind(separator)) > 0:
        local = local[:cut]
        yield local


def _host_in_names(host: str) -> str:
    """``host`` as it may stand in the name of a file in a Maildir, and short enough for a unique-id."""
    return host.replace("/", "\\057").replace(":", "\\072").replace(",", "\\054")[:MAX_HOST] or "localhost"
