"""What a running process has used, as Linux counts it (proc(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path


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
