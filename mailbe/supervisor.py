"""The service of ``--workers N``: one process holds the folder and the ports, and N others serve.

The supervisor takes maildata, opens the ports and never accepts a client. It starts each worker (``worker.py``) as a
fresh interpreter that inherits the ports' descriptors, so clients go to whoever is idle, and wait in one queue while
a worker that has died is replaced. What a dead worker left in the spool is swept, and its connections are taken off
the board, before another takes its place.
"""

from __future__ import annotations

import os
import resource
import time
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall
from twisted.internet.tcp import Port
from twisted.logger import Logger

from mailbe.accounts.database import Accounts
from mailbe.board import Board
from mailbe.configuration import CannotStart, Configuration
from mailbe.crew import Door, Reload, Stop, Task
from mailbe.interfaces import TryLater
from mailbe.limits import Places
from mailbe.listening import Opened
from mailbe.maildata import Unusable
from mailbe.opening import (
    announce,
    certificate_files,
    certificate_finder,
    check_home,
    is_proxied,
    leave,
    listen,
    next_step,
    take,
)
from mailbe.process import Worker
from mailbe.service import DAY
from mailbe.tls.certificates import Certificates

START_SECONDS = 60.0  # the most that the start of a worker may take
STEADY = 10.0  # seconds of service after which a worker's end is nothing to be careful about
LONGEST_PAUSE = 60.0  # seconds before one more is started

log = Logger()


class Supervisor(Service):
    """Starts workers, replaces those that die, and stops them all."""

    def __init__(self, configuration: Configuration, reactor: Any, *, log_to_stdout: bool) -> None:
        """:param reactor: one with TCP and a monotonic clock.
        :param log_to_stdout: whether the log is the standard output, so that workers can write there by themselves.
        """
        self._configuration = configuration
        self._maildata = configuration.maildata
        self._reactor = reactor
        self._log_to_stdout = log_to_stdout
        self._accounts = Accounts(self._maildata.accounts)
        self._ports: list[Opened] = []
        self._doors: list[Door] = []
        self._lock = -1
        self._copies = (os.memfd_create("mailbe-certificate"), os.memfd_create("mailbe-key"))
        self._workers: dict[int, Worker] = {}
        self._to_start: dict[int, IDelayedCall] = {}
        self._short_lives = [0] * configuration.workers
        self._stopping = False

    def privilegedStartService(self) -> None:
        """Take the folder, then the ports.

        :raises CannotStart:
        """
        try:
            self._lock = take(self._maildata, self._accounts)
            self._certificates = Certificates(certificate_finder(self._configuration))
            self._copy_certificate()
        except Unusable as error:
            raise CannotStart(str(error)) from error
        for name, descriptions in self._configuration.endpoints.items():
            for description in descriptions:
                self._listen(name, description)

    def startService(self) -> None:
        """Have clients served.

        :raises CannotStart:
        """
        self._board = Board.make(self._configuration.workers)
        try:
            self._maildata.prepare()  # again: twistd may have become another user since
            step = next_step(self._configuration, self._accounts, self._ports)
            for number in range(self._configuration.workers):
                self._workers[number] = self._start(number)
            for worker in self._workers.values():
                worker.wait(START_SECONDS)
        except (Unusable, TryLater, OSError) as error:
            self._give_up()
            raise CannotStart(str(error)) from error
        except CannotStart:
            self._give_up()
            raise
        super().startService()
        for worker in self._workers.values():
            self._watch(worker)
        self._renewal = LoopingCall(self.reload)
        self._renewal.clock = self._reactor
        self._renewal.start(DAY, now=False)
        places = Places(self._configuration.limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0], self._board)
        self._reactor.callWhenRunning(announce, places.all, self._configuration, self._ports, step)

    def stopService(self) -> Deferred[None]:
        """Have all workers take no more clients, finish what those are at, and end."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Look at the certificate again, and have the workers do the same."""
        try:
            self._maildata.check()  # or where it has vanished, tls would be made anew
            self._certificates.reload()
            self._copy_certificate()
        except Unusable as error:
            log.error("the certificate in use is kept: {error}", error=str(error))
            return
        for worker in self._workers.values():
            worker.tell(Reload())

    async def _stop(self) -> None:
        self._stopping = True
        self._renewal.stop()
        for call in self._to_start.values():
            call.cancel()
        workers = list(self._workers.values())
        for worker in workers:
            worker.tell(Stop())
        # Not before they have: to close a port of ours is to close it for all, whoever waits for clients there.
        await gatherResults([worker.deaf for worker in workers])
        await gatherResults([maybeDeferred(port.stopListening) for _, port, _ in self._ports])
        await gatherResults([worker.ended for worker in workers])
        leave(self._maildata, self._lock)

    def _listen(self, name: str, description: str) -> None:
        factory = ServerFactory()
        factory.noisy = False
        port: Any = listen(self._configuration, self._reactor, name, description, factory)
        self._ports.append(Opened(name, port, is_proxied(description)))
        # What wraps the factory (TLS) would be left out, and who closes a UNIX socket removes it.
        if type(port) is not Port or port.factory is not factory:
            raise CannotStart(f"--{name} {description}: several workers cannot share this kind of endpoint; use tcp")
        port.stopReading()
        self._doors.append(Door(name, port.fileno(), port.addressFamily, is_proxied(description)))
        check_home(self._configuration, name, description, port)

    def _copy_certificate(self) -> None:
        """Give the workers what is good.

        :raises Unusable:
        """
        for path, copy in zip(certificate_files(self._configuration), self._copies, strict=True):
            try:
                octets = path.read_bytes()
            except OSError as error:  # it was there a moment ago
                raise Unusable(f"{path}: {error.strerror}") from error
            os.ftruncate(copy, 0)
            os.pwrite(copy, octets, 0)

    def _start(self, number: int) -> Worker:
        """:raises OSError:"""
        board = self._board.handle
        task = Task(
            number, self._configuration, tuple(self._doors), self._copies, self._lock, board, self._log_to_stdout
        )
        doors = [door.descriptor for door in self._doors]
        return Worker(task, [*doors, *self._copies, self._lock, board.descriptor])

    def _watch(self, worker: Worker) -> None:
        worker.watch(self._reactor)
        worker.ended.addCallback(self._ended)

    def _give_up(self) -> None:
        for worker in self._workers.values():
            worker.kill()

    def _ended(self, worker: Worker) -> None:
        del self._workers[worker.number]
        name = f"worker {worker.number + 1} (process {worker.pid})"
        if self._stopping:
            return
        log.error("{name} has ended, {why}", name=name, why=worker.refusal or f"with {worker.status}")
        self._board.wipe(worker.number)
        try:
            if swept := self._maildata.sweep(worker.pid):
                log.info("swept {count} letters that {name} has left", count=swept, name=name)
        except Unusable as error:
            log.error("what {name} has left in the spool stays until the next start: {why}", name=name, why=str(error))
        steady = worker.ready is not None and time.monotonic() - worker.ready >= STEADY
        self._short_lives[worker.number] = 0 if steady else self._short_lives[worker.number] + 1
        self._replace(worker.number)

    def _replace(self, number: int) -> None:
        """Start one more, the first time at once; where each dies soon, after ever longer pauses."""
        short = self._short_lives[number]
        pause = min(2.0 ** (short - 2), LONGEST_PAUSE) if short > 1 else 0.0
        self._to_start[number] = self._reactor.callLater(pause, self._start_again, number)

    def _start_again(self, number: int) -> None:
        del self._to_start[number]
        try:
            worker = self._start(number)
        except OSError as error:
            log.error("worker {number} cannot be started: {why}", number=number + 1, why=error.strerror)
            self._short_lives[number] += 1
            self._replace(number)
            return
        self._workers[number] = worker
        self._watch(worker)
