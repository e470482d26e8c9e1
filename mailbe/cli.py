"""The ``mailbe`` command: accounts, what others are told of the server, the client for people, the torture.

Exit status: 0 done; 1 refused, and why stands in one line on stderr; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from mailbe import held_options
from mailbe.accounts import directory, directory_options, quotas, schemes, scram
from mailbe.accounts import options as invitation
from mailbe.accounts.database import Account, Accounts, DuplicateAccount, NoSuchAccount
from mailbe.accounts.directory import NotPossible
from mailbe.accounts.guard import Guard
from mailbe.accounts.invitations import NoSuchInvitation
from mailbe.accounts.terms import FOR_EVER, AccountTerms
from mailbe.address import Address, BadAddress, is_domain, is_name
from mailbe.announce import options as announce
from mailbe.client import options as client
from mailbe.conform import options as conform
from mailbe.interfaces import Terms, TryLater
from mailbe.maildata import MAX_FOLDER_NAME, Maildata, Unusable, folder_name
from mailbe.rooms import usage
from mailbe.torture import options as torture

DEFAULT_MAILDATA = Path("maildata")
_MD5_HEX = re.compile(r"[0-9A-Fa-f]{32}")


class Refused(Exception):
    """The command is not carried out; the message is the one line that says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the command ``argv`` (``None``: this process's arguments); returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.command(options)
    except (Refused, Unusable, TryLater, BadAddress, schemes.BadPassword) as error:
        return _refused(str(error))
    except (DuplicateAccount, NoSuchAccount, NoSuchInvitation, NotPossible) as error:
        return _refused(str(error))
    except BrokenPipeError:
        # Who read us has had enough; what Python flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refused(f"{error.filename or 'output'}: {error.strerror}")
    except (KeyboardInterrupt, EOFError):
        return _refused("broken off")
    return status


def _on_accounts(options: argparse.Namespace) -> int:
    maildata = Maildata(options.maildata or DEFAULT_MAILDATA)
    accounts = Accounts(maildata.accounts)
    try:
        maildata.prepare_root()
        for line in options.run(options, maildata, accounts):
            # A terminal of the last century cannot show every name.
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(f"{line}\n".encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    finally:
        accounts.close()
    return 0


def _refused(reason: str) -> int:
    sys.stderr.write(f"mailbe: {reason}\n")
    return 1


def _add(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _new_address(options.address)
    if (account := accounts.at(address)) is not None:  # before anybody types a password twice for nothing
        raise DuplicateAccount(account.address)
    _check_no_alias(accounts, address)
    accounts.add(address, *_new_record(options))
    yield f"{address} added"


def _check_no_alias(accounts: Accounts, address: Address) -> None:
    if accounts.answer(directory.alias, address.key) is not None:
        raise Refused(f"{address} is an alias; remove that first: mailbe alias remove {address}")


def _passwd(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _address(options.address)
    account = accounts.at(address)
    if account is None or not accounts.set_record(account.id, *_new_record(options)):
        raise NoSuchAccount(address)
    yield f"{account.address} has a new password"


def _list(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    guard = Guard(accounts)
    for account in accounts.all():
        report = guard.report(account)
        fields = [str(account.address)]
        fields.append("never" if report.last is None else f"{_minute(report.last)} {report.peer or 'this machine'}")
        fields.append(_room(maildata, accounts, account))
        for origin, ends in report.locks:
            fields.append(f"locked until {_minute(ends)}" + (f" for {origin} only" if origin else ""))
        yield "\t".join(fields)


def _room(maildata: Maildata, accounts: Accounts, account: Account) -> str:
    """What lies in the account's mailbox, and of how much; what the server's options say of that nobody here knows."""
    try:
        there = usage(maildata.reception(account.address))
    except TryLater as error:
        return f"unreadable: {error}"
    own = quotas.own(accounts, account)
    octets, letters = ("" if limit is None or limit == quotas.NO_LIMIT else f" of {limit}" for limit in own)
    return f"{there.letters}{letters} letters, {there.octets}{octets} octets"


def _quota(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _address(options.address)
    if (account := accounts.at(address)) is None:
        raise NoSuchAccount(address)
    own = quotas.own(accounts, account)
    asked = (options.octets, options.letters)
    now = tuple(_QUOTA_WORDS.get(new, new) if new is not None else old for old, new in zip(own, asked, strict=True))
    if now != own:
        quotas.set_own(accounts, account, *now)
    limits = ", ".join(f"{name} {_quota_word(limit)}" for name, limit in zip(("octets", "letters"), now, strict=True))
    yield f"{account.address}\t{_room(maildata, accounts, account)}\tquota: {limits}"


_QUOTA_WORDS = {"none": quotas.NO_LIMIT, "default": None}


def _quota_word(limit: int | None) -> str:
    return next((word for word, number in _QUOTA_WORDS.items() if number == limit), str(limit))


def _limit(text: str) -> int | str:
    if text in _QUOTA_WORDS:
        return text
    if not re.fullmatch("[0-9]{1,18}", text) or not int(text):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!a} is neither a number, 1 at least, nor one of {', '.join(_QUOTA_WORDS)}"
        )
    return int(text)


def _unlock(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _address(options.address)
    if (account := accounts.at(address)) is None:
        raise NoSuchAccount(address)
    was_locked = Guard(accounts).unlock(account.address)
    yield f"{account.address} " + ("unlocked" if was_locked else "was not locked")


def _terms(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _address(options.address)
    if (account := accounts.at(address)) is None:
        raise NoSuchAccount(address)
    terms = AccountTerms(accounts, Terms())
    days, delay = terms.own(account.address)
    if "days" in options:
        days = options.days
    else:
        delay = options.seconds
    terms.set(account, days=days, delay=delay)
    yield f"{account.address}\texpire {_words(days)}\tdelay {_words(delay)}"


def _words(number: int | None) -> str:
    return "default" if number is None else "never" if number == FOR_EVER else str(number)


def _number(text: str, least: int) -> int | None:
    if text == "default":
        return None
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!a} is no number, {least} at least")
    return int(text)


def _days(text: str) -> int | None:
    return FOR_EVER if text == "never" else _number(text, 1)


def _seconds(text: str) -> int | None:
    return _number(text, 0)


def _audit(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    for account in sorted(accounts.all(), key=_strength):
        try:
            scheme = schemes.scheme_of(account.record)
        except schemes.BadRecord:
            scheme = "unusable"
        yield f"{account.address}\t{scheme}\t{'no SCRAM' if account.scram is None else 'SCRAM'}"


def _strength(account: Account) -> int:
    """Of how many schemes the account's record is none that is weaker; -1 where no password fits it."""
    try:
        return sum(not schemes.is_below(account.record, scheme) for scheme in schemes.CHOICES.values())
    except schemes.BadRecord:
        return -1


def _remove(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    address = _address(options.address)
    account: Account | None = None
    gone: NoSuchAccount | None = None
    leading = [each for each in accounts.answer(directory.aliases, None) if _is_among(address, each.targets)]
    try:
        # The account first: from then on nobody can log in, and the server takes no letter for it.
        account = accounts.remove(address)
        address = account.address
    except NoSuchAccount as error:
        gone = error  # but its mail may be there still, if that could not be put aside the last time
    try:
        aside = maildata.put_aside(address)
    except OSError as error:
        raise Refused(
            f"{address} is removed, but not its mail: {error.filename}: {error.strerror}; remove it again"
        ) from error
    if gone is not None and aside is None:
        raise gone
    yield f"{address} removed; " + (f"its mail lies in {aside}" if aside else "it had no mail")
    for alias in leading:
        left = (
            "others only" if len(alias.targets) > 1 else f"nobody, and its letters are {_fate(maildata, alias.address)}"
        )
        yield f"{directory.written(alias.address)} now leads to {left}"
    if account is not None:
        yield from held_options.left_by(maildata, account)


def _fate(maildata: Maildata, alias: Address) -> str:
    """What becomes of letters to an alias that leads to nobody."""
    if alias.local.lower() in directory.OFFICES:
        return f"kept in {maildata.reception(Address(directory.POSTMASTER, alias.domain))}"
    return "refused"


def _is_among(address: Address, addresses: Sequence[Address]) -> bool:
    return address.key in (each.key for each in addresses)


def _import(options: argparse.Namespace, maildata: Maildata, accounts: Accounts) -> Iterator[str]:
    try:
        text = options.file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Refused(f"{options.file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{options.file}: not UTF-8 at octet {error.start}") from error
    entries: dict[str, tuple[int, Address, str]] = {}  # Address.key -> line, address, record
    faults: dict[int, str] = {}
    taken = {account.address.key for account in accounts.all()}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            address, record = _entry(line, options.domain)
            if address.key in taken:
                raise DuplicateAccount(address)
            _check_no_alias(accounts, address)
            if earlier := entries.get(address.key):
                raise Refused(f"{address} stands in line {earlier[0]} already")
            entries[address.key] = number, address, record
        except (Refused, BadAddress, DuplicateAccount) as error:
            faults[number] = str(error)
    if not faults:
        try:
            accounts.add_all((address, record) for _, address, record in entries.values())
        except DuplicateAccount as error:  # somebody has just added it
            faults[entries[error.address.key][0]] = str(error)
    for number, reason in faults.items():
        sys.stderr.write(f"{options.file}:{number}: {reason}\n")
    if faults:
        raise Refused(f"nothing was imported; bad lines in {options.file}: {len(faults)}")
    yield f"{len(entries)} accounts added"


def _entry(line: str, domain: str) -> tuple[Address, str]:
    """The address and the record in one line of the school project's users file, ``name:md5hex``."""
    name, colon, digest = line.strip().rpartition(":")
    if not colon or not _MD5_HEX.fullmatch(digest):
        raise Refused("not of the form name:md5, with 32 hexadecimal digits")
    return _new_address(name if "@" in name else f"{name}@{domain}"), f"{{MD5}}{digest.lower()}"


def _address(text: str) -> Address:
    if "@" not in text:
        raise Refused(f"{text!a} has no domain; try {ascii(text)[1:-1]}@localhost")
    return Address.parse(text)


def _new_address(text: str) -> Address:
    address = _address(text)
    if not address.local:
        raise Refused(f"{text!a} has no name before its @")
    if not is_name(address.local):
        raise Refused(f"{text!a}: beside ASCII, a name has letters and digits only, and none in a compatibility form")
    if len(folder_name(address)) > MAX_FOLDER_NAME:
        raise Refused(f"{address} is too long for the name of a folder")
    return address


def _new_record(options: argparse.Namespace) -> tuple[str, str | None]:
    """The record and the SCRAM text of a password that is asked for."""
    password = _password_from_stdin() if options.password_stdin else _password_from_terminal()
    schemes.check_password_rules(password)
    record = schemes.hash_password(schemes.prepared(password.encode()), schemes.CHOICES[options.password_scheme])
    return record, scram.make_verifier(password.encode())


def _password_from_stdin() -> str:
    line = sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise schemes.BadPassword("the password is not UTF-8") from None


def _password_from_terminal() -> str:
    if not sys.stdin.isatty():
        raise Refused("no terminal to ask for the password on; give it in one line with --password-stdin")
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise Refused("the two passwords differ")
    return password


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(timespec="minutes")


def _domain(text: str) -> str:
    if not is_domain(text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a domain")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mailbe", description="Look after a mailbe server.")
    # No default here: nobody tortures his mail for want of an option.
    parser.add_argument("--maildata", type=Path, metavar="DIR", help=f"the server's folder ({DEFAULT_MAILDATA})")
    kinds = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_user_commands(kinds.add_parser("user", help="the accounts"))
    directory_options.add_commands(kinds, _on_accounts)
    invitation.add_command(kinds, _on_accounts)
    held_options.add_commands(kinds, _on_accounts)
    announce.add_commands(kinds, DEFAULT_MAILDATA)
    client.add_command(kinds)
    conform.add_command(kinds)
    torture.add_command(kinds)
    return parser


def _add_user_commands(user: argparse.ArgumentParser) -> None:
    commands = user.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., Iterator[str]], help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(command=_on_accounts, run=run)
        return made

    for name, run, text in (
        ("add", _add, "add an account"),
        ("passwd", _passwd, "give an account a new password"),
    ):
        made = command(name, run, text)
        made.add_argument("address", metavar="ADDRESS")
        made.add_argument("--password-stdin", action="store_true", help="read the password from stdin: one line")
        made.add_argument("--password-scheme", choices=schemes.CHOICES, default=schemes.DEFAULT, help="(%(default)s)")
    command("list", _list, "print every account with its last log-in, its letters, and whether it is locked")
    command("audit", _audit, "print how every account's password is kept, the weakest first")
    made = command("unlock", _unlock, "let an account in again that was locked for wrong passwords")
    made.add_argument("address", metavar="ADDRESS")
    made = command("expire", _terms, "delete an account's letters after so many days, which its mail programs are told")
    made.add_argument("address", metavar="ADDRESS")
    made.add_argument("days", type=_days, metavar="DAYS|never|default")
    made = command("delay", _terms, "let nobody log in over POP3 again before so many seconds are over")
    made.add_argument("address", metavar="ADDRESS")
    made.add_argument("seconds", type=_seconds, metavar="SECONDS|default")
    made = command("quota", _quota, "print how much may lie in an account's mailbox; with an option, change that")
    made.add_argument("address", metavar="ADDRESS")
    for name in ("octets", "letters"):
        made.add_argument(f"--{name}", type=_limit, metavar="N", help=f"so many {name}; none; default")
    made = command("remove", _remove, "remove an account, and put its mail aside")
    made.add_argument("address", metavar="ADDRESS")
    made = command(
        "import",
        _import,
        "add the accounts in a file of lines name:md5 (the school project's), or none of them",
    )
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument(
        "--domain", type=_domain, default="localhost", metavar="NAME", help="of plain names (%(default)s)"
    )
