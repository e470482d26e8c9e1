"""A letter is in all its mailboxes, whole and on the disk, or in none; and letters share the wait for the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailbe.durable import Draft, Parcel, Writer, make_folder, make_mailbox, trouble
from mailbe.interfaces import MailboxFull, TryLater


class Disk:
    """Writes down what is asked of the disk, in its order, and lets one step of it fail."""

    def __init__(self, test: Any) -> None:
        self.steps: list[str] = []
        self.fails: Callable[[str], bool] = lambda step: False
        self.error = errno.EIO
        for name in ("fsync", "link", "unlink", "write", "mkdir", "close"):
            test.patch(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(first: Any, *rest: Any, **named: Any) -> Any:
            paths = [str(Path(f"/proc/self/fd/{first}").readlink()) if isinstance(first, int) else str(first)]
            paths += [str(value) for value in rest if isinstance(value, Path)]
            step = " ".join([name, *("/".join(Path(path).parts[-2:]) for path in paths)])
            self.steps.append(step)
            if self.fails(step):
                raise OSError(self.error, os.strerror(self.error), paths[0])
            return real(first, *rest, **named)

        return watched


class Storing(SynchronousTestCase):
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

    def test_the_order_is_file_then_names_then_folders_then_the_spool(self) -> None:
        for box in self.boxes:
            make_mailbox(box)
        self.writer.store_all([self.parcel(*self.boxes)])
        disk = Disk(self)
        self.assertEqual(self.writer.store_all([self.parcel(*self.boxes)]), [None])
        disk.steps = [step for step in disk.steps if not step.startswith("close")]
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

    def test_a_reception_that_is_gone_is_not_made_again(self) -> None:
        (self.root / "reception").rename(self.root / "unmounted")
        (error,) = self.writer.store_all([self.parcel(self.boxes[0])])
        self.assertIsInstance(error, TryLater)
        self.assertFalse((self.root / "reception").exists())

    def test_a_file_that_fails_to_close_is_on_the_disk_all_the_same(self) -> None:
        disk = Disk(self)
        disk.fails = lambda step: step == "close spool/letter1"
        self.assertEqual(self.writer.store_all([self.parcel(self.boxes[0])]), [None])

    def test_many_letters_at_once_need_few_descriptors(self) -> None:
        disk = Disk(self)
        self.writer.store_all([self.parcel(self.boxes[0]) for _ in range(5)])
        opened = [step for step in disk.steps if "spool/" in step and step.startswith(("write", "close"))]
        self.assertEqual([step.split()[0] for step in opened], ["write", "close"] * 5)

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

    def test_no_room_is_told_apart(self) -> None:
        disk = Disk(self)
        disk.error = errno.ENOSPC
        disk.fails = lambda step: step.startswith("write")
        (error,) = self.writer.store_all([self.parcel(self.boxes[0])])
        self.assertIsInstance(error, MailboxFull)

    def test_an_error_that_nobody_expected_reaches_who_waits(self) -> None:
        self.patch(os, "fsync", lambda descriptor: 1 / 0)
        (error,) = self.writer.store_all([self.parcel(self.boxes[0])])
        self.assertIsInstance(error, ZeroDivisionError)

    def test_storage_errors_name_the_file(self) -> None:
        self.assertEqual(str(trouble(OSError(errno.EIO, "broken", "a/b"))), "a/b: broken")
        self.assertIsInstance(trouble(OSError(errno.EDQUOT, "quota")), MailboxFull)

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


class Thread(TestCase):
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
