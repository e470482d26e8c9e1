"""The command lines of ``mailbe alias`` and ``mailbe domain``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from mailbe import listening
from mailbe.accounts import directory
from mailbe.accounts.database import Accounts
from mailbe.accounts.directory import POSTMASTER, NotPossible
from mailbe.address import Address, ascii_domain, is_domain, is_name
from mailbe.maildata import Maildata

Run = Callable[[argparse.Namespace, Maildata, Accounts], Iterator[str]]


def add_commands(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser], carry_out: Callable[[argparse.Namespace], int]
) -> None:
    """Add the commands to those of ``mailbe``.

    :param carry_out: calls ``options.run`` with the options, the maildata and its accounts, and prints its lines.
    """

    def commands(kind: str, text: str) -> Callable[[str, Run, str], argparse.ArgumentParser]:
        group = kinds.add_parser(kind, help=text, description=text).add_subparsers(required=True, metavar="COMMAND")

        def command(name: str, run: Run, help: str) -> argparse.ArgumentParser:
            made = group.add_parser(name, help=help, description=help)
            made.set_defaults(command=carry_out, run=run)
            return made

        return command

    command = commands("alias", "the addresses that lead to accounts")
    made = command("add", _add_alias, "have an address lead to accounts; @DOMAIN is all in it that nobody has")
    made.add_argument("address", metavar="ADDRESS")
    made.add_argument("targets", nargs="+", metavar="TARGET", help="an account, or another alias")
    command("list", _list_aliases, "print every alias, and what it leads to")
    made = command("remove", _remove_alias, "remove an alias, or of what it leads to only the targets")
    made.add_argument("address", metavar="ADDRESS")
    made.add_argument("targets", nargs="*", metavar="TARGET")

    command = commands("domain", "the domains that are served beside those of --domain")
    made = command("add", _add_domain, "serve a domain from now on; a running server does at once")
    made.add_argument("name", metavar="NAME")
    made.add_argument("--postmaster", metavar="ADDRESS", help="who gets the letters to postmaster and abuse")
    made.add_argument("--catch-all", metavar="ADDRESS", help="who gets the letters to nobody")
    command("list", _list_domains, "print every domain, with its postmaster, and who gets the letters to nobody")
    made = command("remove", _remove_domain, "serve a domain no more")
    made.add_argument("name", metavar="NAME")


def _add_alias(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _alias(options.address)
    directory.add_alias(accounts, address, [_address(target) for target in options.targets])
    yield from (_line(each) for each in _aliases(accounts) if each.address.key == address.key)
    if address.local.lower() == POSTMASTER and maildata.reception(address).is_dir():
        yield f"what has come so far is kept in {maildata.reception(address)}"


def _list_aliases(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    yield from map(_line, _aliases(accounts))


def _remove_alias(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _alias(options.address)
    directory.remove_alias(accounts, address, [_address(target) for target in options.targets])
    left = [_line(each) for each in _aliases(accounts) if each.address.key == address.key]
    yield from left or [f"{directory.written(address)} removed"]


def _add_domain(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    name, asked = _domain(options.name), (options.postmaster, options.catch_all)
    directory.add_domain(accounts, name, *(text and _address(text) for text in asked))
    yield f"{name} added"
    # Some may be of an earlier time, when the domain was served before.
    offices = {Address(local, name).key for local in (POSTMASTER, directory.CATCH_ALL)}
    yield from (_line(each) for each in _aliases(accounts) if each.address.key in offices)
    if not _postmaster(accounts, name):
        yield f"nobody reads what comes for its postmaster yet: mailbe alias add {POSTMASTER}@{name} ADDRESS"


def _list_domains(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    added = accounts.answer(directory.domains, None)
    told = listening.read(maildata.listening)
    for name in directory.served(accounts, told.domains if told else ()):
        kept = f"nobody; what comes is kept in {maildata.reception(Address(POSTMASTER, name))}"
        fields = [name, f"postmaster: {_postmaster(accounts, name) or kept}"]
        fields.append(f"letters to nobody: {_targets(accounts, Address(directory.CATCH_ALL, name)) or 'refused'}")
        if name not in added:
            fields.append("by --domain")
        yield "\t".join(fields)


def _remove_domain(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    name = _domain(options.name)
    left, aliases = directory.remove_domain(accounts, name)
    yield f"{name} removed; its accounts ({left}) and aliases ({aliases}) stay"


def _postmaster(accounts: Accounts, domain: str) -> str:
    """Who gets the letters to a domain's postmaster; empty: nobody."""
    address = Address(POSTMASTER, domain)
    if accounts.at(address) is not None:
        return str(address)
    # An alias that leads to nobody comes before the catch-all too.
    named = accounts.answer(directory.alias, address.key) is not None
    return _targets(accounts, address if named else Address(directory.CATCH_ALL, domain))


def _targets(accounts: Accounts, address: Address) -> str:
    return " ".join(
        str(target) for each in _aliases(accounts) if each.address.key == address.key for target in each.targets
    )


def _aliases(accounts: Accounts) -> tuple[directory.Alias, ...]:
    return accounts.answer(directory.aliases, None)


def _line(alias: directory.Alias) -> str:
    return f"{directory.written(alias.address)}\t{' '.join(map(str, alias.targets)) or 'nobody'}"


def _alias(text: str) -> Address:
    if text.startswith("@"):
        return Address(directory.CATCH_ALL, _domain(text[1:]))
    address = _address(text)
    if not (address.local and is_name(address.local)):
        raise NotPossible(f"{text!a} is no name for a mailbox")
    return address


def _address(text: str) -> Address:
    if "@" not in text:
        raise NotPossible(f"{text!a} has no domain; try {ascii(text)[1:-1]}@localhost")
    return Address.parse(text)


def _domain(text: str) -> str:
    if text.startswith("[") or not is_domain(text):
        raise NotPossible(f"{text!a} is not the name of a domain")
    return ascii_domain(text)
