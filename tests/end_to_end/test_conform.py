"""``mailbe conform`` on mailbe itself: every rule is kept, and nothing is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from tests.end_to_end.letters import maildrop, send
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    EndToEndTestCase,
    Server,
    environment,
    eventually,
    mailbe,
)

SECONDS = 900  # a run waits for slow answers to wrong passwords


def command(server: Server, *options: str) -> list[str]:
    """The arguments of a run as alice, on all ports."""
    ports = [word for name, port in server.ports.items() for word in (f"--{name}", str(port))]
    return ["conform", "localhost", "--user", ALICE, "--password-stdin", "--ca", str(server.ca), *ports, *options]


def started(server: Server, *options: str) -> subprocess.Popen[str]:
    """A run that has heard the password."""
    program = [sys.executable, "-c", "from mailbe.cli import main; raise SystemExit(main())"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*program, *command(server, *options)], env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdin
    process.stdin.write(f"{PASSWORDS[ALICE]}\n")
    process.stdin.flush()
    return process


class Conformance(EndToEndTestCase):
    def test_no_rule_is_broken_and_nothing_is_left(self) -> None:
        server = self.serve()
        send(server.submission, BOB, [ALICE], b"Subject: private\r\n\r\nNothing for a program.\r\n")
        with started(server, "--json") as process:
            out, err = process.communicate(timeout=SECONDS)
        self.assertEqual(err, "")
        checks = json.loads(out)["checks"]
        broken = [
            f"{check['listener']}, {check['section']}: {check['rule']} {check['sent']}: {check['came']}"
            for check in checks
            if check["verdict"] == "failed"
        ]
        self.assertEqual(broken, [])
        unclear = [f"{check['name']}: {check['reason']}" for check in checks if check["verdict"] == "unclear"]
        self.assertEqual(unclear, [])
        self.assertEqual({check["listener"] for check in checks}, set(server.ports))
        self.assertEqual(process.returncode, 0)
        with maildrop(server.pop3, ALICE) as pop3:
            self.assertEqual(pop3.stat()[0], 1)
        self.assertEqual(server.letters("envoi", ALICE), [])

    def test_a_run_that_is_broken_off_leaves_nothing(self) -> None:
        server = self.serve()
        with started(server) as process:
            eventually(
                lambda: len(server.letters("envoi", ALICE)) > 8, "some letters were submitted, and have come", SECONDS
            )
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=SECONDS)
        self.assertEqual((process.returncode, err), (1, "mailbe: broken off\n"))
        self.assertIn("RFC 5321", out)
        for kind in ("reception", "envoi"):
            self.assertEqual(server.letters(kind, ALICE), [])

    def test_the_ports_are_found(self) -> None:
        """With none given: those of the host that is asked, or one line that says that there are none."""
        done = mailbe("conform", "localhost.invalid", "--user", "a", "--password-stdin", stdin="b\n")
        self.assertEqual((done.returncode, done.stderr), (1, "mailbe: localhost.invalid: no such host\n"))
