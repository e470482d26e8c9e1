"""The command line of ``mailbe client``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

DEFAULT_MAILDATA = Path("maildata")


def add_command(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``mailbe``."""
    made = kinds.add_parser(
        "client",
        help="read and send mail in the terminal",
        description="Read and send mail in the terminal, and see SMTP and POP3 at work. Without --host it goes to the "
        "server on this machine whose folder --maildata is, else to the ports of mailbe on localhost; with it to the "
        "usual ports, the safest first. It exits with 0, or with 1 where something that was asked for was not done.",
    )
    made.add_argument(
        "--plain",
        action="store_true",
        help="line by line, for a dumb terminal and for scripts",
    )
    made.add_argument("--host", metavar="NAME", help="of the servers")
    made.add_argument("--pop3", type=_port, metavar="PORT", help="where mail is fetched")
    made.add_argument("--smtp", type=_port, metavar="PORT", help="where mail is sent, after log-in (submission)")
    made.add_argument("--site", metavar="URL", help="the server's web side, for who wants to register")
    made.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust beside the system's, as PEM")
    made.add_argument("--user", metavar="NAME", help="who logs in")
    made.set_defaults(command=_client)


def _client(options: argparse.Namespace) -> int:
    # Here, as the other commands of mailbe need not wait for all that this imports.
    from mailbe.client.errors import BadAuthority
    from mailbe.client.servers import find
    from mailbe.client.trust import Trust

    servers = find(
        options.maildata or DEFAULT_MAILDATA, options.host, options.pop3, options.smtp, options.site, options.ca
    )
    try:
        trust = Trust(servers.authorities)
    except BadAuthority as error:
        return _refused(str(error))
    if options.plain:
        from mailbe.client.plain import run

        return run(servers, trust, options.user)
    if not (sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"):
        return _refused("this is no terminal to fill; use --plain")
    from mailbe.client import screen

    return screen.run(servers, trust, options.user)


def _refused(reason: str) -> int:
    sys.stderr.write(f"mailbe: {reason}\n")
    return 1


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is no port")
    return int(text)
