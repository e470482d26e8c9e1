"""The service: accounts, post office and maildrops behind the two protocols, on the ports that were asked for.

This is the only place where the protocols and what stands behind them meet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailbe.accounts.checker import MD5Checker
from mailbe.accounts.database import Accounts
from mailbe.conversation import Begin, Listener
from mailbe.durable import Writer
from mailbe.interfaces import OffReactor, TryLater
from mailbe.maildata import Maildata, Unusable
from mailbe.maildir import Maildrops
from mailbe.pop3.session import Authorization
from mailbe.postoffice import PostOffice
from mailbe.realm import Realm
from mailbe.smtp.session import Session, Settings

log = Logger()

MAX_SIZE = 50 * 1024 * 1024  # octets
HASHING_THREADS = 2  # ARGON2ID takes 64 MiB in each
GRACE = 4.0  # seconds that a letter on its way has when the service stops
DEFAULT_ENDPOINTS: Mapping[str, Sequence[str]] = {
    "smtp": ["tcp:2525:interface=127.0.0.1"],
    "submission": ["tcp:2587:interface=127.0.0.1"],
    "pop3": ["tcp:2110:interface=127.0.0.1"],
}


class CannotStart(Exception):
    """The service cannot do what it was asked for; the message says why and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the operator asked for."""

    maildata: Maildata
    scheme: str
    """A password scheme of ``accounts.schemes``."""
    domains: Sequence[str] = ("localhost",)
    endpoints: Mapping[str, Sequence[str]] = field(default_factory=lambda: DEFAULT_ENDPOINTS)
    """Descriptions of Twisted endpoints, by listener: smtp, submission, pop3."""
    classic: bool = False
    allow_md5: bool = False
    max_size: int = MAX_SIZE
    """The largest letter, in octets."""

    @property
    def strong(self) -> bool:
        """Whether the password scheme may be used where strangers can reach us."""
        return self.scheme == "ARGON2ID"


class MailService(Service):
    """Everything that one server process does."""

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        """:param reactor: one with TCP, threads and time."""
        self._configuration = configuration
        self._maildata = configuration.maildata
        self._reactor = reactor
        self._accounts = Accounts(self._maildata.accounts)
        self._writer = Writer(reactor.callFromThread)
        self._hashing = ThreadPool(0, HASHING_THREADS, "mailbe passwords")
        self._listeners: list[Listener] = []
        self._ports: list[tuple[str, IListeningPort]] = []
        self._lock: int | None = None

    def privilegedStartService(self) -> None:
        """Take the folder, then the ports.

        :raises CannotStart:
        """
        try:
            self._maildata.prepare()
            self._lock = self._maildata.lock()
            if swept := self._maildata.sweep():
                log.info("swept {count} letters that were cut off", count=swept)
            self._accounts.open()
        except Unusable as error:
            raise CannotStart(str(error)) from error
        begins = self._begins()
        for name, descriptions in self._configuration.endpoints.items():
            for description in descriptions:
                self._listen(name, description, begins[name])

    def startService(self) -> None:
        """Begin to serve.

        :raises CannotStart:
        """
        try:
            self._maildata.prepare()  # again: twistd may have become another user since
            step = self._next_step()
        except (Unusable, TryLater) as error:
            raise CannotStart(str(error)) from error
        # Last, as a process with threads does not end by itself.
        super().startService()
        self._writer.start()
        self._hashing.start()
        # When clients are answered and signals are heeded, and not before.
        self._reactor.callWhenRunning(self._announce, step)

    def _announce(self, step: str) -> None:
        for name, port in self._ports:
            log.info("{name} listens on {where}", name=name, where=_printed(port.getHost()))
        log.info("{step}", step=step)

    def stopService(self) -> Deferred[None]:
        """Take no more clients, finish what they are at, store what has arrived."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await gatherResults([maybeDeferred(port.stopListening) for _, port in self._ports])
        await gatherResults([listener.wind_up(GRACE) for listener in self._listeners])
        self._writer.stop()
        self._hashing.stop()
        self._accounts.close()
        with contextlib.suppress(OSError):
            self._maildata.pid.unlink()
        if self._lock is not None:
            os.close(self._lock)

    def _begins(self) -> dict[str, Begin]:
        """How each kind of listener begins a conversation."""
        asked = self._configuration
        hashing, disk = self._off_reactor(self._hashing), self._off_reactor(self._reactor.getThreadPool())
        checker = MD5Checker(self._accounts, scheme=asked.scheme, off_reactor=hashing, clock=self._reactor)
        portal = Portal(Realm(self._maildata, Maildrops(disk)), [checker])
        office = PostOffice(self._maildata, self._accounts, asked.domains, self._writer, self._reactor)

        def session(*, submission: bool) -> Begin:
            settings = Settings(asked.domains[0], asked.max_size, submission, asked.classic)
            return lambda wire: Session(wire, settings, office, portal, self._reactor)

        return {
            "smtp": session(submission=False),
            "submission": session(submission=True),
            "pop3": lambda wire: Authorization(wire, portal),
        }

    def _listen(self, name: str, description: str, begin: Begin) -> None:
        option = f"--{name} {description}"
        listener = Listener(begin, self._reactor)
        # The endpoints of sockets listen at once; what they could not do must be known before we go on.
        outcome: list[IListeningPort | Failure] = []
        serverFromString(self._reactor, description).listen(listener).addBoth(outcome.append)
        if not outcome:
            raise CannotStart(f"{option}: this kind of endpoint cannot be used")
        port = outcome[0]
        if isinstance(port, Failure):
            error = port.value
            if not isinstance(error, (CannotListenError, OSError)):
                port.raiseException()
            raise CannotStart(f"{option}: {_reason(error)}; choose another address or port")
        self._ports.append((name, port))
        self._listeners.append(listener)
        if not (self._configuration.strong or self._configuration.allow_md5 or _is_at_home(port.getHost())):
            raise CannotStart(
                f"{option}: MD5 is too weak for a server that others can reach; "
                "say --password-scheme argon2id, or --allow-md5 if you must"
            )

    def _next_step(self) -> str:
        if self._accounts.empty():
            # In a virtual environment that is not activated, the command's name alone leads nowhere.
            command = "mailbe" if shutil.which("mailbe") else Path(sys.executable).with_name("mailbe")
            return f"next: {command} --maildata {self._maildata.root} user add you@{self._configuration.domains[0]}"
        return "next: set up your mail program; README.md has the values for Thunderbird"

    def _off_reactor(self, pool: ThreadPool) -> OffReactor:
        return partial(deferToThreadPool, self._reactor, pool)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    return getattr(error, "strerror", None) or str(error)


def _is_at_home(here: IAddress) -> bool:
    """Whether only programs on this machine can reach this address."""
    if isinstance(here, (IPv4Address, IPv6Address)):
        return ipaddress.ip_address(here.host.partition("%")[0]).is_loopback
    return True


def _printed(here: IAddress) -> str:
    if isinstance(here, IPv6Address):
        return f"[{here.host}]:{here.port}"
    if isinstance(here, IPv4Address):
        return f"{here.host}:{here.port}"
    return os.fsdecode(here.name or b"") if isinstance(here, UNIXAddress) else str(here)
