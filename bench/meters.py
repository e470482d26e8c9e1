"""What running processes have used, as Linux counts it (proc(5), cgroups(7))."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CGROUPS = Path("/sys/fs/cgroup")
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)
TICKS = os.sysconf("SC_CLK_TCK")  # a second


def cpu_milliseconds(pid: int) -> float:
    """The CPU time that a process has used, of all its threads, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


def resident_octets(pid: int) -> int:
    """The memory that a process has now."""
    return _memory(pid, "VmRSS")


def peak_octets(pid: int) -> int:
    """The most memory that it had since ``forget_peak``."""
    return _memory(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory(pid: int, field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match, f"/proc/{pid}/status has no {field}"
    return int(match[1]) * 1024


class Group(Protocol):
    """The processes of one server: those that it was started with, and all that came of them."""

    kind: str
    """What counts for it, and how finely."""

    def join(self) -> None:
        """Put this process into it, before it becomes the server."""

    def cpu_seconds(self) -> float:
        """The CPU time of all its processes, in user and system mode, also of those that have ended."""

    def pids(self) -> list[int]:
        """Those that run now."""

    def left(self, before: list[int]) -> list[int]:
        """Those that run on after the first has ended; ``before`` are those that ran when it had not."""

    def close(self) -> None:
        """Forget it; its processes have ended."""


class ControlGroup:
    """A control group of its own, which counts in nanoseconds and forgets nobody."""

    kind = "control group, ns"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()

    def join(self) -> None:
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def cpu_seconds(self) -> float:
        usage = self._folder / "cpuacct.usage"  # version 1
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return int((self._folder / "cpu.stat").read_text().split()[1]) / 1e6  # usage_usec comes first

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self._folder / "cgroup.procs").read_text().split()]

    def left(self, before: list[int]) -> list[int]:
        return self.pids()

    def close(self) -> None:
        for _ in range(100):  # a process that has ended is still there for a moment
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.02)


@dataclass(frozen=True)
class Times:
    """One process in /proc, its times in clock ticks."""

    parent: int
    own: int
    children: int
    """Of the children that have ended and were waited for, and of theirs."""


class Family:
    """A process and its descendants, found in /proc, in clock ticks: what there is without a control group.

    Who loses his parent comes to the first of them, which is made their reaper, so nobody leaves the family. Of an
    orphan that ends, the time counts when its reaper waits for it, as every server does that has children.
    """

    kind = f"/proc, {1000 // TICKS} ms"

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._first = 0

    def join(self) -> None:
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        os.write(self._write, f"{os.getpid()}\n".encode())

    def cpu_seconds(self) -> float:
        times = _all_times()
        return family_ticks(times, self._members(times)) / TICKS

    def pids(self) -> list[int]:
        return self._members(_all_times())

    def left(self, before: list[int]) -> list[int]:
        return [pid for pid in before if Path(f"/proc/{pid}").exists()]

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)

    def _members(self, times: dict[int, Times]) -> list[int]:
        self._first = self._first or int(os.read(self._read, 100).split()[0])
        return family({pid: found.parent for pid, found in times.items()}, self._first)


def family(parents: dict[int, int], first: int) -> list[int]:
    """``first`` and its descendants, where ``parents`` tells of each process who is its parent."""
    members = {first} & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return sorted(members)


def family_ticks(times: dict[int, Times], members: Iterable[int]) -> int:
    """What these processes have used, with their children who have ended."""
    return sum(times[pid].own + times[pid].children for pid in members)


def parse_times(stat: str) -> Times:
    """What /proc/<pid>/stat tells; the name in it may hold anything, brackets too."""
    fields = stat.rpartition(")")[2].split()
    user, system, waited_user, waited_system = (int(field) for field in fields[11:15])
    return Times(int(fields[1]), user + system, waited_user + waited_system)


def _all_times() -> dict[int, Times]:
    times = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended meanwhile
                times[int(folder.name)] = parse_times((folder / "stat").read_text())
    return times


def new_group(name: str) -> Group:
    """A control group where we may make one, else what /proc tells."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    places = [
        CGROUPS / "cpuacct" / own.get("cpuacct", own.get("cpu,cpuacct", "/")).strip("/"),
        CGROUPS / own.get("", "/").strip("/"),
    ]
    for place in places:
        group = place / f"mailbe-bench-{os.getpid()}-{name}"
        with contextlib.suppress(OSError):
            made = ControlGroup(group)
            with contextlib.suppress(OSError, IndexError, ValueError):
                made.cpu_seconds()
                # Some places can be made and read, and take no process.
                subprocess.run(["/bin/true"], preexec_fn=made.join, check=True)
                return made
            made.close()
    return Family()


def proportional_octets(pids: Iterable[int]) -> int:
    """The memory of these processes, what they share counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended meanwhile
            match = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(match[1]) * 1024 if match else 0
    return total
