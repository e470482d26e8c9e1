"""scripts/checks.py: no test is left out, whoever runs it, and a trial that ends badly is a failure."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import dedent

from twisted.python.modules import getModule
from twisted.trial.runner import TestLoader
from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server import eventually

CHECKS = Path(__file__).parents[1] / "scripts" / "checks.py"
SECONDS = 60

_spec = importlib.util.spec_from_file_location("checks", CHECKS)
assert _spec
assert _spec.loader
checks = importlib.util.module_from_spec(_spec)
sys.modules["checks"] = checks  # where dataclasses look for it
_spec.loader.exec_module(checks)

GOOD = "pass"
BAD = "self.fail('the queen says so')"
SKIPS = "raise SkipTest('no croquet today')"
DIES = "os.kill(os.getpid(), signal.SIGKILL)"


class Checks(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.shown = io.TextIOWrapper(io.BytesIO(), write_through=True)
        self.enterContext(redirect_stdout(self.shown))

    @property
    def output(self) -> str:
        return self.shown.buffer.getvalue().decode()  # type: ignore[attr-defined]

    def command(self, name: str, *bodies: str) -> list[str]:
        """A trial of a module ``test_NAME`` with a test for each of these bodies."""
        module = self.folder / f"test_{name}.py"
        module.write_text(
            "import os, pathlib, signal, time\nfrom twisted.trial.unittest import SkipTest, TestCase\n"
            f"class {name.title()}(TestCase):\n"
            + "".join(f"    def test_{number}(self):\n        {body}\n" for number, body in enumerate(bodies))
        )
        return ["twisted.trial", f"--temp-directory={self.folder / name}", str(module)]

    def tally(self, *commands: list[str], skips_fail: bool = True) -> str:
        ended = checks.run_trials(commands, 2)
        return str(checks.total(checks.tally(trial, skips_fail=skips_fail) for trial in ended))

    def test_every_test_that_trial_would_find_is_in_one_share(self) -> None:
        shares = checks.shares(checks.modules())
        counts = Counter(name for share in shares for name in share)
        self.assertEqual(set(counts.values()), {1})
        found = {module.name for module in getModule("tests").walkModules()}
        found = {name for name in found if name.rpartition(".")[2].startswith(TestLoader.modulePrefix)}
        self.assertEqual(found, set(counts))

    def test_the_counts_of_all_are_added(self) -> None:
        self.assertEqual(
            self.tally(self.command("one", GOOD, GOOD), self.command("two", GOOD, BAD)), "3 passed, 1 failed"
        )

    def test_what_is_left_out_has_failed_only_where_it_must_not_be(self) -> None:
        for skips_fail, result in ((True, "1 passed, 1 failed"), (False, "1 passed, 0 failed, 1 skipped")):
            command = self.command("one", GOOD, SKIPS)
            self.assertEqual(self.tally(command, skips_fail=skips_fail), result)

    def test_one_that_dies_has_failed_and_the_others_go_on(self) -> None:
        commands = self.command("one", DIES, GOOD), self.command("two", GOOD), self.command("three", GOOD)
        self.assertEqual(self.tally(*commands), "2 passed, 1 failed")

    def test_one_that_cannot_be_loaded_has_failed(self) -> None:
        self.assertEqual(self.tally([*self.command("one", GOOD), "tests.no_such_module"]), "1 passed, 1 failed")

    def test_some_run_at_once_and_each_is_shown_whole_in_its_turn(self) -> None:
        commands = [self.command(name, self._meets(name, other)) for name, other in (("one", "two"), ("two", "one"))]
        commands.append(self.command("three", GOOD))
        self.assertEqual(self.tally(*commands), "3 passed, 0 failed")
        words = ("test_one.py\n", "One\n", "PASSED", "test_two.py\n", "Two\n", "PASSED", "test_three.py\n", "PASSED")
        at = 0
        for word in words:
            at = self.output.index(word, at) + len(word)

    def _meets(self, name: str, other: str) -> str:
        """The body of a test that ends well when the other runs at the same time."""
        met = self.folder / name
        return (
            f"pathlib.Path({str(met)!r} + '.here').touch(); end = time.monotonic() + {SECONDS}\n"
            f"        while not pathlib.Path({str(self.folder / other)!r} + '.here').exists():\n"
            "            self.assertLess(time.monotonic(), end)\n"
            "            time.sleep(0.01)"
        )

    def test_the_last_line_is_the_result(self) -> None:
        self.patch(checks, "step", lambda *command: True)
        self.patch(os, "environ", {**os.environ, "CI": "true"})
        _, *arguments = self.command("one", GOOD, GOOD, SKIPS)
        self.assertEqual(checks.main(arguments), 1)
        *_, reason, result = self.output.splitlines()
        self.assertRegex(reason, r"^Left out and so failed: test_one.One.test_2: no croquet today$")
        self.assertEqual(result, "2 passed, 1 failed")

    def test_a_module_without_tests_has_failed(self) -> None:
        command = self.command("one")
        Path(command[-1]).write_text("")
        self.assertEqual(self.tally(command, self.command("two", GOOD)), "1 passed, 1 failed")

    def test_ctrl_c_ends_all_of_them(self) -> None:
        commands = [
            self.command(name, f"(pathlib.Path({str(self.folder / name)!r} + '.here').touch(), time.sleep({SECONDS}))")
            for name in ("one", "two")
        ]
        program = f"""
            import sys
            sys.path.insert(0, {str(CHECKS.parent)!r})
            import checks
            try:
                checks.run_trials({commands!r}, 2)
            except KeyboardInterrupt:
                sys.exit(130)
        """
        process = subprocess.Popen(
            [sys.executable, "-c", dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.addCleanup(process.kill)
        for name in ("one", "two"):
            eventually((self.folder / f"{name}.here").exists, "both are under way", SECONDS)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 130, said.decode())
        self.assertRaises(ProcessLookupError, os.killpg, process.pid, 0)
