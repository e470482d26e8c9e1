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
from zope.interface.verify import verifyClass, verifyObject

from mailbe.accounts import checker as module
from mailbe.accounts import database, schemes, scram
from mailbe.accounts.checker import REMEMBERED_FOR, MD5Checker
from mailbe.accounts.database import Accounts
from mailbe.accounts.guard import Guard, Limits, Locked
from mailbe.address import Address
from mailbe.interfaces import IProof, Login, TryLater
from tests.storage import same_marks

ALICE = Address("Alice", "localhost")
PASSWORD = b"correct horse"
PEER = "192.0.2.1"
VERIFIER = "SCRAM-SHA-256$1:c2FsdA==$c3RvcmVk:c2VydmVy"
PATIENT = Limits(wrong_passwords=1000, address_failures=1000, slowest_answer_seconds=0)


def plain_md5(password):
    return "{MD5}" + md5(password, usedforsecurity=False).hexdigest()


class CheckerCase(SynchronousTestCase):
    def setUp(self):
        same_marks(self)
        self.path = Path(self.mktemp())
        self.accounts = Accounts(self.path)
        self.addCleanup(self.accounts.close)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.in_threads = 0
        self.patch(scram, "ITERATIONS", 1)
        self.accounts.add(ALICE, schemes.hash_password(PASSWORD, "MD5-CRYPT"), VERIFIER)
        self.checker = self.checker_of("MD5-CRYPT")

    limits = PATIENT  # what the guard does stands in test_guard

    def checker_of(self, scheme, off_reactor=None):
        guard = Guard(self.accounts, limits=self.limits, now=self.clock.seconds)
        off_reactor = off_reactor or self.off_reactor
        return MD5Checker(self.accounts, guard, scheme=scheme, off_reactor=off_reactor, clock=self.clock)

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
        self.assertEqual(
            [formatEvent(e) for e in logged], ["log-in failed: user='alice' peer=unknown reason=wrong-password"]
        )

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
        self.checker = self.checker_of("MD5-CRYPT", lambda work: Deferred())
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
        self.assertEqual((hashes, self.in_threads), ([], 2))  # one to hash, one to write the log-in down
        self.clock.advance(1)
        self.let_in()
        self.assertEqual(len(hashes), 1)
        self.let_in()
        self.assertEqual(len(hashes), 1)

    def test_a_remembered_log_in_looks_at_the_file_once(self):
        self.let_in()
        looks = []
        fresh = self.accounts._fresh
        self.patch(self.accounts, "_fresh", lambda: looks.append(1) or fresh())
        self.let_in()
        self.assertEqual(len(looks), 1)

    def test_a_lock_ends_it_at_once(self):
        limits = Limits(wrong_passwords=1, known_address_days=0, slowest_answer_seconds=0)
        self.checker = MD5Checker(
            self.accounts,
            Guard(self.accounts, limits=limits, now=self.clock.seconds),
            scheme="MD5-CRYPT",
            off_reactor=self.off_reactor,
            clock=self.clock,
        )
        self.let_in()
        other = Guard(Accounts(self.path), limits=limits, now=self.clock.seconds)  # another process
        account = self.accounts.at(ALICE)
        other.failed(other.visit(account, b"alice", "198.51.100.1"), b"guess")
        self.failureResultOf(self.log_in(), Locked)

    def test_only_the_verified_password_is_remembered(self):
        self.let_in()
        hashes = self.hashes()
        for wrong in (b"", PASSWORD[:-1], PASSWORD + b"\0", b"\0" + PASSWORD):
            self.refused(password=wrong)
            self.refused(password=wrong)  # and a refusal is never remembered as anything else
        self.assertEqual(len(hashes), 8)

    def test_a_new_password_ends_it_at_once(self):
        self.let_in()
        Accounts(self.path).set_record(1, schemes.hash_password(b"new", "MD5-CRYPT"), VERIFIER)
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


class Cost(CheckerCase):
    def test_an_unknown_name_costs_what_the_dearest_account_does(self):
        self.accounts.add(Address("bob", "localhost"), schemes.hash_password(b"pw", "ARGON2ID"))
        hashed = self.hashes()
        for name in (b"bob", b"nobody", b"alice"):
            self.refused(name, b"wrong")
        self.assertEqual([scheme for _, scheme in hashed].count("ARGON2ID"), 3)


class WhileHashing(CheckerCase):
    """What is changed while a log-in is in its thread counts."""

    def setUp(self):
        super().setUp()
        self.thread = Later()
        self.checker = self.checker_of("MD5-CRYPT", self.thread)

    def work_off(self):
        while self.thread.waiting:
            self.thread.step()
            self.clock.advance(0)

    def test_a_password_that_was_changed_meanwhile_does_not_open(self):
        old, new = self.log_in(), self.log_in(password=b"new")
        self.accounts.set_record(1, schemes.hash_password(b"new", "MD5-CRYPT"))
        self.work_off()
        self.failureResultOf(old, UnauthorizedLogin)
        self.assertEqual(self.successResultOf(new), b"Alice@localhost")

    def test_an_account_that_was_removed_meanwhile_does_not_open(self):
        result = self.log_in()
        self.accounts.remove(ALICE)
        self.work_off()
        self.failureResultOf(result, UnauthorizedLogin)

    def test_two_at_once_both_get_in_while_the_record_is_renewed(self):
        self.accounts.set_record(1, plain_md5(PASSWORD))
        results = [self.log_in(), self.log_in()]
        self.work_off()
        for result in results:
            self.assertEqual(self.successResultOf(result), b"Alice@localhost")
        self.assertEqual(schemes.scheme_of(self.accounts.at(ALICE).record), "MD5-CRYPT")

    def test_renewing_does_not_undo_a_new_password(self):
        self.accounts.set_record(1, plain_md5(PASSWORD))
        result = self.log_in()
        self.thread.step()
        self.thread.step()  # the log-in is written down
        self.assertNoResult(result)
        new = schemes.hash_password(b"new", "MD5-CRYPT")
        self.accounts.set_record(1, new, VERIFIER)
        self.thread.step()
        self.assertEqual(self.successResultOf(result), b"Alice@localhost")
        self.assertEqual((self.accounts.at(ALICE).record, self.accounts.at(ALICE).scram), (new, VERIFIER))
        again = self.log_in()
        self.work_off()
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
            [
                f"a log-in of alice@localhost is not written down: {self.path}: database is locked",
                f"no new record for Alice@localhost: {self.path}: database is locked",
            ],
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

    def test_an_account_without_scram_text_gets_it_at_a_good_log_in(self):
        record = self.accounts.at(ALICE).record
        self.accounts.set_record(1, record)
        self.refused(password=b"wrong")
        self.assertIsNone(self.accounts.at(ALICE).scram)
        self.let_in()
        account = self.accounts.at(ALICE)
        self.assertEqual(account.record, record)
        self.assertTrue(account.scram.startswith("SCRAM-SHA-256$1:"))
        self.let_in()
        self.assertEqual(self.accounts.at(ALICE), account)

    def test_a_record_is_renewed_with_its_scram_text_as_it_was(self):
        self.accounts.set_record(1, plain_md5(PASSWORD), VERIFIER)
        self.let_in()
        self.assertEqual(schemes.scheme_of(self.accounts.at(ALICE).record), "MD5-CRYPT")
        self.assertEqual(self.accounts.at(ALICE).scram, VERIFIER)

    def test_scram_text_of_other_iterations_is_made_anew_once(self):
        self.accounts.set_record(1, self.accounts.at(ALICE).record, VERIFIER.replace("$1:", "$600000:"))
        self.let_in()
        account = self.accounts.at(ALICE)
        self.assertTrue(account.scram.startswith("SCRAM-SHA-256$1:"))
        self.let_in()
        self.assertEqual(self.accounts.at(ALICE), account)

    def test_a_password_that_scram_cannot_use_lets_in_without_it(self):
        record = schemes.hash_password(b"\xff", "MD5-CRYPT")
        self.accounts.set_record(1, record)
        self.let_in(password=b"\xff")
        self.assertIsNone(self.accounts.at(ALICE).scram)


@implementer(IProof)
class Proof:
    """A client that proves to know what ``verifiers`` were made of."""

    def __init__(self, username, verifiers=(VERIFIER,), meanwhile=lambda: None):
        self.username = username
        self.peer = PEER
        self.verifiers = verifiers
        self.meanwhile = meanwhile
        self.asked = []

    async def prove(self, verifier, admit):
        self.asked.append(verifier)
        self.meanwhile()
        if verifier not in self.verifiers:
            return False
        admit()
        return True


class Everything:
    def __contains__(self, verifier):
        return True


class Spelled(CheckerCase):
    """A password beyond ASCII, whose characters a keyboard may compose or not (RFC 4013)."""

    composed, apart = "pass\xe9".encode(), "passe\u0301".encode()

    def test_a_password_is_one_however_it_is_composed(self):
        self.accounts.set_record(1, schemes.hash_password(self.composed, "MD5-CRYPT"), VERIFIER)
        for _ in range(2):
            self.let_in(password=self.apart)
            self.let_in(password=self.composed)
        self.refused(password=b"passe")

    def test_a_record_is_renewed_with_what_fits_it(self):
        self.accounts.set_record(1, plain_md5(self.composed))
        self.let_in(password=self.apart)
        self.assertTrue(schemes.verify(self.composed, self.accounts.at(ALICE).record))
        self.assertNotEqual(self.accounts.at(ALICE).record, plain_md5(self.composed))

    def test_one_that_was_stored_apart_is_still_its_own(self):
        self.accounts.set_record(1, schemes.hash_password(self.apart, "MD5-CRYPT"), VERIFIER)
        self.let_in(password=self.apart)

    def test_a_refusal_costs_the_same_for_who_is_here_and_who_is_not(self):
        for password, count in ((self.apart, 2), (self.composed, 1), (b"\xff", 1), (b"ascii", 1)):
            for name in (b"alice", b"nobody"):
                hashes = self.hashes()
                self.refused(name, password)
                self.assertEqual(len(hashes), count, (name, password))


class SentCopies(CheckerCase):
    """A maildrop's name, ``alice+envoi``, is the account's own wherever a log-in is judged."""

    limits = Limits()
    sent = b"Alice@localhost +envoi"

    def log_in(self, name=b"alice+envoi", password=PASSWORD, maildrop=True):
        return self.checker.requestAvatarId(Login(name, password, PEER, maildrop=maildrop))

    def prove(self, name, **more):
        self.proof = Proof(name, **more)
        self.proof.maildrop = True
        return self.checker.requestAvatarId(self.proof)

    def failed(self, result):
        self.clock.advance(10)
        return self.failureResultOf(result).value

    def test_every_spelling_of_the_account_has_it(self):
        for name in (b"alice+envoi", b"ALICE+ENVOI@LocalHost", b'"Alice+envoi"@localhost'):
            self.assertEqual(self.successResultOf(self.log_in(name)), self.sent)
            self.assertEqual(self.successResultOf(self.prove(name)), self.sent)
        self.assertEqual(self.successResultOf(self.log_in(b"alice")), b"Alice@localhost")

    def test_a_name_beyond_ascii_has_it_as_well(self):
        self.accounts.add(Address("Élise", "bücher.example"), plain_md5(PASSWORD), VERIFIER)
        sent = "Élise@bücher.example +envoi".encode()
        decomposed = "e\u0301lise+envoi"
        for name in ("élise+envoi", decomposed, "ÉLISE+ENVOI@xn--bcher-kva.example", "élise+envoi@BÜCHER.example"):
            self.assertEqual(self.successResultOf(self.log_in(name.encode())), sent)
            self.assertEqual(self.successResultOf(self.prove(name.encode())), sent)
        self.assertEqual(self.successResultOf(self.log_in("élise+envoi".encode("latin-1"))), sent)
        self.assertEqual(self.successResultOf(self.log_in("élise".encode())), sent.removesuffix(b" +envoi"))

    def test_a_log_in_to_one_maildrop_is_remembered_for_the_other(self):
        self.successResultOf(self.log_in(b"alice"))
        hashes = self.hashes()
        self.successResultOf(self.log_in())
        self.assertEqual(hashes, [])

    def test_it_is_a_name_for_a_maildrop_alone(self):
        self.assertIsInstance(self.failed(self.log_in(maildrop=False)), UnauthorizedLogin)
        plain = UsernamePassword(b"alice+envoi", PASSWORD)
        self.assertIsInstance(self.failed(self.checker.requestAvatarId(plain)), UnauthorizedLogin)

    def test_an_account_that_is_named_so_is_meant(self):
        other, password = Address("alice+envoi", "localhost"), b"another"
        self.accounts.add(other, schemes.hash_password(password, "MD5-CRYPT"), VERIFIER)
        self.assertEqual(self.successResultOf(self.log_in(password=password)), b"alice+envoi@localhost")
        self.assertEqual(self.successResultOf(self.prove(b"alice+envoi")), b"alice+envoi@localhost")
        self.assertIsInstance(self.failed(self.log_in()), UnauthorizedLogin)
        self.clock.advance(3600)
        double = self.log_in(b"alice+envoi+envoi@localhost", password)
        self.assertEqual(self.successResultOf(double), b"alice+envoi@localhost +envoi")

    def test_one_that_is_made_during_the_log_in_is_judged_by_its_own_password(self):
        verify = schemes.verify

        def meanwhile(*args):
            if self.accounts.at(Address("alice+envoi", "localhost")) is None:
                self.accounts.add(Address("alice+envoi", "localhost"), plain_md5(b"another"), VERIFIER)
            return verify(*args)

        self.patch(schemes, "verify", meanwhile)
        self.assertIsInstance(self.failed(self.log_in()), UnauthorizedLogin)
        self.accounts.remove(Address("alice+envoi", "localhost"))
        made = lambda: meanwhile(b"", plain_md5(b""))  # noqa: E731
        self.assertIsInstance(self.failed(self.prove(b"alice+envoi", meanwhile=made)), TryLater)

    def test_wrong_passwords_count_as_those_of_the_account(self):
        for password, name in ((b"1", b"alice+envoi"), (b"2", b"alice"), (b"3", b"Alice+Envoi@localhost")):
            self.assertIsInstance(self.failed(self.log_in(name, password)), UnauthorizedLogin)
        for name in (b"alice", b"alice+envoi"):
            self.assertIsInstance(self.failed(self.log_in(name)), Locked)

    def test_the_same_wrong_password_for_both_counts_once(self):
        for name in (b"alice", b"alice+envoi") * 4:
            self.assertIsInstance(self.failed(self.log_in(name, b"typo")), UnauthorizedLogin)

    def test_a_name_that_nobody_has_is_counted_alike(self):
        for password, name in ((b"1", b"ghost+envoi"), (b"2", b"ghost"), (b"3", b"ghost+ENVOI@localhost")):
            self.assertIsInstance(self.failed(self.log_in(name, password)), UnauthorizedLogin)
        for name in (b"ghost", b"ghost+envoi"):
            self.assertIsInstance(self.failed(self.log_in(name)), Locked)

    def test_salts_do_not_tell_who_exists(self):
        self.checker = self.checker_of("MD5-CRYPT")
        asked = {}
        for name in (b"alice", b"ghost"):
            for spelling in (b"%s", b"%s+envoi", b"%s+ENVOI@localhost", b"%s+envoi+envoi"):
                self.failed(self.prove(spelling % name, verifiers=()))
                asked.setdefault(name, []).append(self.proof.asked)
                self.clock.advance(3 * 86400)
        for salts in asked.values():
            self.assertEqual([salt == salts[0] for salt in salts], [True, True, True, False])


class Spellings(CheckerCase):
    """What is one name where accounts are looked up is one name for strangers too, and what is not is not."""

    def salt(self, name):
        proof = Proof(name.encode(), verifiers=())
        self.failureResultOf(self.checker.requestAvatarId(proof), UnauthorizedLogin)
        return proof.asked

    def test_salts_do_not_tell_who_exists(self):
        for spelling in (
            "{}",
            '"{}"',
            "{}@localhost",
            '"{}"@localhost',
            "\u212a{}",
            "{}@",
            " {}",
            "{}@LOCALHOST",
            "{}%",
        ):
            for change in (str.lower, str.upper):
                same = [self.salt(change(spelling.format(name))) == self.salt(name) for name in ("alice", "ghost")]
                self.assertEqual(same[0], same[1], spelling)


class Proving(CheckerCase):
    def prove(self, *args, **kwargs):
        self.proof = Proof(*args, **kwargs)
        return self.checker.requestAvatarId(self.proof)

    def test_a_proof_has_its_interface(self):
        verifyClass(IProof, Proof)
        self.assertIn(IProof, self.checker.credentialInterfaces)

    def test_who_proves_to_know_the_password_is_let_in(self):
        for name in (b"alice", b"ALICE@localhost"):
            self.assertEqual(self.successResultOf(self.prove(name)), b"Alice@localhost")
            self.assertEqual(self.proof.asked, [VERIFIER])

    def test_a_wrong_proof_is_a_failed_log_in(self):
        with capturedLogs() as logged:
            self.failureResultOf(self.prove(b"alice", verifiers=()), UnauthorizedLogin)
        self.assertEqual(
            [formatEvent(event) for event in logged],
            ["log-in failed: user='alice' peer=192.0.2.1 reason=wrong-password"],
        )

    def test_who_has_no_scram_text_is_asked_all_the_same_and_refused(self):
        self.accounts.set_record(1, self.accounts.at(ALICE).record)
        asked = {}
        for name in (b"alice", b"Alice@localhost", b"bob", b"BOB@localhost", b"bob\xff", b"x" * 10_000):
            for _ in range(2):
                self.failureResultOf(self.prove(name, verifiers=Everything()), UnauthorizedLogin)
                asked.setdefault(name, set()).update(self.proof.asked)
        self.checker = self.checker_of("MD5-CRYPT")  # after a restart
        self.failureResultOf(self.prove(b"bob"), UnauthorizedLogin)
        asked[b"bob"].update(self.proof.asked)
        for name, verifiers in asked.items():
            self.assertEqual(len(verifiers), 1, name)  # the salt of a name stays
        self.assertEqual(asked[b"alice"], asked[b"Alice@localhost"])
        self.assertEqual(asked[b"bob"], asked[b"BOB@localhost"])
        self.assertEqual(len(set.union(*asked.values())), 4)

    def test_what_changes_during_a_proof_counts(self):
        record = self.accounts.at(ALICE).record
        for change in (lambda: self.accounts.set_record(1, record, "other"), lambda: self.accounts.remove(ALICE)):
            self.accounts.set_record(1, record, VERIFIER)
            self.failureResultOf(self.prove(b"alice", meanwhile=change), TryLater)

    def test_what_a_client_breaks_off_is_no_failure(self):
        def gone():
            raise ConnectionError

        with capturedLogs() as logged:
            self.failureResultOf(self.prove(b"alice", meanwhile=gone), ConnectionError)
        self.assertEqual(logged, [])


class Guarded(CheckerCase):
    limits = Limits()

    def slowly(self, result, seconds, error=None):
        """What comes, after exactly so many seconds: an error or the avatar's id."""
        if seconds:
            self.clock.advance(seconds - 0.1)
            self.assertNoResult(result)
            self.clock.advance(0.1)
        return self.successResultOf(result) if error is None else self.failureResultOf(result, error).value

    def fail_thrice(self, name):
        for wrong, seconds in ((b"1", 1), (b"2", 2), (b"3", 4)):
            self.slowly(self.log_in(name, wrong), seconds, UnauthorizedLogin)

    def test_answers_are_slower_and_slower_and_then_temporary_for_whatever_name(self):
        for name in (b"alice", b"bob"):
            self.checker._guard.unlock(ALICE)
            self.fail_thrice(name)
            hashes = self.hashes()
            with capturedLogs() as logged:
                error = self.slowly(self.log_in(name), 4, Locked)
            self.assertEqual(error.reason, "locked")
            self.assertIsInstance(error, TryLater)
            self.assertEqual(hashes, [])  # nobody looked at the right password
            self.assertEqual(
                [formatEvent(event) for event in logged],
                [f"log-in failed: user={name.decode()!r} peer=192.0.2.1 reason=locked"],
            )
            self.clock.advance(3600)

    def test_one_mistyped_password_three_times_over_leaves_the_account_open(self):
        for _ in range(3):
            self.slowly(self.log_in(password=b"typo"), 1, UnauthorizedLogin)
        self.assertEqual(self.slowly(self.log_in(), 1), b"Alice@localhost")
        self.assertEqual(self.slowly(self.log_in(), 0), b"Alice@localhost")

    def test_a_remembered_log_in_is_locked_like_any_other(self):
        self.let_in()
        self.fail_thrice(b"alice")  # from the known address, so this one is locked
        self.slowly(self.log_in(), 4, Locked)
        self.slowly(self.checker.requestAvatarId(Proof(b"alice")), 4, Locked)
        self.assertEqual(
            self.slowly(self.checker.requestAvatarId(Login(b"alice", PASSWORD, "198.51.100.1")), 0), b"Alice@localhost"
        )

    def test_waiting_for_one_keeps_nobody_else_waiting(self):
        slow = self.log_in(b"bob", b"wrong")
        self.let_in_from("198.51.100.1")
        self.assertNoResult(slow)
        self.slowly(slow, 1, UnauthorizedLogin)

    def let_in_from(self, peer):
        result = self.checker.requestAvatarId(Login(b"alice", PASSWORD, peer))
        self.assertEqual(self.successResultOf(result), b"Alice@localhost")

    def test_of_many_tries_at_a_time_only_three_count(self):
        thread = Later()
        self.checker = self.checker_of("MD5-CRYPT", thread)
        results = [self.log_in(password=guess) for guess in (b"1", b"2", b"3", b"4", PASSWORD)]
        hashed = self.hashes()
        while thread.waiting:
            self.assertEqual(len(thread.waiting), 1)  # the others stand in line
            thread.step()
            self.clock.advance(0)
        self.clock.advance(10)
        for result in results[:3]:
            self.failureResultOf(result, UnauthorizedLogin)
        for result in results[3:]:
            self.failureResultOf(result, Locked)
        self.assertEqual(len(hashed), 3)

    def test_a_long_line_of_tries_is_worked_off(self):
        thread = Later()
        self.checker = self.checker_of("MD5-CRYPT", thread)
        results = [self.log_in(password=b"wrong %d" % guess) for guess in range(1500)]
        while thread.waiting or self.clock.getDelayedCalls():
            if thread.waiting:
                thread.step()
            self.clock.advance(1)
        for result in results:
            self.failureResultOf(result, UnauthorizedLogin, Locked)

    def test_a_good_log_in_that_is_delayed_keeps_nobody_waiting(self):
        self.accounts.add(Address("bob", "localhost"), schemes.hash_password(PASSWORD, "MD5-CRYPT"), VERIFIER)
        self.slowly(self.log_in(b"nobody", b"wrong"), 1, UnauthorizedLogin)
        delayed = self.log_in(b"bob")
        self.assertEqual(self.successResultOf(self.log_in(b"bob")), b"bob@localhost")  # known by now, and not in line
        self.assertNoResult(delayed)
        self.clock.advance(10)
        self.assertEqual(self.successResultOf(delayed), b"bob@localhost")

    def test_when_the_service_stops_no_answer_is_delayed(self):
        waiting = self.log_in(password=b"wrong")
        self.assertNoResult(waiting)
        self.checker.hurry()
        self.failureResultOf(waiting, UnauthorizedLogin)
        self.failureResultOf(self.log_in(password=b"again wrong"), UnauthorizedLogin)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_answers_that_are_delayed_are_bounded(self):
        self.patch(module, "MAX_PAUSES", 1)
        self.assertNoResult(self.log_in(password=b"wrong"))
        self.failureResultOf(self.log_in(password=b"again wrong"), UnauthorizedLogin)

    def test_a_right_proof_behind_many_wrong_ones_is_not_told(self):
        def meanwhile():
            other = Guard(self.accounts, now=self.clock.seconds)
            for guess in (b"1", b"2", b"3"):
                other.failed(other.visit(self.accounts.at(ALICE), b"alice", "198.51.100.1"), guess)

        self.failureResultOf(self.checker.requestAvatarId(Proof(b"alice", meanwhile=meanwhile)), Locked)

    def test_a_lock_that_comes_before_a_good_log_in_is_written_down_refuses_it(self):
        thread = Later()
        self.checker = self.checker_of("MD5-CRYPT", thread)
        result = self.log_in()
        thread.step()
        other = Guard(self.accounts, now=self.clock.seconds)
        for guess in (b"1", b"2", b"3"):
            other.failed(other.visit(self.accounts.at(ALICE), b"alice", "198.51.100.1"), guess)
        thread.step()
        self.failureResultOf(result, Locked)

    def test_a_failure_that_cannot_be_written_down_is_no_refusal(self):
        self.patch(database, "WRITE_PATIENCE", 0.01)
        writer = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(writer.close)
        writer.execute("BEGIN IMMEDIATE")
        error = self.failureResultOf(self.log_in(password=b"wrong"), TryLater).value
        self.assertIn("database is locked", str(error))


class Log(CheckerCase):
    def logged(self, name, password=b"Sesame"):
        with capturedLogs() as logged:
            self.refused(name, password)
        self.assertNotIn("Sesame", repr(logged))
        return [formatEvent(event) for event in logged]

    def test_a_failed_log_in_is_one_line_of_a_fixed_form(self):
        self.assertEqual(self.logged(b"alice"), ["log-in failed: user='alice' peer=192.0.2.1 reason=wrong-password"])
        self.assertEqual(self.logged(b"bob@x"), ["log-in failed: user='bob@x' peer=192.0.2.1 reason=wrong-password"])

    def test_a_name_cannot_forge_a_line_or_fill_the_log(self):
        for name, shown in (
            (b"x\r\nlog-in failed for y", r"'x\r\nlog-in failed for y'"),
            (b"{user} {log_source}", "'{user} {log_source}'"),
            ("Zoë\u2028".encode(), r"'Zo\xeb\u2028'"),
            (b"\xff\x1b[2J", r"'\\xff\x1b[2J'"),
            (b"x" * 10_000, f"'{'x' * 80}'"),
        ):
            self.assertEqual(self.logged(name), [f"log-in failed: user={shown} peer=192.0.2.1 reason=wrong-password"])

    def test_a_good_log_in_is_not_logged_here(self):
        with capturedLogs() as logged:
            self.let_in()
        self.assertEqual(logged, [])
