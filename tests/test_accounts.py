"""The account database: one account an address, every change seen at once, every fault told."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from queue import Queue
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts import database, schema
from mailbe.accounts.database import Account, Accounts, DuplicateAccount, NoSuchAccount
from mailbe.address import Address
from mailbe.interfaces import TryLater
from mailbe.maildata import Unusable
from tests.storage import with_patience

CHECKOUT = Path(__file__).parent.parent
ALICE = Address("alice", "localhost")
BOB = Address("bob", "localhost")
RECORD = "{MD5}5f4dcc3b5aa765d61d8327deb882cf99"
OTHER_RECORD = "{MD5}098f6bcd4621d373cade4e832627b4f6"
SCRAM = "SCRAM-SHA-256$600000:c2FsdA==$c3RvcmVk:c2VydmVy"

# What the version made that knew neither SCRAM nor the guard.
FIRST_SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE accounts (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        local TEXT NOT NULL,
        domain TEXT NOT NULL,
        "key" TEXT NOT NULL,
        name TEXT NOT NULL,
        record TEXT NOT NULL,
        UNIQUE ("key")
    );
    CREATE INDEX ix_accounts_name ON accounts (name);
    INSERT INTO accounts (local, domain, key, name, record)
        VALUES ('alice', 'localhost', 'alice@localhost', 'alice', '{MD5}5f4dcc3b5aa765d61d8327deb882cf99');
"""


class AccountsCase(SynchronousTestCase):
    def setUp(self):
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "accounts.sqlite3"
        self.accounts = self.running()

    def running(self):
        """The accounts, as a process of its own would have them."""
        accounts = Accounts(self.path)
        self.addCleanup(accounts.close)
        return accounts

    def foreign(self, file=None):
        """A connection that another program has to the file."""
        connection = sqlite3.connect(file or self.path, isolation_level=None)
        self.addCleanup(connection.close)
        return connection

    def open_files(self):
        descriptors = Path("/proc/self/fd").iterdir()
        return [link for fd in descriptors if (link := _target(fd)).startswith(str(self.folder.absolute()))]

    def delete_file(self):
        for path in self.folder.iterdir():
            path.unlink()

    def backup(self):
        """A copy of the database as it is now, in another folder."""
        copy = Path(self.mktemp())
        with closing(sqlite3.connect(copy)) as target, closing(self.foreign()) as source:
            source.backup(target)
        return copy


def _target(link):
    try:
        return str(link.readlink())
    except FileNotFoundError:  # the descriptor that listed them
        return ""


class Registering(AccountsCase):
    def test_an_account_is_found_as_it_was_registered(self):
        self.accounts.add(Address("Alice", "Localhost"), RECORD)
        account = self.accounts.at(ALICE)
        self.assertEqual((str(account.address), account.record), ("Alice@Localhost", RECORD))

    def test_quoted_names_and_literals_come_back_as_they_were(self):
        for text in ('"a b"@localhost', r'"\"@\\"@localhost', "x@[127.0.0.1]", "x@[IPv6:::1]"):
            self.accounts.add(Address.parse(text), RECORD)
            self.assertEqual(str(self.accounts.at(Address.parse(text)).address), text)
            self.assertEqual(str(self.accounts.named(text).address), text)

    def test_a_duplicate_in_any_letter_case_is_refused(self):
        self.accounts.add(ALICE, RECORD)
        with self.assertRaises(DuplicateAccount) as caught:
            self.accounts.add(Address("ALICE", "LocalHost"), OTHER_RECORD)
        self.assertEqual(str(caught.exception), "ALICE@LocalHost exists already")
        self.assertEqual(self.accounts.at(ALICE).record, RECORD)

    def test_many_are_added_all_or_none(self):
        self.accounts.add(BOB, RECORD)
        with self.assertRaises(DuplicateAccount) as caught:
            self.accounts.add_all([(ALICE, RECORD), (Address("Bob", "localhost"), RECORD)])
        self.assertEqual(caught.exception.address, Address("Bob", "localhost"))
        self.assertEqual([account.address for account in self.accounts.all()], [BOB])

    def test_of_eight_processes_one_gets_the_address_even_in_a_new_folder(self):
        racer = (
            "import sys; from pathlib import Path; from mailbe.address import Address\n"
            "from mailbe.accounts import database; database.WRITE_PATIENCE = 300.0\n"
            "from mailbe.accounts.database import Accounts, DuplicateAccount\n"
            "accounts = Accounts(Path(sys.argv[1])); address = Address(sys.argv[2], 'localhost')\n"
            "print('ready', flush=True); sys.stdin.readline()\n"
            "try: accounts.add(address, sys.argv[2])\n"
            "except DuplicateAccount: print('refused')\n"
            "else: print('added')\n"
        )
        names = ["racer", "Racer", "rAcer", "raCer", "racEr", "raceR", "RACER", "RaCeR"]
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", racer, self.path.absolute(), name],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        for process in racers:
            self.assertEqual(process.stdout.readline(), "ready\n")
        for process in racers:
            process.stdin.write("go\n")
            process.stdin.flush()
        outcomes = [process.communicate(timeout=300) for process in racers]
        self.assertEqual(sorted(outcomes), [("added\n", "")] + [("refused\n", "")] * 7)
        winner = names[outcomes.index(("added\n", ""))]
        self.assertEqual([account.record for account in self.accounts.all()], [winner])

    def test_two_that_make_the_file_at_one_moment_share_one(self):
        self.accounts.add(ALICE, RECORD)
        self.patch(database.os.path, "lexists", lambda file: False)
        self.assertIsNotNone(self.running().at(ALICE))
        drafts = list(self.folder.glob("accounts.sqlite3.*"))
        self.assertEqual(drafts, [])

    def test_nobody_else_may_read_the_files(self):
        self.accounts.add(ALICE, RECORD)
        self.accounts.at(ALICE)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.folder.iterdir()}
        self.assertEqual(
            modes, dict.fromkeys(["accounts.sqlite3", "accounts.sqlite3-wal", "accounts.sqlite3-shm"], 0o600)
        )

    def test_the_file_is_in_wal_mode_and_commits_wait_for_the_disk(self):
        self.accounts.open()
        self.assertEqual(self.foreign().execute("PRAGMA journal_mode").fetchone(), ("wal",))
        with closing(database._connect(str(self.path.absolute()))) as connection:
            self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))  # FULL

    def test_a_change_waits_for_the_disk_where_it_is_to_last(self):
        for lasting, synchronous in ((True, 2), (False, 1)):  # FULL, NORMAL
            with self.accounts.change(lasting=lasting) as connection:
                self.assertEqual(connection.exec_driver_sql("PRAGMA synchronous").scalar(), synchronous)

    def test_no_record_is_shown(self):
        self.accounts.add(ALICE, RECORD, SCRAM)
        self.assertNotIn(RECORD, repr(self.accounts.at(ALICE)))
        self.assertNotIn(SCRAM, repr(self.accounts.at(ALICE)))
        self.patch(database, "WRITE_PATIENCE", 0.0)
        self.foreign().execute("BEGIN IMMEDIATE")
        with self.assertRaises(TryLater) as caught:
            self.accounts.set_record(1, OTHER_RECORD, SCRAM, expected=RECORD)
        for shown in (str(caught.exception), str(caught.exception.__cause__)):
            self.assertNotIn(RECORD, shown)
            self.assertNotIn(OTHER_RECORD, shown)
            self.assertNotIn(SCRAM, shown)


class Changing(AccountsCase):
    def setUp(self):
        super().setUp()
        self.accounts.add(ALICE, RECORD)
        self.id = self.accounts.at(ALICE).id

    def test_a_new_record_takes_the_old_ones_place(self):
        self.assertTrue(self.accounts.set_record(self.id, OTHER_RECORD))
        self.assertEqual(self.accounts.at(ALICE).record, OTHER_RECORD)

    def test_a_record_that_has_changed_meanwhile_stays(self):
        self.assertFalse(self.accounts.set_record(self.id, "{MD5}new", expected=OTHER_RECORD))
        self.assertEqual(self.accounts.at(ALICE).record, RECORD)
        self.assertTrue(self.accounts.set_record(self.id, "{MD5}new", expected=RECORD))
        self.assertEqual(self.accounts.at(ALICE).record, "{MD5}new")

    def test_no_scram_text_outlives_its_record(self):
        self.assertIsNone(self.accounts.at(ALICE).scram)
        self.assertTrue(self.accounts.set_record(self.id, RECORD, SCRAM, expected=RECORD))
        self.assertEqual(self.accounts.at(ALICE).scram, SCRAM)
        self.assertFalse(self.accounts.set_record(self.id, OTHER_RECORD, "other", expected=OTHER_RECORD))
        self.assertEqual(self.accounts.at(ALICE).scram, SCRAM)
        self.assertTrue(self.accounts.set_record(self.id, OTHER_RECORD))
        self.assertIsNone(self.accounts.at(ALICE).scram)
        self.accounts.add(BOB, RECORD, SCRAM)
        self.assertEqual([account.scram for account in self.accounts.all()], [None, SCRAM])
        self.assertEqual(self.accounts.named("bob").scram, SCRAM)

    def test_whoever_takes_a_removed_name_is_somebody_else(self):
        removed = self.accounts.remove(Address("ALICE", "LOCALHOST"))
        self.assertEqual(removed, Account(self.id, ALICE, RECORD))
        self.accounts.add(ALICE, RECORD)
        self.assertFalse(self.accounts.set_record(self.id, OTHER_RECORD))
        self.assertNotEqual(self.accounts.at(ALICE).id, self.id)

    def test_a_removed_account_is_nowhere(self):
        self.accounts.remove(ALICE)
        self.assertIsNone(self.accounts.at(ALICE))
        self.assertIsNone(self.accounts.named("alice"))
        self.assertEqual(self.accounts.all(), [])
        with self.assertRaises(NoSuchAccount) as caught:
            self.accounts.remove(ALICE)
        self.assertEqual(str(caught.exception), "there is no account alice@localhost")

    def test_accounts_are_sorted_by_address_whatever_their_case(self):
        for name in ("zoe", "Bob", "aaron"):
            self.accounts.add(Address(name, "localhost"), RECORD)
        self.assertEqual(
            [str(account.address) for account in self.accounts.all()],
            ["aaron@localhost", "alice@localhost", "Bob@localhost", "zoe@localhost"],
        )

    def test_a_password_that_an_older_version_sets_ends_the_old_ones_scram(self):
        self.assertTrue(self.accounts.set_record(self.id, "{MD5}old", "verifier"))
        self.foreign().execute("UPDATE accounts SET record = '{MD5}new'")
        self.assertIsNone(self.accounts.at(ALICE).scram)
        self.assertTrue(self.accounts.set_record(self.id, "{MD5}newer", "verifier"))
        self.assertTrue(self.accounts.set_record(self.id, "{MD5}newest", "verifier"))
        self.assertEqual(self.accounts.at(ALICE).scram, "verifier")

    def test_which_schemes_there_are_is_known(self):
        self.accounts.set_record(self.id, "{MD5-CRYPT}$1$a")
        found = [scheme for scheme in ("MD5", "MD5-CRYPT", "ARGON2ID") if self.accounts.has_scheme(scheme)]
        self.assertEqual(found, ["MD5-CRYPT"])


class LoggingIn(AccountsCase):
    def setUp(self):
        super().setUp()
        self.accounts.add(ALICE, RECORD)
        self.accounts.add(Address("Kim", "localhost"), RECORD)

    def test_a_full_address_is_a_name_in_any_case(self):
        for name in ("alice@localhost", "ALICE@LocalHost", '"alice"@localhost'):
            self.assertEqual(self.accounts.named(name).address, ALICE, name)

    def test_a_bare_name_is_one_while_only_one_account_has_it(self):
        self.assertEqual(self.accounts.named("Alice").address, ALICE)
        self.accounts.add(Address("aLice", "example.org"), RECORD)
        self.assertIsNone(self.accounts.named("alice"))
        self.accounts.remove(ALICE)
        self.assertEqual(self.accounts.named("alice").address, Address("aLice", "example.org"))

    def test_anything_else_is_nobody(self):
        for name in ("", "@", "alice@", "@localhost", "alice@localhost@", "bob", "al%", "alice ", "a" * 10_000):
            self.assertIsNone(self.accounts.named(name), name)

    def test_letters_that_only_look_alike_are_nobody(self):
        self.assertIsNotNone(self.accounts.named("kim"))
        self.assertIsNone(self.accounts.named("\N{KELVIN SIGN}im"))
        self.assertIsNone(self.accounts.named("\N{KELVIN SIGN}im@localhost"))
        self.assertIsNone(self.accounts.named("\N{FULLWIDTH LATIN SMALL LETTER A}lice"))
        self.assertIsNone(self.accounts.named("\N{CYRILLIC SMALL LETTER A}lice"))

    def test_a_name_of_utf8_is_one_however_it_is_composed_and_its_domain_in_both_forms(self):
        address = Address("Jörg", "bücher.example")
        self.accounts.add(address, RECORD)
        for name in ("jörg", "JO\u0308RG", "jörg@xn--bcher-kva.example", "JÖRG@BÜCHER.example"):
            self.assertEqual(self.accounts.named(name).address, address, name)
        with self.assertRaises(DuplicateAccount):
            self.accounts.add(Address("jo\u0308rg", "XN--bcher-kva.example"), RECORD)
        self.assertIsNone(self.accounts.named("jorg"))


class Remembering(AccountsCase):
    def setUp(self):
        super().setUp()
        self.accounts.add(ALICE, RECORD)

    def test_an_answer_is_kept_while_nothing_changes(self):
        self.assertIs(self.accounts.at(ALICE), self.accounts.at(Address("Alice", "LOCALHOST")))
        self.assertIs(self.accounts.named("alice"), self.accounts.named("alice"))

    def test_memory_is_bounded(self):
        self.patch(database, "MAX_CACHED", 2)
        accounts = self.running()
        first, named = accounts.at(ALICE), accounts.named("alice")
        for other in range(2):
            accounts.at(Address(str(other), "localhost"))
            accounts.named(str(other))
        self.assertIsNot(accounts.at(ALICE), first)
        self.assertIsNot(accounts.named("alice"), named)
        self.assertEqual(accounts.at(ALICE), first)

    def test_every_change_of_another_process_is_seen_at_once(self):
        other = self.running()
        self.assertIsNone(self.accounts.at(BOB))
        self.assertIsNone(self.accounts.named("bob"))
        other.add(BOB, RECORD)
        self.assertEqual(self.accounts.at(BOB).record, RECORD)
        self.assertEqual(self.accounts.named("bob").record, RECORD)
        other.set_record(self.accounts.at(BOB).id, OTHER_RECORD)
        self.assertEqual(self.accounts.at(BOB).record, OTHER_RECORD)
        self.assertEqual(self.accounts.named("bob@localhost").record, OTHER_RECORD)
        other.remove(BOB)
        self.assertIsNone(self.accounts.at(BOB))
        self.assertIsNone(self.accounts.named("bob"))

    def lately(self, address):
        return self.accounts.answer(database._by_key, address.key, lately=True)

    def test_where_a_letter_goes_may_be_answered_by_the_look_of_a_moment_ago_but_for_our_own_changes(self):
        other = self.running()
        self.patch(database, "LOOK_LASTS", 1000.0)
        self.assertIsNone(self.lately(BOB))
        other.add(BOB, RECORD)
        self.assertIsNone(self.lately(BOB))
        self.patch(database, "LOOK_LASTS", 0.0)
        self.assertEqual(self.lately(BOB).record, RECORD)
        self.patch(database, "LOOK_LASTS", 1000.0)
        self.accounts.remove(BOB)
        self.assertIsNone(self.lately(BOB))

    def test_a_change_by_any_program_is_seen_at_once(self):
        self.assertIsNotNone(self.accounts.at(ALICE))
        change = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])"
        for statement, record in (
            ("UPDATE accounts SET record = 'new'", "new"),
            ("UPDATE accounts SET record = 'newer'", "newer"),
        ):
            subprocess.run([sys.executable, "-c", change, self.path, statement], check=True)
            self.assertEqual(self.accounts.at(ALICE).record, record)

    def test_a_reader_keeps_nobody_from_tidying_the_log(self):
        self.accounts.at(ALICE)
        self.accounts.named("alice")
        for number in range(20):
            self.accounts.add(Address(str(number), "localhost"), RECORD)
            self.accounts.at(ALICE)
        log = self.path.with_name(self.path.name + "-wal")
        self.assertGreater(log.stat().st_size, 0)
        busy, *_ = self.foreign().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.assertEqual((busy, log.stat().st_size), (0, 0))

    def test_what_threads_add_is_there_as_soon_as_they_say_so(self):
        with_patience(self)
        added = Queue()

        def register(thread):
            for number in range(20):
                address = Address(f"{thread}-{number}", "localhost")
                try:
                    self.accounts.add(address, RECORD)
                except BaseException as error:
                    added.put(error)
                    raise
                added.put(address)

        threads = [Thread(target=register, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(80):
            address = added.get(timeout=300)
            self.assertEqual(self.accounts.at(address).address, address)
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.accounts.all()), 81)


class Opening(AccountsCase):
    def test_nothing_is_open_before_a_fork(self):
        self.accounts.open()
        self.accounts.add(ALICE, RECORD)
        self.assertEqual(self.open_files(), [])
        self.accounts.at(ALICE)
        self.assertNotEqual(self.open_files(), [])
        self.accounts.close()
        self.assertEqual(self.open_files(), [])

    def test_nothing_is_made_before_the_first_use(self):
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_change_of_the_working_directory_does_not_matter(self):
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        accounts = Accounts(Path("accounts.sqlite3"))
        os.chdir("/")
        accounts.add(ALICE, RECORD)
        os.chdir(before)
        self.assertIsNotNone(self.accounts.at(ALICE))

    def test_a_closed_file_is_opened_again(self):
        self.accounts.add(ALICE, RECORD)
        self.accounts.close()
        self.assertIsNotNone(self.accounts.at(ALICE))

    def assert_unusable(self, reason, remedy):
        for use in (Accounts.open, Accounts.all, lambda accounts: accounts.at(ALICE)):
            with self.assertRaises(Unusable) as caught:
                use(self.accounts)
            message = str(caught.exception)
            self.assertTrue(message.startswith(f"{self.path}: "), message)
            self.assertIn(reason, message)
            self.assertIn(remedy, message)
            self.assertNotIn("\n", message)

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self):
        text = "alice:5f4dcc3b5aa765d61d8327deb882cf99\n" * 100
        self.path.write_text(text)
        self.assert_unusable("file is not a database", "put a backup in its place")
        self.assertEqual(self.path.read_text(), text)

    def test_a_database_without_accounts_is_refused(self):
        self.foreign().execute("CREATE TABLE letters (id)")
        self.assert_unusable("no such table: accounts", "move it away")

    def test_a_folder_in_the_place_of_the_file_is_refused(self):
        self.path.mkdir()
        self.assert_unusable("unable to open database file", "choose another folder with --maildata")

    def test_a_missing_folder_is_refused(self):
        self.folder.rmdir()
        self.assert_unusable("No such file or directory", "choose another folder with --maildata")

    def test_a_file_that_this_user_may_not_write_is_refused(self):
        self.accounts.add(ALICE, RECORD)
        self.accounts.close()
        self.path.chmod(0o400)
        if os.getuid() == 0:  # who may write everything; access(2) asks for the real user
            self.addCleanup(os.setresuid, 0, -1, -1)
            os.setresuid(65534, -1, -1)
        self.assert_unusable("this user may not read and write it", "change its owner")

    def test_a_file_that_is_locked_is_refused(self):
        self.accounts.open()
        self.accounts.close()
        self.patch(database, "WRITE_PATIENCE", 0.01)
        other = self.foreign()
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        self.assert_unusable("database is locked", "end the program")


class BringingUpToDate(AccountsCase):
    def setUp(self):
        super().setUp()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(FIRST_SCHEMA)

    def columns(self, path):
        with closing(sqlite3.connect(path)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name")
            return {
                name: [column[1:3] for column in connection.execute(f"PRAGMA table_xinfo({name})")]
                for (name,) in tables
            }

    def test_a_file_of_the_first_version_goes_on_working(self):
        account = self.accounts.at(ALICE)
        self.assertEqual(account, Account(1, ALICE, RECORD, None))
        self.assertTrue(self.accounts.set_record(1, RECORD, SCRAM, expected=RECORD))
        self.accounts.add(BOB, RECORD)
        self.assertEqual([(a.id, a.scram) for a in self.accounts.all()], [(1, SCRAM), (2, None)])
        self.accounts.remove(ALICE)

    def test_it_becomes_what_a_new_file_is(self):
        new = self.folder / "new"
        for path in (self.path, new):
            accounts = Accounts(path)
            accounts.open()
            self.assertEqual(self.foreign(path).execute("PRAGMA user_version").fetchone(), (len(schema.STEPS),))
        self.assertEqual(self.columns(self.path), self.columns(new))

    def test_the_steps_are_taken_once_and_the_secret_stays(self):
        secrets = []
        for _ in range(3):
            self.running().open()
            secrets += self.foreign().execute("SELECT value FROM secret").fetchall()
        self.assertEqual(len(secrets), 3)
        self.assertEqual(len(set(secrets)), 1)
        self.assertEqual(len(secrets[0][0]), 32)

    def test_a_process_that_comes_second_finds_it_done(self):
        self.running().open()
        with self.running()._engine.begin() as connection:
            schema.take_steps(connection)
        self.assertIsNotNone(self.accounts.at(ALICE))

    def test_of_processes_that_come_at_one_moment_none_fails(self):
        opener = (
            "import sys; from pathlib import Path; from mailbe.accounts.database import Accounts\n"
            "from mailbe.accounts import database; database.WRITE_PATIENCE = 300.0\n"
            "print('ready', flush=True); sys.stdin.readline(); Accounts(Path(sys.argv[1])).open()\n"
        )
        openers = [
            subprocess.Popen(
                [sys.executable, "-c", opener, self.path.absolute()],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in openers:
            self.assertEqual(process.stdout.readline(), "ready\n")
        for process in openers:
            process.stdin.write("go\n")
            process.stdin.flush()
        self.assertEqual([process.communicate(timeout=300) for process in openers], [("", "")] * 4)
        self.assertIsNotNone(self.accounts.at(ALICE))

    def test_all_steps_are_taken_or_none(self):
        before = self.columns(self.path)
        self.patch(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE half (id)", "CREATE TABLE half (id)")))
        self.patch(database, "STEPS", schema.STEPS)
        with self.assertRaises(Unusable):
            self.accounts.open()
        self.assertEqual(self.columns(self.path), before)
        self.assertEqual(self.foreign().execute("PRAGMA user_version").fetchone(), (0,))

    def test_a_file_of_a_newer_version_is_refused_and_left_alone(self):
        self.foreign().execute("PRAGMA user_version = 99")
        with self.assertRaises(Unusable) as caught:
            self.accounts.open()
        self.assertEqual(str(caught.exception), f"{self.path}: a newer mailbe made this file; update mailbe")
        self.assertEqual(list(self.columns(self.path)), ["accounts", "ix_accounts_name"])


class Faults(AccountsCase):
    """What may befall the file while the server runs."""

    def setUp(self):
        super().setUp()
        self.patch(database, "WRITE_PATIENCE", 0.01)
        self.accounts.add(ALICE, RECORD)
        self.assertIsNotNone(self.accounts.at(ALICE))

    def assert_later(self, reason, uses=("at", "named", "all", "add", "set_record", "remove")):
        calls = {
            "at": lambda: self.accounts.at(ALICE),
            "named": lambda: self.accounts.named("alice"),
            "all": self.accounts.all,
            "add": lambda: self.accounts.add(BOB, RECORD),
            "set_record": lambda: self.accounts.set_record(1, OTHER_RECORD),
            "remove": lambda: self.accounts.remove(ALICE),
        }
        for use in uses:
            with self.assertRaises(TryLater, msg=use) as caught:
                calls[use]()
            self.assertTrue(str(caught.exception).startswith(f"{self.path}: "), str(caught.exception))
            self.assertIn(reason, str(caught.exception))

    def assert_recovered(self):
        self.assertEqual(self.accounts.at(ALICE).record, RECORD)
        self.assertEqual(self.accounts.named("alice").record, RECORD)
        self.accounts.add(BOB, RECORD)
        self.assertIsNotNone(self.accounts.at(BOB))

    def test_a_deleted_file_is_told_and_a_restored_one_is_used(self):
        backup = self.backup()
        self.delete_file()
        self.assert_later("No such file or directory", ["at", "named"])
        self.assertEqual(self.open_files(), [])  # what was deleted is not kept open
        self.assert_later("unable to open database file", ["all", "add", "set_record", "remove"])
        self.assertEqual(list(self.folder.iterdir()), [])  # an empty database would lock everybody out
        shutil.copy(backup, self.path)
        self.assert_recovered()

    def test_a_file_that_takes_the_old_ones_place_is_used_at_once(self):
        self.accounts.add(BOB, RECORD)
        backup = self.backup()
        self.accounts.remove(BOB)
        self.assertIsNone(self.accounts.at(BOB))
        self.delete_file()
        shutil.copy(backup, self.path)
        self.assertIsNotNone(self.accounts.at(BOB))

    def test_a_file_that_was_made_meanwhile_with_other_accounts_is_not_believed(self):
        # As ``mailbe user add`` makes it where the disk is not mounted: of alice it knows nothing.
        away = self.folder / "away"
        self.path.rename(away)
        other = self.running()
        other.add(BOB, RECORD)
        other.close()
        self.assert_later("start again", ["at", "named"])
        restarted = self.running()
        self.assertIsNone(restarted.at(ALICE))
        self.assertIsNotNone(restarted.at(BOB))
        restarted.close()
        away.rename(self.path)
        self.assert_recovered()

    def test_a_file_that_was_away_for_a_while_is_asked_as_it_is_now(self):
        away = self.folder / "away"
        self.path.rename(away)
        self.assert_later("No such file or directory", ["at", "named"])
        changed = Accounts(away)
        changed.set_record(1, OTHER_RECORD)
        changed.close()
        away.rename(self.path)
        self.assertEqual(self.accounts.at(ALICE).record, OTHER_RECORD)

    def test_a_broken_file_is_told_and_a_restored_one_is_used(self):
        backup = self.backup()
        self.delete_file()
        self.path.write_text("broken " * 1000)
        self.assert_later("file is not a database")
        shutil.copy(backup, self.path)
        self.assert_recovered()

    def test_a_table_that_was_dropped_is_told(self):
        other = self.foreign()
        other.execute("ALTER TABLE accounts RENAME TO mislaid")
        self.assert_later("no such table: accounts")
        other.execute("ALTER TABLE mislaid RENAME TO accounts")
        self.assert_recovered()

    def test_a_locked_file_is_told_and_used_when_it_is_free(self):
        self.accounts.close()
        self.accounts.open()
        other = self.foreign()
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        self.assert_later("database is locked")
        other.close()
        self.assert_recovered()

    def test_a_long_change_of_another_program_stops_changes_and_no_question(self):
        other = self.foreign()
        other.execute("BEGIN IMMEDIATE")
        self.assert_later("database is locked", ["add", "set_record", "remove"])
        self.assertIsNotNone(self.accounts.at(ALICE))
        self.assertIsNone(self.accounts.at(BOB))
        other.execute("ROLLBACK")
        self.assert_recovered()
