"""What a server feels of hostile clients, and what others feel: ``python -m bench.floods [NAME...]``.

Each flood meets a server of its own, with default options, from a process of its own, on this machine. Meanwhile a
witness (``bench.witness``) uses the server as honest clients do. A row of the table tells

- what the server took: its memory at its peak, above what it had before; of many connections, KiB for each; CPU; and
  how much it wrote into its log
- what the witness waited, in milliseconds: for NOOP on a connection that is there, for a letter and for a poll on new
  ones, from connecting to the answer to QUIT, the 99th percentile and the longest; the longest wait for any one
  answer, and to what it was; how often it was refused
- how late the witness itself came to its work: no wait of that length says anything
- what the flood got.

The targets: one hostile connection costs less than 16 MB, nobody waits 100 ms for an answer, nobody is refused. A
figure that misses its target has a mark, and the exit status is 1. It takes some minutes.
"""

# Printing is what it is for.
# ruff: noqa: T201

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from bench.attacks import FLOODS, LETTERS, MALLORY, MALLORYS_PASSWORD
from bench.hostile import Field, Outcome
from bench.meters import cpu_milliseconds, forget_peak, peak_octets, resident_octets
from bench.witness import Report, watch
from tests.end_to_end.server import PASSWORDS, Server, user

MOST_OCTETS = 16_000_000  # of memory, for one connection
MOST_SECONDS = 0.1  # that anybody waits for an answer
LEAST_SECONDS = 1.0  # that the witness watches; some floods are over at once
ACCOUNTS = "accounts.sqlite3"
LARGE = 25_000_000  # octets of the first letter
MARK = "!"

PROCESSES = multiprocessing.get_context("spawn")

COLUMNS = "{:17} {:>7} {:>7} {:>5} {:>6} {:>11} {:>11} {:>11}  {:>15} {:>8} {:>4}  {}"
HEADS = (
    COLUMNS.format("", "memory", "KiB a", "CPU", "log", "NOOP", "letter", "poll", "longest ", "", "", ""),
    COLUMNS.format("flood", "MB ", "conn.", "s", "KB", *["99 %  most"] * 3, "wait ", "refused ", "late", "what it got"),
)


@dataclass(frozen=True)
class Row:
    """What one flood did."""

    name: str
    octets: int
    cpu_seconds: float
    report: Report
    outcome: Outcome
    log_octets: int
    trouble: str

    @property
    def misses(self) -> dict[str, bool]:
        """Which targets it misses."""
        return {
            "memory": self.octets / self.outcome.connections >= MOST_OCTETS,
            "wait": self.report.longest >= MOST_SECONDS,
            "refused": bool(self.report.refused),
            "trouble": bool(self.trouble),
        }

    def __str__(self) -> str:
        marks = {target: MARK if missed else " " for target, missed in self.misses.items()}
        many = self.outcome.connections >= 100  # of fewer, it is what the first of anything costs
        return COLUMNS.format(
            self.name,
            f"{self.octets / 1e6:.1f}{marks['memory']}",
            f"{self.octets / self.outcome.connections / 1024:.1f}" if many else "",
            f"{self.cpu_seconds:.1f}",
            f"{self.log_octets / 1e3:.0f}",
            *(_spread(self.report.seconds.get(kind, [])) for kind in ("NOOP", "letter", "poll")),
            f"{self.report.step} {self.report.longest * 1000:.0f}{marks['wait']}",
            f"{len(self.report.refused)}{marks['refused']}",
            f"{self.report.late * 1000:.0f}",
            "; ".join(filter(None, [self.outcome.story, *self.report.refused[:1], self.trouble])),
        )


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    high = statistics.quantiles(seconds, n=100, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return f"{high * 1000:.0f} {max(seconds) * 1000:5.0f}"


def prepare(maildata: Path) -> None:
    """Accounts, and a full maildrop for the floods that log in."""
    for address, password in PASSWORDS.items() | {(MALLORY, MALLORYS_PASSWORD)}:
        user(maildata, "add", address, password)
    shutil.copy(maildata / ACCOUNTS, maildata.with_name(ACCOUNTS))
    mailbox = maildata / "reception" / MALLORY
    for folder in ("tmp", "new", "cur"):
        (mailbox / folder).mkdir(parents=True)
    small = maildata / "small"
    head = b"Subject: Flood\r\n\r\n"
    small.write_bytes(head + b"x" * 76 + b"\r\n")
    line = b"x" * 76 + b"\r\n"
    large = _stored(mailbox, 1, len(head) + LARGE // len(line) * len(line))
    large.write_bytes(head + line * (LARGE // len(line)))
    for number in range(2, LETTERS + 1):
        _stored(mailbox, number, small.stat().st_size).hardlink_to(small)


def _stored(mailbox: Path, number: int, octets: int) -> Path:
    return mailbox / "new" / f"1700000000.M{number:06}P1Q{number:06}.bench,S={octets},W={octets}"


def let_loose(name: str, field: Field, orders: Connection) -> None:
    """The process of one flood: waits for a word, floods, and tells what it got."""
    os.setpriority(os.PRIO_PROCESS, 0, 0)  # on a machine of its own it would take none of the server's CPU
    orders.send("ready")
    orders.recv()
    try:
        outcome = FLOODS[name][1](field)
    except (OSError, AssertionError) as error:
        outcome = Outcome(f"{type(error).__name__}: {error}"[:100])
    orders.send(outcome)


def measure(maildata: Path, name: str, seconds: float) -> Row:
    """Let one flood loose on a new server."""
    for file in maildata.glob(f"{ACCOUNTS}*"):  # with what the last server wrote of wrong passwords
        file.unlink()
    shutil.copy(maildata.with_name(ACCOUNTS), maildata / ACCOUNTS)
    server = Server(maildata).start()
    try:
        witness, seen = _process(watch, server.ports)
        flood, got = _process(let_loose, name, Field(server.ports, seconds))
        for orders in (seen, got):
            orders.recv()
        before, cpu = resident_octets(server.pid), cpu_milliseconds(server.pid)
        written = len(server.stdout)
        forget_peak(server.pid)
        seen.send("begin")
        got.send("begin")
        begin = time.monotonic()
        outcome = got.recv()
        time.sleep(max(0.0, LEAST_SECONDS - (time.monotonic() - begin)))
        seen.send("end")
        report = seen.recv()
        octets = peak_octets(server.pid) - before
        cpu = cpu_milliseconds(server.pid) - cpu
        written = len(server.stdout) - written
        for process in (witness, flood):
            process.join()
        trouble = _end(server)
    finally:
        server.kill()
    return Row(name, octets, cpu / 1000, report, outcome, written, trouble)


def _process(work: Callable[..., None], *arguments: object) -> tuple[SpawnProcess, Connection]:
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _end(server: Server) -> str:
    """Why the server does not end well, if so."""
    try:
        server.stop()
    except AssertionError as error:
        return f"the server: {str(error).splitlines()[0]}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.floods", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="these floods only; may be patterns, as 'tls-*'")
    parser.add_argument("--seconds", type=float, default=5.0, help="that each flood may last [5]")
    parser.add_argument("--list", action="store_true", help="tell the floods' names")
    asked = parser.parse_args()
    if asked.list:
        for name, (meaning, _) in FLOODS.items():
            print(f"{name:18} {meaning}")
        return 0
    names = [name for name in FLOODS if any(fnmatch(name, pattern) for pattern in asked.names or ["*"])]
    if not names:
        parser.error("no flood has such a name; see --list")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for thousands of connections, at both ends
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)  # what else this machine does is not to be felt
    for head in HEADS:
        print(head)
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mailbe-") as folder:
        maildata = Path(folder) / "maildata"
        prepare(maildata)
        for name in names:
            row = measure(maildata, name, asked.seconds)
            missed += any(row.misses.values())
            print(row, flush=True)
    print(f"{MARK} misses its target: {missed} of {len(names)} floods")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
