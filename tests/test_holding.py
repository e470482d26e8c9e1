"""Letters that are held: released at their time and not before, once, whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailbe import allowance, durable, holding
from mailbe import release as release_module
from mailbe.accounts import database, directory, quotas
from mailbe.address import Address
from mailbe.allowance import Allowance
from mailbe.durable import Parcel
from mailbe.held import Held
from mailbe.holding import Entry, Holder
from mailbe.interfaces import Deadline, EnoughHeld, Envelope, ILetter, MailboxFull, Recipient, TryLater
from mailbe.postoffice import PostOffice
from mailbe.release import DELAY, GIVE_UP, LAST_RESORT, Release
from mailbe.reports import Fate, Reports
from mailbe.rooms import Rooms
from mailbe.slip import HEAD, Damaged, Slip
from tests.storage import ALICE, BOB, Office, at_once, reached
from tests.test_address import locals_

CAROL = Address("carol", "localhost")
HOUR = 3600.0
FAILED, DELAYED, DELIVERED = "failed", "delayed", "delivered"


class Told(Reports):
    """Writes down what senders would be told."""

    def __init__(self) -> None:
        self.all: list[tuple[Address | None, list[tuple[str, str, str]]]] = []
        """Who is told, and to whom the letter has met which fate."""
        self.contents: list[bytes] = []
        self.deaf: set[Address | None] = set()
        """To whom no report comes."""

    async def send(
        self, envelope: Envelope, letter: str, arrived: float, fates: Sequence[Fate], content: Iterable[bytes]
    ) -> bool:
        if envelope.reverse_path in self.deaf:
            return False
        self.all.append(
            (envelope.reverse_path, [(str(fate.recipient.address), fate.action, fate.status) for fate in fates])
        )
        self.contents.append(b"".join(content))
        return True

    @property
    def bad(self) -> list[tuple[Address | None, list[tuple[str, str, str]]]]:
        """Without what went well."""
        return [(who, bad) for who, fates in self.all if (bad := [fate for fate in fates if fate[1] != DELIVERED])]


class HoldingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(allowance, "REST", 0)  # however slow this processor is, a second later somebody looks again
        self.stage = Office(Path(self.mktemp()))
        self.addCleanup(self.stage.accounts.close)
        self.maildata = self.stage.maildata
        self.clock = self.stage.clock
        self.steady = Clock()
        self.told = Told()
        self.held = Held(self.maildata)
        self.holder = self.begin()

    def begin(self, **options: Any) -> Holder:
        """What looks after held letters, as it is after a start."""
        rooms = Rooms(at_once, self.stage.monotonic.seconds)
        self.office = self.stage.restart(**options)
        release = Release(self.office, rooms, self.stage.writer, self.told, at_once)
        return Holder(self.held, release, at_once, self.clock.seconds, self.steady.seconds)

    def restart(self) -> None:
        """Have the server begin anew."""
        self.maildata.sweep()
        self.holder = self.begin()

    def hold(
        self, *recipients: Address, seconds: float = HOUR, content: bytes = b"Subject: x\r\n\r\nx\r\n", **said: Any
    ) -> str:
        """Take a letter of alice's that is to be held for so long; returns its id."""
        submitter = self.office.submitter(ALICE)
        envelope = Envelope(ALICE, submitter, release=self.clock.seconds() + seconds)
        for name, value in said.items():
            setattr(envelope, name, value)
        envelope.recipients += reached(self.office, *(recipients or (BOB,)))
        letter = self.office.letter(envelope)
        letter.write(content)
        self.successResultOf(Deferred.fromCoroutine(letter.deliver()))
        letter.discard()
        return letter.id

    def pass_(self, seconds: float) -> None:
        """So much time passes, and then somebody looks."""
        self.clock.advance(seconds)
        self.steady.advance(seconds)
        self.stage.monotonic.advance(seconds)
        self.look()

    def look(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.holder.run()))

    def ids(self, mailbox: Path) -> list[str]:
        """The ids of what lies in a mailbox."""
        return sorted(path.name.partition(",")[0] for name in ("new", "cur") for path in mailbox.glob(f"{name}/*"))

    def got(self, address: Address = BOB) -> list[str]:
        return self.ids(self.maildata.reception(address))

    @property
    def waiting(self) -> list[str]:
        """The ids of the letters that are held, which have envelopes, and nothing else has."""
        letters, envelopes = self.ids(self.maildata.held_letters), self.ids(self.maildata.held_envelopes)
        self.assertEqual(letters, envelopes)
        return letters


class Times(HoldingCase):
    def test_a_letter_comes_at_its_second_and_not_before(self) -> None:
        id = self.hold(seconds=100)
        self.look()
        self.assertEqual((self.waiting, self.got()), ([id], []))
        self.pass_(99.5)
        self.assertEqual((self.waiting, self.got()), ([id], []))
        self.pass_(0.5)
        self.assertEqual((self.waiting, self.got()), ([], [id]))
        self.pass_(HOUR)
        self.assertEqual(self.got(), [id])

    def test_it_is_the_letter_that_was_sent_and_the_sender_has_his_copy_at_once(self) -> None:
        id = self.hold(seconds=100)
        [copy] = self.maildata.envoi(ALICE).glob("new/*")
        self.assertEqual(copy.name.partition(",")[0], id)
        self.pass_(100)
        [letter] = self.maildata.reception(BOB).glob("new/*")
        self.assertEqual(letter.name, copy.name)
        self.assertEqual(letter.read_bytes(), b"Return-Path: <alice@localhost>\r\nSubject: x\r\n\r\nx\r\n")
        self.assertEqual(letter.stat().st_ino, copy.stat().st_ino)  # it is linked, not copied
        self.assertEqual([path for path in self.stage.files() if path.startswith("spool/")], [])

    def test_letters_come_in_the_order_of_their_times(self) -> None:
        ids = [self.hold(seconds=seconds) for seconds in (30, 10, 20)]
        for passed, there in ((10, [1]), (10, [1, 2]), (10, [0, 1, 2])):
            self.pass_(passed)
            self.assertEqual(self.got(), [ids[index] for index in there])

    def test_many_come_at_once(self) -> None:
        ids = [self.hold(seconds=10) for _ in range(2 * durable.ABREAST + 3)]
        self.pass_(10)
        self.assertEqual((self.got(), self.waiting), (ids, []))

    def test_a_time_that_has_come_meanwhile_is_now(self) -> None:
        id = self.hold(seconds=0)
        self.look()
        self.assertEqual((self.got(), self.waiting), ([id], []))

    def test_a_clock_that_is_set_back_keeps_it_and_one_that_is_set_forward_does_not(self) -> None:
        id = self.hold(seconds=100)
        self.clock.rightNow -= 1000
        self.pass_(200)
        self.assertEqual(self.waiting, [id])
        self.clock.rightNow += 1000
        self.look()
        self.assertEqual(self.got(), [id])

    def test_nobody_reads_what_has_not_changed(self) -> None:
        self.hold()
        self.look()
        for path in (self.maildata.held_letters, self.maildata.held_envelopes):
            os.utime(path / "new", (1, 1))  # long ago
        self.look()
        self.patch(Held, "scan", lambda held: self.fail("it is read again"))
        self.pass_(10)

    def test_of_what_is_not_due_nothing_but_its_time_is_in_memory(self) -> None:
        self.hold()
        self.look()
        [entry] = self.holder._entries
        self.assertIsNone(entry.slip)
        self.maildata.reception(BOB).write_bytes(b"")  # no mailbox
        with capturedLogs():
            self.pass_(HOUR)
        self.assertEqual((len(self.waiting), entry.slip), (1, None))

    def test_long_lists_are_tried_one_by_one(self) -> None:
        entries = [Entry(str(count), None, 0.0, count, doubtful=False) for count in (600, 400, 1, 2000, 1)]  # type: ignore
        tried = []
        while entries:
            some = holding._some(entries)
            tried.append([entry.recipients for entry in some])
            entries = entries[len(some) :]
        self.assertEqual(tried, [[600, 400], [1], [2000], [1]])

    def test_where_nothing_was_ever_held_nothing_is_made(self) -> None:
        for _ in range(3):
            self.pass_(1)
        self.assertEqual(list(self.maildata.held.iterdir()), [])
        id = self.hold(seconds=5)
        self.pass_(5)
        self.assertEqual(self.got(), [id])


class Restarts(HoldingCase):
    def test_a_letter_is_held_over_a_restart(self) -> None:
        id = self.hold(seconds=100)
        self.restart()
        self.pass_(99)
        self.assertEqual((self.waiting, self.got()), ([id], []))
        self.restart()
        self.pass_(1)
        self.assertEqual((self.waiting, self.got()), ([], [id]))

    def test_what_became_due_while_nobody_was_there_comes_at_the_start(self) -> None:
        id = self.hold(seconds=100)
        self.clock.advance(10 * GIVE_UP)
        self.restart()
        self.look()
        self.assertEqual((self.waiting, self.got(), self.told.bad), ([], [id], []))

    def test_all_that_the_envelope_says_is_known_after_it(self) -> None:
        recipient = Recipient(Address("bärbel o", "bücher.example"), (), frozenset({"SUCCESS", "DELAY"}), "rfc822;b+3D")
        others = [Recipient(BOB, (), frozenset(), ""), Recipient(CAROL, ())]
        envelope = Envelope(
            Address("jörg", "localhost"),
            None,
            0,
            [recipient, *others],
            True,
            "id+20",
            True,
            Deadline(1.7e9, give_up=True, trace=False),
            1.6e9 + 0.5,
            "for;3600",
        )
        for slip in (
            Slip(envelope, ALICE, 1.5e9),
            Slip(
                replace(envelope, reverse_path=None, deadline=None),
                None,
                1.5e9,
                1.0,
                frozenset({"delay"}),
                frozenset("a"),
            ),
        ):
            self.assertEqual(Slip.decode(slip.encode()), slip)

    @given(locals_)
    def test_whoever_it_is_for(self, local: str) -> None:
        slip = Slip(Envelope(None, release=0.0, recipients=[Recipient(Address(local, "localhost"), ())]), None, 0.0)
        self.assertEqual(Slip.decode(slip.encode()), slip)


class Crashes(HoldingCase):
    """The files are left as a crash at each step would."""

    def envelope(self, id: str) -> Path:
        return self.maildata.held_envelopes / "new" / id

    def letter(self, id: str) -> Path:
        [path] = self.maildata.held_letters.glob(f"new/{id}*")
        return path

    def test_of_many_letters_to_one_mailbox_all_are_looked_for_in_one_look(self) -> None:
        ids = [self.hold(seconds=10) for _ in range(20)]
        mailbox = self.maildata.reception(BOB)
        durable.make_mailbox(mailbox)
        for id in ids[:5]:
            os.link(self.letter(id), mailbox / "new" / self.letter(id).name)
        looks: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def later(work: Callable[[], Any]) -> Deferred[Any]:
            looks.append((work, Deferred()))
            return looks[-1][1]

        rooms = Rooms(at_once, self.stage.monotonic.seconds)
        release = Release(self.office, rooms, self.stage.writer, self.told, later)
        self.holder = Holder(self.held, release, at_once, self.clock.seconds, self.steady.seconds)
        self.clock.advance(10)
        running = Deferred.fromCoroutine(self.holder.run())
        [(work, done)] = looks
        self.assertEqual(work(), set(ids[:5]))
        done.callback(work())
        self.successResultOf(running)
        self.assertEqual((self.got(), self.waiting, len(looks)), (ids, [], 1))

    def test_before_the_letter_came_nothing_is_left(self) -> None:
        kept, cut_off = self.hold(seconds=10), self.hold(seconds=10)
        self.letter(cut_off).unlink()
        (self.maildata.spool / f"{cut_off}.envelope").write_bytes(b"")
        (self.maildata.held_envelopes / "tmp" / kept).write_bytes(b"half")
        self.look()
        self.assertTrue(self.envelope(cut_off).exists())  # it may be on its way
        self.restart()
        self.assertEqual(self.waiting, [kept])
        self.assertEqual([*self.maildata.spool.iterdir(), *self.maildata.held_envelopes.glob("tmp/*")], [])
        self.pass_(10)
        self.assertEqual(self.got(), [kept])

    def test_nor_before_the_first_letter_that_was_ever_held(self) -> None:
        cut_off = self.hold()
        shutil.rmtree(self.maildata.held_letters)
        self.restart()
        self.assertFalse(self.envelope(cut_off).exists())

    def test_of_a_worker_that_died_the_same_goes_and_nothing_of_others(self) -> None:
        cut_off, others = self.hold(), self.hold()
        for id in (cut_off, others):
            self.letter(id).unlink()
        self.envelope(others).rename(self.envelope(others.replace(f"P{os.getpid()}Q", "P1Q")))
        self.maildata.sweep(os.getpid())
        self.assertEqual(len(list(self.maildata.held_envelopes.glob("new/*"))), 1)
        self.maildata.sweep()
        self.assertEqual(len(list(self.maildata.held_envelopes.glob("new/*"))), 0)

    def test_when_it_was_linked_and_not_yet_removed(self) -> None:
        for mailboxes in ([BOB], [ALICE, BOB]):
            for flags, folder in (("", "new"), (":2,S", "cur")):
                id = self.hold(ALICE, BOB, seconds=10)
                for address in mailboxes:
                    mailbox = self.maildata.reception(address)
                    if not mailbox.exists():
                        durable.make_mailbox(mailbox)
                    os.link(self.letter(id), mailbox / folder / f"{self.letter(id).name}{flags}")
                self.clock.advance(10)
                self.restart()
                self.look()
                self.assertEqual((self.got(BOB).count(id), self.got(ALICE).count(id)), (1, 1))
                self.assertEqual(self.waiting, [])

    def test_when_the_letter_was_removed_and_its_envelope_was_not(self) -> None:
        id = self.hold(seconds=10)
        envelope = self.envelope(id).read_bytes()
        self.pass_(10)
        self.envelope(id).write_bytes(envelope)
        self.restart()
        self.look()
        self.assertEqual((self.got(), self.waiting), ([id], []))

    def test_when_it_was_over_and_not_yet_removed_it_is_not_looked_for_anywhere(self) -> None:
        for with_letter in (True, False):
            id = self.hold(seconds=10)
            os.link(self.envelope(id), self.maildata.held_envelopes / "cur" / id)
            if not with_letter:
                self.letter(id).unlink()
            self.clock.advance(10)
            self.holder = self.begin()  # as a worker does, while others take letters
            self.look()
            self.assertEqual((self.got(), self.waiting), ([], []))

    def test_a_backup_without_empty_folders_holds_all(self) -> None:
        """So does a making of them that was cut short."""
        self.hold(seconds=10)
        for folders in (
            ["letters/cur"],
            ["envelopes/cur"],
            [f"{box}/{name}" for box in ("letters", "envelopes") for name in ("cur", "tmp")],
        ):
            id = self.hold(BOB, seconds=10)
            for folder in folders:
                (self.maildata.held / folder).rmdir()
            self.restart()
            with capturedLogs() as logged:
                self.pass_(10)
            self.assertEqual(list(map(formatEvent, logged)), [])
            self.assertIn(id, self.got())
            self.assertEqual(self.waiting, [])

    def test_what_was_linked_and_not_synced_is_on_the_disk_before_it_is_removed(self) -> None:
        id = self.hold(seconds=10)
        mailbox = self.maildata.reception(BOB)
        durable.make_mailbox(mailbox)
        letter = self.letter(id)
        os.link(letter, mailbox / "new" / letter.name)
        self.clock.advance(10)
        self.restart()
        done: list[tuple[str, Path]] = []
        fsync, unlink = os.fsync, Path.unlink

        def synced(descriptor: int) -> None:
            done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))  # noqa: PTH115
            fsync(descriptor)

        def unlinked(path: Path, **options: Any) -> None:
            done.append(("unlink", path.absolute()))
            unlink(path, **options)

        self.patch(os, "fsync", synced)
        self.patch(Path, "unlink", unlinked)
        self.look()
        before = done[: done.index(("unlink", letter.absolute()))]
        self.assertLessEqual({("sync", mailbox.absolute() / name) for name in ("new", "cur")}, set(before))
        self.assertEqual((self.got(), self.waiting), ([id], []))

    def test_at_every_call_to_the_disk(self) -> None:
        """A crash before each of them, whichever it is: the letter comes once, and nothing is left."""
        self.hold(seconds=10)
        self.pass_(10)  # the mailboxes are there
        for step in range(100):
            id = self.hold(ALICE, BOB, seconds=10)
            self.clock.advance(10)
            self.restart()
            if not self.crash_at(step):
                break
            self.holder = self.begin()
            self.look()
            self.assertEqual((self.got(BOB).count(id), self.got(ALICE).count(id)), (1, 1), step)
            self.assertEqual(self.waiting, [], step)
        self.assertGreater(step, 6)
        self.assertEqual(self.told.bad, [])

    def crash_at(self, step: int) -> bool:
        """Look, and stop dead when the disk is asked for anything for the ``step``th time; whether it came to that."""
        asked = 0

        class Crash(BaseException):
            pass

        def counted(real: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal asked
                asked += 1
                if asked > step:
                    raise Crash
                return real(*arguments, **options)

            return call

        patches = [self.patch(os, name, counted(getattr(os, name))) for name in ("link", "fsync")]
        patches.append(self.patch(Path, "unlink", counted(Path.unlink)))
        Deferred.fromCoroutine(self.holder.run()).addErrback(lambda _: None)
        for patch in patches:
            patch.restore()
        return asked > step


class Recipients(HoldingCase):
    """Each is asked for anew when the letter is released."""

    def test_who_has_gone_gets_nothing_and_the_sender_is_told(self) -> None:
        id = self.hold(ALICE, BOB, seconds=10)
        self.stage.accounts.remove(BOB)
        self.pass_(10)
        self.assertEqual((self.got(ALICE), self.got(BOB), self.waiting), ([id], [], []))
        self.assertEqual(self.told.bad, [(ALICE, [(str(BOB), FAILED, "5.1.1")])])
        self.assertIn(b"Subject: x", self.told.contents[0])

    def test_a_domain_that_is_not_served_any_more_is_no_ones(self) -> None:
        self.hold(Address("bob", "localhost"), Address("postmaster", "example.org"), seconds=10)
        self.holder = self.begin(domains=["localhost"])
        self.pass_(10)
        self.assertEqual(self.told.bad, [(ALICE, [("postmaster@example.org", FAILED, "5.1.2")])])
        self.assertEqual(len(self.got()), 1)

    def test_an_alias_leads_to_whom_it_leads_then(self) -> None:
        team = Address("team", "localhost")
        directory.add_alias(self.stage.accounts, team, [ALICE])
        id = self.hold(team, seconds=10)
        directory.remove_alias(self.stage.accounts, team, [])
        directory.add_alias(self.stage.accounts, team, [BOB])
        self.pass_(10)
        self.assertEqual((self.got(ALICE), self.got(BOB)), ([], [id]))

    def test_who_is_meant_twice_gets_it_once(self) -> None:
        team = Address("team", "localhost")
        directory.add_alias(self.stage.accounts, team, [ALICE, BOB])
        id = self.hold(team, BOB, seconds=10)
        self.pass_(10)
        self.assertEqual((self.got(ALICE), self.got(BOB)), ([id], [id]))

    def test_what_a_removed_account_holds_is_sent(self) -> None:
        id = self.hold(seconds=10)
        self.stage.accounts.remove(ALICE)
        self.maildata.put_aside(ALICE)
        self.pass_(10)
        self.assertEqual(self.got(), [id])

    def test_who_takes_the_name_of_a_sender_hears_nothing_of_his_letters(self) -> None:
        postmaster = self.office.postmaster()
        all = frozenset({"SUCCESS", "FAILURE", "DELAY"})
        recipients = [replace(each, notify=all) for each in reached(self.office, ALICE)]
        id = self.hold(seconds=10, recipients=recipients, whole=True)
        for address in (ALICE, BOB):
            self.stage.accounts.remove(address)
            self.maildata.put_aside(address)
        self.stage.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.pass_(10)
        self.assertEqual(self.got(ALICE), [id])  # to whom it was written in any case
        self.assertEqual(self.told.all, [(postmaster, [(str(BOB), FAILED, "5.1.1")])])
        self.assertEqual((self.got(postmaster), self.waiting), ([id], []))

    def test_nor_of_what_was_delivered(self) -> None:
        recipients = [replace(each, notify=frozenset({"SUCCESS"})) for each in reached(self.office, BOB)]
        id = self.hold(seconds=10, recipients=recipients)
        self.stage.accounts.remove(ALICE)
        self.stage.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.pass_(10)
        self.assertEqual([who for who, _ in self.told.all], [None])
        self.assertEqual((self.got(), self.waiting), ([id], []))

    def test_what_cannot_be_returned_goes_to_the_postmaster(self) -> None:
        postmaster = self.office.postmaster()
        ids = [self.hold(seconds=10, reverse_path=sender) for sender in (ALICE, None)]
        self.stage.accounts.remove(ALICE)
        self.stage.accounts.remove(BOB)
        self.pass_(10)
        self.assertEqual(self.got(postmaster), ids)
        self.assertEqual(self.told.bad, [(postmaster, [(str(BOB), FAILED, "5.1.1")])] * 2)
        self.assertEqual(self.waiting, [])

    def test_what_the_sender_cannot_be_told_now_stays_until_he_can(self) -> None:
        id = self.hold(ALICE, BOB, seconds=10)
        self.stage.accounts.remove(BOB)
        self.told.deaf.add(ALICE)
        self.pass_(10)
        self.restart()
        self.pass_(HOUR)
        self.assertEqual((self.got(ALICE), self.waiting, self.told.all), ([id], [id], []))
        self.told.deaf.clear()
        self.pass_(HOUR)
        self.assertEqual(self.told.all, [(ALICE, [(str(BOB), FAILED, "5.1.1")])])
        self.assertEqual((self.got(ALICE), self.waiting), ([id], []))

    def test_but_not_for_ever(self) -> None:
        postmaster = self.office.postmaster()
        for give_up in (True, False):
            until = self.clock.seconds() + (5 if give_up else 10 * GIVE_UP)
            id = self.hold(seconds=10, deadline=Deadline(until, give_up=True, trace=False))
            self.stage.accounts.remove(BOB)
            self.told.deaf.add(ALICE)
            self.pass_(10)
            self.pass_(LAST_RESORT - 1)
            self.assertEqual((self.waiting, self.got(postmaster)), ([id], []))
            self.pass_(HOUR)
            self.assertEqual((self.waiting, self.got(postmaster)), ([], [id]))
            self.assertEqual(self.told.all.pop(), (postmaster, [(str(BOB), FAILED, "5.4.7" if give_up else "5.1.1")]))
            self.assertEqual(self.told.all, [])
            self.stage.accounts.add(BOB, "{MD5}" + "0" * 32)
            for path in self.maildata.reception(postmaster).glob("new/*"):
                path.unlink()

    def test_success_is_told_when_it_is_delivered(self) -> None:
        self.hold(seconds=10)
        self.pass_(9)
        self.assertEqual(self.told.all, [])
        self.pass_(1)
        self.assertEqual(self.told.all, [(ALICE, [(str(BOB), DELIVERED, "2.1.5")])])


class Patience(HoldingCase):
    """What cannot be delivered stays, and is tried again."""

    def quota(self, address: Address, octets: int | None) -> None:
        account = self.stage.accounts.at(address)
        assert account is not None
        quotas.set_own(self.stage.accounts, account, octets, None)

    def test_where_there_is_no_room_it_waits_and_the_others_do_not(self) -> None:
        self.quota(BOB, 10)
        id = self.hold(ALICE, BOB, seconds=10)
        with capturedLogs() as logged:
            self.pass_(10)
        self.assertEqual((self.got(ALICE), self.got(BOB), self.waiting), ([id], [], [id]))
        self.assertEqual([formatEvent(event) for event in logged], [])
        self.quota(BOB, None)
        self.pass_(holding.PAUSES[0] - 1)
        self.assertEqual(self.got(BOB), [])
        self.pass_(1)
        self.assertEqual((self.got(ALICE), self.got(BOB), self.waiting), ([id], [id], []))
        self.assertEqual(self.told.bad, [])

    def test_who_has_it_and_deletes_it_does_not_get_it_again(self) -> None:
        team = Address("team", "localhost")
        directory.add_alias(self.stage.accounts, team, [ALICE, BOB])
        self.quota(BOB, 10)
        for recipients in ([ALICE, BOB], [team]):
            self.hold(*recipients, seconds=10)
            self.pass_(10)
            [letter] = self.maildata.reception(ALICE).glob("new/*")
            letter.unlink()
            self.restart()
            self.pass_(HOUR)
            self.assertEqual((self.got(ALICE), len(self.waiting)), ([], 1))
            self.quota(BOB, None)
            self.restart()
            self.pass_(HOUR)
            self.assertEqual((self.got(ALICE), len(self.got(BOB)), self.waiting), ([], 1, []))
            for path in self.maildata.reception(BOB).glob("new/*"):
                path.unlink()
            self.quota(BOB, 10)

    def test_what_cannot_be_written_down_is_kept_in_mind(self) -> None:
        self.quota(BOB, 10)
        id = self.hold(ALICE, BOB, seconds=10)
        write = Held.write

        def full(held: Held, id: str, slip: Slip) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "here")

        self.patch(Held, "write", full)
        with capturedLogs():
            self.pass_(10)
            [letter] = self.maildata.reception(ALICE).glob("new/*")
            letter.unlink()
            self.pass_(HOUR)
        self.assertEqual((self.got(ALICE), self.waiting), ([], [id]))
        self.patch(Held, "write", write)
        self.pass_(HOUR)
        self.assertEqual([each.address for each in self.held.read(id).envelope.recipients], [BOB])
        self.quota(BOB, None)
        self.pass_(HOUR)
        self.assertEqual((self.got(ALICE), self.got(), self.waiting), ([], [id], []))

    def test_the_pauses_grow(self) -> None:
        self.quota(BOB, 10)
        self.hold(seconds=10)
        tries = []
        real = release_module.Release.attempt

        def attempt(*arguments: Any, **options: Any) -> Any:
            tries.append(self.steady.seconds())
            return real(*arguments, **options)

        self.patch(release_module.Release, "attempt", attempt)
        for _ in range(300):
            self.pass_(60)
        pauses = [later - earlier for earlier, later in pairwise(tries)]
        self.assertEqual(pauses[:6], [*holding.PAUSES, holding.LONGEST_PAUSE, holding.LONGEST_PAUSE])

    def test_after_hours_the_sender_is_told_and_after_days_it_has_failed(self) -> None:
        self.quota(BOB, 10)
        id = self.hold(ALICE, BOB, seconds=10)
        self.pass_(10)
        delayed = (ALICE, [(str(BOB), DELAYED, "4.2.2")])
        for hours in range(5 * 24 - 1):
            self.restart() if hours % 2 else None
            self.pass_(HOUR)
            self.assertEqual(self.told.bad, [delayed] if (hours + 1) * HOUR >= DELAY else [], hours)
            self.assertEqual(self.waiting, [id])
        self.pass_(HOUR)
        self.assertEqual(self.told.bad, [delayed, (ALICE, [(str(BOB), FAILED, "5.4.7")])])
        self.assertEqual((self.waiting, self.got(BOB), len(self.got(ALICE))), ([], [], 1))

    def test_a_server_that_was_down_for_weeks_gives_nothing_up_for_that(self) -> None:
        self.quota(BOB, 10)
        id = self.hold(seconds=10)
        self.clock.advance(10 * GIVE_UP)
        self.restart()
        self.look()
        self.assertEqual((self.waiting, self.told.bad), ([id], []))

    def test_trouble_with_the_disk_is_told_and_tried_again(self) -> None:
        id = self.hold(ALICE, BOB, seconds=10)
        durable.make_mailbox(self.maildata.reception(BOB))
        (self.maildata.reception(BOB) / "new").rename(self.maildata.reception(BOB) / "away")
        (self.maildata.reception(BOB) / "new").write_bytes(b"")  # no folder
        with capturedLogs() as logged:
            self.pass_(10)
        self.assertEqual((self.got(ALICE), self.waiting), ([id], [id]))
        [line] = map(formatEvent, logged)
        self.assertRegex(line or "", rf"^{id} waits for \S+/reception/bob@localhost: \S+: Not a directory$")
        (self.maildata.reception(BOB) / "new").unlink()
        (self.maildata.reception(BOB) / "away").rename(self.maildata.reception(BOB) / "new")
        self.pass_(holding.PAUSES[0])
        self.assertEqual((self.got(ALICE), self.got(BOB), self.waiting), ([id], [id], []))

    def test_without_the_accounts_it_waits(self) -> None:
        id = self.hold(seconds=10)
        away = self.maildata.accounts.with_name("away")
        self.patch(database, "LOOK_LASTS", 0)
        self.maildata.accounts.rename(away)
        self.pass_(10)
        self.assertEqual((self.waiting, self.got()), ([id], []))
        away.rename(self.maildata.accounts)
        self.pass_(HOUR)
        self.assertEqual((self.waiting, self.got(), self.told.bad), ([], [id], []))

    def test_what_nobody_expected_is_told_and_the_others_are_released(self) -> None:
        broken, id = self.hold(ALICE, seconds=10), self.hold(seconds=10)
        real = self.told.send

        def send(envelope: Envelope, letter: str, *arguments: Any) -> Any:
            if letter == broken:
                raise ZeroDivisionError
            return real(envelope, letter, *arguments)

        self.patch(self.told, "send", send)
        self.pass_(10)
        self.assertEqual((self.got(), self.waiting), ([id], [broken]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.patch(self.told, "send", real)
        self.pass_(HOUR)
        self.assertEqual((self.got(ALICE), self.waiting), ([broken], []))

    def test_what_could_not_be_read_for_a_while_is_looked_for_in_its_mailboxes(self) -> None:
        id = self.hold(ALICE, seconds=10)
        broken = self.patch(self.told, "send", lambda *_: 1 / 0)
        self.pass_(10)
        self.flushLoggedErrors(ZeroDivisionError)
        broken.restore()
        [letter] = self.maildata.reception(ALICE).glob("new/*")
        letter.rename(letter.parent.with_name("cur") / f"{letter.name}:2,S")  # she has read it
        envelope = self.held.envelope(id)
        whole = envelope.read_bytes()
        envelope.unlink()
        envelope.touch()
        with capturedLogs():
            self.pass_(1)
        envelope.write_bytes(whole)
        self.pass_(HOUR)
        self.assertEqual((self.got(ALICE), self.waiting), ([id], []))

    def test_what_cannot_be_taken_away_is_not_delivered_again(self) -> None:
        id = self.hold(seconds=10)

        def unlink(path: Path, **_: Any) -> None:
            raise OSError(errno.EROFS, "Read-only file system", str(path))

        patched = self.patch(Path, "unlink", unlink)
        with capturedLogs() as logged:
            self.pass_(10)
            [letter] = self.maildata.reception(BOB).glob("new/*")
            os.unlink(letter)  # noqa: PTH108 - he has read it
            self.pass_(HOUR)
        self.assertEqual((self.got(), self.ids(self.maildata.held_letters), len(self.told.all)), ([], [id], 1))
        self.assertEqual(len(logged), 2)
        patched.restore()
        self.pass_(HOUR)
        self.assertEqual((self.got(), self.waiting, len(self.told.all)), ([], [], 1))

    def test_what_is_to_be_taken_back_and_cannot_be_does_not_count_as_delivered(self) -> None:
        self.look()
        id = self.hold(seconds=10)
        durable.make_mailbox(self.maildata.reception(BOB))
        self.stage.writer._made.add(self.maildata.reception(BOB))

        def broken(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, "Read-only file system", "here")

        patches = [self.patch(os, "fsync", broken), self.patch(Path, "unlink", broken)]
        with capturedLogs():
            self.pass_(10)
        for patch in patches:
            patch.restore()
        self.assertEqual((self.got(), self.ids(self.maildata.held_letters)), ([id], [id]))
        self.pass_(HOUR)
        other = self.hold(seconds=1)  # with each letter, what is left is taken away
        self.pass_(HOUR)
        self.assertEqual((self.got(), self.waiting), ([id, other], []))

    def test_whose_envelope_somebody_takes_away_keeps_nobody_else(self) -> None:
        taken, other = self.hold(seconds=10), self.hold(seconds=10)
        real = self.held.remove

        def remove(ids: Iterable[str]) -> None:
            self.held.envelope(taken).unlink(missing_ok=True)
            real(ids)

        self.patch(self.held, "remove", remove)
        with capturedLogs():
            self.pass_(10)
        self.assertEqual((self.got(), self.ids(self.maildata.held_letters)), ([taken, other], [taken]))

    def test_nor_does_another_wait_for_that(self) -> None:
        id, other = self.hold(seconds=10), self.hold(seconds=20)

        def unlink(path: Path, **_: Any) -> None:
            raise OSError(errno.EIO, "Input/output error", str(path))

        patched = self.patch(Path, "unlink", unlink)
        with capturedLogs() as logged:
            for _ in range(10):
                self.pass_(10)
        self.assertEqual(self.got(), [id, other])
        self.assertLess(len(logged), 5)
        patched.restore()
        self.restart()
        self.look()
        self.assertEqual((self.got(), self.waiting), ([id, other], []))


class Deadlines(HoldingCase):
    """RFC 2852: a letter that is of no use later, and one that is only late."""

    def hold_until(self, *, give_up: bool) -> str:
        until = self.clock.seconds() + 20
        return self.hold(seconds=10, deadline=Deadline(until, give_up=give_up, trace=False))

    def test_in_time_nobody_is_told_anything(self) -> None:
        ids = [self.hold_until(give_up=give_up) for give_up in (True, False)]
        self.pass_(15)
        self.assertEqual((self.got(), self.told.bad), (ids, []))

    def test_a_letter_that_is_to_come_at_the_last_moment_comes_whenever_somebody_looks(self) -> None:
        until = self.clock.seconds() + 10
        ids = [
            self.hold(seconds=10, deadline=Deadline(until, give_up=give_up, trace=False)) for give_up in (True, False)
        ]
        self.pass_(11)
        self.assertEqual((self.got(), self.waiting, self.told.bad), (sorted(ids), [], []))

    def test_what_is_of_no_use_any_more_is_returned(self) -> None:
        self.hold_until(give_up=True)
        self.clock.advance(21)
        self.restart()
        self.look()
        self.assertEqual((self.got(), self.waiting), ([], []))
        self.assertEqual(self.told.bad, [(ALICE, [(str(BOB), FAILED, "5.4.7")])])

    def test_what_is_late_is_delivered_and_that_is_told(self) -> None:
        id = self.hold_until(give_up=False)
        self.clock.advance(21)
        self.restart()
        self.look()
        self.assertEqual((self.got(), self.waiting), ([id], []))
        self.assertEqual(self.told.bad, [(ALICE, [(str(BOB), DELAYED, "4.4.7")])])

    def test_who_waits_for_room_is_told_at_the_deadline_and_once(self) -> None:
        account = self.stage.accounts.at(BOB)
        assert account is not None
        quotas.set_own(self.stage.accounts, account, 10, None)
        for give_up, fate in ((False, (DELAYED, "4.4.7")), (True, (FAILED, "5.4.7"))):
            self.told.all.clear()
            self.hold_until(give_up=give_up)
            self.pass_(12)
            self.assertEqual(self.told.bad, [])
            self.pass_(10)
            self.assertEqual(self.told.bad, [(ALICE, [(str(BOB), *fate)])])
            self.restart()
            self.pass_(HOUR)
            self.assertEqual(len(self.told.bad), 1)


class Damage(HoldingCase):
    def test_a_letter_whose_envelope_says_nothing_is_left_alone_and_told_once(self) -> None:
        good, bad = self.hold(seconds=10), self.hold(seconds=10)
        envelope = self.maildata.held_envelopes / "new" / bad
        whole = envelope.read_bytes()
        for octets in (
            b"",
            whole[:100],
            b"{}",
            b"[]",
            b"\xff",
            whole.replace(b"bob@localhost", b"bob"),
            b"[" * 100_000,
        ):
            envelope.unlink()
            envelope.write_bytes(octets)
            self.assertRaises(Damaged, self.held.read, bad)
            self.restart()
            with capturedLogs() as logged:
                for _ in range(3):
                    self.pass_(20)
            self.assertEqual((self.got(), self.waiting), ([good], [bad]))
            [line] = map(formatEvent, logged)
            self.assertIn(str(envelope), line or "")
            self.assertIn("mend it", line or "")
        envelope.unlink()
        envelope.write_bytes(whole)
        self.look()
        self.assertEqual((self.got(), self.waiting), ([good, bad], []))

    def test_an_envelope_of_which_any_part_is_something_else_is_no_envelope(self) -> None:
        fields = json.loads(
            self.held.envelope(self.hold(deadline=Deadline(2e9, give_up=True, trace=False))).read_bytes()
        )
        others = (True, 0, 10**400, -1e300, "", "\ud800", "a\r\nb", [], [1], ["x", False, True], {}, {"x": 1})
        for name in fields:
            for other in others:
                octets = json.dumps(fields | {name: other}).encode()
                try:
                    slip = Slip.decode(octets)
                except Damaged:
                    continue
                with self.subTest(name=name, other=other):
                    self.assertEqual(Slip.decode(slip.encode()), slip)
                    self.assertTrue(slip.envelope.recipients)

    def test_what_is_no_file_or_may_not_be_read_keeps_nobody_waiting(self) -> None:
        good, bad = self.hold(seconds=10), self.hold(seconds=10)
        envelope = self.held.envelope(bad)
        whole = envelope.read_bytes()

        def loop() -> None:
            envelope.symlink_to(envelope)

        for make in (envelope.mkdir, partial(os.mkfifo, envelope), loop):
            envelope.unlink()
            make()
            self.restart()
            with capturedLogs() as logged:
                for _ in range(3):
                    self.pass_(20)
            self.assertEqual(self.got(), [good])
            [line] = map(formatEvent, logged)
            self.assertIn(str(envelope), line or "")
            if envelope.is_dir():
                envelope.rmdir()
                envelope.touch()
        envelope.unlink()
        envelope.write_bytes(whole)
        self.look()
        self.assertEqual((self.got(), self.waiting), ([good, bad], []))

    def test_a_letter_without_an_envelope_too(self) -> None:
        id = self.hold(seconds=10)
        (self.maildata.held_envelopes / "new" / id).unlink()
        for _ in range(2):
            self.restart()
            with capturedLogs() as logged:
                for _ in range(3):
                    self.pass_(20)
            [line] = map(formatEvent, logged)
            self.assertIn(f"{id},S=49,W=49: its envelope is missing", line or "")
        self.assertEqual((len(list(self.maildata.held_letters.glob("new/*"))), self.got()), (1, []))

    def test_where_maildata_has_vanished_nothing_is_made_and_all_goes_on_when_it_is_back(self) -> None:
        id = self.hold(seconds=10)
        self.look()
        away = self.maildata.root.with_name("away")
        self.maildata.root.rename(away)
        with capturedLogs() as logged:
            for _ in range(3):
                self.pass_(10)
        self.assertFalse(self.maildata.root.exists())
        [line] = map(formatEvent, logged)
        self.assertIn("held letters cannot be looked at", line or "")
        away.rename(self.maildata.root)
        self.look()
        self.assertEqual((self.got(), self.waiting), ([id], []))

    def test_it_is_told_anew_when_it_happens_anew_and_not_where_nothing_is_held(self) -> None:
        away = self.maildata.root.with_name("away")
        for held in (False, True, True):
            if held:
                self.hold()
            self.look()
            self.maildata.root.rename(away)
            with capturedLogs() as logged:
                for _ in range(3):
                    self.look()
            self.assertEqual(len(logged), int(held))
            away.rename(self.maildata.root)


class Taking(HoldingCase):
    """A letter that is to be held is taken when both its files are safely on the disk."""

    def test_whatever_step_fails_nothing_is_held(self) -> None:
        self.hold()
        before = self.waiting, self.ids(self.maildata.envoi(ALICE))
        for name, least in (("link", 3), ("fsync", 5)):
            real = getattr(os, name)
            for step in range(100):
                calls = iter(range(step))
                fired: list[int] = []

                def fail(*arguments: Any, calls: Any = calls, real: Any = real, fired: Any = fired) -> Any:
                    if next(calls, None) is None and not fired:
                        fired.append(1)
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return real(*arguments)

                patched = self.patch(os, name, fail)
                letter = self.office.letter(self.envelope())
                letter.write(b"Subject: x\r\n\r\n")
                delivery = Deferred.fromCoroutine(letter.deliver())
                patched.restore()
                if not fired:
                    self.successResultOf(delivery)
                    break
                self.failureResultOf(delivery, MailboxFull)
                letter.discard()
                self.assertEqual((self.waiting, self.ids(self.maildata.envoi(ALICE))), before)
                self.assertEqual(list(self.maildata.spool.iterdir()), [])
            self.assertGreaterEqual(step, least)
            before = self.waiting, self.ids(self.maildata.envoi(ALICE))

    def envelope(self) -> Envelope:
        submitter = self.office.submitter(ALICE)
        recipients = reached(self.office, BOB)
        return Envelope(ALICE, submitter, recipients=recipients, release=self.clock.seconds() + HOUR)

    def test_a_full_mailbox_is_asked_for_room_when_it_is_released(self) -> None:
        self.holder = self.begin(quota=quotas.Quota(letters=0))
        id = self.hold(seconds=10)
        self.pass_(10)
        self.assertEqual((self.waiting, self.got()), ([id], []))

    def test_a_letter_that_is_given_up_leaves_nothing(self) -> None:
        letter = self.office.letter(self.envelope())
        letter.write(b"x" * 100_000)
        letter.discard()
        self.assertEqual(
            [path for path in self.maildata.root.rglob("*") if path.is_file() and "sqlite" not in path.name], []
        )


class Allowances(HoldingCase):
    """RFC 4865 6: an account may have so many letters held, and no more."""

    def setUp(self) -> None:
        super().setUp()
        self.holder = self.begin(most_held=3)

    def begin_letter(self, sender: Address = ALICE, office: PostOffice | None = None) -> ILetter:
        """A letter that has come, and is to be delivered."""
        office = office or self.office
        recipients = reached(office, BOB)
        release = self.clock.seconds() + HOUR
        return office.letter(Envelope(sender, office.submitter(sender), recipients=recipients, release=release))

    def deliver(self, letter: ILetter) -> Deferred[None]:
        return Deferred.fromCoroutine(letter.deliver())

    def take(self, sender: Address = ALICE, office: PostOffice | None = None) -> bool:
        """Send one more; whether it is held. Of the disk or of its being asked before nothing is different then."""
        before = self.stage.files(), self.waiting
        done = self.deliver(self.begin_letter(sender, office))
        if done.called and done.result is None:
            return True
        self.failureResultOf(done, EnoughHeld)
        self.assertEqual((self.stage.files(), self.waiting), before)
        return False

    def may(self, sender: Address = ALICE) -> bool:
        """What MAIL is told."""

        async def ask() -> None:
            if (looking := self.office.may_hold(self.office.submitter(sender))) is not None:
                await looking

        asked = Deferred.fromCoroutine(ask())
        if asked.called and asked.result is None:
            return True
        self.failureResultOf(asked, EnoughHeld)
        return False

    def test_so_many_are_held_and_of_nobody_else_fewer(self) -> None:
        self.assertEqual([(self.may(), self.take()) for _ in range(5)], [(True, True)] * 3 + [(False, False)] * 2)
        self.assertTrue(self.may(BOB) and self.take(BOB))
        self.pass_(1)
        self.assertEqual((self.may(), self.take(), len(self.waiting)), (False, False, 4))

    def test_over_restarts_too(self) -> None:
        self.assertEqual([self.take() for _ in range(4)], [True, True, True, False])
        self.holder = self.begin(most_held=4)
        self.assertEqual([(self.may(), self.take()) for _ in range(2)], [(True, True), (False, False)])
        self.holder = self.begin(most_held=2)
        self.assertEqual((self.may(), self.take(), len(self.waiting)), (False, False, 4))

    def test_what_is_released_or_removed_makes_room_within_a_second(self) -> None:
        for _ in range(3):
            self.hold(seconds=10)
        self.pass_(10)
        self.assertEqual([self.take() for _ in range(4)], [True, True, True, False])
        self.held.remove(self.waiting[:2])
        self.pass_(1)
        self.assertEqual([self.take() for _ in range(3)], [True, True, False])

    def test_nobody_comes_in_between_however_many_are_asked_at_once(self) -> None:
        letters = [self.begin_letter() for _ in range(5)]
        self.assertTrue(all(self.may() for _ in letters))
        stored: list[tuple[Parcel, Deferred[None]]] = []
        real = self.stage.writer.store

        def later(parcel: Parcel) -> Deferred[None]:
            stored.append((parcel, Deferred()))
            return stored[-1][1]

        self.patch(self.stage.writer, "store", later)
        delivered = [self.deliver(letter) for letter in letters]
        for refused in delivered[3:]:
            self.failureResultOf(refused, EnoughHeld)
        self.pass_(2)  # who looks sees none of them
        self.assertFalse(self.may())
        while stored:
            parcel, done = stored.pop(0)
            real(parcel).chainDeferred(done)
        for one in delivered[:3]:
            self.successResultOf(one)
        self.assertEqual((len(self.waiting), self.may()), (3, False))

    def test_what_comes_to_the_disk_while_somebody_looks_counts(self) -> None:
        looks: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def slowly(work: Callable[[], Any]) -> Deferred[Any]:
            looks.append((work, Deferred()))
            return looks[-1][1]

        own = Allowance(self.held, 3, slowly, self.stage.monotonic.seconds)
        first = Deferred.fromCoroutine(own.take("a", 1))
        work, done = looks.pop()
        done.callback(work())
        self.successResultOf(first)
        self.stage.monotonic.advance(2)
        second, third, fourth, other = (
            Deferred.fromCoroutine(own.take(id, account)) for id, account in (("b", 1), ("c", 1), ("d", 1), ("e", 2))
        )
        [(work, done)] = looks  # one look for all
        seen = work()
        own.stored("a")
        done.callback(seen)
        for taken in (second, third, other):
            self.successResultOf(taken)
        self.failureResultOf(fourth, EnoughHeld)
        own.dropped("b")
        self.successResultOf(Deferred.fromCoroutine(own.take("f", 1)))

    def test_what_is_refused_for_other_reasons_does_not_count(self) -> None:
        self.assertTrue(self.may())
        for step in range(2):
            real = self.stage.writer.store
            calls = iter(range(step))

            def full(parcel: Parcel, real: Any = real, calls: Any = calls) -> Deferred[None]:
                return real(parcel) if next(calls, None) is not None else fail(MailboxFull("full"))

            patched = self.patch(self.stage.writer, "store", full)
            for _ in range(5):
                self.failureResultOf(self.deliver(self.begin_letter()), MailboxFull)
            patched.restore()
        self.assertEqual([self.take() for _ in range(4)], [True, True, True, False])

    def test_another_process_hears_of_it_within_a_second(self) -> None:
        other = self.stage.restart(most_held=3)
        self.assertEqual([self.take(office=other), self.take(), self.take()], [True, True, True])
        self.stage.monotonic.advance(1)
        self.assertEqual((self.take(), self.take(office=other)), (False, False))

    def test_a_name_that_another_has_now_comes_without_his_letters(self) -> None:
        self.assertEqual([self.take() for _ in range(4)], [True, True, True, False])
        self.stage.accounts.remove(ALICE)
        self.stage.accounts.add(ALICE, "{MD5}" + "0" * 32)
        self.stage.monotonic.advance(1)
        self.assertEqual([self.take() for _ in range(4)], [True, True, True, False])

    def test_a_letter_that_waits_is_read_once_and_not_all_of_it(self) -> None:
        reads: list[int] = []
        real = Held._read

        def counted(held: Held, id: str, octets: int) -> bytes:
            reads.append(octets)
            return real(held, id, octets)

        for _ in range(2):
            self.take()
        self.patch(Held, "_read", counted)
        own = Allowance(self.held, 3, at_once, self.stage.monotonic.seconds)
        for _ in range(3):
            self.successResultOf(Deferred.fromCoroutine(own._look_first(1)))
        self.assertEqual(reads, [HEAD, HEAD])

    def test_an_envelope_that_was_mended_by_hand_counts_and_a_damaged_one_does_not(self) -> None:
        for _ in range(3):
            self.take()
        for id, text in zip(self.waiting, ("{}", "", None), strict=True):
            envelope = self.held.envelope(id)
            if text is None:
                text = json.dumps(dict(sorted(json.loads(envelope.read_bytes()).items(), reverse=True)))
            envelope.write_text(text)
        self.holder = self.begin(most_held=2)
        self.assertEqual([self.take(), self.take()], [True, False])

    def test_one_that_is_no_file_or_may_not_be_read_keeps_nobody_waiting(self) -> None:
        for _ in range(3):
            self.take()
        for id, make in zip(self.waiting, (Path.mkdir, lambda path: path.symlink_to(path), os.mkfifo), strict=True):
            self.held.envelope(id).unlink()
            make(self.held.envelope(id))
        self.holder = self.begin(most_held=1)
        self.assertTrue(self.may())

    def test_where_it_cannot_be_seen_he_is_to_try_later(self) -> None:
        self.take()
        self.stage.monotonic.advance(1)
        (self.maildata.held_envelopes / "new").rename(self.maildata.held / "away")
        (self.maildata.held_envelopes / "new").write_bytes(b"")
        error = self.failureResultOf(self.deliver(self.begin_letter()), TryLater).value
        self.assertRegex(str(error), r"held/envelopes/new: Not a directory$")
        (self.maildata.held_envelopes / "new").unlink()
        (self.maildata.held / "away").rename(self.maildata.held_envelopes / "new")
        self.assertEqual([self.take() for _ in range(3)], [True, True, False])

    def test_a_look_that_took_long_is_believed_for_longer(self) -> None:
        self.patch(allowance, "REST", 1e9)
        self.take()
        self.patch(Held, "accounts", lambda *_: self.fail("somebody looks"))
        self.stage.monotonic.advance(1)
        self.assertEqual([self.take() for _ in range(3)], [True, True, False])


class Ends(HoldingCase):
    def test_at_the_end_of_the_service_no_letter_is_begun(self) -> None:
        id = self.hold(seconds=10)
        self.holder.end()
        self.pass_(10)
        self.assertEqual(self.waiting, [id])

    def test_while_somebody_changes_something_it_waits_a_second(self) -> None:
        id = self.hold(seconds=10)
        lock = self.held.lock()
        self.pass_(10)
        self.assertEqual(self.waiting, [id])
        os.close(lock)
        self.pass_(1)
        self.assertEqual(self.got(), [id])

    def test_nor_is_the_second_of_two_changes_missed(self) -> None:
        id = self.hold()
        os.utime(self.held.envelope(id), (1, 1))
        self.look()
        slip = self.held.read(id)
        for seconds in (1, 0):  # the second file may get the number of the first
            self.held.write(id, slip.released(self.clock.seconds() + seconds))
        self.look()
        self.assertEqual((self.got(), self.waiting), ([id], []))

    def test_what_another_has_decided_meanwhile_holds(self) -> None:
        now, gone = self.hold(), self.hold()
        self.look()
        self.held.write(now, self.held.read(now).released(0))
        self.held.remove([gone])
        self.look()
        self.assertEqual((self.got(), self.waiting), ([now], []))
        self.pass_(HOUR)
        self.assertEqual(self.got(), [now])
