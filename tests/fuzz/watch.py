"""What can be seen of a running server from without: its log, its memory, its descriptors."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from statistics import linear_regression

from tests.end_to_end.programs import opened

_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[(?:-|(?!mailbe-forged)[\w.]+#(?:info|warn))\] [ -~]*"
    r"|\t\d+\.M\w+\.[^ ]+: [ -~]+ to \d+ recipients"  # letters that arrived together share an event
)
# What the disk has kept waiting for so long that nobody waits for it any more; who logs in is let in all the same.
_WAITED = re.compile(
    r"[\dT:+-]{24} \[mailbe\.accounts\.checker#error\]"
    r" (?:a log-in of \S+ is not written down|no new record for \S+): \S+: database is locked"
)


class Log:
    """A server's log as it grows."""

    def __init__(self, path: Path, *, slow: bool = False) -> None:
        """:param slow: whether it is no fault of the server where the disk keeps it waiting."""
        self._path = path
        self._slow = slow
        self._read = 0
        self.lines = 0

    def odd_lines(self) -> list[str]:
        """Those that have come since the last time and tell of a fault, or do not look as the log's lines do."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            octets = file.read()
        complete = octets[: octets.rfind(b"\n") + 1]
        self._read += len(complete)
        lines = complete.decode("utf-8", "backslashreplace").split("\n")[:-1]
        self.lines += len(lines)
        odd = [line for line in lines if not _LINE.fullmatch(line)]
        return [line for line in odd if not (self._slow and _WAITED.fullmatch(line))]


def resident_octets(pid: int) -> int:
    """The memory that a process has now (proc(5))."""
    match = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match
    return int(match[1]) * 1024


def descriptors(pid: int) -> Counter[str]:
    """The files and connections that a process has open; all connections have one name."""
    return Counter(re.sub(r":\[\d+\]$", "", link) for link in opened(pid))


class Memory:
    """The memory of a process over time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.samples: list[tuple[float, int]] = []
        """Seconds, octets."""

    def sample(self, seconds: float) -> int:
        self.samples.append((seconds, resident_octets(self._pid)))
        return self.samples[-1][1]

    def growth(self, warm: float) -> float:
        """By how many octets it has grown since ``warm`` seconds, along the line that fits all samples best."""
        samples = [sample for sample in self.samples if sample[0] >= warm]
        if len(samples) < 3:
            return 0.0
        times, sizes = zip(*samples, strict=True)
        return linear_regression(times, sizes).slope * (times[-1] - times[0])
