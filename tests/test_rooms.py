"""How full the mailboxes are: asked seldom, and never wrong for long."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailbe import rooms
from mailbe.durable import make_mailbox
from mailbe.interfaces import OverQuota, Quota, TryLater
from mailbe.rooms import Rooms, Usage, usage
from tests.storage import at_once, stop_time


class RoomCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.looks = 0
        self.patch(rooms, "usage", self.counted)
        self.rooms = Rooms(at_once, self.clock.seconds)
        self.number = 0
        self.box = self.made("box")

    def counted(self, mailbox: Path) -> Usage:
        self.looks += 1
        return replace(usage(mailbox), took=0.0)  # however busy this machine is

    def made(self, name: str) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        make_mailbox(folder / name)
        self.rest(folder / name)
        return folder / name

    def rest(self, box: Path) -> None:
        """As if it had been at rest since its last change, which was long ago."""
        self.number += 1
        for folder in ("new", "cur"):
            os.utime(box / folder, (1_700_000_000 + self.number,) * 2)

    def put(self, octets: int, folder: str = "new", name: str = "") -> Path:
        """A letter, of which nobody else is told."""
        path = self.box / folder / (name or f"{self.number}.x,S={octets},W={octets}")
        path.write_bytes(b"x" * octets)
        self.rest(self.box)
        return path

    def deliver(self, process: Rooms, octets: int) -> None:
        self.put(octets, name=f"{self.number}.y,S={octets},W={octets}")
        process.delivered(self.box, octets)

    def has_room(self, quota: Quota, octets: int = 1, *others: tuple[Path, Quota]) -> bool:
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.check([(self.box, quota), *others], octets)).addBoth(outcome.append)
        if outcome[0] is not None and not outcome[0].check(OverQuota):
            outcome[0].raiseException()
        return outcome[0] is None

    async def check(self, mailboxes: list[tuple[Path, Quota]], octets: int) -> None:
        looking = self.rooms.check(mailboxes, octets)
        if looking is not None:
            await looking


class Counting(RoomCase):
    def test_letters_and_octets_are_counted_in_both_folders_by_their_names_or_sizes(self) -> None:
        self.put(10)
        self.put(20, "cur", "2.x,S=20,W=20:2,S")
        self.put(40, "cur", "of-another-program:2,")
        (self.box / "tmp" / "unfinished").write_bytes(b"x" * 80)
        seen = usage(self.box)
        self.assertEqual((seen.letters, seen.octets), (3, 70))

    def test_what_is_not_made_yet_is_empty_and_what_cannot_be_read_is_trouble(self) -> None:
        self.assertEqual(usage(self.box.with_name("other")), Usage())
        shutil.rmtree(self.box / "cur")
        (self.box / "cur").write_text("a file in the place of a folder")
        self.assertRaises(TryLater, usage, self.box)

    def test_each_limit_holds_by_itself(self) -> None:
        self.put(60)
        for quota, octets, room in (
            (Quota(), 10**9, True),
            (Quota(letters=1), 1, False),
            (Quota(letters=2), 10**9, True),
            (Quota(octets=100), 40, True),
            (Quota(octets=100), 41, False),
            (Quota(octets=60), 1, False),
            (Quota(octets=100, letters=1), 1, False),
        ):
            self.assertEqual(self.has_room(quota, octets), room, (quota, octets))

    def test_of_several_mailboxes_each_must_have_room(self) -> None:
        other = self.made("other")
        self.assertTrue(self.has_room(Quota(letters=1), 1, (other, Quota(letters=1))))
        (other / "new" / "a").write_bytes(b"x")
        self.clock.advance(2)
        self.assertFalse(self.has_room(Quota(letters=1), 1, (other, Quota(letters=1))))


class Looking(RoomCase):
    def test_that_there_is_room_costs_one_look_as_long_as_nothing_changes(self) -> None:
        self.put(10)
        for _ in range(100):
            self.assertTrue(self.has_room(Quota(letters=2)))
            self.clock.advance(3)
        self.assertEqual(self.looks, 1)

    def test_what_we_deliver_counts_at_once_without_a_look(self) -> None:
        self.patch(rooms, "usage", lambda mailbox: replace(self.counted(mailbox), took=0.5))
        quota = Quota(octets=100, letters=3)
        self.assertTrue(self.has_room(quota))
        for _ in range(2):
            self.deliver(self.rooms, 30)
            self.assertTrue(self.has_room(quota, 40))
        self.deliver(self.rooms, 30)
        self.assertFalse(self.has_room(quota))
        self.assertEqual(self.looks, 1)

    def test_where_there_is_much_room_what_we_deliver_costs_no_look(self) -> None:
        for _ in range(100):
            self.assertTrue(self.has_room(Quota(octets=100_000, letters=1000)))
            self.deliver(self.rooms, 10)
        self.assertEqual(self.looks, 1)

    def test_what_other_processes_deliver_at_the_same_time_takes_no_more_than_there_is(self) -> None:
        processes = [Rooms(at_once, self.clock.seconds) for _ in range(rooms.SHARE)]
        for quota in (Quota(letters=100), Quota(octets=1005)):
            for letter in (self.box / "new").iterdir():
                letter.unlink()
            self.clock.advance(2)
            stored = refused = 0
            while refused < len(processes):
                refused = 0
                for self.rooms in processes:
                    if self.has_room(quota, 10):
                        self.deliver(self.rooms, 10)
                        stored += 1
                    else:
                        refused += 1
            self.assertEqual(stored, 100)

    def test_what_we_have_delivered_is_not_counted_twice_for_ever(self) -> None:
        self.assertTrue(self.has_room(Quota(letters=2)))
        self.put(10)
        self.clock.advance(2)
        self.assertTrue(self.has_room(Quota(letters=2)))  # the look saw it
        self.rooms.delivered(self.box, 10)  # and now its folder is on the disk
        self.assertTrue(self.has_room(Quota(letters=2)))

    def test_what_others_deliver_counts_within_a_second(self) -> None:
        self.assertTrue(self.has_room(Quota(letters=1)))
        self.put(30)
        self.clock.advance(1)
        self.assertFalse(self.has_room(Quota(letters=1)))

    def test_what_is_deleted_makes_room_at_once(self) -> None:
        letter = self.put(30)
        self.assertFalse(self.has_room(Quota(letters=1)))
        letter.unlink()
        self.assertTrue(self.has_room(Quota(letters=1)))

    def test_a_full_mailbox_costs_one_look_as_long_as_nothing_changes(self) -> None:
        self.put(30)
        for _ in range(100):
            self.assertFalse(self.has_room(Quota(letters=1)))
        self.assertEqual(self.looks, 1)

    def test_a_full_mailbox_is_looked_at_again_where_a_change_may_have_left_no_trace(self) -> None:
        now = stop_time(self)
        letter = self.put(30)
        os.utime(self.box / "new", ns=(now, now))
        self.assertFalse(self.has_room(Quota(letters=1)))
        letter.unlink()
        os.utime(self.box / "new", ns=(now, now))  # all within one tick
        self.assertTrue(self.has_room(Quota(letters=1)))

    def test_a_look_that_took_long_is_believed_for_twenty_times_as_long_whatever_changes(self) -> None:
        self.patch(rooms, "usage", lambda mailbox: replace(self.counted(mailbox), took=0.5))
        letter = self.put(10)
        self.assertFalse(self.has_room(Quota(letters=1)))
        letter.unlink()
        self.clock.advance(9.9)
        self.assertFalse(self.has_room(Quota(letters=1)))
        self.clock.advance(0.2)
        self.assertTrue(self.has_room(Quota(letters=1)))
        self.put(10)
        self.clock.advance(9.8)
        self.assertTrue(self.has_room(Quota(letters=1)))
        self.assertEqual(self.looks, 2)
        self.clock.advance(0.4)
        self.assertFalse(self.has_room(Quota(letters=1)))

    def test_how_long_a_look_took_is_told(self) -> None:
        self.put(10)
        self.assertGreater(usage(self.box).took, 0)

    def test_a_quota_that_grows_holds_at_once(self) -> None:
        self.put(30)
        self.assertFalse(self.has_room(Quota(letters=1)))
        self.assertTrue(self.has_room(Quota(letters=2)))
        self.assertFalse(self.has_room(Quota(letters=1)))

    def test_trouble_is_told_and_passes(self) -> None:
        away = self.box.with_name("away")
        (self.box / "cur").rename(away)
        (self.box / "cur").write_text("a file in the place of a folder")
        self.assertRaises(TryLater, self.has_room, Quota(letters=1))
        (self.box / "cur").unlink()
        away.rename(self.box / "cur")
        self.assertTrue(self.has_room(Quota(letters=1)))

    def test_so_many_mailboxes_are_remembered_and_no_more(self) -> None:
        self.patch(rooms, "REMEMBERED", 2)
        for box in (self.box, self.made("b"), self.made("c"), self.box):
            self.successResultOf(Deferred.fromCoroutine(self.check([(box, Quota(letters=1))], 1)))
        self.assertEqual(self.looks, 4)


class Together(RoomCase):
    def setUp(self) -> None:
        super().setUp()
        self.begun: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.rooms = Rooms(self.later, self.clock.seconds)

    def later(self, work: Callable[[], Any]) -> Deferred[Any]:
        self.begun.append((Deferred(), work))
        return self.begun[-1][0]

    def go(self) -> None:
        deferred, work = self.begun.pop(0)
        try:
            deferred.callback(work())
        except TryLater as error:
            deferred.errback(error)

    def ask(self, quota: Quota) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check([(self.box, quota)], 1))

    def test_those_who_ask_at_one_moment_wait_for_one_look(self) -> None:
        self.put(10)
        answers = [self.ask(Quota(letters=most)) for most in (1, 2, 1, 5)]
        self.assertEqual(len(self.begun), 1)
        self.go()
        for answer, room in zip(answers, (False, True, False, True), strict=True):
            if room:
                self.successResultOf(answer)
            else:
                self.failureResultOf(answer, OverQuota)
        self.assertEqual(self.looks, 1)

    def test_all_of_them_hear_of_trouble_and_the_next_one_looks_again(self) -> None:
        (self.box / "cur").rmdir()
        (self.box / "cur").write_text("a file in the place of a folder")
        answers = [self.ask(Quota(letters=1)) for _ in range(3)]
        self.go()
        for answer in answers:
            self.failureResultOf(answer, TryLater)
        (self.box / "cur").unlink()
        (self.box / "cur").mkdir()
        answer = self.ask(Quota(letters=1))
        self.go()
        self.successResultOf(answer)

    def test_what_we_deliver_while_somebody_looks_counts(self) -> None:
        self.patch(rooms, "usage", lambda mailbox: replace(self.counted(mailbox), took=0.5))
        self.put(10)
        answers = [self.ask(Quota(letters=2)), self.ask(Quota(letters=3))]
        looking, work = self.begun.pop(0)
        seen = work()
        self.rooms.delivered(self.box, 10)
        looking.callback(seen)
        for full, roomy in (answers, [self.ask(Quota(letters=2)), self.ask(Quota(letters=3))]):
            self.failureResultOf(full, OverQuota)
            self.successResultOf(roomy)
