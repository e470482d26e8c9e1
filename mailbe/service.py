"""The service: accounts, post office and maildrops behind the two protocols and the pages, on the ports asked for.

This is the only place where the protocols and what stands behind them meet.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory, IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from mailbe import expiry, holding
from mailbe.accounts import guard
from mailbe.accounts.checker import AT_ONCE, MD5Checker
from mailbe.accounts.database import Accounts
from mailbe.accounts.terms import AccountTerms
from mailbe.allowance import Allowance
from mailbe.board import Board
from mailbe.configuration import CannotStart, Configuration
from mailbe.durable import Writer
from mailbe.expiry import Expiry
from mailbe.held import Held
from mailbe.holding import Holder
from mailbe.interfaces import OffReactor, TryLater
from mailbe.journal import Journal
from mailbe.limits import Places, Turns
from mailbe.listener import Begin, Listener, accept_in_turns
from mailbe.listening import Opened
from mailbe.maildata import Unusable
from mailbe.maildir import Maildrops
from mailbe.opening import (
    announce,
    authority_certificate,
    certificate_files,
    certificate_finder,
    check_home,
    is_proxied,
    leave,
    listen,
    next_step,
    take,
    told,
)
from mailbe.pop3.session import Authorization
from mailbe.ports import IMPLICIT_TLS
from mailbe.postoffice import PostOffice
from mailbe.proxied import Proxied
from mailbe.realm import Realm
from mailbe.release import Release
from mailbe.reports import Reports
from mailbe.rooms import Rooms
from mailbe.smtp.harvest import Harvest
from mailbe.smtp.lmtp import Lmtp
from mailbe.smtp.session import Session, Settings
from mailbe.tls.certificates import Certificates
from mailbe.transport import PromptTls

if TYPE_CHECKING:
    from mailbe.web.door import WebListener
    from mailbe.web.site import Site

T = TypeVar("T")
log = Logger()

GRACE = 4.0  # seconds that a letter on its way has when the service stops
WEB = "http"
DAY = 86400  # seconds


class Serving(Service):
    """What serves clients in one process, whoever opens the ports."""

    def __init__(self, configuration: Configuration, reactor: Any, board: Board | None = None) -> None:
        """:param reactor: one with TCP, threads and a monotonic clock.
        :param board: where other processes are that serve the same clients.
        """
        self._configuration = configuration
        self._maildata = configuration.maildata
        self._reactor = reactor
        self._accounts = Accounts(self._maildata.accounts)
        self._writer = Writer(reactor.callFromThread)
        # As many as one process has are shared by all.
        self._hashing = ThreadPool(0, max(1, AT_ONCE // configuration.workers), "mailbe passwords")
        self._places = Places(configuration.limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0], board)
        self._turns = Turns(reactor)
        self._listeners: list[Listener | WebListener] = []
        self._ports: list[Opened] = []
        self._stopping = False
        self._is_first = board is None or board.is_first  # one process sees to what concerns all
        self._chores: list[tuple[LoopingCall, Deferred[LoopingCall]]] = []  # each with its end

    def furnish(self, find_certificate: Callable[[], SSL.Context], chain: Path) -> None:
        """Make what stands behind the listeners; the accounts are open.

        :param chain: the file with the certificate that is found.
        :raises Unusable:
        """
        self._chain = chain
        self._certificates = Certificates(find_certificate)
        self._begins = self._beginnings()
        if WEB in self._configuration.endpoints:
            self._remember_authority()
            self._site = self._make_site()

    def factory(self, name: str, *, proxied: bool) -> IProtocolFactory:
        """What serves the clients of a port of the listener ``name``.

        :param proxied: whether balancers pass them on.
        """
        factory = self._web_factory() if name == WEB else self._mail_factory(name)
        return Proxied(factory, self._configuration.proxy_from, self._reactor) if proxied else factory

    def _mail_factory(self, name: str) -> IProtocolFactory:
        implicit = name in IMPLICIT_TLS
        listener = Listener(
            self._begins[name],
            self._reactor,
            self._configuration.limits,
            self._places,
            self._turns,
            self._certificates,
            implicit_tls=implicit,
        )
        self._listeners.append(listener)
        return PromptTls(self._certificates, False, listener, self._reactor) if implicit else listener

    def startService(self) -> None:
        """Begin to serve: from here on there are threads, and a process with threads does not end by itself."""
        super().startService()
        self._writer.start()
        self._hashing.start()
        if self._is_first:
            self._do_every(expiry.EVERY, lambda: self._disk(self._old_letters.run), "letters did not expire")
            release = self._holder.run
            self._do_every(holding.EVERY, lambda: Deferred.fromCoroutine(release()), "held letters were not released")

    def _do_every(self, seconds: float, chore: Callable[[], Deferred[Any]], failure: str) -> None:
        # What nobody expected must not be the end of it.
        call = LoopingCall(lambda: chore().addErrback(partial(log.failure, failure)))
        call.clock = self._reactor
        self._chores.append((call, call.start(seconds)))

    def stopService(self) -> Deferred[None]:
        """Take no more clients, finish what they are at, store what has arrived."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Look at the certificate again: new connections get what is there now, if it is good."""
        try:
            self._maildata.check()  # or where it has vanished, tls would be made anew
            self._certificates.reload()
            self._remember_authority()
            log.info("the certificate is loaded anew")
        except Unusable as error:
            log.error("the certificate in use is kept: {error}", error=str(error))

    async def _stop(self) -> None:
        self._stopping = True
        self._old_letters.end()
        self._holder.end()
        for chore, _ in self._chores:
            chore.stop()
        self._checker.hurry()
        await self._close_ports()
        await gatherResults([listener.wind_up(GRACE) for listener in self._listeners])
        await gatherResults([ended for _, ended in self._chores])
        self._writer.stop()
        self._hashing.stop()
        self._accounts.close()

    async def _close_ports(self) -> None:
        """Take no more clients."""
        await gatherResults([maybeDeferred(port.stopListening) for _, port, _ in self._ports])

    def _beginnings(self) -> dict[str, Begin]:
        """How each kind of listener begins a conversation."""
        asked = self._configuration
        self._disk = disk = self._off_reactor(self._reactor.getThreadPool())
        terms = AccountTerms(self._accounts, asked.terms)
        self._old_letters = Expiry(self._maildata, terms)
        watch = guard.Guard(self._accounts, domain=asked.domains[0], limits=asked.guard)
        self._checker = MD5Checker(
            self._accounts, watch, scheme=asked.scheme, off_reactor=self._hash, clock=self._reactor
        )
        rooms = Rooms(disk)
        held = Held(self._maildata)
        office = PostOffice(
            self._maildata,
            self._accounts,
            asked.domains,
            self._writer,
            rooms,
            Allowance(held, asked.limits.held, disk, self._reactor.seconds),
            separator=asked.separator,
            quota=asked.quota,
            memory=asked.limits.memory,
        )
        reports = Reports(office, asked.domains[0])
        release = Release(office, rooms, self._writer, reports, disk)
        self._holder = Holder(held, release, disk, monotonic=self._reactor.seconds)
        portal = Portal(Realm(self._maildata, Maildrops(disk), terms, office, disk), [self._checker])
        harvest = Harvest(self._reactor)
        journal = Journal(self._reactor)

        def session(kind: type[Session] = Session, **asks: Any) -> Begin:
            settings = Settings(asked.domains[0], asked.limits, **asks)
            return lambda wire: kind(
                wire, settings, office, portal, self._offers_scram, harvest, journal, self._reactor
            )

        return {
            "smtp": session(classic=asked.classic),
            "submission": session(submission=True, classic=asked.classic),
            "submissions": session(submission=True, classic=asked.classic),
            "lmtp": session(Lmtp, networks=asked.lmtp_from),
            "pop3": lambda wire: Authorization(wire, asked.limits, portal, self._offers_scram, terms.announced),
            "pop3s": lambda wire: Authorization(wire, asked.limits, portal, self._offers_scram, terms.announced),
        }

    def _remember_authority(self) -> None:
        """Have the authority at hand that people are to trust, where we made it: later this user may not read it.

        :raises Unusable:
        """
        if self._configuration.certificate is None:
            self._authority = authority_certificate(self._chain)

    def _make_site(self) -> Site:
        # Who has no pages need not have in memory what they are made with, the rules for passwords above all.
        from mailbe.accounts.desk import Desk
        from mailbe.web.site import Site

        asked = self._configuration
        desk = Desk(
            self._maildata,
            self._accounts,
            self._checker,
            registration=asked.registration,
            domains=asked.domains,
            separator=asked.separator,
            scheme=asked.scheme,
            off_reactor=self._hash,
            clock=self._reactor,
        )
        authority = None if asked.certificate is not None else lambda: self._authority
        return Site(desk, lambda: replace(told(asked, self._ports), domains=tuple(desk.domains)), authority)

    def _web_factory(self) -> WebListener:
        from mailbe.web.door import WebListener

        listener = WebListener(self._site, self._reactor, self._places, self._turns, self._certificates)
        self._listeners.append(listener)
        return listener

    def _offers_scram(self) -> bool:
        try:
            return self._accounts.all_have_scram()
        except TryLater:  # nobody can log in now, and who tries is told so
            return False

    def _hash(self, work: Callable[[], T], /) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._hashing, self._unless_stopping, work)

    def _unless_stopping(self, work: Callable[[], T]) -> T:
        if self._stopping:  # many may stand in line
            raise TryLater("the service stops")
        return work()

    def _off_reactor(self, pool: ThreadPool) -> OffReactor:
        return partial(deferToThreadPool, self._reactor, pool)


class MailService(Serving):
    """A server that is one process."""

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        super().__init__(configuration, reactor)
        self._lock: int | None = None

    def privilegedStartService(self) -> None:
        """Take the folder, then the ports.

        :raises CannotStart:
        """
        try:
            self._lock = take(self._maildata, self._accounts)
            self.furnish(certificate_finder(self._configuration), certificate_files(self._configuration)[0])
        except Unusable as error:
            raise CannotStart(str(error)) from error
        for name, descriptions in self._configuration.endpoints.items():
            for description in descriptions:
                self._listen(name, description)

    def startService(self) -> None:
        """Begin to serve.

        :raises CannotStart:
        """
        try:
            self._maildata.prepare()  # again: twistd may have become another user since
            step = next_step(self._configuration, self._accounts, self._ports)
        except (Unusable, TryLater) as error:
            raise CannotStart(str(error)) from error
        super().startService()
        self._renewal = LoopingCall(self.reload)
        self._renewal.clock = self._reactor
        self._renewal.start(DAY, now=False)
        self._reactor.callWhenRunning(announce, self._places.all, self._configuration, self._ports, step)

    async def _stop(self) -> None:
        self._renewal.stop()
        await super()._stop()
        if self._lock is not None:
            leave(self._maildata, self._lock)

    def _listen(self, name: str, description: str) -> None:
        proxied = is_proxied(description)
        port = listen(self._configuration, self._reactor, name, description, self.factory(name, proxied=proxied))
        if IReadDescriptor.providedBy(port):  # a plugin's endpoint may bring what is no socket
            accept_in_turns(port, self._reactor)
        self._ports.append(Opened(name, port, proxied))
        check_home(self._configuration, name, description, port)
