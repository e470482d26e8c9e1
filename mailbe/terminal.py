"""The terminal of a command that takes long: colour and a bar where somebody looks, plain lines elsewhere."""

from __future__ import annotations

from typing import Self, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table

PLAIN_WIDTH = 120  # columns, where no terminal tells


def console(file: TextIO) -> Console:
    """What prints to ``file``: in colour on a terminal, and plain elsewhere."""
    made = Console(file=file, highlight=False)
    return made if made.is_terminal else Console(file=file, highlight=False, width=PLAIN_WIDTH)


def table(*, plain: bool) -> Table:
    """An empty table, whose lines are for a terminal."""
    return Table(box=None if plain else SIMPLE_HEAD, pad_edge=False, header_style="bold")


class Bar:
    """How far it is, on a terminal; elsewhere nothing."""

    def __init__(self, file: TextIO, *columns: ProgressColumn, stays: bool) -> None:
        """:param stays: whether it is left standing at its end."""
        self._console = Console(file=file)
        self.progress = Progress(*columns, console=self._console, transient=not stays)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self.progress.stop()
