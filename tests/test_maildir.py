"""Maildrops: ours, those that other programs fill, and those that change while they are open."""

from __future__ import annotations

import errno
import io
import mailbox
import os
import shutil
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailbe import letterfile, listing, maildir
from mailbe.durable import make_mailbox
from mailbe.interfaces import LetterGone, MaildropBusy, NotAllDeleted, TryLater
from mailbe.letterfile import base, told_size, told_surrogate
from mailbe.maildir import Maildrop, Maildrops
from mailbe.surrogate import surrogate
from tests.storage import at_once, stop_time

HOUR = 3600


class MaildropCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.box = Path(self.mktemp())
        self.box.parent.mkdir(parents=True, exist_ok=True)
        make_mailbox(self.box)
        self.maildrops = Maildrops(at_once)

    def put(self, name: str, content: bytes = b"Hello\r\n", folder: str = "new") -> Path:
        path = self.box / folder / name
        path.write_bytes(content)
        return path

    def settle(self) -> None:
        """Make the folders look as if nothing had happened in them for long."""
        long_ago = time.time() - 100
        for folder in ("new", "cur"):
            os.utime(self.box / folder, (long_ago, long_ago))

    def open(self) -> Maildrop:
        return self.successResultOf(Deferred.fromCoroutine(self.maildrops.open(self.box)))

    def uids(self) -> list[str]:
        maildrop = self.open()
        maildrop.close()
        return [maildrop.uid(index) for index in range(len(maildrop.sizes))]

    def texts(self) -> list[bytes]:
        maildrop = self.open()
        maildrop.close()
        return [b"".join(maildrop.read(index)) for index in range(len(maildrop.sizes))]


class Names(SynchronousTestCase):
    def test_flags_are_no_part_of_what_stays_the_same(self) -> None:
        self.assertEqual(base("1.M2P3.host,S=4,W=5:2,RS"), "1.M2P3.host,S=4,W=5")

    def test_the_size_on_the_wire_is_told_wherever_it_stands(self) -> None:
        for name in ("1.a,S=4,W=5", "1.a,W=5,S=4", "1.a,W=5,x"):
            self.assertEqual(told_size(name), 5)
        for name in ("1.a", "5", "1.a,S=5", "1.a,W=", "1.a,W=x"):
            self.assertIsNone(told_size(name))

    def test_so_is_the_size_of_a_surrogate(self) -> None:
        for name in ("1.a,A=7,S=4,W=5", "1.a,S=4,W=5,A=7", "1.a,A=7"):
            self.assertEqual((told_surrogate(name), told_size(name)), (7, 5 if "W" in name else None))
        # The third as isync leaves a letter of ours behind, which puts a number of its own there.
        for name in ("1.a", "1.a,S=4,W=5", "1.a,S=4,W=5,U=1", "1.a,A=", "1.a,A=x,W=5", "1.aA=7", "1.a,A=" + "9" * 30):
            self.assertIsNone(told_surrogate(name))


class Surrogates(MaildropCase):
    """Which letters are another size for who has not asked for UTF-8 (RFC 6856 2.1)."""

    letter = "Subject: é\n\né\n".encode()

    def test_a_name_that_tells_is_believed_and_nothing_is_read(self) -> None:
        self.put("1.a,S=7,W=7")
        self.put("2.a,A=20,S=9,W=9", folder="cur").rename(self.box / "cur" / "2.a,A=20,S=9,W=9:2,S")
        self.put("3.a,A=7,S=7,W=7")
        self.patch(listing, "contents", lambda path: self.fail("it was read"))
        maildrop = self.open()
        self.assertEqual((maildrop.sizes, maildrop.surrogates), ([7, 9, 7], {1: 20}))

    def test_a_file_that_is_measured_is_measured_for_both(self) -> None:
        self.put("1.a", self.letter)
        self.put("2.a", b"Subject: e\n\n\xe9\n")
        maildrop = self.open()
        size = len(b"".join(surrogate(self.texts_of(maildrop, 0))))
        self.assertEqual(maildrop.surrogates, {0: size})
        self.assertNotEqual(size, maildrop.sizes[0])

    def texts_of(self, maildrop: Maildrop, index: int) -> list[bytes]:
        return [b"".join(maildrop.read(index))]


class Foreign(MaildropCase):
    """What another program has put there."""

    def test_lines_that_end_in_lf_are_sent_with_crlf_and_counted_so(self) -> None:
        other = mailbox.Maildir(self.box, create=False)
        other.add(b"Subject: a\n\n.\nlast line without an end")
        message = mailbox.MaildirMessage(b"Subject: b\n\nHello\n")
        message.set_subdir("cur")
        message.set_flags("RS")
        other.add(message)
        wanted = {b"Subject: a\r\n\r\n.\r\nlast line without an end\r\n", b"Subject: b\r\n\r\nHello\r\n"}
        self.assertEqual(set(self.texts()), wanted)
        maildrop = self.open()
        self.assertEqual(sorted(maildrop.sizes), sorted(map(len, wanted)))

    def test_a_name_that_tells_the_wire_size_is_not_measured(self) -> None:
        self.put("1.a.host,S=3,W=4", b"a\nb")
        self.patch(listing, "contents", lambda path: self.fail("it was read"))
        self.assertEqual(self.open().sizes, [4])

    def test_a_name_that_lies_of_its_size_does_not_stop_the_letter(self) -> None:
        self.put("1.a.host,S=4,W=4", b"a\nb\n")
        self.put("2.a.host,S=99,W=99", b"a\nb\n")
        self.put("3.a.host,S=3,W=3", b"a\r\nb\r\n")
        self.assertEqual(self.texts()[1:], [b"a\r\nb\r\n"] * 2)

    def test_a_file_is_measured_once(self) -> None:
        self.put("1.a.host", b"a\nb\n")
        self.open().close()
        self.put("2.a.host", b"c\n")
        measured: list[str] = []
        real = listing.contents
        self.patch(listing, "contents", lambda path: measured.append(Path(path).name) or real(path))
        maildrop = self.open()
        self.assertEqual((maildrop.sizes, measured), ([6, 3], ["2.a.host"]))

    def test_what_is_no_message_is_passed_over(self) -> None:
        self.put(".hidden")
        self.put("1.tmp", folder="tmp")
        (self.box / "cur" / "folder").mkdir()
        (self.box / "dovecot-uidlist").write_text("x")
        self.assertEqual(self.open().sizes, [])

    @given(st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"a", b"."]), max_size=12).map(b"".join), st.integers(1, 5))
    def test_line_ends_are_made_crlf_wherever_the_file_is_cut(self, text: bytes, size: int) -> None:
        chunks = [text[begin : begin + size] for begin in range(0, len(text), size)]
        sent = b"".join(letterfile.with_crlf(chunks))
        wanted = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.assertEqual(sent, wanted + (b"" if wanted.endswith(b"\r\n") or not wanted else b"\r\n"))


class UniqueIds(MaildropCase):
    def test_they_stay_when_flags_and_folders_change(self) -> None:
        path = self.put("1.M2P3.host,S=7,W=7")
        before = self.uids()
        path.rename(self.box / "cur" / "1.M2P3.host,S=7,W=7:2,S")
        self.assertEqual((self.uids(), before), (["1.M2P3.host"], ["1.M2P3.host"]))

    def test_they_have_at_most_70_printable_characters(self) -> None:
        names = ["1." + "x" * 100, "2.a b", "3.\udcff", "4.\u00e9", "5.a\nb", ",S=0"]
        for name in names:
            (self.box / "new" / name).write_bytes(b"")
        uids = self.uids()
        self.assertEqual(len(set(uids)), len(names))
        for uid in uids:
            self.assertRegex(uid, r"\A[!-~]{1,70}\Z")
        self.assertEqual(uids, self.uids())

    def test_no_two_are_the_same(self) -> None:
        self.put("1.a,S=7")
        self.put("1.a,S=8")
        uids = self.uids()
        self.assertEqual(len(set(uids)), 2)
        # "1.a" is nobody's even when one of them is gone: who has seen the one has not seen the other.
        self.assertNotIn("1.a", uids)

    def test_the_letters_stand_in_their_order_in_whatever_folder_they_are(self) -> None:
        for number, folder, flags in ((3, "new", ""), (1, "cur", ":2,S"), (4, "cur", ":2,"), (2, "new", "")):
            self.put(f"{number}.a,S=7,W=7{flags}", folder=folder)
        self.assertEqual(self.uids(), ["1.a", "2.a", "3.a", "4.a"])

    def test_a_letter_that_is_met_twice_is_one(self) -> None:
        self.put("5.a")
        self.put("5.a:2,S", folder="cur")
        self.assertEqual(self.uids(), ["5.a"])

    def test_a_letter_that_moves_while_it_is_listed_is_neither_lost_nor_doubled(self) -> None:
        names = [f"{number}.a,S=7,W=7" for number in range(5)]
        for name in names:
            self.put(name)
        real = listing._names
        moves = iter(names[:3])

        def meanwhile(folder: Path) -> list[str]:
            found = real(folder)
            if folder.name == "new":
                for name in moves:
                    (self.box / "new" / name).rename(self.box / "cur" / f"{name}:2,S")
                    break
            return found

        self.patch(listing, "_names", meanwhile)
        self.settle()
        self.assertEqual(self.uids(), [f"{number}.a" for number in range(5)])

    def test_letters_that_never_stop_moving_are_listed_all_the_same(self) -> None:
        self.put("1.a,S=7,W=7")
        stamps = iter(range(100))
        self.patch(listing, "times_of_change", lambda box: (next(stamps), 0))
        for _ in range(2):
            self.assertEqual(self.uids(), ["1.a"])


class Locks(MaildropCase):
    def test_a_second_session_is_refused_until_the_first_has_ended(self) -> None:
        first = self.open()
        self.failureResultOf(Deferred.fromCoroutine(self.maildrops.open(self.box)), MaildropBusy)
        self.failureResultOf(Deferred.fromCoroutine(Maildrops(at_once).open(self.box)), MaildropBusy)
        first.close()
        self.open()

    def test_a_maildrop_that_cannot_be_listed_is_not_left_locked(self) -> None:
        (self.box / "cur").rmdir()
        (self.box / "cur").write_text("a file")
        for _ in range(2):
            self.failureResultOf(Deferred.fromCoroutine(self.maildrops.open(self.box)), TryLater)
        (self.box / "cur").unlink()
        self.open()


class Unreadable(MaildropCase):
    def test_a_mailbox_whose_disk_is_gone_is_no_empty_one(self) -> None:
        self.put("1.a")
        gone = self.box.parent / "unmounted" / "reception" / "alice"
        self.failureResultOf(Deferred.fromCoroutine(self.maildrops.open(gone)), TryLater)

    def test_a_new_account_has_an_empty_maildrop(self) -> None:
        self.box = self.box.parent / f"{self.box.name}-new"
        self.assertEqual(self.open().sizes, [])

    def test_a_mailbox_whose_making_was_cut_short_is_completed(self) -> None:
        self.put("1.a")
        (self.box / "cur").rmdir()
        self.assertEqual(len(self.open().sizes), 1)

    def test_a_letter_that_cannot_be_read_is_no_empty_one(self) -> None:
        self.put("1.a,S=7,W=7")
        maildrop = self.open()
        (self.box / "new" / "1.a,S=7,W=7").unlink()
        (self.box / "new" / "1.a,S=7,W=7").mkdir()
        self.assertRaises(TryLater, maildrop.read, 0)

    def test_a_disk_that_fails_is_told_as_that_with_the_name_of_the_letter(self) -> None:
        self.put("1.a,S=7,W=7")
        maildrop = self.open()

        def fail(descriptor: int, octets: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(os, "read", fail)
        self.assertRegex(str(self.assertRaises(TryLater, maildrop.read, 0)), r"1\.a,.*: Input/output error$")
        opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
        self.assertNotIn((self.box / "new" / "1.a,S=7,W=7").resolve(), opened)

    def test_a_disk_that_fails_in_the_middle_of_a_letter_is_told_as_that(self) -> None:
        class Failing(io.FileIO):
            def read(self, size: int = -1) -> bytes:
                if self.tell():
                    raise OSError(errno.EIO, "Input/output error")
                return super().read(size)

        self.put("1.a,S=600000,W=600000", b"x" * 600_000)
        maildrop = self.open()
        self.patch(Path, "open", lambda path, *_, **__: Failing(path))
        chunks = iter(maildrop.read(0))
        self.assertEqual(next(chunks), b"x" * letterfile.CHUNK)
        self.assertRegex(str(self.assertRaises(TryLater, next, chunks)), r"1\.a,.*: Input/output error$")

    def test_a_mailbox_that_vanished_is_no_letter_that_was_taken(self) -> None:
        self.put("1.a,S=7,W=7")
        maildrop = self.open()
        away = self.box.with_name("away")
        for replaced in (False, True):
            self.box.rename(away)
            if replaced:  # by what another server, or a backup, has put there
                make_mailbox(self.box)
            self.assertRaises(TryLater, maildrop.read, 0)
            self.failureResultOf(Deferred.fromCoroutine(maildrop.delete([0])), NotAllDeleted)
            if replaced:
                shutil.rmtree(self.box)
            away.rename(self.box)
        self.assertEqual(b"".join(maildrop.read(0)), b"Hello\r\n")
        self.successResultOf(Deferred.fromCoroutine(maildrop.delete([0])))

    def test_nothing_is_deleted_in_a_mailbox_that_is_not_the_one_that_was_opened(self) -> None:
        self.put("1.a,S=7,W=7")
        maildrop = self.open()
        away = self.box.with_name("away")
        shutil.copytree(self.box, away)
        self.box.rename(self.box.with_name("old"))
        away.rename(self.box)
        self.failureResultOf(Deferred.fromCoroutine(maildrop.delete([0])), NotAllDeleted)
        self.assertTrue((self.box / "new" / "1.a,S=7,W=7").exists())


class Changes(MaildropCase):
    """Another program changes the maildrop while it is open."""

    def test_a_letter_whose_flags_changed_is_found(self) -> None:
        path = self.put("1.a,S=7,W=7")
        maildrop = self.open()
        path.rename(self.box / "cur" / "1.a,S=7,W=7:2,S")
        self.assertEqual(b"".join(maildrop.read(0)), b"Hello\r\n")
        self.successResultOf(Deferred.fromCoroutine(maildrop.delete([0])))
        maildrop.close()
        self.assertEqual(self.uids(), [])

    def test_many_letters_that_moved_are_found_by_one_look(self) -> None:
        for number in range(9):
            self.put(f"{number}.a,S=7,W=7")
        maildrop = self.open()
        for path in list((self.box / "new").iterdir()):
            path.rename(self.box / "cur" / f"{path.name}:2,S")
        looks: list[Path] = []
        real = maildir.scan
        self.patch(maildir, "scan", lambda box: looks.append(box) or real(box))
        for index in range(9):
            self.assertEqual(b"".join(maildrop.read(index)), b"Hello\r\n")
        self.successResultOf(Deferred.fromCoroutine(maildrop.delete(range(9))))
        self.assertEqual(len(looks), 1)

    def test_a_letter_that_was_taken_is_gone_and_deleting_it_is_no_failure(self) -> None:
        path = self.put("1.a,S=7,W=7")
        maildrop = self.open()
        path.unlink()
        self.assertRaises(LetterGone, maildrop.read, 0)
        self.successResultOf(Deferred.fromCoroutine(maildrop.delete([0])))

    def test_a_letter_that_goes_while_it_is_listed_is_not_listed(self) -> None:
        self.put("1.a")
        self.put("2.a")
        real = listing.contents

        def contents(path: str) -> object:
            Path(path).unlink()
            return real(path)

        self.patch(listing, "contents", contents)
        self.assertEqual(self.open().sizes, [])

    def test_a_letter_that_is_renamed_while_it_is_listed_is_listed_whatever_the_folders_times_say(self) -> None:
        self.put("1.a,S=7,W=7")
        real, reads = listing._names, []

        def names(folder: Path) -> list[str]:
            # As a rename does that comes within a tick of the clock after another change: the times stay as they are.
            reads.append(folder)
            return [] if len(reads) <= 2 else real(folder)

        self.patch(listing, "_names", names)
        self.patch(listing, "TICK", 60_000_000_000)  # this is a moment ago, however slow this machine is
        self.assertEqual(self.uids(), ["1.a"])

    def test_what_could_not_be_deleted_is_told(self) -> None:
        self.put("1.a,S=7,W=7")
        self.put("2.a,S=7,W=7")
        maildrop = self.open()
        (self.box / "new" / "1.a,S=7,W=7").unlink()
        (self.box / "new" / "1.a,S=7,W=7").mkdir()
        self.failureResultOf(Deferred.fromCoroutine(maildrop.delete([0, 1])), NotAllDeleted)
        self.assertFalse((self.box / "new" / "2.a,S=7,W=7").exists())

    def test_a_deletion_is_on_the_disk_before_it_is_told(self) -> None:
        self.put("1.a,S=7,W=7")
        maildrop = self.open()
        synced: list[str] = []
        self.patch(maildir, "sync_folder", lambda folder: synced.append(folder.name))
        self.successResultOf(Deferred.fromCoroutine(maildrop.delete([0])))
        self.assertEqual(synced, ["new", "cur"])

    def test_a_deletion_that_is_not_on_the_disk_is_not_told_as_done(self) -> None:
        self.put("1.a,S=7,W=7")
        maildrop = self.open()

        def fail(folder: Path) -> None:
            raise OSError(5, "Input/output error", str(folder))

        self.patch(maildir, "sync_folder", fail)
        self.failureResultOf(Deferred.fromCoroutine(maildrop.delete([0])), NotAllDeleted)


class Remembering(MaildropCase):
    def listings(self) -> list[Path]:
        counted: list[Path] = []
        real = maildir.list_mailbox
        self.patch(maildir, "list_mailbox", lambda box, measured: counted.append(box) or real(box, measured))
        return counted

    def test_a_maildrop_that_has_not_changed_is_not_listed_again(self) -> None:
        self.put("1.a")
        self.settle()
        listings = self.listings()
        for _ in range(3):
            self.assertEqual(self.uids(), ["1.a"])
        self.assertEqual(len(listings), 1)

    def test_a_change_is_seen_at_once(self) -> None:
        self.put("1.a")
        self.settle()
        self.uids()
        self.put("2.a")
        self.assertEqual(self.uids(), ["1.a", "2.a"])

    def test_a_listing_of_folders_that_changed_just_now_is_not_believed(self) -> None:
        # A second change within the same tick of the clock would leave the folder's time as it is.
        stop_time(self)
        for names in (["1.a"], ["1.a", "2.a"]):
            self.put(names[-1])
            self.set_stamps(0)
            self.assertEqual(self.uids(), names)

    def set_clock(self, seconds: float) -> None:
        """Set the clock ahead, or back, of what it is now; what is monotonic goes on."""
        real, ahead = time.time_ns, int(seconds * 1e9)
        self.patch(time, "time_ns", lambda: real() + ahead)

    def set_stamps(self, seconds: float) -> None:
        """Let both folders have changed so long from now."""
        stamp = time.time_ns() + int(seconds * 1e9)
        for folder in ("new", "cur"):
            os.utime(self.box / folder, ns=(stamp, stamp))

    def test_a_listing_is_not_believed_once_the_clock_was_set(self) -> None:
        # Set back, it may come by the very tick of the folder's time again, and with it a letter.
        for seconds in (-HOUR, HOUR):
            self.put(f"{seconds}.a")
            self.settle()
            before = self.uids()
            stamps = [(self.box / folder).stat().st_mtime_ns for folder in ("new", "cur")]
            self.set_clock(seconds)
            self.put(f"{seconds}.b")
            for folder, stamp in zip(("new", "cur"), stamps, strict=True):
                os.utime(self.box / folder, ns=(stamp, stamp))
            self.assertEqual(self.uids(), sorted([*before, f"{seconds}.b"]))

    def test_a_folder_that_changed_in_the_future_is_remembered_until_then(self) -> None:
        stop_time(self)
        self.put("1.a")
        self.set_stamps(HOUR)
        listings = self.listings()
        for _ in range(3):
            self.uids()
        self.assertEqual(len(listings), 1)
        self.set_clock(HOUR)  # or rather, time goes by; when it comes, a letter may come in the same tick
        for _ in range(2):
            self.uids()
        self.assertEqual(len(listings), 3)

    def test_what_is_remembered_is_bounded_and_an_empty_maildrop_counts_too(self) -> None:
        listings = self.listings()
        for letters in (2, 0):
            self.patch(maildir, "REMEMBERED", 2 * (maildir.EMPTY + letters))
            boxes = [self.box.with_name(f"{self.box.name}-{letters}-{number}") for number in range(3)]
            for box in [*boxes, *boxes[1:], boxes[0]]:  # when the third comes, the first must go
                self.box = box
                if not box.exists():
                    make_mailbox(box)
                    for letter in range(letters):
                        self.put(f"{letter}.a")
                    self.settle()
                self.uids()
            self.assertEqual(listings, [*boxes, boxes[0]])
            listings.clear()
