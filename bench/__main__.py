"""mailbe beside other mail servers: what a letter costs each of them. ``python -m bench``; docs/performance.md.

Each round starts every server anew, in a new folder, and takes each row of all servers in turn. What they cost is
the CPU time of all their processes, as the kernel counts it. What the load generator costs is not in it.
"""

# Printing is what it is for.
# ruff: noqa: T201

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

from bench.load import Load
from bench.meters import new_group
from bench.peers import PEERS
from bench.peers.base import Peer
from bench.peers.mailbe import Mailbe
from bench.peers.unpacked import Unpacked
from bench.rows import ROWS, Idle, Row, Sample
from bench.table import costs, figure, rates

SECONDS, SHORT_SECONDS = 2.5, 0.6  # that one sample may take, about
ROUNDS, SHORT_ROUNDS = 3, 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="*", help="these only, with commas between; may be patterns, as S*,P1-*")
    parser.add_argument("--peers", default="*", help="these only, with commas between; patterns too")
    parser.add_argument("--rounds", type=int, help=f"[{ROUNDS}; {SHORT_ROUNDS} with --short]")
    parser.add_argument("--short", action="store_true", help="a quick look: short samples, one round")
    parser.add_argument("--workers", type=int, help="start mailbe with --workers N")
    parser.add_argument("--unpacked", type=Path, help="a folder into which packages of peers were unpacked by dpkg -x")
    parser.add_argument("--json", type=Path, help="write every sample into this file")
    parser.add_argument("--profile", type=Path, help="let py-spy draw where mailbe spends each row, into this folder")
    parser.add_argument("--keep", action="store_true", help="leave the servers' folders where they are")
    parser.add_argument("--list", action="store_true", help="tell the rows and the servers")
    return parser.parse_args()


def chosen(patterns: str, keys: Sequence[str]) -> list[str]:
    """Those of ``keys`` that any of the patterns means; case does not count."""
    asked = [pattern.strip().lower() for pattern in patterns.split(",")]
    found = [key for key in keys if any(fnmatchcase(key.lower(), pattern) for pattern in asked)]
    for pattern in asked:
        if not any(fnmatchcase(key.lower(), pattern) for key in keys):
            raise SystemExit(f"bench: nothing is named {pattern}; see --list")
    return found


def machine() -> str:
    """What the figures were taken on."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    }
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {', '.join(models)}, {memory:.0f} GiB, {system}"


@contextlib.contextmanager
def profiled(server: Peer, row: Row, folder: Path | None) -> Iterator[None]:
    """Have py-spy watch mailbe meanwhile, where a folder for its pictures is given; it slows what it watches."""
    if folder is None or not isinstance(server, Mailbe):
        yield
        return
    program = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program, "--profile needs PyPI's py-spy"
    folder.mkdir(exist_ok=True)
    picture = folder / f"{row.key}.svg"
    command = [program, "record", "--pid", str(server.pid), "--subprocesses", "--native", "--output", str(picture)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as spy:  # noqa: S603
        yield
        spy.send_signal(signal.SIGINT)  # it draws then


def measure(
    servers: Sequence[Peer], rows: Sequence[Row], load: Load, folder: Path, seconds: float, profiles: Path | None
) -> dict[tuple[str, str], Sample]:
    """One round: the samples of all rows of all servers."""
    samples = {}
    for idle in (False, True):
        mine = [row for row in rows if isinstance(row, Idle) is idle]
        if not mine:
            continue
        running = [server.for_idle() if idle else server for server in servers]
        try:
            for server in running:
                suited = [row for row in mine if server.suits(row.key)]
                users = dict.fromkeys(user for row in suited for user in row.users)
                server.start(folder / f"{server.name}{'-idle' if idle else ''}", list(users))
                for row in suited:
                    row.prepare(server)
            for row in mine:
                for server in running:
                    if server.suits(row.key):
                        with profiled(server, row, profiles):
                            samples[row.key, server.name] = sample = row.measure(server, load, seconds)
                        rate = f"{figure(sample.rate)}/s" if sample.rate else ""
                        said = f"{figure(sample.value):>8} {row.unit:7} {rate}"
                        print(f"  {row.key:9} {server.name:12} {said}", file=sys.stderr)
        finally:
            for server in running:
                server.stop()
    return samples


def main() -> int:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    Unpacked.root = asked.unpacked.resolve() if asked.unpacked else None
    if asked.list:
        for key, row in ROWS.items():
            print(f"{key:10} {row.title}")
        for kind in PEERS:
            print(f"{kind.name:10} {kind.missing() or kind.version()}")
        return 0
    rows = [ROWS[key] for key in chosen(asked.rows, list(ROWS))]
    kinds = {kind.name: kind for kind in PEERS}
    wanted = [kinds[name] for name in chosen(asked.peers, list(kinds))]
    absent = {kind.name: kind.missing() for kind in wanted if kind.missing()}
    extra = ["--workers", str(asked.workers)] if asked.workers else []
    present = [kind for kind in wanted if kind.name not in absent]
    rounds = asked.rounds or (SHORT_ROUNDS if asked.short else ROUNDS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(tempfile.mkdtemp(prefix="mailbe-bench-"))
    folder.chmod(0o755)
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    begin = time.monotonic()
    probe = new_group("probe")
    about = {
        "machine": machine(),
        "accounting": probe.kind,
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "rounds": rounds,
        "versions": {kind.name: kind.version() + (f" ({kind.note})" if kind.note else "") for kind in present},
        "absent": absent,
        "options": extra,
    }
    probe.close()
    try:
        load = Load(folder)
        if not load.tls:
            print("The rows S6 are left out: they need the Debian package libssl-dev.")
            rows = [row for row in rows if not row.key.startswith("S6")]
        for number in range(rounds):
            servers = [Mailbe(*extra) if kind is Mailbe else kind() for kind in present]
            place = folder / f"round{number + 1}"
            place.mkdir()
            place.chmod(0o755)
            seconds = SHORT_SECONDS if asked.short else SECONDS
            taken = measure(servers, rows, load, place, seconds, asked.profile)
            for key, sample in taken.items():
                samples[key].append(sample)
    finally:
        if asked.keep:
            print(f"The servers' folders are in {folder}")
        else:
            shutil.rmtree(folder)
    names = [kind.name for kind in present]
    for name, value in about.items():
        shown = "; ".join(f"{key} {said}" for key, said in value.items()) if isinstance(value, dict) else value
        if shown:
            print(f"{name}: {shown}")
    print(f"\nMedian (least-most) of the rounds, and how many times as much as {names[0]}:\n")
    print(costs(rows, names, samples))
    print()
    print(rates(rows, names, samples))
    print(f"\nIt took {time.monotonic() - begin:.0f} s.")
    if asked.json:
        found = [
            {"row": row, "server": server, "samples": [asdict(s) for s in s_]} for (row, server), s_ in samples.items()
        ]
        asked.json.write_text(json.dumps(about | {"samples": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
