"""Disks of a test's own, where tests may mount any."""

from __future__ import annotations

import subprocess
import unittest
from pathlib import Path

from tests.end_to_end.ledger import LedgerTestCase


class DiskTestCase(LedgerTestCase):
    def mount(self, folder: Path, *options: str) -> None:
        """Mount something at ``folder`` until the test is over; it is left out where that is not allowed."""
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if done.returncode:
            raise unittest.SkipTest(f"mounting is not allowed here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(folder)], capture_output=True)

    def unmount(self, folder: Path) -> None:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

    def disk(self, folder: Path, size: str) -> Path:
        """A disk of its own at ``folder``, as small as a test wants it."""
        folder.mkdir(exist_ok=True)
        self.mount(folder, "-t", "tmpfs", "-o", f"size={size},mode=700", "mailbe-test")
        return folder

    def resize(self, folder: Path, **limits: int) -> None:
        options = ",".join(["remount", *(f"{name}={limit}" for name, limit in limits.items())])
        subprocess.run(["mount", "-o", options, str(folder)], check=True)
