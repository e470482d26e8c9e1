"""A letter is in all its mailboxes, whole and on the disk, or in none; and letters share the wait for the disk."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailbe.durable import ABREAST, LEFT_AT_ONCE, SMALL, Draft, Parcel, Writer, make_folder, make_mailbox, trouble
from mailbe.interfaces import MailboxFull, TryLater


class Disk:
    """Writes down what is asked of the disk, in its order, and lets one step of it fail."""

    def __init__(self, test: Any) -> None:
        self.steps: list[str] = []
        self.fails: Callable[[str], bool] = lambda step: False
        self.error = errno.EIO
        for name in ("fsync", "link", "unlink", "write", "mkdir", "rmdir", "close", "posix_fadvise"):
            test.patch(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(first: Any, *rest: Any, **named: Any) -> Any:
            paths = [str(Path(f"/proc/self/fd/{first}").readlink()) if isinstance(first, int) else str(first)]
            paths += [str(value) for value in rest if isinstance(value, (str, Path))]
            step = " ".join([name, *("/".join(Path(path).parts[-2:]) for path in paths)])
            self.steps.append(step)
            if self.fails(step):
                named = [] if isinstance(first, int) else [paths[0]]  # no error of a descriptor names its file
                raise OSError(self.error, os.strerror(self.error), *named)
            return real(first, *rest, **named)

        return watched


class WriterCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        for folder in ("spool", "reception"):
            make_folder(self.root / folder)
        self.boxes = [self.root / "reception" / name for name in ("alice", "bob")]
        self.writer = Writer(lambda work: work())
        self.number = 0

    def parcel(self, *boxes: Path, content: bytes = b"Hello\r\n") -> Parcel:
        self.number += 1
        draft = Draft(self.root / "spool" / f"letter{self.number}")
        draft.write(content)
        return Parcel(draft, f"letter{self.number}", boxes)

    def letters(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("letter*"))


class Storing(WriterCase):
    def test_the_order_is_file_then_names_then_folders_then_the_spool(self) -> None:
        for box in self.boxes:
            make_mailbox(box)
        self.writer.store_all([self.parcel(*self.boxes)])
        disk = Disk(self)
        self.assertEqual(self.writer.store_all([self.parcel(*self.boxes)]), [None])
        disk.steps = [step for step in disk.steps if not step.startswith(("close", "posix_fadvise"))]
        self.assertEqual(disk.steps[:2], ["write spool/letter2", "fsync spool/letter2"])
        links = ["link spool/letter2 new/letter2"] * 2
        self.assertEqual(disk.steps[2:4], links)
        self.assertEqual(sorted(disk.steps[4:6]), ["fsync alice/new", "fsync bob/new"])
        self.assertEqual(disk.steps[6:], ["unlink spool/letter2"])

    def test_a_new_mailbox_is_on_the_disk_at_every_level(self) -> None:
        disk = Disk(self)
        self.writer.store_all([self.parcel(self.boxes[0])])
        link = disk.steps.index("link spool/letter1 new/letter1")
        made = [step for step in disk.steps[:link] if step.startswith("mkdir")]
        self.assertEqual(made, ["mkdir reception/alice", "mkdir alice/tmp", "mkdir alice/new", "mkdir alice/cur"])
        synced = [step for step in disk.steps[disk.steps.index(made[-1]) : link] if step.startswith("fsync")]
        self.assertEqual([step.rpartition("/")[2] for step in synced], ["alice", "reception"])

    def test_letters_that_are_ready_together_share_the_wait(self) -> None:
        self.writer.store_all([self.parcel(*self.boxes)])
        disk = Disk(self)
        outcome = self.writer.store_all([self.parcel(*self.boxes) for _ in range(10)])
        self.assertEqual(outcome, [None] * 10)
        folders = [step for step in disk.steps if step.startswith("fsync") and step.endswith("new")]
        self.assertEqual(sorted(folders), ["fsync alice/new", "fsync bob/new"])
        last_link = max(index for index, step in enumerate(disk.steps) if step.startswith("link"))
        self.assertLess(last_link, disk.steps.index(folders[0]))

    def test_whatever_step_fails_the_letter_is_in_no_mailbox(self) -> None:
        for box in self.boxes:
            make_mailbox(box)
        self.writer.store_all([self.parcel(*self.boxes)])
        before = self.letters()
        for failing in ("write", "fsync spool", "link", "fsync bob/new", "fsync alice/new"):
            disk = Disk(self)
            disk.fails = lambda step, failing=failing: step.startswith(failing)  # type: ignore[misc]
            (error,) = self.writer.store_all([self.parcel(*self.boxes)])
            self.assertIsInstance(error, TryLater, failing)
            disk.fails = lambda step: False
            self.assertEqual(self.letters(), before, failing)

    def test_one_mailbox_that_fails_refuses_the_letter_for_all(self) -> None:
        self.boxes[1].write_text("a file where a mailbox should be")
        (error,) = self.writer.store_all([self.parcel(*self.boxes)])
        self.assertIsInstance(error, TryLater)
        self.assertEqual(self.letters(), [])

    def test_a_letter_that_has_the_name_already_is_left_alone(self) -> None:
        make_mailbox(self.boxes[1])
        (self.boxes[1] / "new" / "letter1").write_text("another letter")
        (error,) = self.writer.store_all([self.parcel(*self.boxes)])
        self.assertIsInstance(error, TryLater)
        self.assertEqual(self.letters(), ["reception/bob/new/letter1"])

    def test_one_letter_that_fails_leaves_the_others_alone(self) -> None:
        self.boxes[1].write_text("a file where a mailbox should be")
        outcome = self.writer.store_all(
            [self.parcel(self.boxes[0]), self.parcel(self.boxes[1]), self.parcel(self.boxes[0])]
        )
        self.assertEqual([error is None for error in outcome], [True, False, True])
        self.assertEqual(self.letters(), ["reception/alice/new/letter1", "reception/alice/new/letter3"])

    def test_a_mailbox_that_was_taken_away_is_made_again(self) -> None:
        self.writer.store_all([self.parcel(self.boxes[0])])
        self.boxes[0].rename(self.root / "removed")
        self.assertEqual(self.writer.store_all([self.parcel(self.boxes[0])]), [None])
        self.assertIn("reception/alice/new/letter2", self.letters())

    def test_what_comes_back_after_it_was_gone_is_put_on_the_disk_again(self) -> None:
        for gone in ("spool", "reception/alice"):
            self.writer.store_all([self.parcel(*self.boxes)])
            (self.root / gone).rename(self.root / "gone")
            self.writer.store_all([self.parcel(self.boxes[0])])
            if gone == "spool":
                (self.root / "gone").rename(self.root / gone)
            disk = Disk(self)
            # It may be a copy, which nobody has waited for; and where one is, others may be.
            self.assertEqual(self.writer.store_all([self.parcel(self.boxes[1])]), [None])
            self.assertIn("fsync reception/bob", disk.steps, gone)
            disk.steps.clear()
            self.assertEqual(self.writer.store_all([self.parcel(self.boxes[1])]), [None])
            self.assertNotIn("fsync reception/bob", disk.steps, gone)

    def test_a_reception_that_is_gone_is_not_made_again(self) -> None:
        (self.root / "reception").rename(self.root / "unmounted")
        (error,) = self.writer.store_all([self.parcel(self.boxes[0])])
        self.assertIsInstance(error, TryLater)
        self.assertFalse((self.root / "reception").exists())

    def test_a_file_that_fails_to_close_is_on_the_disk_all_the_same(self) -> None:
        disk = Disk(self)
        disk.fails = lambda step: step == "close spool/letter1"
        self.assertEqual(self.writer.store_all([self.parcel(self.boxes[0])]), [None])

    def test_letters_that_share_the_wait_are_all_on_their_way_before_one_is_waited_for(self) -> None:
        disk = Disk(self)
        self.writer.store_all([self.parcel(self.boxes[0]) for _ in range(5)])
        steps = [step.split()[0] for step in disk.steps if "spool/" in step]
        self.assertEqual(steps[:20], ["write", "posix_fadvise"] * 5 + ["fsync", "close"] * 5)

    def test_very_many_letters_need_few_descriptors(self) -> None:
        for _ in range(2 * ABREAST + 1):
            self.writer.store(self.parcel(self.boxes[0]))
        batches = [len(self.writer._next_batch()) for _ in range(3)]
        self.assertEqual(batches, [ABREAST, ABREAST, 1])

    def test_a_letter_that_is_refused_does_not_come_back_after_a_power_cut(self) -> None:
        for box in self.boxes:
            make_mailbox(box)
        self.writer.store_all([self.parcel(*self.boxes)])
        disk = Disk(self)
        disk.fails = lambda step: step == "fsync bob/new"
        (error,) = self.writer.store_all([self.parcel(*self.boxes)])
        self.assertIsInstance(error, TryLater)
        taken_back = disk.steps.index("unlink new/letter2")
        self.assertIn("fsync alice/new", disk.steps[taken_back:])

    def test_a_letter_that_one_mailbox_has_no_place_for_does_not_come_back_after_a_power_cut(self) -> None:
        self.writer.store_all([self.parcel(self.boxes[0])])
        self.boxes[1].write_text("a file where a mailbox should be")
        disk = Disk(self)
        (error,) = self.writer.store_all([self.parcel(*self.boxes)])
        self.assertIsInstance(error, TryLater)
        taken_back = disk.steps.index("unlink new/letter2")
        self.assertIn("fsync alice/new", disk.steps[taken_back:])

    def test_no_room_is_told_apart(self) -> None:
        disk = Disk(self)
        disk.error = errno.ENOSPC
        disk.fails = lambda step: step.startswith("write")
        (error,) = self.writer.store_all([self.parcel(self.boxes[0])])
        self.assertIsInstance(error, MailboxFull)

    def test_an_error_that_nobody_expected_reaches_who_waits_and_the_letter_is_in_no_mailbox(self) -> None:
        for box in self.boxes:
            make_mailbox(box)
        disk = Disk(self)
        for failing in ("fsync spool", "link", "fsync bob/new"):
            disk.fails = lambda step, failing=failing: step.startswith(failing) and 1 / 0  # type: ignore[misc]
            (error,) = self.writer.store_all([self.parcel(*self.boxes)])
            self.assertIsInstance(error, ZeroDivisionError, failing)
            self.assertEqual(self.letters(), [], failing)

    def test_storage_errors_name_the_file(self) -> None:
        self.assertEqual(str(trouble(OSError(errno.EIO, "broken", "a/b"))), "a/b: broken")
        self.assertIsInstance(trouble(OSError(errno.EDQUOT, "quota")), MailboxFull)
        make_mailbox(self.boxes[0])
        disk = Disk(self)
        for failing in ("write", "fsync spool", "fsync alice/new"):
            disk.fails = lambda step, failing=failing: step.startswith(failing)  # type: ignore[misc]
            (error,) = self.writer.store_all([self.parcel(self.boxes[0])])
            self.assertIn("alice/new" if "alice" in failing else "spool/letter", str(error), failing)

    def test_small_letters_wait_in_memory_and_large_ones_do_not(self) -> None:
        disk = Disk(self)
        parcel = self.parcel(self.boxes[0], content=b"x" * 1000)
        self.assertEqual(disk.steps, [])
        for _ in range(100):
            parcel.draft.write(b"x" * 1000)
        self.assertIn("write spool/letter1", disk.steps)
        self.assertEqual(self.writer.store_all([parcel]), [None])
        self.assertEqual((self.boxes[0] / "new" / "letter1").stat().st_size, 101_000)

    def test_short_writes_are_gone_on_with(self) -> None:
        real = os.write
        self.patch(os, "write", lambda descriptor, octets: real(descriptor, bytes(octets[:3])))
        self.assertEqual(self.writer.store_all([self.parcel(self.boxes[0], content=b"0123456789")]), [None])
        self.assertEqual((self.boxes[0] / "new" / "letter1").read_bytes(), b"0123456789")

    def test_a_folder_that_another_process_makes_at_the_same_time_is_fine(self) -> None:
        make_folder(self.root)
        self.patch(Path, "is_dir", lambda path: len(path.parts) <= len(self.root.parts))
        make_folder(self.root / "reception")

    def test_others_may_not_look_in(self) -> None:
        self.writer.store_all([self.parcel(self.boxes[0])])
        letter = self.boxes[0] / "new" / "letter1"
        self.assertEqual(
            [path.stat().st_mode & 0o777 for path in (letter, letter.parent, self.boxes[0])], [0o600, 0o700, 0o700]
        )


class Memory(SynchronousTestCase):
    def test_a_letter_in_small_segments_takes_no_more_than_its_octets(self) -> None:
        draft = Draft(Path(self.mktemp()))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(SMALL // 2):
            draft.write(number.to_bytes(2, "big"))
        self.assertLess(tracemalloc.get_traced_memory()[0], 3 * SMALL)
        self.assertFalse(draft.forget())


class Leftovers(WriterCase):
    """Names that cannot be taken away when they should be."""

    def stored(self, *boxes: Path) -> tuple[TryLater | None, list[str]]:
        """Store one letter; returns what became of it, and what the log says."""
        with capturedLogs() as logged:
            (error,) = self.writer.store_all([self.parcel(*boxes)])
        return error, [formatEvent(event) for event in logged]

    def test_a_letter_that_stays_in_the_spool_is_told_and_goes_with_the_next_one(self) -> None:
        disk = Disk(self)
        disk.fails = lambda step: step == "unlink spool/letter1"
        error, lines = self.stored(self.boxes[0])
        self.assertIsNone(error)  # it was delivered all the same
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"^cannot be taken away now, .*spool/letter1: Input/output error$")
        self.assertEqual(self.stored(self.boxes[0]), (None, []))
        self.assertIn("spool/letter1", self.letters())
        disk.fails = lambda step: False
        self.stored(self.boxes[0])
        self.assertEqual(self.letters(), [f"reception/alice/new/letter{number}" for number in (1, 2, 3)])

    def test_a_letter_that_is_refused_and_stays_in_a_mailbox_is_told_and_goes_with_the_next_one(self) -> None:
        disk = Disk(self)
        disk.fails = lambda step: step in ("fsync bob/new", "unlink new/letter1")
        error, lines = self.stored(*self.boxes)
        self.assertIsInstance(error, TryLater)
        self.assertEqual(
            [line.rpartition("reception/")[2].partition(":")[0] for line in lines],
            ["alice/new/letter1", "bob/new/letter1"],
        )
        disk.fails = lambda step: False
        self.assertEqual(self.stored(self.boxes[0]), (None, []))
        self.assertEqual(self.letters(), ["reception/alice/new/letter2"])

    def test_a_letter_whose_spool_has_vanished_goes_when_it_is_back(self) -> None:
        parcel = self.parcel(self.boxes[0], content=b"x" * 100_000)
        (self.root / "spool").rename(self.root / "away")
        with capturedLogs() as logged:
            self.assertIsInstance(self.writer.store_all([parcel])[0], TryLater)
        self.assertEqual(len(logged), 1)
        self.assertIsInstance(self.stored(self.boxes[0])[0], TryLater)
        (self.root / "away").rename(self.root / "spool")
        self.stored(self.boxes[0])
        self.assertEqual(self.letters(), ["reception/alice/new/letter3"])

    def test_a_name_that_is_wanted_again_is_no_leftover(self) -> None:
        disk = Disk(self)
        disk.fails = lambda step: step.startswith("unlink")
        self.writer.store_all([self.parcel(self.boxes[1]) for _ in range(LEFT_AT_ONCE)])
        disk.fails = lambda step: step.startswith("unlink") or step == "fsync alice/new"
        refused = self.parcel(self.boxes[0])
        self.assertIsInstance(self.writer.store_all([refused])[0], TryLater)
        disk.fails = lambda step: False
        name = self.boxes[0] / "new" / refused.name
        name.unlink()  # by another program
        again = Parcel(self.parcel().draft, refused.name, refused.mailboxes)
        self.assertEqual(self.writer.store_all([again]), [None])
        for _ in range(3):
            self.stored(self.boxes[1])
            self.assertTrue(name.exists())
        self.assertEqual([name for name in self.letters() if "spool" in name], [])

    def test_what_another_program_has_taken_is_no_leftover(self) -> None:
        parcel = self.parcel(content=b"x" * 100_000)
        (self.root / "spool" / "letter1").unlink()
        with capturedLogs() as logged:
            self.writer.discard(parcel.draft)
        self.assertEqual(logged, [])

    def test_many_are_tried_again_a_few_at_a_time(self) -> None:
        disk = Disk(self)
        disk.fails = lambda step: step.startswith("unlink spool")
        self.writer.store_all([self.parcel(self.boxes[0]) for _ in range(3 * LEFT_AT_ONCE)])
        disk.steps.clear()
        self.stored(self.boxes[0])
        self.assertEqual(len([step for step in disk.steps if step.startswith("unlink spool")]), LEFT_AT_ONCE + 1)
        disk.fails = lambda step: False
        for _ in range(4):
            self.stored(self.boxes[0])
        self.assertEqual([name for name in self.letters() if "spool" in name], [])


class Folders(SynchronousTestCase):
    """A folder whose fsync has failed is not there for the next who asks: a second fsync may say that all is well."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        make_folder(self.root)

    def made(self, steps: list[str]) -> list[str]:
        return [step for step in steps if step.startswith("mkdir")]

    def test_a_mailbox_that_is_not_on_the_disk_is_taken_away_and_made_anew(self) -> None:
        box = self.root / "alice"
        for failing in ("mkdir alice/new", "mkdir alice/cur", "fsync"):
            disk = Disk(self)
            disk.fails = lambda step, failing=failing: step.startswith(failing)  # type: ignore[misc]
            self.assertRaises(OSError, make_mailbox, box)
            self.assertFalse(box.exists(), failing)
            disk.fails = lambda step: False
            disk.steps.clear()
            make_mailbox(box)
            self.assertEqual(len(self.made(disk.steps)), 4)
            self.assertEqual(len([step for step in disk.steps if step.startswith("fsync")]), 2)
            shutil.rmtree(box)

    def test_of_a_mailbox_that_was_there_only_what_was_made_is_taken_away(self) -> None:
        box = self.root / "alice"
        make_mailbox(box)
        (box / "new" / "letter").write_text("")
        (box / "cur").rmdir()
        disk = Disk(self)
        disk.fails = lambda step: step.startswith("fsync")
        self.assertRaises(OSError, make_mailbox, box)
        self.assertEqual(sorted(str(path.relative_to(box)) for path in box.rglob("*")), ["new", "new/letter", "tmp"])

    def test_a_folder_that_is_not_on_the_disk_is_taken_away_and_made_anew(self) -> None:
        for failing in ("fsync a/b", "fsync b/c"):
            disk = Disk(self)
            disk.fails = lambda step, failing=failing: step.startswith(failing)  # type: ignore[misc]
            self.assertRaises(OSError, make_folder, self.root / "a" / "b" / "c")
            disk.fails = lambda step: False
            disk.steps.clear()
            make_folder(self.root / "a" / "b" / "c")
            self.assertIn("mkdir a/b" if failing == "fsync a/b" else "mkdir b/c", disk.steps)
            shutil.rmtree(self.root / "a")

    def test_who_makes_the_same_mailbox_meanwhile_does_not_rely_on_it(self) -> None:
        box = self.root / "alice"
        other = threading.Thread(target=make_mailbox, args=(box,))
        disk = Disk(self)

        def fails(step: str) -> bool:
            if not step.startswith("fsync") or not step.endswith("/alice") or other.ident is not None:
                return False
            other.start()
            other.join(0.1)
            self.assertTrue(other.is_alive())  # it waits for what becomes of this one
            return True

        disk.fails = fails
        self.assertRaises(OSError, make_mailbox, box)
        other.join()
        self.assertEqual(len(self.made(disk.steps)), 8)
        self.assertTrue((box / "new").is_dir())


class Thread(TestCase):
    timeout = 600  # seconds: each letter waits for a real disk

    async def test_all_that_was_stored_is_there_and_what_waits_at_the_end_too(self) -> None:
        root = Path(self.mktemp())
        for folder in ("spool", "reception"):
            make_folder(root / folder)
        writer = Writer(reactor.callFromThread)  # type: ignore[attr-defined]
        writer.start()
        boxes = [root / "reception" / f"user{number}" for number in range(3)]
        waiting = []
        for number in range(200):
            draft = Draft(root / "spool" / f"letter{number}")
            draft.write(b"Hello\r\n")
            waiting.append(writer.store(Parcel(draft, f"letter{number}", (boxes[number % 3],))))
        writer.stop()
        self.assertEqual(len(list(root.glob("reception/*/new/letter*"))), 200)
        await gatherResults(waiting)
        self.assertEqual(list((root / "spool").iterdir()), [])

    async def test_the_thread_outlives_whatever_goes_wrong_in_it(self) -> None:
        root = Path(self.mktemp())
        for folder in ("spool", "reception"):
            make_folder(root / folder)
        writer = Writer(reactor.callFromThread)  # type: ignore[attr-defined]
        real = writer.store_all
        outcomes = iter([ZeroDivisionError()])

        def store_all(parcels: list[Parcel]) -> list[Exception | None]:
            for error in outcomes:
                raise error
            return real(parcels)

        self.patch(writer, "store_all", store_all)
        writer.start()
        self.addCleanup(writer.stop)
        drafts = [Draft(root / "spool" / f"letter{number}") for number in range(2)]
        parcels = [Parcel(draft, draft.path.name, (root / "reception" / "alice",)) for draft in drafts]
        await self.assertFailure(writer.store(parcels[0]), ZeroDivisionError)
        await writer.store(parcels[1])

    async def test_who_waits_is_told_of_a_failure(self) -> None:
        root = Path(self.mktemp())
        make_folder(root / "spool")
        writer = Writer(reactor.callFromThread)  # type: ignore[attr-defined]
        writer.start()
        self.addCleanup(writer.stop)
        draft = Draft(root / "spool" / "letter")
        done = writer.store(Parcel(draft, "letter", (root / "reception" / "alice",)))
        await self.assertFailure(done, TryLater)
        self.assertEqual(list((root / "spool").iterdir()), [])
