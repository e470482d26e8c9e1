"""The rounds: load, a crash at a random moment, a new start, and the account of every letter.

A crash is a SIGKILL, or a power cut: then the maildata lies on a disk that forgets what was not synced. Of a server
with several workers a SIGKILL may hit one alone, which must be replaced.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from mailbe.durable import SMALL
from mailbe.interfaces import TryLater
from mailbe.maildata import Maildata, Unusable
from mailbe.torture.audit import Openings, left_over, on_disk, waiting
from mailbe.torture.clients import HOLDS, PAUSE, Load, Record
from mailbe.torture.ledger import ENVOI, RECEPTION, Attempt, Fault, Kind, Ledger
from mailbe.torture.letters import Texts, chance
from mailbe.torture.people import AT_ONCE, NEWCOMERS, People
from mailbe.torture.server import POLL, Down, Server, twistd

T = TypeVar("T")

USABLE = 1.0  # seconds from the server's listening, after which every mailbox must be open
FIRST_ANSWER = 30.0  # seconds that the first acknowledged letter may take; a server that takes longer hangs
ROUND = 1.0  # seconds that one takes at least
RELEASED = 15.0  # seconds that letters are waited for which are held; the longest time that they wait is in it
RELAPSES = 0.1  # share of the crashes that are followed by one more, while the server gets up
GETTING_UP = 1.0  # seconds within which that happens


class Disk(Protocol):
    """A disk whose power can be cut; see ``forgetful.ForgetfulDisk``."""

    def mount(self) -> None: ...

    def cut(self) -> None: ...

    def restore(self) -> None: ...

    def unmount(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Way:
    """One way to crash."""

    name: str
    longest: float = 1.0
    """Seconds of load at most, from its first acknowledged letter to the crash."""
    disk: Callable[[Path, int], Disk] | None = None
    """Makes the disk that is mounted on a folder, its random choices from a seed; ``None``: SIGKILL alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every way to crash."""

    seed: int
    senders: int = 8
    command: Sequence[str] = field(default_factory=twistd)
    """The command that starts the server, without its options."""
    workers: int = 1
    """How many processes serve. With several, SIGKILL hits one of them, or the supervisor, or all at once."""


@dataclass(slots=True)
class Tally:
    """What came of one way to crash."""

    name: str
    asked: int
    rounds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Letters and deletions, by the names in ``report.COUNTED``."""
    faults: list[Fault] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds from the server's listening to its last mailbox opened, in the worst round."""
    slowest_start: float = 0.0
    """The same from the start of its process."""

    @property
    def proves(self) -> bool:
        """Whether anything was put to the test at all."""
        return self.counts["acknowledged"] > 0


class Ordeal:
    """One server, on one maildata, crashed in one way over and over."""

    def __init__(self, plan: Plan, way: Way, folder: Path, tally: Tally) -> None:
        """:param folder: an empty one, for the maildata and the logs of the server."""
        self._plan = plan
        self._way = way
        self._folder = folder
        self._tally = tally
        self._choices = chance(plan.seed, way.name)
        self._disk: Disk | None = None
        root = folder / "maildata"
        if way.disk is not None:
            mounted = folder / "disk"
            mounted.mkdir()
            self._disk = way.disk(mounted, self._choices.randrange(2**32))
            root = mounted / "maildata"
        self._maildata = Maildata(root)
        self._server = Server(root, folder, plan.command, plan.workers)
        self._ledger = Ledger()
        self._strays: set[Path] = set()  # those that were told of
        self._texts = Texts(chance(plan.seed))

    def run(self, deadline: float, watch: Callable[[], object]) -> None:
        """Do the rounds that were asked for, or as many as can begin before ``deadline`` on the monotonic clock.

        :param watch: called after each.
        :raises forgetful.Unavailable: and others that are no fault of the server's.
        """
        if self._disk is not None:
            self._disk.mount()
        try:
            self._maildata.prepare_root()
            self._people = People(self._maildata)
            self._people.join(AT_ONCE - NEWCOMERS)
            self._server.start()
            while self._tally.rounds < self._tally.asked and time.monotonic() < deadline:
                self._round(self._tally.rounds + 1)
                self._tally.rounds += 1
                watch()
            self._see_all_released(self._tally.rounds)
        except (Down, TryLater, Unusable) as error:  # the latter two of the accounts, which we change beside the server
            self._blame([Fault(Kind.DOWN, self._tally.rounds + 1, "server", str(error))])
        finally:
            try:
                self._server.kill()
            finally:
                if self._disk is not None:
                    self._disk.unmount()

    def _round(self, number: int) -> None:
        newcomers = self._people.join(NEWCOMERS)
        seed = f"{self._plan.seed}-{self._tally.name}-{number}"
        people = tuple(self._people.present)
        # Who is about to leave gets no more mail, or the folder's sync would make good for deletions without one.
        recipients = people[NEWCOMERS:]
        load = Load(
            seed,
            self._server.ports,
            people,
            recipients,
            self._texts,
            self._plan.senders,
            # Who stays a round longer still has hardly ever to be waited for, until he has what was held for him.
            staying=recipients[NEWCOMERS:],
            # So there is hardly anything to be waited for at the end.
            holds=[seconds for seconds in HOLDS if seconds <= (self._tally.asked - number) * ROUND],
            released=self._ledger.released,
        )
        try:
            load.start()
            begun = time.monotonic()
            while not load.acknowledged.wait(POLL):
                self._server.check()
                if time.monotonic() - begun > FIRST_ANSWER:
                    raise Down(f"no letter was acknowledged in {FIRST_ANSWER:.0f} s of load; see {self._server.log}")
            # Early moments more often than late ones: much is done for the first time then.
            time.sleep(self._way.longest * self._choices.random() ** 2)
            self._server.check()
        finally:
            try:
                self._end(number)
            finally:
                record = load.stop()
        self._recover()
        self._server.start()
        self._count(record, newcomers)
        self._blame(self._account(number, record))
        self._server.check()
        self._await_releases(number, people[:NEWCOMERS])  # or there would be reports that nobody is there any more
        for owner in self._people.leave(NEWCOMERS):
            self._ledger.forget(owner)

    def _end(self, number: int) -> None:
        """End the server in the way of this round, while the load goes on."""
        if self._disk is not None or self._plan.workers == 1:
            self._crash()
            return
        victim = self._choices.choice(("worker", "all", "worker", "supervisor"))
        if victim == "all":
            self._crash()
        elif victim == "supervisor":
            self._server.kill_supervisor()
        else:
            self._lose_a_worker(number)

    def _lose_a_worker(self, number: int) -> None:
        """One worker is killed, and replaced; then the server is stopped in order, and nothing may be left over."""
        victim = self._choices.randint(1, self._plan.workers)
        self._server.await_worker(victim, self._server.kill_worker(victim))
        self._server.stop()
        self._tally.counts["replaced"] += 1
        self._blame(self._find_strays(number))

    def _find_strays(self, number: int) -> list[Fault]:
        strays = set(left_over(self._maildata)) - self._strays
        self._strays |= strays
        return [Fault(Kind.STRAY, number, str(path), str(path)) for path in sorted(strays)]

    def _crash(self) -> None:
        if self._disk is not None:
            self._disk.cut()
        self._server.kill()

    def _recover(self) -> None:
        if self._disk is not None:
            self._disk.restore()
        if self._choices.random() < RELAPSES:
            self._server.begin()
            time.sleep(GETTING_UP * self._choices.random())
            self._crash()
            if self._disk is not None:
                self._disk.restore()

    def _account(self, number: int, record: Record) -> list[Fault]:
        self._ledger.sent(record.attempts)
        faults = self._ledger.witnessed(number, record.sightings)
        self._ledger.deleted(record.deletions)
        openings, found = self._look(number, record.attempts)
        faults += found
        for owner, opening in openings.of.items():
            if opening.after is None or opening.after > USABLE:
                faults.append(Fault(Kind.SHUT, number, f"{owner} in round {number}", f"{owner}: {opening}"))
        slowest = max(opening.after or 0.0 for opening in openings.of.values())
        self._tally.slowest = max(self._tally.slowest, slowest)
        start = self._server.listening - self._server.began
        self._tally.slowest_start = max(self._tally.slowest_start, start + slowest)
        return faults

    def _look(self, number: int, attempts: Sequence[Attempt]) -> tuple[Openings, list[Fault]]:
        """See what there is, and what is wrong with it.

        :param attempts: those that were made since the last time.
        """
        held = waiting(self._maildata)
        openings = Openings(self._server, self._people.present)
        try:
            openings.try_all()
            faults = self._find_strays(number)
            disk, pop3 = on_disk(self._maildata), openings.view()
        finally:
            openings.close()
        self._tally.counts["in part"] += self._ledger.in_part(attempts, disk, held)
        return openings, faults + self._ledger.judge(number, disk, pop3, held)

    def _await_releases(self, number: int, owners: Collection[str]) -> None:
        """Wait until no letter is held for ``owners``."""
        left = self._patiently(lambda: self._ledger.waiting(waiting(self._maildata), owners))
        self._blame(self._ledger.unreleased(number, left))

    def _see_all_released(self, number: int) -> None:
        """Wait for all that is held: it must have come, and nothing of it may be left."""
        self._await_releases(number, self._people.present)
        left = self._patiently(lambda: [path for path in self._maildata.held.rglob("*") if path.is_file()])
        _, faults = self._look(number, ())
        self._blame(faults + [Fault(Kind.STRAY, number, str(path), str(path)) for path in sorted(left)])

    def _patiently(self, look: Callable[[], list[T]]) -> list[T]:
        """``look`` until nothing is left, for some time; returns what is."""
        begun = time.monotonic()
        while (left := look()) and time.monotonic() - begun < RELEASED:
            self._server.check()
            time.sleep(PAUSE)
        return left

    def _blame(self, faults: list[Fault]) -> None:
        if faults and not self._tally.faults:
            with contextlib.suppress(OSError):  # shutil.Error as well; what can be copied is
                shutil.copytree(self._maildata.root, self._folder / f"maildata-{faults[0].round}")
        self._tally.faults += faults

    def _count(self, record: Record, newcomers: Collection[str]) -> None:
        counts = self._tally.counts
        counts["sent"] += len(record.attempts)
        for attempt in record.attempts:
            if attempt.answer is None:
                continue
            counts["acknowledged"] += 1
            copies = sum(box.kind == ENVOI for box in attempt.boxes)
            counts["to several"] += len(attempt.boxes) - copies > 1
            counts["to new"] += any(box.kind == RECEPTION and box.owner in newcomers for box in attempt.boxes)
            counts["submitted"] += copies
            counts["held"] += attempt.due > 0
            counts["large"] += attempt.octets > SMALL
        counts["deleted"] += sum(len(deletion.tokens) for deletion in record.deletions if deletion.answered)
