"""The checks of scripts/test, all of them even if one fails; the last line is `N passed, M failed`.

Arguments go to trial in place of `tests`. The coverage has its floor for the whole of them, so it is measured only
when there are no arguments.
"""

# Starting programs that it names itself, and printing, is what this script is for.
# ruff: noqa: S603, T201

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COVERAGE_FLOOR = 95

SUMMARY = re.compile(r"^Ran \d+ tests? in [\d.]+s\n\n(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)
SKIPPED = re.compile(r"^\[SKIPPED\]\n(.*?)\n\n((?:\S+\n)+)(?=={20}|-{20})", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Tally:
    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def tally(output: str, status: int, *, skips_fail: bool) -> Tally:
    """Count from trial's own summary; a trial that died before or after it has failed."""
    summaries = SUMMARY.findall(output) or [None]
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", summaries[-1] or "")}
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    if summaries[-1] is None or (status != 0 and failed == 0):
        failed += 1
    skipped = counts.get("skips", 0)
    return Tally(passed, failed + skipped, 0) if skips_fail else Tally(passed, failed, skipped)


def title(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def step(*command: str) -> bool:
    title(" ".join(command))
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def run_trial(*command: str) -> tuple[str, int]:
    """Run trial, showing its output as it comes; return the output and the exit status.

    The output goes through a file: a pipe would stay open for as long as any program that a test left behind.
    """
    title(" ".join(command))
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            # -u and no variable: the servers that tests start must buffer as they always do.
            [sys.executable, "-u", "-m", *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        output = b""
        try:
            while True:
                ended = process.poll() is not None
                more = os.pread(log.fileno(), 1 << 20, len(output))
                sys.stdout.buffer.write(more)
                sys.stdout.buffer.flush()
                output += more
                if ended and not more:
                    return output.decode(errors="replace"), process.returncode
                if not more:
                    time.sleep(0.1)
        except KeyboardInterrupt:
            process.wait()
            raise


def main(arguments: list[str]) -> int:
    under_ci = os.environ.get("CI") == "true"
    failed_steps = [
        " ".join(command)
        for command in (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
        if not step(*command)
    ]
    trial = ["twisted.trial", "--random=0"]
    if arguments:
        output, status = run_trial(*trial, *arguments)
    else:
        # A run that was cut short leaves its data behind, and they would be counted in.
        for stale in ROOT.glob(".coverage.*"):
            stale.unlink()
        # In parallel mode, for the servers that tests start are measured too, each into a file of its own.
        output, status = run_trial("coverage", "run", "--parallel-mode", "-m", *trial, "tests")
        combined = step("coverage", "combine", "--quiet")
        if not (combined and step("coverage", "report", f"--fail-under={COVERAGE_FLOOR}")):
            failed_steps.append("coverage")
    result = tally(output, status, skips_fail=under_ci)

    title("Result")
    for reason, tests in SKIPPED.findall(output):
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
