"""One contract for the stores in memory, which the protocols are tested with, and for the real ones."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import event
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailbe import rooms
from mailbe.accounts import database, directory, quotas
from mailbe.accounts.database import Accounts
from mailbe.accounts.terms import AccountTerms
from mailbe.address import Address
from mailbe.interfaces import (
    Envelope,
    ILetter,
    IMaildrop,
    IPostOffice,
    ISubmitter,
    LetterGone,
    LoginTooSoon,
    MailboxFull,
    MaildropBusy,
    MailLoop,
    NoSuchMailbox,
    OverQuota,
    Quota,
    Recipient,
    RelayDenied,
    Terms,
    TryLater,
)
from mailbe.maildir import Maildrops
from mailbe.realm import Realm
from mailbe.sent import avatar_id
from mailbe.surrogate import surrogate
from tests.fakes import FakePostOffice, FakeRealm, World
from tests.storage import ALICE, BOB, Office, at_once, reached

NOBODY = Address("nobody", "localhost")
JOERG = Address("Jörg", "localhost")


class StoreContract:
    """What every post office and every maildrop does."""

    # Made by the classes below.
    office: IPostOffice
    realm: Any
    alias: Callable[..., None]
    serve: Callable[[str], None]
    limit: Callable[[Address, Quota], None]

    def deliver(self: Any, content: bytes, *recipients: Address, submitter: ISubmitter | None = None) -> str:
        envelope = Envelope(Address("s", "example"), submitter)
        envelope.recipients += reached(self.office, *recipients, submitter=submitter)
        letter = self.office.letter(envelope)
        verifyObject(ILetter, letter)
        for octet in range(0, len(content), 5):
            letter.write(content[octet : octet + 5])
        self.successResultOf(Deferred.fromCoroutine(letter.deliver()))
        letter.discard()
        return str(letter.id)

    def has_room(self: Any, address: Address, octets: int = 0) -> bool:
        async def look() -> None:
            looking = self.office.room(self.office.destination(address, None), octets)
            if looking is not None:
                await looking

        outcome: list[Any] = []
        Deferred.fromCoroutine(look()).addBoth(outcome.append)
        return outcome[0] is None or outcome[0].trap(OverQuota) is not OverQuota

    def refuse(self: Any, content: bytes, *recipients: Address) -> None:
        """A letter that is over a quota."""
        letter = self.office.letter(Envelope(None, recipients=reached(self.office, *recipients)))
        letter.write(content)
        self.failureResultOf(Deferred.fromCoroutine(letter.deliver()), OverQuota)
        letter.discard()

    def deliver_to_each(
        self: Any, content: bytes, *recipients: Address, submitter: ISubmitter | None = None
    ) -> list[Any]:
        envelope = Envelope(None, submitter, recipients=reached(self.office, *recipients, submitter=submitter))
        letter = self.office.letter(envelope)
        letter.write(content)
        outcome = self.successResultOf(Deferred.fromCoroutine(letter.deliver_to_each()))
        letter.discard()
        return [error and type(error) for error in outcome]

    def counts(self: Any, *addresses: Address) -> list[int]:
        """How many letters each has."""
        counts = []
        for address in addresses:
            maildrop, close = self.open(address)
            counts.append(len(maildrop.sizes))
            close()
        return counts

    def open(self: Any, address: Address, *, sent: bool = False) -> tuple[IMaildrop, Any]:
        interface, maildrop, close = self.successResultOf(
            self.realm.requestAvatar(avatar_id(address, sent=sent), None, IMaildrop)
        )
        self.assertIs(interface, IMaildrop)
        verifyObject(IMaildrop, maildrop)
        return maildrop, close

    def test_the_office_is_one(self: Any) -> None:
        verifyObject(IPostOffice, self.office)

    def test_a_letter_comes_out_as_it_went_in_below_a_return_path(self: Any) -> None:
        content = b"Subject: a\r\n\r\n.\r\n\xff\r\n"
        id = self.deliver(content, ALICE)
        maildrop, _ = self.open(ALICE)
        stored = b"Return-Path: <s@example>\r\n" + content
        self.assertEqual(b"".join(maildrop.read(0)), stored)
        self.assertEqual((list(maildrop.sizes), maildrop.octets), ([len(stored)], len(stored)))
        self.assertEqual(maildrop.uid(0), id)

    def test_the_size_of_a_surrogate_is_known_where_a_letter_needs_one(self: Any) -> None:
        letters = ["Subject: e\r\n\r\né\r\n", "Subject: Été\r\n\r\né\r\n"]
        for letter in [*letters, "X: a\r\n" * 4000 + letters[1]]:
            self.deliver(letter.encode(), ALICE)
        maildrop, _ = self.open(ALICE)
        sizes = [len(b"".join(surrogate(maildrop.read(index)))) for index in range(3)]
        self.assertEqual(maildrop.surrogates, {1: sizes[1], 2: sizes[2]})
        self.assertEqual(sizes[0], maildrop.sizes[0])

    def test_an_old_return_path_goes(self: Any) -> None:
        self.deliver(b"Return-Path: <old@example>\r\nSubject: a\r\n\r\n", ALICE)
        maildrop, _ = self.open(ALICE)
        self.assertEqual(b"".join(maildrop.read(0)), b"Return-Path: <s@example>\r\nSubject: a\r\n\r\n")

    def test_each_recipient_gets_the_letter_once(self: Any) -> None:
        self.deliver(b"a\r\n", ALICE, BOB, ALICE)
        for address in (ALICE, BOB):
            self.assertEqual(len(self.open(address)[0].sizes), 1)

    def test_letters_are_in_the_order_of_their_arrival(self: Any) -> None:
        ids = [self.deliver(b"a\r\n", ALICE) for _ in range(12)]
        maildrop, _ = self.open(ALICE)
        self.assertEqual([maildrop.uid(index) for index in range(12)], ids)

    def test_what_arrives_later_is_not_in_an_open_maildrop(self: Any) -> None:
        self.deliver(b"a\r\n", ALICE)
        maildrop, _ = self.open(ALICE)
        self.deliver(b"b\r\n", ALICE)
        self.assertEqual(len(maildrop.sizes), 1)

    def test_a_maildrop_is_open_once(self: Any) -> None:
        _, close = self.open(ALICE)
        self.failureResultOf(self.realm.requestAvatar(b"alice@localhost", None, IMaildrop), MaildropBusy)
        close()
        self.open(ALICE)

    def test_what_was_sent_is_a_maildrop_of_its_own(self: Any) -> None:
        _, alice, _ = self.realm.requestAvatar(b"alice@localhost", None, ISubmitter)
        id = self.deliver(b"a\r\n", BOB, submitter=alice)
        received, close_received = self.open(ALICE)
        sent, close_sent = self.open(ALICE, sent=True)
        self.assertEqual((len(received.sizes), len(sent.sizes), sent.uid(0)), (0, 1, id))
        self.failureResultOf(self.realm.requestAvatar(avatar_id(ALICE, sent=True), None, IMaildrop), MaildropBusy)
        self.deliver(b"b\r\n", BOB, submitter=alice)  # who sends does not wait for who reads
        self.successResultOf(Deferred.fromCoroutine(sent.delete([0])))
        close_sent()
        sent, _ = self.open(ALICE, sent=True)
        self.assertEqual(len(sent.sizes), 1)
        self.assertTrue(b"".join(sent.read(0)).endswith(b"b\r\n"))
        close_received()
        self.assertEqual(len(self.open(BOB)[0].sizes), 2)

    def test_who_has_sent_nothing_has_an_empty_maildrop_of_it(self: Any) -> None:
        maildrop, _ = self.open(BOB, sent=True)
        self.assertEqual((list(maildrop.sizes), maildrop.octets), ([], 0))

    def test_what_is_deleted_is_gone_and_the_others_are_not(self: Any) -> None:
        ids = [self.deliver(b"a\r\n", ALICE) for _ in range(3)]
        maildrop, close = self.open(ALICE)
        self.successResultOf(Deferred.fromCoroutine(maildrop.delete([0, 2])))
        self.assertRaises(LetterGone, maildrop.read, 0)
        close()
        maildrop, _ = self.open(ALICE)
        self.assertEqual([maildrop.uid(index) for index in range(len(maildrop.sizes))], [ids[1]])

    def test_the_unique_id_stays_over_sessions(self: Any) -> None:
        id = self.deliver(b"a\r\n", ALICE)
        for _ in range(2):
            maildrop, close = self.open(ALICE)
            self.assertEqual(maildrop.uid(0), id)
            close()

    def test_case_does_not_count(self: Any) -> None:
        self.deliver(b"a\r\n", Address("ALICE", "LocalHost"))
        self.assertEqual(len(self.open(ALICE)[0].sizes), 1)

    def test_a_name_of_utf8_is_found_however_it_is_written_and_its_letters_come_back(self: Any) -> None:
        for text in ("jörg@localhost", "JÖRG@LocalHost", "jo\u0308rg@localhost"):
            self.deliver(b"a\r\n", Address.parse(text))
        maildrop, _ = self.open(JOERG)
        self.assertEqual(len(maildrop.sizes), 3)
        self.assertRaises(NoSuchMailbox, self.office.destination, Address.parse("jorg@localhost"), None)

    def test_who_is_not_here_is_refused(self: Any) -> None:
        self.assertRaises(NoSuchMailbox, self.office.destination, NOBODY, None)
        self.assertRaises(RelayDenied, self.office.destination, Address("alice", "elsewhere.example"), None)

    def test_postmaster_is_always_here(self: Any) -> None:
        self.deliver(b"a\r\n", self.office.postmaster())
        self.deliver(b"a\r\n", Address("PostMaster", "localhost"))

    def test_an_alias_leads_to_all_that_it_leads_to_and_to_each_once(self: Any) -> None:
        self.alias("team@localhost", "alice@localhost", "bob@localhost")
        self.alias("staff@localhost", "team@localhost", "bob@localhost")
        self.deliver(b"a\r\n", Address("Team", "LOCALHOST"))
        self.assertEqual(self.counts(ALICE, BOB), [1, 1])
        self.deliver(b"a\r\n", Address("staff", "localhost"), ALICE, Address("team", "localhost"))
        self.assertEqual(self.counts(ALICE, BOB), [2, 2])

    def test_a_tag_does_not_count(self: Any) -> None:
        self.alias("team@localhost", "alice@localhost", "bob@localhost")
        for local in ("alice+a", "ALICE+a+b", "alice+", "alice+envoi", "alice+a b"):
            self.deliver(b"a\r\n", Address(local, "localhost"))
        self.deliver(b"a\r\n", Address("team+a", "localhost"))
        self.assertEqual(self.counts(ALICE, BOB), [6, 1])
        for local in ("nobody+a", "+alice", "+", "++", "alice-a"):
            self.assertRaises(NoSuchMailbox, self.office.destination, Address(local, "localhost"), None)

    def test_the_longest_name_that_is_somebodys_is_meant(self: Any) -> None:
        self.alias("alice+work@localhost", "bob@localhost")
        self.deliver(b"a\r\n", Address("alice+work", "localhost"))
        self.deliver(b"a\r\n", Address("alice+work+late", "localhost"))
        self.assertEqual(self.counts(ALICE, BOB), [0, 2])

    def test_a_catch_all_gets_what_nobody_else_does(self: Any) -> None:
        self.alias("@localhost", "bob@localhost")
        self.alias("info@localhost", "alice@localhost")
        for local in ("info", "info+a", "alice", "alice+a"):
            self.deliver(b"a\r\n", Address(local, "localhost"))
        for local in ("nobody", "nobody+a", "", "postmaster", "abuse", "abuse+a"):
            self.deliver(b"a\r\n", Address(local, "LocalHost"))
        self.assertEqual(self.counts(ALICE, BOB), [4, 6])
        self.assertRaises(RelayDenied, self.office.destination, Address("nobody", "elsewhere.example"), None)

    def test_abuse_is_postmaster_where_it_is_nobody_itself(self: Any) -> None:
        self.deliver(b"a\r\n", Address("Abuse", "localhost"))
        self.alias("postmaster@localhost", "alice@localhost")
        self.deliver(b"a\r\n", Address("abuse", "localhost"))
        self.deliver(b"a\r\n", self.office.postmaster())
        self.assertEqual(self.counts(ALICE, BOB), [2, 0])
        self.alias("abuse@localhost", "bob@localhost")
        self.deliver(b"a\r\n", Address("abuse", "localhost"))
        self.assertEqual(self.counts(ALICE, BOB), [2, 1])

    def test_a_domain_that_is_added_is_served_at_once_and_has_names_of_its_own(self: Any) -> None:
        there = Address("bob", "Example.NET")
        self.assertRaises(RelayDenied, self.office.destination, there, None)
        self.serve("example.net")
        self.assertRaises(NoSuchMailbox, self.office.destination, there, None)
        self.deliver(b"a\r\n", Address("postmaster", "example.net"), Address("abuse", "example.net"))
        self.alias("bob@example.net", "bob@localhost")
        self.deliver(b"a\r\n", there)
        self.assertEqual(self.counts(BOB), [1])

    def test_a_mailbox_has_room_for_so_many_letters_and_octets(self: Any) -> None:
        self.limit(ALICE, Quota(letters=2))
        for _ in range(2):
            self.assertTrue(self.has_room(ALICE, 10**9))
            self.deliver(b"a\r\n", ALICE)
        self.assertFalse(self.has_room(ALICE))
        self.assertFalse(self.has_room(Address("alice+a", "localhost")))
        self.assertTrue(self.has_room(BOB))
        size = len(b"Return-Path: <s@example>\r\na\r\n")
        self.limit(ALICE, Quota(octets=2 * size + 5))
        self.assertTrue(self.has_room(ALICE))
        self.assertTrue(self.has_room(ALICE, 5))
        self.assertFalse(self.has_room(ALICE, 6))
        self.limit(ALICE, Quota(octets=2 * size))
        self.assertFalse(self.has_room(ALICE))

    def test_a_letter_that_does_not_fit_is_in_no_mailbox(self: Any) -> None:
        self.limit(ALICE, Quota(octets=100))
        self.refuse(b"x" * 100, BOB, ALICE)
        self.assertEqual(self.counts(ALICE, BOB), [0, 0])
        self.alias("team@localhost", "alice@localhost", "bob@localhost")
        self.refuse(b"x" * 100, Address("team", "localhost"))
        self.assertEqual(self.counts(ALICE, BOB), [0, 0])
        self.deliver(b"x" * 100, BOB)
        self.deliver(b"x", ALICE, BOB)

    def test_what_is_deleted_makes_room_at_once(self: Any) -> None:
        self.limit(ALICE, Quota(letters=1))
        self.deliver(b"a\r\n", ALICE)
        self.assertFalse(self.has_room(ALICE))
        maildrop, close = self.open(ALICE)
        self.successResultOf(Deferred.fromCoroutine(maildrop.delete([0])))
        close()
        self.assertTrue(self.has_room(ALICE))
        self.deliver(b"a\r\n", ALICE)

    def test_postmaster_and_abuse_are_taken_by_a_mailbox_that_is_full(self: Any) -> None:
        self.limit(ALICE, Quota(letters=1))
        self.alias("postmaster@localhost", "alice@localhost")
        self.deliver(b"a\r\n", ALICE)
        for recipient in (
            self.office.postmaster(),
            Address("abuse", "localhost"),
            Address("postmaster+a", "localhost"),
        ):
            self.assertTrue(self.has_room(recipient, 1000))
            self.deliver(b"a\r\n", recipient)
        self.assertEqual(self.counts(ALICE), [4])
        self.assertFalse(self.has_room(ALICE))
        self.limit(ALICE, Quota(octets=1000))
        self.deliver(b"x" * 1000, ALICE, Address("postmaster", "localhost"), ALICE)
        self.assertEqual(self.counts(ALICE), [5])

    def test_a_sent_copy_needs_no_room(self: Any) -> None:
        self.limit(ALICE, Quota(letters=1))
        _, alice, _ = self.realm.requestAvatar(b"alice@localhost", None, ISubmitter)
        self.deliver(b"a\r\n", BOB, submitter=alice)
        self.deliver(b"a\r\n", BOB, submitter=alice)
        self.assertTrue(self.has_room(ALICE))

    def test_a_submitter_sends_as_what_leads_to_him_alone(self: Any) -> None:
        self.alias("team@localhost", "alice@localhost", "bob@localhost")
        self.alias("info@localhost", "alice@localhost")
        self.alias("contact@localhost", "info@localhost", "alice@localhost")
        self.alias("deserted@localhost")
        _, alice, _ = self.realm.requestAvatar(b"alice@localhost", None, ISubmitter)
        for local in ("Info", "contact", "alice+a", "info+a"):
            self.assertTrue(alice.may_send_as(Address(local, "LocalHost")), local)
        for local in ("team", "deserted", "bob", "bob+a", "nobody", "postmaster", "abuse"):
            self.assertFalse(alice.may_send_as(Address(local, "localhost")), local)
        self.assertFalse(alice.may_send_as(Address("alice", "elsewhere.example")))

    def test_an_alias_is_believed_to_be_nobody(self: Any) -> None:
        self.alias("info@localhost", "alice@localhost")
        self.assertIsNone(self.office.believed(Address("info", "localhost")))

    def test_a_submitter_sends_as_himself_or_nobody(self: Any) -> None:
        interface, submitter, logout = self.realm.requestAvatar(b"alice@localhost", None, ISubmitter)
        verifyObject(ISubmitter, submitter)
        self.assertIs(interface, ISubmitter)
        self.assertTrue(submitter.may_send_as(Address("Alice", "LOCALHOST")))
        self.assertTrue(submitter.may_send_as(None))
        self.assertFalse(submitter.may_send_as(BOB))
        logout()

    def test_only_a_local_account_is_believed(self: Any) -> None:
        self.assertEqual(self.office.believed(Address("Alice", "localhost")).address.key, ALICE.key)
        for address in (None, NOBODY, Address("alice", "elsewhere.example")):
            self.assertIsNone(self.office.believed(address))

    def test_each_by_himself_gets_a_letter_or_has_no_room(self: Any) -> None:
        self.limit(ALICE, Quota(letters=1))
        self.assertEqual(self.deliver_to_each(b"a\r\n", ALICE, BOB), [None, None])
        self.assertEqual(self.deliver_to_each(b"b\r\n", BOB, ALICE, BOB), [None, OverQuota, None])
        self.assertEqual(self.counts(ALICE, BOB), [1, 2])

    def test_where_nobody_has_room_the_sender_has_no_copy_either(self: Any) -> None:
        _, alice, _ = self.realm.requestAvatar(b"alice@localhost", None, ISubmitter)
        self.limit(BOB, Quota(octets=5))
        self.assertEqual(self.deliver_to_each(b"a\r\n", BOB, submitter=alice), [OverQuota])
        maildrop, _ = self.open(ALICE, sent=True)
        self.assertEqual((self.counts(BOB), list(maildrop.sizes)), ([0], []))

    def test_a_letter_that_goes_round_is_refused(self: Any) -> None:
        letter = self.office.letter(Envelope(None, recipients=reached(self.office, ALICE)))
        letter.write(b"Received: x\r\n" * 101)
        self.failureResultOf(Deferred.fromCoroutine(letter.deliver()), MailLoop)
        letter.discard()
        self.assertEqual(len(self.open(ALICE)[0].sizes), 0)


class FakeStores(StoreContract, SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World({"alice@localhost": b"", "bob@localhost": b"", "jörg@localhost": b""})
        self.office = FakePostOffice(self.world)
        self.realm = FakeRealm(self.world)

    def alias(self, address: str, *targets: str) -> None:
        self.world.aliases[address] = set(targets)

    def serve(self, domain: str) -> None:
        self.world.domains.add(domain)

    def limit(self, address: Address, quota: Quota) -> None:
        self.world.quotas[address.key] = quota


class RealStores(StoreContract, SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Office(Path(self.mktemp()))
        self.addCleanup(self.stage.accounts.close)
        self.stage.accounts.add(JOERG, "{MD5}" + "0" * 32)
        self.office = self.stage.office
        terms = AccountTerms(self.stage.accounts, Terms())
        self.realm = Realm(self.stage.maildata, Maildrops(at_once), terms, self.stage.office, at_once)
        self.patch(rooms, "LONG", float("inf"))  # no look takes long, however busy this machine is
        self.others = Accounts(self.stage.maildata.accounts)  # as a command has them, beside the server
        self.addCleanup(self.others.close)

    def alias(self, address: str, *targets: str) -> None:
        local, _, domain = address.rpartition("@")
        directory.add_alias(self.others, Address(local, domain), [Address.parse(target) for target in targets])
        self.look_lately()

    def serve(self, domain: str) -> None:
        directory.add_domain(self.others, domain, None, None)
        self.look_lately()

    def limit(self, address: Address, quota: Quota) -> None:
        account = self.others.at(address)
        assert account is not None
        quotas.set_own(self.others, account, quota.octets, quota.letters)
        self.look_lately()

    def look_lately(self) -> None:
        """So much later that it is seen: a command takes longer to end."""
        self.stage.accounts._looked = database.NEVER

    def test_an_alias_leads_to_an_account_of_a_domain_that_is_not_served(self) -> None:
        dave = Address("dave", "elsewhere.example")
        self.stage.accounts.add(dave, "{MD5}" + "0" * 32)
        self.alias("dave@localhost", str(dave))
        self.deliver(b"a\r\n", Address("dave", "localhost"))
        self.assertEqual(self.counts(dave), [1])

    def test_a_letter_to_an_alias_is_one_file_under_many_names(self) -> None:
        self.alias("team@localhost", "alice@localhost", "bob@localhost")
        self.deliver(b"a\r\n", Address("team", "localhost"), ALICE)
        root = self.stage.maildata.root
        self.assertEqual(len(self.stage.files()), 2)
        self.assertEqual(len({(root / file).stat().st_ino for file in self.stage.files()}), 1)

    def test_an_alias_whose_account_was_removed_is_nobodys(self) -> None:
        self.alias("info@localhost", "bob@localhost")
        self.alias("@localhost", "alice@localhost")
        self.stage.accounts.remove(BOB)
        self.assertRaises(NoSuchMailbox, self.office.destination, Address("info", "localhost"), None)
        self.stage.accounts.add(BOB, "{MD5}" + "0" * 32)
        self.assertRaises(NoSuchMailbox, self.office.destination, Address("info", "localhost"), None)

    def test_postmasters_letters_are_kept_where_his_alias_leads_to_nobody_any_more(self) -> None:
        self.alias("postmaster@localhost", "bob@localhost")
        self.stage.accounts.remove(BOB)
        self.deliver(b"a\r\n", Address("postmaster", "localhost"), Address("abuse", "localhost"))
        [file] = self.stage.files()
        self.assertTrue(file.startswith("reception/postmaster@localhost/new/"))

    def test_of_any_number_of_tags_the_longest_name_that_is_somebodys_is_meant(self) -> None:
        tags = "+a" * 28
        self.alias("alice+a+a@localhost", "bob@localhost")
        self.alias("@localhost", "alice@localhost")
        for name, account in (("alice", BOB), ("bob", BOB), ("carol", ALICE)):
            destination = self.office.destination(Address(name + tags, "localhost"), None)
            self.assertEqual(destination, self.office.destination(account, None))

    def test_a_stranger_with_many_tags_costs_no_more_questions_than_one_with_few(self) -> None:
        asked: list[str] = []
        event.listen(self.stage.accounts._engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
        self.assertRaises(NoSuchMailbox, self.office.destination, Address("carol" + "+a" * 28, "localhost"), None)
        self.assertGreater(len(asked), 0)
        self.assertLess(len(asked), 10)

    def test_a_list_that_is_named_many_times_is_looked_through_once(self) -> None:
        looks: list[object] = []

        class Counted(tuple[Any, ...]):
            def __iter__(self) -> Iterator[Any]:
                looks.append(self)
                return super().__iter__()

        self.alias("team@localhost", "alice@localhost", "bob@localhost")
        members = Counted(self.office.destination(Address("team", "localhost"), None))
        recipients = [Recipient(Address(f"team+{tag}", "localhost"), members) for tag in range(100)]
        letter = self.office.letter(Envelope(None, recipients=recipients))
        looks.clear()
        self.successResultOf(Deferred.fromCoroutine(letter.deliver()))
        self.assertEqual(len(looks), 1)
        self.assertEqual(len(self.stage.files()), 2)

    def test_the_separator_is_a_setting(self) -> None:
        for separator, there, not_there in (("-", "alice-a", "alice+a"), ("", "alice", "alice+a")):
            self.office = self.stage.restart(separator=separator)
            self.deliver(b"a\r\n", Address(there, "localhost"))
            self.assertRaises(NoSuchMailbox, self.office.destination, Address(not_there, "localhost"), None)

    def test_who_has_no_quota_of_his_own_has_the_servers(self) -> None:
        self.office = self.stage.restart(quota=Quota(letters=1))
        self.limit(BOB, Quota(letters=2))
        self.deliver(b"a\r\n", ALICE, BOB)
        self.assertEqual([self.has_room(address) for address in (ALICE, BOB)], [False, True])

    def test_what_another_program_takes_away_makes_room_at_once(self) -> None:
        self.limit(ALICE, Quota(letters=1))
        self.deliver(b"a\r\n", ALICE)
        self.assertFalse(self.has_room(ALICE))
        [file] = self.stage.files()
        (self.stage.maildata.root / file).unlink()
        self.assertTrue(self.has_room(ALICE))

    def test_what_another_process_delivers_counts_within_a_second(self) -> None:
        self.limit(ALICE, Quota(letters=1))
        self.assertTrue(self.has_room(ALICE))
        here, self.office = self.office, self.stage.restart()
        self.deliver(b"a\r\n", ALICE)
        self.office = here
        self.stage.monotonic.advance(1)
        self.assertFalse(self.has_room(ALICE))

    def test_an_account_named_postmaster_has_no_quota(self) -> None:
        postmaster = Address("Postmaster", "localhost")
        self.stage.accounts.add(postmaster, "{MD5}" + "0" * 32)
        self.limit(postmaster, Quota(letters=1))
        for local in ("postmaster", "postmaster+a", "abuse"):
            self.assertTrue(self.has_room(Address(local, "localhost")))
            self.deliver(b"a\r\n", Address(local, "localhost"))
        self.assertEqual(self.counts(postmaster), [3])

    def test_every_domain_that_is_served_is_local(self) -> None:
        self.stage.accounts.add(Address("carol", "example.org"), "{MD5}" + "0" * 32)
        self.deliver(b"a\r\n", Address("carol", "EXAMPLE.org"))

    def test_a_domain_is_served_in_both_its_forms(self) -> None:
        self.stage.accounts.add(Address("carol", "bücher.example"), "{MD5}" + "0" * 32)
        for domain in ("bücher.example", "BÜCHER.example", "xn--bcher-kva.example"):
            for served in ("BÜCHER.example", "xn--bcher-kva.example"):
                self.office = self.stage.restart(domains=[served])
                self.deliver(b"a\r\n", Address("carol", domain))
        self.assertEqual(
            len(list((self.stage.maildata.root / "reception").glob("carol@xn--bcher-kva.example/new/*"))), 6
        )

    def test_an_account_of_a_domain_that_is_not_served_gets_no_mail(self) -> None:
        self.stage.accounts.add(Address("dave", "elsewhere.example"), "{MD5}" + "0" * 32)
        self.assertRaises(RelayDenied, self.office.destination, Address("dave", "elsewhere.example"), None)

    def test_a_letter_is_written_once_for_all_and_for_the_senders_copy(self) -> None:
        _, alice, _ = self.realm.requestAvatar(b"alice@localhost", None, ISubmitter)
        id = self.deliver(b"Subject: a\r\n", ALICE, BOB, submitter=alice)
        octets = len(b"Return-Path: <s@example>\r\nSubject: a\r\n")
        name = f"{id},S={octets},W={octets}"
        folders = ("envoi/alice@localhost", "reception/alice@localhost", "reception/bob@localhost")
        self.assertEqual(self.stage.files(), [f"{folder}/new/{name}" for folder in folders])
        root = self.stage.maildata.root
        self.assertEqual(len({(root / file).stat().st_ino for file in self.stage.files()}), 1)

    def test_a_name_begins_with_the_time(self) -> None:
        self.assertRegex(self.deliver(b"a\r\n", ALICE), r"^1700000000\.M250000P[0-9]+Q000000R[0-9a-f]{8}\.[!-~]+$")

    def test_two_servers_never_give_one_name_though_clock_and_process_id_are_the_same(self) -> None:
        ids = {self.deliver(b"a\r\n", ALICE)}
        for _ in range(2):
            ids.add(self.stage.restart().letter(Envelope(None)).id)
        self.assertEqual(len(ids), 3)
        self.assertEqual(len({id.partition("R")[0] for id in ids}), 1)

    def test_a_name_is_a_unique_id_whatever_the_host_is_called(self) -> None:
        self.patch(socket, "gethostname", lambda: "a-very-long.host.with.a.name.of.many.letters.example")
        self.patch(os, "getpid", lambda: 4_194_304)  # the largest on Linux
        office = self.stage.restart()
        for _ in range(3):
            self.assertRegex(office.letter(Envelope(None)).id, r"\A[!-~]{60,70}\Z")

    def test_a_letter_whose_name_is_taken_is_refused_and_the_other_stays(self) -> None:
        self.patch(secrets, "token_hex", lambda octets: "00" * octets)
        first, second = self.stage.restart(), self.stage.restart()
        for office, content, error in ((first, b"a\r\n", None), (second, b"b\r\n", TryLater)):
            self.office = office
            if error is None:
                self.deliver(content, ALICE, BOB)
                continue
            letter = office.letter(Envelope(Address("s", "example"), recipients=reached(office, BOB, ALICE)))
            letter.write(content)
            self.failureResultOf(Deferred.fromCoroutine(letter.deliver()), error)
            letter.discard()
        for address in (ALICE, BOB):
            maildrop, _ = self.open(address)
            self.assertEqual(len(maildrop.sizes), 1)
            self.assertTrue(b"".join(maildrop.read(0)).endswith(b"\r\na\r\n"))
        self.assertEqual(len(self.stage.files()), 2)

    def test_a_large_letter_goes_through_the_spool_and_leaves_nothing_there(self) -> None:
        content = b"x" * 78 + b"\r\n"
        self.deliver(content * 4000, ALICE)
        self.assertEqual(len(self.stage.files()), 1)
        maildrop, _ = self.open(ALICE)
        self.assertEqual(b"".join(maildrop.read(0)), b"Return-Path: <s@example>\r\n" + content * 4000)

    def test_a_letter_that_is_given_up_leaves_nothing(self) -> None:
        for size in (10, 1_000_000):
            letter = self.office.letter(Envelope(None, recipients=reached(self.office, ALICE)))
            letter.write(b"x" * size)
            letter.discard()
            letter.discard()
            self.assertEqual(self.stage.files(), [])

    def test_a_spool_that_is_full_refuses_the_letter_when_it_is_complete(self) -> None:
        letter = self.office.letter(Envelope(None, recipients=reached(self.office, ALICE)))

        def full(descriptor: int, octets: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "write", full)
        for _ in range(3):
            letter.write(b"x" * 100_000)
            self.assertEqual(self.stage.files(), [])  # its room is wanted by others
        self.failureResultOf(Deferred.fromCoroutine(letter.deliver()), MailboxFull)
        letter.discard()
        self.assertEqual(self.stage.files(), [])

    def test_a_name_tells_the_size_of_a_surrogate(self) -> None:
        id = self.deliver("Subject: é\r\n\r\n".encode(), ALICE)
        [file] = self.stage.files()
        self.assertRegex(file, rf"/{re.escape(id)},A=[0-9]+,S=41,W=41$")
        self.assertEqual(self.open(ALICE)[0].uid(0), id)

    def test_a_log_in_too_soon_opens_nothing(self) -> None:
        terms = AccountTerms(self.stage.accounts, Terms(delay=60))
        self.realm = Realm(self.stage.maildata, Maildrops(at_once), terms, self.stage.office, at_once)
        self.stage.accounts.at(ALICE)
        maildrop, close = self.open(ALICE)
        self.assertEqual(maildrop.terms, Terms(delay=60))
        close()
        for _ in range(2):  # and the lock is free again
            self.failureResultOf(self.realm.requestAvatar(b"alice@localhost", None, IMaildrop), LoginTooSoon)
        self.open(ALICE, sent=True)
        self.open(BOB)

    def test_no_other_avatar_is_to_be_had(self) -> None:
        self.assertRaises(NotImplementedError, self.realm.requestAvatar, b"alice@localhost", None, IPostOffice)
