"""A worker by itself: where it may begin, and how it writes what others write to as well."""

from __future__ import annotations

import os
import select
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailbe import process, worker
from mailbe.accounts.database import Accounts
from mailbe.maildata import Maildata, Unusable
from mailbe.worker import Line, check_place


class Place(SynchronousTestCase):
    def setUp(self) -> None:
        self.maildata = Maildata(Path(self.mktemp()))
        self.maildata.prepare()
        Accounts(self.maildata.accounts).open()
        self.lock = self.maildata.lock()
        self.addCleanup(os.close, self.lock)

    def refused(self) -> str:
        return str(self.assertRaises(Unusable, check_place, self.maildata, self.lock))

    def test_where_all_is_as_it_was_it_may_begin(self) -> None:
        check_place(self.maildata, self.lock)

    def test_without_accounts_it_makes_none(self) -> None:
        self.maildata.accounts.unlink()
        self.assertIn("accounts.sqlite3: No such file", self.refused())

    def test_a_folder_of_the_same_name_is_not_the_one(self) -> None:
        self.maildata.root.rename(self.maildata.root.with_name("aside"))
        self.assertIn("No such file", self.refused())
        self.maildata.prepare()
        Accounts(self.maildata.accounts).open()
        self.assertIn("not the folder that the server began with", self.refused())


class Writing(SynchronousTestCase):
    """To the standard output, and over the line."""

    def setUp(self) -> None:
        self.output: list[bytes] = []

        def write(descriptor: int, octets: bytes) -> int:
            self.assertEqual(descriptor, 1)
            self.output.append(octets)
            return len(octets)

        self.patch(worker, "os", type("Os", (), {"write": staticmethod(write)}))

    def event(self, **more: Any) -> dict[str, Any]:
        with capturedLogs() as events:
            Logger("mailbe.here").emit(LogLevel.warn, "{text}", **more)
        return dict(events[0])

    def test_a_line_is_one_write(self) -> None:
        worker.write(self.event(text="ünder"))
        self.assertRegex(b"".join(self.output).decode(), r"\A\S+ \[mailbe\.here#warn\] ünder\n\Z")
        self.assertEqual(len(self.output), 1)

    def test_what_a_pipe_does_not_take_in_one_go_is_parted_between_lines(self) -> None:
        text = "\n".join("x" * 100 for _ in range(200))
        worker.write(self.event(text=text))
        self.assertGreater(len(self.output), 1)
        for part in self.output:
            self.assertTrue(part.endswith(b"\n"))
            self.assertLessEqual(len(part), select.PIPE_BUF)
        self.assertEqual(b"".join(self.output).count(b"x"), 20_000)

    def test_a_line_longer_than_that_is_written_all_the_same(self) -> None:
        worker.write(self.event(text="x" * 10_000))
        self.assertEqual(b"".join(self.output).count(b"x"), 10_000)


class Telling(SynchronousTestCase):
    def test_what_it_tells_stands_in_the_supervisors_log_as_in_its_own(self) -> None:
        ours, theirs = Pipe()
        self.addCleanup(ours.close)
        line = Line(os.dup(theirs.fileno()))
        log = Logger("mailbe.accounts.checker")
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            failure = Failure()
        with capturedLogs() as events:
            log.warn("log-in failed: {who}", who="eve\n")
            log.failure("a command failed", failure)
        for event in events:
            worker.tell(line, event)
        with capturedLogs() as told:
            for _ in events:
                process._write(ours.recv())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        for before, after in zip(events, told, strict=True):
            for key in ("log_time", "log_namespace", "log_level"):
                self.assertEqual(after[key], before[key])
            self.assertIn(formatEvent(before), formatEvent(after))
        self.assertIn("ZeroDivisionError", formatEvent(told[1]))

    def test_without_a_supervisor_nobody_is_told(self) -> None:
        ours, theirs = Pipe()
        line = Line(os.dup(theirs.fileno()))
        theirs.close()
        ours.close()
        line.say("is anybody there?")

    def test_threads_do_not_speak_at_once(self) -> None:
        ours, theirs = Pipe()
        self.addCleanup(ours.close)
        line = Line(os.dup(theirs.fileno()))
        words = ["x" * size for size in (10, 100_000)]
        threads = [threading.Thread(target=lambda: [line.say(word) for word in words * 20]) for _ in range(4)]
        for thread in threads:
            thread.start()
        found = [ours.recv() for _ in range(4 * 40)]
        for thread in threads:
            thread.join()
        self.assertEqual({word: found.count(word) for word in words}, dict.fromkeys(words, 80))
