"""Whatever clients do, together and in any order: all is answered, what was promised holds, and nothing is left."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tests.end_to_end.server import PROTOCOLS
from tests.fuzz.login import POP3_MECHANISMS, SMTP_MECHANISMS
from tests.fuzz.machine import Machine
from tests.fuzz.worlds import prepare

EXAMPLES = 100
STEPS = 40

LETTER = b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<alice@localhost>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\nHello\r\n.\r\n"
HELD = b"EHLO me\r\nMAIL FROM:<%b> HOLDFOR=60\r\nRCPT TO:<bob@localhost>\r\nDATA\r\nHello\r\n.\r\n"
LOG_IN = b"USER alice\r\nPASS secret\r\n"

log = Logger()


class Stateful(SynchronousTestCase):
    def setUp(self) -> None:
        self.reached: Counter[str] = Counter()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        prepare(folder / "template")
        names = {"folder": folder, "patch": self.patch, "reached": self.reached}
        self.machine: type[Machine] = type("Fuzzer", (Machine,), names)
        gc.collect()
        self.addCleanup(gc.unfreeze)

    def test_any_clients_in_any_order(self) -> None:
        some = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(self.machine, settings=some)
        except Exception as error:
            raise AssertionError("\n".join([repr(error), *getattr(error, "__notes__", ())])) from error
        finally:
            self.flushLoggedErrors()  # the machine has judged them
        log.info("reached: {reached}", reached=dict(self.reached))
        self.assertLessEqual({"letter stored", "letter refused", "letter fetched"}, self.reached.keys())

    def test_the_machine_reaches_all_that_it_is_for(self) -> None:
        for real in (True, False):
            self.reached.clear()
            self.play(real=real)
            self.assertLessEqual(
                {
                    "letter stored",
                    "letter refused",
                    "letter fetched",
                    "letter stored, and its sender gone",
                    "letter held",
                    *(["letter released"] if real else []),
                    "deletion done",
                    "maildrop in use",
                    *(f"TLS on: {port}" for port in ("smtp", "submission", "pop3", "submissions", "pop3s")),
                    *(f"log-in: submission {mechanism}" for mechanism in SMTP_MECHANISMS),
                    *(f"log-in: pop3 {mechanism}" for mechanism in POP3_MECHANISMS),
                },
                self.reached.keys(),
            )

    def play(self, *, real: bool) -> None:
        """A little of everything, in an order in which it works."""
        random = Random(4)
        machine = self.machine()
        machine.begin(real=real, lenient=True, classic=False, letters=3, storage=11)
        for port in PROTOCOLS:
            for mechanism in POP3_MECHANISMS if port.startswith("pop3") else SMTP_MECHANISMS:
                client = machine.begin_session(port)
                if not client.transport.shaking_hands:
                    client.say(b"STLS\r\n" if port == "pop3" else b"STARTTLS\r\n")
                client.shake_hands()
                machine.try_log_in(client, random, mechanism, honest=True)
                client.lose()
        sender = machine.begin_session("smtp")
        sender.say(LETTER)
        sender.say(LETTER.replace(b"Hello", b"Hel\nlo"))
        machine.disturb("slow", 0)
        sender.say(LETTER)
        sender.lose()
        machine.disturb("fast", 0)
        submitter = machine.begin_session("submission")
        submitter.say(b"STARTTLS\r\n")
        submitter.shake_hands()
        machine.try_log_in(submitter, Random(0), "PLAIN", honest=True)
        submitter.say(HELD % submitter.account.encode())
        machine.nothing_is_lost_or_made_up()
        machine.pass_time(100)
        one, other = machine.begin_session("pop3"), machine.begin_session("pop3")
        one.say(LOG_IN + b"RETR 1\r\nDELE 1\r\n")
        other.say(LOG_IN)
        one.say(b"QUIT\r\n")
        machine.nothing_is_lost_or_made_up()
        machine.teardown()
