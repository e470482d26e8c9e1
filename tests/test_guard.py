"""The guard against guessing: a test for each of its rules, by a clock that is moved by hand."""

import configparser
import io
import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import FileLogObserver, capturedLogs, formatEventAsClassicLogText
from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts import counters, database, guard, scram
from mailbe.accounts.checker import MD5Checker
from mailbe.accounts.database import Accounts
from mailbe.accounts.guard import WORLD, Guard, Limits, Locked
from mailbe.address import Address
from mailbe.interfaces import Login, TryLater
from tests.storage import at_once, same_marks

ALICE, BOB = Address("alice", "localhost"), Address("bob", "localhost")
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"
MINUTE, HOUR, DAY = 60, 3600, 86400
GUESSES = (b"1", b"2", b"3")
FAIL2BAN = Path(__file__).parent.parent / "docs" / "fail2ban"


class GuardCase(SynchronousTestCase):
    limits = Limits()

    def setUp(self):
        same_marks(self)
        self.path = Path(self.mktemp())
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.running = 0
        self.guard = self.start()
        for address in (ALICE, BOB):
            self.accounts.add(address, "{MD5}" + "0" * 32)

    def start(self):
        """A guard as another process has it, or this one after a restart."""
        self.accounts = Accounts(self.path)
        self.addCleanup(self.accounts.close)
        return Guard(self.accounts, limits=self.limits, now=self.clock.seconds)

    def visit(self, name, peer):
        return self.guard.visit(self.accounts.named(name), name.encode(), peer)

    def guess(self, *passwords, name="alice", peer=ELSEWHERE):
        """Try these; returns how long the last answer is delayed."""
        for password in passwords:
            self.guard.admit(self.visit(name, peer))
            delay = self.guard.failed(self.visit(name, peer), password)
        return delay

    def let_in(self, name="alice", peer=HOME):
        """Log in with the right password; returns how long the answer is delayed."""
        admission = self.guard.admit(self.visit(name, peer))
        if not admission.settled:
            self.guard.succeeded(self.visit(name, peer))
        return admission.delay

    def assert_refused(self, reason="locked", seconds=None, name="alice", peer=ELSEWHERE):
        with self.assertRaises(Locked) as caught:
            self.guard.admit(self.visit(name, peer))
        self.assertEqual(caught.exception.reason, reason)
        if seconds is not None:
            self.assertEqual(caught.exception.ends, self.clock.seconds() + seconds)
        return caught.exception

    def assert_open(self, name="alice", peer=ELSEWHERE):
        return self.guard.admit(self.visit(name, peer))

    def rows(self, table="counters"):
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608


class Names(GuardCase):
    def test_every_spelling_of_a_name_that_nobody_has_is_one(self):
        spellings = ("JÖRG", "jo\u0308rg", "jörg@localhost", "JÖRG@LOCALHOST")
        self.assertEqual(len({self.visit(name, ELSEWHERE).subject for name in spellings}), 1)
        others = ("jorg", "jk", "j\N{KELVIN SIGN}", "j\N{FULLWIDTH LATIN SMALL LETTER K}", "jörg@elsewhere.example")
        self.assertEqual(len({self.visit(name, ELSEWHERE).subject for name in others}), len(others))

    def test_what_is_no_utf8_is_a_name_as_well(self):
        latin, name = (self.guard.visit(None, "jörg".encode(code), ELSEWHERE) for code in ("latin-1", "utf-8"))
        self.assertEqual(latin.subject, name.subject)


class Wrong(GuardCase):
    """What locks an account."""

    def test_three_different_passwords_lock_for_a_quarter_of_an_hour(self):
        self.guess(b"1", b"2")
        self.assert_open()
        self.guess(b"3")
        self.assert_refused(seconds=15 * MINUTE)
        self.assert_refused(name="ALICE@LocalHost", peer="203.0.113.1")
        self.assert_open(name="bob")
        self.clock.advance(15 * MINUTE - 1)
        self.assert_refused(seconds=1)
        self.clock.advance(1)
        self.assert_open()

    def test_the_same_password_again_counts_once(self):
        for _ in range(20):
            self.guess(b"typo")
            self.guess(b"typo", name="alice@localhost", peer=HOME)
        self.guess(b"other")
        self.guess(b"typo")
        self.assert_open()
        self.guess(b"third")
        self.assert_refused()

    def test_a_good_log_in_between_begins_anew(self):
        for _ in range(3):
            self.guess(b"1", b"2", peer=HOME)
            self.let_in(peer=HOME)
        self.assertEqual([row for row in self.rows() if row[0]], [])

    def test_only_those_in_a_row_within_a_day_of_each_other_count(self):
        self.guess(b"1")
        self.clock.advance(DAY - 1)
        self.guess(b"2")
        self.clock.advance(DAY)
        self.guess(b"3")
        self.assert_open()
        self.clock.advance(DAY - 1)
        self.guess(b"4")
        self.clock.advance(DAY - 1)
        self.guess(b"5")
        self.assert_refused()

    def test_each_further_lock_is_twice_as_long_up_to_a_day(self):
        for minutes in (15, 30, 60, 120, 240, 480, 960, 1440, 1440, 1440):
            self.guess(*GUESSES)
            self.assert_refused(seconds=minutes * MINUTE)
            self.clock.advance(minutes * MINUTE + HOUR)

    def lock_twice(self):
        self.guess(*GUESSES)
        self.clock.advance(15 * MINUTE)
        self.guess(*GUESSES)
        self.clock.advance(30 * MINUTE)

    def test_a_good_log_in_forgets_the_doubling(self):
        self.lock_twice()
        self.let_in(peer=ELSEWHERE)
        self.guess(*GUESSES, peer=HOME)
        self.assert_refused(seconds=15 * MINUTE, peer=HOME)

    def test_a_day_of_peace_forgets_the_doubling(self):
        self.lock_twice()
        self.clock.advance(DAY - 1)
        self.guess(b"1", b"2")
        self.clock.advance(DAY)
        self.guess(*GUESSES)
        self.assert_refused(seconds=15 * MINUTE)

    def test_less_than_a_day_of_peace_does_not(self):
        self.lock_twice()
        self.clock.advance(DAY - 1)
        self.guess(*GUESSES)
        self.assert_refused(seconds=60 * MINUTE)

    def test_what_was_tried_while_it_was_locked_does_not_count(self):
        self.guess(*GUESSES)
        with self.assertRaises(Locked):
            self.guard.failed(self.visit("alice", ELSEWHERE), b"4")
        with self.assertRaises(Locked):
            self.guard.succeeded(self.visit("alice", ELSEWHERE))
        self.clock.advance(15 * MINUTE)
        self.guess(b"5", b"6")
        self.assert_open()

    def test_the_limits_are_settings(self):
        self.guard = Guard(
            self.accounts, limits=Limits(wrong_passwords=1, lock_seconds=60, longest_lock_seconds=90), now=self.now
        )
        for seconds in (60, 90, 90):
            self.guess(b"1")
            self.assert_refused(seconds=seconds)
            self.clock.advance(90)

    def now(self):
        return self.clock.seconds()

    def test_a_lock_is_a_temporary_refusal_and_says_when_it_ends(self):
        self.guess(*GUESSES)
        locked = self.assert_refused()
        self.assertIsInstance(locked, TryLater)
        self.assertRegex(str(locked), r"^locked until \d{4}-\d\d-\d\d \d\d:\d\d$")


class Proofs(GuardCase):
    """Of a wrong SCRAM proof nobody sees which password it is of."""

    def test_a_client_that_repeats_one_within_a_minute_counts_once(self):
        for _ in range(3):
            self.guess(None)
        self.assertEqual(self.guess(b"1"), 2)
        self.assert_open()
        self.guess(b"2")
        self.assert_refused()

    def test_each_minute_counts(self):
        for _ in range(2):
            self.guess(None, None)
            self.clock.advance(MINUTE)
        self.assert_open()
        self.guess(None)
        self.assert_refused()

    def test_each_address_counts(self):
        for number in range(3):
            self.assert_open()
            self.guess(None, peer=f"198.51.{number}.1")
        self.assert_refused()

    def test_a_guesser_gains_little_by_it(self):
        tries = 0
        with self.assertRaises(Locked):
            while True:
                self.guess(None)
                tries += 1
        self.assertEqual(tries, 7)


class Owner(GuardCase):
    """An address from which the account logged in well has a counter of its own."""

    def test_an_attack_from_elsewhere_leaves_the_owner_in(self):
        self.let_in(peer=HOME)
        self.guess(*GUESSES, peer=ELSEWHERE)
        self.assert_refused(peer=ELSEWHERE)
        self.assert_refused(peer="203.0.113.1")
        self.assertEqual(self.let_in(peer=HOME), 0)
        self.assert_refused(peer=ELSEWHERE)  # which the owner's log-in does not end

    def test_an_attack_from_his_address_locks_that_only(self):
        self.let_in(peer=HOME)
        self.guess(*GUESSES, peer=HOME)
        self.assert_refused(peer=HOME)
        self.assert_open(peer=ELSEWHERE)
        self.assert_open(peer="192.0.2.2")

    def test_it_is_known_for_thirty_days_after_the_last_log_in(self):
        self.let_in(peer=HOME)
        self.clock.advance(20 * DAY)
        self.let_in(peer=HOME)
        self.clock.advance(30 * DAY - 1)
        self.guess(*GUESSES, peer=ELSEWHERE)
        self.assert_open(peer=HOME)
        self.clock.advance(1)
        self.assert_refused(peer=HOME)

    def test_it_is_known_for_this_account_only(self):
        self.let_in("bob", peer=HOME)
        self.guess(*GUESSES, peer=ELSEWHERE)
        self.assert_refused(peer=HOME)

    def test_of_ipv6_it_is_the_household(self):
        self.let_in(peer="2001:db8:1:2::1")
        self.guess(*GUESSES)
        self.assert_open(peer="2001:db8:1:2:3:4:5:6")
        self.assert_refused(peer="2001:db8:1:3::1")

    def test_a_block_of_the_address_is_not_for_him(self):
        self.let_in(peer=HOME)
        self.guess(*(b"%d" % n for n in range(2)), name="bob", peer=HOME)
        for number in range(8):
            self.guess(b"1", name=f"nobody{number}", peer=HOME)
        self.assert_refused("blocked", name="bob", peer=HOME)
        self.assertEqual(self.let_in(peer=HOME), 0)

    def test_whoever_takes_the_name_of_a_removed_account_begins_anew(self):
        self.let_in(peer=HOME)
        self.guess(*GUESSES, peer=ELSEWHERE)
        self.accounts.remove(ALICE)
        self.assertEqual([row for row in self.rows() if row[0]] + self.rows("logins"), [])
        self.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.assert_open(peer=ELSEWHERE)


class Addresses(GuardCase):
    """What slows and blocks an address."""

    def spread(self, count, peer=ELSEWHERE, begin=0):
        """Fail at as many accounts; returns the delays."""
        return [self.guess(b"guess", name=f"user{n}", peer=peer) for n in range(begin, begin + count)]

    def test_its_answers_get_slower_with_each_different_failure(self):
        self.assertEqual(self.spread(9), [1, 2, 4, 8, 10, 10, 10, 10, 10])
        self.assertEqual(self.assert_open().delay, 10)  # a good answer must not be told by its haste
        self.assertEqual(self.assert_open(peer=HOME).delay, 0)

    def test_the_same_failure_again_makes_it_no_slower(self):
        self.assertEqual([self.guess(b"typo") for _ in range(4)], [1, 1, 1, 1])

    def test_an_hour_later_it_is_forgotten(self):
        self.spread(9)
        self.clock.advance(HOUR)
        self.assertEqual(self.assert_open().delay, 0)
        self.assertEqual(self.spread(9), [1, 2, 4, 8, 10, 10, 10, 10, 10])

    def test_a_good_log_in_forgives_the_failures_at_this_account_only(self):
        self.guess(b"typo", peer=HOME)
        self.assertEqual(self.let_in(peer=HOME), 1)
        self.assertEqual(self.assert_open("bob", peer=HOME).delay, 0)
        self.guess(b"typo", name="bob", peer=HOME)
        self.let_in(peer=HOME)
        self.assertEqual(self.assert_open("bob", peer=HOME).delay, 1)

    def test_ten_failures_over_any_accounts_block_it_and_lock_none(self):
        self.spread(10)
        error = self.assert_refused("blocked", seconds=15 * MINUTE)
        self.assertEqual(error.delay, 10)
        for name in ("alice", "user1", "another"):
            self.assert_refused("blocked", name=name)
            self.assert_open(name=name, peer=HOME)
        self.clock.advance(15 * MINUTE)
        self.assert_open()

    def test_each_further_block_is_twice_as_long_up_to_a_day(self):
        for minutes in (15, 30, 60, 120, 240, 480, 960, 1440, 1440):
            self.spread(10)
            self.assert_refused("blocked", seconds=minutes * MINUTE)
            self.clock.advance(minutes * MINUTE + HOUR)
        self.clock.advance(DAY)
        self.spread(10)
        self.assert_refused("blocked", seconds=15 * MINUTE)

    def test_ipv6_is_judged_by_the_household(self):
        for number in range(10):
            self.guess(b"guess", name=f"user{number}", peer=f"2001:db8::{number}")
        self.assert_refused("blocked", peer="2001:db8::ffff")
        self.assert_open(peer="2001:db8:0:1::1")

    def test_one_address_does_not_block_its_network(self):
        self.spread(10)
        self.assert_open(peer="198.51.100.2")

    def test_many_addresses_of_a_network_block_it_whole(self):
        for number in range(30):
            self.assert_open(peer="198.51.100.99")
            self.guess(b"guess", name=f"user{number}", peer=f"198.51.100.{number}")
            slowness = self.assert_open("alice", peer="203.0.113.1").delay
            self.assertEqual(slowness, 0)
        self.assert_refused("blocked", peer="198.51.100.99")
        self.assert_open(peer="198.51.101.1")

    def test_a_network_slows_its_addresses_too(self):
        for number in range(9):
            self.guess(b"guess", name=f"user{number}", peer=f"198.51.100.{number}")
        self.assertEqual(self.assert_open(peer="198.51.100.99").delay, 4)

    def test_this_machine_is_slowed_and_never_blocked(self):
        for peer in ("127.0.0.1", "::1", ""):
            delays = self.spread(25, peer)
            self.assertEqual(delays[-1], 10)
            self.assert_open(peer=peer)
        self.assert_open(peer="127.0.0.2")
        self.assertLessEqual(max(len(json.loads(row[2])) for row in self.rows()), 10)

    def test_an_account_is_locked_from_this_machine_as_from_any(self):
        self.guess(*GUESSES, peer="127.0.0.1")
        self.assert_refused(peer="127.0.0.1")


class Strangers(GuardCase):
    """Names that nobody has are treated like all others."""

    def history(self, *spellings):
        """All that somebody sees who guesses at an account that these are spellings of."""
        seen = []
        peers = iter(f"203.{number}.113.1" for number in range(100))
        for _ in range(3):
            for guess in (b"1", b"1", b"2", None, b"3"):
                for name in spellings:
                    try:
                        seen.append(self.guess(guess, name=name, peer=next(peers)))
                    except Locked as locked:
                        seen.append((locked.reason, locked.ends - self.clock.seconds(), locked.delay))
            self.clock.advance(16 * MINUTE)
        return seen

    def test_nobody_can_tell_them_from_accounts(self):
        begin = self.clock.seconds()
        known = self.history("alice", "ALICE@localhost", "alice@LOCALHOST")
        self.clock.rightNow = begin
        for row in self.rows():
            self.assertIn(row[0], ("alice@localhost", ""))
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DELETE FROM counters")
            connection.commit()
        unknown = self.history("zoe", "ZOE@localhost", "zoe@LOCALHOST")
        self.assertEqual(known, unknown)
        self.assertIn(("locked", 15 * MINUTE, 0.0), known)

    def test_any_name_can_be_tried(self):
        for name in ("", "@", "a b", "zoë", "x" * 100_000, "\0"):
            self.guess(*GUESSES, name=name, peer="")
            self.assert_refused(name=name, peer="")

    def test_what_was_typed_as_a_name_is_not_kept(self):
        self.guess(b"secret", name="my password")
        self.guess(b"secret", name="alice")
        self.assertNotIn(b"my password", self.path.read_bytes() + Path(f"{self.path}-wal").read_bytes())

    def test_a_flood_of_names_and_addresses_does_not_fill_the_disk(self):
        self.patch(counters, "MAX_STRANGERS", 20)
        self.patch(guard, "PURGE_EVERY", 10)
        self.guess(*GUESSES, peer="203.0.113.1")
        for number in range(200):
            self.clock.advance(1)
            self.guess(b"guess", name=f"flood{number}", peer=f"198.{number}.0.1")
            self.assertLessEqual(len(self.rows()), 1 + 20 + 3 * 10)
        self.assert_refused(peer="203.0.113.1")  # accounts' own counters stay

    def test_what_is_forgotten_is_deleted(self):
        self.let_in(peer=HOME)
        self.let_in("bob", peer=ELSEWHERE)
        self.clock.advance(HOUR)
        self.let_in(peer="203.0.113.1")
        self.guess(*GUESSES, name="bob", peer=HOME)
        self.guess(b"1", name="nobody", peer=HOME)
        self.clock.advance(31 * DAY)
        self.guard = self.start()
        self.guess(b"1", name="nobody", peer="2001:db8::1")
        self.assertEqual({row[1] for row in self.rows()}, {WORLD, "2001:db8::/64"})
        # The last log-in of each account is still shown.
        self.assertEqual(sorted(row[::3] for row in self.rows("logins")), [(1, "203.0.113.1"), (2, ELSEWHERE)])


class Keeping(GuardCase):
    def test_a_restart_changes_nothing(self):
        self.let_in(peer=HOME)
        for guess in GUESSES:
            self.guard = self.start()
            self.guess(guess, peer=ELSEWHERE)
        self.guard = self.start()
        self.assert_refused(seconds=15 * MINUTE)
        self.assertEqual(self.assert_open("bob").delay, 4)
        self.assertEqual(self.let_in(peer=HOME), 0)

    def test_two_processes_share_the_counters(self):
        one, two = (self.guard, self.accounts), (self.start(), self.accounts)
        for (self.guard, self.accounts), guess in zip((one, two, one), GUESSES, strict=True):
            self.assert_open()
            self.guess(guess)
        self.assert_refused()
        self.guard, self.accounts = two
        self.assert_refused()
        self.guard.unlock(ALICE)
        self.guard, self.accounts = one
        self.assert_open()

    def test_unlocking_ends_every_lock_and_the_doubling(self):
        self.let_in(peer=HOME)
        for peer in (HOME, ELSEWHERE):
            self.guess(*GUESSES, peer=peer)
        self.assertTrue(self.guard.unlock(Address("ALICE", "localhost")))
        for peer in (HOME, ELSEWHERE):
            self.assert_open(peer=peer)
            self.guess(*GUESSES, peer=peer)
            self.assert_refused(seconds=15 * MINUTE, peer=peer)

    def test_unlocking_forgets_failures_where_there_is_no_lock(self):
        self.guess(b"1", b"2")
        self.assertFalse(self.guard.unlock(ALICE))
        self.guess(b"3")
        self.assert_open()

    def test_a_clock_that_was_set_back_does_not_lock_for_ever(self):
        self.guess(*GUESSES)
        self.clock.rightNow -= 1
        self.assert_refused(seconds=15 * MINUTE)
        self.clock.rightNow -= 365 * DAY
        self.assert_open()
        self.assertEqual(self.guess(*GUESSES), 4)
        self.assert_refused(seconds=15 * MINUTE)
        self.clock.advance(15 * MINUTE)
        self.let_in(peer=ELSEWHERE)

    def test_what_a_clock_ahead_has_written_does_not_stay_for_ever(self):
        self.let_in(peer=HOME)
        self.guess(b"1", b"2", peer="203.0.113.1")
        self.clock.rightNow -= 365 * DAY
        self.guard = self.start()
        self.guess(b"3", peer="2001:db8::1")
        self.assertEqual(len(self.rows()), 2)
        self.let_in(peer=HOME)
        self.assertEqual(self.rows("logins")[0][2], self.clock.seconds())

    def test_a_wrong_password_is_kept_as_sixteen_bits(self):
        self.guess(b"nearly the right one", peer="203.0.113.1")
        marks = {json.loads(failures)[0][0] for _, _, failures, *_ in self.rows()}
        self.assertEqual({mark[-4:] for mark in marks}, {min(marks, key=len)})  # the same bits everywhere
        self.assertEqual(sorted(len(mark) for mark in marks), [4, 4 + 8])

    def test_polling_writes_once_an_hour(self):
        writes = []
        succeeded = Guard.succeeded
        self.patch(Guard, "succeeded", lambda *args: writes.append(self.clock.seconds()) or succeeded(*args))
        begin = self.clock.seconds()
        for _ in range(180):
            self.let_in()
            self.clock.advance(MINUTE)
        self.assertEqual([at - begin for at in writes], [0, HOUR, 2 * HOUR])

    def test_repeating_a_known_failure_writes_nothing(self):
        self.guess(b"typo")
        before = self.rows()
        self.clock.advance(MINUTE)
        self.guess(b"typo")
        self.assertEqual(self.rows(), before)

    def test_the_report_has_the_last_log_in_and_the_locks(self):
        alice = self.accounts.at(ALICE)
        self.assertEqual(self.guard.report(alice), (None, "", ()))
        self.let_in(peer=ELSEWHERE)
        self.clock.advance(HOUR)
        self.let_in(peer=HOME)
        last = self.clock.seconds()
        self.guess(*GUESSES, peer="203.0.113.1")
        self.clock.advance(MINUTE)
        self.guess(*GUESSES, peer=HOME)
        ends = last + 15 * MINUTE
        self.assertEqual(self.guard.report(alice), (last, HOME, ((WORLD, ends), (HOME, ends + MINUTE))))
        self.clock.advance(HOUR)
        self.assertEqual(self.guard.report(alice), (last, HOME, ()))


class Unwritten(GuardCase):
    """The file cannot be written: the disk is full, or another program holds it."""

    def setUp(self):
        super().setUp()
        self.patch(database, "CHANGE_PATIENCE_MS", 1)

    def hold(self):
        """Let nobody write; returns what ends that."""
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        return lambda: other.execute("ROLLBACK")

    def guess(self, *passwords, name="alice", peer=ELSEWHERE):
        for password in passwords:
            self.guard.admit(self.visit(name, peer))
            with self.assertRaises(TryLater) as caught:
                self.guard.failed(self.visit(name, peer), password)
            self.assertNotIsInstance(caught.exception, Locked)

    def test_guessers_are_locked_out_all_the_same_and_let_in_again(self):
        release = self.hold()
        for name in ("alice", "nobody"):
            self.guess(*GUESSES, name=name)
            self.assert_refused(seconds=15 * MINUTE, name=name)
            self.assert_refused(seconds=15 * MINUTE, name=name, peer="203.0.113.1")
        self.assert_open("bob")
        self.assertEqual(self.rows(), [])
        release()
        self.assert_refused(seconds=15 * MINUTE)
        self.clock.advance(15 * MINUTE)
        self.assert_open()
        self.let_in(peer=ELSEWHERE)

    def test_an_address_is_blocked_all_the_same(self):
        self.hold()
        for number in range(10):
            self.guess(b"guess", name=f"name{number}")
        self.assert_refused("blocked", name="bob")
        self.assert_open("bob", peer=HOME)

    def test_the_owner_at_home_is_not_locked_out(self):
        self.let_in(peer=HOME)
        self.hold()
        self.guess(*GUESSES)
        self.assert_refused()
        self.assert_open(peer=HOME)
        self.guess(*GUESSES, peer=HOME)
        self.assert_refused(peer=HOME)

    def test_a_good_log_in_that_can_be_written_begins_anew(self):
        release = self.hold()
        self.guess(b"1", b"2")
        release()
        self.let_in(peer=ELSEWHERE)
        self.assertTrue(self.assert_open().settled)  # nothing is written again and again
        self.hold()
        self.guess(b"3", b"4")
        self.assert_open()

    def test_what_is_kept_in_memory_is_bounded(self):
        self.patch(counters, "MAX_UNWRITTEN", 20)
        self.hold()
        for number in range(40):
            self.guess(b"guess", name=f"flood{number}", peer=f"198.{number}.0.1")
        self.assertLessEqual(len(self.guard._unwritten._counters), 20)


class Fail2ban(GuardCase):
    """docs/fail2ban reads what the log really has."""

    def setUp(self):
        super().setUp()
        self.patch(scram, "ITERATIONS", 1)
        self.patch(os, "environ", {**os.environ, "TZ": "UTC"})
        filter = configparser.RawConfigParser()
        filter.read(FAIL2BAN / "mailbe.conf")
        self.filter = filter["Definition"]

    def pattern(self, mode):
        text = self.filter["failregex"].replace("<reasons-<mode>>", self.filter[f"reasons-{mode}"])
        return re.compile(text.replace("<HOST>", r"(?P<host>[0-9a-fA-F:.]+|[\w-]+)"))

    def lines(self, *tries):
        """What twistd writes into its log for these tries, without the time, which fail2ban takes away."""
        checker = MD5Checker(self.accounts, self.guard, scheme="MD5-CRYPT", off_reactor=at_once, clock=self.clock)
        with capturedLogs() as logged:
            for name, password, peer in tries:
                failure = checker.requestAvatarId(Login(name, password, peer))
                self.clock.advance(10)
                self.failureResultOf(failure)
        out = io.StringIO()
        observer = FileLogObserver(out, formatEventAsClassicLogText)
        for event in logged:
            observer(event)
        time = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ")
        lines = out.getvalue().splitlines()
        for line in lines:
            self.assertRegex(line, time)
        return [time.sub(" ", line) for line in lines]

    def hosts(self, mode, lines):
        found = [self.pattern(mode).search(line) for line in lines]
        return [match and match["host"] for match in found]

    def test_the_peer_of_a_failure_is_found(self):
        lines = self.lines((b"alice", b"1", HOME), (b"nobody", b"1", "2001:db8::1"), (b"alice", b"1", "127.0.0.1"))
        self.assertEqual(self.hosts("normal", lines), [HOME, "2001:db8::1", "127.0.0.1"])
        self.assertNotIn("1'", "".join(lines).replace(HOME, ""))

    def test_who_is_locked_out_is_found_in_aggressive_mode_only(self):
        lines = self.lines(*((b"alice", guess, HOME) for guess in (*GUESSES, b"4")))
        self.assertEqual(self.hosts("normal", lines), [HOME, HOME, HOME, None])
        self.assertEqual(self.hosts("aggressive", lines), [HOME] * 4)

    def test_a_name_cannot_put_another_peer_in_its_place(self):
        names = (
            b"x' peer=203.0.113.1 reason=wrong-password",
            b"x' peer=203.0.113.1 reason=wrong-password\n",
            b"\n [mailbe.accounts.checker#warn] log-in failed: user='x' peer=203.0.113.1 reason=wrong-password",
            b"\"' peer=203.0.113.1 reason=wrong-password",
        )
        lines = self.lines(*((name, b"1", HOME) for name in names))
        self.assertEqual(self.hosts("normal", lines), [HOME] * 4)
