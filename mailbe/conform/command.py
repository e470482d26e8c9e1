"""``mailbe conform``: whom to ask what, and what the exit status says of it."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Mapping

from mailbe.conform import report
from mailbe.conform.find import Request, Unreachable, find
from mailbe.conform.run import LeftBehind, Run
from mailbe.conform.sasl import Login
from mailbe.signals import ended_as_by_ctrl_c


class _Wrong(Exception):
    """What was asked for makes no sense; the message says why."""


def conform(options: argparse.Namespace, ports: Mapping[str, int]) -> int:
    """Carry out what the command line asks for; returns the exit status.

    :param ports: those that it names, by listener.
    """
    try:
        request = _request(options, ports)
    except _Wrong as error:
        options.wrong(str(error))
    try:
        found = find(request)
        with report.Bar(sys.stderr) as bar:
            run = Run(request, found, bar.update)
            run.prepare()
            try:
                with ended_as_by_ctrl_c():  # our letters are to be deleted
                    run.go()
                why_ended = ""
            except KeyboardInterrupt:
                why_ended = "broken off"
            except LeftBehind as error:
                why_ended = str(error)
    except Unreachable as error:
        return _refused(str(error))
    if options.json:
        report.print_json(request, found, run.results, sys.stdout)
    else:
        report.show(request, found, run.results, sys.stdout, verbose=options.verbose)
    if why_ended:
        return _refused(why_ended)
    return 1 if any(result.fails for result in run.results) else 0


def _request(options: argparse.Namespace, ports: Mapping[str, int]) -> Request:
    user = options.user
    if user is None:
        if options.password_stdin or not sys.stdin.isatty():
            raise _Wrong("say who logs in, with --user")
        sys.stderr.write("User: ")
        sys.stderr.flush()
        user = sys.stdin.readline().strip()
    address = options.address or (user if "@" in user else f"{user}@{options.host}")
    for text in (user, address):
        if not text or not text.isprintable() or not address.isascii():
            raise _Wrong(f"{text[:60]!a} cannot be said on one line; only ASCII addresses are tried")
    if options.password_stdin:
        try:
            password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise _Wrong("the password is not UTF-8") from None
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        raise _Wrong("no terminal to ask for the password on; give it in one line with --password-stdin")
    if not password or not password.isprintable():
        raise _Wrong("the password is empty, or cannot be said on one line")
    return Request(
        host=options.host,
        login=Login(user, password),
        address=address,
        ports=ports,
        ca=options.ca,
        unverified=options.unverified,
        plaintext=options.plaintext,
        seconds=options.timeout,
    )


def _refused(reason: str) -> int:
    sys.stderr.write(f"mailbe: {reason}\n")
    return 1
