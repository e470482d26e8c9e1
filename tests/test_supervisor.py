"""What a supervisor does where its workers do not begin, and when it starts one more."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailbe import supervisor
from mailbe.configuration import CannotStart, Configuration
from mailbe.maildata import Maildata
from mailbe.supervisor import LONGEST_PAUSE, STEADY, Supervisor

HERE = "tcp:0:interface=127.0.0.1"


class Beginning(SynchronousTestCase):
    def supervisor(self, **changes: Any) -> Supervisor:
        values: dict[str, Any] = {"endpoints": {"smtp": [HERE]}, "workers": 2}
        configuration = Configuration(Maildata(Path(self.mktemp())), "MD5-CRYPT", **values | changes)
        made = Supervisor(configuration, reactor, log_to_stdout=False)
        self.addCleanup(lambda: [port.stopListening() for _, port, _ in made._ports])
        return made

    def refused(self, program: str) -> str:
        """Why there is no service where this shell script is what workers are."""
        path = Path(self.mktemp()).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o700)
        made = self.supervisor()
        made.privilegedStartService()
        self.addCleanup(os.close, made._lock)
        self.patch(sys, "executable", str(path))
        error = self.assertRaises(CannotStart, made.startService)
        for worker in made._workers.values():
            self.assertIsNotNone(worker._process.returncode, "nothing is left running")
        return str(error)

    def test_workers_that_end_at_once_are_no_service(self) -> None:
        self.assertEqual(self.refused("exit 3"), "worker 1 has ended at its start, with status 3")
        self.assertEqual(self.refused("kill -9 $$"), "worker 1 has ended at its start, with signal 9")

    def test_workers_that_never_begin_are_no_service(self) -> None:
        self.patch(supervisor, "START_SECONDS", 0.3)
        self.assertIn("worker 1 does not begin within", self.refused("exec sleep 600"))

    def test_a_port_that_wraps_its_clients_cannot_be_shared(self) -> None:
        socket = self.mktemp()[-40:].replace("/", "-")
        for endpoint in (f"unix:{socket}", f"haproxy:unix:{socket}p", "haproxy:haproxy:tcp:0:interface=127.0.0.1"):
            made = self.supervisor(endpoints={"smtp": [endpoint]})
            error = self.assertRaises(CannotStart, made.privilegedStartService)
            os.close(made._lock)
            self.assertIn(f"--smtp {endpoint}: several workers cannot share", str(error))

    def test_md5_does_not_leave_home(self) -> None:
        made = self.supervisor(endpoints={"smtp": ["tcp:0"]})
        self.assertIn("--allow-md5", str(self.assertRaises(CannotStart, made.privilegedStartService)))
        os.close(made._lock)


class Ended:
    """A worker that has lived for so many seconds."""

    number, pid, refusal, status = 0, 1, "", "signal 9"

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.ready = clock.seconds() - seconds


class Replacing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(supervisor.time, "monotonic", self.clock.seconds)
        maildata = Maildata(Path(self.mktemp()))
        maildata.prepare()
        self.supervisor = Supervisor(Configuration(maildata, "MD5-CRYPT", workers=2), self.clock, log_to_stdout=False)
        self.supervisor._board = supervisor.Board.make(2)

    def pause(self, lived: float) -> float:
        """After how long another is started in the place of one that has lived so many seconds."""
        worker: Any = Ended(self.clock, lived)
        self.supervisor._workers[0] = worker
        self.supervisor._ended(worker)
        [call] = self.clock.getDelayedCalls()
        call.cancel()
        return call.getTime() - self.clock.seconds()

    def test_at_once_and_later_if_each_dies_soon(self) -> None:
        pauses = [self.pause(STEADY - 1) for _ in range(10)]
        self.assertEqual(pauses, [0, 1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE])
        self.assertEqual([self.pause(STEADY), self.pause(1), self.pause(1)], [0, 0, 1])

    def test_what_it_left_in_the_spool_goes_and_what_others_write_stays(self) -> None:
        spool = self.supervisor._maildata.spool
        names = [f"1700000000.M000001P{process}Q000003R0123abcd.host" for process in (1, 11)]
        for name in names:
            (spool / name).write_text("half a letter")
        self.pause(1)
        self.assertEqual([path.name for path in spool.iterdir()], names[1:])

    def test_at_the_end_nobody_is_replaced(self) -> None:
        self.supervisor._stopping = True
        worker: Any = Ended(self.clock, 1)
        self.supervisor._workers[0] = worker
        self.supervisor._ended(worker)
        self.assertEqual(self.clock.getDelayedCalls(), [])
