"""The command line of ``mailbe conform``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mailbe.arguments import number
from mailbe.ports import IMPLICIT_TLS, STANDARD

_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,255}")


def add_command(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``mailbe``."""
    made = kinds.add_parser(
        "conform",
        help="see whether a mail server keeps the RFCs",
        description="Hold some 400 conversations with a mail server, each judged by a section of an RFC. It "
        "sends letters from an address on the server to the same address, and deletes them again; nobody else's mail "
        "is read, and none goes to other hosts. The exit status is 1 if a MUST is broken.",
    )
    made.add_argument("host", type=_host, metavar="HOST", help="the server")
    made.add_argument("--user", metavar="NAME", help="who logs in (asked for on a terminal)")
    made.add_argument("--address", type=_address, metavar="ADDRESS", help="that user's address (NAME, or NAME@HOST)")
    made.add_argument("--password-stdin", action="store_true", help="read the password from stdin: one line")
    for name in STANDARD:
        tls = ", in TLS from the first octet" if name in IMPLICIT_TLS else ""
        made.add_argument(f"--{name}", type=number(1, 65535), metavar="PORT", help=f"the port of {name}{tls}")
    made.add_argument("--ca", type=Path, metavar="FILE", help="trust this authority, as PEM, and no other")
    made.add_argument("--unverified", action="store_true", help="take any certificate, as on this machine itself")
    made.add_argument("--plaintext", action="store_true", help="say the password without TLS, too")
    made.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="how long one answer may take (30)"
    )
    made.add_argument("--json", action="store_true", help="print everything as JSON")
    made.add_argument("--verbose", action="store_true", help="print the dialogue of what is well, too")
    made.set_defaults(command=_conform, wrong=made.error)


def _conform(options: argparse.Namespace) -> int:
    if options.ca and options.unverified:
        options.wrong("--ca and --unverified exclude each other")
    # Here, as the other commands of mailbe need not wait for all that it imports.
    from mailbe.conform.command import conform

    return conform(options, {name: getattr(options, name) for name in STANDARD if getattr(options, name)})


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:60]!a} is no host")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"[!-=?-~]+@[!-=?-~]+", text):
        raise argparse.ArgumentTypeError(f"{text[:60]!a} is not of the form name@domain")
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is no time in seconds")
    return float(text)
