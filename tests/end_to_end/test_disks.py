"""Real disks that are full, or read-only: what is said of letters is true, and mail can be fetched."""

from __future__ import annotations

import contextlib
import itertools
import os
import poplib
import smtplib
import threading
from pathlib import Path

from mailbe.accounts.database import Accounts
from mailbe.address import Address
from mailbe.interfaces import TryLater
from mailbe.maildata import Unusable
from tests.end_to_end.disks import DiskTestCase
from tests.end_to_end.ledger import LARGE, LATER, NO_ROOM, OK, SMALL
from tests.end_to_end.letters import maildrop, retrieve, sender
from tests.end_to_end.server import ALICE, BOB

PAGE = 4096  # octets
MIDDLE = 20_000  # octets of an attachment


def fill(folder: Path) -> Path:
    """Leave no room on the disk of ``folder``; returns the file that takes it up."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(PAGE))
    return ballast


class FullDiskTests(DiskTestCase):
    def test_what_many_clients_are_told_while_it_fills_up_is_true(self) -> None:
        server, ledger = self.serve_with_ledger(maildata=self.disk(self.scratch() / "maildata", "8m"))
        kinds = [(to, octets) for octets in (LARGE, SMALL, MIDDLE) for to in ([BOB], [ALICE, BOB], [ALICE])]
        replies: list[str] = []

        def send_until_it_is_full(smtp: smtplib.SMTP, first: int) -> None:
            number, refused = first, 0
            while refused < 12:
                reply = ledger.send(smtp, *kinds[number % len(kinds)])
                replies.append(reply)
                number, refused = number + 1, refused + (reply != OK)

        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(sender(server.submission, ALICE)) for _ in range(6)]
            threads = [
                threading.Thread(target=send_until_it_is_full, args=(smtp, number))
                for number, smtp in enumerate(sessions)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            refused = [reply for reply in replies if reply != OK]
            self.assertGreater(len(replies) - len(refused), 10)
            for reply in refused:
                self.assertRegex(reply, NO_ROOM)
            trouble = ledger.trouble()
            self.assertEqual(len([line for line in trouble if "No space left on device" in line]), len(refused))
            self.assertEqual(len(trouble), len(refused), trouble)
            ledger.check()
            # Now not a single page is left; who fetches and deletes his mail makes room again.
            fill(server.maildata)
            self.assertRegex(ledger.send(sessions[0], [BOB]), NO_ROOM)
            with maildrop(server.pop3, BOB) as pop3:
                for number in range(1, pop3.stat()[0] + 1):
                    retrieve(pop3, number)
                    pop3.dele(number)
            self.assertEqual(server.letters("reception", BOB), [])
            (server.maildata / "ballast").unlink()
            ledger.expected["reception", BOB].clear()
            for kind, address in (("envoi", ALICE), ("reception", ALICE)):
                for path in server.letters(kind, address):
                    path.unlink()
                ledger.expected[kind, address].clear()
            for number, smtp in enumerate(sessions):
                self.assertEqual(ledger.send(smtp, *kinds[number]), OK)
        with sender(server.submission, ALICE) as another:
            self.assertEqual(ledger.send(another, [ALICE, BOB], LARGE), OK)
        ledger.check()
        server.stop()

    def test_a_disk_without_room_for_another_name_takes_a_letter_into_no_mailbox(self) -> None:
        disk = self.disk(self.scratch() / "maildata", "8m")
        server, ledger = self.serve_with_ledger(maildata=disk)
        with sender(server.submission, ALICE) as smtp:
            for octets in (SMALL, LARGE, SMALL):
                for left in itertools.count(1):  # on this disk every name takes one
                    status = os.statvfs(disk)
                    self.resize(disk, nr_inodes=status.f_files - status.f_ffree + left)
                    if (reply := ledger.send(smtp, [ALICE, BOB], octets)) == OK:
                        break
                    self.assertRegex(reply, NO_ROOM)
                    self.assert_told(ledger)
                    ledger.check()
                    for mailbox in disk.glob("[re]*/*"):
                        self.assertEqual({path.name for path in mailbox.iterdir()}, {"tmp", "new", "cur"})
                self.assertGreater(left, 3)
                ledger.check()
        server.stop()

    def test_accounts_are_made_whole_or_not_at_all(self) -> None:
        folder = self.scratch() / "maildata"
        made = []
        for pages in range(3, 80):
            disk = self.disk(folder, f"{pages * PAGE}")
            accounts = Accounts(disk / "accounts.sqlite3")
            try:
                accounts.add(Address("alice", "localhost"), "{MD5}" + "0" * 32)
                made.append(pages)
            except (Unusable, TryLater) as error:
                self.assertRegex(str(error), r"full|disk I/O error|No space")
            accounts.close()
            parts = {f"accounts.sqlite3{part}" for part in ("", "-wal", "-shm")}
            self.assertLessEqual({path.name for path in disk.iterdir()}, parts, pages)
            self.resize(disk, size=200 * PAGE)
            if pages not in made:
                accounts.add(Address("alice", "localhost"), "{MD5}" + "0" * 32)
            self.assertEqual(len(accounts.all()), 1)
            accounts.close()
            self.unmount(folder)
        self.assertTrue(made)
        self.assertNotIn(3, made)


class ReadOnlyTests(DiskTestCase):
    def test_nothing_changes_mail_can_be_read_and_letters_are_put_off(self) -> None:
        server, ledger = self.serve_with_ledger()
        with sender(server.submission, ALICE) as smtp:
            for part in ("reception", "spool", ""):
                self.assertEqual(ledger.send(smtp, [ALICE, BOB]), OK)
                folder = server.maildata / part
                self.mount(folder, "--bind", str(folder))
                self.mount(folder, "-o", "remount,ro,bind")
                for octets in (SMALL, LARGE):
                    self.assertRegex(ledger.send(smtp, [BOB], octets), LATER, part)
                    self.assert_told(ledger)
                with maildrop(server.pop3, BOB) as pop3:
                    retrieve(pop3, 1)
                if part != "spool":
                    with maildrop(server.pop3, BOB) as pop3:
                        pop3.dele(1)
                        self.assertRegex(str(self.assertRaises(poplib.error_proto, pop3.quit)), "SYS/TEMP")
                        pop3.close()
                    self.assertRegex(ledger.trouble()[-1], "not all could be deleted: .*: Read-only file system")
                ledger.check()
                self.unmount(folder)
                self.assertEqual(ledger.send(smtp, [BOB], LARGE), OK)
                with sender(server.submission, ALICE) as another:
                    self.assertEqual(ledger.send(another, [BOB]), OK)
                ledger.trouble()
        ledger.check()
        server.stop()
