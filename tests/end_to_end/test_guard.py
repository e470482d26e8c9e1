"""The guard over the wire: what a typo costs, what guessing costs, and what the owner notices of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.end_to_end.server import ALICE, PASSWORDS, QUICK, EndToEndTestCase, Server, eventually, manage
from tests.end_to_end.wire import Wire, encoded

TYPO = "white-rabbit-8"
GUESSES = ("cheshire-cat-1", "cheshire-cat-2", "cheshire-cat-3")  # as many as lock an account
HOME, ELSEWHERE, ATTACKER = "127.0.0.1", "127.0.0.2", "127.0.0.66"  # all of loopback, and different addresses

WRONG = (r"^535 5\.7\.8 ", r"^-ERR \[AUTH\] ")
LOCKED = (r"^454 4\.7\.0 ", r"^-ERR \[SYS/TEMP\] ")
OPEN = (r"^235 2\.7\.0 ", r"^\+OK ")


def auth_plain(server: Server, password: str, source: str) -> str:
    with Wire(server.submission, source) as wire:
        wire.reply()
        return wire.say("EHLO client.test", f"AUTH PLAIN {encoded('', ALICE, password)}")


def auth_login(server: Server, password: str, source: str) -> str:
    with Wire(server.submission, source) as wire:
        wire.reply()
        return wire.say("EHLO client.test", "AUTH LOGIN", encoded(ALICE), encoded(password))


def pop3_auth_plain(server: Server, password: str, source: str) -> str:
    with Wire(server.pop3, source) as wire:
        wire.reply()
        return leaving(wire, wire.say("AUTH PLAIN", encoded("", ALICE, password)))


def user_pass(server: Server, password: str, source: str) -> str:
    with Wire(server.pop3, source) as wire:
        wire.reply()
        return leaving(wire, wire.say(f"USER {ALICE}", f"PASS {password}"))


def leaving(wire: Wire, reply: str) -> str:
    """Free the maildrop: who only hangs up may come again, to another worker, before that is noticed."""
    if reply.startswith("+OK"):
        wire.say("QUIT")
    return reply


SMTP, POP3 = (auth_plain, auth_login), (pop3_auth_plain, user_pass)


class GuardTests(EndToEndTestCase):
    def assert_answers(
        self, expected: tuple[str, str], server: Server, password: str = PASSWORDS[ALICE], source: str = HOME
    ) -> None:
        """Every way to log in gets this reply, in SMTP and in POP3."""
        for ways, reply in zip((SMTP, POP3), expected, strict=True):
            for way in ways:
                self.assertRegex(way(server, password, source), reply, way.__name__)

    def guess(self, server: Server, source: str = HOME) -> None:
        """Guess until the account is locked, over SMTP and POP3 in turn; each guess is told to be wrong."""
        guess: Callable[[Server, str, str], str]
        for guess, reply, password in zip(
            (auth_plain, user_pass, auth_login), (*WRONG, WRONG[0]), GUESSES, strict=True
        ):
            self.assertRegex(guess(server, password, source), reply)

    def test_one_typo_in_every_way_to_log_in_leaves_the_account_open(self) -> None:
        server = self.serve(*QUICK)
        for _ in range(2):
            self.assert_answers(WRONG, server, TYPO)
        self.assert_answers(OPEN, server)

    def test_who_fails_waits_for_the_answer_and_the_owner_does_not(self) -> None:
        server = self.serve("--slowest-answer-seconds", "60")
        self.assert_answers(OPEN, server)  # from home
        # Each failure doubles the time that the next answer takes: this one takes 32 s.
        names = (*(f"nobody{number}@localhost" for number in range(5)), ALICE)
        for count, name in enumerate(names, 1):
            attacker = Wire(server.pop3, ATTACKER)
            self.addCleanup(attacker.socket.close)
            attacker.reply()
            attacker.say(f"USER {name}")
            attacker.send(f"PASS {TYPO}")
            eventually(lambda: server.stdout.count("reason=wrong-password") == count, "it is wrong")  # noqa: B023
        # While the attacker waits, and the server with him, the others are served.
        self.assert_answers(OPEN, server)
        attacker.socket.setblocking(False)
        with self.assertRaises(BlockingIOError):
            attacker.socket.recv(1)
        attacker.socket.setblocking(True)
        server.stop()  # which waits for nobody's punishment
        self.assertRegex(attacker.reply(), WRONG[1])

    def test_three_different_wrong_passwords_lock_the_account_for_the_right_one_too(self) -> None:
        server = self.serve(*QUICK)
        self.guess(server)
        self.assert_answers(LOCKED, server)
        self.assert_answers(LOCKED, server, TYPO)

    def test_a_name_that_nobody_has_is_locked_alike(self) -> None:
        server = self.serve(*QUICK)
        for password in (*GUESSES, TYPO):
            with Wire(server.pop3) as wire:
                wire.reply()
                reply = wire.say("USER nobody@localhost", f"PASS {password}")
            self.assertRegex(reply, LOCKED[1] if password is TYPO else WRONG[1])

    def test_a_restart_changes_nothing_and_unlock_opens_at_once(self) -> None:
        server = self.serve(*QUICK)
        self.guess(server)
        for _ in range(2):
            self.assert_answers(LOCKED, server)
            server.stop()
            server.start()
        self.assertRegex(manage(server.maildata, "unlock", ALICE), "unlocked")
        self.assert_answers(OPEN, server)
        # And it is not one typo from the next lock.
        self.assert_answers(WRONG, server, TYPO)
        self.assert_answers(OPEN, server)

    def test_a_restart_between_two_guesses_does_not_make_them_fewer(self) -> None:
        server = self.serve(*QUICK)
        for password in GUESSES:
            self.assertRegex(auth_plain(server, password, HOME), WRONG[0])
            server.stop()
            server.start()
        self.assert_answers(LOCKED, server)

    def test_the_list_of_users_shows_the_lock_and_the_last_log_in(self) -> None:
        server = self.serve(*QUICK)

        def line() -> str:
            [found] = [line for line in manage(server.maildata, "list").splitlines() if line.startswith(ALICE)]
            return found

        self.assertIn("never", line())
        self.assertNotIn("locked", line())
        self.guess(server, ATTACKER)
        self.assertRegex(line(), r"never\t0 letters, 0 octets\tlocked until \d{4}-\d\d-\d\dT\d\d:\d\d$")
        manage(server.maildata, "unlock", ALICE)
        self.assertNotIn("locked", line())
        self.assertRegex(user_pass(server, PASSWORDS[ALICE], ELSEWHERE), OPEN[1])
        self.assertIn(ELSEWHERE, line())

    def test_an_attack_from_elsewhere_does_not_lock_the_owner_out(self) -> None:
        server = self.serve(*QUICK)
        self.assertRegex(user_pass(server, PASSWORDS[ALICE], HOME), OPEN[1])
        self.guess(server, ATTACKER)
        self.assert_answers(LOCKED, server, source=ATTACKER)
        self.assert_answers(LOCKED, server, source=ELSEWHERE)
        self.assert_answers(OPEN, server, source=HOME)
        server.stop()
        server.start()
        self.assert_answers(LOCKED, server, source=ELSEWHERE)
        self.assert_answers(OPEN, server, source=HOME)

    def test_every_failure_is_one_line_of_the_log(self) -> None:
        server = self.serve(*QUICK)
        self.guess(server, ATTACKER)
        self.assertRegex(user_pass(server, PASSWORDS[ALICE], ATTACKER), LOCKED[1])
        server.stop()
        lines = [line for line in server.stdout.splitlines() if "log-in failed: " in line]
        reasons = [*["wrong-password"] * len(GUESSES), "locked"]
        self.assertEqual(len(lines), len(reasons))
        for line, reason in zip(lines, reasons, strict=True):
            self.assertTrue(line.endswith(f"log-in failed: user='{ALICE}' peer={ATTACKER} reason={reason}"), line)
