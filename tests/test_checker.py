"""Checking a name and a password: who is let in, at what cost, and what is told of who is not."""

import sqlite3
from hashlib import md5
from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementer
from zope.interface.verify import verifyObject

from mailbe.accounts import checker as module
from mailbe.accounts import database, schemes
from mailbe.accounts.checker import REMEMBERED_FOR, MD5Checker
from mailbe.accounts.database import Accounts
from mailbe.address import Address
from mailbe.interfaces import Login, TryLater

ALICE = Address("Alice", "localhost")
PASSWORD = b"correct horse"
PEER = "192.0.2.1"


def plain_md5(password):
    return "{MD5}" + md5(password, usedforsecurity=False).hexdigest()


class CheckerCase(SynchronousTestCase):
    def setUp(self):
        self.path = Path(self.mktemp())
        self.accounts = Accounts(self.path)
        self.addCleanup(self.accounts.close)
        self.clock = Clock()
        self.in_threads = 0
        self.accounts.add(ALICE, schemes.hash_password(PASSWORD, "MD5-CRYPT"))
        self.checker = self.checker_of("MD5-CRYPT")

    def checker_of(self, scheme):
        return MD5Checker(self.accounts, scheme=scheme, off_reactor=self.off_reactor, clock=self.clock)

    def off_reactor(self, work):
        self.in_threads += 1
        return maybeDeferred(work)

    def log_in(self, name=b"alice@localhost", password=PASSWORD, checker=None):
        return (checker or self.checker).requestAvatarId(Login(name, password, PEER))

    def let_in(self, *args, **kwargs):
        self.assertEqual(self.successResultOf(self.log_in(*args, **kwargs)), b"Alice@localhost")

    def refused(self, *args, **kwargs):
        self.failureResultOf(self.log_in(*args, **kwargs), UnauthorizedLogin)

    def hashes(self):
        """What is verified from now on, as (password, scheme of the record)."""
        seen = []
        verify = schemes.verify

        def seen_verify(password, record):
            seen.append((password, schemes.scheme_of(record)))
            return verify(password, record)

        self.patch(schemes, "verify", seen_verify)
        return seen


class LettingIn(CheckerCase):
    def test_it_is_a_checker(self):
        verifyObject(ICredentialsChecker, self.checker)

    def test_the_right_password_opens_under_every_name_of_the_account(self):
        for name in (b"Alice@localhost", b"ALICE@LOCALHOST", b"alice"):
            self.let_in(name)

    def test_anything_else_does_not(self):
        for name, password in (
            (b"alice@localhost", b"Correct horse"),
            (b"alice@localhost", b""),
            (b"alice@localhost", b"\xff\0"),
            (b"bob@localhost", PASSWORD),
            (b"", PASSWORD),
            (b"alice\xff", PASSWORD),
            ("älice".encode(), PASSWORD),
            (b"x" * 100_000, PASSWORD),
        ):
            self.refused(name, password)

    def test_a_portal_knows_it(self):
        @implementer(IRealm)
        class Realm:
            def requestAvatar(self, avatarId, mind, *interfaces):
                return interfaces[0], avatarId, lambda: None

        portal = Portal(Realm(), [self.checker])
        _, avatar_id, _ = self.successResultOf(portal.login(Login(b"alice", PASSWORD, PEER), None, Interface))
        self.assertEqual(avatar_id, b"Alice@localhost")

    def test_credentials_without_a_peer_are_checked_too(self):
        result = self.checker.requestAvatarId(UsernamePassword(b"alice", PASSWORD))
        self.assertEqual(self.successResultOf(result), b"Alice@localhost")
        with capturedLogs() as logged:
            result = self.checker.requestAvatarId(UsernamePassword(b"alice", b"wrong"))
        self.failureResultOf(result, UnauthorizedLogin)
        self.assertEqual([formatEvent(e) for e in logged], ["log-in failed for 'alice' from an unknown peer"])

    def test_a_broken_store_is_no_refusal(self):
        self.let_in()
        self.path.rename(self.path.with_name("elsewhere"))
        with capturedLogs() as logged:
            self.assertIn(str(self.path), str(self.failureResultOf(self.log_in(), TryLater).value))
        self.assertEqual(logged, [])

    def test_a_damaged_record_is_no_refusal_and_is_not_shown(self):
        for record in ("{MD5-CRYPT}$1$SALT", "SALT"):
            self.accounts.set_record(1, record)
            reason = str(self.failureResultOf(self.log_in(), TryLater).value)
            self.assertIn("mailbe user passwd Alice@localhost", reason)
            self.assertNotIn("SALT", reason)


class SameWork(CheckerCase):
    def test_an_unknown_name_costs_one_hash_of_the_chosen_scheme(self):
        for scheme in schemes.CHOICES.values():
            checker = self.checker_of(scheme)
            hashes = self.hashes()
            for name in (b"bob", b"bob@localhost", b"alice\xff"):
                self.refused(name, b"guess", checker=checker)
            self.assertEqual(hashes, [(b"guess", scheme)] * 3)

    def test_a_wrong_password_costs_one_too_even_where_the_record_is_cheaper(self):
        hashes = self.hashes()
        self.refused(b"alice", b"guess")
        self.assertEqual(hashes, [(b"guess", "MD5-CRYPT")])
        self.accounts.set_record(1, plain_md5(PASSWORD))
        del hashes[:]
        self.refused(b"alice", b"guess")
        self.assertEqual(hashes, [(b"guess", "MD5"), (b"guess", "MD5-CRYPT")])

    def test_nothing_is_hashed_on_the_reactor(self):
        hashes = self.hashes()
        self.checker = MD5Checker(
            self.accounts, scheme="MD5-CRYPT", off_reactor=lambda work: Deferred(), clock=self.clock
        )
        for name in (b"alice", b"bob"):
            self.assertNoResult(self.log_in(name))
        self.assertEqual(hashes, [])


class Remembering(CheckerCase):
    def test_a_verified_log_in_needs_no_hash_for_five_minutes(self):
        self.let_in()
        self.clock.advance(REMEMBERED_FOR - 1)
        hashes = self.hashes()
        self.let_in()
        self.let_in(b"alice")
        self.assertEqual((hashes, self.in_threads), ([], 1))
        self.clock.advance(1)
        self.let_in()
        self.assertEqual(len(hashes), 1)
        self.let_in()
        self.assertEqual(len(hashes), 1)

    def test_only_the_verified_password_is_remembered(self):
        self.let_in()
        for wrong in (b"", PASSWORD[:-1], PASSWORD + b"\0", b"\0" + PASSWORD):
            self.refused(password=wrong)
            self.refused(password=wrong)  # and a refusal is never remembered as anything else
        self.assertEqual(self.in_threads, 1 + 8)

    def test_a_new_password_ends_it_at_once(self):
        self.let_in()
        Accounts(self.path).set_record(1, schemes.hash_password(b"new", "MD5-CRYPT"))
        self.refused()
        self.let_in(password=b"new")

    def test_a_removed_account_is_refused_at_once(self):
        self.let_in()
        Accounts(self.path).remove(ALICE)
        self.refused()

    def test_a_new_account_of_the_same_name_is_somebody_else(self):
        self.let_in()
        record = self.accounts.remove(ALICE).record
        self.accounts.add(ALICE, record)
        hashes = self.hashes()
        self.let_in()
        self.assertEqual(len(hashes), 1)

    def test_the_longest_unused_is_forgotten_when_there_are_too_many(self):
        self.patch(module, "MAX_REMEMBERED", 2)
        for name in ("bob", "carol"):
            self.accounts.add(Address(name, "localhost"), schemes.hash_password(PASSWORD, "MD5-CRYPT"))
        for name in (b"alice", b"bob", b"alice", b"carol"):
            self.successResultOf(self.log_in(name))
        hashes = self.hashes()
        self.successResultOf(self.log_in(b"alice"))
        self.assertEqual(len(hashes), 0)
        self.successResultOf(self.log_in(b"bob"))
        self.assertEqual(len(hashes), 1)

    def test_no_password_is_kept(self):
        self.let_in()
        kept = repr(vars(self.checker)) + repr(vars(self.accounts))
        self.assertNotIn(PASSWORD.decode(), kept)


class Later:
    """A thread that does its work when told to."""

    def __init__(self):
        self.waiting = []

    def __call__(self, work):
        result = Deferred()
        self.waiting.append((work, result))
        return result

    def step(self):
        work, result = self.waiting.pop(0)
        maybeDeferred(work).chainDeferred(result)


class WhileHashing(CheckerCase):
    """What is changed while a log-in is in its thread counts."""

    def setUp(self):
        super().setUp()
        self.thread = Later()
        self.checker = MD5Checker(self.accounts, scheme="MD5-CRYPT", off_reactor=self.thread, clock=self.clock)

    def test_a_password_that_was_changed_meanwhile_does_not_open(self):
        old, new = self.log_in(), self.log_in(password=b"new")
        self.accounts.set_record(1, schemes.hash_password(b"new", "MD5-CRYPT"))
        while self.thread.waiting:
            self.thread.step()
        self.failureResultOf(old, UnauthorizedLogin)
        self.assertEqual(self.successResultOf(new), b"Alice@localhost")

    def test_an_account_that_was_removed_meanwhile_does_not_open(self):
        result = self.log_in()
        self.accounts.remove(ALICE)
        while self.thread.waiting:
            self.thread.step()
        self.failureResultOf(result, UnauthorizedLogin)

    def test_two_at_once_both_get_in_while_the_record_is_renewed(self):
        self.accounts.set_record(1, plain_md5(PASSWORD))
        results = [self.log_in(), self.log_in()]
        while self.thread.waiting:
            self.thread.step()
        for result in results:
            self.assertEqual(self.successResultOf(result), b"Alice@localhost")
        self.assertEqual(schemes.scheme_of(self.accounts.at(ALICE).record), "MD5-CRYPT")

    def test_renewing_does_not_undo_a_new_password(self):
        self.accounts.set_record(1, plain_md5(PASSWORD))
        result = self.log_in()
        self.thread.step()
        self.assertNoResult(result)
        new = schemes.hash_password(b"new", "MD5-CRYPT")
        self.accounts.set_record(1, new)
        self.thread.step()
        self.assertEqual(self.successResultOf(result), b"Alice@localhost")
        self.assertEqual(self.accounts.at(ALICE).record, new)
        again = self.log_in()
        self.thread.step()
        self.failureResultOf(again, UnauthorizedLogin)


class Renewing(CheckerCase):
    def test_a_record_below_the_chosen_scheme_is_renewed_at_a_good_log_in(self):
        old = plain_md5(PASSWORD)
        self.accounts.set_record(1, old)
        for scheme in ("MD5-CRYPT", "ARGON2ID"):
            checker = self.checker_of(scheme)
            self.refused(password=b"wrong", checker=checker)
            self.assertEqual(self.accounts.at(ALICE).record, old)
            self.let_in(checker=checker)
            self.assertEqual(schemes.scheme_of(self.accounts.at(ALICE).record), scheme)
            hashes = self.hashes()
            self.let_in(checker=checker)
            self.assertEqual(hashes, [])  # it is the new record that is remembered
            old = self.accounts.at(ALICE).record

    def test_a_record_at_or_above_it_stays(self):
        for record in (schemes.hash_password(PASSWORD, scheme) for scheme in ("MD5-CRYPT", "ARGON2ID")):
            self.accounts.set_record(1, record)
            self.let_in()
            self.assertEqual(self.accounts.at(ALICE).record, record)

    def test_a_record_that_cannot_be_written_is_logged_and_lets_in(self):
        self.patch(database, "WRITE_PATIENCE", 0.01)
        self.accounts.set_record(1, plain_md5(PASSWORD))
        writer = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(writer.close)
        writer.execute("BEGIN IMMEDIATE")
        with capturedLogs() as logged:
            self.let_in()
        self.assertEqual(
            [formatEvent(event) for event in logged],
            [f"no new record for Alice@localhost: {self.path}: database is locked"],
        )
        writer.execute("ROLLBACK")
        self.clock.advance(REMEMBERED_FOR)
        self.let_in()
        self.assertEqual(schemes.scheme_of(self.accounts.at(ALICE).record), "MD5-CRYPT")

    def test_a_password_that_the_chosen_scheme_cannot_take_still_lets_in(self):
        self.accounts.set_record(1, plain_md5(b"nul\0nul"))
        with capturedLogs() as logged:
            self.let_in(password=b"nul\0nul")
        self.assertEqual(
            [formatEvent(event) for event in logged],
            ["no new record for Alice@localhost: MD5-CRYPT cannot take this password"],
        )


class Log(CheckerCase):
    def logged(self, name, password=b"Sesame"):
        with capturedLogs() as logged:
            self.refused(name, password)
        self.assertNotIn("Sesame", repr(logged))
        return [formatEvent(event) for event in logged]

    def test_a_failed_log_in_is_one_line_of_a_fixed_form(self):
        self.assertEqual(self.logged(b"alice"), ["log-in failed for 'alice' from 192.0.2.1"])
        self.assertEqual(self.logged(b"bob@x"), ["log-in failed for 'bob@x' from 192.0.2.1"])

    def test_a_name_cannot_forge_a_line_or_fill_the_log(self):
        for name, shown in (
            (b"x\r\nlog-in failed for y", r"'x\r\nlog-in failed for y'"),
            (b"{user} {log_source}", "'{user} {log_source}'"),
            ("Zoë\u2028".encode(), r"'Zo\xeb\u2028'"),
            (b"\xff\x1b[2J", r"'\\xff\x1b[2J'"),
            (b"x" * 10_000, f"'{'x' * 80}'"),
        ):
            self.assertEqual(self.logged(name), [f"log-in failed for {shown} from 192.0.2.1"])

    def test_a_good_log_in_is_not_logged_here(self):
        with capturedLogs() as logged:
            self.let_in()
        self.assertEqual(logged, [])
