"""A disk whose power can go: programs use it like any other, and afterwards it has what was synced."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest

from mailbe.accounts.database import Accounts
from mailbe.address import Address
from mailbe.durable import make_mailbox, sync_folder
from mailbe.torture.forgetful import ForgetfulDisk, Rule, Unavailable
from tests.end_to_end import server as server_module
from tests.end_to_end.letters import below_trace, fetch, letter, maildrop, send
from tests.end_to_end.programs import needs
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    EndToEndTestCase,
    environment,
    eventually,
    manage,
    twistd,
    user,
)

# Commits numbers from argv[2] on, and says each when COMMIT has returned.
COMMITTER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = FULL")
connection.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER)")
number = int(sys.argv[2])
while True:
    connection.execute("INSERT INTO numbers VALUES (?)", (number,))
    print(number, flush=True)
    number += 1
"""
OWNER = """
import sys
from pathlib import Path
from mailbe.torture.forgetful import ForgetfulDisk, Rule
disk = ForgetfulDisk(Path(sys.argv[1]), Rule.POSIX, 1)
disk.mount()
print("mounted", flush=True)
sys.stdin.read()
"""


def is_mounted(folder: Path) -> bool:
    return any(line.split()[4] == str(folder) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def write(path: Path, octets: bytes, *, sync: bool) -> None:
    with path.open("wb") as file:
        file.write(octets)
        file.flush()
        if sync:
            os.fsync(file.fileno())


@needs("fusermount3")
class ForgetfulTestCase(EndToEndTestCase):
    def setUp(self) -> None:
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise SkipTest("needs /dev/fuse, and the right to mount with it")

    def mount(self, rule: Rule, seed: int = 0) -> tuple[ForgetfulDisk, Path]:
        """A disk, and the folder that it is mounted on."""
        folder = self.scratch() / "maildata"
        folder.mkdir()
        disk = ForgetfulDisk(folder, rule, seed)
        self.addCleanup(lambda: self.assertFalse(is_mounted(folder)))
        self.addCleanup(disk.unmount)
        disk.mount()
        return disk, folder


class UseTests(ForgetfulTestCase):
    """What programs may do with the disk while it has power."""

    def setUp(self) -> None:
        super().setUp()
        self.disk, self.folder = self.mount(Rule.POSIX)

    def test_files_are_made_once_and_hold_what_was_written(self) -> None:
        path = self.folder / "letter"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.assertRaises(FileExistsError, os.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        octets = os.urandom(1_000_000)
        self.assertEqual(os.write(descriptor, octets), len(octets))
        self.assertEqual(os.pread(descriptor, len(octets), 0), octets)
        os.fdatasync(descriptor)
        os.ftruncate(descriptor, 10)
        os.pwrite(descriptor, b"end", 20)
        os.close(descriptor)
        self.assertEqual(path.read_bytes(), octets[:10] + bytes(10) + b"end")
        with path.open("ab") as file:
            file.write(b"!")
        self.assertEqual(path.stat().st_size, 24)
        path.write_bytes(b"anew")
        self.assertEqual(path.read_bytes(), b"anew")
        os.truncate(path, 2)
        self.assertEqual(path.read_bytes(), b"an")

    def test_a_file_has_as_many_links_as_names_and_outlives_them_while_it_is_open(self) -> None:
        path, other = self.folder / "letter", self.folder / "other"
        path.write_bytes(b"Hello")
        other.hardlink_to(path)
        self.assertTrue(path.samefile(other))
        self.assertEqual([path.stat().st_nlink, other.stat().st_nlink], [2, 2])
        with path.open("r+b", buffering=0) as file:
            path.unlink()
            self.assertEqual([os.fstat(file.fileno()).st_nlink, other.stat().st_nlink], [1, 1])
            other.unlink()
            self.assertEqual(list(self.folder.iterdir()), [])
            file.seek(0, os.SEEK_END)
            file.write(b"!")
            self.assertEqual(os.pread(file.fileno(), 10, 0), b"Hello!")
            self.assertEqual((os.fstat(file.fileno()).st_nlink, os.fstat(file.fileno()).st_size), (0, 6))

    def test_names_are_changed_and_listed(self) -> None:
        make_mailbox(self.folder / "alice")
        (self.folder / "alice" / "tmp" / "a").write_bytes(b"1")
        (self.folder / "alice" / "tmp" / "b").write_bytes(b"2")
        (self.folder / "alice" / "tmp" / "a").rename(self.folder / "alice" / "new" / "a")
        (self.folder / "alice" / "tmp" / "b").replace(self.folder / "alice" / "new" / "a")
        (self.folder / "alice").rename(self.folder / "bob")
        (self.folder / "bob" / "tmp").rmdir()
        with self.assertRaises(OSError) as raised:
            (self.folder / "bob").rmdir()
        self.assertEqual(raised.exception.errno, errno.ENOTEMPTY)
        paths = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}
        self.assertEqual(paths, {"bob", "bob/new", "bob/cur", "bob/new/a"})
        self.assertEqual((self.folder / "bob" / "new" / "a").read_bytes(), b"2")
        with os.scandir(self.folder / "bob" / "new") as entries:
            self.assertEqual([(entry.name, entry.is_file(), entry.is_dir()) for entry in entries], [("a", True, False)])

    def test_a_file_that_is_open_can_be_replaced(self) -> None:
        path, new = self.folder / "key", self.folder / "key.new"
        path.write_bytes(b"old")
        new.write_bytes(b"new")
        with path.open("rb") as file:
            new.replace(path)
            self.assertEqual((file.read(), path.read_bytes()), (b"old", b"new"))

    def test_times_and_permissions_are_kept(self) -> None:
        before = time.time_ns()
        (self.folder / "new").mkdir(mode=0o700)
        path = self.folder / "new" / "letter"
        stamps = []
        for change in (path.touch, path.unlink, path.touch):
            change()
            stamps.append((self.folder / "new").stat().st_mtime_ns)
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertGreater(stamps[0], before)
        os.utime(path, ns=(1, 1_234_567_890_123_456_789))
        self.assertEqual(path.stat().st_mtime_ns, 1_234_567_890_123_456_789)
        os.utime(path)
        self.assertGreater(path.stat().st_mtime_ns, before)
        path.chmod(0o640)
        self.assertEqual(stat.filemode(path.stat().st_mode), "-rw-r-----")
        self.assertEqual(stat.filemode((self.folder / "new").stat().st_mode), "drwx------")
        self.assertEqual((path.stat().st_uid, path.stat().st_gid), (os.getuid(), os.getgid()))
        self.assertGreater(os.statvfs(self.folder).f_bavail, 0)

    def test_locks_hold_on_files_and_folders(self) -> None:
        (self.folder / "file").touch()
        for path in (self.folder, self.folder / "file"):
            first, second = (os.open(path, os.O_RDONLY) for _ in range(2))
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.assertRaises(BlockingIOError, fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(first)
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(second)

    def test_memory_can_be_shared(self) -> None:
        (self.folder / "shared").write_bytes(bytes(8192))
        descriptors = [os.open(self.folder / "shared", os.O_RDWR) for _ in range(2)]
        first, second = (mmap.mmap(descriptor, 8192) for descriptor in descriptors)
        first[5000:5005] = b"Hello"
        self.assertEqual(second[5000:5005], b"Hello")
        second.flush()
        self.assertEqual(os.pread(descriptors[1], 5, 5000), b"Hello")
        for opened in (first, second):
            opened.close()
        for descriptor in descriptors:
            os.close(descriptor)


class CutTests(ForgetfulTestCase):
    def test_nothing_works_without_power(self) -> None:
        disk, folder = self.mount(Rule.POSIX)
        write(folder / "letter", b"Hello", sync=True)
        descriptor = os.open(folder / "letter", os.O_RDWR)
        opened = os.open(folder, os.O_RDONLY)
        disk.cut()
        for operation in (
            lambda: os.write(descriptor, b"x"),
            lambda: os.fsync(descriptor),
            lambda: os.fsync(opened),
            lambda: os.ftruncate(descriptor, 0),
            lambda: os.fstat(descriptor),
            (folder / "letter").read_bytes,
            (folder / "letter").unlink,
            (folder / "new").mkdir,
            (folder / "new").touch,
            lambda: (folder / "other").hardlink_to(folder / "letter"),
            lambda: (folder / "letter").rename(folder / "other"),
            lambda: list(folder.iterdir()),
            lambda: os.statvfs(folder),
        ):
            with self.assertRaises(OSError) as raised:
                operation()
            self.assertEqual(raised.exception.errno, errno.EIO)
        disk.restore()
        for stale in (descriptor, opened):  # of the mount that was
            self.assertRaises(OSError, os.fsync, stale)
            with contextlib.suppress(OSError):
                os.close(stale)

    def test_what_was_synced_is_there_again_and_a_program_can_go_on(self) -> None:
        for rule in Rule:
            disk, folder = self.mount(rule)
            synced: dict[str, bytes] = {}
            for round in range(5):
                for number in range(10):
                    name, octets = f"{round}.{number}", os.urandom(100 * number)
                    write(folder / name, octets, sync=True)
                    synced[name] = octets
                sync_folder(folder)
                for number in range(10):
                    write(folder / f"lost.{round}.{number}", b"x" * 100, sync=False)
                disk.cut()
                disk.restore()
                there = {path.name: path.read_bytes() for path in folder.iterdir()}
                self.assertLessEqual(synced.items(), there.items())
                strangers = [name for name in there if name not in synced and not name.startswith("lost.")]
                self.assertEqual(strangers, [])

    def test_names_and_contents_that_were_not_synced_are_forgotten(self) -> None:
        outcomes = set()
        for seed in range(12):
            disk, folder = self.mount(Rule.POSIX, seed)
            write(folder / "letter", b"Hello", sync=False)
            disk.cut()
            disk.restore()
            path = folder / "letter"
            outcomes.add(path.read_bytes() if path.exists() else None)
            disk.unmount()
        self.assertIn(None, outcomes)
        self.assertIn(b"Hello", outcomes)
        self.assertGreater(len(outcomes), 2, outcomes)

    def test_sqlite_keeps_what_it_has_committed(self) -> None:
        for rule in Rule:
            disk, folder = self.mount(rule)
            database = folder / "numbers.sqlite3"
            said: list[int] = []
            for round in range(4):
                command = [sys.executable, "-c", COMMITTER, str(database), str(len(said))]
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as committer:
                    assert committer.stdout
                    said += [int(committer.stdout.readline()) for _ in range(20 + 7 * round)]
                    disk.cut()
                    said += [int(line) for line in committer.stdout]  # it ends with its first error
                disk.restore()
                with contextlib.closing(sqlite3.connect(database)) as connection:
                    self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
                    numbers = [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]
                self.assertEqual(numbers[: len(said)], said, rule)
                # One more may be on the disk, of which nobody was told.
                self.assertLessEqual(len(numbers), len(said) + 1)
                said = numbers


class ServerTests(ForgetfulTestCase):
    """A mailbe server on the disk: what it has said is so, it is so after a power cut."""

    def test_what_was_acknowledged_is_there_and_what_was_deleted_is_not(self) -> None:
        for rule in Rule:
            disk, folder = self.mount(rule)
            server = self.serve(maildata=folder)
            kept: list[bytes] = []
            sent = 0
            for deletes in (False, True, False, True):
                if deletes:
                    for address in (ALICE, BOB):
                        with maildrop(server.pop3, address) as pop3:
                            pop3.dele(1)
                            pop3.dele(3)
                    del kept[2], kept[0]
                else:
                    for _ in range(5):
                        sent += 1
                        kept.append(letter(ALICE, [ALICE, BOB], f"letter {sent}"))
                        send(server.submission, ALICE, [ALICE, BOB], kept[-1])
                disk.cut()
                server.kill()
                disk.restore()
                server.start()
                for address in (ALICE, BOB):
                    self.assertEqual([below_trace(one) for one in fetch(server.pop3, address)], kept, rule)
                self.assertEqual(len(server.letters("envoi", ALICE)), sent)
            server.stop()

    def test_a_server_that_does_not_wait_for_the_disk_loses_letters(self) -> None:
        careless = [sys.executable, "-m", "tests.end_to_end.careless", "*"]
        self.patch(server_module, "twistd", lambda *arguments: [*careless, *twistd(*arguments)[1:]])
        octets = letter(ALICE, [BOB], "x")
        for seed in range(10):
            disk, folder = self.mount(Rule.POSIX, seed)
            server = self.serve(maildata=folder)
            send(server.smtp, ALICE, [BOB], octets, log_in=False)
            disk.cut()
            server.kill()
            disk.restore()
            there = [path.read_bytes() for path in server.letters("reception", BOB)]
            disk.unmount()
            # Of one that is left in part, the trace may be cut off as well.
            if not any(one.startswith(b"Return-Path: ") and one.endswith(octets) for one in there):
                return
        self.fail("nothing was ever lost")

    def test_without_power_the_server_puts_everybody_off(self) -> None:
        disk, folder = self.mount(Rule.POSIX)
        server = self.serve(maildata=folder)
        send(server.smtp, ALICE, [BOB], letter(ALICE, [BOB], "before"), log_in=False)
        disk.cut()
        with self.assertRaisesRegex(Exception, "451, b'4.3.0 "):
            send(server.smtp, ALICE, [BOB], letter(ALICE, [BOB], "after"), log_in=False)
        with self.assertRaisesRegex(Exception, r"-ERR \[SYS/TEMP\]"):
            fetch(server.pop3, BOB)
        server.kill()

    def test_an_account_is_there_once_the_command_says_so(self) -> None:
        for seed in range(3):
            disk, folder = self.mount(Rule.POSIX, seed)
            records: set[str] = set()
            for verb, password in (("add", PASSWORDS[ALICE]), ("passwd", "another one 7")):
                user(folder, verb, ALICE, password)
                accounts = Accounts(folder / "accounts.sqlite3")
                account = accounts.at(Address.parse(ALICE))
                assert account is not None
                accounts.close()
                self.assertNotIn(account.record, records)
                records.add(account.record)
                disk.cut()
                disk.restore()
                self.assertEqual(accounts.at(Address.parse(ALICE)), account)
                accounts.close()
            disk.unmount()

    def test_folders_that_somebody_has_just_made_do_not_take_what_is_in_them_along(self) -> None:
        for seed in range(3):
            disk, folder = self.mount(Rule.POSIX, seed)
            maildata = folder / "srv" / "mail" / "maildata"
            maildata.parent.mkdir(parents=True)
            user(maildata, "add", ALICE, PASSWORDS[ALICE])
            disk.cut()
            disk.restore()
            self.assertEqual(manage(maildata, "list").split("\t")[0], ALICE)
            disk.unmount()


class EndTests(ForgetfulTestCase):
    """Nothing stays mounted, whoever dies."""

    def test_it_goes_with_its_owner_whoever_else_uses_it(self) -> None:
        folder = self.scratch()
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert owner.stdin
        assert owner.stdout
        for stream in (owner.stdin, owner.stdout):
            self.addCleanup(stream.close)
        self.addCleanup(owner.wait)
        self.addCleanup(owner.kill)
        owner.stdout.readline()
        self.assertTrue(is_mounted(folder))
        descriptor = os.open(folder / "letter", os.O_CREAT | os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        owner.kill()
        eventually(lambda: not is_mounted(folder), "the disk is unmounted")

    def test_a_cut_of_a_disk_whose_process_has_died_is_told_in_one_line(self) -> None:
        disk, folder = self.mount(Rule.POSIX)
        assert disk._process
        disk._process.kill()
        disk._process.wait()
        self.assertRegex(str(self.assertRaises(Unavailable, disk.cut)), r"\A[^\n]*has ended; try again\Z")
        disk.unmount()
        self.assertFalse(is_mounted(folder))

    def test_it_can_be_ended_while_it_is_used_and_twice(self) -> None:
        for cut in (False, True):
            disk, folder = self.mount(Rule.POSIX)
            descriptor = os.open(folder / "letter", os.O_CREAT | os.O_WRONLY)
            if cut:
                disk.cut()
            disk.unmount()
            disk.unmount()
            self.assertFalse(is_mounted(folder))
            self.assertEqual(list(folder.iterdir()), [])
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def test_why_there_can_be_none_stands_in_one_line(self) -> None:
        folder = self.scratch()
        with self.assertRaisesRegex(Unavailable, r"^/\S+/missing: .*No such file or directory.*; try as root[^\n]*$"):
            ForgetfulDisk(folder / "missing", Rule.POSIX, 0).mount()
        for error, why in (
            ("ImportError", "mfusepy is missing; pip install mfusepy"),
            ("OSError", "apt-get install fuse3"),
        ):
            (folder / "mfusepy.py").write_text(f"raise {error}")
            self.patch(os, "environ", os.environ | {"PYTHONPATH": str(folder)})
            with self.assertRaisesRegex(Unavailable, rf"^/[^\n]*{why}$"):
                ForgetfulDisk(folder, Rule.POSIX, 0).mount()
        self.patch(os, "environ", os.environ | {"PATH": str(folder)})
        with self.assertRaisesRegex(Unavailable, "^fusermount3 is missing; apt-get install fuse3$"):
            ForgetfulDisk(folder, Rule.POSIX, 0).mount()
