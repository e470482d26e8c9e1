"""The order of system calls: whatever mailbe says it has done is on the disk when it says so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from mailbe.durable import FOLDERS
from tests.end_to_end import server as server_module
from tests.end_to_end.letters import letter, maildrop, send
from tests.end_to_end.programs import needs
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    EndToEndTestCase,
    Server,
    environment,
    eventually,
    give_accounts,
    of_one_process,
    twistd,
)
from tests.end_to_end.strace import CLIENTS, STDOUT, Reply, Watch, command

# What need not be on the disk: drafts, what tells of the running process, what SQLite shares in memory, and the guard's
# counters, which lie in its log until it is synced for an account.
SPARED = ["spool/*", "pid", "listening.json*", "accounts.sqlite3-shm", "accounts.sqlite3-wal"]
LARGE = bytes(range(32, 127)) * 3000  # it does not wait in memory
# Which sync is left out, and what must be found then.
CARELESS = {
    "*/spool/*": r"/spool/\S+: not synced, and named \S+/reception/",
    "*/new": rf"/reception/{BOB}/new: not synced since \d",
    "*/envoi/*/new": rf"/envoi/{ALICE}/new: not synced since \d",
    f"*/{BOB}": rf"/reception/{BOB}: not synced since new ",
    "*/reception": rf"/reception: not synced since {BOB} ",
}


def without_number(paths: Sequence[Path], root: Path) -> list[str]:
    """Paths below ``root``, with letters by their folders only."""
    return sorted(re.sub(r"/\d+\.M\w+\.[^/]+$", "/letter", str(path.relative_to(root))) for path in paths)


def finished(record: Path, pid: int) -> str:
    """All that strace has written down of a process that has ended."""
    end = re.compile(rf"^{pid} +\+\+\+ exited", re.MULTILINE)
    eventually(lambda: end.search(record.read_text()), "strace has written down everything")
    return record.read_text()


class WatchTests(SynchronousTestCase):
    """What the demand is, on records made by hand."""

    def faults(self, record: str, *spared: str) -> list[str]:
        watch = Watch(Path("/m"), CLIENTS, spared)
        lines = dedent(record).strip() + '\n1 sendto(5<TCP:[127.0.0.1:25->127.0.0.1:9]>, "250 ok\\r\\n", 8, 0) = 8'
        [reply] = watch.replies(lines)
        self.assertEqual(reply.text, "250 ok\\r\\n")
        return reply.faults

    def test_a_file_and_its_folder_must_be_synced(self) -> None:
        made = '1 openat(AT_FDCWD</>, "/m/a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3</m/a>\n1 write(3</m/a>, "x", 1) = 1\n'
        file, folder = "1 fsync(3</m/a>) = 0\n", "1 fsync(4</m>) = 0\n"
        self.assertEqual(self.faults(made + folder + file), [])
        self.assertEqual(self.faults(made + folder), ["/m/a: not synced"])
        self.assertEqual(self.faults(made + file), ["/m: not synced since a was made or removed in it"])
        self.assertEqual(self.faults(folder + file + made, "a"), [])
        self.assertEqual(len(self.faults(folder + file + made)), 2)

    def test_a_sync_covers_what_was_done_before_it_began_and_no_more(self) -> None:
        for link in ('2 link("/x", "/m/a") = 0', '2 linkat(AT_FDCWD</>, "x", 7</m>, "a", 0) = 0'):
            before, _, after = link.rpartition('"')
            halves = f'{before}" <unfinished ...>', f"2 <... {link[2:].partition('(')[0]} resumed>{after}"
            self.assertEqual(self.faults(f"{link}\n1 fsync(4</m>) = 0"), [])
            self.assertEqual(self.faults(f"{link}\n1 fsync(4</m> <unfinished ...>\n1 <... fsync resumed>) = 0"), [])
            for record in (
                f"1 fsync(4</m>) = 0\n{link}",
                f"1 fsync(4</m> <unfinished ...>\n{link}\n1 <... fsync resumed>) = 0",
                f"{halves[0]}\n1 fsync(4</m>) = 0\n{halves[1]}",
                f"{link}\n1 fsync(4</m> <unfinished ...>",
                f"{link}\n1 fsync(4</m>) = -1 EIO (Input/output error)",
                f"{link}\n1 fsync(4</m/other>) = 0",
            ):
                self.assertEqual(self.faults(record), ["/m: not synced since a was made or removed in it"], record)

    def test_a_reply_is_on_its_way_when_its_call_begins(self) -> None:
        record = dedent("""
            1 unlink("/m/a") = 0
            2 sendto(5<TCP:[127.0.0.1:25->127.0.0.1:9]>, "250 ok", 6, 0 <unfinished ...>
            1 fsync(4</m>) = 0
            2 <... sendto resumed>) = 6
        """)
        [reply] = Watch(Path("/m"), CLIENTS, []).replies(record)
        self.assertEqual(reply.removed, [Path("/m/a")])
        self.assertEqual(len(reply.faults), 1)

    def test_a_file_must_be_synced_before_it_is_named_again(self) -> None:
        for call in ("link", "rename"):
            record = f"""
                1 write(3</m/spool/a>, "x", 1) = 1
                1 {call}("/m/spool/a", "/m/new/a") = 0
                1 fsync(3</m/spool/a>) = 0
                1 fsync(4</m/new>) = 0
            """
            self.assertEqual(self.faults(record, "spool/*"), ["/m/spool/a: not synced, and named /m/new/a"])

    def test_calls_that_failed_have_done_nothing(self) -> None:
        self.assertEqual(self.faults('1 mkdir("/m/a", 0700) = -1 EEXIST (File exists)'), [])


@needs("strace")
class TracedTestCase(EndToEndTestCase):
    def trace(self, program: Sequence[str] = ()) -> None:
        """Have every server that is started from now on run under strace; ``program`` stands in twistd's place."""
        self.record = self.scratch() / "record"

        def traced(*arguments: str) -> list[str]:
            script, *rest = twistd(*arguments)
            return command(self.record, [*(program or [script]), *rest])

        self.patch(server_module, "twistd", traced)

    def prepare(self) -> Server:
        """A server that was not started yet, on a maildata with accounts but without mail."""
        maildata = self.scratch() / "maildata"
        give_accounts(maildata, *PASSWORDS)
        server = Server(maildata)
        self.addCleanup(server.close)
        self.watch = Watch(maildata, CLIENTS, SPARED)
        return server

    def replies(self, server: Server) -> list[Reply]:
        """Stop the server; returns all that it has told its clients."""
        server.stop()
        return list(self.watch.replies(finished(self.record, server.pid)))

    def told(self, replies: Sequence[Reply], beginning: str) -> list[Reply]:
        return [reply for reply in replies if reply.text.startswith(beginning)]

    def assert_safe(self, replies: Sequence[Reply]) -> None:
        self.assertEqual([(reply.text, reply.faults) for reply in replies if reply.faults], [])


class OrderTests(TracedTestCase):
    def test_every_letter_is_on_the_disk_before_250(self) -> None:
        server = self.prepare()
        self.trace()
        server.start()
        octets = letter(ALICE, [BOB], "x")
        send(server.smtp, ALICE, [BOB], octets, log_in=False)
        send(server.smtp, ALICE, [BOB], octets, log_in=False)
        send(server.smtp, ALICE, [BOB, ALICE], letter(ALICE, [BOB], "large", attachment=LARGE), log_in=False)
        send(server.submission, ALICE, [BOB, ALICE], octets)
        send(server.submission, ALICE, [BOB], octets)

        replies = self.replies(server)
        self.assert_safe(replies)
        boxes = [f"reception/{BOB}", f"reception/{ALICE}", f"envoi/{ALICE}"]
        bob, alice, sent = (f"{box}/new/letter" for box in boxes)
        bobs, alices, sents = ([box, *(f"{box}/{name}" for name in FOLDERS)] for box in boxes)
        made = [without_number(reply.made, server.maildata) for reply in self.told(replies, "250 2.0.0")]
        expected = [[*bobs, bob], [bob], [*alices, bob, alice], [*sents, bob, alice, sent], [bob, sent]]
        self.assertEqual(made, [sorted(paths) for paths in expected])

    def test_every_deletion_is_on_the_disk_before_the_answer_to_quit(self) -> None:
        server = self.prepare()
        self.trace()
        server.start()
        for _ in range(3):
            send(server.smtp, ALICE, [BOB], letter(ALICE, [BOB], "x"), log_in=False)
        with maildrop(server.pop3, BOB) as pop3:
            pop3.dele(1)
            pop3.dele(3)
        replies = self.replies(server)
        self.assert_safe(replies)
        farewell = self.told(replies, "+OK")[-1]
        self.assertEqual(without_number(farewell.removed, server.maildata), [f"reception/{BOB}/new/letter"] * 2)

    def test_a_first_start_is_on_the_disk_before_anybody_is_greeted(self) -> None:
        scratch = self.scratch()
        maildata = scratch / "not" / "there" / "yet"
        spared = ["server.*", *(f"not/there/yet/{pattern}" for pattern in SPARED)]
        self.watch = Watch(scratch, CLIENTS, spared)
        self.trace()
        server = Server(scratch / "server", "--maildata", str(maildata))
        self.addCleanup(server.close)
        server.start()
        send(server.smtp, ALICE, ["postmaster@localhost"], letter(ALICE, [BOB], "x"), log_in=False)
        replies = self.replies(server)
        self.assert_safe(replies)
        self.assertLessEqual({*maildata.parents[:2], maildata, maildata / "tls" / "ca.pem"}, set(replies[0].made))
        self.assertEqual(len(self.told(replies, "250 2.0.0")), 1)


class CarelessTests(TracedTestCase):
    """A server that leaves out one sync, whichever it is, does not pass."""

    @of_one_process("workers do sync")
    def test_every_sync_that_is_left_out_is_missed(self) -> None:
        for pattern, fault in CARELESS.items():
            server = self.prepare()
            self.trace([sys.executable, "-m", "tests.end_to_end.careless", pattern])
            server.start()
            send(server.submission, ALICE, [BOB], letter(ALICE, [BOB], "x"))
            [reply] = self.told(self.replies(server), "250 2.0.0")
            self.assertRegex("\n".join(reply.faults), fault)

    @of_one_process("workers do sync")
    def test_a_deletion_that_is_not_synced_is_missed(self) -> None:
        server = self.prepare()
        send(server.start().smtp, ALICE, [BOB], letter(ALICE, [BOB], "x"), log_in=False)
        server.stop()
        self.watch = Watch(server.maildata, CLIENTS, SPARED)
        self.trace([sys.executable, "-m", "tests.end_to_end.careless", "*/new"])
        server.start()
        with maildrop(server.pop3, BOB) as pop3:
            pop3.dele(1)
        farewell = self.told(self.replies(server), "+OK")[-1]
        self.assertRegex("\n".join(farewell.faults), rf"^\S+/reception/{BOB}/new: not synced since \d")


class CommandTests(TracedTestCase):
    def test_an_account_and_all_folders_above_it_are_on_the_disk_before_the_command_says_so(self) -> None:
        scratch = self.scratch()
        maildata = scratch / "not" / "there" / "yet"
        for verb, password in (("add", PASSWORDS[ALICE]), ("passwd", "another one 7")):
            watch = Watch(scratch, STDOUT, ["*-shm"])
            [reply] = watch.replies(self.record_of(f"{password}\n", "--maildata", str(maildata), "user", verb, ALICE))
            self.assertTrue(reply.text.startswith(ALICE), reply.text)
            self.assertEqual(reply.faults, [])
            self.assertEqual(maildata in reply.made, verb == "add")

    def record_of(self, stdin: str, *arguments: str) -> str:
        """Run the mailbe command, which must end well, under strace."""
        run = [sys.executable, "-c", "from mailbe.cli import main; raise SystemExit(main())"]
        record = self.scratch() / "record"
        with subprocess.Popen(
            command(record, [*run, *arguments, "--password-stdin"]),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            process.communicate(stdin)
        self.assertEqual(process.returncode, 0)
        return finished(record, process.pid)
