"""``mailbe torture`` on real servers: ours passes, and those with a seeded fault fail, for what is wrong with them.

The seed is fixed, the moments are not quite: a fault is there for so long that some of the crashes must hit it, and
the first crash waits until what it is to hit has been done, however long that takes.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from mailbe import cli
from mailbe.maildata import Maildata
from mailbe.torture import audit, clients, command, run, tree, wire
from mailbe.torture.clients import Client, Load
from mailbe.torture.forgetful import Rule
from mailbe.torture.ledger import ENVOI, RECEPTION, Attempt, Deletion, Kind
from mailbe.torture.people import NEWCOMERS
from mailbe.torture.report import COUNTED, WRONG
from mailbe.torture.run import Plan, Way
from tests.end_to_end import faulty
from tests.end_to_end.programs import needs
from tests.end_to_end.server import CHECKOUT, EndToEndTestCase, environment, eventually

SEED = 7628  # its first crashes come when there is much under way, for each way to crash
ROUNDS = 3
PATIENCE = 120.0  # seconds: how fast a machine is that has other things to do is not the question here


def receivers(attempt: Attempt) -> list[str]:
    return [box.owner for box in attempt.boxes if box.kind == RECEPTION]


# What clients may have been told is done: to letters that were taken, and in sessions that were ended.
TAKEN: dict[str, Callable[[Load, Attempt], bool]] = {
    "acknowledged": lambda load, attempt: True,
    "to several": lambda load, attempt: len(receivers(attempt)) > 1,
    "to new": lambda load, attempt: not set(load.people[-NEWCOMERS:]).isdisjoint(receivers(attempt)),
    "submitted": lambda load, attempt: any(box.kind == ENVOI for box in attempt.boxes),
    "held": lambda load, attempt: attempt.due > 0,
}
ENDED: dict[str, Callable[[Load, Deletion], bool]] = {
    "ended": lambda load, deletion: True,
    "deleted": lambda load, deletion: bool(deletion.tokens),
    "deleted by leavers": lambda load, deletion: (
        bool(deletion.tokens) and deletion.box.owner in load.people[:NEWCOMERS]
    ),
}


class Patient(Load):
    """A load with a crash that comes no sooner than some kinds of things were done."""

    awaited: Iterable[str] = ("acknowledged",)

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.acknowledged = self  # type: ignore[assignment]

    def set(self) -> None:
        """A letter was acknowledged."""

    def wait(self, seconds: float) -> bool:
        """Whether all was done that is waited for, now or within so many seconds."""
        if not self.was_done():
            time.sleep(seconds)
        return self.was_done()

    def was_done(self) -> bool:
        records = [client.record for client in self._clients]
        taken = [attempt for record in records for attempt in record.attempts if attempt.answer is not None]
        ended = [deletion for record in records for deletion in record.deletions if deletion.answered]
        return all(
            any(TAKEN[kind](self, attempt) for attempt in taken)
            if kind in TAKEN
            else any(ENDED[kind](self, deletion) for deletion in ended)
            for kind in self.awaited
        )


class TortureCase(EndToEndTestCase):
    def setUp(self) -> None:
        for module, name in (
            (run, "USABLE"),
            (run, "FIRST_ANSWER"),
            (run, "RELEASED"),
            (audit, "GIVE_UP"),
            (wire, "PATIENCE"),
        ):
            self.patch(module, name, PATIENCE)
        self.patch(clients, "HELD", 0.5)  # there may be few letters in all

    def said(self, text: str) -> dict[str, int]:
        """The rows of the table, for one way to crash."""
        rows = {}
        for name in (*COUNTED.values(), *WRONG.values()):
            (number,) = re.findall(rf"^{re.escape(name)} +(\d+)$", text, re.MULTILINE)
            rows[name] = int(number)
        return rows

    def first_await(self, *kinds: str, round: int = 1) -> None:
        """Have the crash of one round wait until all these were done; the others come when they come."""

        def load(seed: str, *arguments: Any, **settings: Any) -> Load:
            kind = Patient if seed.endswith(f"-{round}") else Load
            return kind(seed, *arguments, **settings)

        self.patch(Patient, "awaited", kinds)
        self.patch(run, "Load", load)

    def torture(self, plan: Plan, way: Way, rounds: int) -> tuple[int, str]:
        """Returns the exit status, and what was printed."""
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            status = command.run(plan, [(way, rounds)], self.scratch(), None)
        self.assertEqual([thread for thread in threading.enumerate() if isinstance(thread, Client)], [])
        return status, out.getvalue() + err.getvalue()

    def assert_passes(self, way: Way, rounds: int, workers: int = 1) -> str:
        """Returns what was printed."""
        done = ("acknowledged", "to several", "to new", "submitted", "held", "deleted")
        self.first_await(*done)
        status, out = self.torture(Plan(SEED, workers=workers), way, rounds)
        rows = self.said(out)
        self.assertEqual(status, 0, out)
        self.assertIn(f"{rounds} of {rounds}", out)
        self.assertEqual({rows[name] for name in WRONG.values()}, {0}, out)
        for key in done:
            self.assertGreater(rows[COUNTED[key]], 0, out)
        return out

    def assert_found(self, fault: str, kind: Kind, way: Way, rounds: int, *, released: float = 5.0) -> str:
        """Returns what was printed.

        :param released: seconds that letters are waited for which are held: some never come, or are left there.
        """
        self.patch(run, "RELEASED", released)
        status, out = self.torture(Plan(SEED, command=faulty.command(fault)), way, rounds)
        self.assertEqual(status, 1, out)
        self.assertGreater(self.said(out)[WRONG[kind]], 0, out)
        self.assertRegex(out, rf"(?m)^{way.name}, round \d+: {kind.value}: ")
        return out


class KillTests(TortureCase):
    WAY = Way("kill9")

    def test_our_server_loses_nothing(self) -> None:
        self.assert_passes(self.WAY, ROUNDS)

    def test_nor_do_several_workers_of_which_one_is_killed_or_all_or_their_supervisor(self) -> None:
        out = self.assert_passes(self.WAY, ROUNDS, workers=2)
        self.assertGreater(self.said(out)[COUNTED["replaced"]], 0, out)

    def test_a_server_that_acknowledges_before_it_writes(self) -> None:
        self.assert_found("acknowledges_before_it_writes", Kind.MISSING, self.WAY, ROUNDS)

    def test_a_server_that_writes_straight_into_new(self) -> None:
        self.assert_found("writes_straight_into_new", Kind.HALF, self.WAY, ROUNDS)

    def test_a_server_that_deletes_after_it_has_said_so(self) -> None:
        self.first_await("deleted")
        self.assert_found("deletes_after_it_has_said_so", Kind.UNDONE, self.WAY, ROUNDS)

    def test_a_server_that_brings_deleted_letters_back(self) -> None:
        self.first_await("deleted")
        self.assert_found("brings_deleted_letters_back", Kind.UNDONE, self.WAY, ROUNDS)

    def test_a_server_that_delivers_again_after_a_crash(self) -> None:
        self.assert_found("delivers_again_after_a_crash", Kind.TWICE, self.WAY, ROUNDS)

    def test_a_server_that_delivers_to_one_more(self) -> None:
        self.assert_found("delivers_to_one_more", Kind.MISPLACED, self.WAY, ROUNDS)

    def test_a_server_that_forgets_what_it_holds(self) -> None:
        self.hold(3)
        self.assert_found("forgets_what_it_holds", Kind.MISSING, self.WAY, ROUNDS, released=PATIENCE)

    def hold(self, seconds: int) -> None:
        """Have letters held for so long, some of which are there before the first crash."""
        self.patch(run, "HOLDS", (seconds,))
        self.patch(run, "ROUND", float(seconds))
        self.first_await("held")

    def test_a_server_that_keeps_for_ever_what_it_held_when_it_was_killed(self) -> None:
        self.hold(3)
        out = self.assert_found("keeps_for_ever_what_it_held", Kind.MISSING, self.WAY, ROUNDS)
        self.assertIn("not released, and still in held/", out)

    def test_a_server_that_releases_before_the_time(self) -> None:
        # Not over before anybody has looked, however slow a machine is; and this server has nobody wait for it.
        self.hold(60)
        self.assert_found("releases_before_the_time", Kind.EARLY, self.WAY, ROUNDS)

    def test_a_server_that_releases_again_after_a_crash(self) -> None:
        self.first_await("held")
        self.assert_found("releases_again_after_a_crash", Kind.TWICE, self.WAY, ROUNDS)

    def test_a_server_that_sweeps_nothing(self) -> None:
        self.assert_found("sweeps_nothing", Kind.STRAY, self.WAY, ROUNDS)

    def test_a_server_that_leaves_its_locks_behind(self) -> None:
        self.first_await("ended")
        self.patch(audit, "GIVE_UP", 10.0)
        out = self.assert_found("leaves_its_locks_behind", Kind.SHUT, self.WAY, 1)
        self.assertIn("[IN-USE]", out)

    def test_a_server_that_hangs(self) -> None:
        self.patch(run, "FIRST_ANSWER", 1.0)
        self.assert_found("hangs", Kind.DOWN, self.WAY, ROUNDS)

    def test_a_server_that_ends_by_itself(self) -> None:
        out = self.assert_found("ends_by_itself", Kind.DOWN, self.WAY, ROUNDS)
        self.assertIn("with status 3", out)

    def test_a_server_that_does_not_come_up(self) -> None:
        out = self.assert_found("does_not_come_up", Kind.DOWN, self.WAY, ROUNDS)
        self.assertIn("no threads today", out)


@needs("fusermount3")
class PowerTests(TortureCase):
    WAY = command.power_cut(Rule.POSIX)

    def setUp(self) -> None:
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise SkipTest("needs /dev/fuse, and the right to mount with it")
        super().setUp()

    def forget_all(self) -> None:
        """No luck at all: a cut leaves nothing that was not synced, where else it leaves some or all of it."""
        self.patch(tree, "_fortune", lambda random: 0.0)

    def assert_found(self, fault: str, kind: Kind, way: Way, rounds: int, *, released: float = 5.0) -> str:
        self.forget_all()
        return super().assert_found(fault, kind, way, rounds, released=released)

    def test_our_server_loses_nothing(self) -> None:
        for rule in Rule:
            self.assert_passes(command.power_cut(rule), ROUNDS)

    def test_our_server_loses_nothing_when_all_that_was_not_synced_is_forgotten(self) -> None:
        self.forget_all()
        self.assert_passes(self.WAY, ROUNDS)

    def test_a_server_that_syncs_no_folder(self) -> None:
        self.assert_found("syncs_no_folder", Kind.MISSING, self.WAY, ROUNDS)

    def test_a_server_that_syncs_no_file(self) -> None:
        self.assert_found("syncs_no_file", Kind.HALF, command.power_cut(Rule.EXT4), ROUNDS)

    def test_a_server_that_does_not_sync_the_folders_of_a_new_mailbox(self) -> None:
        self.assert_found("syncs_no_new_mailbox", Kind.MISSING, self.WAY, ROUNDS)

    def test_a_server_that_does_not_sync_the_senders_copy(self) -> None:
        self.first_await("submitted")
        out = self.assert_found("syncs_no_copy", Kind.MISSING, self.WAY, ROUNDS, released=PATIENCE)
        self.assertIn("missing: in envoi/", out)
        self.assertNotIn("missing: in reception/", out)

    def test_a_server_that_does_not_sync_its_deletions(self) -> None:
        # Of the others, the next letter syncs the folder; and these have had no letters before they are to leave.
        self.first_await("deleted by leavers", round=ROUNDS)
        self.assert_found("syncs_no_deletion", Kind.UNDONE, self.WAY, ROUNDS)


class CommandTests(TortureCase):
    def test_the_command_proves_it(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            status = cli.main(["torture", "--kill9", "2", "--seed", "5", "--connections", "3"])
        self.assertEqual((status, err.getvalue()), (0, ""), out.getvalue())
        self.assertEqual(sum(self.said(out.getvalue())[name] for name in WRONG.values()), 0)
        (scratch,) = re.findall(r"seed 5; everything is in (.+)$", out.getvalue(), re.MULTILINE)
        self.assertFalse(Path(scratch).exists())

    def test_who_ends_it_gets_the_table_and_nothing_goes_on(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            folder = self.scratch() / "given"
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c", "from mailbe.cli import main; raise SystemExit(main())"),
                    *("--maildata", str(folder), "torture", "--kill9", "1000"),
                ],
                env=environment(),
                cwd=CHECKOUT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self.addCleanup(process.kill)
            second = folder / "kill9" / "server-0002.log"  # of the server that was started after the first crash
            eventually(second.exists, "the first round", PATIENCE)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, err), (1, "mailbe: broken off\n"))
            self.assertRegex(out, r"rounds +\d+ of 1000\n")
            # The server held a lock on its folder as long as it lived.
            os.close(Maildata(folder / "kill9" / "maildata").lock())

    def test_a_folder_with_mail_in_it_is_left_alone(self) -> None:
        served = self.serve()
        before = sorted(served.maildata.rglob("*"))
        with contextlib.redirect_stderr(io.StringIO()) as err:
            status = cli.main(["--maildata", str(served.maildata), "torture"])
        self.assertEqual(status, 1)
        self.assertIn("not empty", err.getvalue())
        self.assertEqual(sorted(served.maildata.rglob("*")), before)
