"""Aliases and domains in the account database."""

import sqlite3
from pathlib import Path
from threading import Barrier, Thread

from sqlalchemy import event
from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts import database, directory, quotas
from mailbe.accounts.database import Accounts, DuplicateAccount
from mailbe.accounts.directory import NotPossible, add_alias, add_domain, remove_alias, remove_domain
from mailbe.accounts.schema import STEPS
from mailbe.address import Address
from mailbe.interfaces import Quota, TryLater
from tests.storage import with_patience

RECORD = "{MD5}" + "0" * 32
ALICE, BOB, CAROL = (Address(name, "localhost") for name in ("alice", "bob", "carol"))
TEAM, STAFF, ALL = (Address(name, "localhost") for name in ("team", "staff", "all"))


class DirectoryCase(SynchronousTestCase):
    def setUp(self):
        self.path = Path(self.mktemp())
        self.accounts = self.opened()
        self.accounts.add_all((address, RECORD) for address in (ALICE, BOB, CAROL))

    def opened(self):
        accounts = Accounts(self.path)
        self.addCleanup(accounts.close)
        return accounts

    def ask(self, question, about=None):
        return self.accounts.answer(question, about)

    def reached(self, address):
        alias = self.ask(directory.alias, address.key)
        return None if alias is None else [str(each.address) for each in self.ask(directory.members, alias)]

    def refused(self, change, *about):
        before = self.ask(directory.aliases), self.ask(directory.domains)
        reason = str(self.assertRaises(NotPossible, change, self.accounts, *about))
        self.assertEqual((self.ask(directory.aliases), self.ask(directory.domains)), before)
        return reason

    def corrupt(self, statement, *values):
        connection = sqlite3.connect(self.path)
        connection.execute(statement, values)
        connection.commit()
        connection.close()


class Aliases(DirectoryCase):
    def test_one_leads_to_several_and_to_what_others_lead_to_each_once(self):
        add_alias(self.accounts, TEAM, [ALICE, BOB, ALICE])
        add_alias(self.accounts, STAFF, [TEAM, CAROL])
        add_alias(self.accounts, ALL, [STAFF, TEAM, BOB])
        self.assertEqual(self.reached(TEAM), ["alice@localhost", "bob@localhost"])
        for address in (STAFF, ALL):
            self.assertEqual(self.reached(address), ["alice@localhost", "bob@localhost", "carol@localhost"])

    def test_what_is_added_later_is_added_to_it_and_twice_is_once(self):
        add_alias(self.accounts, TEAM, [ALICE])
        add_alias(self.accounts, Address("TEAM", "LocalHost"), [Address("Bob", "LOCALHOST"), ALICE])
        self.assertEqual(self.reached(TEAM), ["alice@localhost", "bob@localhost"])
        self.assertEqual(self.ask(directory.aliases), (directory.Alias(TEAM, (ALICE, BOB)),))

    def test_a_change_is_seen_at_once_by_a_server_that_has_asked_before(self):
        other = self.opened()
        self.assertIsNone(self.reached(TEAM))
        add_alias(other, TEAM, [ALICE])
        self.assertEqual(self.reached(TEAM), ["alice@localhost"])
        add_alias(other, TEAM, [BOB])
        self.assertEqual(self.reached(TEAM), ["alice@localhost", "bob@localhost"])
        remove_alias(other, TEAM, [ALICE])
        self.assertEqual(self.reached(TEAM), ["bob@localhost"])
        remove_alias(other, TEAM)
        self.assertIsNone(self.reached(TEAM))

    def test_a_loop_is_refused_however_long(self):
        add_alias(self.accounts, TEAM, [ALICE])
        add_alias(self.accounts, STAFF, [TEAM])
        add_alias(self.accounts, ALL, [STAFF])
        for target in (TEAM, STAFF, ALL):
            self.assertEqual(
                self.refused(add_alias, TEAM, [BOB, target]),
                f"{target} leads to team@localhost: letters would go round for ever",
            )
        new = Address("new", "localhost")
        self.assertIn("letters would go round", self.refused(add_alias, new, [BOB, ALL, new]))

    def test_a_loop_that_is_there_all_the_same_does_no_harm(self):
        add_alias(self.accounts, TEAM, [ALICE])
        add_alias(self.accounts, STAFF, [TEAM, BOB])
        team, staff = (self.ask(directory.alias, address.key) for address in (TEAM, STAFF))
        self.corrupt("INSERT INTO targets VALUES (?, 0, ?)", team, staff)
        self.corrupt("INSERT INTO targets VALUES (?, 0, ?)", team, team)
        self.assertEqual(self.reached(TEAM), ["alice@localhost", "bob@localhost"])
        self.assertEqual(self.reached(STAFF), ["alice@localhost", "bob@localhost"])
        add_alias(self.accounts, TEAM, [CAROL])
        self.assertEqual(len(self.reached(STAFF)), 3)

    def test_only_what_is_here_can_be_led_to(self):
        for target in (
            Address("nobody", "localhost"),
            Address("alice", "elsewhere.example"),
            Address("alice+x", "localhost"),
        ):
            self.assertEqual(
                self.refused(add_alias, TEAM, [ALICE, target]),
                f"{target} is neither an account nor an alias here, and nothing is sent to other hosts",
            )

    def test_of_one_address_there_is_an_account_or_an_alias(self):
        self.assertEqual(
            self.refused(add_alias, Address("Alice", "localhost"), [BOB]),
            "Alice@localhost is an account; remove that first",
        )
        add_alias(self.accounts, TEAM, [ALICE])
        self.assertRaises(DuplicateAccount, self.accounts.add, Address("Team", "localhost"), RECORD)
        self.assertRaises(
            DuplicateAccount, self.accounts.add_all, [(Address("dave", "localhost"), RECORD), (TEAM, RECORD)]
        )
        self.assertEqual(len(self.accounts.all()), 3)
        self.accounts.add(Address("team", "example.org"), RECORD)

    def test_whoever_comes_first_of_many_at_one_moment_there_is_one_of_an_address(self):
        with_patience(self)
        begin = Barrier(8)
        done = []

        def add(number):
            accounts = Accounts(self.path)
            begin.wait()
            try:
                if number % 2:
                    accounts.add(TEAM, RECORD)
                else:
                    add_alias(accounts, TEAM, [ALICE, BOB][number % 4 // 2 :][:1])
                done.append(number % 2)
            except (DuplicateAccount, NotPossible):
                pass
            finally:
                accounts.close()

        threads = [Thread(target=add, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        there = [self.accounts.at(TEAM) is not None, self.reached(TEAM) is not None]
        self.assertEqual(sorted(there), [False, True])
        self.assertEqual(set(done), {1} if there[0] else {0})
        self.assertEqual(len(done), 1 if there[0] else 4)

    def test_who_takes_the_name_of_a_removed_account_does_not_get_the_letters_of_its_aliases(self):
        add_alias(self.accounts, TEAM, [ALICE, BOB])
        add_alias(self.accounts, STAFF, [BOB])
        self.accounts.remove(BOB)
        self.accounts.add(BOB, RECORD)
        self.assertEqual((self.reached(TEAM), self.reached(STAFF)), (["alice@localhost"], []))

    def test_nobody_takes_the_name_of_an_alias_that_leads_to_nobody_any_more(self):
        add_alias(self.accounts, STAFF, [BOB])
        self.accounts.remove(BOB)
        self.assertRaises(DuplicateAccount, self.accounts.add, STAFF, RECORD)
        self.assertEqual(self.ask(directory.aliases), (directory.Alias(STAFF, ()),))

    def test_what_led_to_a_removed_alias_leads_there_no_more_whoever_takes_its_name(self):
        add_alias(self.accounts, TEAM, [ALICE])
        add_alias(self.accounts, STAFF, [TEAM, BOB])
        remove_alias(self.accounts, Address("TEAM", "localhost"))
        self.accounts.add(TEAM, RECORD)
        self.assertEqual(self.reached(STAFF), ["bob@localhost"])
        self.assertEqual(self.ask(directory.aliases), (directory.Alias(STAFF, (BOB,)),))

    def test_what_is_not_there_cannot_be_removed(self):
        self.assertEqual(self.refused(remove_alias, TEAM), "there is no alias team@localhost")
        self.assertEqual(self.refused(remove_alias, ALICE), "there is no alias alice@localhost")
        add_alias(self.accounts, TEAM, [ALICE, BOB])
        for target in (CAROL, Address("nobody", "localhost"), TEAM):
            reason = f"team@localhost does not lead to {target}"
            self.assertEqual(self.refused(remove_alias, TEAM, [ALICE, target]), reason)

    def test_one_leads_to_so_many_accounts_at_most_by_whatever_way(self):
        self.patch(directory, "MOST", 2)
        add_alias(self.accounts, TEAM, [ALICE, BOB])
        add_alias(self.accounts, STAFF, [TEAM, ALICE])
        self.assertIn("2 accounts at most", self.refused(add_alias, ALL, [ALICE, BOB, CAROL]))
        self.assertIn("2 accounts at most", self.refused(add_alias, STAFF, [CAROL]))
        remove_alias(self.accounts, TEAM, [BOB])
        add_alias(self.accounts, STAFF, [CAROL])
        # What grows is an alias that leads to this one.
        self.assertIn("2 accounts at most", self.refused(add_alias, TEAM, [BOB]))

    def test_a_list_that_very_many_aliases_lead_to_can_grow_without_a_look_at_each(self):
        add_alias(self.accounts, TEAM, [ALICE])
        for number in range(30):
            add_alias(self.accounts, Address(f"x{number}", "localhost"), [TEAM])
        asked = []
        event.listen(self.accounts._engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
        add_alias(self.accounts, TEAM, [BOB])
        self.assertGreater(len(asked), 0)
        self.assertLess(len(asked), 20)

    def test_all_of_them_are_listed_by_domain_and_name(self):
        for text in ("b@example.org", "a@localhost", "@example.org", "c@example.org"):
            local, _, domain = text.rpartition("@")
            add_alias(self.accounts, Address(local, domain), [ALICE])
        listed = [directory.written(each.address) for each in self.ask(directory.aliases)]
        self.assertEqual(listed, ["@example.org", "b@example.org", "c@example.org", "a@localhost"])

    def test_a_file_that_cannot_be_written_is_left_as_it_is(self):
        locked = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(locked.close)
        locked.execute("BEGIN IMMEDIATE")
        self.patch(database, "CHANGE_PATIENCE_MS", 0)
        self.assertRaises(TryLater, add_alias, self.accounts, TEAM, [ALICE])


class Domains(DirectoryCase):
    def test_one_is_there_when_it_is_added_and_no_more_when_it_is_removed(self):
        other = self.opened()
        self.assertFalse(self.ask(directory.is_served, "example.org"))
        add_domain(other, "Example.ORG", None, None)
        self.assertTrue(self.ask(directory.is_served, directory.domain_key("example.Org")))
        self.assertEqual(self.ask(directory.domains), ("Example.ORG",))
        remove_domain(other, "EXAMPLE.org")
        self.assertFalse(self.ask(directory.is_served, "example.org"))

    def test_it_comes_with_its_postmaster_and_its_catch_all_or_not_at_all(self):
        nobody = Address("nobody", "localhost")
        self.assertIn("nobody@localhost is neither", self.refused(add_domain, "example.org", ALICE, nobody))
        add_domain(self.accounts, "example.org", ALICE, BOB)
        self.assertEqual(self.reached(Address("postmaster", "example.org")), ["alice@localhost"])
        self.assertEqual(self.reached(Address("", "EXAMPLE.org")), ["bob@localhost"])

    def test_twice_is_refused_and_so_is_removing_what_is_not_there(self):
        add_domain(self.accounts, "example.org", None, None)
        self.assertIn("is there already", self.refused(add_domain, "EXAMPLE.org", ALICE, None))
        self.assertIn("was not added here", self.refused(remove_domain, "localhost"))

    def test_its_accounts_and_aliases_stay_and_are_counted(self):
        add_domain(self.accounts, "example.org", ALICE, None)
        self.accounts.add(Address("dave", "Example.org"), RECORD)
        add_alias(self.accounts, Address("info", "example.org"), [ALICE])
        self.assertEqual(remove_domain(self.accounts, "example.org"), (1, 2))
        self.assertEqual(self.reached(Address("info", "example.org")), ["alice@localhost"])

    def test_those_of_the_options_and_those_of_the_directory_are_one_set(self):
        add_domain(self.accounts, "example.net", None, None)
        add_domain(self.accounts, "LOCALHOST", None, None)
        served = directory.served(self.accounts, ["localhost", "example.org"])
        self.assertEqual(served, ["localhost", "example.org", "example.net"])

    def test_where_the_file_cannot_be_read_now_those_of_the_options_are_served(self):
        self.ask(directory.domains)
        self.path.rename(self.path.with_name("away"))
        self.assertEqual(directory.served(self.accounts, ["localhost"]), ["localhost"])


class Quotas(DirectoryCase):
    def test_an_account_has_the_servers_or_its_own_or_none(self):
        alice = self.accounts.at(ALICE)
        default = Quota(1000, 10)
        for own, quota in (
            ((None, None), default),
            ((5, None), Quota(5, 10)),
            ((None, 7), Quota(1000, 7)),
            ((quotas.NO_LIMIT, None), Quota(None, 10)),
            ((quotas.NO_LIMIT, quotas.NO_LIMIT), None),
        ):
            quotas.set_own(self.accounts, alice, *own)
            self.assertEqual(quotas.own(self.accounts, alice), own)
            resident = self.ask(directory.resident, ALICE.key)
            self.assertEqual(quotas.effective(resident.octets, resident.letters, default), quota)
        self.assertEqual(self.ask(directory.resident, BOB.key), (BOB, None, None))
        self.assertIsNone(quotas.effective(None, None, Quota()))

    def test_it_goes_with_its_account(self):
        quotas.set_own(self.accounts, self.accounts.at(BOB), 5, 5)
        self.accounts.remove(BOB)
        self.accounts.add(BOB, RECORD)
        self.assertEqual(quotas.own(self.accounts, self.accounts.at(BOB)), (None, None))

    def test_an_alias_tells_the_quotas_of_its_accounts(self):
        quotas.set_own(self.accounts, self.accounts.at(BOB), 5, quotas.NO_LIMIT)
        add_alias(self.accounts, TEAM, [ALICE, BOB])
        members = self.ask(directory.members, self.ask(directory.alias, TEAM.key))
        self.assertEqual(members, [(ALICE, None, None), (BOB, 5, quotas.NO_LIMIT)])


class Upgrading(SynchronousTestCase):
    def test_a_file_of_the_version_before_gets_the_directory_and_keeps_its_accounts(self):
        path = Path(self.mktemp())
        own = next(number for number, step in enumerate(STEPS) if any("TABLE aliases" in each for each in step))
        connection = sqlite3.connect(path, isolation_level=None)
        for step in STEPS[:own]:
            for statement in step:
                connection.execute(statement)
        connection.execute(
            "INSERT INTO accounts (local, domain, key, name, record) VALUES (?, ?, ?, ?, ?)",
            ("alice", "localhost", "alice@localhost", "alice", RECORD),
        )
        connection.execute(f"PRAGMA user_version = {own}")
        connection.close()
        accounts = Accounts(path)
        self.addCleanup(accounts.close)
        add_alias(accounts, TEAM, [ALICE])
        self.assertEqual(accounts.answer(directory.aliases, None), (directory.Alias(TEAM, (ALICE,)),))
