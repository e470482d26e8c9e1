"""What people see: a bar while it runs, a table at the end, and a line for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TextIO

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mailbe import terminal
from mailbe.torture.ledger import Kind
from mailbe.torture.run import Tally

# What was put to the test: the name in a tally's counts, and the row's.
COUNTED = {
    "sent": "letters sent",
    "acknowledged": "acknowledged",
    "to several": "  to several recipients",
    "to new": "  to accounts without a mailbox",
    "submitted": "  with a copy in envoi/",
    "held": "  held for some seconds",
    "large": "  through a file of the spool",
    "in part": "not acknowledged, and in some mailboxes only",
    "deleted": "deletions acknowledged",
    "replaced": "workers killed alone, and replaced",
}
WRONG = {
    Kind.MISSING: "acknowledged and missing",
    Kind.TWICE: "stored twice by one acceptance",
    Kind.HALF: "half letters",
    Kind.MISPLACED: "letters in others' mailboxes",
    Kind.UNDONE: "deletions undone",
    Kind.EARLY: "released before their time",
    Kind.STRAY: "left over in spool/, tmp/ or held/",
    Kind.SHUT: "mailboxes not open within a second",
    Kind.DOWN: "server hung or gone",
}


def table(tallies: Sequence[Tally], *, plain: bool) -> Table:
    """One column for each way to crash."""
    made = terminal.table(plain=plain)
    made.add_column("")
    for tally in tallies:
        made.add_column(tally.name, justify="right")

    def row(name: str, value: Callable[[Tally], str]) -> None:
        made.add_row(name, *map(value, tallies))

    row("rounds", lambda tally: f"{tally.rounds} of {tally.asked}")
    for key, name in COUNTED.items():
        row(name, lambda tally, key=key: f"{tally.counts[key]}")  # type: ignore[misc]
    for kind, name in WRONG.items():
        row(name, lambda tally, kind=kind: _number_wrong(tally, kind))  # type: ignore[misc]
    row("slowest last mailbox opened, s after listening", lambda tally: f"{tally.slowest:.2f}")
    row("the same, s after the process's start", lambda tally: f"{tally.slowest_start:.2f}")
    return made


def _number_wrong(tally: Tally, kind: Kind) -> str:
    number = len({fault.subject for fault in tally.faults if fault.kind is kind})
    return f"[bold red]{number}[/]" if number else "0"


def show(tallies: Sequence[Tally], file: TextIO) -> None:
    """Print the table, in colour on a terminal and plain elsewhere."""
    console = terminal.console(file)
    console.print(table(tallies, plain=not console.is_terminal))


class Bar(terminal.Bar):
    """How many rounds of each way are over."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(
            file,
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rounds, {task.fields[said]}"),
            TimeRemainingColumn(),
            stays=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def update(self, tally: Tally) -> None:
        """Show how far ``tally`` is."""
        if tally.name not in self._tasks:
            self._tasks[tally.name] = self.progress.add_task(tally.name, total=tally.asked, said="")
        said = f"{tally.counts['acknowledged']} acknowledged, {len(tally.faults)} wrong"
        self.progress.update(self._tasks[tally.name], completed=tally.rounds, said=said)
