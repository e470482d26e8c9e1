"""What is written leaves at once where the system takes it, and later where it does not; never out of order."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from mailbe.transport import PromptServer

MUCH = b"0123456789abcdef" * 500_000  # octets, more than the system takes at once


class Reactor:
    """Writes down what it is asked to look out for."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.asked = 0

    def addReader(self, reader: object) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: object) -> None:
        self.asked += 1
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:
        self.writers.discard(writer)


class Writing(SynchronousTestCase):
    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.addCleanup(self.theirs.close)
        self.addCleanup(ours.close)
        self.theirs.setblocking(False)
        self.reactor: Any = Reactor()
        server: Any = None
        self.transport = PromptServer(ours, Protocol(), ("192.0.2.1", 1), server, 0, self.reactor)

    def arrived(self) -> bytes:
        arrived = b""
        while True:
            try:
                octets = self.theirs.recv(1_000_000)
            except BlockingIOError:
                return arrived
            if not octets:
                return arrived
            arrived += octets

    def test_what_the_system_takes_leaves_at_once_and_the_reactor_is_not_asked(self) -> None:
        self.transport.write(b"250 ok\r\n")
        self.assertEqual((self.arrived(), self.reactor.asked), (b"250 ok\r\n", 0))

    def test_what_it_does_not_take_follows_in_its_order(self) -> None:
        self.transport.write(MUCH)
        self.transport.write(b"the end")
        self.assertIn(self.transport, self.reactor.writers)
        arrived = self.arrived()
        self.assertLess(len(arrived), len(MUCH))
        while self.reactor.writers:
            self.assertIsNone(self.transport.doWrite())
            arrived += self.arrived()
        self.assertTrue(arrived == MUCH + b"the end")
        self.transport.write(b"250 ok\r\n")
        self.assertEqual(self.arrived(), b"250 ok\r\n")

    def test_a_client_that_does_not_read_clogs_the_connection(self) -> None:
        paused = []

        class Producer:
            def pauseProducing(self) -> None:
                paused.append(True)

        self.transport.registerProducer(Producer(), True)
        self.transport.write(b"250 ok\r\n")
        self.assertEqual(paused, [])
        self.transport.write(MUCH)
        self.assertEqual(paused, [True])

    def test_of_a_client_that_has_gone_the_reactor_is_told(self) -> None:
        self.theirs.close()
        self.transport.write(b"250 ok\r\n")
        self.assertIn(self.transport, self.reactor.writers)
        self.assertIs(self.transport.doWrite(), CONNECTION_LOST)

    def test_nothing_is_written_when_our_end_is_closed(self) -> None:
        self.transport.loseWriteConnection()
        self.transport.doWrite()
        self.transport.write(b"250 ok\r\n")
        self.assertEqual(self.arrived(), b"")
