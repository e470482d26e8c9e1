"""The process that gives a ``Tree`` to the kernel through FUSE: ``python -m mailbe.torture.fuse DESCRIPTOR FOLDER``.

The descriptor is one end of a ``multiprocessing.Pipe``. The tree comes in. ``None`` goes out when it is mounted, or
one line that says why it cannot be. After that, whatever comes in cuts the power, and the tree as it was at that
moment goes out. When the pipe ends the file system is unmounted, whoever still uses it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from mailbe.torture.tree import File, Tree

HIDDEN = ".fuse_hidden"  # what libfuse renames a file to that is unlinked and still open
NOW, OMIT = 0x3FFFFFFF, 0x3FFFFFFE  # UTIME_NOW and UTIME_OMIT of utimensat(2)
BLOCK = 4096  # octets
ROOM = (1 << 40) // BLOCK  # blocks that we say are free; memory ends long before
GRACE = 0.5  # seconds in which an unmounted file system ends by itself where nobody uses it

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _powered(method: _Method) -> _Method:
    """One operation at a time, and none without power."""

    @functools.wraps(method)
    def guarded(self: Operations, *arguments: Any) -> Any:
        with self._lock:
            if self._cut:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return method(self, *arguments)

    return guarded  # type: ignore[return-value]


class Operations:
    """What the kernel asks for, as mfusepy names it. A handle is the number of the node that is open.

    fcntl and flock locks are not among it: where a file system has none of its own, the kernel keeps them.
    """

    use_ns = True  # times are nanoseconds

    def __init__(self, tree: Tree, mounted: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._cut = False
        self._tree = tree
        self._mounted = mounted
        self._hidden: dict[str, int] = {}

    def cut_power(self) -> Tree:
        """From now on everything fails. Returns the tree, as it was when this happened."""
        with self._lock:
            self._cut = True
            return self._tree

    def init(self, _: str) -> None:
        self._mounted()

    @_powered
    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        number = self._at(path, handle)
        node = self._tree.node(number)
        size = len(node.octets) if isinstance(node, File) else 0
        return {
            "st_ino": number,
            "st_mode": node.mode,
            # libfuse takes off one for the name that it thinks it has given.
            "st_nlink": node.links + (_name(path) in self._hidden),
            "st_size": size,
            "st_blksize": BLOCK,
            "st_blocks": -(-size // 512),
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_atime": node.modified,
            "st_mtime": node.modified,
            "st_ctime": node.changed,
        }

    @_powered
    def statfs(self, path: str) -> dict[str, int]:
        return {
            "f_bsize": BLOCK,
            "f_frsize": BLOCK,
            "f_blocks": ROOM,
            "f_bfree": ROOM,
            "f_bavail": ROOM,
            "f_files": ROOM,
            "f_ffree": ROOM,
            "f_namemax": 255,
        }

    @_powered
    def readdir(self, path: str, handle: int) -> list[str | tuple[str, dict[str, int], int]]:
        entries = self._tree.folder(handle).names.items()
        return [
            ".",
            "..",
            *((name, {"st_ino": number, "st_mode": self._tree.node(number).mode}, 0) for name, number in entries),
        ]

    @_powered
    def create(self, path: str, mode: int) -> int:
        number = self._tree.create(*self._tree.place(path), mode)
        self._tree.hold(number)
        return number

    @_powered
    def open(self, path: str, flags: int) -> int:
        number = self._at(path)
        if flags & os.O_TRUNC:
            self._tree.resize(number, 0)
        self._tree.hold(number)
        return number

    @_powered
    def opendir(self, path: str) -> int:
        number = self._at(path)
        self._tree.hold(number)
        return number

    @_powered
    def release(self, path: str, handle: int) -> None:
        self._tree.release(handle)

    releasedir = release

    @_powered
    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        return self._tree.read(handle, offset, size)

    @_powered
    def write(self, path: str, octets: bytes, offset: int, handle: int) -> int:
        self._tree.write(handle, offset, octets)
        return len(octets)

    @_powered
    def truncate(self, path: str, size: int, handle: int | None = None) -> None:
        self._tree.resize(self._at(path, handle), size)

    @_powered
    def fsync(self, path: str, data_only: int, handle: int) -> None:
        self._tree.sync(handle)

    fsyncdir = fsync

    @_powered
    def mkdir(self, path: str, mode: int) -> None:
        self._tree.mkdir(*self._tree.place(path), mode)

    @_powered
    def rmdir(self, path: str) -> None:
        self._tree.rmdir(*self._tree.place(path))

    @_powered
    def link(self, path: str, existing: str) -> None:
        self._tree.link(self._at(existing), *self._tree.place(path))

    @_powered
    def unlink(self, path: str) -> None:
        hidden = self._hidden.pop(_name(path), None)
        if hidden is None:
            self._tree.unlink(*self._tree.place(path))
        else:
            self._tree.release(hidden)

    @_powered
    def rename(self, path: str, new_path: str) -> None:
        if _name(new_path).startswith(HIDDEN):
            # It was unlinked, or is about to be replaced, and stays there for who has it open.
            self._hidden[_name(new_path)] = number = self._at(path)
            self._tree.hold(number)
            self._tree.unlink(*self._tree.place(path))
        else:
            self._tree.rename(*self._tree.place(path), *self._tree.place(new_path))

    @_powered
    def chmod(self, path: str, mode: int) -> None:
        self._tree.set_permissions(self._at(path), mode)

    @_powered
    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        modified = NOW if times is None else times[1]
        if modified != OMIT:
            self._tree.set_modified(self._at(path), time.time_ns() if modified == NOW else modified)

    def _at(self, path: str, handle: int | None = None) -> int:
        if handle is not None:
            return handle
        hidden = self._hidden.get(_name(path))
        return self._tree.find(path) if hidden is None else hidden


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def main(descriptor: int, folder: str) -> None:
    pipe = Connection(descriptor)
    try:
        from mfusepy import FUSE  # type: ignore[import-untyped]
    except ImportError:
        pipe.send("mfusepy is missing; pip install mfusepy")
        return
    except OSError:
        pipe.send("libfuse is missing; apt-get install fuse3")
        return
    operations = Operations(pipe.recv(), lambda: pipe.send(None))
    ended = threading.Event()
    threading.Thread(target=_obey, args=(pipe, operations, folder, ended), daemon=True).start()
    with contextlib.suppress(RuntimeError):  # libfuse has written on stderr why it cannot mount
        FUSE(
            operations,
            folder,
            foreground=True,
            nothreads=True,
            fsname="forgetful",
            auto_unmount=True,  # by a helper of libfuse, should this process and its owner be killed
            default_permissions=True,
            use_ino=True,
            attr_timeout=0,  # else a file's other names would show what it was like a second ago
        )
    ended.set()


def _obey(pipe: Connection, operations: Operations, folder: str, ended: threading.Event) -> None:
    try:
        while True:
            pipe.recv()
            pipe.send(operations.cut_power())
    except (EOFError, OSError):
        pass
    subprocess.run(["fusermount3", "-u", "-z", folder], check=False)  # noqa: S603, S607
    if not ended.wait(GRACE):
        os._exit(0)  # somebody has files open, and gets errors from now on


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
