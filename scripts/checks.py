"""The checks of scripts/test, all of them even if one fails; the last line is `N passed, M failed`.

Several trials run at once, each on some of the modules of tests, and their results are added. Arguments go to one trial
in place of all that. The coverage has its floor for the whole of the tests, so it is measured only when there are no
arguments.
"""

# Starting programs that it names itself, and printing, is what this script is for.
# ruff: noqa: S603, T201

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COVERAGE_FLOOR = 95
# Tests wait a third of their time, so there is room for one more than there are cores; and with more than four
# of them, the longest module alone would take as long as all.
AT_ONCE = min(len(os.sched_getaffinity(0)) + 1, 4)
LONG = ("tests.end_to_end.", "tests.fuzz.", "tests.test_client_screen")
SHARE = 10  # the others, in one trial
TRIAL = ("twisted.trial", "--random=0")
TEMPORARY = "_trial_temp_shares"  # where each has a folder for what its tests leave behind

SUMMARY = re.compile(r"^Ran \d+ tests? in [\d.]+s\n\n(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)
SKIPPED = re.compile(r"^\[SKIPPED\]\n(.*?)\n\n((?:\S+\n)+)(?=={20}|-{20})", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Ended:
    """A trial at its end: its title, all that it has said, and its exit status."""

    title: str
    output: str
    status: int


@dataclass(frozen=True)
class Tally:
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def tally(trial: Ended, *, skips_fail: bool) -> Tally:
    """Count from trial's own summary; a trial that died before or after it has failed."""
    summaries = SUMMARY.findall(trial.output) or [None]
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", summaries[-1] or "")}
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    if summaries[-1] is None or (trial.status != 0 and failed == 0):
        failed += 1
    skipped = counts.get("skips", 0)
    return Tally(passed, failed + skipped, 0) if skips_fail else Tally(passed, failed, skipped)


def total(tallies: Iterable[Tally]) -> Tally:
    counts = [(each.passed, each.failed, each.skipped) for each in tallies]
    return Tally(*map(sum, zip(*counts, strict=True)))


def title(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def step(*command: str) -> bool:
    title(" ".join(command))
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0


class Trial:
    """A trial that runs, and what it has said.

    The output goes through a file: a pipe would stay open for as long as any program that a test left behind.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._title = " ".join(command)
        self._begun = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is there as long as this is
        self._output = b""
        self._process = subprocess.Popen(
            # -u and no variable: the servers that tests start must buffer as they always do.
            [sys.executable, "-u", "-m", *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def show(self) -> bool:
        """Show what was said since the last time; returns whether there is more to come."""
        running = self.running
        if not self._begun:
            title(self._title)
            self._begun = True
        while more := os.pread(self._log.fileno(), 1 << 20, len(self._output)):
            sys.stdout.buffer.write(more)
            sys.stdout.buffer.flush()
            self._output += more
        return running

    def wait(self) -> Ended:
        """Wait for its end, and show what is left."""
        status = self._process.wait()
        self.show()
        return Ended(self._title, self._output.decode(errors="replace"), status)


def run_trials(commands: Sequence[Sequence[str]], at_once: int) -> list[Ended]:
    """Run every trial, some ``at_once``; the output of each is shown as it comes, one after the other."""
    trials: list[Trial] = []
    shown = 0
    try:
        while shown < len(commands):
            while len(trials) < len(commands) and sum(trial.running for trial in trials) < at_once:
                trials.append(Trial(commands[len(trials)]))
            if trials[shown].show():
                time.sleep(0.1)
            else:
                shown += 1
    except KeyboardInterrupt:
        # The terminal has told them, too.
        for trial in trials[shown:]:
            trial.wait()
        raise
    return [trial.wait() for trial in trials]


def modules() -> list[str]:
    """Every module of tests, as trial would find them in ``tests``."""
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("tests/**/test_*.py"))


def shares(names: Sequence[str]) -> list[list[str]]:
    """The modules that are given to one trial each, in the order in which these begin.

    Those with real programs come first, each by itself: they take longest. The others fill in where one is still at it.
    """
    long = [name for name in names if name.startswith(LONG)]
    short = [name for name in names if not name.startswith(LONG)]
    random.shuffle(long)
    number = -(-len(short) // SHARE)
    return [*([name] for name in long), *(short[first::number] for first in range(number))]


def main(arguments: list[str]) -> int:
    under_ci = os.environ.get("CI") == "true"
    failed_steps = [
        " ".join(command)
        for command in (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
        if not step(*command)
    ]
    if arguments:
        ended = run_trials([[*TRIAL, *arguments]], 1)
    else:
        # A run that was cut short leaves its data behind, and they would be counted in.
        for stale in ROOT.glob(".coverage.*"):
            stale.unlink(missing_ok=True)  # a server of that run may still be ending
        # In parallel mode, for the servers that tests start are measured too, each into a file of its own.
        measured = ["coverage", "run", "--parallel-mode", "-m", *TRIAL]
        (ROOT / TEMPORARY).mkdir(exist_ok=True)
        ended = run_trials(
            [
                [*measured, f"--temp-directory={TEMPORARY}/{number}", *share]
                for number, share in enumerate(shares(modules()))
            ],
            AT_ONCE,
        )
        combined = step("coverage", "combine", "--quiet")
        if not (combined and step("coverage", "report", f"--fail-under={COVERAGE_FLOOR}")):
            failed_steps.append("coverage")
    tallies = [tally(trial, skips_fail=under_ci) for trial in ended]
    result = total(tallies)

    title("Result")
    for trial, counts in zip(ended, tallies, strict=True):
        if counts.failed:
            print(f"Failed, see above: {trial.title}")
    for reason, tests in (skipped for trial in ended for skipped in SKIPPED.findall(trial.output)):
        for test in tests.split():
            print(f"Left out{' and so failed' if under_ci else ''}: {test}: {' '.join(reason.split())}")
    if result.passed + result.failed == 0:
        print("No test ran.")
    if failed_steps:
        print(f"Failed besides the tests: {', '.join(failed_steps)}")
    print(result)
    return int(bool(failed_steps) or result.failed > 0 or result.passed == 0)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
