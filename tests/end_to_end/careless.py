"""twistd with one sync left out: ``python -m tests.end_to_end.careless PATTERN [twistd's arguments]``.

What lies at a path that matches PATTERN, as in a shell, is never synced.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from pathlib import Path

from twisted.scripts.twistd import run


def leave_out(pattern: str) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not fnmatch.fnmatchcase(str(Path(f"/proc/self/fd/{descriptor}").readlink()), pattern):
            real(descriptor)

    os.fsync = fsync


if __name__ == "__main__":
    leave_out(sys.argv.pop(1))
    run()
