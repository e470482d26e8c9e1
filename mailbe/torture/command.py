"""``mailbe torture``: what is to be done, where, and what the exit status says of it."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mailbe.signals import ended_as_by_ctrl_c
from mailbe.torture.forgetful import ForgetfulDisk, Rule, Unavailable
from mailbe.torture.report import Bar, show
from mailbe.torture.run import Ordeal, Plan, Tally, Way

KILLS = 20  # rounds where nothing is asked for
TOLD = 20  # faults that are printed; all stand in a file


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line."""

    folder: Path | None = None
    """Where everything goes; ``None``: into a temporary folder."""
    kill9: int = 0
    power: int = 0
    rules: Sequence[str] = ()
    """Those under which the power is cut; see ``forgetful.Rule``."""
    seconds: float | None = None
    """After so many, no new round is begun."""
    seed: int | None = None
    connections: int = 8
    workers: int = 1


def torture(request: Request) -> int:
    """Carry it out and print what came of it; returns the exit status."""
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    return run(Plan(seed, request.connections, workers=request.workers), ways(request), request.folder, request.seconds)


def ways(request: Request) -> list[tuple[Way, int]]:
    """The ways to crash that are asked for, and how often.

    Power cuts first, as they may turn out to be impossible here.
    """
    asked = [(power_cut(Rule(rule)), request.power) for rule in request.rules] if request.power else []
    kills = request.kill9 or (0 if asked else KILLS)
    return [*asked, (Way("kill9"), kills)] if kills else asked


def power_cut(rule: Rule) -> Way:
    # Longer than for a kill: that disk is slow.
    return Way(f"power-{rule.value}", 2.0, lambda folder, seed: ForgetfulDisk(folder, rule, seed))


def run(plan: Plan, ways: Sequence[tuple[Way, int]], folder: Path | None, seconds: float | None) -> int:
    """Crash a server in each of ``ways``, so often; print the table and all that is wrong. Returns the exit status.

    :param folder: as in ``Request``.
    :param seconds: as in ``Request``.
    :raises OSError:
    """
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        return _refused(f"{folder}: not empty, and nobody tortures mail that he wants to keep; name another folder")
    scratch = _scratch(folder)
    _say(f"seed {plan.seed}; everything is in {scratch}")
    tallies = [Tally(way.name, asked) for way, asked in ways]
    begin = time.monotonic()
    why_ended, worth_telling = "", True
    try:
        with ended_as_by_ctrl_c(), Bar(sys.stderr) as bar:
            for number, (tally, (way, _)) in enumerate(zip(tallies, ways, strict=True), 1):
                home = scratch / way.name
                home.mkdir()
                bar.update(tally)
                # Each has its share of the time, and what those before it have left.
                deadline = float("inf") if seconds is None else begin + seconds * number / len(ways)
                Ordeal(plan, way, home, tally).run(deadline, partial(bar.update, tally))
    except KeyboardInterrupt:
        why_ended = "broken off"
    except Unavailable as error:
        why_ended, worth_telling = str(error), any(tally.rounds for tally in tallies)
    except Exception:
        _say(f"kept: {scratch}")
        raise
    if worth_telling:
        show(tallies, sys.stdout)
        _say(f"seed {plan.seed}, {time.monotonic() - begin:.0f} s")
    if not why_ended and (idle := [tally.name for tally in tallies if not tally.proves]):
        why_ended = f"no letter was acknowledged, so nothing is proved: {', '.join(idle)}"
    if any(tally.faults for tally in tallies):
        _tell(tallies, scratch)
        status = 1
    else:
        status = 0
        if folder is None:
            shutil.rmtree(scratch)
    return _refused(why_ended) if why_ended else status


def _scratch(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="mailbe-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


def _tell(tallies: Sequence[Tally], scratch: Path) -> None:
    lines = [f"{tally.name}, {fault}" for tally in tallies for fault in tally.faults]
    report = scratch / "faults"
    report.write_text("".join(f"{line}\n" for line in lines))
    for line in lines[:TOLD]:
        _say(line)
    if len(lines) > TOLD:
        _say(f"and {len(lines) - TOLD} more, in {report}")
    for tally in tallies:
        if tally.faults:
            home, first = scratch / tally.name, tally.faults[0].round
            _say(f"kept: {home}: server-*.log, and maildata-{first}, a copy of the maildata after round {first}")


def _refused(reason: str) -> int:
    sys.stderr.write(f"mailbe: {reason}\n")
    return 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
