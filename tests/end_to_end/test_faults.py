"""Faults of the disk and of the system: a temporary reply, one line in the log, nothing lost, and on it goes."""

from __future__ import annotations

import contextlib
import errno
import itertools
import poplib
import shutil
import smtplib

from tests.end_to_end.faults import FaultsTestCase
from tests.end_to_end.ledger import LARGE, LATER, NO_ROOM, OK, POP3_LATER, SMALL, Ledger, say
from tests.end_to_end.letters import fetch, maildrop, retrieve, sender
from tests.end_to_end.programs import needs
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    QUICK,
    Server,
    eventually,
    mailbe,
    manage,
    of_one_process,
    user,
)
from tests.end_to_end.wire import Wire, encoded

# What is asked of the disk for a letter to bob, by alice, where the mailboxes are there.
DELIVERY = (
    ("open", "/spool/", errno.EMFILE, LATER),
    ("open", "/spool/", errno.ENFILE, LATER),
    ("open", "/spool/", errno.ENOSPC, NO_ROOM),
    ("open", "/spool/", errno.EROFS, LATER),
    ("write", "/spool/", errno.ENOSPC, NO_ROOM),
    ("write", "/spool/", errno.EDQUOT, NO_ROOM),
    ("write", "/spool/", errno.EIO, LATER),
    ("fsync", "/spool/", errno.EIO, LATER),
    ("fsync", "/spool/", errno.ENOSPC, NO_ROOM),  # where room is looked for when it is written
    ("link", "/reception/bob@localhost/new/", errno.EIO, LATER),
    ("link", "/reception/bob@localhost/new/", errno.EROFS, LATER),
    ("link", "/reception/bob@localhost/new/", errno.ENOSPC, NO_ROOM),
    ("link", "/envoi/alice@localhost/new/", errno.EDQUOT, NO_ROOM),
    ("open", "/reception/bob@localhost/new", errno.EMFILE, LATER),
    ("fsync", "/reception/bob@localhost/new", errno.EIO, LATER),
    ("fsync", "/envoi/alice@localhost/new", errno.EIO, LATER),
)

# The same where the mailbox is not: so many calls go well before.
MAKING = (
    ("mkdir", "/reception/bob@localhost", 0, errno.ENOSPC, NO_ROOM),
    ("mkdir", "/reception/bob@localhost", 2, errno.EDQUOT, NO_ROOM),
    ("mkdir", "/reception/bob@localhost", 3, errno.EROFS, LATER),
    ("open", "/reception/bob@localhost", 0, errno.EMFILE, LATER),
    ("fsync", "/reception", 0, errno.EIO, LATER),
    ("fsync", "/reception", 1, errno.EIO, LATER),
)

# How SQLite is stopped from writing.
WRITING = (
    ("open", errno.EMFILE),
    ("write", errno.ENOSPC),
    ("write", errno.EDQUOT),
    ("write", errno.EIO),
)


@needs("gcc")
class DeliveryTests(FaultsTestCase):
    def assert_goes_on(self, server: Server, ledger: Ledger, wire: smtplib.SMTP) -> None:
        """When the fault is over, who was refused sends again and is not, nor is anybody else."""
        self.assertEqual(ledger.send(wire, [BOB], LARGE), OK)
        with sender(server.submission, ALICE) as another:
            self.assertEqual(ledger.send(another, [BOB, ALICE]), OK)
        self.assert_told(ledger, 0)
        ledger.check()

    def test_whatever_fails_the_letter_is_refused_for_now_and_is_nowhere(self) -> None:
        server, ledger = self.serve_with_ledger()
        with sender(server.submission, ALICE) as wire:
            self.assert_goes_on(server, ledger, wire)
            for call, path, error, reply in DELIVERY:
                for recipients, octets in itertools.product(([BOB], [ALICE, BOB]), (SMALL, LARGE)):
                    with self.faults.failing(call, path, error):
                        self.assertRegex(ledger.send(wire, recipients, octets), reply, (call, path, error))
                    self.assert_told(ledger)
                    ledger.check()
                self.assert_goes_on(server, ledger, wire)
        server.stop()

    def test_a_disk_that_fails_in_the_middle_of_a_letter_keeps_no_part_of_it(self) -> None:
        server, ledger = self.serve_with_ledger()
        with sender(server.submission, ALICE) as wire:
            for error, reply in ((errno.ENOSPC, NO_ROOM), (errno.EIO, LATER)):
                with self.faults.failing("write", "/spool/", error, passes=2, fails=1):
                    self.assertRegex(ledger.send(wire, [BOB], LARGE), reply)
                self.assert_told(ledger)
                ledger.check()
            self.assert_goes_on(server, ledger, wire)

    def test_a_mailbox_that_cannot_be_made_is_not_there_in_part(self) -> None:
        server, ledger = self.serve_with_ledger()
        mailbox = server.mailbox("reception", BOB)
        with sender(server.submission, ALICE) as wire:
            for call, path, passes, error, reply in MAKING:
                with self.faults.failing(call, path, error, passes=passes):
                    self.assertRegex(ledger.send(wire, [ALICE, BOB]), reply, (call, path, passes))
                self.assert_told(ledger)
                self.assertFalse(mailbox.exists())
                self.assert_goes_on(server, ledger, wire)
                shutil.rmtree(mailbox)
                ledger.expected["reception", BOB].clear()

    def test_a_pop3_log_in_makes_no_mailbox_in_part_either(self) -> None:
        server, ledger = self.serve_with_ledger()
        for call, path, passes, error, _ in MAKING:
            with self.faults.failing(call, path, error, passes=passes):
                self.assertRegex(say(server.pop3, f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), POP3_LATER)
            self.assert_told(ledger)
            mailbox = server.mailbox("reception", BOB)
            self.assertFalse(mailbox.exists(), (call, path))
            with maildrop(server.pop3, BOB) as pop3_session:
                self.assertEqual(pop3_session.stat(), (0, 0))
            shutil.rmtree(mailbox)

    def test_of_letters_that_are_stored_together_only_those_to_the_mailbox_that_fails_are_refused(self) -> None:
        server, ledger = self.serve_with_ledger()
        kinds = ([ALICE], [BOB], [ALICE, BOB])
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(sender(server.submission, ALICE))
            self.assertEqual(ledger.send(first, [ALICE, BOB]), OK)
            wires = [(stack.enter_context(Wire(server.smtp)), kinds[number % 3]) for number in range(12)]
            with self.faults.failing("fsync", "/reception/bob@localhost/new", errno.EIO):
                with self.faults.waiting("fsync", "/spool/") as one_waits:
                    blocked = stack.enter_context(Wire(server.smtp))
                    self.begin(blocked, [ALICE], "blocked")
                    eventually(one_waits, "a letter waits for the disk")
                    for number, (wire, recipients) in enumerate(wires):
                        self.begin(wire, recipients, f"number {number}")
                    with Wire(server.pop3) as last:  # its greeting comes when the letters have been read
                        last.reply()
                self.assertEqual(blocked.reply()[:4], OK)
                for number, (wire, recipients) in enumerate(wires):
                    self.assertRegex(wire.reply(), LATER if BOB in recipients else OK, number)
            self.assert_told(ledger, 8)
        texts = [path.read_bytes().rpartition(b"Subject: ")[2] for path in server.letters("reception", ALICE)]
        self.assertEqual(
            sorted(texts[1:]), sorted([b"blocked\r\n\r\n", *(b"number %d\r\n\r\n" % n for n in range(0, 12, 3))])
        )
        self.assertEqual(len(server.letters("reception", BOB)), 1)
        self.assertEqual(list((server.maildata / "spool").iterdir()), [])

    def begin(self, wire: Wire, recipients: list[str], subject: str) -> None:
        """Send a letter, and do not wait for what is said of it."""
        wire.reply()
        wire.say("EHLO client.test", f"MAIL FROM:<{ALICE}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA")
        wire.send(f"Subject: {subject}", "", ".")

    def test_what_cannot_be_taken_from_the_spool_is_told_and_goes_with_the_next_letter(self) -> None:
        server, ledger = self.serve_with_ledger()
        spool = server.maildata / "spool"
        with sender(server.submission, ALICE) as wire:
            for octets in (SMALL, LARGE):
                with self.faults.failing("unlink", "/spool/", errno.EIO):
                    self.assertEqual(ledger.send(wire, [BOB], octets), OK)
                    self.assert_told(ledger)
                    self.assertEqual(len(list(spool.iterdir())), 1)
                self.assert_goes_on(server, ledger, wire)
            with self.faults.failing("unlink", "/spool/", errno.EIO):
                ledger.send(wire, [BOB])
        server.stop()
        self.assertEqual(len(list(spool.iterdir())), 1)
        server.start()
        ledger.check()


@needs("gcc")
class FetchingTests(FaultsTestCase):
    def serve_with_letters(self) -> tuple[Server, Ledger]:
        """A server with a small letter and a large one to bob."""
        server, ledger = self.serve_with_ledger()
        with sender(server.submission, ALICE) as wire:
            for octets in (SMALL, LARGE):
                ledger.send(wire, [BOB], octets)
        return server, ledger

    def test_a_maildrop_that_cannot_be_read_is_never_an_empty_one(self) -> None:
        server, ledger = self.serve_with_letters()
        mailbox = server.mailbox("reception", BOB)
        with Wire(server.pop3) as wire:
            wire.reply()
            for call, path, error in (
                ("open", "/reception/bob@localhost", errno.EMFILE),
                ("open", "/reception/bob@localhost/new", errno.EIO),
                ("open", "/reception/bob@localhost/cur", errno.ENFILE),
                ("open", "/cur/foreign", errno.EACCES),  # a name that tells no size: it is measured
                ("read", "/cur/foreign", errno.EIO),
            ):
                (mailbox / "cur" / f"foreign{error}{call}").write_text("Subject: foreign\n\nHello\n")
                with self.faults.failing(call, path, error):
                    self.assertRegex(wire.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), POP3_LATER, (call, path))
                self.assert_told(ledger)
            self.assertRegex(wire.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), r"^\+OK 7 ")

    def test_a_letter_that_cannot_be_read_is_refused_for_now_and_stays(self) -> None:
        server, ledger = self.serve_with_letters()
        foreign = server.mailbox("reception", BOB) / "cur" / "9.foreign"  # ours are read in one call, this one is not
        foreign.write_text("Subject: foreign\n\nHello\n")
        with maildrop(server.pop3, BOB) as pop3:
            whole = [retrieve(pop3, number) for number in (1, 2, 3)]
            for call, folder, number, passes, error in (
                ("open", "new", 1, 0, errno.EMFILE),
                ("read", "new", 1, 0, errno.EIO),
                ("open", "cur", 3, 0, errno.EMFILE),
                ("read", "cur", 3, 0, errno.EIO),
                ("read", "cur", 3, 1, errno.EIO),
            ):
                for command in (f"RETR {number}", f"TOP {number} 9999"):
                    with self.faults.failing(call, f"/reception/bob@localhost/{folder}/", error, passes=passes):
                        refused = self.assertRaises(poplib.error_proto, pop3._shortcmd, command)
                        self.assertRegex(refused.args[0].decode(), POP3_LATER)
                    self.assert_told(ledger)
                self.assertEqual([retrieve(pop3, number) for number in (1, 2, 3)], whole)

    def test_a_letter_that_cannot_be_read_to_its_end_never_looks_complete(self) -> None:
        server, ledger = self.serve_with_letters()
        whole = fetch(server.pop3, BOB)[1]
        reads = self.faults.failing("read", "/reception/bob@localhost/new/", errno.EIO, passes=1)
        with reads, Wire(server.pop3) as wire:
            wire.reply()
            self.assertRegex(wire.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}", "RETR 2"), r"^\+OK ")
            self.assertFalse(wire.rest().endswith(b"\r\n.\r\n"))
        self.assert_told(ledger)
        self.assertEqual(fetch(server.pop3, BOB)[1], whole)

    def test_what_cannot_be_deleted_is_told_and_is_deleted_the_next_time(self) -> None:
        server, ledger = self.serve_with_letters()
        with sender(server.submission, ALICE) as wire:
            ledger.send(wire, [BOB])
        for call, error, fails, left in (
            ("unlink", errno.EROFS, -1, 3),
            ("unlink", errno.EIO, 1, 1),
            ("fsync", errno.EIO, -1, 0),
        ):
            with self.faults.failing(call, "/reception/bob@localhost/new", error, fails=fails):
                count = len(server.letters("reception", BOB))
                deletions = [f"DELE {number + 1}" for number in range(count)]
                reply = say(server.pop3, f"USER {BOB}", f"PASS {PASSWORDS[BOB]}", *deletions, "QUIT")
                self.assertRegex(reply, POP3_LATER, (call, error))
            self.assert_told(ledger)
            self.assertEqual(len(server.letters("reception", BOB)), left)
        with sender(server.submission, ALICE) as wire:
            ledger.send(wire, [BOB])
        self.assertRegex(say(server.pop3, f"USER {BOB}", f"PASS {PASSWORDS[BOB]}", "DELE 1", "QUIT"), r"^\+OK ")
        self.assertEqual(server.letters("reception", BOB), [])


@needs("gcc")
class AccountsTests(FaultsTestCase):
    """The account database, and the guard's counters in it."""

    def auth(self, server: Server, password: str, address: str = BOB) -> str:
        return say(server.submission, "EHLO client.test", f"AUTH PLAIN {encoded('', address, password)}")

    def pass_(self, server: Server, password: str, address: str = BOB) -> str:
        return say(server.pop3, f"USER {address}", f"PASS {password}")

    def rcpt(self, server: Server, address: str = BOB) -> str:
        return say(server.smtp, "HELO client.test", "MAIL FROM:<>", f"RCPT TO:<{address}>")

    @of_one_process("another worker has the file open still")
    def test_accounts_that_cannot_be_read_are_nobodys_refusal(self) -> None:
        server, ledger = self.serve_with_ledger()
        file = server.maildata / "accounts.sqlite3"
        for call, error in (("open", errno.EMFILE), ("open", errno.EIO), ("read", errno.EIO)):
            with self.faults.failing(call, "/accounts.sqlite3", error), Wire(server.smtp) as wire:
                wire.reply()
                wire.say("EHLO client.test", "MAIL FROM:<stranger@example.com>")
                self.let_the_look_end()
                for recipient in (BOB, "nobody@localhost"):
                    self.assertRegex(wire.say(f"RCPT TO:<{recipient}>"), LATER)
                    self.assert_told(ledger)
                self.assertRegex(self.auth(server, PASSWORDS[BOB]), r"^454 4\.7\.0 ")
                self.assert_told(ledger)
                self.assertRegex(self.pass_(server, PASSWORDS[BOB]), POP3_LATER)
                self.assert_told(ledger)
                self.faults.stop()
                self.assertRegex(wire.say(f"RCPT TO:<{BOB}>"), OK)
                self.assertRegex(wire.say("RCPT TO:<nobody@localhost>"), r"^550 5\.1\.1 ")
            self.assertRegex(self.auth(server, PASSWORDS[BOB]), r"^235 ")
            self.assertRegex(self.pass_(server, PASSWORDS[BOB]), r"^\+OK ")
            self.assert_told(ledger, 0)
            # What the server has open of it, it closes when it has lost it.
            file.rename(file.with_name("away"))
            self.let_the_look_end()
            self.assertRegex(self.rcpt(server), LATER)
            self.assert_told(ledger)
            file.with_name("away").rename(file)

    def test_counters_that_cannot_be_written_keep_no_owner_out(self) -> None:
        server, ledger = self.serve_with_ledger()
        self.assertRegex(self.rcpt(server), OK)  # the file is open
        for error in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            with self.faults.failing("write", "/accounts.sqlite3", error):
                self.assertRegex(self.auth(server, PASSWORDS[BOB]), r"^235 ")
                self.assert_told(ledger)
                self.assertRegex(self.pass_(server, PASSWORDS[BOB]), r"^\+OK ")
                self.assert_told(ledger)
        self.assertIn(f"{BOB}\tnever", manage(server.maildata, "list"))
        self.assertRegex(self.auth(server, PASSWORDS[BOB]), r"^235 ")
        self.assertRegex(manage(server.maildata, "list"), rf"(?m)^{BOB}\t.* 127\.0\.0\.1\t")

    @of_one_process("each worker remembers by itself what cannot be written")
    def test_counters_that_cannot_be_written_let_no_guesser_in(self) -> None:
        server, ledger = self.serve_with_ledger(*QUICK)
        for _ in range(2):  # then SQLite has read what there is
            self.assertRegex(self.auth(server, PASSWORDS[ALICE], ALICE), r"^235 ")
        names = ("eve1@localhost", "eve2@localhost", "eve3@localhost", BOB)
        ways = ((self.auth, r"^454 4\.7\.0 "), (self.pass_, POP3_LATER))
        for name, (call, error) in zip(names, WRITING, strict=True):
            with self.faults.failing(call, "/accounts.sqlite3", error):
                for guess in ("cheshire-cat-1", "cheshire-cat-2", "cheshire-cat-3"):
                    self.assertRegex(self.auth(server, guess, name), r"^454 4\.7\.0 ")
                    self.assert_told(ledger)
                # Now he is locked out, and even the right password is not looked at.
                for log_in, reply in ways:
                    self.assertRegex(log_in(server, PASSWORDS.get(name, "cheshire-cat-4"), name), reply, (call, error))
                    self.assertRegex("".join(ledger.trouble()), "reason=locked$")
        self.faults.set_clock(3600)  # the lock has ended
        self.assertRegex(self.auth(server, PASSWORDS[BOB]), r"^235 ")
        self.assertRegex(self.auth(server, "cheshire-cat-4"), r"^535 5\.7\.8 ")

    def test_an_account_that_cannot_be_added_is_refused_with_one_line_and_added_later(self) -> None:
        server, ledger = self.serve_with_ledger()
        command = ["--maildata", str(server.maildata), "user", "add", "carol@localhost", "--password-stdin"]
        for call, error in (*WRITING, ("read", errno.EIO), ("fsync", errno.EIO)):
            with self.faults.failing(call, "/accounts.sqlite3", error):
                done = mailbe(*command, stdin="dormouse-5-tea\n")
            self.assertEqual((done.returncode, done.stdout), (1, ""), (call, error))
            self.assertRegex(done.stderr, r"^mailbe: \S+/accounts\.sqlite3: [^\n]+\n$")
            self.assertRegex(self.rcpt(server, "carol@localhost"), r"^550 5\.1\.1 ")
            self.assertRegex(self.auth(server, PASSWORDS[BOB]), r"^235 ")
        user(server.maildata, "add", "carol@localhost", "dormouse-5-tea")
        self.assertRegex(self.rcpt(server, "carol@localhost"), OK)
        self.assert_told(ledger, 0)
