"""What a program asks of the disk, as strace records it, and whether all of it was safe whenever the program spoke."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

OPEN = ("open", "openat", "openat2", "creat")
WRITE = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate", "sendfile")
SYNC = ("fsync", "fdatasync")
MAKE = ("mkdir", "mkdirat")
LINK = ("link", "linkat")
RENAME = ("rename", "renameat", "renameat2")
REMOVE = ("unlink", "unlinkat", "rmdir")
SEND = ("sendto", "sendmsg")

# Who is spoken to: the first argument of a call.
CLIENTS = re.compile(r"\d+<TCP(?:v6)?:")
STDOUT = re.compile(r"1<")

_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGINNING = re.compile(r"(\d+) +(\w+)\((.*?) <unfinished \.\.\.>$")
_REST = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PATH = re.compile(rf"(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?{_STRING.pattern}")
_OPENED = re.compile(r"\d+<([^>]*)>")


def command(record: Path, program: Sequence[str]) -> list[str]:
    """The command line that runs ``program``, as if there were no strace, and writes down its calls in ``record``."""
    # Which calls there are differs by processor, hence the question marks.
    names = ",".join(f"?{name}" for name in (*OPEN, *WRITE, *SYNC, *MAKE, *LINK, *RENAME, *REMOVE, *SEND))
    return ["strace", "-D", "-f", "-yy", "--seccomp-bpf", "-o", str(record), "-e", f"trace={names}", *program]


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that did not fail. Its times are lines of the record."""

    name: str
    arguments: str
    began: int
    ended: int

    @property
    def paths(self) -> list[Path]:
        """The paths that it names."""
        return [Path(folder, path) for folder, path in _PATH.findall(self.arguments)]

    @property
    def opened(self) -> Path:
        """What its first argument, a descriptor, stands for."""
        found = _OPENED.match(self.arguments)
        assert found, self
        return Path(found[1])


def calls(record: str) -> Iterator[Call]:
    """All calls in a record, in the order of their ends."""
    beginnings: dict[str, tuple[int, str]] = {}  # by process
    for line, text in enumerate(record.splitlines()):
        if found := _BEGINNING.match(text):
            beginnings[found[1]] = line, found[3]
            continue
        if found := _REST.match(text):
            began, beginning = beginnings.pop(found[1])
        elif found := _WHOLE.match(text):
            began, beginning = line, ""
        else:
            continue
        if int(found[4]) >= 0:
            yield Call(found[2], beginning + found[3], began, line)


@dataclass
class Reply:
    """Something that a program has told others, and what it had done since it told something before."""

    text: str = ""
    made: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Why this may be a lie after a power cut."""


class Watch:
    """Follows a program from its start, and finds at each of its replies what below ``root`` is not on the disk.

    A file must be synced before it gets another name, and before any reply; and so must a folder, after a name
    in it was made or removed.
    """

    def __init__(self, root: Path, speaks_to: re.Pattern[str], spared: Sequence[str]) -> None:
        """Begin before the program does.

        :param speaks_to: who hears its replies: ``CLIENTS`` or ``STDOUT``.
        :param spared: patterns, as in a shell, of paths below ``root`` that need not be on the disk.
        """
        self._root = root
        self._speaks_to = speaks_to
        self._spared = spared
        # Nothing in a record tells whether opening a file has made it.
        self._known = set(root.rglob("*"))
        self._written: dict[Path, int] = {}  # files: when
        self._changed: dict[Path, dict[Path, int]] = {}  # folders: the names in them, and when
        self._since = Reply()

    def replies(self, record: str) -> Iterator[Reply]:
        """What the program has told others, in order."""
        moments: list[tuple[int, Call]] = []
        for call in calls(record):
            # A reply is on its way when the call begins; anything else is done when it ends.
            moments.append((call.began if self._speaks_to.match(call.arguments) else call.ended, call))
        for _, call in sorted(moments, key=lambda moment: moment[0]):
            if self._speaks_to.match(call.arguments):
                yield self._reply(call)
            else:
                self._happens(call)

    def _reply(self, call: Call) -> Reply:
        reply, self._since = self._since, Reply()
        text = _STRING.search(call.arguments)
        reply.text = text[1] if text else ""
        reply.faults += [f"{path}: not synced" for path in self._written if self._minds(path)]
        reply.faults += [
            f"{folder}: not synced since {name.name} was made or removed in it"
            for folder, names in self._changed.items()
            for name in names
        ]
        return reply

    def _happens(self, call: Call) -> None:
        if call.name in OPEN:
            [path] = call.paths
            if "O_CREAT" in call.arguments and path not in self._known:
                self._make(path, call)
            if "O_TRUNC" in call.arguments:
                self._write(path, call)
        elif call.name in WRITE:
            self._write(call.opened, call)
        elif call.name in SYNC:
            self._sync(call.opened, call)
        elif call.name in MAKE:
            self._make(call.paths[0], call)
        elif call.name in REMOVE:
            self._remove(call.paths[0], call)
        elif call.name in (*LINK, *RENAME):
            path, new_path = call.paths
            if path in self._written and self._minds(new_path):
                self._since.faults.append(f"{path}: not synced, and named {new_path}")
            if call.name in RENAME:
                self._remove(path, call)
            self._make(new_path, call)

    def _minds(self, path: Path) -> bool:
        if not path.is_relative_to(self._root):
            return False
        inside = str(path.relative_to(self._root))
        return not any(fnmatchcase(inside, pattern) for pattern in self._spared)

    def _make(self, path: Path, call: Call) -> None:
        self._known.add(path)
        if self._minds(path):
            self._since.made.append(path)
            self._changed.setdefault(path.parent, {})[path] = call.ended

    def _remove(self, path: Path, call: Call) -> None:
        self._known.discard(path)
        self._written.pop(path, None)
        if self._minds(path):
            self._since.removed.append(path)
            self._changed.setdefault(path.parent, {})[path] = call.ended

    def _write(self, path: Path, call: Call) -> None:
        if path.is_relative_to(self._root):
            self._written[path] = call.ended

    def _sync(self, path: Path, call: Call) -> None:
        # What was done while it ran it may have missed.
        if self._written.get(path, call.ended) < call.began:
            del self._written[path]
        names = self._changed.get(path, {})
        self._changed[path] = {name: ended for name, ended in names.items() if ended > call.began}
