"""One try to deliver a letter that was held: to whom it still can be, and what its sender is told (RFC 4865, RFC 2852).

Each recipient is asked for anew. To who has gone meanwhile it has failed. Where a mailbox is full, or the disk does not
take it, that recipient waits, and the others do not wait for him.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailbe.address import Address
from mailbe.durable import Parcel, Shelved, Writer, sync_folder, trouble
from mailbe.held import Letter, id_of
from mailbe.interfaces import (
    Envelope,
    NoSuchMailbox,
    OffReactor,
    OverQuota,
    Recipient,
    RelayDenied,
    TryLater,
)
from mailbe.letterfile import base, contents
from mailbe.listing import scan
from mailbe.postoffice import Mailbox, Mailboxes, PostOffice, joined
from mailbe.reports import Fate, Reports
from mailbe.rooms import Rooms
from mailbe.slip import Slip

DELAY = 4 * 3600.0  # seconds of failing until the sender is told
GIVE_UP = 5 * 86400.0  # seconds of failing, RFC 5321 4.5.4.1
PUNCTUAL = 5.0  # seconds that a release may take: somebody looks once a second
LAST_RESORT = 2 * GIVE_UP  # seconds until the postmaster has to do with it

REPORTS = 4  # that are made at a time: each may bring a megabyte back, and others want the processor, too

# The status of who is gone, and why, for people.
_GONE = {
    NoSuchMailbox: ("5.1.1", "nobody of that name is here any more"),
    RelayDenied: ("5.1.2", "mail for that domain is not taken here any more"),
}

log = Logger()


@dataclass(slots=True)
class _Outcome:
    """What one try has come to, by recipient."""

    delivered: list[Recipient] = field(default_factory=list)
    gone: list[tuple[Recipient, type[Exception]]] = field(default_factory=list)
    waiting: list[tuple[Recipient, TryLater]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    """The names of the mailboxes that have it."""


class Release:
    """Delivers held letters into the mailboxes of one post office."""

    def __init__(
        self, office: PostOffice, rooms: Rooms, writer: Writer, reports: Reports, off_reactor: OffReactor
    ) -> None:
        self._office = office
        self._rooms = rooms
        self._writer = writer
        self._reports = reports
        self._off_reactor = off_reactor
        self._reporting = DeferredSemaphore(REPORTS)
        self._looking: dict[Path, list[Deferred[frozenset[str]]]] = {}
        # Where one lies, by its id, though the writer could not put it there: he takes it away when he can.
        self._left: set[tuple[str, Path]] = set()

    async def attempt(self, id: str, letter: Letter, slip: Slip, now: float, *, doubtful: bool) -> Slip:
        """Deliver a letter as far as that can be done now, and tell its sender; returns what is left to do.

        :param now: the time in seconds since 1970.
        :param doubtful: whether it may lie in some of its mailboxes already, by a try that was cut off.
        """
        submitter = None if slip.submitter is None else self._office.submitter(slip.submitter)
        envelope = replace(slip.envelope, submitter=submitter)
        if self._is_gone(slip):
            envelope.reverse_path = None  # who has that address now is not to read what another has sent
        failing = now if slip.failing is None else min(slip.failing, now)
        to_postmaster = now - failing >= LAST_RESORT or not self._is_here(envelope.reverse_path)
        report = partial(self._report, id, letter, slip.arrived, envelope, to_postmaster=to_postmaster)
        deadline = envelope.deadline
        # BY and HOLDFOR may say the same time (RFC 4865 5.2.2): that we come a second later is not the letter's fault.
        if deadline is not None and now > max(deadline.until, slip.release + PUNCTUAL):
            if deadline.give_up:
                why = "the time is over until which it was of use"
                is_told = await report([Fate(recipient, "failed", "5.4.7", why) for recipient in envelope.recipients])
                return replace(slip.left(() if is_told else envelope.recipients), failing=failing)
            if "deadline" not in slip.told:
                why = "it is late, and is delivered nevertheless"
                await report([Fate(recipient, "delayed", "4.4.7", why) for recipient in envelope.recipients])
                slip = replace(slip, told=slip.told | {"deadline"})
        outcome = await self._deliver(id, letter, envelope, slip.done, doubtful=doubtful)
        fates = [Fate(recipient, "delivered", "2.1.5") for recipient in outcome.delivered]
        fates += [Fate(recipient, "failed", *_GONE[kind]) for recipient, kind in outcome.gone]
        left: Sequence[Recipient] = [recipient for recipient, _ in outcome.waiting]
        told = slip.told
        if now - failing >= GIVE_UP:
            why = "it was tried for five days: "
            fates += [Fate(each, "failed", "5.4.7", why + _reason(error)[1]) for each, error in outcome.waiting]
            left = ()
        elif left and now - failing >= DELAY and "delay" not in told:
            fates += [Fate(each, "delayed", *_reason(error)) for each, error in outcome.waiting]
            told |= {"delay"}
        if not await report(fates):
            left = [*left, *(fate.recipient for fate in fates if fate.action == "failed")]
        return replace(slip.left(left), failing=failing, told=told, done=frozenset(outcome.done))

    async def _deliver(
        self, id: str, letter: Letter, envelope: Envelope, done: Iterable[str], *, doubtful: bool
    ) -> _Outcome:
        outcome = _Outcome(done=set(done))
        reached: list[tuple[Recipient, Mailboxes]] = []
        for recipient in envelope.recipients:
            try:
                destination = self._office.destination(recipient.address, envelope.submitter)
                reached.append((recipient, cast(Mailboxes, destination)))
            except tuple(_GONE) as error:
                outcome.gone.append((recipient, type(error)))
            except TryLater as error:
                outcome.waiting.append((recipient, error))
        mailboxes = joined(destination for _, destination in reached)
        wanted = [mailbox for mailbox in mailboxes if mailbox.path.name not in outcome.done]
        failed = await self._put(id, letter, wanted, doubtful=doubtful)
        outcome.done |= {mailbox.path.name for mailbox in wanted if mailbox.path not in failed}
        for recipient, destination in reached:
            errors = [failed[mailbox.path] for mailbox in destination if mailbox.path in failed]
            if errors:
                outcome.waiting.append((recipient, errors[0]))
            else:
                outcome.delivered.append(recipient)
        return outcome

    async def _put(
        self, id: str, letter: Letter, mailboxes: Iterable[Mailbox], *, doubtful: bool
    ) -> Mapping[Path, TryLater]:
        """Put a letter into mailboxes; why it is not in some of them."""
        failed: dict[Path, TryLater] = {}
        into: list[Path] = []
        limited: list[Path] = []
        for path, quota in ((mailbox.path, mailbox.quota) for mailbox in mailboxes):
            try:
                if doubtful and (id, path) not in self._left and id in await self._ids(path):
                    continue
                if quota is not None:
                    looking = self._rooms.check([(path, quota)], letter.octets)
                    if looking is not None:
                        await looking
                    limited.append(path)
                into.append(path)
            except TryLater as error:
                failed[path] = error
        if into and await self._store(letter, into) is not None:
            # All or none is for clients that wait for a reply. Here one bad mailbox must not stop the others.
            for path in into:
                if (why := await self._store(letter, [path])) is not None:
                    failed[path] = why
        for path in into:
            (self._left.add if path in failed else self._left.discard)((id, path))
        for path in limited:
            if path not in failed:
                self._rooms.delivered(path, letter.octets)
        for path, why in failed.items():
            if not why.logged:
                log.warn("{id} waits for {mailbox}: {error}", id=id, mailbox=str(path), error=why)
        return failed

    async def _ids(self, mailbox: Path) -> frozenset[str]:
        """The ids of the letters that are safely in a mailbox. Who asks while somebody looks gets what he sees: of the
        many letters that one may hold, none is put there but by its own try.

        :raises TryLater:
        """
        mine: Deferred[frozenset[str]] = Deferred()
        waiting = self._looking.setdefault(mailbox, [])
        waiting.append(mine)
        if len(waiting) == 1:
            self._off_reactor(partial(_ids, mailbox)).addBoth(self._looked, mailbox)
        return await mine

    def _looked(self, seen: frozenset[str] | Failure, mailbox: Path) -> None:
        for each in self._looking.pop(mailbox):
            if isinstance(seen, Failure):
                each.errback(seen)
            else:
                each.callback(seen)

    async def _store(self, letter: Letter, mailboxes: Sequence[Path]) -> TryLater | None:
        parcel = Parcel(Shelved(letter.path), base(letter.path.name), tuple(mailboxes))
        try:
            await self._writer.store(parcel)
        except TryLater as error:
            return error
        return None

    async def _report(
        self,
        id: str,
        letter: Letter,
        arrived: float,
        envelope: Envelope,
        fates: Sequence[Fate],
        *,
        to_postmaster: bool,
    ) -> bool:
        """Tell the sender; or, where something has failed and he cannot be told, the postmaster, who gets the letter.

        Returns whether everybody knows who wants to.
        """
        failed = [fate for fate in fates if fate.action == "failed"]
        if failed and to_postmaster:
            postmaster = self._office.postmaster()
            mailboxes = cast(Mailboxes, self._office.destination(postmaster, None))
            if await self._put(id, letter, mailboxes, doubtful=True):
                return False
            envelope = replace(envelope, reverse_path=postmaster, whole=False)
            fates = [replace(fate, recipient=replace(fate.recipient, notify=None)) for fate in failed]
        if fates:
            content = contents(str(letter.path))
            if not await self._reporting.run(self._reports.send, envelope, id, arrived, fates, content):
                return False
        if failed:
            log.warn("{id} is given up for {count} recipients", id=id, count=len(failed))
        return True

    def _is_gone(self, slip: Slip) -> bool:
        """Whether the account that sent it is not there any more, though another may have its address."""
        try:
            return slip.submitter is not None and self._office.account(slip.submitter) != slip.account
        except TryLater:
            return False  # perhaps; nobody is told anything now

    def _is_here(self, sender: Address | None) -> bool:
        """Whether we can tell ``sender`` anything."""
        if sender is None:
            return False
        try:
            self._office.destination(sender, None)
        except (NoSuchMailbox, RelayDenied):
            return False
        except TryLater:
            pass  # he may be
        return True


def _ids(mailbox: Path) -> frozenset[str]:
    """The ids of the letters that are safely in ``mailbox``.

    :raises TryLater:
    """
    try:
        names, _ = scan(mailbox)
        for name in ("new", "cur"):  # who linked one may have died before he did this
            sync_folder(mailbox / name)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise trouble(error) from error
    return frozenset(map(id_of, names))


def _reason(error: TryLater) -> tuple[str, str]:
    """A status, and words for people."""
    if isinstance(error, OverQuota):
        return "4.2.2", "the mailbox is full"
    return "4.3.0", "it cannot be stored now"
