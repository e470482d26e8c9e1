"""A whole service on a folder of its own, where all is real but the connections and the threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Port
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailbe import service
from mailbe.accounts import guard, schemes
from mailbe.configuration import Configuration
from mailbe.durable import Parcel
from mailbe.maildata import Maildata
from mailbe.service import MailService
from tests.dialogue import Transport
from tests.fakes import Pace, verifier
from tests.storage import ALICE, BOB, PromptWriter, files

PASSWORDS = {ALICE: b"white-rabbit", BOB: b"mock-turtle"}
PATIENT = guard.Limits(wrong_passwords=1_000_000, address_failures=1_000_000, slowest_answer_seconds=0)
PORTS = {"smtp": 25, "submission": 587, "pop3": 110}


class Pool:
    """A pool of threads that are none: work is done when ``pace`` lets it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def callInThreadWithCallback(self, tell: Callable[[bool, Any], object], work: Callable[..., Any], *a: Any) -> None:
        self._pace.wait().addCallback(lambda _: work(*a)).addCallbacks(
            lambda value: tell(True, value), lambda failure: tell(False, failure)
        )


class Reactor(MemoryReactorClock):
    """Lets nobody in by the ports that it opens, keeps its own time, and has no threads."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pool = Pool(pace)
        self.ports: dict[int, Port] = {}
        """By the number that was asked for; they have others."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        self.ports[port] = opened = Port(0, factory, backlog, interface, self)
        opened.startListening()
        return opened

    def close(self) -> None:
        for port in self.ports.values():
            port.stopListening()
        self.advance(0)

    def getThreadPool(self) -> Pool:
        return self._pool

    def callFromThread(self, work: Callable[..., object], *arguments: object) -> None:
        work(*arguments)


class PacedWriter(PromptWriter):
    """A writer that stores when its ``pace`` lets it."""

    def __init__(self, call_from_thread: Any, pace: Pace) -> None:
        super().__init__(call_from_thread)
        self._pace = pace

    def store(self, parcel: Parcel) -> Deferred[None]:
        return self._pace.wait().addCallback(lambda _: super(PacedWriter, self).store(parcel))


class Client:
    """One connection, from the client's end."""

    def __init__(self, premises: Premises, port: str) -> None:
        self._pace = premises.pace
        address = IPv4Address("TCP", "127.0.0.1", 4321)
        self.transport = Transport(peerAddress=address)
        self.wire = premises.factories[port].buildProtocol(address)
        self.wire.makeConnection(self.transport)

    def send(self, *segments: bytes) -> None:
        for segment in segments:
            self.wire.dataReceived(segment)

    def hear(self) -> bytes:
        """What the server has said since the last time, when all that it waits for has come."""
        while self._pace.go():
            pass
        return self.heard()

    def heard(self) -> bytes:
        """What the server has said since the last time."""
        said = self.transport.value()
        self.transport.clear()
        return bytes(said)

    def ask(self, *segments: bytes) -> bytes:
        """Send, and hear."""
        self.send(*segments)
        return self.hear()

    @property
    def open(self) -> bool:
        """Whether the server wants to go on."""
        return not (self.transport.disconnecting or self.transport.aborted)

    def lose(self) -> None:
        """The connection is lost."""
        self.wire.connectionLost(Failure(ConnectionDone()))


class Premises:
    """A service with accounts for alice and bob, as ``twistd`` would make it.

    :param slow: no disk and no thread does anything until somebody listens (``Client.hear``), or ``pace`` goes.
    :param patient: wrong passwords lock nothing and delay no answer.
    """

    def __init__(self, case: SynchronousTestCase, *, slow: bool = False, patient: bool = False) -> None:
        self.maildata = Maildata(Path(case.mktemp()) / "maildata")
        self.pace = Pace(slow=slow)
        self.reactor = Reactor(self.pace)
        self.reactor.advance(1_700_000_000.25)
        case.addCleanup(self.reactor.close)
        case.patch(service, "Writer", lambda call: PacedWriter(call, self.pace))
        case.patch(service, "ThreadPool", lambda *_: Pool(self.pace))
        endpoints = {name: [f"tcp:{port}:interface=127.0.0.1"] for name, port in PORTS.items()}
        configuration = Configuration(
            self.maildata,
            "MD5-CRYPT",
            endpoints=endpoints,
            guard=PATIENT if patient else guard.Limits(),
        )
        mail = MailService(configuration, self.reactor)
        mail.privilegedStartService()
        # All that the end of a service does would need its threads.
        case.addCleanup(mail._accounts.close)
        case.addCleanup(os.close, mail._lock)
        for address, password in PASSWORDS.items():
            mail._accounts.add(address, schemes.hash_password(password, "MD5-CRYPT"), verifier(password))
        self.factories: dict[str, Any] = {name: self.reactor.ports[port].factory for name, port in PORTS.items()}

    def connect(self, port: str) -> Client:
        """A new connection that has been greeted."""
        client = Client(self, port)
        client.hear()
        return client

    def files(self) -> list[str]:
        """All letters, in mailboxes and on their way, by path."""
        return files(self.maildata)

    def letters(self, kind: str, user: str) -> list[bytes]:
        """What lies in the mailbox ``<kind>/<user>@localhost``, oldest first."""
        mailbox = self.maildata.root / kind / f"{user}@localhost"
        return [path.read_bytes() for path in sorted(mailbox.glob("new/*"))]

    def held(self) -> tuple[int, int]:
        """How many conversations go on, and how many files and folders of maildata are open."""
        going_on = sum(len(factory.conversations) for factory in self.factories.values())
        root = self.maildata.root.resolve()
        opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
        return going_on, sum(path.is_relative_to(root) for path in opened)

    def empty(self) -> None:
        """Throw all letters away."""
        for name in self.files():
            (self.maildata.root / name).unlink()
