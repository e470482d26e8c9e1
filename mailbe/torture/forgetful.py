"""A disk that forgets what was not synced: a file system in memory that is really mounted, and whose power can go.

What it keeps and what it forgets stands in ``tree.py``. It is served by a process of its own (``fuse.py``): a
program that waits for a file system which it serves itself may wait for ever. That process unmounts and ends
when its pipe does, and so when its owner has died.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import IO

import mailbe
from mailbe.torture.tree import Rule, Tree

__all__ = ["ForgetfulDisk", "Rule", "Unavailable"]

PATIENCE = 20  # seconds that mounting or unmounting may take


class Unavailable(Exception):
    """There can be no such disk here; the message is one line that says why and what to do."""


class ForgetfulDisk:
    """A file system on ``folder``, which must be there. It is empty at first; what it has is gone with ``unmount``."""

    def __init__(self, folder: Path, rule: Rule, seed: int) -> None:
        """:param seed: decides, together with what was done until then, what each cut leaves."""
        self._folder = folder
        self._random = Random(seed)  # noqa: S311 (no secret)
        self._tree = Tree(rule)
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def mount(self) -> None:
        """Begin.

        :raises Unavailable:
        """
        if not shutil.which("fusermount3"):
            raise Unavailable("fusermount3 is missing; apt-get install fuse3")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise Unavailable("/dev/fuse is not there, or this user may not mount with it; try as root")
        self._pipe, theirs = Pipe()
        with tempfile.TemporaryFile() as said:
            with theirs:
                self._process = self._serve(theirs.fileno(), said)
            why: str | None = "FUSE cannot mount; try as root, and outside of a container"
            with contextlib.suppress(EOFError, OSError):  # it has ended
                self._pipe.send(self._tree)
                why = self._pipe.recv() if self._pipe.poll(PATIENCE) else "FUSE does not answer; try again"
            if why is not None:
                self.unmount()
                said.seek(0)
                last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise Unavailable(f"{self._folder}: {last and last + ': '}{why}")

    def cut(self) -> None:
        """The power goes: from now on every operation fails with EIO, and nothing more reaches the disk.

        :raises Unavailable:
        """
        assert self._pipe, "it is not mounted"
        try:
            self._pipe.send(None)
            self._tree = self._pipe.recv().cut(self._random)
        except (EOFError, OSError):
            raise Unavailable(f"{self._folder}: the process that serves it has ended; try again") from None

    def restore(self) -> None:
        """The power is back: what the cut has left is mounted anew. Who has files of before open gets errors.

        :raises Unavailable:
        """
        self.unmount()
        self.mount()

    def unmount(self) -> None:
        """End, whoever still uses it; where there is nothing to end, do nothing."""
        pipe, process = self._pipe, self._process
        self._pipe = self._process = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.returncode:
                # libfuse's helper looks too early now and then, meets an answer that is not yet that of a dead
                # process, and leaves the mount.
                subprocess.run(["fusermount3", "-u", "-z", "-q", self._folder], check=False)  # noqa: S603, S607

    def _serve(self, descriptor: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the process; what it has to say beside its pipe goes to ``said``."""
        path = [str(Path(mailbe.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "mailbe.torture.fuse", str(descriptor), str(self._folder)],
            # Without the second, mfusepy takes libfuse 2 where that is installed too.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "FUSE_LIBRARY_NAME": "fuse3"},
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for its owner to heed
        )
