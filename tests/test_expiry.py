"""Letters expire: when their days are over and not before, and never under a session."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts.terms import DAY, FOR_EVER, AccountTerms
from mailbe.address import Address
from mailbe.durable import make_mailbox
from mailbe.expiry import Expiry
from mailbe.interfaces import Terms
from mailbe.maildir import Maildrops
from tests.storage import ALICE, BOB, Office, at_once


class ExpiryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Office(Path(self.mktemp()))
        self.addCleanup(self.stage.accounts.close)
        self.maildata = self.stage.maildata
        self.later = 0.0  # seconds that the clock is ahead, as nobody can set a file's time of change
        self.terms = AccountTerms(self.stage.accounts, Terms())
        self.set(ALICE, 30)
        self.expiry = self.restarted()

    def set(self, address: Address, days: int) -> None:
        account = self.stage.accounts.at(address)
        assert account is not None
        self.terms.set(account, days=days, delay=None)

    def restarted(self) -> Expiry:
        """What another process has, which remembers nothing."""
        return Expiry(self.maildata, self.terms, lambda: time.time() + self.later)

    def look_until(self, later: float) -> int:
        """Look twice a day until it is so many seconds later; how many letters were deleted."""
        count = self.expiry.run()
        while self.later < later:
            self.later = min(later, self.later + DAY / 2)
            count += self.expiry.run()
        return count

    def put(self, mailbox: Path, name: str = "1.a,S=3,W=3", folder: str = "new") -> Path:
        if not mailbox.exists():
            make_mailbox(mailbox)
        path = mailbox / folder / name
        path.write_bytes(b"a\r\n")
        os.utime(path, (0, 0))  # an old letter that has just come
        return path


class Time(ExpiryCase):
    def test_a_letter_stays_its_days_and_no_longer(self) -> None:
        new = self.put(self.maildata.reception(ALICE))
        cur = self.put(self.maildata.reception(ALICE), "2.a:2,S", "cur")
        for later, left in ((0, True), (30 * DAY - 60, True), (30 * DAY + 60, False)):
            self.assertEqual(self.look_until(later), 0 if left else 2)
            self.assertEqual([new.exists(), cur.exists()], [left, left])

    def test_a_clock_that_is_set_forward_takes_its_time_to_delete_anything(self) -> None:
        letter = self.put(self.maildata.reception(ALICE))
        self.expiry.run()
        self.later = 365 * DAY
        with capturedLogs() as logged:
            self.assertEqual([self.expiry.run() for _ in range(28)], [0] * 28)
        self.assertEqual(len(logged), 28)
        self.later = 0  # somebody has read that
        self.assertEqual(self.expiry.run(), 0)
        self.assertEqual(self.look_until(29 * DAY), 0)
        self.assertTrue(letter.exists())
        self.assertEqual(self.look_until(31 * DAY), 1)

    def test_a_restart_changes_nothing_of_that(self) -> None:
        letter = self.put(self.maildata.reception(ALICE))
        self.expiry.run()
        self.later = 365 * DAY  # the machine had no power, and its clock no battery
        for _ in range(28):
            self.assertEqual(self.restarted().run(), 0)
        self.assertTrue(letter.exists())
        self.assertEqual(sum(self.restarted().run() for _ in range(3)), 1)

    def test_a_server_that_has_rested_for_weeks_catches_up_within_a_day(self) -> None:
        letter = self.put(self.maildata.reception(ALICE))
        self.look_until(10 * DAY)
        self.later = 32 * DAY
        expiry = self.restarted()
        self.assertEqual(sum(expiry.run() for _ in range(24)), 1)
        self.assertFalse(letter.exists())

    def test_a_clock_that_was_ahead_and_is_right_again_is_believed(self) -> None:
        self.later = 365 * DAY
        self.restarted().run()
        self.later = 0
        letter = self.put(self.maildata.reception(ALICE))
        self.assertEqual(self.look_until(29 * DAY), 0)
        self.assertTrue(letter.exists())
        self.assertEqual(self.look_until(31 * DAY), 1)

    def test_what_was_sent_expires_too(self) -> None:
        letter = self.put(self.maildata.envoi(ALICE))
        self.later = 31 * DAY
        self.assertEqual(self.expiry.run(), 1)
        self.assertFalse(letter.exists())

    def test_each_account_has_its_own_days(self) -> None:
        self.set(BOB, 40)
        letters = [self.put(self.maildata.reception(address)) for address in (ALICE, BOB)]
        self.later = 35 * DAY
        self.assertEqual(self.expiry.run(), 1)
        self.assertEqual([letter.exists() for letter in letters], [False, True])

    def test_of_who_has_not_asked_nothing_is_deleted(self) -> None:
        letter = self.put(self.maildata.reception(BOB))
        self.later = 1000 * 365 * DAY
        self.assertEqual(self.expiry.run(), 0)
        self.assertTrue(letter.exists())

    def test_a_letter_that_was_moved_here_begins_anew(self) -> None:
        letter = self.put(self.maildata.reception(BOB))
        other = self.put(self.maildata.reception(ALICE))
        there = self.maildata.reception(ALICE) / "cur" / "5.moved"
        letter.rename(there)
        self.later = 29 * DAY
        self.assertEqual(self.expiry.run(), 0)
        self.assertTrue(there.exists() and other.exists())

    def test_nothing_else_in_a_mailbox_is_touched(self) -> None:
        mailbox = self.maildata.reception(ALICE)
        self.put(mailbox)
        others = [self.put(mailbox, folder="tmp"), self.put(mailbox, ".hidden"), self.put(mailbox, "file", ".")]
        (mailbox / "new" / "folder").mkdir()
        (mailbox / "new" / "link").symlink_to("/")
        self.later = 31 * DAY
        self.assertEqual(self.expiry.run(), 1)
        self.assertTrue(all(path.exists() for path in others))
        self.assertEqual({path.name for path in (mailbox / "new").iterdir()}, {"folder", "link", ".hidden"})


class Sessions(ExpiryCase):
    def test_a_maildrop_that_is_open_waits_until_it_is_not(self) -> None:
        letter = self.put(self.maildata.reception(ALICE))
        self.later = 31 * DAY
        opening = Deferred.fromCoroutine(Maildrops(at_once).open(self.maildata.reception(ALICE)))
        maildrop = self.successResultOf(opening)
        self.assertEqual(self.expiry.run(), 0)
        self.assertEqual(b"".join(maildrop.read(0)), b"a\r\n")
        maildrop.close()
        self.assertEqual(self.expiry.run(), 1)
        self.assertFalse(letter.exists())

    def test_the_next_session_sees_what_is_left(self) -> None:
        maildrops = Maildrops(at_once)
        mailbox = self.maildata.reception(ALICE)
        self.put(mailbox)
        for later, count in ((0, 1), (31 * DAY, 0)):
            self.look_until(later)
            maildrop = self.successResultOf(Deferred.fromCoroutine(maildrops.open(mailbox)))
            self.assertEqual(len(maildrop.sizes), count)
            maildrop.close()


class Faults(ExpiryCase):
    def test_no_mailbox_is_made_for_who_has_none(self) -> None:
        self.assertEqual(self.expiry.run(), 0)
        self.assertFalse(self.maildata.reception(ALICE).exists())

    def test_what_goes_wrong_with_one_is_told_and_the_others_are_looked_through(self) -> None:
        broken = self.maildata.reception(ALICE)
        broken.mkdir()
        (broken / "new").write_bytes(b"")  # no folder
        self.set(BOB, 30)
        letter = self.put(self.maildata.reception(BOB))
        self.later = 31 * DAY
        with capturedLogs() as logged:
            self.assertEqual(self.expiry.run(), 1)
        self.assertFalse(letter.exists())
        self.assertEqual(
            [str(event.get("user", "")) for event in logged if "do not expire" in event["log_format"]], [str(ALICE)]
        )

    def test_without_the_accounts_nothing_expires(self) -> None:
        letter = self.put(self.maildata.reception(ALICE))
        self.later = 31 * DAY
        self.maildata.accounts.rename(self.maildata.root / "elsewhere")
        with capturedLogs() as logged:
            self.assertEqual(self.expiry.run(), 0)
        self.assertEqual(len(logged), 1)
        self.assertTrue(letter.exists())

    def test_where_it_cannot_be_kept_in_mind_how_late_it_is_nothing_expires(self) -> None:
        letter = self.put(self.maildata.reception(ALICE))
        self.maildata.expiry.symlink_to("nowhere/at-all")
        self.later = 31 * DAY
        with capturedLogs() as logged:
            self.assertEqual(self.expiry.run(), 0)
        self.assertEqual(len(logged), 1)
        self.assertTrue(letter.exists())

    def test_where_nothing_is_to_expire_nothing_is_kept_in_mind(self) -> None:
        self.expiry.run()
        self.assertTrue(self.maildata.expiry.exists())
        self.set(ALICE, FOR_EVER)
        self.expiry.run()
        self.assertFalse(self.maildata.expiry.exists())

    def test_at_the_end_of_the_service_it_stops(self) -> None:
        letter = self.put(self.maildata.reception(ALICE))
        self.later = 31 * DAY
        self.expiry.end()
        self.assertEqual(self.expiry.run(), 0)
        self.assertTrue(letter.exists())
