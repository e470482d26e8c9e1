"""Whether mailbe grows slower with its mail and its accounts: ``python -m bench.growth``; docs/performance.md.

S2 (letters on reused connections) and P1 (log in, STAT, QUIT), first with ever more letters in the mailbox, then with
ever more accounts. It draws a plot of each into ``docs/``. The points are medians, the bars reach from the least to
the most of the rounds, in each of which all points are taken in turn.
"""

# Printing is what it is for.
# ruff: noqa: T201

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from bench.load import Load
from bench.peers.mailbe import Mailbe
from bench.rows import KB4, Cold, Polling, Row, Sending
from bench.table import Spread, markdown
from tests.end_to_end.server import CHECKOUT

LETTERS = (10, 1000, 20_000, 100_000)
ACCOUNTS = (10, 1000, 100_000)
FEW, MANY = 8, 990  # accounts that get letters, of ten and of a thousand
AT_ONCE, MOST = 20, 1000
SECONDS = 1.5
ROUNDS = 3

Curves = Mapping[str, Mapping[int, Sequence[float]]]
"""By label and by what grows: CPU milliseconds, one for each round."""


def with_letters(folder: Path, load: Load, rounds: int) -> Curves:
    """The cost of a letter and of a log-in where so many letters lie in the mailbox already."""
    points = [(label, letters, row) for letters in LETTERS for label, row in letter_rows(letters, rounds)]
    server = Mailbe()
    curves: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    try:
        server.start(folder, list(dict.fromkeys(user for _, _, row in points for user in row.users)))
        for _, _, row in points:
            row.prepare(server)
        for number in range(rounds):
            server.stop()  # it forgets the maildrops
            server.launch()
            for label, letters, row in points:
                if not isinstance(row, Sending) or row.key.endswith(f"R{number}"):
                    curves[label][letters].append(row.measure(server, load, SECONDS).value)
    finally:
        server.stop()
    return curves


def letter_rows(letters: int, rounds: int) -> list[tuple[str, Row]]:
    """What is measured with so many letters; the mailboxes that get more have them only once."""
    s2 = [Sending(f"S2-{letters}-R{number}", "", KB4, AT_ONCE, MOST, already=letters) for number in range(rounds)]
    return [
        *(("a letter arrives (S2)", row) for row in s2),
        ("log in, STAT, QUIT (P1)", Polling(f"P1-{letters}", "", letters)),
        ("the same, the listing not remembered", Cold(f"COLD-{letters}", "", letters)),
    ]


def with_accounts(folder: Path, load: Load, rounds: int) -> Curves:
    """The cost of a letter and of a log-in where there are so many accounts."""
    folder.mkdir()
    curves: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    servers: list[tuple[int, Mailbe, list[tuple[str, Row]]]] = []
    try:
        for accounts in ACCOUNTS:
            rows: list[tuple[str, Row]] = [
                (f"a letter arrives (S2), for one of {FEW}", Sending("S2", "", KB4, AT_ONCE, MOST, spread=FEW)),
                ("log in, STAT, QUIT (P1), 10 letters", Polling("P1", "", 10)),
                (
                    f"a letter arrives, for one of {MANY}",
                    Sending("S2M", "", KB4, AT_ONCE, 2 * MANY, already=1, spread=MANY),
                ),
            ]
            if accounts < MANY:
                rows.pop()
            users = dict.fromkeys(user for _, row in rows for user in row.users)
            others = [f"other{number}" for number in range(accounts - len(users))]
            server = Mailbe()
            servers.append((accounts, server, rows))
            server.start(folder / str(accounts), [*others, *users])
            for _, row in rows:
                row.prepare(server)
        for _ in range(rounds):
            for accounts, server, rows in servers:
                for label, row in rows:
                    curves[label][accounts].append(row.measure(server, load, SECONDS).value)
    finally:
        for _, server, _ in servers:
            server.stop()
    return curves


def show(curves: Curves, what: str) -> None:
    """Print the figures."""
    sizes = sorted({size for curve in curves.values() for size in curve})
    lines = [
        [label, *(str(Spread.of(curve[size])) if size in curve else "" for size in sizes)]
        for label, curve in curves.items()
    ]
    print(markdown([f"CPU ms; {what}:", *(f"{size:,}" for size in sizes)], lines), end="\n\n")


def draw(curves: Curves, what: str, file: Path) -> None:
    """Draw the plot."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # it must know where it draws to

    plot, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    sizes = sorted({size for curve in curves.values() for size in curve})
    for (label, curve), mark in zip(curves.items(), "osD", strict=False):
        places = sorted(curve)
        spreads = [Spread.of(curve[size]) for size in places]
        bars = [[s.median - s.least for s in spreads], [s.most - s.median for s in spreads]]
        axes.errorbar(places, [s.median for s in spreads], bars, marker=mark, capsize=4, linewidth=1.8, label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    medians = [Spread.of(taken).median for curve in curves.values() for taken in curve.values()]
    if max(medians) > 20 * min(medians):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.set_ylim(0, 1.25 * max(most for c in curves.values() for most in map(max, c.values())))
    axes.set_xlabel(what)
    axes.set_ylabel("CPU time of the server, ms each")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    plot.savefig(file, dpi=120)
    plt.close(plot)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"[{ROUNDS}]")
    parser.add_argument("--into", type=Path, default=CHECKOUT / "docs", help="the folder for the plots [docs]")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server is left behind
    folder = Path(tempfile.mkdtemp(prefix="mailbe-bench-"))
    try:
        load = Load(folder)
        for name, measure, what in (
            ("letters", with_letters, "letters in the mailbox"),
            ("accounts", with_accounts, "accounts"),
        ):
            curves = measure(folder / name, load, asked.rounds)
            show(curves, what)
            draw(curves, what, asked.into / f"growth-{name}.png")
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
