"""The desk: who gets which account by himself, how often, and how one changes one's own password."""

import re
import sys
import time
from collections import Counter
from pathlib import Path
from threading import Barrier, Thread

from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from mailbe.accounts import database, directory, invitations, rules, schemes, scram, tally
from mailbe.accounts.checker import MD5Checker
from mailbe.accounts.database import Accounts
from mailbe.accounts.desk import Desk
from mailbe.accounts.guard import Guard, Limits, Locked
from mailbe.accounts.invitations import NoSuchInvitation
from mailbe.address import Address
from mailbe.interfaces import (
    BadInvitation,
    BadName,
    BadNewPassword,
    IDesk,
    Login,
    NameTaken,
    RegistrationClosed,
    TooOften,
    TryLater,
)
from mailbe.maildata import Maildata
from tests.fakes import FakeDesk, World
from tests.storage import at_once, same_marks, with_patience

PASSWORD = "white-rabbit-7"
ALICE = Address("alice", "localhost")
HOME, ELSEWHERE, NEAR_ELSEWHERE = "192.0.2.1", "198.51.100.7", "198.51.100.8"
HOUR, DAY = 3600, 86400


class DeskCase(SynchronousTestCase):
    registration = "open"
    domains = ("localhost", "Example.ORG")
    separator = "+"

    def setUp(self):
        self.patch(scram, "ITERATIONS", 1)
        same_marks(self)
        self.maildata = Maildata(Path(self.mktemp()))
        self.maildata.prepare()
        self.clock = Clock()
        self.clock.advance(time.time())
        self.accounts = Accounts(self.maildata.accounts)
        self.addCleanup(self.accounts.close)
        self.desk = self.desk_of(self.accounts)

    def desk_of(self, accounts, off_reactor=at_once, scheme="MD5-CRYPT"):
        """A desk, as a process of its own would have it."""
        guard = Guard(accounts, limits=Limits(slowest_answer_seconds=0), now=self.clock.seconds)
        self.checker = MD5Checker(accounts, guard, scheme=scheme, off_reactor=at_once, clock=self.clock)
        return Desk(
            self.maildata,
            accounts,
            self.checker,
            registration=self.registration,
            domains=self.domains,
            separator=self.separator,
            scheme=scheme,
            off_reactor=off_reactor,
            clock=self.clock,
            now=self.clock.seconds,
        )

    def registering(self, name, *, password=PASSWORD, code="", peer=HOME, desk=None):
        return Deferred.fromCoroutine((desk or self.desk).register(name, password, code, peer))

    def registered(self, *args, **kwargs):
        return str(self.successResultOf(self.registering(*args, **kwargs)))

    def refused(self, kind, name, **kwargs):
        """See that nobody is registered; returns the reason."""
        before = self.names()
        error = self.failureResultOf(self.registering(name, **kwargs), kind).value
        self.assertEqual(self.names(), before)
        return str(error)

    def names(self):
        return [str(account.address) for account in self.accounts.all()]

    def log_in(self, name, password, peer=HOME):
        return self.checker.requestAvatarId(Login(name.encode(), password.encode(), peer))


class Registering(DeskCase):
    def test_it_is_a_desk_and_so_is_the_fake(self):
        for desk in (self.desk, FakeDesk(World({}))):
            verifyObject(IDesk, desk)
            verifyClass(IDesk, type(desk))

    def test_who_has_registered_is_let_in_by_every_mechanism(self):
        self.assertEqual(self.registered("alice"), "alice@localhost")
        self.assertEqual(self.successResultOf(self.log_in("alice", PASSWORD)), b"alice@localhost")
        self.assertTrue(self.accounts.all_have_scram())

    def test_the_password_is_hashed_with_the_chosen_scheme(self):
        self.registered("alice", desk=self.desk_of(self.accounts, scheme="ARGON2ID"))
        self.assertEqual(schemes.scheme_of(self.accounts.at(ALICE).record), "ARGON2ID")

    def test_an_account_is_on_the_disk_before_anybody_is_told(self):
        connect, transactions = database._connect, []

        def traced(file):
            transactions.append([])
            connection = connect(file)
            connection.set_trace_callback(transactions[-1].append)
            return connection

        self.patch(database, "_connect", traced)
        self.registered("alice")
        [adding] = [said for said in transactions if any(line.startswith("INSERT INTO accounts") for line in said)]
        self.assertIn("COMMIT", adding)
        self.assertNotIn("PRAGMA synchronous = NORMAL", adding)  # it is FULL where nobody says so

    def test_the_domain_may_be_any_that_is_served(self):
        self.assertEqual(self.registered("alice@localhost"), "alice@localhost")
        self.assertEqual(self.registered("bob@example.org"), "bob@Example.ORG")

    def test_the_domain_may_be_written_in_both_its_forms(self):
        self.domains = ("xn--bcher-kva.example",)
        self.desk = self.desk_of(self.accounts)
        self.assertEqual(self.registered("alice@BÜCHER.example"), "alice@xn--bcher-kva.example")
        self.refused(NameTaken, "Alice@xn--bcher-kva.Example", peer=ELSEWHERE)
        self.assertEqual(self.refused(BadName, "bob@b\N{KELVIN SIGN}cher.example"), "domain")

    def test_a_domain_that_was_added_to_the_database_is_served_at_once(self):
        self.refused(BadName, "bob@example.net")
        directory.add_domain(self.accounts, "Example.net", None, None)
        self.assertEqual(self.registered("bob@example.net"), "bob@Example.net")
        self.assertEqual(list(self.desk.domains), ["localhost", "Example.ORG", "Example.net"])

    def test_a_name_that_is_an_alias_is_taken_and_the_same_in_another_domain_is_not(self):
        self.accounts.add(ALICE, "{MD5}" + "0" * 32)
        directory.add_alias(self.accounts, Address("Zoe", "example.org"), [ALICE])
        self.refused(NameTaken, "zoe@example.org")
        self.assertEqual(self.registered("zoe@localhost"), "zoe@localhost")

    def test_what_separates_tags_is_in_no_name(self):
        self.separator = "-"
        self.desk = self.desk_of(self.accounts)
        self.refused(BadName, "alice-work")
        self.separator = ""
        self.desk = self.desk_of(self.accounts)
        self.refused(BadName, "alice+work")
        self.assertEqual(self.registered("alice-work"), "alice-work@localhost")

    def test_capitals_and_blanks_of_a_telephones_keyboard_do_not_count(self):
        self.assertEqual(self.registered(" Alice "), "alice@localhost")

    def test_names_that_cannot_be_are_refused_with_the_reason(self):
        for name, reason in (
            ("", "form"),
            ("a b", "form"),
            ("alice+envoi", "form"),
            ("élise", "form"),
            ("\N{KELVIN SIGN}arl", "form"),
            ("\ud800", "form"),
            ("a\0b", "form"),
            ("a..b", "form"),
            (".alice", "form"),
            ("alice-", "form"),
            ("-alice", "form"),
            ("../alice", "form"),
            ("a" * 65, "long"),
            ('"alice"', "form"),
            ("alice@", "domain"),
            ("alice@example.com", "domain"),
            ("alice@localhost@localhost", "domain"),
            ("postmaster", "reserved"),
            ("Post.Master@example.org", "reserved"),
            ("mailer-daemon", "reserved"),
        ):
            self.assertEqual(self.refused(BadName, name), reason, name)

    def test_a_name_has_64_characters_and_a_folder_room_for_them(self):
        self.assertEqual(self.registered("a" * 64), f"{'a' * 64}@localhost")
        self.domains = (".".join(["long" * 10] * 4),)
        self.assertEqual(self.refused(BadName, "a" * 64, desk=self.desk_of(self.accounts)), "long")

    def test_a_password_of_signs_that_stand_for_letters_keeps_nobody_waiting(self):
        calls = Counter()
        sys.setprofile(lambda frame, event, _: calls.update([event]))
        try:
            rules.check_new_password("4@8({[<369&#!1/|0$5+7%2" * 5, ALICE)
        finally:
            sys.setprofile(None)
        self.assertLess(calls["call"] + calls["c_call"], 150_000)  # 72 characters of it took 264,000

    def test_a_name_that_somebody_has_is_taken_in_every_letter_case(self):
        self.accounts.add(Address("Alice", "localhost"), "{MD5}" + "0" * 32)
        self.refused(NameTaken, "alice")

    def test_nobody_makes_anothers_short_name_mean_two(self):
        self.registered("alice@localhost")
        self.refused(NameTaken, "alice@example.org")

    def test_the_mail_of_an_account_that_is_gone_is_not_given_away(self):
        for kind in ("reception", "envoi"):
            folder = self.maildata.root / kind / f"{kind}@localhost"
            folder.mkdir(parents=True)
            with capturedLogs() as logged:
                self.refused(NameTaken, kind)
            self.assertIn(str(folder), formatEvent(logged[0]))

    def test_passwords_that_are_no_good_are_refused_with_the_reason(self):
        for password, reason in (
            ("", "short"),
            ("a-4$Zq9", "short"),
            ("password", "easy"),
            ("P@ssw0rd1", "easy"),
            ("azertyuiop", "easy"),
            ("12345678", "easy"),
            ("aaaaaaaaaaaaaaaaaaaa", "easy"),
            ("alice.liddell", "easy"),
            ("Alice.Liddell@localhost", "easy"),
            ("liddell1", "easy"),
            ("white\trabbit-7", "characters"),
            ("white-rabbit-\ud800", "characters"),
            ("white-rabbit-\N{PILE OF POO}", "characters"),  # no client could use it with SCRAM
            ("é" * 65, "long"),
        ):
            self.assertEqual(self.refused(BadNewPassword, "alice.liddell", password=password), reason, password)

    def test_a_good_password_may_be_long_and_of_any_language(self):
        for number, password in enumerate(("lapin blanc à midi", "w" + "Kx7-" * 31, "белый кролик 7")):
            self.registered(f"person{number}", password=password)
            self.successResultOf(self.log_in(f"person{number}", password))

    def test_who_presses_the_button_twice_has_registered_once(self):
        with capturedLogs() as logged:
            for _ in range(2):
                self.assertEqual(self.registered("alice"), "alice@localhost")
        self.assertEqual((self.names(), len(logged)), (["alice@localhost"], 1))
        self.clock.advance(60)
        self.refused(NameTaken, "alice")

    def test_that_is_no_way_to_guess_a_password(self):
        self.registered("alice")
        for number in range(3):
            self.refused(NameTaken, "alice", password=f"{PASSWORD}{number}")
        self.failureResultOf(self.log_in("alice", PASSWORD), Locked)
        self.refused(NameTaken, "alice")  # though it is the right password
        self.refused(NameTaken, "alice", peer=ELSEWHERE)

    def test_one_line_of_the_log_tells_who_and_from_where_and_no_password(self):
        with capturedLogs() as logged:
            self.registered("alice")
            self.registered("bob", peer="")
        self.assertEqual(
            [formatEvent(event) for event in logged],
            ["alice@localhost registered from 192.0.2.1", "bob@localhost registered from this machine"],
        )
        self.assertNotIn(PASSWORD, str(logged))

    def test_who_cannot_be_written_down_is_told_to_come_later(self):
        self.accounts.open()
        aside = self.maildata.accounts.rename(self.maildata.root / "aside")
        self.failureResultOf(self.registering("alice"), TryLater)
        aside.rename(self.maildata.accounts)
        self.registered("alice")

    def test_passwords_are_hashed_one_at_a_time_and_nobody_waits_for_two_of_one_address(self):
        begun, done = [], []

        def off_reactor(work):
            begun.append(Deferred())
            return begun[-1]

        desk = self.desk_of(self.accounts, off_reactor)
        for name, peer in (("first", HOME), ("second", HOME), ("stranger", ELSEWHERE)):
            self.registering(name, desk=desk, peer=peer).addCallback(lambda address: done.append(address.local))
        for number, name in enumerate(("first", "stranger", "second"), 1):
            self.assertEqual(len(begun), number)
            begun[-1].callback(None)
            self.clock.advance(0)
            self.assertEqual(done[-1], name)


class Closed(DeskCase):
    registration = "closed"

    def test_nobody_registers_and_nothing_is_told_of_names(self):
        self.refused(RegistrationClosed, "alice")
        self.refused(RegistrationClosed, "postmaster")

    def test_a_password_can_be_changed(self):
        self.accounts.add(ALICE, schemes.hash_password(PASSWORD.encode(), "MD5-CRYPT"))
        self.successResultOf(
            Deferred.fromCoroutine(self.desk.change_password("alice", PASSWORD, "mock-turtle-9", HOME))
        )


class Invited(DeskCase):
    registration = "invitation"

    def invite(self, uses=1, days=1):
        return invitations.add(self.accounts, uses, self.clock.seconds() + days * DAY)

    def left(self):
        return [invitation.remaining for invitation in invitations.all_good(self.accounts)]

    def test_a_code_is_for_so_many_accounts(self):
        code = self.invite(uses=2)
        for name, left in (("alice", [1]), ("bob", [])):
            self.registered(name, code=code)
            self.assertEqual(self.left(), left)
        self.refused(BadInvitation, "carol", code=code)

    def test_who_presses_the_button_twice_has_used_it_once(self):
        for name, uses, left in (("alice", 1, []), ("bob", 3, [2])):
            code = self.invite(uses)
            for _ in range(2):
                self.registered(name, code=code)
            self.assertEqual(self.left(), left)

    def test_a_code_is_read_as_people_type_it(self):
        code = self.invite(uses=3)
        for name, typed in (("alice", code.upper()), ("bob", f" {code.replace('-', ' ')} "), ("carol", code)):
            self.registered(name, code=typed)

    def test_without_a_good_code_nobody_registers(self):
        code = self.invite()
        for wrong in ("", code[:-1], code[:4], code + "2", "\ud800", "k7mq-x3wz-9hfd-p2ra", "x" * 10_000):
            self.refused(BadInvitation, "alice", code=wrong)
        self.assertEqual(self.left(), [1])

    def test_a_code_ends_with_its_days(self):
        code = self.invite(days=1)
        self.clock.advance(DAY)
        self.refused(BadInvitation, "alice", code=code)

    def test_who_fails_has_not_used_the_code(self):
        code = self.invite()
        self.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.refused(NameTaken, "alice", code=code)
        self.refused(BadName, "root", code=code)
        self.refused(BadNewPassword, "bob", code=code, password="password")
        self.assertEqual(self.left(), [1])
        self.registered("bob", code=code)

    def test_who_has_no_code_does_not_learn_who_is_here(self):
        self.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.refused(BadInvitation, "alice", code="k7mq-x3wz-9hfd-p2ra")

    def test_a_class_behind_one_address_registers_in_one_hour(self):
        code = self.invite(uses=60)
        for number in range(60):
            self.registered(f"pupil{number}", code=code)

    def test_codes_are_guessed_a_few_times_only_and_then_the_right_one_waits_too(self):
        code = self.invite()
        for number in range(10):
            self.refused(BadInvitation, "alice", code=f"guess{number}")
        self.refused(TooOften, "alice", code="guess10")
        self.refused(TooOften, "alice", code=code)
        self.registered("alice", code=code, peer=ELSEWHERE)

    def test_the_log_tells_by_which_invitation_and_not_its_code(self):
        code = self.invite()
        with capturedLogs() as logged:
            self.registered("alice", code=code)
        [event] = logged
        told = f"alice@localhost registered from 192.0.2.1 by the invitation {code[:4]}-..."
        self.assertEqual(formatEvent(event), told)
        self.assertNotIn(code[5:], str(event))

    def test_the_file_has_no_code(self):
        code = self.invite()
        octets = b"".join(path.read_bytes() for path in self.maildata.root.glob("accounts*"))
        self.assertIn(code[:4].encode(), octets)
        for group in code.split("-")[1:]:
            self.assertNotIn(f"{group}".encode() + b"-", octets)
        self.assertNotIn(code.replace("-", "").encode(), octets)


class Invitations(DeskCase):
    def add(self, uses=1, days=1):
        return invitations.add(self.accounts, uses, time.time() + days * DAY)

    def test_a_code_cannot_be_guessed_or_misread(self):
        self.assertGreater(len(invitations.ALPHABET) ** (invitations.GROUP * (invitations.GROUPS - 1)), 2**58)
        codes = {self.add() for _ in range(50)}
        self.assertEqual(len({code[:4] for code in codes}), 50)
        for code in codes:
            self.assertRegex(code, r"^[a-z2-9]{4}(-[a-z2-9]{4}){3}$")
            self.assertFalse(set(code) & set("01ilou"))

    def test_those_that_are_good_are_listed_the_first_to_end_first(self):
        later, sooner = self.add(uses=3, days=2), self.add(days=1)
        self.add(days=-1)
        self.assertEqual(
            [(each.label, each.uses, each.remaining) for each in invitations.all_good(self.accounts)],
            [(sooner[:4], 1, 1), (later[:4], 3, 3)],
        )

    def test_one_is_removed_by_its_code_or_its_first_group(self):
        for name in (self.add().upper(), self.add()[:4]):
            self.assertEqual(invitations.remove(self.accounts, name).label, name[:4].lower())
        self.assertEqual(invitations.all_good(self.accounts), [])

    def test_a_code_that_is_nearly_right_removes_nothing(self):
        code = self.add()
        for wrong in ("", code[:3], code[:6], code[:-1] + ("2" if code[-1] != "2" else "3")):
            with self.assertRaises(NoSuchInvitation):
                invitations.remove(self.accounts, wrong)
        self.assertEqual(len(invitations.all_good(self.accounts)), 1)

    def test_what_has_ended_is_not_kept_for_ever(self):
        self.add(days=-1)
        self.add()
        with self.accounts.change() as connection:
            self.assertEqual(connection.exec_driver_sql("SELECT count(*) FROM invitations").scalar(), 1)


class AtOneMoment(DeskCase):
    """Several processes."""

    def setUp(self):
        with_patience(self)
        super().setUp()

    def race(self, names, code="", *, one_address=False):
        """Register all at a time, each at a desk of its own; returns how it ended for how many."""
        outcomes = []
        gate = Barrier(len(names))

        def racer(number, name):
            accounts = Accounts(self.maildata.accounts)
            desk = self.desk_of(accounts)
            peer = HOME if one_address else f"192.0.2.{number}"
            gate.wait()
            Deferred.fromCoroutine(desk.register(name, PASSWORD, code, peer)).addBoth(
                lambda result: outcomes.append(getattr(result, "type", type(result)))
            )
            accounts.close()

        racers = [Thread(target=racer, args=racing) for racing in enumerate(names)]
        for thread in racers:
            thread.start()
        for thread in racers:
            thread.join()
        return Counter(outcomes)

    def test_one_gets_the_name(self):
        self.assertEqual(self.race(["alice"] * 6), {Address: 1, NameTaken: 5})
        self.assertEqual(self.names(), ["alice@localhost"])

    def test_one_gets_the_last_use_of_an_invitation(self):
        self.registration = "invitation"
        code = invitations.add(self.accounts, 2, time.time() + DAY)
        names = [f"person{number}" for number in range(6)]
        self.assertEqual(self.race(names, code), {Address: 2, BadInvitation: 4})
        self.assertEqual(len(self.names()), 2)

    def test_many_tries_at_a_time_tell_no_more_than_one_after_the_other(self):
        names = [f"person{number}" for number in range(14)]
        for name in names:
            self.accounts.add(Address(name, "localhost"), "{MD5}" + "0" * 32)
        judged, refuse = Barrier(len(names)), Desk._refused

        def refused(*args):
            judged.wait(300)  # for all the others, who were not too many either when they were
            refuse(*args)

        self.patch(Desk, "_refused", refused)
        self.assertEqual(self.race(names, one_address=True), {NameTaken: 10, TooOften: 4})

    def test_who_comes_while_a_password_is_hashed_is_seen(self):
        other = Accounts(self.maildata.accounts)
        self.addCleanup(other.close)
        hash_password = schemes.hash_password

        def slowly(password, scheme):
            self.patch(schemes, "hash_password", hash_password)
            self.registered("alice", desk=self.desk_of(other))
            return hash_password(password, scheme)

        desk = self.desk_of(self.accounts)
        self.patch(schemes, "hash_password", slowly)
        self.failureResultOf(self.registering("alice", desk=desk, peer=ELSEWHERE), NameTaken)


class Counting(DeskCase):
    def register_many(self, number, peer=HOME, prefix="person"):
        for each in range(number):
            self.registered(f"{prefix}{each}", peer=peer)

    def test_an_address_registers_so_many_an_hour(self):
        self.register_many(15)
        error = self.failureResultOf(self.registering("alice"), TooOften).value
        self.assertApproximates(error.ends, self.clock.seconds() + HOUR, 1)
        self.clock.advance(HOUR)
        self.registered("alice")

    def test_and_so_many_a_day(self):
        for hour in range(3):
            self.register_many(10 if hour == 2 else 15, prefix=f"hour{hour}.")
            self.clock.advance(HOUR)
        error = self.failureResultOf(self.registering("alice"), TooOften).value
        self.assertApproximates(error.ends, self.clock.seconds() + DAY - 3 * HOUR, 1)
        self.registered("alice", peer=ELSEWHERE)

    def test_a_restart_and_another_process_change_nothing(self):
        self.register_many(15)
        other = Accounts(self.maildata.accounts)
        self.addCleanup(other.close)
        self.refused(TooOften, "alice", desk=self.desk_of(other))

    def test_a_network_counts_as_three_addresses_and_a_household_as_one(self):
        for host in range(3):
            self.register_many(15, f"198.51.100.{host}", f"host{host}.")
        self.refused(TooOften, "alice", peer="198.51.100.9")
        self.registered("alice", peer="198.51.101.9")
        for host in range(3):
            self.register_many(5, f"2001:db8::{host}", f"six{host}.")
        self.refused(TooOften, "bob", peer="2001:db8::9")
        self.registered("bob", peer="2001:db8:0:1::9")

    def test_this_machine_may_be_a_proxy_for_everybody(self):
        for peer in ("127.0.0.1", "::1", ""):
            self.register_many(20, peer, f"from{peer.replace(':', 'x')}")

    def test_even_this_machine_has_its_limit(self):
        self.patch(tally, "ALLOWED", {tally.REGISTERED: ((1, HOUR),), tally.REFUSED: ((1, HOUR),)})
        self.register_many(tally.LOCAL_WEIGHT, "127.0.0.1")
        self.refused(TooOften, "alice", peer="127.0.0.1")

    def test_who_asks_for_taken_names_learns_a_few_only(self):
        for number in range(11):
            self.accounts.add(Address(f"person{number}", "localhost"), "{MD5}" + "0" * 32)
        for number in range(10):
            self.refused(NameTaken, f"person{number}")
        self.refused(TooOften, "person10")
        self.refused(TooOften, "alice")
        self.registered("alice", peer=ELSEWHERE)
        self.clock.advance(HOUR)
        self.refused(NameTaken, "person10")

    def test_the_same_name_again_counts_once(self):
        self.accounts.add(ALICE, "{MD5}" + "0" * 32)
        for _ in range(30):
            self.refused(NameTaken, "alice")

    def test_a_bad_password_or_name_counts_for_nothing(self):
        for _ in range(30):
            self.refused(BadNewPassword, "alice", password="password")
            self.refused(BadName, "root")
        self.registered("alice")

    def test_log_ins_are_not_counted_with_it(self):
        self.register_many(15)
        for number in range(10):
            self.refused(TooOften, f"more{number}")
        self.successResultOf(self.log_in("person0", PASSWORD))

    def test_a_clock_that_is_set_back_ends_it(self):
        self.register_many(15)
        self.clock.rightNow -= 10 * DAY
        self.registered("alice")


class ChangingThePassword(DeskCase):
    NEW = "mock-turtle-9"

    def setUp(self):
        super().setUp()
        self.registered("alice")

    def changing(self, name="alice", old=PASSWORD, new=NEW, peer=HOME):
        return Deferred.fromCoroutine(self.desk.change_password(name, old, new, peer))

    def test_an_old_password_is_one_however_it_is_composed(self):
        composed, apart = "white rabbit \xe9t\xe9", "white rabbit e\u0301te\u0301"
        for old, new in ((PASSWORD, apart), (composed, self.NEW), (self.NEW, composed), (apart, PASSWORD)):
            self.successResultOf(self.changing(old=old, new=new))
            self.successResultOf(self.log_in("alice", new))
            self.assertEqual(str(self.failureResultOf(self.changing(old=new, new=new), BadNewPassword).value), "same")

    def assert_old_holds(self):
        self.successResultOf(self.log_in("alice", PASSWORD))
        self.failureResultOf(self.log_in("alice", self.NEW), UnauthorizedLogin)

    def test_the_new_one_opens_and_the_old_one_does_not(self):
        self.successResultOf(self.log_in("alice", PASSWORD))  # and is remembered
        verifier = self.accounts.at(ALICE).scram
        self.assertEqual(self.successResultOf(self.changing()), ALICE)
        self.failureResultOf(self.log_in("alice", PASSWORD), UnauthorizedLogin)
        self.successResultOf(self.log_in("alice", self.NEW))
        self.assertNotIn(self.accounts.at(ALICE).scram, (None, verifier))

    def test_any_name_of_the_account_will_do(self):
        for name, old, new in (("ALICE@localhost", PASSWORD, self.NEW), (" alice ", self.NEW, PASSWORD)):
            self.successResultOf(self.changing(name, old, new))

    def test_an_account_beyond_ascii_has_been_made_by_an_operator_and_changes_its_own(self):
        address = Address("Élise", "bücher.example")
        self.accounts.add(address, schemes.hash_password(PASSWORD.encode(), "MD5-CRYPT"), None)
        self.assertEqual(self.successResultOf(self.changing("élise", PASSWORD, self.NEW)), address)
        self.successResultOf(self.log_in("élise@xn--bcher-kva.example", self.NEW))

    def test_a_wrong_old_one_changes_nothing(self):
        for name, old in (("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("\ud800", "\ud800")):
            self.failureResultOf(self.changing(name, old), UnauthorizedLogin)
        self.assert_old_holds()

    def test_three_different_wrong_ones_lock_the_account_for_log_ins_too(self):
        for number in range(3):
            self.failureResultOf(self.changing(old=f"guess{number}"), UnauthorizedLogin)
        error = self.failureResultOf(self.changing(), Locked).value
        self.assertApproximates(error.ends, self.clock.seconds() + 900, 1)
        self.failureResultOf(self.log_in("alice", PASSWORD), Locked)

    def test_wrong_log_ins_lock_it_here_too(self):
        for number in range(3):
            self.failureResultOf(self.log_in("alice", f"guess{number}"), UnauthorizedLogin)
        self.failureResultOf(self.changing(), Locked)

    def test_the_new_one_keeps_the_rules(self):
        for new, reason in (("short", "short"), ("password1", "easy"), ("alice1234", "easy"), (PASSWORD, "same")):
            error = self.failureResultOf(self.changing(new=new), BadNewPassword).value
            self.assertEqual(str(error), reason)
        self.assert_old_holds()

    def test_who_does_not_know_the_old_one_learns_nothing_of_the_new(self):
        self.failureResultOf(self.changing(old="wrong", new="wrong"), UnauthorizedLogin)

    def test_what_an_operator_sets_meanwhile_stays(self):
        # Between the check and the change the answer may be held back for seconds.
        request = self.checker.requestAvatarId

        def meanwhile(login):
            result = request(login)
            record = schemes.hash_password(b"reset-by-operator", "MD5-CRYPT")
            self.accounts.set_record(self.accounts.at(ALICE).id, record)
            return result

        self.checker.requestAvatarId = meanwhile
        self.failureResultOf(self.changing(), TryLater)
        self.successResultOf(self.log_in_again(b"reset-by-operator"))

    def test_what_changes_while_it_is_hashed_stays(self):
        hash_password = schemes.hash_password
        reset = hash_password(b"reset-by-operator", "MD5-CRYPT")

        def slowly(password, scheme):
            self.accounts.set_record(self.accounts.at(ALICE).id, reset)
            return hash_password(password, scheme)

        self.patch(schemes, "hash_password", slowly)
        self.failureResultOf(self.changing(), TryLater)
        self.assertEqual(self.accounts.at(ALICE).record, reset)

    def test_an_account_that_is_removed_meanwhile_stays_removed(self):
        request = self.checker.requestAvatarId

        def meanwhile(login):
            result = request(login)
            self.accounts.remove(ALICE)
            return result

        self.checker.requestAvatarId = meanwhile
        self.failureResultOf(self.changing(), TryLater)
        self.assertEqual(self.names(), [])

    def test_one_line_of_the_log_tells_it(self):
        with capturedLogs() as logged:
            self.successResultOf(self.changing())
        self.assertEqual(
            [formatEvent(event) for event in logged], ["alice@localhost changed the password from 192.0.2.1"]
        )
        self.assertNotIn(PASSWORD, str(logged))
        self.assertNotIn(self.NEW, str(logged))

    def log_in_again(self, password):
        del self.checker.requestAvatarId
        return self.checker.requestAvatarId(Login(b"alice", password, HOME))


class Rules(SynchronousTestCase):
    @given(st.text())
    def test_any_text_is_a_name_or_is_refused(self, text):
        try:
            address = rules.new_address(text, ["localhost"])
        except BadName as error:
            self.assertIn(str(error), ("form", "reserved", "domain", "long"))
        else:
            self.assertEqual(Address.parse(str(address)), address)
            self.assertRegex(address.local, re.compile("[a-z0-9._-]{1,64}"))

    @given(st.text(st.characters(), min_size=8, max_size=100))
    def test_any_text_is_a_password_or_is_refused(self, text):
        try:
            rules.check_new_password(text, ALICE)
        except BadNewPassword as error:
            self.assertIn(str(error), ("characters", "long", "easy"))
        else:
            schemes.check_password_rules(text)


class OneContract(DeskCase):
    """What pages are tested with answers as the real desk does."""

    def test_both_desks_answer_alike(self):
        world = World({})
        for registration in ("closed", "open", "invitation"):
            self.registration = registration
            fake = FakeDesk(world, registration, self.domains)
            code = invitations.add(self.accounts, 1, self.clock.seconds() + DAY)
            fake.invitations.add(code)
            for desk in (self.desk_of(self.accounts), fake):
                self.assertEqual(self.answers(desk, f"by{registration}", code), ANSWERS[registration])

    def answers(self, desk, name, code):
        """How registering ends when all is well, then with each fault; then how changing the password does."""
        changes = ((name, "wrong", "mock-turtle-9"), (name, PASSWORD, "short"), (name, PASSWORD, "mock-turtle-9"))
        awaitables = [
            desk.register(name, PASSWORD, code, HOME),
            desk.register(name, "another-password-3", code, HOME),
            desk.register("a b", PASSWORD, code, HOME),
            desk.register("bob@example.com", PASSWORD, code, HOME),
            desk.register("bob", "short", code, HOME),
            *(desk.change_password(*change, HOME) for change in changes),
        ]
        results = []
        for awaitable in awaitables:
            Deferred.fromCoroutine(awaitable).addBoth(
                lambda result: results.append(
                    str(result) if isinstance(result, Address) else (result.type, str(result.value))
                )
            )
        return results


OTHERS = [(BadName, "form"), (BadName, "domain"), (BadNewPassword, "short")]
CHANGES = [(UnauthorizedLogin, ""), (BadNewPassword, "short")]
ANSWERS = {
    "closed": [(RegistrationClosed, "")] * 5 + [(UnauthorizedLogin, "")] * 3,
    "open": ["byopen@localhost", (NameTaken, ""), *OTHERS, *CHANGES, "byopen@localhost"],
    "invitation": ["byinvitation@localhost", (BadInvitation, ""), *OTHERS, *CHANGES, "byinvitation@localhost"],
}
