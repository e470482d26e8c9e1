"""``python -m tests.fuzz [--seconds N] [--seed N]``: many clients that misbehave, against a real server.

The exit status is 1 where anything was found; then the last lines are what was said when it was, ready to become a file
in tests/dialogues.
"""

# Printing is what it is for.
# ruff: noqa: T201

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.fuzz.run import Run

LATE = 1.0  # seconds that the witness's letter may take, there and back


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a real server over real sockets.")
    parser.add_argument("--seconds", type=float, default=60, help="how long [default: %(default)s]")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of all that is said [default: random]"
    )
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, for {arguments.seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="mailbe-") as folder:
        run = Run(Path(folder), arguments.seconds, arguments.seed, partial(print, flush=True), late=LATE)
        good = run.run()
    if not good:
        print(*(f"FAILED: {failure}" for failure in run.failures), *run.stories, f"seed {arguments.seed}", sep="\n")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
