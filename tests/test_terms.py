"""How long letters stay and how soon one may log in again: for each account, for all processes, over restarts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts.database import Accounts
from mailbe.accounts.terms import DAY, FOR_EVER, AccountTerms
from mailbe.address import Address
from mailbe.interfaces import Announcement, LoginTooSoon, Terms
from tests.storage import ALICE, BOB

FREE = Terms()
MINUTE = 60


class TermsCase(SynchronousTestCase):
    defaults = FREE

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.terms = self.start()
        for address in (ALICE, BOB):
            self.accounts.add(address, "{MD5}" + "0" * 32)

    def start(self, defaults: Terms = FREE) -> AccountTerms:
        """The terms as another process has them, or this one after a restart."""
        self.accounts = Accounts(self.path)
        self.addCleanup(self.accounts.close)
        return AccountTerms(self.accounts, defaults, self.clock.seconds)

    def set(self, address: Address, days: int | None = None, delay: int | None = None) -> None:
        account = self.accounts.at(address)
        assert account is not None
        self.terms.set(account, days=days, delay=delay)

    def of(self, address: Address) -> Terms:
        """Its terms, as at log-in: its account was looked up before."""
        self.accounts.at(address)
        return self.terms.of(address)

    def rows(self, table: str) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            return len(connection.execute(f"SELECT * FROM {table}").fetchall())  # noqa: S608


class Own(TermsCase):
    def test_an_account_has_its_own_or_those_of_the_server(self) -> None:
        self.assertEqual(self.of(ALICE), FREE)
        self.set(ALICE, days=30)
        self.set(BOB, delay=10)
        self.assertEqual((self.of(ALICE), self.of(BOB)), (Terms(30, 0), Terms(None, 10)))
        self.assertEqual(self.terms.own(Address("ALICE", "LocalHost")), (30, None))
        self.terms = self.start(Terms(7, 60))
        self.assertEqual((self.of(ALICE), self.of(BOB)), (Terms(30, 60), Terms(7, 10)))
        self.set(ALICE, days=FOR_EVER, delay=0)
        self.assertEqual(self.of(ALICE), FREE)
        self.set(ALICE)
        self.assertEqual((self.of(ALICE), self.rows("terms")), (Terms(7, 60), 1))

    def test_a_change_by_another_process_is_seen(self) -> None:
        self.assertEqual(self.terms.announced(), Announcement())
        other, mine = self.start(), self.terms
        self.terms = other
        self.set(ALICE, days=3)
        self.assertEqual(mine.announced(), Announcement(Terms(3, 0), days_differ=True))

    def test_who_takes_a_name_later_has_none_of_them(self) -> None:
        self.set(ALICE, days=1, delay=10)
        self.terms.opened(ALICE, 10, sent=False)
        self.accounts.remove(ALICE)
        self.assertEqual((self.rows("terms"), self.rows("fetched")), (0, 0))
        self.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.assertEqual(self.of(ALICE), FREE)


class Announced(TermsCase):
    """RFC 2449 6.5 and 6.7: the longest delay and the fewest days, and whether they differ."""

    def test_where_they_are_the_same_for_all_they_are_said(self) -> None:
        for terms in (FREE, Terms(30, 60)):
            self.assertEqual(self.start(terms).announced(), Announcement(terms))

    def test_where_they_differ_the_least_is_said(self) -> None:
        self.set(ALICE, days=30, delay=5)
        self.assertEqual(self.terms.announced(), Announcement(Terms(30, 5), True, True))
        self.set(BOB, days=7)
        self.assertEqual(self.terms.announced(), Announcement(Terms(7, 5), True, True))
        self.assertEqual(self.start(Terms(3, 9)).announced(), Announcement(Terms(3, 9), True, True))

    def test_for_ever_is_the_longest_of_all(self) -> None:
        self.set(ALICE, days=FOR_EVER)
        self.assertEqual(self.terms.announced(), Announcement())
        self.assertEqual(self.start(Terms(30)).announced(), Announcement(Terms(30), days_differ=True))

    def test_while_the_accounts_cannot_be_read_the_server_s_are_said(self) -> None:
        terms = self.start(Terms(30, 60))
        self.assertEqual(terms.announced(), Announcement(Terms(30, 60)))
        self.path.rename(self.path.with_name("elsewhere"))
        self.assertEqual(terms.announced(), Announcement(Terms(30, 60)))


class Delay(TermsCase):
    def opened(self, *, sent: bool = False) -> None:
        self.terms.check(ALICE, MINUTE, sent=sent)
        self.terms.opened(ALICE, MINUTE, sent=sent)

    def test_so_many_seconds_lie_between_two_log_ins(self) -> None:
        self.opened()
        for _ in range(2):
            self.clock.advance(29)
            self.assertRaises(LoginTooSoon, self.opened)  # and this one prolongs nothing
        self.clock.advance(2)
        self.opened()
        self.assertRaises(LoginTooSoon, self.opened)

    def test_each_maildrop_has_its_own(self) -> None:
        self.opened()
        self.opened(sent=True)
        self.assertRaises(LoginTooSoon, self.opened, sent=True)
        self.terms.check(BOB, MINUTE, sent=False)

    def test_it_holds_for_other_processes_and_over_a_restart(self) -> None:
        self.opened()
        self.terms = self.start()
        self.assertRaises(LoginTooSoon, self.opened)

    def test_of_two_at_the_same_time_one_is_let_in(self) -> None:
        self.terms.check(ALICE, MINUTE, sent=False)
        self.terms.check(ALICE, MINUTE, sent=False)
        self.terms.opened(ALICE, MINUTE, sent=False)
        self.assertRaises(LoginTooSoon, self.terms.opened, ALICE, MINUTE, sent=False)

    def test_a_clock_that_is_set_back_locks_nobody_out(self) -> None:
        self.opened()
        self.clock.rightNow -= 365 * DAY
        self.opened()

    def test_what_cannot_be_written_down_keeps_nobody_out(self) -> None:
        self.terms.check(ALICE, MINUTE, sent=False)
        self.path.rename(self.path.with_name("elsewhere"))
        with capturedLogs() as logged:
            self.terms.opened(ALICE, MINUTE, sent=False)
        self.assertIn("not written down", logged[0]["log_format"])


class Expiring(TermsCase):
    def test_those_whose_letters_do_not_stay_are_named(self) -> None:
        self.assertEqual(self.terms.expiring(), [])
        self.set(ALICE, days=30)
        self.assertEqual(self.terms.expiring(), [(ALICE, 30 * DAY)])
        terms = self.start(Terms(days=7))
        self.assertEqual(sorted(terms.expiring(), key=str), [(ALICE, 30 * DAY), (BOB, 7 * DAY)])
        self.terms = terms
        self.set(BOB, days=FOR_EVER)
        self.assertEqual(terms.expiring(), [(ALICE, 30 * DAY)])
