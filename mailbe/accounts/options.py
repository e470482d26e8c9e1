"""The command line of ``mailbe invitation``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from mailbe.accounts import invitations
from mailbe.accounts.counters import DAY
from mailbe.accounts.database import Accounts
from mailbe.arguments import number
from mailbe.maildata import Maildata

MOST_USES = 10**6
MOST_DAYS = 3650


def add_command(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser], carry_out: Callable[[argparse.Namespace], int]
) -> None:
    """Add the command to those of ``mailbe``.

    :param carry_out: calls ``options.run`` with the options, the maildata and its accounts, and prints its lines.
    """
    text = "who may register, where that takes an invitation"
    commands = kinds.add_parser("invitation", help=text, description=text).add_subparsers(
        required=True, metavar="COMMAND"
    )
    made = commands.add_parser("add", help="make one, and print its code, which is shown once")
    made.add_argument(
        "--uses", type=number(1, MOST_USES), default=1, metavar="N", help="good for so many accounts (%(default)s)"
    )
    made.add_argument("--days", type=number(1, MOST_DAYS), default=30, metavar="N", help="and so long (%(default)s)")
    made.set_defaults(command=carry_out, run=_add)
    made = commands.add_parser("list", help="print those that are good: the first group of the code, uses, end")
    made.set_defaults(command=carry_out, run=_list)
    made = commands.add_parser("remove", help="take one back")
    made.add_argument("code", metavar="CODE", help="all of it, or its first group")
    made.set_defaults(command=carry_out, run=_remove)


def _add(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    yield invitations.add(accounts, options.uses, time.time() + options.days * DAY)


def _list(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    for each in invitations.all_good(accounts):
        ends = datetime.fromtimestamp(each.ends).isoformat(timespec="minutes")
        yield f"{each.label}-...\t{each.remaining} of {each.uses} left\tuntil {ends}"


def _remove(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    yield f"{invitations.remove(accounts, options.code).label}-... removed"
