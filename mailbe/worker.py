"""One worker of a server with ``--workers``: ``python -m mailbe.worker DESCRIPTOR``, as the supervisor starts it.

The descriptor is the line to the supervisor (``crew.py``). It serves clients as a server of one process does, on ports
that the supervisor has opened. When the line ends the supervisor has died, and the worker stops in order: it has
inherited the lock on maildata, so that no other server begins before it is gone.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import LogEvent, Logger, eventAsText, formatEventAsClassicLogText, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from mailbe.board import Board
from mailbe.configuration import CannotStart
from mailbe.crew import Deaf, Logged, Ready, Refused, Reload, Stop, Task
from mailbe.interfaces import TryLater
from mailbe.listener import accept_in_turns
from mailbe.listening import Opened
from mailbe.maildata import Maildata, Unusable
from mailbe.service import Serving
from mailbe.tap import steady_clock
from mailbe.tls.certificates import copied

ACCEPTED_AT_ONCE = 1  # connection, before another worker may have the next
log = Logger()


class WorkerService(Serving):
    """What one worker does."""

    def __init__(self, task: Task, line: Line, reactor: Any) -> None:
        self._board = Board(task.board, task.number)
        super().__init__(task.configuration, reactor, self._board)
        self._task = task
        self._line = line

    def startService(self) -> None:
        """Begin to serve.

        :raises CannotStart:
        """
        try:
            # It may begin when the others have served for weeks, and must make nothing where a disk has gone.
            check_place(self._maildata, self._task.lock)
            self._accounts.open()
            chain, key = (Path(f"/dev/fd/{number}") for number in self._task.certificate)
            self.furnish(partial(copied, chain, key), chain)
        except (Unusable, TryLater) as error:
            raise CannotStart(str(error)) from error
        for door in self._task.doors:
            port = self._reactor.adoptStreamPort(
                door.descriptor, door.family, self.factory(door.listener, proxied=door.proxied)
            )
            os.close(door.descriptor)  # the port has one of its own
            accept_in_turns(port, self._reactor, ACCEPTED_AT_ONCE, self._board.is_ahead)
            self._ports.append(Opened(door.listener, port, door.proxied))
        self._board.serve()
        super().startService()

    async def _close_ports(self) -> None:
        await super()._close_ports()
        self._line.say(Deaf())


def check_place(maildata: Maildata, lock: int) -> None:
    """See that what is there now is what ``lock`` was taken on.

    :raises Unusable:
    """
    maildata.check()
    try:
        if not os.path.samestat(os.fstat(lock), maildata.root.stat()):
            raise Unusable(f"{maildata.root}: this is not the folder that the server began with; put that back")
        maildata.accounts.stat()
    except OSError as error:
        raise Unusable(f"{error.filename}: {error.strerror}; put it back") from error


@implementer(IReadDescriptor)
class Line:
    """The worker's end of the line."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)
        os.dup(descriptor)  # so it is the process's end that ends the line, and nothing before that
        self._one_at_a_time = Lock()
        self._orders: dict[type, Any] = {}

    def receive(self) -> Any:
        """The next word of the supervisor's.

        :raises EOFError, OSError: where it has died.
        """
        return self._connection.recv()

    def say(self, word: object) -> None:
        """Tell the supervisor, if it lives. Any thread may."""
        with suppress(OSError), self._one_at_a_time:
            self._connection.send(word)

    def obey(self, reactor: Any, service: Serving) -> None:
        """Do from now on what the supervisor says."""
        self._reactor = reactor
        self._orders = {Reload: service.reload, Stop: partial(end, reactor)}
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._connection.fileno()

    def logPrefix(self) -> str:
        return "line"

    def doRead(self) -> None:
        try:
            word = self.receive()
        except (EOFError, OSError):
            self._reactor.removeReader(self)
            log.error("the supervisor has died: this worker ends")
            word = Stop()
        self._orders[type(word)]()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""


def end(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # it is stopping already
        reactor.stop()


def tell(line: Line, event: LogEvent) -> None:
    """Have the supervisor write it into the log."""
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    level, namespace = event.get("log_level"), event.get("log_namespace")
    line.say(
        Logged(event["log_time"], namespace or "-", level.name if level else "info", event.get("log_system"), text)
    )


def write(event: LogEvent) -> None:
    """Write it to the standard output, as twistd does, and whole, as others write there too."""
    text = formatEventAsClassicLogText(event) or ""
    octets = text.encode(errors="backslashreplace")
    with suppress(OSError):
        while octets:
            # What is longer may be broken where the output is a pipe (pipe(7)); then at the end of a line.
            cut = len(octets) if len(octets) <= select.PIPE_BUF else octets.rfind(b"\n", 0, select.PIPE_BUF) + 1
            octets = octets[os.write(1, octets[: cut or select.PIPE_BUF]) :]


def main() -> int:
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    line = Line(int(sys.argv[1]))
    try:
        task = line.receive()
    except (EOFError, OSError):
        return 1
    steady_clock(reactor)
    service = WorkerService(task, line, reactor)
    try:
        service.startService()
    except CannotStart as error:
        line.say(Refused(str(error)))
        return 1
    # What was logged until now says what the supervisor has said already.
    observer: Any = write if task.log_to_stdout else partial(tell, line)
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    line.obey(reactor, service)
    # The supervisor has blocked SIGINT and SIGHUP here: they are its own to heed, also where a terminal sends them
    # to all of us.
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(end, reactor))
    reactor.callWhenRunning(line.say, Ready())
    reactor.run(installSignalHandlers=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
