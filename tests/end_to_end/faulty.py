"""Servers with one fault each, for the torture to find: ``python -m tests.end_to_end.faulty FAULT -n mailbe …``.

The rest of the command line is twistd's. Where a fault is a matter of moments, the moment is made long: where it can
be, it lasts from one letter to the next, so that every crash hits it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.python import threadpool
from twisted.scripts.twistd import run

from mailbe import durable, maildir, release
from mailbe.durable import Draft, Parcel, Shelved, Writer, make_mailbox
from mailbe.held import Held, Letter
from mailbe.maildata import Maildata
from mailbe.maildir import Maildrop
from mailbe.slip import Slip

FAULTS: dict[str, Callable[[], None]] = {}

real_store, real_store_all = Writer.store, Writer.store_all


def fault(install: Callable[[], None]) -> Callable[[], None]:
    FAULTS[install.__name__] = install
    return install


def command(name: str) -> list[str]:
    """What starts the server with the fault ``name``, without the service's own options."""
    assert name in FAULTS
    return [sys.executable, "-m", "tests.end_to_end.faulty", name, "-n", "mailbe"]


def contents(draft: Draft | Shelved) -> bytes:
    in_memory = isinstance(draft, Draft) and draft._descriptor is None
    return bytes(draft._content) if in_memory else draft.path.read_bytes()


@fault
def acknowledges_before_it_writes() -> None:
    def store(writer: Writer, parcel: Parcel) -> Deferred[None]:
        twin = copy.copy(parcel.draft)
        # What was acknowledged is discarded.
        parcel.draft._content, parcel.draft._descriptor, parcel.draft._in_spool = bytearray(), None, False
        real_store(writer, Parcel(twin, parcel.name, parcel.mailboxes))
        return succeed(None)

    def store_all(writer: Writer, parcels: list[Parcel]) -> list[Exception | None]:
        time.sleep(0.2)
        return real_store_all(writer, parcels)

    Writer.store, Writer.store_all = store, store_all  # type: ignore[method-assign]


@fault
def writes_straight_into_new() -> None:
    rest: list[tuple[Path, bytes]] = []  # the second halves of those that came last

    def store_all(writer: Writer, parcels: list[Parcel]) -> list[Exception | None]:
        for path, octets in rest:
            if path.exists():  # nobody has fetched and deleted what there is of it
                with path.open("ab") as file:
                    file.write(octets)
        rest.clear()
        for parcel in parcels:
            octets = contents(parcel.draft)
            for mailbox in parcel.mailboxes:
                make_mailbox(mailbox)
                path = mailbox / "new" / parcel.name
                path.write_bytes(octets[: len(octets) // 2])
                rest.append((path, octets[len(octets) // 2 :]))
            writer.discard(parcel.draft)
        return [None] * len(parcels)

    Writer.store_all = store_all  # type: ignore[method-assign]


@fault
def deletes_after_it_has_said_so() -> None:
    real = Maildrop.delete

    async def delete(maildrop: Maildrop, indices: Iterable[int]) -> None:
        reactor.callLater(60, lambda: Deferred.fromCoroutine(real(maildrop, indices)))  # type: ignore[attr-defined]

    Maildrop.delete = delete  # type: ignore[method-assign]


@fault
def brings_deleted_letters_back() -> None:
    def unlink(maildrop: Maildrop, name: str) -> None:
        trash = maildrop._mailbox / "trash" / name
        trash.parent.mkdir(parents=True, exist_ok=True)
        (maildrop._mailbox / name).rename(trash)

    def sweep(maildata: Maildata) -> int:
        for path in maildata.root.glob("reception/*/trash/*/*"):
            path.rename(path.parents[2] / path.parent.name / path.name)
        return 0

    Maildrop._unlink = unlink  # type: ignore[method-assign]
    Maildata.sweep = sweep  # type: ignore[method-assign]


@fault
def delivers_again_after_a_crash() -> None:
    done: list[Path] = []  # the orders of those that came last

    def store_all(writer: Writer, parcels: list[Parcel]) -> list[Exception | None]:
        orders = []
        for parcel in parcels:
            if isinstance(parcel.draft, Shelved):
                continue
            order = [
                parcel.name,
                [str(mailbox) for mailbox in parcel.mailboxes],
                contents(parcel.draft).decode("latin-1"),
            ]
            orders.append(parcel.draft.path.with_name(f"order-{parcel.name}"))
            orders[-1].write_text(json.dumps(order))
        outcome = real_store_all(writer, parcels)
        if orders:
            for path in done:
                path.unlink()
            done[:] = orders
        return outcome

    def sweep(maildata: Maildata) -> int:
        for path in maildata.spool.iterdir():
            with contextlib.suppress(ValueError):  # none that was written to its end
                name, mailboxes, text = json.loads(path.read_text())
                for mailbox in map(Path, mailboxes):
                    make_mailbox(mailbox)
                    (mailbox / "new" / f"again-{name}").write_bytes(text.encode("latin-1"))
            path.unlink()
        return 0

    Writer.store_all = store_all  # type: ignore[method-assign]
    Maildata.sweep = sweep  # type: ignore[method-assign]


@fault
def delivers_to_one_more() -> None:
    last: list[Path] = []

    def store(writer: Writer, parcel: Parcel) -> Deferred[None]:
        mailboxes = tuple(dict.fromkeys([*parcel.mailboxes, *last]))
        last[:] = parcel.mailboxes[:1]
        return real_store(writer, Parcel(parcel.draft, parcel.name, mailboxes))

    Writer.store = store  # type: ignore[method-assign]


@fault
def sweeps_nothing() -> None:
    def store_all(writer: Writer, parcels: list[Parcel]) -> list[Exception | None]:
        for parcel in parcels:
            if isinstance(parcel.draft, Draft):
                parcel.draft._write_out()
        time.sleep(0.2)
        return real_store_all(writer, parcels)

    Writer.store_all = store_all  # type: ignore[method-assign]
    Maildata.sweep = lambda maildata: 0  # type: ignore[method-assign]


@fault
def leaves_its_locks_behind() -> None:
    def lock_folder(folder: Path) -> int:
        try:
            return os.open(folder / "lock", os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            raise BlockingIOError from None

    def close(maildrop: Maildrop) -> None:
        os.close(maildrop._lock)
        reactor.callLater(60, (maildrop._mailbox / "lock").unlink)  # type: ignore[attr-defined]

    maildir.lock_folder = lock_folder  # type: ignore[attr-defined]
    Maildrop.close = close  # type: ignore[method-assign]


@fault
def forgets_what_it_holds() -> None:
    def sweep(maildata: Maildata) -> int:
        shutil.rmtree(maildata.held_letters, ignore_errors=True)
        shutil.rmtree(maildata.held_envelopes, ignore_errors=True)
        return real_sweep(maildata)

    real_sweep = Maildata.sweep
    Maildata.sweep = sweep  # type: ignore[assignment, method-assign]


@fault
def keeps_for_ever_what_it_held() -> None:
    began = time.time()
    real_scan = Held.scan

    def scan(held: Held) -> tuple[dict[str, Letter], list[Path]]:
        letters, alone = real_scan(held)
        return {id: letter for id, letter in letters.items() if letter.path.stat().st_mtime > began}, alone

    Held.scan = scan  # type: ignore[method-assign]


@fault
def releases_before_the_time() -> None:
    Slip.release = property(lambda slip: 0.0)  # type: ignore[assignment]


@fault
def releases_again_after_a_crash() -> None:
    real_base, real_remove = release.base, Held.remove
    released: list[str] = []  # those that came last

    def remove(held: Held, ids: Iterable[str]) -> None:
        if over := list(ids):
            real_remove(held, released)
            released[:] = over

    release.base = lambda name: f"{os.getpid()}-{real_base(name)}"
    Held.remove = remove  # type: ignore[method-assign]


@fault
def hangs() -> None:
    Writer.store = lambda writer, parcel: Deferred()  # type: ignore[method-assign]


@fault
def ends_by_itself() -> None:
    def store(writer: Writer, parcel: Parcel) -> Deferred[None]:
        os._exit(3)

    Writer.store = store  # type: ignore[method-assign]


@fault
def does_not_come_up() -> None:
    def start(pool: threadpool.ThreadPool) -> None:
        sys.stderr.write("no threads today\n")
        sys.stderr.flush()
        os._exit(1)  # and no exit in order, which the threads that there are would hold up

    threadpool.ThreadPool.start = start  # type: ignore[method-assign]


@fault
def syncs_no_folder() -> None:
    durable.sync_folder = maildir.sync_folder = lambda folder: None  # type: ignore[attr-defined]


@fault
def syncs_no_file() -> None:
    def sync(draft: Draft) -> None:
        draft._write_out()
        draft._close()

    Draft.sync = sync  # type: ignore[method-assign]


@fault
def syncs_no_new_mailbox() -> None:
    def make(mailbox: Path) -> None:
        for name in durable.FOLDERS:
            (mailbox / name).mkdir(parents=True, exist_ok=True)

    durable.make_mailbox = maildir.make_mailbox = make  # type: ignore[attr-defined]


@fault
def syncs_no_deletion() -> None:
    maildir.sync_folder = lambda folder: None  # type: ignore[attr-defined]


@fault
def syncs_no_copy() -> None:
    real = durable.sync_folder

    def sync_folder(folder: Path) -> None:
        if "envoi" not in folder.parts:
            real(folder)

    durable.sync_folder = sync_folder  # type: ignore[assignment]


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    run()
