"""``twistd mailbe``: its options, and the service they make."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ReactorNotRunning
from twisted.python import usage

from mailbe import peers
from mailbe.accounts import guard, schemes
from mailbe.address import ascii_domain, is_domain
from mailbe.configuration import DEFAULT_ENDPOINTS, REGISTRATION, SEPARATORS, CannotStart, Configuration
from mailbe.interfaces import Quota, Terms
from mailbe.limits import OTHERS_CONNECTIONS, Limits
from mailbe.maildata import Maildata
from mailbe.opening import is_proxied
from mailbe.service import MailService
from mailbe.supervisor import Supervisor

REFUSED, WRONG_USAGE = 1, 2  # exit statuses
MOST_WORKERS = 256
EXAMPLES = {listener: endpoints[0] for listener, endpoints in DEFAULT_ENDPOINTS.items()} | {
    "http": "tcp:2080:interface=127.0.0.1",
    "lmtp": "unix:lmtp:mode=660",
}


def stop(status: int, message: object) -> NoReturn:
    """End with one line that says why. When this is called, ``sys.stderr`` may be the log already."""
    print(f"mailbe: {message}", file=sys.__stderr__)
    raise SystemExit(status)


# What the guard of log-ins allows: option and meaning of each field of its Limits.
GUARD = {
    field.name.replace("_", "-"): (field.default, meaning)
    for field, meaning in zip(
        fields(guard.Limits),
        (
            "So many different wrong passwords in a row lock an account",
            "So many seconds a first lock holds; each further one twice as long",
            "So many seconds the longest lock holds",
            "So many different failed log-ins within an hour, over all accounts, block an address",
            "So many days after a good log-in an address has a count of its own for that account",
            "Addresses that fail are answered up to so many seconds late",
        ),
        strict=True,
    )
}

# What a client may take of us: option, least value and meaning of each field of Limits.
LIMITS = {
    option: (field, least, meaning)
    for field, (option, least, meaning) in zip(
        fields(Limits),
        (
            ("max-connections", 1, "So many connections are taken, on all ports together"),
            (
                "max-connections-per-address",
                1,
                f"So many of one address [default: {OTHERS_CONNECTIONS}, and no such limit for this machine]",
            ),
            ("max-errors", 1, "Who has made so many mistakes without sending or fetching a letter is hung up on"),
            ("max-idle-commands", 1, "The same for commands without effect; a letter's recipients come on top"),
            ("max-logins", 1, "So many tries to log in has a connection"),
            ("letter-seconds", 1, "So long may a client take to send its first, or its next, letter"),
            ("max-recipients", 100, "So many recipients of a letter are taken"),
            ("max-size", 1, "The largest letter that is taken, in octets"),
            ("max-memory", 4096, "So many octets of a letter, or of replies, a connection keeps in memory"),
            ("max-held", 1, "So many letters of an account are held at a time, until they are to be released"),
        ),
        strict=True,
    )
}


class Options(usage.Options):
    """The options of ``twistd mailbe``."""

    synopsis = "[options]"
    optFlags = [
        ["classic", None, "EHLO is not known, and clients on this machine are believed to be who they say"],
        ["allow-md5", None, "Listen on other addresses than loopback though passwords are hashed with MD5"],
    ]
    optParameters = [
        ["maildata", None, "maildata", "The folder that holds mail and accounts; made when missing"],
        ["certificate", None, None, "The server's certificate and those that signed it, as PEM; else one is made"],
        ["key", None, None, "The key of the certificate, as PEM"],
        ["registration", None, "closed", f"Who may register by himself with --http: {', '.join(REGISTRATION)}"],
        ["separator", None, "+", f"What stands between a name and its tag: {', '.join(SEPARATORS)}"],
        ["quota-octets", None, None, "So many octets may lie in a mailbox, unless its account has a quota of its own"],
        ["quota-letters", None, None, "The same for letters"],
        ["workers", None, "1", "So many processes serve clients"],
        ["login-delay", None, "0", "So many seconds lie between two log-ins to one maildrop over POP3"],
        ["expire", None, "never", "Letters are deleted after so many days, or never"],
        ["password-scheme", None, schemes.DEFAULT, f"How passwords are hashed: {' or '.join(schemes.CHOICES)}"],
        *([name, None, str(default), meaning] for name, (default, meaning) in GUARD.items()),
        *(
            [name, None, None if field.default is None else str(field.default), meaning]
            for name, (field, _, meaning) in LIMITS.items()
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self["domain"] = []
        self["endpoints"] = {}
        self["lmtp-from"] = []
        self["proxy-from"] = []

    def opt_domain(self, name: str) -> None:
        """A domain that is served here; may be given again. The first is the server's name [default: localhost]"""
        if name.startswith("[") or not is_domain(name):
            raise usage.UsageError(f"--domain {name!a}: this is not the name of a domain")
        self["domain"].append(ascii_domain(name))

    def _endpoint(self, listener: str, description: str) -> None:
        from twisted.internet import reactor

        try:
            serverFromString(reactor, description)
        except (ValueError, TypeError, LookupError) as error:
            raise usage.UsageError(
                f"--{listener} {description!a}: {error}; say, for example, {EXAMPLES[listener]}"
            ) from None
        self["endpoints"].setdefault(listener, []).append(description)

    def opt_smtp(self, endpoint: str) -> None:
        """Where mail arrives, as a Twisted endpoint; may be given again [default: tcp:2525:interface=127.0.0.1]"""
        self._endpoint("smtp", endpoint)

    def opt_submission(self, endpoint: str) -> None:
        """Where users send from, after log-in; may be given again [default: tcp:2587:interface=127.0.0.1]"""
        self._endpoint("submission", endpoint)

    def opt_pop3(self, endpoint: str) -> None:
        """Where users fetch their mail; may be given again [default: tcp:2110:interface=127.0.0.1]"""
        self._endpoint("pop3", endpoint)

    def opt_submissions(self, endpoint: str) -> None:
        """The same as submission, in TLS from the first octet [default: tcp:2465:interface=127.0.0.1]"""
        self._endpoint("submissions", endpoint)

    def opt_pop3s(self, endpoint: str) -> None:
        """The same as pop3, in TLS from the first octet [default: tcp:2995:interface=127.0.0.1]"""
        self._endpoint("pop3s", endpoint)

    def opt_http(self, endpoint: str) -> None:
        """Where people register, change their password and see how to set up Thunderbird, with TLS and, for this
        machine, without; may be given again [default: nowhere]"""
        self._endpoint("http", endpoint)

    def opt_lmtp(self, endpoint: str) -> None:
        """Where another mail server hands letters over, by LMTP; may be given again [default: none]"""
        self._endpoint("lmtp", endpoint)

    def opt_lmtp_from(self, network: str) -> None:
        """A network that may do so, beside this machine; may be given again"""
        self._network("lmtp-from", network)

    def opt_proxy_from(self, network: str) -> None:
        """Where the balancers are before endpoints that begin with haproxy: ; may be given again"""
        self._network("proxy-from", network)

    def _network(self, option: str, text: str) -> None:
        try:
            self[option].append(peers.network(text))
        except ValueError as error:
            raise usage.UsageError(f"--{option} {text!a}: {error}; say, for example, 192.0.2.0/24") from None

    def parseOptions(self, options: Any = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            stop(WRONG_USAGE, error)

    def parseArgs(self) -> None:
        """There are options only."""

    def postOptions(self) -> None:
        if (self["certificate"] is None) != (self["key"] is None):
            raise usage.UsageError("--certificate and --key: give both, or neither")
        if not self["maildata"]:
            raise usage.UsageError("--maildata is empty: name a folder")
        proxied = [each for endpoints in self["endpoints"].values() for each in endpoints if is_proxied(each)]
        if bool(proxied) != bool(self["proxy-from"]):
            raise usage.UsageError("--proxy-from NETWORK and an endpoint that begins with haproxy: need one another")
        if self["lmtp-from"] and "lmtp" not in self["endpoints"]:
            raise usage.UsageError("--lmtp-from is of use with --lmtp only")
        if self["password-scheme"] not in schemes.CHOICES:
            raise usage.UsageError(
                f"--password-scheme {self['password-scheme']!a}: choose {' or '.join(schemes.CHOICES)}"
            )
        if self["registration"] not in REGISTRATION:
            raise usage.UsageError(f"--registration {self['registration'][:40]!a}: choose {', '.join(REGISTRATION)}")
        if self["registration"] != "closed" and "http" not in self["endpoints"]:
            raise usage.UsageError(
                f"--registration {self['registration']}: without --http nobody can register; "
                f"say --http {EXAMPLES['http']}"
            )
        if self["separator"] not in SEPARATORS:
            raise usage.UsageError(f"--separator {self['separator'][:40]!a}: choose {', '.join(SEPARATORS)}")
        for name in ("quota-octets", "quota-letters"):
            if self[name] is not None:
                self._check_number(name, 1)
        for name in GUARD:
            self._check_number(name, 0 if name == "slowest-answer-seconds" else 1)
        for name, (_, least, _) in LIMITS.items():
            if self[name] is not None:
                self._check_number(name, least)
        self._check_number("login-delay", 0)
        if self["expire"] != "never":
            self._check_number("expire", 1)
        self._check_number("workers", 1)
        if int(self["workers"]) > MOST_WORKERS:
            raise usage.UsageError(f"--workers {self['workers']}: give {MOST_WORKERS} at most")
        if self.parent is not None and self.parent["pidfile"] == "twistd.pid":
            # The lock on maildata tells two servers on one folder, and who holds it; a file in the current
            # folder would only keep a server with a folder of its own from being started here.
            self.parent["pidfile"] = ""

    def _check_number(self, name: str, least: int) -> None:
        if not re.fullmatch("[0-9]{1,18}", self[name]) or int(self[name]) < least:
            raise usage.UsageError(f"--{name} {self[name][:40]!a}: give a number, {least} at least")

    def _all_endpoints(self) -> Mapping[str, Sequence[str]]:
        """Those given; with pages and nothing else, mail is had where it is without them."""
        given: Mapping[str, Sequence[str]] = self["endpoints"]
        return given if set(given) - {"http"} else {**DEFAULT_ENDPOINTS, **given}

    def configuration(self) -> Configuration:
        return Configuration(
            # twistd may change its folder when it goes to the background.
            maildata=Maildata(Path(self["maildata"]).absolute()),
            scheme=schemes.CHOICES[self["password-scheme"]],
            domains=self["domain"] or ["localhost"],
            endpoints=self._all_endpoints(),
            certificate=self["certificate"] and Path(self["certificate"]).absolute(),
            key=self["key"] and Path(self["key"]).absolute(),
            classic=bool(self["classic"]),
            allow_md5=bool(self["allow-md5"]),
            registration=self["registration"],
            limits=Limits(
                **{field.name: int(self[name]) for name, (field, _, _) in LIMITS.items() if self[name] is not None}
            ),
            guard=guard.Limits(*(int(self[name]) for name in GUARD)),
            terms=Terms(
                None if self["expire"] == "never" else int(self["expire"]),
                int(self["login-delay"]),
            ),
            lmtp_from=self["lmtp-from"],
            proxy_from=self["proxy-from"],
            separator=SEPARATORS[self["separator"]],
            quota=Quota(*(self[name] and int(self[name]) for name in ("quota-octets", "quota-letters"))),
            workers=int(self["workers"]),
        )


class InForeground:
    """Of a service of ``twistd -n``: what stops it from starting is told on the terminal."""

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()  # type: ignore[misc]
        except CannotStart as error:
            stop(REFUSED, error)

    def startService(self) -> None:
        try:
            super().startService()  # type: ignore[misc]
        except CannotStart as error:
            stop(REFUSED, error)


class ForegroundService(InForeground, MailService):
    """One process."""


class ForegroundSupervisor(InForeground, Supervisor):
    """Several."""


def makeService(options: Options) -> MailService | Supervisor:
    """The service that ``options`` ask for."""
    from twisted.internet import reactor

    steady_clock(reactor)
    raise_descriptors()
    parent = options.parent
    foreground = parent is not None and bool(parent["nodaemon"])
    configuration = options.configuration()
    service: MailService | Supervisor
    if configuration.workers == 1:
        service = (ForegroundService if foreground else MailService)(configuration, reactor)
    else:
        made = ForegroundSupervisor if foreground else Supervisor
        service = made(configuration, reactor, log_to_stdout=foreground and logs_to_stdout(parent))
    reactor.callWhenRunning(watch_signals, reactor, service)
    return service


def logs_to_stdout(twistd: Any) -> bool:
    """Whether the log of a service in the foreground is its standard output."""
    return twistd["logfile"] in (None, "-") and not twistd["syslog"] and not twistd["logger"]


def steady_clock(reactor: Any) -> None:
    """Let the reactor measure with a clock that nobody sets: by the time of day time-outs fire at once, or never."""
    reactor.seconds = time.monotonic


def raise_descriptors() -> None:
    """Have as many descriptors as this user may have: every connection takes one, and many systems begin with 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def watch_signals(reactor: Any, service: MailService | Supervisor) -> None:
    """SIGHUP looks at the certificate again; SIGTERM and SIGINT stop the service, with status 0.

    With Twisted's own handlers, a service that was asked to stop ends as if the signal had killed it.
    """

    def stop_reactor() -> None:
        with contextlib.suppress(ReactorNotRunning):  # it is stopping already
            reactor.stop()

    for number, work in (
        (signal.SIGHUP, service.reload),
        (signal.SIGTERM, stop_reactor),
        (signal.SIGINT, stop_reactor),
    ):
        signal.signal(number, lambda *_, work=work: reactor.callFromThread(work))
