"""The command line of ``mailbe torture``."""

from __future__ import annotations

import argparse
import re

from mailbe.arguments import number

RULES = ("posix", "ext4")  # the values of forgetful.Rule
MOST_ROUNDS = 10**6
MOST_CONNECTIONS = 200  # a thread for each
MOST_WORKERS = 16


def add_command(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``mailbe``."""
    made = kinds.add_parser(
        "torture",
        help="prove that no letter is lost",
        description="Crash a server of its own again and again while mail comes in, and account for every letter. It "
        "works in a temporary folder, or in that of --maildata, which must be missing or empty. The exit status is 1 "
        "if anything is lost, and then the folder is kept.",
    )
    rounds = number(1, MOST_ROUNDS)
    made.add_argument(
        "--kill9", type=rounds, default=0, metavar="N", help="kill it so many times (20, without --power)"
    )
    made.add_argument(
        "--power",
        type=rounds,
        default=0,
        metavar="N",
        help="cut its power so many times, on a file system that forgets what was not synced; needs FUSE",
    )
    made.add_argument("--rule", choices=RULES, help="the rule by which that forgets (each in turn, N times)")
    made.add_argument("--seconds", type=_seconds, metavar="S", help="begin no round after so many seconds")
    made.add_argument("--seed", type=number(0, 2**32 - 1), metavar="N", help="make the choices of that run again")
    made.add_argument(
        "--connections",
        type=number(1, MOST_CONNECTIONS),
        default=8,
        metavar="N",
        help="send over so many at once (%(default)s)",
    )
    made.add_argument(
        "--workers",
        type=number(1, MOST_WORKERS),
        default=1,
        metavar="N",
        help="of a server with so many workers (%(default)s); of several, one may be killed alone",
    )
    made.set_defaults(command=_torture, wrong=made.error)


def _torture(options: argparse.Namespace) -> int:
    if options.rule and not options.power:
        options.wrong("--rule is for --power, which is not given")
    # Here, as the other commands of mailbe need not wait for all that it imports.
    from mailbe.torture.command import Request, torture

    return torture(
        Request(
            folder=options.maildata,
            kill9=options.kill9,
            power=options.power,
            rules=[options.rule] if options.rule else RULES,
            seconds=options.seconds,
            seed=options.seed,
            connections=options.connections,
            workers=options.workers,
        )
    )


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is no time in seconds")
    return float(text)
