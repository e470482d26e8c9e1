"""Without descriptors clients wait, and nobody asks for them thirty thousand times a second."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailbe.listener import ACCEPTED_AT_ONCE, COURTESY, QUEUE, REST, accept_in_turns


class Queue:
    """A listening socket."""

    places = 50

    def listen(self, places: int) -> None:
        self.places = places


class Port:
    """A port of Twisted's, as far as it is asked for."""

    def __init__(self) -> None:
        self.socket = Queue()
        self.numberAccepts = 1
        self.connected = True
        self.reading = True
        self.accepted = 0

    def doRead(self) -> None:
        self.accepted += 1
        self.numberAccepts += 20  # what Twisted does while all that it took at once were there

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


class Rest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.port = Clock(), Port()
        accept_in_turns(self.port, self.clock)

    def none_left(self) -> Any:
        def fail(*args: object) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        return self.patch(os, "open", fail)

    def test_many_may_wait_and_few_are_taken_at_once(self) -> None:
        self.assertEqual(self.port.socket.places, QUEUE)
        for _ in range(100):
            self.port.doRead()
            self.assertLessEqual(self.port.numberAccepts - 20, ACCEPTED_AT_ONCE)

    def test_a_client_is_taken_where_there_is_one(self) -> None:
        tried: list[int] = []
        really = os.open
        self.patch(os, "open", lambda *arguments: tried.append(really(*arguments)) or tried[-1])
        for _ in range(3):
            self.port.doRead()
        self.assertEqual((self.port.accepted, self.port.reading, len(tried)), (3, True, 3))
        for descriptor in tried:
            with self.assertRaises(OSError) as closed:
                os.fstat(descriptor)
            self.assertEqual(closed.exception.errno, errno.EBADF)

    def test_without_one_the_port_rests_with_one_line_until_there_is_one(self) -> None:
        patched = self.none_left()
        with capturedLogs() as logged:
            for _ in range(3):
                self.port.doRead()
                self.assertFalse(self.port.reading)
                self.clock.advance(REST)
                self.assertTrue(self.port.reading)
        self.assertEqual([formatEvent(event) for event in logged], ["clients have to wait: Too many open files"])
        patched.restore()
        self.port.doRead()
        self.assertEqual(self.port.accepted, 1)

    def test_a_port_that_is_closed_meanwhile_stays_so(self) -> None:
        self.none_left()
        self.port.doRead()
        self.port.connected = False
        self.clock.advance(REST)
        self.assertFalse(self.port.reading)


class Courtesy(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.port, self.ahead = Clock(), Port(), True
        accept_in_turns(self.port, self.clock, 1, lambda: self.ahead)

    def test_who_is_not_ahead_takes_one_at_a_time(self) -> None:
        self.ahead = False
        for _ in range(10):
            self.port.doRead()
            self.assertEqual(self.port.numberAccepts - 20, 1)
        self.assertEqual(self.port.accepted, 10)

    def turn(self) -> None:
        """One turn of the reactor: what is called later now is for the next one, when clients were looked at."""
        due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds() + COURTESY]
        for call in due:
            work = call.func
            call.cancel()
            work()

    def test_who_is_ahead_leaves_a_client_to_others_for_a_moment_and_no_longer(self) -> None:
        self.port.doRead()
        self.assertEqual((self.port.accepted, self.port.reading), (0, False))
        self.turn()
        self.assertTrue(self.port.reading)
        self.port.doRead()  # it waits still
        self.assertEqual(self.port.accepted, 1)

    def test_the_next_one_is_left_to_others_again(self) -> None:
        self.port.doRead()
        self.turn()
        self.turn()  # others have taken it
        self.port.doRead()
        self.assertEqual((self.port.accepted, self.port.reading), (0, False))

    def test_a_port_that_is_closed_meanwhile_stays_so(self) -> None:
        self.port.doRead()
        self.port.connected = False
        self.clock.advance(COURTESY)
        self.assertFalse(self.port.reading)
