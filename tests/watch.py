"""Watches what this process does to the outside: every file it names, every program, every connection."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_FILES = {"open", "sqlite3.connect", "shutil.copyfile", "shutil.move", "shutil.rmtree"}
_FILES |= {f"os.{name}" for name in ("mkdir", "rename", "link", "symlink", "remove", "rmdir", "truncate", "chmod")}
_FILES |= {f"os.{name}" for name in ("chown", "utime", "listdir", "scandir", "chdir", "mkfifo", "mknod", "setxattr")}
_OTHERS = ("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "ctypes.dlopen")
_watching: list[Doings] = []
_installed = False


class Doings:
    """What was done while it was watched."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        """As they were named."""
        self.others: list[str] = []
        """Programs started and sockets used."""


@contextmanager
def watched() -> Iterator[Doings]:
    """What is done within; Python tells it itself (PEP 578), so no way around is left to what is written in it."""
    global _installed
    if not _installed:
        sys.addaudithook(_heed)  # for ever: there is no way to take it away
        _installed = True
    doings = Doings()
    _watching.append(doings)
    try:
        yield doings
    finally:
        _watching.remove(doings)


def _heed(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event in _FILES:
        names = [os.fsdecode(name) for name in arguments if isinstance(name, (str, bytes, os.PathLike))]
        for doings in _watching:
            # open tells its mode as well, which is no path.
            doings.paths.update(names[:1] if event == "open" else names)
    elif event.startswith(_OTHERS):
        for doings in _watching:
            doings.others.append(f"{event} {arguments!a}")
