"""Letters that are held (RFC 4865) by real servers, which are killed before, at, and after the time of release."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from mailbe.held import Held
from mailbe.listing import TICK
from mailbe.maildata import Maildata, lives
from mailbe.torture.forgetful import Rule
from tests.end_to_end.letters import fetch, letter, sender
from tests.end_to_end.server import ALICE, BOB, EndToEndTestCase, Server, eventually, mailbe, manage
from tests.end_to_end.test_forgetful import ForgetfulTestCase
from tests.end_to_end.test_system_calls import FOLDERS, TracedTestCase, without_number
from tests.end_to_end.workers import workers

SEED = 4865
MANY = 25  # letters that are released at the same second


def hold(server: Server, seconds: int, *recipients: str, count: int = 1, options: tuple[str, ...] = ()) -> list[str]:
    """Have alice send letters that are to be held for so long; returns their ids."""
    ids = []
    with sender(server.submission, ALICE) as smtp:
        for number in range(count):
            smtp.mail(ALICE, [f"HOLDFOR={seconds}", *options])
            for recipient in recipients or (BOB,):
                assert smtp.rcpt(recipient)[0] == 250
            code, text = smtp.data(letter(ALICE, [BOB], f"letter {number}"))
            assert code == 250, text
            ids.append(text.decode().split()[-1])
    return ids


class HeldTestCase(EndToEndTestCase):
    def waiting(self, server: Server) -> set[str]:
        return set(Held(Maildata(server.maildata)).scan()[0])

    def release_of(self, server: Server, id: str) -> float:
        return Held(Maildata(server.maildata)).read(id).release

    def in_held(self, server: Server) -> list[Path]:
        return [path for path in (server.maildata / "held").rglob("*") if path.is_file()]

    def ids(self, server: Server, kind: str, address: str) -> list[str]:
        return [path.name.partition(",")[0] for path in server.letters(kind, address)]

    def held(self, server: Server, *words: str) -> str:
        done = mailbe("--maildata", str(server.maildata), "held", *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout


class TimeTests(HeldTestCase):
    def test_a_letter_outlives_a_kill_and_comes_at_its_time_once(self) -> None:
        server = self.serve()
        [id] = hold(server, 10)
        release = self.release_of(server, id)
        self.assertEqual(self.ids(server, "envoi", ALICE), [id])
        self.assert_nothing_came_before(release, server)
        server.kill()
        server.start()
        self.assert_nothing_came_before(release, server)
        mailbox = server.mailbox("reception", BOB)
        eventually(lambda: self.ids(server, "reception", BOB) or time.time() > release, "it comes")
        self.assertGreaterEqual(time.time(), release)
        eventually(lambda: self.ids(server, "reception", BOB), "it comes")
        # A link changes the time of the folder, and nothing else does; that clock is a tick behind.
        self.assertGreaterEqual((mailbox / "new").stat().st_mtime, release - TICK / 1e9)
        eventually(lambda: not self.in_held(server), "it is held no more")
        server.kill()
        server.start()
        [octets] = fetch(server.pop3, BOB)
        self.assertIn(b"letter 0", octets)
        self.assertEqual(self.ids(server, "reception", BOB), [id])

    def assert_nothing_came_before(self, release: float, server: Server) -> None:
        letters = fetch(server.pop3, BOB)
        if time.time() < release:  # else it took a slow machine all that time to look
            self.assertEqual(letters, [])

    def test_what_became_due_while_no_server_ran_comes_when_one_does(self) -> None:
        server = self.serve()
        [id] = hold(server, 1)
        server.kill()
        time.sleep(1.1)
        server.start()
        eventually(lambda: self.ids(server, "reception", BOB) == [id], "it comes")
        eventually(lambda: not self.in_held(server), "it is held no more")


class KillTestCase(HeldTestCase):
    def wait_for_release(self, server: Server, ids: list[str], chance: random.Random) -> None:
        """Wait until the first of them moves, and some milliseconds more.

        It may have moved already: a slow machine takes longer to send the others than they are held.
        """
        folder = server.maildata / "held" / "letters" / "new"
        if chance.random() < 0.5:
            eventually(lambda: not set(ids).isdisjoint(self.ids(server, "reception", BOB)), "the first one moves")
            time.sleep(chance.uniform(0, 0.02))
        else:
            eventually(lambda: len(list(folder.glob("*"))) < len(ids), "the first one has gone")
            time.sleep(chance.uniform(0, 0.01))

    def assert_each_once(self, server: Server, ids: list[str]) -> None:
        eventually(lambda: not self.in_held(server), "nothing is held any more")
        for address in (ALICE, BOB):
            count = Counter(self.ids(server, "reception", address))
            self.assertEqual({id: count[id] for id in ids}, dict.fromkeys(ids, 1))
        self.assertEqual(list((server.maildata / "spool").iterdir()), [])


class KillTests(KillTestCase):
    def test_killed_while_it_releases_a_server_delivers_each_letter_once(self) -> None:
        chance = random.Random(SEED)
        server = self.serve()
        for _ in range(4):
            ids = hold(server, 2, ALICE, BOB, count=MANY)
            self.wait_for_release(server, ids, chance)
            server.kill()
            server.start()
            self.assert_each_once(server, ids)

    def test_so_do_workers_of_which_the_one_dies_that_releases(self) -> None:
        chance = random.Random(SEED)
        server = self.serve("--workers", "2")
        for _ in range(2):
            ids = hold(server, 2, ALICE, BOB, count=MANY)
            first = workers(server)[1]
            self.wait_for_release(server, ids, chance)
            os.kill(first, signal.SIGKILL)
            eventually(lambda first=first: not lives(first) and lives(workers(server)[1]), "there is another")
            self.assert_each_once(server, ids)
        self.assertNotIn("Traceback", server.stdout)


class PowerTests(ForgetfulTestCase, KillTestCase):
    """The same when the power goes, and all that was not synced with it."""

    def test_each_letter_comes_once_whenever_the_power_goes(self) -> None:
        chance = random.Random(SEED)
        for rule in Rule:
            disk, folder = self.mount(rule, SEED)
            server = self.serve(maildata=folder)
            for waits in (False, True, True):
                ids = hold(server, 2, ALICE, BOB, count=5)
                if waits:
                    self.wait_for_release(server, ids, chance)
                disk.cut()
                server.kill()
                disk.restore()
                server.start()
                self.assert_each_once(server, ids)
                self.assertNotIn("envelope", server.stdout)
            server.stop()


class ReportTests(HeldTestCase):
    def test_the_sender_is_told_who_has_it_and_who_is_gone(self) -> None:
        server = self.serve()
        with sender(server.submission, ALICE) as smtp:
            smtp.mail(ALICE, ["HOLDFOR=3600", "RET=FULL", "ENVID=wonder"])
            smtp.rcpt(ALICE, ["NOTIFY=SUCCESS"])
            smtp.rcpt(BOB)
            self.assertEqual(smtp.data(letter(ALICE, [ALICE, BOB], "see you"))[0], 250)
        self.assertEqual(fetch(server.pop3, ALICE), [])
        manage(server.maildata, "remove", BOB)
        [id] = self.waiting(server)
        self.held(server, "release", id)
        letters = eventually(
            lambda: (got := fetch(server.pop3, ALICE)) if len(self.ids(server, "reception", ALICE)) == 2 else [], "both"
        )
        report = next(each for each in letters if b"delivery-status" in each).decode()
        for line in (
            "Original-Envelope-Id: wonder",
            "Future-Release-Request: for;3600",
            f"Final-Recipient: rfc822; {ALICE}\r\nAction: delivered",
            f"Final-Recipient: rfc822; {BOB}\r\nAction: failed\r\nStatus: 5.1.1",
            "Subject: see you",
        ):
            self.assertIn(line, report)


class AllowanceTests(HeldTestCase):
    """RFC 4865 6: an account may have so many letters held."""

    def send_at_once(self, server: Server, *senders: str) -> list[bytes]:
        """Send letters for later, of which none comes before all others have got to DATA; returns the last replies."""
        with ExitStack() as stack:
            sessions = [stack.enter_context(sender(server.submission, each)) for each in senders]
            for each, smtp in zip(senders, sessions, strict=True):
                self.assertEqual(smtp.mail(each, ["HOLDFOR=3600"])[0], 250)
                self.assertEqual(smtp.rcpt(BOB)[0], 250)
            replies = [smtp.data(letter(ALICE, [BOB], "x")) for smtp in sessions]
        return [b"%d %b" % (code, text[:6]) for code, text in replies]

    def test_who_has_enough_is_told_at_mail_or_behind_the_letter_and_over_a_kill(self) -> None:
        server = self.serve("--max-held", "3")
        [id] = hold(server, 3600)
        replies = self.send_at_once(server, *[ALICE] * 4, BOB)
        self.assertEqual(replies, [b"250 2.0.0 "] * 2 + [b"452 4.3.1 "] * 2 + [b"250 2.0.0 "])
        for killed in (False, True):
            if killed:
                server.kill()
                server.start()
            with sender(server.submission, ALICE) as smtp:
                code, text = smtp.mail(ALICE, ["HOLDFOR=3600"])
                self.assertEqual((code, text[:6]), (455, b"4.3.1 "))
                self.assertEqual(smtp.mail(ALICE)[0], 250)
        self.assertEqual((len(self.waiting(server)), len(server.letters("envoi", ALICE))), (4, 3))

        self.held(server, "remove", id)

        def may_again() -> bool:
            with sender(server.submission, ALICE) as smtp:
                return smtp.mail(ALICE, ["HOLDFOR=3600"])[0] == 250

        eventually(may_again, "there is room again")

    def test_of_several_processes_each_hears_of_what_the_others_hold(self) -> None:
        server = self.serve("--max-held", "3", "--workers", "3")
        hold(server, 3600, count=3)

        def refused() -> bool:
            with sender(server.submission, ALICE) as smtp:
                return smtp.mail(ALICE, ["HOLDFOR=3600"])[0] == 455

        eventually(lambda: all(refused() for _ in range(9)), "whoever is asked refuses more")


class CommandTests(HeldTestCase):
    def test_the_operator_sees_releases_and_removes_beside_the_server(self) -> None:
        server = self.serve()
        first, second, third = hold(server, 3600, ALICE, BOB, count=3)
        listed = self.held(server, "list").splitlines()
        self.assertEqual([line.split("\t")[1] for line in listed], [first, second, third])
        self.assertRegex(
            listed[0], rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\t{re.escape(first)}\tfrom {ALICE}\tto {ALICE} {BOB}$"
        )
        self.assertEqual(self.held(server, "release", second), f"{second} is released now, or when the server starts\n")
        eventually(lambda: self.ids(server, "reception", BOB) == [second], "it comes")
        self.assertEqual(self.held(server, "remove", first), f"{first} removed\n")
        eventually(lambda: len(self.in_held(server)) == 2, "one is left")
        for verb in ("remove", "release"):
            done = mailbe("--maildata", str(server.maildata), "held", verb, first)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("is held", done.stderr)
        self.assertIn(third, self.held(server, "list"))
        server.stop()
        self.held(server, "release", third)
        server.start()
        eventually(lambda: self.ids(server, "reception", BOB) == [second, third], "it comes")
        eventually(lambda: not self.in_held(server), "nothing is held any more")
        self.assertEqual(self.held(server, "list"), "")

    def test_where_nothing_was_ever_held_nothing_is_listed_or_made(self) -> None:
        maildata = self.scratch() / "maildata"
        mailbe("--maildata", str(maildata), "user", "list")
        for command in (["list"], ["remove", "x"]):
            done = mailbe("--maildata", str(maildata), "held", *command)
            self.assertEqual(done.returncode, 0 if command == ["list"] else 1, done.stderr)
            self.assertNotIn("Traceback", done.stderr)
        self.assertFalse((maildata / "held").exists())


class OrderTests(TracedTestCase):
    def test_a_letter_that_is_held_and_its_envelope_are_on_the_disk_before_250_and_when_it_is_released(self) -> None:
        server = self.prepare()
        self.trace()
        server.start()
        hold(server, 3600)
        hold(server, 5, BOB, ALICE)  # longer than the slowest disk takes, or it is not held at all
        eventually(lambda: len(server.letters("reception", ALICE)) == 1, "it comes")
        eventually(lambda: len(list(server.maildata.glob("held/*/*/*"))) == 2, "it is held no more")
        os.close(Held(Maildata(server.maildata)).lock(wait=True))  # so all is done, and not only to be seen
        hold(server, 3600)
        replies = self.replies(server)
        self.assert_safe(replies)
        made = [without_number(reply.made, server.maildata) for reply in self.told(replies, "250 2.0.0")]
        boxes = ["held/envelopes", "held/letters", f"envoi/{ALICE}"]
        new = sorted(
            [*boxes, *(f"{box}/{name}" for box in boxes for name in FOLDERS), *(f"{box}/new/letter" for box in boxes)]
        )
        self.assertEqual(made, [new, *[sorted(f"{box}/new/letter" for box in boxes)] * 2])
