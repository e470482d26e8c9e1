"""What people see: a bar while it runs, a table at the end with what is wrong in full; or all of it as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.table import Table

from mailbe import terminal
from mailbe.conform.door import Drop
from mailbe.conform.find import Found, Request
from mailbe.conform.rules import Level, Verdict
from mailbe.conform.run import Result, failed
from mailbe.conform.sender import Site

_COLOURS = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.ABSENT: "cyan",
    Verdict.SKIPPED: "dim",
    Verdict.UNCLEAR: "yellow",
}


def show(request: Request, found: Found, results: Sequence[Result], file: TextIO, *, verbose: bool) -> None:
    """Print the table, what is wrong in full, and the sums; in colour on a terminal, and plain elsewhere."""
    console = terminal.console(file)
    there = ", ".join(f"{each.name} {each.route.port}" for each, _ in _offers(found))
    console.print(f"{escape(request.host)}: {there}")
    for listener in dict.fromkeys(result.listener for result in results):
        own = [one for one in results if one.listener == listener]
        shown = own if verbose else [one for one in own if one.verdict is not Verdict.SKIPPED]
        console.print(_table(listener, shown, plain=not console.is_terminal))
        if skipped := Counter(one.reason for one in own if one.verdict is Verdict.SKIPPED and not verbose):
            console.print(f"[dim]skipped: {escape('; '.join(_times(*one) for one in skipped.items()))}[/]\n")
    for result in results:
        if verbose or result.verdict is Verdict.FAILED:
            _tell(console, result)
    for line in sums(results):
        console.print(line)


def sums(results: Sequence[Result]) -> list[str]:
    """How many checks came out how."""
    counts = Counter(result.verdict for result in results)
    broken = ", ".join(f"{len(failed(results, level))} {level.value}" for level in (Level.MUST, Level.SHOULD))
    rest = (Verdict.ABSENT, Verdict.SKIPPED, Verdict.UNCLEAR)
    others = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in rest)
    return [f"{counts[Verdict.PASSED]} passed; broken: {broken}; {others}"]


def _times(reason: str, count: int) -> str:
    return reason if count == 1 else f"{reason} ({count})"


def _table(listener: str, results: Sequence[Result], *, plain: bool) -> Table:
    made = terminal.table(plain=plain)
    for title in (listener, "level", "section", "rule"):
        made.add_column(title, no_wrap=title != "rule")
    for result in results:
        colour = _COLOURS[result.verdict]
        rule = result.rule
        why = f" [dim]({escape(result.reason)})[/]" if result.reason else ""
        made.add_row(f"[{colour}]{result.verdict.value}[/]", rule.level.value, rule.section, escape(rule.text) + why)
    return made


def _tell(console: Console, result: Result) -> None:
    rule = result.rule
    console.print(f"\n[{_COLOURS[result.verdict]}]{result.verdict.value}[/] {result.listener}: [bold]{rule.name}[/]")
    console.print(f"  {rule.level.value}, {rule.section}: {escape(rule.text)}")
    if result.verdict is Verdict.FAILED:
        for title, text in (("sent", result.sent), ("came", result.got), ("wanted", result.wanted)):
            console.print(f"  {title + ':':8}{escape(text)}")
    for line in result.dialogue.lines:
        console.print(f"    {escape(line)}", style="dim")


def print_json(request: Request, found: Found, results: Sequence[Result], file: TextIO) -> None:
    """Print all of it, with every dialogue, as one JSON object."""
    whole = {
        "host": request.host,
        "address": request.address,
        "listeners": [
            {"name": each.name, "port": each.route.port, "offers": offers} for each, offers in _offers(found)
        ],
        "broken": {level.value: len(failed(results, level)) for level in (Level.MUST, Level.SHOULD)},
        "checks": [
            {
                "listener": result.listener,
                "name": result.rule.name,
                "rule": result.rule.text,
                "level": result.rule.level.value,
                "section": result.rule.section,
                "verdict": result.verdict.value,
                "reason": result.reason,
                "sent": result.sent,
                "came": result.got,
                "wanted": result.wanted,
                "dialogue": result.dialogue.lines,
            }
            for result in results
        ],
    }
    json.dump(whole, file, ensure_ascii=False, indent=1)
    file.write("\n")


def _offers(found: Found) -> Iterator[tuple[Site | Drop, dict[str, list[str]]]]:
    """Each listener, and all that it offers, be it before TLS or after log-in."""
    for site in (*found.sites, *found.sites_in_tls):
        yield site, site.plain | site.in_tls | site.offers
    if found.drop is not None:
        yield found.drop, found.drop.plain | found.drop.capabilities
    if found.drop_in_tls is not None and found.drop_in_tls is not found.drop:
        yield found.drop_in_tls, found.drop_in_tls.capabilities


class Bar(terminal.Bar):
    """How many checks are made."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file, TextColumn("checks"), BarColumn(), MofNCompleteColumn(), stays=False)
        self._task = self.progress.add_task("checks", total=None)

    def update(self, done: int, whole: int) -> None:
        """Show that ``done`` of ``whole`` checks are made."""
        self.progress.update(self._task, completed=done, total=whole)
