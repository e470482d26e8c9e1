"""What the samples say: medians, their range, ratios, and the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.rows import Row, Sample

Samples = Mapping[tuple[str, str], Sequence[Sample]]
"""By the keys of a row and the names of a server, one for each round."""


@dataclass(frozen=True)
class Spread:
    """The median of some figures, the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))

    def __str__(self) -> str:
        middle, least, most = map(figure, (self.median, self.least, self.most))
        return middle if least == most else f"{middle} ({least}–{most})"  # noqa: RUF001


def figure(value: float) -> str:
    """A figure with two or three digits that count."""
    places = next((places for least, places in ((100, 0), (10, 1), (0.1, 2)) if abs(value) >= least), 4)
    return f"{value:,.{places}f}" if value else "0"


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as much as we a peer takes: the median over the rounds, as what drifts hits both in one round."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown whose columns stand one below the other."""
    widths = [max(3, *(len(line[column]) for line in [heads, *lines])) for column in range(len(heads))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [heads, rule, *lines]
    )


def costs(rows: Sequence[Row], servers: Sequence[str], samples: Samples) -> str:
    """What a unit of each row costs with each server, and how many times as much as with the first."""

    def cell(row: Row, server: str) -> str:
        theirs = [sample.value for sample in samples.get((row.key, server), ())]
        if not theirs:
            return ""
        ours = [sample.value for sample in samples.get((row.key, servers[0]), ())]
        times = f" = {ratio(theirs, ours):.2f} x" if ours and server != servers[0] and min(ours) > 0 else ""
        return f"{Spread.of(theirs)}{times}"

    return _table(rows, servers, lambda row: f"{row.key}: {row.title} [{row.unit}]", cell)


def rates(rows: Sequence[Row], servers: Sequence[str], samples: Samples) -> str:
    """How many units a second there were; of the rows for which that is a question."""

    def cell(row: Row, server: str) -> str:
        theirs = [sample.rate for sample in samples.get((row.key, server), ())]
        return str(Spread.of(theirs)) if theirs else ""

    timed = [row for row in rows if any(s.rate for server in servers for s in samples.get((row.key, server), ()))]
    return _table(timed, servers, lambda row: f"{row.key} [1/s]", cell)


def _table(
    rows: Sequence[Row], servers: Sequence[str], title: Callable[[Row], str], cell: Callable[[Row, str], str]
) -> str:
    lines = [[title(row), *(cell(row, server) for server in servers)] for row in rows]
    return markdown(["", *servers], lines)
