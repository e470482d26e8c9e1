"""A server of several workers: they are one server to its clients, and the death of one is no matter."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import threading
from contextlib import ExitStack
from functools import partial

from mailbe.maildata import lives
from tests.end_to_end.letters import fetch, letter, sender
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    QUICK,
    START_SECONDS,
    EndToEndTestCase,
    Server,
    environment,
    eventually,
    twistd,
    user,
)
from tests.end_to_end.wire import Wire
from tests.end_to_end.workers import one_of_each, worker_of, workers

WORKERS = ("--workers", "2")
SENDERS = 6
LOG_IN = (f"USER {BOB}", f"PASS {PASSWORDS[BOB]}")


class Load:
    """Clients that send until they are told to stop, and come again when they are cut off."""

    def __init__(self, port: int) -> None:
        self.acknowledged: list[str] = []
        self.lost = 0
        self._port = port
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _send(self, client: int) -> None:
        number = 0
        while not self._stopping.is_set():
            try:
                with Wire(self._port) as wire:
                    wire.reply()
                    wire.say("HELO client.test")
                    while not self._stopping.is_set():
                        number += 1
                        wire.say("MAIL FROM:<s@example.org>", f"RCPT TO:<{BOB}>", "DATA")
                        wire.send(f"Subject: {client}-{number}", "", ".")
                        if wire.reply()[:3] == "250":
                            self.acknowledged.append(f"{client}-{number}")
            except (OSError, AssertionError):  # no reply: a worker has died
                self.lost += 1


class DeathTests(EndToEndTestCase):
    def serve_two(self, *options: str) -> Server:
        return self.serve(*WORKERS, *options)

    def test_a_worker_that_is_killed_is_replaced_and_loses_nothing(self) -> None:
        server = self.serve_two()
        load = Load(server.smtp)
        self.addCleanup(load.stop)
        for number in (1, 2):
            there = len(load.acknowledged)
            eventually(lambda there=there: len(load.acknowledged) > there + 20, "letters come in")
            killed = workers(server)[number]
            os.kill(killed, signal.SIGKILL)
            eventually(lambda n=number, k=killed: workers(server)[n] != k, "another takes its place")
        there = len(load.acknowledged)
        eventually(lambda: len(load.acknowledged) > there + 20, "letters come in")
        load.stop()
        self.assertGreater(load.lost, 0)
        server.stop()
        self.assertEqual(list((server.maildata / "spool").iterdir()), [])
        server.start()
        found = [name.decode() for name in re.findall(rb"Subject: (\d+-\d+)\r\n", b"".join(fetch(server.pop3, BOB)))]
        self.assertEqual(len(found), len(set(found)), "none is there twice")
        # Some may have been stored whose 250 did not get away.
        self.assertEqual(set(load.acknowledged) - set(found), set(), "acknowledged, and not there")

    def test_half_a_letter_of_a_worker_that_is_killed_does_not_stay_in_the_spool(self) -> None:
        server = self.serve_two()
        with ExitStack() as stack:
            wires = one_of_each(server, server.smtp, stack)
            for wire in wires.values():
                wire.say("HELO client.test", "MAIL FROM:<s@example.org>", f"RCPT TO:<{BOB}>", "DATA")
                wire.socket.sendall(b"x" * 76 + b"\r\n" + (b"y" * 78 + b"\r\n") * 2000)
            spool = server.maildata / "spool"
            eventually(lambda: len(list(spool.iterdir())) == 2, "both are in the spool")
            killed = workers(server)[1]
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: len(list(spool.iterdir())) == 1, "one is swept")
            self.assertEqual(wires[2].say(".")[:3], "250")
        self.assertEqual(len(server.letters("reception", BOB)), 1)
        await_another(server, killed)

    def test_one_that_cannot_begin_again_is_tried_again_and_the_others_serve(self) -> None:
        server = self.serve_two()
        aside = server.maildata.with_name("aside")
        (server.maildata / "envoi").rename(aside)
        killed = workers(server)[1]
        os.kill(killed, signal.SIGKILL)
        why = re.compile(r"worker 1 \(process \d+\) has ended, (.*envoi: .*)\n")
        [line] = set(eventually(lambda: why.findall(server.stdout), "it cannot begin"))
        self.assertIn("No such file", line)
        with Wire(server.smtp) as wire:
            self.assertIn("220", wire.reply())
        self.assertFalse((server.maildata / "envoi").exists(), "nothing is made in its place")
        aside.rename(server.maildata / "envoi")
        eventually(lambda: workers(server)[1] != killed, "it begins when it can")

    def test_without_their_supervisor_workers_end_and_another_server_can_begin(self) -> None:
        self.give_letters_time()
        server = self.serve_two()
        with ExitStack() as stack:
            wires = one_of_each(server, server.smtp, stack)
            was_busy = wires[1]
            was_busy.say("HELO client.test", "MAIL FROM:<s@example.org>", f"RCPT TO:<{BOB}>", "DATA")
            processes = list(workers(server).values())
            server.kill()
            self.assertIn("421", wires[2].reply())
            # A letter on its way has its time still, and the next server waits for it.
            begun = threading.Thread(target=server.start)
            begun.start()
            was_busy.send("Subject: the last", "", ".")
            self.assertIn("250", was_busy.reply())
            begun.join()
        # Their lock is gone a moment before they are.
        eventually(lambda: not any(map(lives, processes)), "the workers have ended")
        self.assertEqual(len(fetch(server.pop3, BOB)), 1)


class StopTests(EndToEndTestCase):
    def test_sigterm_ends_all_of_them_in_order(self) -> None:
        self.give_letters_time()
        server = self.serve(*WORKERS)
        with ExitStack() as stack:
            idle = one_of_each(server, server.smtp, stack)
            busy = one_of_each(server, server.smtp, stack)
            for wire in busy.values():
                wire.say("HELO client.test", "MAIL FROM:<s@example.org>", f"RCPT TO:<{BOB}>", "DATA")
            server.tell(signal.SIGTERM)
            for wire in idle.values():
                self.assertIn("421", wire.reply())
            eventually(lambda: refused(server.smtp), "nobody listens")
            for wire in busy.values():
                wire.send("Subject: the last", "", ".")
                self.assertIn("250", wire.reply())
            processes = workers(server).values()
            server.join()
        for process in processes:
            self.assertFalse(lives(process))
        self.assertEqual(len(server.letters("reception", BOB)), 2)

    def test_sighup_gives_all_of_them_the_new_certificate(self) -> None:
        server = self.serve(*WORKERS)

        def shown() -> list[str]:
            """The certificate that each worker shows."""
            with ExitStack() as stack:
                found = []
                for wire in one_of_each(server, server.smtp, stack).values():
                    wire.say("EHLO client.test", "STARTTLS")
                    settings = ssl.create_default_context(cafile=server.ca)
                    wire.start_tls(settings)
                    assert isinstance(wire.socket, ssl.SSLSocket)
                    found.append(ssl.DER_cert_to_PEM_cert(wire.socket.getpeercert(binary_form=True) or b""))
                return found

        [old] = set(shown())
        (server.maildata / "tls" / "certificate.pem").unlink()
        server.tell(signal.SIGHUP)
        eventually(lambda: old not in shown(), "all show a new one")
        self.assertEqual(len(set(shown())), 1)
        # Whoever begins later has it too, whatever becomes of the file.
        (server.maildata / "tls" / "certificate.pem").write_text("nonsense")
        killed = workers(server)[1]
        os.kill(killed, signal.SIGKILL)
        await_another(server, killed)
        self.assertEqual(len(set(shown())), 1)

    def test_what_they_cannot_share_is_refused_in_one_line(self) -> None:
        maildata = self.scratch()
        done = subprocess.run(
            twistd("--maildata", str(maildata), *WORKERS, "--smtp", f"unix:{maildata.name}.socket"),
            cwd=maildata.parent,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertRegex(done.stderr, r"\Amailbe: --smtp unix:[^\n]+several workers[^\n]+\n\Z")


class SharingTests(EndToEndTestCase):
    def test_limits_hold_for_all_of_them_together(self) -> None:
        server = self.serve(*WORKERS, "--max-connections-per-address", "6")
        with ExitStack() as stack:
            of = eventually(lambda: self.taken_by_both(server, stack), "each has some of them")
            with Wire(server.smtp) as wire:
                self.assertIn("220", wire.reply())
            # The connections of one that dies count no more.
            killed = workers(server)[1]
            os.kill(killed, signal.SIGKILL)
            more: list[Wire] = []
            there_is_place = partial(self.all_that_are_taken, server, stack)
            eventually(lambda: more.extend(there_is_place()) or len(more) >= of.count(1), "there is place again")
            self.assertEqual(len(more), of.count(1))
        await_another(server, killed)

    def taken_by_both(self, server: Server, stack: ExitStack) -> list[int]:
        """By which worker each of as many connections was taken as there is place for; nothing where one has none."""
        with ExitStack() as ours:
            of = [worker_of(server, wire.socket) for wire in self.all_that_are_taken(server, ours)]
            self.assertLessEqual(len(of), 6)
            # Who was hung up on may count still; and who is slow to take clients may have got none.
            if len(of) < 6 or set(of) != {1, 2}:
                return []
            stack.push(ours.pop_all())
        return of

    def all_that_are_taken(self, server: Server, stack: ExitStack) -> list[Wire]:
        """As many connections of one address as there is place for."""
        found = []
        while True:
            wire = stack.enter_context(Wire(server.smtp, "127.0.0.2"))
            if wire.reply().startswith("421 "):
                return found
            found.append(wire)

    def test_passwords_are_the_same_to_all_of_them_and_so_are_guesses(self) -> None:
        server = self.serve(*WORKERS, *QUICK)
        with ExitStack() as stack:
            self.assert_log_in(one_of_each(server, server.pop3, stack), PASSWORDS[ALICE], "+OK")
        user(server.maildata, "passwd", ALICE, "another-word-5")
        with ExitStack() as stack:
            self.assert_log_in(one_of_each(server, server.pop3, stack), PASSWORDS[ALICE], "-ERR [AUTH]")
            self.assert_log_in(one_of_each(server, server.pop3, stack), "another-word-5", "+OK")
        with ExitStack() as stack:
            rounds = [one_of_each(server, server.pop3, stack) for _ in range(3)]
            guesses = ("cheshire-cat-1", "cheshire-cat-2", "cheshire-cat-3")
            for wire, guess in zip((rounds[0][1], rounds[0][2], rounds[1][1]), guesses, strict=True):
                self.assertIn("-ERR [AUTH]", wire.say(f"USER {ALICE}", f"PASS {guess}"))
            self.assert_log_in(rounds[2], "another-word-5", "-ERR [SYS/TEMP]")

    def assert_log_in(self, wires: dict[int, Wire], password: str, begins: str) -> None:
        for wire in wires.values():
            self.assertEqual(wire.say(f"USER {ALICE}", f"PASS {password}")[: len(begins)], begins)
            wire.say("QUIT")

    def test_a_maildrop_is_one_sessions_and_what_it_deletes_the_others_do_not_see(self) -> None:
        server = self.serve(*WORKERS)
        with sender(server.smtp) as smtp:
            for text in ("one", "two", "three", "four"):
                smtp.sendmail("s@example.org", [BOB], letter("s@example.org", [BOB], text))
        for left, (number, other) in zip((4, 3, 2, 1), ((1, 2), (2, 1)) * 2, strict=True):
            with ExitStack() as stack:
                wires = one_of_each(server, server.pop3, stack)
                first, second = wires[number], wires[other]
                self.assertIn("+OK", first.say(*LOG_IN))
                self.assertIn("-ERR [IN-USE]", second.say(*LOG_IN))
                self.assertEqual(int(first.say("STAT").split()[1]), left)
                self.assertIn("+OK", first.say("DELE 1", "QUIT"))
                self.assertIn("+OK", second.say(*LOG_IN))
                self.assertEqual(int(second.say("STAT").split()[1]), left - 1)
                self.assertIn("+OK", second.say("QUIT"))
        self.assertEqual(server.letters("reception", BOB), [])


def await_another(server: Server, killed: int) -> None:
    """Wait until the first worker is another one: who is still beginning does not hear that it is to stop."""
    eventually(lambda: workers(server)[1] != killed, "another takes its place")


def refused(port: int) -> bool:
    try:
        Wire(port).socket.close()
    except ConnectionRefusedError:
        return True
    return False
