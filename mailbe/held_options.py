"""The command line of ``mailbe held``: the letters that wait for their release. The server may be running meanwhile."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from mailbe.accounts.database import Account, Accounts
from mailbe.accounts.directory import NotPossible
from mailbe.durable import trouble
from mailbe.held import Held, Letter
from mailbe.maildata import Maildata
from mailbe.slip import Damaged, Slip


def add_commands(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser], carry_out: Callable[[argparse.Namespace], int]
) -> None:
    """Add the command to those of ``mailbe``.

    :param carry_out: calls ``options.run`` with the options, the maildata and its accounts, and prints its lines.
    """
    text = "the letters that are held until a time that their senders gave"
    commands = kinds.add_parser("held", help=text, description=text).add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("list", _list, "print every one: when it is released, its id, who sent it, and for whom it is"),
        ("release", _release, "release one now; without a server, when that starts"),
        ("remove", _remove, "delete one; nobody gets it, and nobody is told"),
    ):
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=carry_out, run=run)
        if run is not _list:
            made.add_argument("id", metavar="ID")


def left_by(maildata: Maildata, account: Account) -> Iterator[str]:
    """What to tell an operator who has removed ``account``: a line, where letters that it sent are held."""
    held = Held(maildata)
    letters, _ = _scan(maildata, held)
    if not letters:
        return
    accounts = held.accounts({})
    if count := sum(accounts.get(id) == account.id for id in letters):
        is_held = "letter that it sent is held, and goes" if count == 1 else "letters that it sent are held, and go"
        yield f"{count} {is_held} out all the same; mailbe held list tells which, mailbe held remove ID deletes one"


def _list(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    held = Held(maildata)
    letters, alone = _scan(maildata, held)
    lines: list[tuple[float, str]] = []  # and no slips, which may take a megabyte each
    for id in letters:
        try:
            slip = held.read(id)
        except Damaged as error:
            yield f"damaged\t{id}\t{held.envelope(id)}: {error}"
        except FileNotFoundError:
            continue  # it has just been released
        except OSError as error:
            yield f"damaged\t{id}\t{trouble(error)}"
        else:
            lines.append((slip.release, _line(id, slip)))
    yield from (line for _, line in sorted(lines))
    for path in alone:
        yield f"damaged\t{path.name}\tits envelope is missing"


def _release(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    with _holding(maildata, options.id) as held:
        try:
            slip = held.read(options.id)
        except Damaged as error:
            raise NotPossible(f"{held.envelope(options.id)}: {error}") from error
        held.write(options.id, slip.released(min(slip.release, time.time())))
    yield f"{options.id} is released now, or when the server starts"


def _remove(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    with _holding(maildata, options.id) as held:
        held.remove([options.id])
    yield f"{options.id} removed"


@contextmanager
def _holding(maildata: Maildata, id: str) -> Iterator[Held]:
    """The held letters, among which is one of this id, and which are ours to change meanwhile.

    :raises NotPossible:
    """
    held = Held(maildata)
    if not _scan(maildata, held)[0]:  # so there may be nothing to lock
        raise _nothing(id)
    lock = held.lock(wait=True)
    try:
        if id not in held.scan()[0]:
            raise _nothing(id)
        yield held
    finally:
        os.close(lock)


def _nothing(id: str) -> NotPossible:
    return NotPossible(f"no letter {id[:100]!a} is held; mailbe held list prints those that are")


def _scan(maildata: Maildata, held: Held) -> tuple[dict[str, Letter], list[Path]]:
    # Before a server has run there is no such folder.
    if not maildata.held.exists() or held.stamps() is None:
        return {}, []
    try:
        return held.scan()
    except FileNotFoundError as error:
        raise NotPossible(f"{error.filename} is missing; the server makes it when it starts") from error


def _line(id: str, slip: Slip) -> str:
    envelope = slip.envelope
    when = datetime.fromtimestamp(slip.release).isoformat(sep=" ", timespec="seconds")
    sender = str(envelope.reverse_path or "<>")
    if slip.submitter is not None and slip.submitter != envelope.reverse_path:
        sender += f" by {slip.submitter}"
    fields = [when, id, f"from {sender}", f"to {' '.join(str(recipient.address) for recipient in envelope.recipients)}"]
    if slip.failing is not None:
        since = datetime.fromtimestamp(slip.failing).isoformat(sep=" ", timespec="minutes")
        fields.append(f"cannot be delivered since {since}")
    # Whom a letter is for its sender has said, and what turns a line round is no control character.
    return "\t".join("".join(each if each.isprintable() else "?" for each in field) for field in fields)
