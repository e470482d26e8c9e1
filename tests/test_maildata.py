"""The maildata folder: its layout, its one owner, and names that lead nowhere else."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe import durable, maildata
from mailbe.address import Address
from mailbe.maildata import Maildata, Unusable, folder_name
from tests.storage import ALICE
from tests.test_address import locals_


class FolderNames(SynchronousTestCase):
    def test_an_ordinary_address_is_its_folders_name(self) -> None:
        for text in ("alice@localhost", "a.b+c_d-e=f@g.example"):
            self.assertEqual(folder_name(Address.parse(text)), text)

    def test_case_does_not_make_another_folder(self) -> None:
        self.assertEqual(folder_name(Address("Alice", "LocalHost")), "alice@localhost")

    def test_what_a_shell_would_read_is_encoded(self) -> None:
        self.assertEqual(folder_name(Address("a$b`&'", "[127.0.0.1]")), "a%24b%60%26%27@%5B127.0.0.1%5D")

    @given(locals_)
    def test_no_address_leads_anywhere_else(self, local: str) -> None:
        name = folder_name(Address(local, "localhost"))
        self.assertNotIn("/", name)
        self.assertNotIn(os.sep, name)
        self.assertFalse(name.startswith("."))
        self.assertTrue(name.isascii() and name.isprintable())

    @given(st.lists(locals_, min_size=2, max_size=2, unique_by=str.casefold))
    def test_no_two_accounts_share_a_folder(self, two: list[str]) -> None:
        self.assertNotEqual(*(folder_name(Address(local, "localhost")) for local in two))


class Folder(SynchronousTestCase):
    def setUp(self) -> None:
        self.maildata = Maildata(Path(self.mktemp()) / "deep" / "maildata")

    def test_what_is_missing_is_made_and_the_rest_is_left(self) -> None:
        self.maildata.prepare()
        letter = self.maildata.reception(ALICE)
        letter.mkdir()
        self.maildata.prepare()
        self.assertTrue(letter.is_dir())
        self.assertEqual(self.maildata.root.stat().st_mode & 0o777, 0o700)

    def test_a_file_in_its_place_is_named(self) -> None:
        self.maildata.root.parent.mkdir(parents=True)
        self.maildata.root.write_text("")
        error = self.assertRaises(Unusable, self.maildata.prepare)
        self.assertIn(str(self.maildata.root), str(error))
        self.assertIn("--maildata", str(error))

    def test_a_folder_that_may_not_be_written_is_named(self) -> None:
        self.patch(os, "access", lambda path, mode: False)
        error = self.assertRaises(Unusable, self.maildata.prepare)
        self.assertIn("may not write", str(error))

    def test_it_has_one_server_whose_process_is_named(self) -> None:
        self.maildata.prepare()
        lock = self.maildata.lock()
        error = self.assertRaises(Unusable, self.maildata.lock)
        self.assertIn(f"process {os.getpid()}", str(error))
        os.close(lock)
        os.close(self.maildata.lock())

    def test_a_lock_that_cannot_be_had_is_named(self) -> None:
        self.assertRaises(Unusable, self.maildata.lock)

    def test_who_comes_while_the_last_servers_workers_end_waits_for_them(self) -> None:
        self.maildata.prepare()
        lock = self.maildata.lock()
        with subprocess.Popen(["true"]) as gone:
            os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
            for waited_for in (False, True):  # where nobody does, as in many a container, it stays in /proc
                if waited_for:
                    gone.wait()
                self.maildata.pid.write_text(f"{gone.pid}\n")
                threading.Timer(0.2, os.close, (lock,)).start()
                lock = self.maildata.lock()
                self.assertEqual(self.maildata.pid.read_text(), f"{os.getpid()}\n")
        os.close(lock)

    def test_but_not_for_ever(self) -> None:
        self.patch(maildata, "LAST_SECONDS", 0.2)
        self.maildata.prepare()
        self.addCleanup(os.close, self.maildata.lock())
        self.maildata.pid.write_text(f"{2**22 + 1}\n")  # no process ever has it (proc(5), pid_max)
        self.assertIn(f"process {2**22 + 1}", str(self.assertRaises(Unusable, self.maildata.lock)))

    def test_the_lock_holds_whatever_happens_to_the_file_that_names_its_holder(self) -> None:
        self.maildata.prepare()
        self.maildata.pid.mkdir()  # it cannot even be written
        lock = self.maildata.lock()
        self.maildata.pid.rmdir()
        self.assertIn("process unknown", str(self.assertRaises(Unusable, self.maildata.lock)))
        os.close(lock)

    def test_the_spool_is_swept_of_letters_and_of_nothing_else(self) -> None:
        self.maildata.prepare()
        name = "1700000000.M000001P2Q000003R0123abcd.host"
        (self.maildata.spool / name).write_text("half a letter")
        (self.maildata.spool / "1700000000.M000001P2Q000003.host").write_text("of an older version")
        (self.maildata.spool / "somebody's file").write_text("")
        (self.maildata.spool / f"{name}-folder").mkdir()
        self.assertEqual((self.maildata.sweep(), self.maildata.sweep()), (2, 0))
        self.assertEqual(len(list(self.maildata.spool.iterdir())), 2)

    def test_a_spool_that_cannot_be_swept_is_named(self) -> None:
        error = self.assertRaises(Unusable, self.maildata.sweep)
        self.assertIn("spool", str(error))

    def test_what_was_made_without_waiting_for_the_disk_is_synced(self) -> None:
        self.maildata.prepare()
        synced: list[Path] = []
        for module in (durable, maildata):
            self.patch(module, "sync_folder", synced.append)
        self.maildata.prepare()
        self.assertEqual(synced, [self.maildata.root, *self.maildata.root.absolute().parents])

    def test_a_folder_above_that_cannot_be_synced_stops_nobody_but_one_that_fails_does(self) -> None:
        self.maildata.prepare()
        above = self.maildata.root.absolute().parents[1]
        real = durable.sync_folder
        for number, stops in ((errno.EACCES, False), (errno.EINVAL, False), (errno.EIO, True)):

            def sync_folder(folder: Path, number: int = number) -> None:
                if folder == above:
                    raise OSError(number, os.strerror(number), str(folder))
                real(folder)

            self.patch(durable, "sync_folder", sync_folder)
            if stops:
                self.assertIn(str(above), str(self.assertRaises(Unusable, self.maildata.prepare)))
            else:
                self.maildata.prepare()

    def test_what_has_vanished_is_told(self) -> None:
        self.maildata.prepare()
        self.maildata.check()
        away = self.maildata.root.with_name("away")
        self.maildata.root.rename(away)
        self.assertIn(f"{self.maildata.root}: No such", str(self.assertRaises(Unusable, self.maildata.check)))
        self.maildata.root.mkdir()  # what is left of a disk that is not mounted
        self.assertRaises(Unusable, self.maildata.check)
        self.maildata.root.rmdir()
        away.rename(self.maildata.root)
        self.maildata.check()

    def test_a_folder_that_is_not_on_the_disk_does_not_pass_at_the_next_start(self) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        self.maildata.root.parent.mkdir(parents=True)
        patched = self.patch(os, "fsync", fail)
        self.assertRaises(Unusable, self.maildata.prepare)
        self.assertFalse(self.maildata.root.exists())
        patched.restore()
        self.maildata.prepare()

    def test_the_accounts_need_the_folder_and_nothing_in_it(self) -> None:
        self.maildata.prepare_root()
        self.assertEqual(list(self.maildata.root.iterdir()), [])

    def test_mail_is_in_its_new_place_before_it_goes_from_the_old(self) -> None:
        self.maildata.prepare()
        self.maildata.reception(ALICE).mkdir()
        synced: list[Path] = []
        self.patch(maildata, "sync_folder", synced.append)
        self.assertEqual([self.maildata.put_aside(ALICE), self.maildata.root / "reception"], synced)

    def test_the_mail_of_a_removed_account_is_put_aside(self) -> None:
        self.maildata.prepare()
        self.assertIsNone(self.maildata.put_aside(ALICE))
        for mailbox in (self.maildata.reception(ALICE), self.maildata.envoi(ALICE)):
            (mailbox / "new").mkdir(parents=True)
            (mailbox / "new" / "letter").write_text(mailbox.parent.name)
        aside = self.maildata.put_aside(ALICE)
        assert aside is not None
        self.assertFalse(self.maildata.reception(ALICE).exists())
        self.assertFalse(self.maildata.envoi(ALICE).exists())
        self.assertEqual((aside / "envoi" / "new" / "letter").read_text(), "envoi")
        self.assertEqual((aside / "reception" / "new" / "letter").read_text(), "reception")
