"""The service: accounts, post office and maildrops behind the two protocols, on the ports that were asked for.

This is the only place where the protocols and what stands behind them meet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mailbe.accounts import guard
from mailbe.accounts.checker import AT_ONCE, MD5Checker
from mailbe.accounts.database import Accounts
from mailbe.durable import Writer
from mailbe.interfaces import OffReactor, TryLater
from mailbe.limits import Limits, Places, Turns
from mailbe.listener import Begin, Listener, accept_in_turns
from mailbe.maildata import Maildata, Unusable
from mailbe.maildir import Maildrops
from mailbe.pop3.session import Authorization
from mailbe.postoffice import PostOffice
from mailbe.realm import Realm
from mailbe.smtp.harvest import Harvest
from mailbe.smtp.session import Session, Settings
from mailbe.tls.certificates import Certificates, given, made

T = TypeVar("T")
log = Logger()

GRACE = 4.0  # seconds that a letter on its way has when the service stops
DEFAULT_ENDPOINTS: Mapping[str, Sequence[str]] = {
    "smtp": ["tcp:2525:interface=127.0.0.1"],
    "submission": ["tcp:2587:interface=127.0.0.1"],
    "pop3": ["tcp:2110:interface=127.0.0.1"],
    "submissions": ["tcp:2465:interface=127.0.0.1"],
    "pop3s": ["tcp:2995:interface=127.0.0.1"],
}
IMPLICIT_TLS = ("submissions", "pop3s")  # RFC 8314 3
DAY = 86400  # seconds


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
    """Descriptions of Twisted endpoints, by listener: smtp, submission, pop3, submissions, pop3s."""
    certificate: Path | None = None
    """The server's certificate and those that signed it, as PEM; with none, one is made."""
    key: Path | None = None
    """Its key."""
    classic: bool = False
    allow_md5: bool = False
    limits: Limits = field(default_factory=Limits)
    """What clients may take of us."""
    guard: guard.Limits = field(default_factory=guard.Limits)
    """What the guard of log-ins allows."""

    @property
    def strong(self) -> bool:
        """Whether the password scheme may be used where strangers can reach us."""
        return self.scheme == "ARGON2ID"


class MailService(Service):
    """Everything that one server process does."""

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        """:param reactor: one with TCP, threads and a monotonic clock."""
        self._configuration = configuration
        self._maildata = configuration.maildata
        self._reactor = reactor
        self._accounts = Accounts(self._maildata.accounts)
        self._writer = Writer(reactor.callFromThread)
        self._hashing = ThreadPool(0, AT_ONCE, "mailbe passwords")
        self._places = Places(configuration.limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._turns = Turns(reactor)
        self._listeners: list[Listener] = []
        self._ports: list[tuple[str, IListeningPort]] = []
        self._lock: int | None = None
        self._stopping = False

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
            self._certificates = Certificates(self._find_certificate())
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
        self._renewal = LoopingCall(self.reload)
        self._renewal.clock = self._reactor
        self._renewal.start(DAY, now=False)
        # When clients are answered and signals are heeded, and not before.
        self._reactor.callWhenRunning(self._announce, step)

    def _announce(self, step: str) -> None:
        if self._places.all < self._configuration.limits.connections:
            log.info("there are descriptors for {count} connections; ulimit -n has more", count=self._places.all)
        for name, port in self._ports:
            log.info("{name} listens on {where}", name=name, where=_printed(port.getHost()))
        log.info("{step}", step=step)

    def stopService(self) -> Deferred[None]:
        """Take no more clients, finish what they are at, store what has arrived."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Look at the certificate again: new connections get what is there now, if it is good."""
        try:
            self._maildata.check()  # or where it has vanished, tls would be made anew
            self._certificates.reload()
            log.info("the certificate is loaded anew")
        except Unusable as error:
            log.error("the certificate in use is kept: {error}", error=str(error))

    async def _stop(self) -> None:
        self._renewal.stop()
        self._stopping = True
        self._checker.hurry()
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
        disk = self._off_reactor(self._reactor.getThreadPool())
        watch = guard.Guard(self._accounts, domain=asked.domains[0], limits=asked.guard)
        self._checker = MD5Checker(
            self._accounts, watch, scheme=asked.scheme, off_reactor=self._hash, clock=self._reactor
        )
        portal = Portal(Realm(self._maildata, Maildrops(disk)), [self._checker])
        harvest = Harvest(self._reactor)
        office = PostOffice(self._maildata, self._accounts, asked.domains, self._writer, asked.limits.memory)

        def session(*, submission: bool) -> Begin:
            settings = Settings(asked.domains[0], asked.limits, submission, asked.classic)
            return lambda wire: Session(wire, settings, office, portal, self._offers_scram, harvest, self._reactor)

        return {
            "smtp": session(submission=False),
            "submission": session(submission=True),
            "submissions": session(submission=True),
            "pop3": lambda wire: Authorization(wire, asked.limits, portal, self._offers_scram),
            "pop3s": lambda wire: Authorization(wire, asked.limits, portal, self._offers_scram),
        }

    def _offers_scram(self) -> bool:
        try:
            return self._accounts.all_have_scram()
        except TryLater:  # nobody can log in now, and who tries is told so
            return False

    def _find_certificate(self) -> Callable[[], SSL.Context]:
        asked = self._configuration
        if asked.certificate is not None and asked.key is not None:
            return partial(given, asked.certificate, asked.key, time.time)
        return partial(made, self._maildata.tls, asked.domains, time.time)

    def _listen(self, name: str, description: str, begin: Begin) -> None:
        option = f"--{name} {description}"
        implicit = name in IMPLICIT_TLS
        listener = Listener(
            begin,
            self._reactor,
            self._configuration.limits,
            self._places,
            self._turns,
            self._certificates,
            implicit_tls=implicit,
        )
        factory = TLSMemoryBIOFactory(self._certificates, False, listener, self._reactor) if implicit else listener
        # The endpoints of sockets listen at once; what they could not do must be known before we go on.
        outcome: list[IListeningPort | Failure] = []
        serverFromString(self._reactor, description).listen(factory).addBoth(outcome.append)
        if not outcome:
            raise CannotStart(f"{option}: this kind of endpoint cannot be used")
        port = outcome[0]
        if isinstance(port, Failure):
            error = port.value
            if not isinstance(error, (CannotListenError, OSError)):
                port.raiseException()
            raise CannotStart(f"{option}: {_reason(error)}; choose another address or port")
        if IReadDescriptor.providedBy(port):  # a plugin's endpoint may bring what is no socket
            accept_in_turns(port, self._reactor)
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

    def _hash(self, work: Callable[[], T], /) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._hashing, self._unless_stopping, work)

    def _unless_stopping(self, work: Callable[[], T]) -> T:
        if self._stopping:  # many may stand in line
            raise TryLater("the service stops")
        return work()

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
