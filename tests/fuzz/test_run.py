"""The long run, for some seconds only, and what it watches a server with."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.dialogue import read
from tests.fuzz import speech
from tests.fuzz.run import Run
from tests.fuzz.watch import Log, Memory, descriptors

SECONDS = 4
SEED = 7  # of those whose first sessions, which are all that a slow machine comes to, have letters taken


class LongRun(SynchronousTestCase):
    def test_for_some_seconds(self) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        told: list[str] = []
        # Who shares this machine has his time and his disk from it too, so the witness may come late.
        run = Run(folder, SECONDS, SEED, told.append, late=90, slow=True)
        self.assertTrue(run.run(), "\n".join([*told, *run.failures, *run.stories]))
        self.assertGreater(run.figures.sessions, 10)
        self.assertIn(("(letter)", "250"), run.figures.pairs)
        self.assertTrue(run.letters)


class Watching(SynchronousTestCase):
    def test_lines_that_no_server_of_ours_writes_are_seen(self) -> None:
        path = Path(self.mktemp())
        path.touch()
        log = Log(path)
        good = "2026-11-23T01:07:18+0000 [mailbe.journal#info] x: <> to 1 recipients\n"
        good += "\t1795396038.M000001P1Q000001Rd9cf53ce.vm: <> to 1 recipients\n"
        odd = ["Traceback (most recent call last):", "\tboom", "2026-01-01T00:00:00+0000 [mailbe-forged#info] forged"]
        odd.append("2026-11-23T01:07:18+0000 [twisted.internet.defer#critical] Unhandled error in Deferred:")
        odd.append("2026-11-23T01:07:18+0000 [mailbe.smtp.session#info] \x07")
        with path.open("a") as file:
            file.write(good + "\n".join(odd) + "\n" + good + "2026-11-23T01:07")
        self.assertEqual(log.odd_lines(), odd)
        with path.open("a") as file:
            file.write(":18+0000 [-] Main loop terminated.\n")
        self.assertEqual((log.odd_lines(), log.lines), ([], 10))

    def test_of_a_slow_disk_it_is_no_fault_that_nobody_waits_for_it(self) -> None:
        path = Path(self.mktemp())
        line = "2026-11-23T01:07:18+0000 [mailbe.accounts.checker#error] a log-in of a@b is not written down: x: "
        path.write_text(f"{line}database is locked\n{line}disk I/O error\n")
        self.assertEqual(len(Log(path).odd_lines()), 2)
        self.assertEqual(Log(path, slow=True).odd_lines(), [f"{line}disk I/O error"])

    def test_memory_that_grows_is_seen_and_what_came_before_it_was_warm_is_not(self) -> None:
        memory = Memory(os.getpid())
        memory.samples = [(float(second), 1000 + 10 * min(second, 50)) for second in range(100)]
        self.assertEqual(memory.growth(60), 0)
        memory.samples = [(float(second), 1000 + 10 * second) for second in range(101)]
        self.assertEqual(round(memory.growth(50)), 500)

    def test_a_descriptor_that_is_kept_is_seen(self) -> None:
        before = descriptors(os.getpid())
        path = Path(self.mktemp()).resolve()
        with path.open("w"):
            self.assertEqual(descriptors(os.getpid()) - before, {str(path): 1})
        self.assertFalse(descriptors(os.getpid()) - before)

    def test_what_was_said_can_be_played_again(self) -> None:
        random = Random(1)
        path = Path(self.mktemp())
        for _ in range(200):
            said = speech.lines(speech.several(random, speech.smtp_command)) + speech.letter(random)
            said = speech.mutated(random, said, 3)
            path.write_text("\n".join(speech.written(said)))
            [scene] = read(path).scenes
            self.assertEqual(b"".join(exchange.said for exchange in scene.exchanges), said)
