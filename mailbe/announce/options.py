"""The command lines of ``mailbe dns`` and ``mailbe thunderbird``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mailbe import listening
from mailbe.accounts.database import Accounts
from mailbe.accounts.directory import served
from mailbe.address import Address
from mailbe.announce import NothingToTell
from mailbe.announce.profile import user_js, ways
from mailbe.announce.zone import lines
from mailbe.autoconfig import servers
from mailbe.listening import Listening
from mailbe.maildata import Maildata

POLICIES = Path("/etc/thunderbird/policies")  # where Debian's Thunderbird looks, and Mozilla's under Linux
AUTHORITY = "mailbe-ca.pem"

Run = Callable[[argparse.Namespace, Maildata, Listening], None]


def add_commands(kinds: argparse._SubParsersAction[argparse.ArgumentParser], default_maildata: Path) -> None:
    """Add the commands to those of ``mailbe``."""

    def command(name: str, run: Run, help: str, description: str) -> argparse.ArgumentParser:
        made = kinds.add_parser(name, help=help, description=description)
        made.set_defaults(command=lambda options: _tell(options, options.maildata or default_maildata, run))
        return made

    command(
        "dns",
        _dns,
        "print the DNS records of a running server",
        "Print lines for the zone files of a running server's domains: MX, SRV and autoconfig, for what it listens on.",
    )
    made = command(
        "thunderbird",
        _thunderbird,
        "print a user.js for Thunderbird",
        "Print a user.js that gives a new profile of Thunderbird an account on a running server.",
    )
    made.add_argument("address", metavar="ADDRESS")
    made.add_argument("--output", type=Path, metavar="FILE", help="write it there, where nothing is yet")


def _tell(options: argparse.Namespace, root: Path, run: Run) -> int:
    maildata = Maildata(root)
    try:
        if (told := listening.read(maildata.listening)) is None:
            raise NothingToTell(f"{root}: no server says here what it listens on; start one, then ask again")
        run(options, maildata, _with_added_domains(told, maildata))
        sys.stdout.flush()
    except NothingToTell as error:
        _say(str(error))
        return 1
    return 0


def _with_added_domains(told: Listening, maildata: Maildata) -> Listening:
    """Domains may have been added since the server began."""
    if not maildata.accounts.exists():
        return told
    accounts = Accounts(maildata.accounts)
    try:
        return replace(told, domains=tuple(served(accounts, told.domains)))
    finally:
        accounts.close()


def _dns(options: argparse.Namespace, maildata: Maildata, told: Listening) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines(told))


def _thunderbird(options: argparse.Namespace, maildata: Maildata, told: Listening) -> None:
    address = Address.parse(options.address)
    fetch, send = ways(told, address)
    text = user_js(address, fetch, send)
    if options.output is None:
        sys.stdout.write(text)
    else:
        with options.output.open("x") as file:
            file.write(text)
    _say("this is user.js for the folder of a new profile: thunderbird --profile FOLDER")
    _say("it is read at each start; remove it after the first if its settings may be changed")
    if fetch not in servers(told, at_home=False):
        _say("it is for this machine alone: the server has no ports for others")
    if told.has_authority:
        policies = {"policies": {"Certificates": {"Install": [str(POLICIES / AUTHORITY)]}}}
        _say(f"to trust this server, copy {maildata.authority.absolute()} to {POLICIES / AUTHORITY}")
        _say(f"and write into {POLICIES / 'policies.json'}: {json.dumps(policies)}")


def _say(text: str) -> None:
    sys.stderr.write(f"mailbe: {text}\n")
