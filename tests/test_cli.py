"""The ``mailbe`` command, as people and scripts use it."""

import contextlib
import io
import os
import pty
import select
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailbe import cli, listening
from mailbe.accounts import database, invitations, schemes, scram
from mailbe.accounts.database import Accounts
from mailbe.accounts.guard import Guard, Locked
from mailbe.address import Address
from mailbe.held import Held
from mailbe.interfaces import Envelope
from mailbe.maildata import Maildata
from tests.storage import ALICE, BOB, Office, reached, same_marks

CHECKOUT = Path(__file__).parent.parent
EMPTY = "0 letters, 0 octets"
MD5_PASSWORD = "5f4dcc3b5aa765d61d8327deb882cf99"  # of "password"


class Stdin(io.TextIOWrapper):
    """Standard input that holds ``content`` and is a terminal or not."""

    def __init__(self, content, terminal):
        super().__init__(io.BytesIO(content))
        self.terminal = terminal

    def isatty(self):
        return self.terminal


class CommandCase(SynchronousTestCase):
    kind = "user"
    terminal = False

    def setUp(self):
        self.patch(scram, "ITERATIONS", 1)
        self.root = Path(self.mktemp())
        self.maildata = Maildata(self.root)

    def mailbe(self, *arguments, stdin=b""):
        """Run ``mailbe --maildata ROOT user ...``, or another ``kind``; returns the exit status, stdout and stderr."""
        self.patch(sys, "stdin", Stdin(stdin, self.terminal))
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            try:
                status = cli.main(["--maildata", str(self.root), self.kind, *arguments])
            except SystemExit as exit:
                status = exit.code
        return status, out.getvalue(), err.getvalue()

    def done(self, *arguments, stdin=b""):
        status, out, err = self.mailbe(*arguments, stdin=stdin)
        self.assertEqual((status, err), (0, ""))
        return out

    def refused(self, *arguments, stdin=b""):
        """Run a command that must be refused; returns the one line that says why."""
        status, out, err = self.mailbe(*arguments, stdin=stdin)
        self.assertEqual((status, out), (1, ""), err)
        self.assertTrue(err.startswith("mailbe: "), err)
        self.assertEqual(err.count("\n"), 1, err)
        return err.removeprefix("mailbe: ").removesuffix("\n")

    def file(self, content):
        path = Path(self.mktemp())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def add(self, address="alice@localhost", password=b"password\n", *options):
        return self.done("add", address, "--password-stdin", *options, stdin=password)

    def account(self, address=ALICE):
        accounts = Accounts(self.maildata.accounts)
        self.addCleanup(accounts.close)
        return accounts.at(address)


class Adding(CommandCase):
    def test_it_works_in_a_folder_that_no_server_has_used(self):
        self.assertEqual(self.add(), "alice@localhost added\n")
        self.assertTrue(schemes.verify(b"password", self.account().record))
        self.assertFalse((self.maildata.root / "reception").exists())  # that is the server's to make

    def test_a_password_is_kept_as_every_keyboard_may_compose_it(self):
        for number, password in enumerate(("passe\u0301", "pass\xe9")):
            self.add(f"a{number}@localhost", password.encode() + b"\n")
            record = self.account(Address(f"a{number}", "localhost")).record
            self.assertTrue(schemes.verify("pass\xe9".encode(), record))

    def test_the_password_is_one_line_of_stdin(self):
        for name, given, password in (
            ("a", b"secret\nnot this\n", "secret"),
            ("b", b"secret\r\n", "secret"),
            ("c", b"secret", "secret"),
            ("d", b" se cret \n", " se cret "),
            ("e", "pässwörd\n".encode(), "pässwörd"),
        ):
            self.add(f"{name}@localhost", given)
            record = self.account(Address(name, "localhost")).record
            self.assertTrue(schemes.verify(password.encode(), record), given)

    def test_bad_passwords_are_refused_with_the_reason(self):
        for given, reason in (
            (b"", "the password is empty"),
            (b"\n", "the password is empty"),
            (b"sec\0ret\n", "the password has control characters"),
            (b"\xff\n", "the password is not UTF-8"),
            (b"x" * 129 + b"\n", "the password is longer than 128 octets"),
        ):
            self.assertEqual(self.refused("add", "alice@localhost", "--password-stdin", stdin=given), reason)
        self.assertIsNone(self.account())

    def test_the_scheme_is_a_choice(self):
        self.add()
        self.assertEqual(schemes.scheme_of(self.account().record), "MD5-CRYPT")
        self.add("bob@localhost", b"password\n", "--password-scheme", "argon2id")
        self.assertEqual(schemes.scheme_of(self.account(Address("bob", "localhost")).record), "ARGON2ID")

    def test_a_duplicate_in_any_letter_case_is_refused_before_a_password_is_asked_for(self):
        self.add()
        record = self.account().record
        self.assertEqual(self.refused("add", "ALICE@LocalHost"), "alice@localhost exists already")
        self.assertEqual(self.account().record, record)

    def test_a_duplicate_that_another_process_adds_meanwhile_is_refused(self):
        self.add()
        self.patch(cli.Accounts, "at", lambda accounts, address: None)
        self.assertEqual(
            self.refused("add", "Alice@localhost", "--password-stdin", stdin=b"other\n"),
            "Alice@localhost exists already",
        )

    def test_names_that_cannot_be_are_refused_with_the_reason(self):
        for name, reason in (
            ("alice", "'alice' has no domain; try alice@localhost"),
            ("", "'' has no domain"),
            ("@localhost", "not of the form name@domain"),
            ("alice@", "not of the form name@domain"),
            ("a b@localhost", "not of the form name@domain"),
            ("../../etc@localhost\n", "not of the form name@domain"),
            ("\u212ailo@localhost", "compatibility form"),
            ("a" * 65 + "@localhost", "longer than 64 octets"),
            ("a@" + ".".join(["a" * 63] * 3) + ".abcdefgh", "too long for the name of a folder"),
        ):
            self.assertIn(reason, self.refused("add", name, "--password-stdin", stdin=b"password\n"))
        self.assertEqual(self.done("list"), "")

    def test_without_a_terminal_it_says_what_to_do(self):
        self.assertIn("--password-stdin", self.refused("add", "alice@localhost", stdin=b"password\n"))


class Terminal(CommandCase):
    terminal = True

    def on_terminal(self, *passwords):
        """Let a terminal answer ``passwords``, one a prompt; an exception is raised there."""
        answers = list(passwords)

        def getpass(prompt):
            answer = answers.pop(0)
            if isinstance(answer, type):
                raise answer
            return answer

        self.patch(cli.getpass, "getpass", getpass)

    def test_the_password_is_asked_for_twice(self):
        self.on_terminal("secret", "secret")
        self.assertEqual(self.done("add", "alice@localhost"), "alice@localhost added\n")
        self.assertTrue(schemes.verify(b"secret", self.account().record))

    def test_two_different_ones_are_refused(self):
        self.on_terminal("secret", "Secret")
        self.assertEqual(self.refused("add", "alice@localhost"), "the two passwords differ")
        self.assertIsNone(self.account())

    def test_breaking_off_is_one_line(self):
        for how in (KeyboardInterrupt, EOFError):
            self.on_terminal("secret", how)
            self.assertEqual(self.refused("add", "alice@localhost"), "broken off")
        self.assertIsNone(self.account())

    def typed(self, *keys):
        """Run ``user add`` on a terminal of its own and type ``keys``, one after each prompt."""
        script = "import sys; from mailbe.cli import main; sys.exit(main(sys.argv[1:]))"
        arguments = ["--maildata", str(self.root.absolute()), "user", "add", "alice@localhost"]
        child, terminal = pty.fork()
        if child == 0:  # pragma: no cover
            os.chdir(CHECKOUT)
            # A shell that runs the tests in the background has them, and their children, ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execv(sys.executable, [sys.executable, "-c", script, *arguments])  # noqa: S606
        self.addCleanup(os.close, terminal)
        shown = b""
        waiting = list(keys)
        while True:
            if not select.select([terminal], [], [], 60)[0]:
                os.kill(child, signal.SIGKILL)
                break
            try:
                shown += os.read(terminal, 1024)
            except OSError:  # EIO: the other end is closed
                break
            if waiting and shown.endswith(b": "):
                os.write(terminal, waiting.pop(0))
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), shown.decode()

    def test_on_a_real_terminal_the_password_does_not_show(self):
        status, shown = self.typed(b"secret\n", b"secret\n")
        self.assertEqual(status, 0, shown)
        self.assertIn("alice@localhost added", shown)
        self.assertNotIn("secret", shown)
        self.assertTrue(schemes.verify(b"secret", self.account().record))

    def test_control_c_and_control_d_on_a_real_terminal_leave_no_traceback(self):
        for key in (b"\x03", b"\x04"):
            status, shown = self.typed(key)
            self.assertEqual(status, 1, shown)
            self.assertIn("mailbe: broken of", shown)
            self.assertNotIn("Traceback", shown)


class Passwords(CommandCase):
    def test_a_new_password_takes_the_old_ones_place(self):
        self.add()
        out = self.done(
            "passwd", "ALICE@localhost", "--password-stdin", "--password-scheme", "argon2id", stdin=b"new\n"
        )
        self.assertEqual(out, "alice@localhost has a new password\n")
        self.assertTrue(schemes.verify(b"new", self.account().record))
        self.assertEqual(schemes.scheme_of(self.account().record), "ARGON2ID")

    def test_an_account_that_is_not_there_is_refused(self):
        self.assertEqual(
            self.refused("passwd", "bob@localhost", "--password-stdin", stdin=b"new\n"),
            "there is no account bob@localhost",
        )
        self.assertIn("try bob@localhost", self.refused("passwd", "bob"))

    def test_an_account_that_is_removed_meanwhile_is_refused(self):
        self.add()
        gone = self.account()
        self.done("remove", "alice@localhost")
        self.patch(cli.Accounts, "at", lambda accounts, address: gone)
        self.assertEqual(
            self.refused("passwd", "alice@localhost", "--password-stdin", stdin=b"new\n"),
            "there is no account alice@localhost",
        )


class Listing(CommandCase):
    def test_no_accounts_are_no_output(self):
        self.assertEqual(self.done("list"), "")

    def test_accounts_are_sorted_one_a_line_the_address_first(self):
        for address in ("zoe@localhost", "Bob@example.org", "alice@localhost"):
            self.add(address)
        self.assertEqual(
            self.done("list"),
            f"alice@localhost\tnever\t{EMPTY}\nBob@example.org\tnever\t{EMPTY}\nzoe@localhost\tnever\t{EMPTY}\n",
        )


class GuardedCase(CommandCase):
    """With a server's guard at work on the same accounts."""

    def setUp(self):
        super().setUp()
        same_marks(self)
        self.add()
        self.accounts = Accounts(self.maildata.accounts)
        self.addCleanup(self.accounts.close)
        self.now = time.time()
        self.guard = Guard(self.accounts, now=lambda: self.now)

    def visit(self, peer):
        return self.guard.visit(self.accounts.at(ALICE), b"alice", peer)

    def guess(self, *guesses, peer="198.51.100.1"):
        for guess in guesses:
            self.guard.failed(self.visit(peer), guess)

    def minute(self, seconds):
        return datetime.fromtimestamp(seconds).isoformat(timespec="minutes")


class ListingLocks(GuardedCase):
    def test_the_last_log_in_is_shown(self):
        self.now -= 7200
        self.guard.succeeded(self.visit("192.0.2.1"))
        self.assertEqual(self.done("list"), f"alice@localhost\t{self.minute(self.now)} 192.0.2.1\t{EMPTY}\n")
        self.now += 3600
        self.guard.succeeded(self.visit(""))
        self.assertEqual(self.done("list"), f"alice@localhost\t{self.minute(self.now)} this machine\t{EMPTY}\n")

    def test_locks_are_shown(self):
        self.guess(b"1", b"2", b"3")
        until = f"locked until {self.minute(self.now + 900)}"
        self.assertEqual(self.done("list"), f"alice@localhost\tnever\t{EMPTY}\t{until}\n")
        self.guard.unlock(ALICE)
        self.guard.succeeded(self.visit("192.0.2.1"))
        self.guess(b"1", b"2", b"3", peer="192.0.2.1")
        login = f"{self.minute(self.now)} 192.0.2.1"
        self.assertEqual(self.done("list"), f"alice@localhost\t{login}\t{EMPTY}\t{until} for 192.0.2.1 only\n")


class Unlocking(GuardedCase):
    def test_a_running_server_lets_in_at_once(self):
        self.guess(b"1", b"2", b"3")
        with self.assertRaises(Locked):
            self.guard.admit(self.visit("203.0.113.1"))
        self.assertEqual(self.done("unlock", "Alice@localhost"), "alice@localhost unlocked\n")
        self.guard.admit(self.visit("203.0.113.1"))
        self.assertNotIn("locked", self.done("list"))

    def test_an_account_that_is_not_locked_is_said_to_be_open(self):
        self.guess(b"1", b"2")
        self.assertEqual(self.done("unlock", "alice@localhost"), "alice@localhost was not locked\n")
        self.guess(b"3")
        self.guard.admit(self.visit("203.0.113.1"))

    def test_an_account_that_is_not_there_is_refused(self):
        self.assertEqual(self.refused("unlock", "bob@localhost"), "there is no account bob@localhost")
        self.assertIn("try bob@localhost", self.refused("unlock", "bob"))


class Terms(CommandCase):
    """``mailbe user expire`` and ``mailbe user delay``."""

    def setUp(self):
        super().setUp()
        self.done("add", "Alice@localhost", "--password-stdin", stdin=b"correct horse\n")

    def test_each_is_set_without_the_other_and_taken_back(self):
        for verb, value, said in (
            ("expire", "30", "expire 30\tdelay default"),
            ("delay", "60", "expire 30\tdelay 60"),
            ("expire", "never", "expire never\tdelay 60"),
            ("expire", "default", "expire default\tdelay 60"),
            ("delay", "0", "expire default\tdelay 0"),
            ("delay", "default", "expire default\tdelay default"),
        ):
            self.assertEqual(self.done(verb, "ALICE@localhost", value), f"Alice@localhost\t{said}\n")

    def test_nobody_is_refused(self):
        for verb in ("expire", "delay"):
            self.assertIn("there is no account bob@localhost", self.refused(verb, "bob@localhost", "30"))
            self.assertIn("has no domain", self.refused(verb, "alice", "30"))

    def test_what_is_no_number_is_wrong_usage(self):
        for verb, value in (
            ("expire", "0"),
            ("expire", "-1"),
            ("expire", "a day"),
            ("delay", "never"),
            ("delay", "1.5"),
        ):
            status, out, err = self.mailbe(verb, "alice@localhost", value)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("number", err)


class Auditing(CommandCase):
    def test_the_weakest_scheme_comes_first(self):
        self.add("strong@localhost", b"password\n", "--password-scheme", "argon2id")
        self.add("middle@localhost")
        self.add("odd@localhost", "\N{GRINNING FACE}\n".encode())
        self.done("import", self.file(f"weak:{MD5_PASSWORD}\n"))
        accounts = Accounts(self.maildata.accounts)
        self.addCleanup(accounts.close)
        accounts.add(Address("broken", "localhost"), "nonsense")
        self.assertEqual(
            self.done("audit"),
            "broken@localhost\tunusable\tno SCRAM\n"
            "weak@localhost\tMD5\tno SCRAM\n"
            "middle@localhost\tMD5-CRYPT\tSCRAM\n"
            "odd@localhost\tMD5-CRYPT\tno SCRAM\n"
            "strong@localhost\tARGON2ID\tSCRAM\n",
        )

    def test_a_new_password_has_its_own_scram_text(self):
        self.add()
        before = self.account()
        self.done("passwd", "alice@localhost", "--password-stdin", stdin=b"new\n")
        self.assertNotEqual(self.account().scram, before.scram)
        self.done("passwd", "alice@localhost", "--password-stdin", stdin="\N{GRINNING FACE}\n".encode())
        self.assertIsNone(self.account().scram)


class Quotas(CommandCase):
    def put(self, octets, name=ALICE):
        new = self.maildata.reception(name) / "new"
        new.mkdir(parents=True, exist_ok=True)
        (new.parent / "cur").mkdir(exist_ok=True)
        (new / f"{len(list(new.iterdir()))}.x,S={octets},W={octets}").write_bytes(b"x" * octets)

    def test_what_lies_there_and_of_how_much_is_listed(self):
        self.add()
        self.put(10)
        self.put(20)
        self.assertEqual(self.done("list"), "alice@localhost\tnever\t2 letters, 30 octets\n")
        self.done("quota", "alice@localhost", "--octets", "1000", "--letters", "3")
        self.assertEqual(self.done("list"), "alice@localhost\tnever\t2 of 3 letters, 30 of 1000 octets\n")

    def test_each_limit_is_set_by_itself_and_shown(self):
        self.add("Alice@localhost")
        for options, said in (
            ([], "octets default, letters default"),
            (["--octets", "1000"], "octets 1000, letters default"),
            (["--letters", "3"], "octets 1000, letters 3"),
            ([], "octets 1000, letters 3"),
            (["--octets", "none"], "octets none, letters 3"),
            (["--octets", "default", "--letters", "none"], "octets default, letters none"),
        ):
            line = self.done("quota", "alice@LOCALHOST", *options)
            self.assertTrue(line.startswith(f"Alice@localhost\t{EMPTY.split(',')[0].split(' ')[0]}"), line)
            self.assertTrue(line.endswith(f"\tquota: {said}\n"), line)

    def test_a_mailbox_that_cannot_be_read_hides_no_other_account(self):
        self.add()
        self.add("bob@localhost")
        self.put(10)
        cur = self.maildata.reception(ALICE) / "cur"
        cur.rmdir()
        cur.write_text("a file in the place of a folder")
        alice, bob = self.done("list").splitlines()
        self.assertEqual(alice, f"alice@localhost\tnever\tunreadable: {cur}: Not a directory")
        self.assertEqual(bob, f"bob@localhost\tnever\t{EMPTY}")

    def test_who_is_not_there_has_none(self):
        self.assertEqual(self.refused("quota", "alice@localhost"), "there is no account alice@localhost")

    def test_what_is_no_number_is_wrong_usage(self):
        self.add()
        for word in ("0", "-1", "much", "1e3", "9" * 19, ""):
            self.assertEqual(self.mailbe("quota", "alice@localhost", "--octets", word)[0], 2, word)


class WithAccounts(CommandCase):
    def setUp(self):
        super().setUp()
        accounts = Accounts(self.maildata.accounts)
        self.maildata.prepare_root()
        accounts.add_all((Address(name, "localhost"), "{MD5}" + "0" * 32) for name in ("alice", "bob"))
        accounts.close()

    def user(self, *arguments):
        kind, self.kind = self.kind, "user"
        try:
            return self.mailbe(*arguments, stdin=b"password\n")
        finally:
            self.kind = kind


class Aliases(WithAccounts):
    kind = "alias"

    def test_they_are_added_listed_and_removed(self):
        self.assertEqual(self.done("add", "Team@localhost", "alice@localhost"), "Team@localhost\talice@localhost\n")
        line = "Team@localhost\talice@localhost bob@localhost\n"
        self.assertEqual(self.done("add", "team@localhost", "bob@localhost"), line)
        self.done("add", "@localhost", "team@localhost")
        self.assertEqual(self.done("list"), "@localhost\tTeam@localhost\n" + line)
        self.assertEqual(self.done("remove", "team@localhost", "ALICE@localhost"), "Team@localhost\tbob@localhost\n")
        self.assertEqual(self.done("remove", "@LOCALHOST"), "@localhost removed\n")
        self.assertEqual(self.done("remove", "team@localhost"), "team@localhost removed\n")
        self.assertEqual(self.done("list"), "")

    def test_who_becomes_postmaster_is_told_where_earlier_letters_are(self):
        self.assertEqual(len(self.done("add", "postmaster@localhost", "alice@localhost").splitlines()), 1)
        kept = self.maildata.reception(Address("postmaster", "localhost"))
        kept.mkdir(parents=True)
        self.assertIn(f"kept in {kept}\n", self.done("add", "postmaster@localhost", "bob@localhost"))

    def test_what_cannot_be_is_one_line(self):
        self.done("add", "team@localhost", "alice@localhost")
        for arguments, reason in (
            (("add", "alice@localhost", "bob@localhost"), "alice@localhost is an account; remove that first"),
            (
                ("add", "team@localhost", "team@localhost"),
                "team@localhost leads to team@localhost: letters would go round",
            ),
            (("add", "x@localhost", "bob@gmail.example"), "nothing is sent to other hosts"),
            (("add", "x", "bob@localhost"), "'x' has no domain; try x@localhost"),
            (("add", "x@localhost", "bob"), "'bob' has no domain; try bob@localhost"),
            (("add", "x@localhost", "b b@localhost"), "'b b@localhost' is not of the form name@domain"),
            (("add", "@not a domain", "bob@localhost"), "'not a domain' is not the name of a domain"),
            (("add", "@[127.0.0.1]", "bob@localhost"), "'[127.0.0.1]' is not the name of a domain"),
            (("remove", "x@localhost"), "there is no alias x@localhost"),
            (("remove", "alice@localhost"), "there is no alias alice@localhost"),
        ):
            self.assertIn(reason, self.refused(*arguments))
        self.assertEqual(self.done("list"), "team@localhost\talice@localhost\n")

    def test_an_alias_becomes_no_account_and_nobody_types_a_password_for_nothing(self):
        self.done("add", "team@localhost", "alice@localhost")
        reason = "mailbe: TEAM@localhost is an alias; remove that first: mailbe alias remove TEAM@localhost\n"
        self.assertEqual(self.user("add", "TEAM@localhost"), (1, "", reason))
        status, _, err = self.user("import", self.file(f"carol:{MD5_PASSWORD}\nteam:{MD5_PASSWORD}\n"))
        self.assertEqual(status, 1)
        self.assertIn(":2: team@localhost is an alias; remove that first: mailbe alias remove team@localhost\n", err)

    def test_a_name_of_nothing_is_no_other_spelling_of_the_catch_all(self):
        self.done("add", "@localhost", "bob@localhost")
        self.assertIn(
            """'""@localhost' is no name for a mailbox""", self.refused("add", '""@localhost', "alice@localhost")
        )
        self.done("remove", "@localhost")
        status, _, err = self.user("add", '""@example.org')
        self.assertEqual((status, err), (1, """mailbe: '""@example.org' has no name before its @\n"""))

    def test_who_removes_an_account_is_told_which_aliases_led_to_it(self):
        self.done("add", "team@localhost", "alice@localhost", "bob@localhost")
        self.done("add", "@localhost", "bob@localhost")
        _, out, _ = self.user("remove", "BOB@localhost")
        self.assertEqual(
            out.splitlines()[1:],
            [
                "@localhost now leads to nobody, and its letters are refused",
                "team@localhost now leads to others only",
            ],
        )
        self.assertEqual(self.done("list"), "@localhost\tnobody\nteam@localhost\talice@localhost\n")

    def test_wrong_usage_is_status_2(self):
        for arguments in ([], ["add"], ["add", "x@localhost"], ["remove"], ["list", "x"]):
            self.assertEqual(self.mailbe(*arguments)[0], 2, arguments)


class Domains(WithAccounts):
    kind = "domain"

    def test_they_are_added_listed_and_removed(self):
        self.assertEqual(
            self.done("add", "Example.org"),
            "example.org added\n"
            "nobody reads what comes for its postmaster yet: mailbe alias add postmaster@example.org ADDRESS\n",
        )
        self.assertEqual(
            self.done("add", "example.net", "--postmaster", "alice@localhost", "--catch-all", "bob@localhost"),
            "example.net added\n@example.net\tbob@localhost\npostmaster@example.net\talice@localhost\n",
        )
        self.assertEqual(
            self.done("list").splitlines(),
            [
                "example.net\tpostmaster: alice@localhost\tletters to nobody: bob@localhost",
                "example.org\tpostmaster: nobody; what comes is kept in "
                f"{self.root}/reception/postmaster@example.org\tletters to nobody: refused",
            ],
        )
        self.assertEqual(
            self.done("remove", "EXAMPLE.net"), "example.net removed; its accounts (0) and aliases (2) stay\n"
        )
        self.assertNotIn("example.net", self.done("list"))

    def test_who_adds_one_again_is_told_what_its_aliases_lead_to_by_now(self):
        self.done("add", "example.net", "--postmaster", "alice@localhost", "--catch-all", "bob@localhost")
        self.done("remove", "example.net")
        self.assertEqual(
            self.done("add", "example.net", "--catch-all", "alice@localhost"),
            "example.net added\n@example.net\talice@localhost bob@localhost\npostmaster@example.net\talice@localhost\n",
        )

    def test_a_postmaster_who_was_removed_is_nobody_though_there_is_a_catch_all(self):
        self.done("add", "example.net", "--postmaster", "alice@localhost", "--catch-all", "bob@localhost")
        _, out, _ = self.user("remove", "alice@localhost")
        kept = f"{self.root}/reception/postmaster@example.net"
        self.assertEqual(
            out.splitlines()[1:], [f"postmaster@example.net now leads to nobody, and its letters are kept in {kept}"]
        )
        self.assertIn(f"\tpostmaster: nobody; what comes is kept in {kept}\t", self.done("list"))

    def test_those_of_a_running_servers_options_are_listed_too(self):
        self.done("add", "localhost", "--postmaster", "bob@localhost")
        told = listening.Listening(("localhost", "example.org"), (), classic=False, has_authority=True)
        listening.write(self.maildata.listening, told)
        self.assertEqual(
            [line.split("\t")[0::3] for line in self.done("list").splitlines()],
            [["localhost"], ["example.org", "by --domain"]],
        )

    def test_what_cannot_be_is_one_line(self):
        self.done("add", "example.org")
        for arguments, reason in (
            (("add", "EXAMPLE.org"), "example.org is there already"),
            (("add", "no domain"), "'no domain' is not the name of a domain"),
            (("add", "[127.0.0.1]"), "'[127.0.0.1]' is not the name of a domain"),
            (("add", "example.net", "--postmaster", "carol@localhost"), "carol@localhost is neither an account nor"),
            (("add", "example.net", "--catch-all", "carol"), "'carol' has no domain"),
            (("remove", "localhost"), "the domain localhost was not added here"),
        ):
            self.assertIn(reason, self.refused(*arguments))
        self.assertEqual(len(self.done("list").splitlines()), 1)

    def test_wrong_usage_is_status_2(self):
        for arguments in ([], ["add"], ["remove"], ["list", "x"], ["add", "x.example", "--owner", "x"]):
            self.assertEqual(self.mailbe(*arguments)[0], 2, arguments)


class Removing(CommandCase):
    def test_an_account_without_mail_is_removed(self):
        self.add()
        self.assertEqual(self.done("remove", "Alice@localhost"), "alice@localhost removed; it had no mail\n")
        self.assertEqual(self.done("list"), "")

    def test_its_mail_is_put_aside_and_where_is_said(self):
        self.add("Alice@localhost")
        new = self.maildata.reception(Address("Alice", "localhost")) / "new"
        new.mkdir(parents=True)
        (new / "1").write_text("letter")
        line = self.done("remove", "alice@LOCALHOST").removesuffix("\n")
        start = "Alice@localhost removed; its mail lies in "
        self.assertTrue(line.startswith(start), line)
        self.assertEqual((Path(line.removeprefix(start)) / "reception/new/1").read_text(), "letter")
        self.assertFalse(new.exists())

    def test_mail_that_was_left_behind_is_put_aside_by_removing_it_again(self):
        self.add()
        (self.maildata.reception(ALICE) / "new").mkdir(parents=True)
        (self.root / "removed").write_text("a file where a folder should be")
        self.assertIn("remove it again", self.refused("remove", "alice@localhost"))
        (self.root / "removed").unlink()
        self.assertIn("its mail lies in", self.done("remove", "alice@localhost"))
        self.refused("remove", "alice@localhost")

    def test_mail_that_cannot_be_moved_is_told(self):
        self.add()
        self.maildata.reception(ALICE).mkdir(parents=True)
        (self.root / "removed").write_text("in the way")
        reason = self.refused("remove", "alice@localhost")
        self.assertIn("alice@localhost is removed, but not its mail", reason)
        self.assertIsNone(self.account())

    def test_an_account_that_is_not_there_is_refused(self):
        self.assertEqual(self.refused("remove", "bob@localhost"), "there is no account bob@localhost")


class RemovingSenders(CommandCase):
    """What an account has sent for later goes out though the account is removed; that is told."""

    def setUp(self):
        super().setUp()
        self.stage = Office(self.root)
        self.addCleanup(self.stage.accounts.close)

    def hold(self, count, sender=ALICE):
        office = self.stage.restart()
        submitter, release = office.submitter(sender), time.time() + 3600
        for _ in range(count):
            envelope = Envelope(None, submitter, recipients=reached(office, sender), release=release)
            self.successResultOf(Deferred.fromCoroutine(office.letter(envelope).deliver()))

    def removed(self, name):
        return self.done("remove", f"{name}@localhost").splitlines()[1:]

    def test_it_is_told_how_many_there_are_and_what_to_do(self):
        self.hold(2)
        self.hold(1, BOB)
        remedy = "all the same; mailbe held list tells which, mailbe held remove ID deletes one"
        self.assertEqual(self.removed("alice"), [f"2 letters that it sent are held, and go out {remedy}"])
        self.assertEqual(self.removed("bob"), [f"1 letter that it sent is held, and goes out {remedy}"])
        self.stage.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.assertEqual(self.removed("alice"), [])  # these are another's

    def test_where_there_is_none_nothing_is_told(self):
        self.assertEqual(self.removed("alice"), [])
        self.hold(1, BOB)
        held = Held(self.maildata)
        held.remove(held.scan()[0])
        self.assertEqual(self.removed("bob"), [])

    def test_a_folder_that_is_missing_is_told_with_the_remedy(self):
        self.hold(1)
        (self.maildata.held_letters / "cur").rmdir()
        self.kind = "held"
        self.assertRegex(self.refused("list"), r"^\S+/held/letters/cur is missing; the server makes it when it starts$")

    def test_the_list_tells_by_whom_a_letter_is_that_has_another_sender(self):
        self.hold(1)
        self.kind = "held"
        self.assertRegex(self.done("list"), "\tfrom <> by alice@localhost\tto alice@localhost\n$")


class Importing(CommandCase):
    def faults(self, path, *options):
        """Import a file that must be refused; returns its bad lines, as number and reason."""
        status, out, err = self.mailbe("import", path, *options)
        self.assertEqual((status, out), (1, ""), err)
        *lines, last = err.splitlines()
        self.assertEqual(last, f"mailbe: nothing was imported; bad lines in {path}: {len(lines)}")
        for line in lines:
            self.assertTrue(line.startswith(f"{path}:"), line)
        return [tuple(line.removeprefix(f"{path}:").split(": ", 1)) for line in lines]

    def test_the_school_projects_file_is_taken_over(self):
        path = self.file(
            f"# the users\n\nalice:{MD5_PASSWORD}\r\nBob:{MD5_PASSWORD.upper()}\n"
            f"carol@example.org:{MD5_PASSWORD}\n  \nx@[IPv6:::1]:{MD5_PASSWORD}"
        )
        self.assertEqual(self.done("import", path), "4 accounts added\n")
        self.assertEqual(
            [line.split("\t")[0] for line in self.done("list").splitlines()],
            ["alice@localhost", "Bob@localhost", "carol@example.org", "x@[IPv6:::1]"],
        )
        for address in (ALICE, Address("bob", "localhost")):
            self.assertEqual(self.account(address).record, f"{{MD5}}{MD5_PASSWORD}")
            self.assertTrue(schemes.verify(b"password", self.account(address).record))

    def test_plain_names_get_the_domain_that_was_given(self):
        self.done("import", self.file(f"alice:{MD5_PASSWORD}\n"), "--domain", "example.org")
        self.assertEqual(self.done("list"), f"alice@example.org\tnever\t{EMPTY}\n")

    def test_a_byte_order_mark_is_no_part_of_a_name(self):
        self.done("import", self.file(b"\xef\xbb\xbfalice:" + MD5_PASSWORD.encode()))
        self.assertEqual(self.done("list"), f"alice@localhost\tnever\t{EMPTY}\n")

    def test_every_bad_line_is_told_and_none_is_imported(self):
        self.add("dave@localhost")
        path = self.file(
            "\n".join(
                [
                    f"alice:{MD5_PASSWORD}",
                    "bob",
                    "carol:secret",
                    f"a b:{MD5_PASSWORD}",
                    f"\uff41lice:{MD5_PASSWORD}",
                    f":{MD5_PASSWORD}",
                    f"Alice:{MD5_PASSWORD}",
                    f"DAVE:{MD5_PASSWORD}",
                    f"{'x' * 60}@{'.'.join(['a' * 63] * 3)}:{MD5_PASSWORD}",
                ]
            )
        )
        form = "not of the form name:md5, with 32 hexadecimal digits"
        numbers, reasons = zip(*self.faults(path), strict=True)
        self.assertEqual(numbers, ("2", "3", "4", "5", "6", "7", "8", "9"))
        self.assertEqual(reasons[:2], (form, form))
        self.assertIn("name@domain", reasons[2])
        self.assertIn("compatibility form", reasons[3])
        self.assertIn("name@domain", reasons[4])
        self.assertEqual(reasons[5], "Alice@localhost stands in line 1 already")
        self.assertEqual(reasons[6], "DAVE@localhost exists already")
        self.assertIn("too long for the name of a folder", reasons[7])
        self.assertEqual(self.done("list"), f"dave@localhost\tnever\t{EMPTY}\n")

    def test_an_account_that_is_added_meanwhile_is_told_with_its_line(self):
        self.add("bob@localhost")
        self.patch(cli.Accounts, "all", lambda accounts: [])
        path = self.file(f"alice:{MD5_PASSWORD}\nbob:{MD5_PASSWORD}\n")
        self.assertEqual(self.faults(path), [("2", "bob@localhost exists already")])
        self.assertIsNone(self.account())

    def test_an_empty_file_is_nothing_to_do(self):
        self.assertEqual(self.done("import", self.file("")), "0 accounts added\n")

    def test_a_file_that_cannot_be_read_is_one_line(self):
        self.assertEqual(self.refused("import", "missing"), "missing: No such file or directory")
        self.assertEqual(self.refused("import", "/"), "/: Is a directory")
        path = self.file(b"alice\xff:" + MD5_PASSWORD.encode())
        self.assertEqual(self.refused("import", path), f"{path}: not UTF-8 at octet 5")


class Inviting(CommandCase):
    kind = "invitation"

    def test_the_code_is_shown_once_and_is_good(self):
        code = self.done("add").removesuffix("\n")
        self.assertRegex(code, r"^[a-z2-9]{4}(-[a-z2-9]{4}){3}$")
        accounts = Accounts(self.maildata.accounts)
        self.addCleanup(accounts.close)
        with accounts.change() as connection:
            self.assertEqual(invitations.find(connection, code, time.time()).remaining, 1)
        self.assertNotIn(code, self.done("list"))

    def test_the_list_has_the_first_group_the_uses_and_the_end(self):
        self.assertEqual(self.done("list"), "")
        code = self.done("add", "--uses", "10", "--days", "2")
        label, uses, ends = self.done("list").removesuffix("\n").split("\t")
        self.assertEqual((label, uses), (f"{code[:4]}-...", "10 of 10 left"))
        ends = datetime.fromisoformat(ends.removeprefix("until ")).timestamp()
        self.assertApproximates(ends, time.time() + 2 * 86400, 120)

    def test_one_is_removed_by_its_code_or_its_first_group(self):
        for code in (self.done("add").strip(), self.done("add")[:4]):
            self.assertEqual(self.done("remove", code), f"{code[:4]}-... removed\n")
        self.assertEqual(self.done("list"), "")

    def test_one_that_is_not_there_is_refused(self):
        self.assertEqual(self.refused("remove", "k7mq"), "there is no invitation 'k7mq'")
        self.assertEqual(self.refused("remove", "\udcff"), r"there is no invitation '\udcff'")  # no UTF-8 on the line

    def test_wrong_usage_is_status_2(self):
        for arguments in ([], ["add", "--uses", "0"], ["add", "--days", "4000"], ["add", "--uses", "many"], ["remove"]):
            status, out, err = self.mailbe(*arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertIn("usage: mailbe", err)


class Trouble(CommandCase):
    def piped(self, command):
        """Run ``mailbe user list`` in a shell, in place of LIST in ``command``; returns its stderr."""
        self.add()
        program = f"from mailbe.cli import main; raise SystemExit(main(['--maildata', {str(self.root.absolute())!r}, "
        line = shlex.join([sys.executable, "-c", program + "'user', 'list']))"])
        shell = ["bash", "-c", command.replace("LIST", line)]
        return subprocess.run(shell, cwd=CHECKOUT, capture_output=True, text=True, check=False).stderr

    def test_a_reader_that_has_had_enough_is_no_error(self):
        self.assertEqual(self.piped("(sleep 0.1; LIST) | true"), "")

    def test_output_that_cannot_be_written_is_one_line(self):
        self.assertRegex(self.piped("LIST >/dev/full"), r"\Amailbe: output: No space left on device\n\Z")

    def test_a_broken_database_is_one_line(self):
        self.maildata.prepare()
        self.maildata.accounts.write_text("broken " * 1000)
        for command in (["list"], ["add", "alice@localhost"], ["remove", "alice@localhost"]):
            self.assertIn(f"{self.maildata.accounts}: file is not a database", self.refused(*command))

    def test_a_locked_database_is_one_line(self):
        self.add()
        self.patch(database, "WRITE_PATIENCE", 0.01)
        other = sqlite3.connect(self.maildata.accounts, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertEqual(self.refused("remove", "alice@localhost"), f"{self.maildata.accounts}: database is locked")

    def test_a_folder_that_cannot_be_is_one_line(self):
        self.root.write_text("in the way")
        self.assertIn(str(self.root), self.refused("list"))

    def test_it_works_beside_a_running_server(self):
        self.maildata.prepare()
        descriptor = self.maildata.lock()
        self.addCleanup(os.close, descriptor)
        running = Accounts(self.maildata.accounts)
        self.addCleanup(running.close)
        self.assertIsNone(running.at(ALICE))
        self.add()
        self.assertIsNotNone(running.at(ALICE))
        self.done("remove", "alice@localhost")
        self.assertIsNone(running.at(ALICE))

    def test_wrong_usage_is_status_2(self):
        for arguments in (
            [],
            ["frobnicate"],
            ["add"],
            ["unlock"],
            ["list", "alice@localhost"],
            ["add", "alice@localhost", "--password-scheme", "rot13"],
            ["import", "users", "--domain", "no domain"],
        ):
            status, out, err = self.mailbe(*arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertIn("usage: mailbe", err)
