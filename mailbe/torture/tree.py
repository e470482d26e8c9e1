"""The tree of a file system in memory, what of it is on the disk for sure, and what a power cut leaves.

Programs see at once what they have done. On the disk is for sure only what was synced; what was done since is
*pending*, and the cut decides what of it has come through. Two rules say what a sync covers and what may be lost.

``POSIX``, read as strictly as it can be:

- fsync of a file covers its octets and its size, and no name of it.
- fsync of a folder covers the names in it, and not what they stand for.
- At a cut every pending change of a name is kept or lost by itself: a name may be there without what was
  written, an unlink without the link before it, both names of what was renamed, or neither.
- Every pending write and truncation is kept or lost by itself too, or a write is left in part: its beginning, or
  zeros where its octets should be, whatever was there.

``EXT4``, as it is mounted unless told otherwise (ordered journal, delayed allocation):

- Changes of names, and truncations, stand in one journal. Any fsync commits all of it so far. At a cut it is kept
  up to some later point, and a rename as a whole.
- Octets come to the disk later than the name they are under, and only fsync of their file waits for them. At a
  cut some of the first writes are there, often none: then a new file is empty.
- Not modelled: that ext4 writes out a file at once that replaces another, and that it commits every five seconds
  unasked. Both only ever keep more.

What is left is a proper tree under both: a folder that would have two names has the one that programs knew last, and
what no name leads to is gone. Modes and times are not forgotten.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
import time
from collections import deque
from dataclasses import dataclass, field
from random import Random

ROOT = 1  # the number of the topmost folder


class Rule(enum.Enum):
    """What a sync covers, and what a power cut may leave of the rest."""

    POSIX = "posix"
    EXT4 = "ext4"


@dataclass(frozen=True, slots=True)
class Naming:
    """From now on a name in a folder stands for the node ``number``, or for nothing."""

    order: int
    name: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    octets: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    order: int
    size: int


@dataclass(slots=True)
class Node:
    """What files and folders have in common. Times are nanoseconds since 1970."""

    mode: int
    modified: int
    changed: int
    links: int = 0
    """How many names stand for it, as programs see it."""
    uses: int = 0
    """How many names, names on the disk, pending changes and open files need it."""


@dataclass(slots=True)
class File(Node):
    octets: bytearray = field(default_factory=bytearray)
    on_disk: bytearray = field(default_factory=bytearray)
    pending: list[Write | Resize] = field(default_factory=list)


@dataclass(slots=True)
class Folder(Node):
    names: dict[str, int] = field(default_factory=dict)
    on_disk: dict[str, int] = field(default_factory=dict)
    pending: list[Naming] = field(default_factory=list)


class Tree:
    """One file system. Its nodes are told by number. What cannot be done raises ``OSError``, as the kernel would."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        now = time.time_ns()
        self._nodes: dict[int, File | Folder] = {ROOT: Folder(stat.S_IFDIR | 0o755, now, now, links=1, uses=1)}
        self._last = ROOT
        self._order = 0  # of the last change that the journal has to bring
        self._committed = 0  # and of the last one that is on the disk
        self._unsynced: set[int] = set()  # nodes with anything pending

    def find(self, path: str) -> int:
        """The number of what lies at ``path``."""
        number = ROOT
        for name in filter(None, path.split("/")):
            number = self._named(number, name)
        return number

    def place(self, path: str) -> tuple[int, str]:
        """The number of the folder that ``path`` lies in, and its name there."""
        folder, _, name = path.rpartition("/")
        return self.find(folder), name

    def node(self, number: int) -> File | Folder:
        return self._nodes[number]

    def folder(self, number: int) -> Folder:
        node = self._nodes[number]
        if not isinstance(node, Folder):
            raise _error(errno.ENOTDIR)
        return node

    def hold(self, number: int) -> None:
        """Keep a node, whatever becomes of its names, until ``release`` is called as often: it is open."""
        self._nodes[number].uses += 1

    def release(self, number: int) -> None:
        node = self._nodes[number]
        node.uses -= 1
        if node.uses:
            return
        del self._nodes[number]
        self._unsynced.discard(number)
        if isinstance(node, Folder):
            for inner in (*node.on_disk.values(), *(change.number for change in node.pending)):
                if inner is not None:
                    self.release(inner)

    def create(self, folder: int, name: str, permissions: int) -> int:
        """Make an empty file; returns its number."""
        now = time.time_ns()
        return self._add(folder, name, File(stat.S_IFREG | stat.S_IMODE(permissions), now, now))

    def mkdir(self, folder: int, name: str, permissions: int) -> int:
        """Make an empty folder; returns its number."""
        now = time.time_ns()
        return self._add(folder, name, Folder(stat.S_IFDIR | stat.S_IMODE(permissions), now, now))

    def link(self, number: int, folder: int, name: str) -> None:
        if isinstance(self._nodes[number], Folder):
            raise _error(errno.EPERM)
        if name in self.folder(folder).names:
            raise _error(errno.EEXIST)
        self._order += 1
        self._name(folder, name, number)

    def unlink(self, folder: int, name: str) -> None:
        if isinstance(self._nodes[self._named(folder, name)], Folder):
            raise _error(errno.EISDIR)
        self._order += 1
        self._name(folder, name, None)

    def rmdir(self, folder: int, name: str) -> None:
        if self.folder(self._named(folder, name)).names:
            raise _error(errno.ENOTEMPTY)
        self._order += 1
        self._name(folder, name, None)

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        """That no folder goes into itself is the kernel's care."""
        number = self._named(folder, name)
        target = self.folder(new_folder).names.get(new_name)
        if target == number:
            return
        if target is not None:
            comes, goes = self._nodes[number], self._nodes[target]
            if isinstance(goes, Folder) and not isinstance(comes, Folder):
                raise _error(errno.EISDIR)
            if isinstance(comes, Folder) and not isinstance(goes, Folder):
                raise _error(errno.ENOTDIR)
            if isinstance(goes, Folder) and goes.names:
                raise _error(errno.ENOTEMPTY)
        self._order += 1
        self._name(new_folder, new_name, number)
        self._name(folder, name, None)

    def read(self, number: int, offset: int, size: int) -> bytes:
        return bytes(self._file(number).octets[offset : offset + size])

    def write(self, number: int, offset: int, octets: bytes) -> None:
        self._change(number, Write(offset, octets))

    def resize(self, number: int, size: int) -> None:
        self._order += 1
        self._change(number, Resize(self._order, size))

    def set_permissions(self, number: int, permissions: int) -> None:
        node = self._nodes[number]
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(permissions)
        node.changed = time.time_ns()

    def set_modified(self, number: int, modified: int) -> None:
        node = self._nodes[number]
        node.modified, node.changed = modified, time.time_ns()

    def sync(self, number: int) -> None:
        """fsync and fdatasync: what they cover under this tree's rule is on the disk from now on."""
        node = self._nodes[number]
        if isinstance(node, File):
            for change in node.pending:
                _apply(change, node.on_disk)
            node.pending.clear()
            self._unsynced.discard(number)
        else:
            self._settle(number, node)
        if self.rule is Rule.EXT4:
            self._commit()

    def cut(self, random: Random) -> Tree:
        """What the disk has when the power goes now: a new tree, all of it synced.

        :param random: decides what comes through of what is pending; sometimes it is all, and often nothing.
        """
        names, octets = _fortune(random), _fortune(random)
        horizon = self._committed + round(names * (self._order - self._committed))
        left = Tree(self.rule)
        left._last = self._last
        left.set_permissions(ROOT, self.folder(ROOT).mode)
        found: deque[tuple[int, str, int]] = deque()  # a folder that is left, a name in it, and what that stands for

        def enter(number: int) -> None:
            for name, inner in self._names_left(number, random, names, horizon):
                # A folder that comes through under two names keeps the one that is taken first. The one it has now
                # goes before all that it had: only that can have been synced and not changed since.
                now = self.folder(number).names.get(name) == inner
                (found.append if now else found.appendleft)((number, name, inner))

        enter(ROOT)
        while found:
            number, name, inner = found.pop()
            node = self._nodes[inner]
            if isinstance(node, Folder):
                if inner in left._nodes:
                    continue
                left._nodes[inner] = Folder(node.mode, node.modified, node.changed)
                enter(inner)
            elif inner not in left._nodes:
                there = self._left(node, random, octets, horizon)
                left._nodes[inner] = File(
                    node.mode, node.modified, node.changed, octets=there, on_disk=bytearray(there)
                )
            left.folder(number).names[name] = left.folder(number).on_disk[name] = inner
            left._nodes[inner].links += 1
            left._nodes[inner].uses += 2
        return left

    def _names_left(self, number: int, random: Random, fortune: float, horizon: int) -> list[tuple[str, int]]:
        """The names in a folder after a cut, in any order."""
        folder = self.folder(number)
        names = dict(folder.on_disk)
        for change in folder.pending:
            if random.random() < fortune if self.rule is Rule.POSIX else change.order <= horizon:
                _rename(change, names)
        return random.sample(sorted(names.items()), len(names))

    def _left(self, file: File, random: Random, fortune: float, horizon: int) -> bytearray:
        """The octets of a file after a cut."""
        octets = bytearray(file.on_disk)
        first = round(fortune * len(file.pending))
        for index, change in enumerate(file.pending):
            if self.rule is Rule.EXT4 and isinstance(change, Resize):
                if change.order > horizon:
                    break
                _apply(change, octets)
            elif random.random() < fortune if self.rule is Rule.POSIX else index < first:
                _apply(change, octets)
            elif isinstance(change, Write) and fortune > 0 and (self.rule is Rule.POSIX or index == first):
                size = len(change.octets)
                parts = [b"", change.octets[: random.randrange(size + 1)]]
                if self.rule is Rule.POSIX:
                    parts.append(bytes(size))
                _apply(Write(change.offset, random.choice(parts)), octets)
        return octets

    def _commit(self) -> None:
        self._committed = self._order
        for number in sorted(self._unsynced):
            node = self._nodes.get(number)
            if isinstance(node, Folder):
                self._settle(number, node)
            elif isinstance(node, File):
                writes: list[Write] = []
                for change in node.pending:
                    if isinstance(change, Resize):
                        _apply(change, node.on_disk)
                        writes = [Write(one.offset, one.octets[: max(0, change.size - one.offset)]) for one in writes]
                    else:
                        writes.append(change)
                node.pending = [*writes]

    def _settle(self, number: int, folder: Folder) -> None:
        """Bring a folder's pending names to the disk."""
        self._unsynced.discard(number)
        pending, folder.pending = folder.pending, []
        for change in pending:
            # What a change needed, the name on the disk now needs.
            gone = _rename(change, folder.on_disk)
            if gone is not None:
                self.release(gone)

    def _add(self, folder: int, name: str, node: File | Folder) -> int:
        if name in self.folder(folder).names:
            raise _error(errno.EEXIST)
        self._last += 1
        self._nodes[self._last] = node
        self._order += 1
        self._name(folder, name, self._last)
        return self._last

    def _name(self, number: int, name: str, inner: int | None) -> None:
        folder = self.folder(number)
        change = Naming(self._order, name, inner)
        folder.pending.append(change)
        self._unsynced.add(number)
        now = folder.modified = folder.changed = time.time_ns()
        if inner is not None:
            node = self._nodes[inner]
            node.links += 1
            node.uses += 2  # the name, and the pending change
            node.changed = now
        before = _rename(change, folder.names)
        if before is not None:
            node = self._nodes[before]
            node.links -= 1
            node.changed = now
            self.release(before)

    def _change(self, number: int, change: Write | Resize) -> None:
        file = self._file(number)
        _apply(change, file.octets)
        file.pending.append(change)
        self._unsynced.add(number)
        file.modified = file.changed = time.time_ns()

    def _named(self, folder: int, name: str) -> int:
        number = self.folder(folder).names.get(name)
        if number is None:
            raise _error(errno.ENOENT)
        return number

    def _file(self, number: int) -> File:
        node = self._nodes[number]
        if not isinstance(node, File):
            raise _error(errno.EISDIR)
        return node


def _apply(change: Write | Resize, octets: bytearray) -> None:
    if isinstance(change, Resize):
        del octets[change.size :]
        octets.extend(bytes(change.size - len(octets)))
    elif change.octets:
        octets.extend(bytes(max(0, change.offset - len(octets))))
        octets[change.offset : change.offset + len(change.octets)] = change.octets


def _rename(change: Naming, names: dict[str, int]) -> int | None:
    """Carry out ``change``; returns what the name stood for before."""
    before = names.pop(change.name, None)
    if change.number is not None:
        names[change.name] = change.number
    return before


def _fortune(random: Random) -> float:
    """What share of something comes through a cut."""
    return random.choice((0.0, 1.0, random.random(), random.random()))


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
