"""What tests of storage share: a maildata folder, and threads that are none."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailbe import listing
from mailbe.accounts import database, guard
from mailbe.accounts.database import Accounts
from mailbe.address import Address
from mailbe.allowance import Allowance
from mailbe.durable import Parcel, Writer
from mailbe.held import Held
from mailbe.interfaces import IPostOffice, ISubmitter, Recipient
from mailbe.limits import Limits
from mailbe.maildata import Maildata
from mailbe.postoffice import PostOffice
from mailbe.rooms import Rooms

T = TypeVar("T")

ALICE, BOB = Address("alice", "localhost"), Address("bob", "localhost")


def at_once(work: Callable[[], T]) -> Deferred[T]:
    """An ``OffReactor`` that keeps everybody waiting."""
    return execute(work)


def same_marks(case: SynchronousTestCase) -> None:
    """Let the guard keep the same sixteen bits of a wrong password in every run.

    They hang upon the secret of each file, and by it one pair of passwords in 65536 counts as one.
    """
    digest = guard._digest
    case.patch(guard, "_digest", lambda _key, *rest: digest(b"", *rest))


def with_patience(case: SynchronousTestCase) -> None:
    """Let those who use one database at a time wait for each other, however slow the disk is."""
    case.patch(database, "WRITE_PATIENCE", 300.0)
    case.patch(database, "CHANGE_PATIENCE_MS", 300_000)
    case.patch(database, "READ_PATIENCE_MS", 300_000)


def stop_time(case: SynchronousTestCase) -> int:
    """Let it be now for as long as nobody says otherwise, however slow this machine is; and nobody sets the clock.

    Returns the time, in nanoseconds since 1970.
    """
    now = time.time_ns()
    case.patch(time, "time_ns", lambda: now)
    case.patch(listing, "_clock", lambda: 0)
    return now


def reached(office: IPostOffice, *addresses: Address, submitter: ISubmitter | None = None) -> list[Recipient]:
    """The recipients of a letter, as RCPT makes them."""
    return [Recipient(address, office.destination(address, submitter)) for address in addresses]


class PromptWriter(Writer):
    """A writer without a thread."""

    def store(self, parcel: Parcel) -> Deferred[None]:
        (error,) = self.store_all([parcel])
        done: Deferred[None] = Deferred()
        if error is None:
            done.callback(None)
        else:
            done.errback(error)
        return done


class Office:
    """A post office on a folder of its own, with accounts for alice and bob."""

    def __init__(self, root: Path) -> None:
        self.maildata = Maildata(root)
        self.maildata.prepare()
        self.accounts = Accounts(self.maildata.accounts)
        self.accounts.add_all([(ALICE, "{MD5}" + "0" * 32), (BOB, "{MD5}" + "0" * 32)])
        self.writer = PromptWriter(lambda work: work())
        self.clock = Clock()
        self.clock.advance(1_700_000_000.25)
        self.monotonic = Clock()
        self.office = self.restart()

    def restart(self, *, most_held: int = Limits().held, **options: Any) -> PostOffice:
        """The post office as another process has it, or this one after a restart, with other options."""
        settings: dict[str, Any] = {"domains": ["localhost", "Example.ORG"], "now": self.clock.seconds, **options}
        rooms = Rooms(at_once, self.monotonic.seconds)
        allowance = Allowance(Held(self.maildata), most_held, at_once, self.monotonic.seconds)
        return PostOffice(
            self.maildata, self.accounts, writer=self.writer, rooms=rooms, allowance=allowance, **settings
        )

    def files(self) -> list[str]:
        """All files below reception, envoi and spool, by path."""
        return files(self.maildata)


def files(maildata: Maildata) -> list[str]:
    """All files below reception, envoi and spool, by path."""
    return sorted(
        str(path.relative_to(maildata.root))
        for folder in ("reception", "envoi", "spool")
        for path in (maildata.root / folder).rglob("*")
        if path.is_file()
    )
