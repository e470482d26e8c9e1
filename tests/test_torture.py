"""The torture's books are right: whatever was promised and is not there is found, and nothing else is blamed."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe import cli
from mailbe.accounts import database, schemes, scram
from mailbe.address import Address
from mailbe.durable import make_mailbox
from mailbe.maildata import Maildata
from mailbe.torture import audit, clients, command, options, wire
from mailbe.torture.audit import Openings, left_over, on_disk, unique_id, waiting
from mailbe.torture.clients import Fetcher, Load, Record, Sender
from mailbe.torture.forgetful import Rule, Unavailable
from mailbe.torture.ledger import ENVOI, RECEPTION, Attempt, Box, Deletion, Fault, Found, Kind, Ledger, Waiting
from mailbe.torture.letters import Texts, chance, examined, letter
from mailbe.torture.people import PASSWORD, People
from mailbe.torture.report import WRONG, show, table
from mailbe.torture.run import Plan, Tally, Way
from mailbe.torture.server import Down
from mailbe.torture.wire import Lost, Refused, Wire

CHECKOUT = Path(__file__).parents[1]
ALICE, BOB = Box(RECEPTION, "alice@localhost"), Box(RECEPTION, "bob@localhost")
COPY = Box(ENVOI, "alice@localhost")
OK = "250 2.0.0 ok"
TEMPORARY = ("spool", "reception/alice@localhost/tmp", "envoi/bob/tmp", "held/letters/tmp", "held/envelopes/tmp")
TRACE = b"Return-Path: <a@b>\r\nReceived: from c\r\n\tby d;\r\n\tnow\r\n"


DUE = 1000.0
NOTHING = Waiting()


def whole(token: str, uid: str = "", seen: float = DUE) -> Found:
    return Found(uid or token, token, whole=True, seen=seen)


def in_held(*tokens: str) -> Waiting:
    """Letters that wait, with their envelopes."""
    return Waiting([whole(token) for token in tokens], frozenset(tokens))


def half(token: str | None, uid: str = "uid") -> Found:
    return Found(uid, token, whole=False)


class BooksCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger = Ledger()
        self.round = 0

    def sent(self, token: str, *boxes: Box, answer: str | None = OK, due: float = 0) -> Attempt:
        attempt = Attempt(token, frozenset(boxes or {ALICE}), 1, answer, due)
        self.ledger.sent([attempt])
        return attempt

    def deleted(self, token: str, *, answered: bool = True, box: Box = ALICE) -> None:
        self.ledger.deleted([Deletion(box, (token,), answered)])

    def judge(
        self, disk: dict[Box, list[Found]], pop3: dict[Box, list[Found]] | None = None, held: Waiting = NOTHING
    ) -> list[Fault]:
        """A restart that leaves ``disk``; POP3 tells the same of what arrived where nothing else is said."""
        self.round += 1
        if pop3 is None:
            pop3 = {box: disk.get(box, []) for box in (ALICE, BOB)}
        return self.ledger.judge(self.round, disk, pop3, held)

    def assert_kinds(self, faults: Sequence[Fault], *kinds: Kind) -> None:
        self.assertEqual([fault.kind for fault in faults], list(kinds), "\n".join(map(str, faults)))


class Verdicts(BooksCase):
    """One letter in one mailbox, by what is known of it and by the copies that (the disk, POP3) have."""

    def assert_verdicts(
        self,
        prepare: Callable[[str], object],
        expected: dict[tuple[int, int], Kind | None],
        held: Waiting = NOTHING,
    ) -> None:
        for (disk, pop3), kind in expected.items():
            self.ledger = Ledger()
            prepare("t")
            copies = [whole("t", f"uid{number}") for number in range(2)]
            faults = self.judge({ALICE: copies[:disk]}, {ALICE: copies[:pop3]}, held)
            self.assertEqual([fault.kind for fault in faults], [kind] if kind else [], (disk, pop3))

    def test_an_acknowledged_letter_is_there_once(self) -> None:
        missing, twice = Kind.MISSING, Kind.TWICE
        expected = {(0, 0): missing, (1, 0): missing, (0, 1): missing, (1, 1): None, (2, 2): twice, (2, 1): twice}
        self.assert_verdicts(self.sent, expected)

    def test_one_that_was_not_acknowledged_is_there_once_or_not_at_all(self) -> None:
        missing, twice = Kind.MISSING, Kind.TWICE
        expected = {(0, 0): None, (1, 1): None, (1, 0): missing, (0, 1): missing, (2, 2): twice, (1, 2): twice}
        self.assert_verdicts(lambda token: self.sent(token, answer=None), expected)

    def test_one_whose_deletion_was_not_answered_is_there_once_or_not_at_all(self) -> None:
        def prepare(token: str) -> None:
            self.sent(token)
            self.deleted(token, answered=False)

        expected = {(0, 0): None, (1, 1): None, (1, 0): Kind.MISSING, (0, 1): Kind.MISSING, (2, 2): Kind.TWICE}
        self.assert_verdicts(prepare, expected)

    def test_one_whose_deletion_was_answered_stays_away_acknowledged_or_not(self) -> None:
        for answer in (OK, None):

            def prepare(token: str, answer: str | None = answer) -> None:
                self.sent(token, answer=answer)
                self.deleted(token)

            undone = Kind.UNDONE
            self.assert_verdicts(prepare, {(0, 0): None, (1, 1): undone, (1, 0): undone, (0, 1): undone})

    def test_one_that_was_sent_to_others_is_not_there(self) -> None:
        misplaced = Kind.MISPLACED
        expected = {(0, 0): None, (1, 1): misplaced, (1, 0): misplaced, (0, 1): misplaced}
        self.assert_verdicts(lambda token: self.sent(token, BOB, answer=None), expected)
        self.assert_verdicts(lambda token: None, expected)


class Books(BooksCase):
    def test_a_letter_to_several_is_missed_in_each_mailbox_and_is_one_letter(self) -> None:
        self.sent("t", ALICE, BOB, COPY)
        faults = self.judge({ALICE: [whole("t")]})
        self.assert_kinds(faults, Kind.MISSING, Kind.MISSING)
        self.assertEqual({fault.subject for fault in faults}, {"t"})
        self.assertIn(str(COPY), faults[0].what)
        self.assertIn(str(BOB), faults[1].what)

    def test_the_senders_copy_is_looked_for_on_the_disk_alone(self) -> None:
        self.sent("t", BOB, COPY)
        self.assert_kinds(self.judge({BOB: [whole("t")], COPY: [whole("t")]}))

    def test_a_fault_says_all_that_is_known(self) -> None:
        self.sent("7-s1-1", ALICE, answer="250 2.0.0 ok 1.M2P3Q4.host")
        (fault,) = self.judge({ALICE: []}, {ALICE: [whole("7-s1-1")]})
        for part in ("round 1", "missing", "7-s1-1", str(ALICE), "Q4.host", "one copy must", "disk has 0, POP3 has 1"):
            self.assertIn(part, str(fault))

    def test_sending_again_is_another_attempt(self) -> None:
        self.sent("first", answer=None)
        self.sent("again")
        self.assert_kinds(self.judge({ALICE: [whole("first"), whole("again")]}))

    def test_what_has_survived_one_crash_may_not_vanish_at_the_next(self) -> None:
        self.sent("not acknowledged", answer=None)
        self.sent("deleted?")
        self.deleted("deleted?", answered=False)
        self.assert_kinds(self.judge({ALICE: [whole("not acknowledged"), whole("deleted?")]}))
        self.assert_kinds(self.judge({}), Kind.MISSING, Kind.MISSING)

    def test_a_letter_that_was_never_acknowledged_may_come_late(self) -> None:
        self.sent("t", answer=None)
        self.assert_kinds(self.judge({}))
        self.assert_kinds(self.judge({ALICE: [whole("t")]}))

    def test_what_one_crash_has_left_deleted_stays_so(self) -> None:
        self.sent("t")
        self.deleted("t", answered=False)
        self.assert_kinds(self.judge({}))
        self.assert_kinds(self.judge({ALICE: [whole("t")]}), Kind.UNDONE)

    def test_a_session_without_quit_deletes_nothing(self) -> None:
        self.sent("t")
        self.assert_kinds(self.ledger.witnessed(1, [(ALICE, whole("t"))]))
        self.assert_kinds(self.judge({}), Kind.MISSING)

    def test_one_answered_deletion_counts_whatever_others_were_not_answered(self) -> None:
        for order in ((True, False), (False, True)):
            self.ledger = Ledger()
            self.sent("t")
            for answered in order:
                self.deleted("t", answered=answered)
            self.assert_kinds(self.judge({ALICE: [whole("t")]}), Kind.UNDONE)

    def test_a_letter_is_deleted_from_one_mailbox_and_stays_in_the_others(self) -> None:
        self.sent("t", ALICE, BOB)
        self.deleted("t", box=BOB)
        self.assert_kinds(self.judge({ALICE: [whole("t")]}))
        self.assert_kinds(self.judge({}), Kind.MISSING)

    def test_half_a_letter_is_a_fault_acknowledged_or_not(self) -> None:
        for answer in (OK, None):
            self.ledger = Ledger()
            self.sent("t", answer=answer)
            self.assert_kinds(self.judge({ALICE: [half("t")]}), Kind.HALF)

    def test_half_a_letter_that_cannot_be_told_leaves_one_missing(self) -> None:
        self.sent("t")
        self.assert_kinds(self.judge({ALICE: [half(None)]}), Kind.HALF, Kind.MISSING)

    def test_half_a_letter_that_only_pop3_gives_is_a_fault(self) -> None:
        self.sent("t")
        (fault,) = self.judge({ALICE: [whole("t", "uid")]}, {ALICE: [half("t")]})
        self.assertIs(fault.kind, Kind.HALF)
        self.assertIn("POP3", fault.what)

    def test_a_mailbox_that_is_gone_has_lost_its_letters(self) -> None:
        self.sent("t", ALICE, COPY)
        self.assert_kinds(self.judge({}, {}), Kind.MISSING, Kind.MISSING)

    def test_a_mailbox_that_does_not_open_is_judged_by_the_disk(self) -> None:
        self.sent("t")
        self.assert_kinds(self.judge({ALICE: [whole("t")]}, {}))

    def test_the_mailbox_of_nobody_has_no_letters(self) -> None:
        self.sent("t")
        nobody = Box(RECEPTION, "nobody@localhost")
        self.assert_kinds(self.judge({ALICE: [whole("t")], nobody: [whole("t")]}), Kind.MISPLACED)

    def test_the_mail_of_an_account_that_was_removed_stays_away(self) -> None:
        self.sent("t", ALICE, COPY)
        self.ledger.forget("alice@localhost")
        self.assert_kinds(self.judge({}, {}))
        self.assert_kinds(self.judge({ALICE: [whole("t")], COPY: [whole("t")]}, {}), *[Kind.MISPLACED] * 2)

    def test_a_fault_is_told_once(self) -> None:
        for token in ("lost", "undone", "twice"):
            self.sent(token)
        self.deleted("undone")
        there = {ALICE: [whole("undone"), *[whole("twice")] * 2, half(None)], BOB: [whole("stray")]}
        told = self.judge(there)
        self.assertEqual(
            Counter(fault.kind for fault in told),
            Counter([Kind.HALF, Kind.MISSING, Kind.TWICE, Kind.UNDONE, Kind.MISPLACED]),
        )
        self.assert_kinds(self.judge(there))

    def test_letters_in_part_are_counted_and_no_fault(self) -> None:
        attempts = [
            self.sent("part", ALICE, BOB, answer=None),
            self.sent("all", ALICE, BOB, answer=None),
            self.sent("none", ALICE, BOB, answer=None),
        ]
        disk = {ALICE: [whole("part"), whole("all")], BOB: [whole("all")]}
        self.assertEqual(self.ledger.in_part(attempts, disk, NOTHING), 1)
        self.assert_kinds(self.judge(disk))

    def test_a_letter_that_waits_for_its_time_is_in_part_without_the_senders_copy_only(self) -> None:
        attempts = [self.sent(token, ALICE, COPY, answer=None, due=DUE) for token in ("all", "copy", "held", "none")]
        disk = {COPY: [whole("all"), whole("copy")]}
        self.assertEqual(self.ledger.in_part(attempts, disk, in_held("all", "held")), 2)


class Holding(BooksCase):
    """Letters that are not to come before their time."""

    def test_until_it_is_released_a_letter_is_in_its_mailbox_once_or_waits(self) -> None:
        expected = {(0, 0): None, (1, 0): None, (1, 1): None, (2, 2): Kind.TWICE, (2, 1): Kind.TWICE}
        for answer in (OK, None):

            def prepare(token: str, answer: str | None = answer) -> None:
                self.sent(token, answer=answer, due=DUE)

            Verdicts.assert_verdicts(self, prepare, expected, in_held("t"))  # type: ignore[arg-type]

    def test_what_waits_no_more_is_there(self) -> None:
        self.sent("t", due=DUE)
        self.assert_kinds(self.judge({}, held=in_held("t")))
        self.assert_kinds(self.judge({}), Kind.MISSING)

    def test_one_that_was_not_acknowledged_and_waits_after_a_crash_may_not_vanish_at_the_next(self) -> None:
        self.sent("t", answer=None, due=DUE)
        self.assert_kinds(self.judge({}, held=in_held("t")))
        self.assert_kinds(self.judge({}), Kind.MISSING)

    def test_one_that_was_not_acknowledged_need_not_wait(self) -> None:
        self.sent("t", answer=None, due=DUE)
        self.assert_kinds(self.judge({}))

    def test_the_senders_copy_does_not_wait(self) -> None:
        self.sent("t", ALICE, COPY, due=DUE)
        (fault,) = self.judge({}, held=in_held("t"))
        self.assertIs(fault.kind, Kind.MISSING)
        self.assertIn(str(COPY), fault.what)

    def test_another_letter_has_no_business_there(self) -> None:
        self.sent("t")
        self.assert_kinds(self.judge({}, held=in_held("t")), Kind.MISSING)

    def test_half_a_letter_there_is_a_fault(self) -> None:
        self.sent("t", due=DUE)
        self.assert_kinds(self.judge({}, held=Waiting([half("t")])), Kind.HALF, Kind.MISSING)

    def test_before_its_time_it_is_in_no_mailbox_but_its_senders(self) -> None:
        for token, due, seen, kinds in (
            ("before", DUE, DUE - 0.01, [Kind.EARLY]),
            ("then", DUE, DUE, []),
            ("at once", 0, DUE, []),
        ):
            self.ledger = Ledger()
            self.sent(token, ALICE, COPY, due=due)
            there = {ALICE: [whole(token, seen=seen)], COPY: [whole(token, seen=seen)]}
            self.assert_kinds(self.ledger.witnessed(1, [(ALICE, whole(token, seen=seen))]), *kinds)
            self.ledger = Ledger()
            self.sent(token, ALICE, COPY, due=due)
            self.assert_kinds(self.judge(there, {ALICE: [whole(token)]}), *kinds)
            self.ledger = Ledger()
            self.sent(token, ALICE, COPY, due=due)
            self.assert_kinds(self.judge({ALICE: [whole(token)], COPY: [whole(token)]}, {ALICE: there[ALICE]}), *kinds)

    def test_it_is_released_when_it_has_come_and_nothing_of_it_waits(self) -> None:
        for token in ("waits", "envelope", "released"):
            self.sent(token, due=DUE)
        self.sent("other")
        there = {ALICE: [whole(token) for token in ("waits", "envelope", "released", "other")]}
        held = Waiting([whole("waits")], frozenset({"waits", "envelope"}))
        self.assert_kinds(self.judge(there, held=held))
        self.assertEqual(self.ledger.released, {"released"})

    def test_one_that_was_released_and_deleted_does_not_come_again(self) -> None:
        self.sent("t", due=DUE)
        self.assert_kinds(self.judge({ALICE: [whole("t")]}))
        self.deleted("t")
        self.assert_kinds(self.judge({ALICE: [whole("t")]}), Kind.UNDONE)

    def test_what_is_never_released_is_missing(self) -> None:
        self.sent("t", ALICE, BOB, due=DUE)
        self.sent("u", due=DUE)
        self.assert_kinds(self.judge({}, held=in_held("t", "u")))
        left = self.ledger.waiting(in_held("t", "u", "stray"), ["bob@localhost"])
        self.assertEqual(left, [(BOB, "t")])
        (fault,) = self.ledger.unreleased(2, left)
        self.assertIs(fault.kind, Kind.MISSING)
        self.assertIn("still in held/", fault.what)
        self.ledger.forget("bob@localhost")
        self.assertEqual(self.ledger.waiting(in_held("t", "u"), ["bob@localhost"]), [])


class Witnesses(BooksCase):
    """What POP3 clients were given while mail came in."""

    def test_whole_letters_are_no_fault_however_often_they_are_fetched(self) -> None:
        self.sent("t", ALICE, BOB, answer=None)
        sightings = [(ALICE, whole("t")), (BOB, whole("t")), (ALICE, whole("t"))]
        self.assert_kinds(self.ledger.witnessed(1, sightings))

    def test_half_a_letter_is_one_though_the_rest_comes_later(self) -> None:
        self.sent("t")
        self.assert_kinds(self.ledger.witnessed(1, [(ALICE, half("t")), (ALICE, half("t"))]), Kind.HALF)
        self.assert_kinds(self.judge({ALICE: [whole("t")]}))

    def test_two_copies_are_told_by_their_unique_ids_though_both_are_deleted_then(self) -> None:
        self.sent("t")
        sightings = [(ALICE, whole("t", "one")), (ALICE, whole("t", "two"))]
        self.assert_kinds(self.ledger.witnessed(1, sightings), Kind.TWICE)

    def test_a_letter_to_somebody_else_is_misplaced_though_it_is_deleted_then(self) -> None:
        self.sent("t", BOB)
        self.assert_kinds(self.ledger.witnessed(1, [(ALICE, whole("t"))]), Kind.MISPLACED)

    def test_a_letter_that_was_deleted_in_another_round_is_undone(self) -> None:
        self.sent("t")
        self.deleted("t")
        self.assert_kinds(self.judge({}))
        self.assert_kinds(self.ledger.witnessed(2, [(ALICE, whole("t"))]), Kind.UNDONE)


class Letters(SynchronousTestCase):
    def setUp(self) -> None:
        choices = chance("letters")
        self.text = Texts(choices).text(choices, 500)
        self.stored = TRACE + letter("t-1", self.text)

    def test_a_whole_letter_is_known_by_its_token(self) -> None:
        self.assertEqual(examined("uid", self.stored), Found("uid", "t-1", whole=True))
        self.assertEqual(examined("uid", TRACE + letter("t-1", b"")), Found("uid", "t-1", whole=True))

    def test_a_letter_that_is_cut_anywhere_is_not_whole(self) -> None:
        for end in range(len(self.stored)):
            self.assertFalse(examined("uid", self.stored[:end]).whole, end)
        for begin in range(1, len(self.stored)):
            self.assertFalse(examined("uid", self.stored[begin:]).whole, begin)

    def test_a_letter_with_zeros_in_it_is_not_whole(self) -> None:
        for begin in range(0, len(self.stored) - 10, 10):
            self.assertFalse(examined("uid", self.stored[:begin] + bytes(10) + self.stored[begin + 10 :]).whole, begin)

    def test_a_letter_with_more_behind_it_is_not_whole(self) -> None:
        self.assertFalse(examined("uid", self.stored + b"\r\n").whole)
        self.assertFalse(examined("uid", self.stored + self.stored).whole)

    @given(st.binary(max_size=200))
    def test_octets_of_any_kind_are_no_letter(self, octets: bytes) -> None:
        self.assertEqual(examined("uid", octets), Found("uid", None, whole=False))

    def test_texts_are_lines_of_all_kinds(self) -> None:
        self.assertNotIn(b"\n", self.text.replace(b"\r\n", b""))
        texts = Texts(chance("more letters"))
        for octets in (1, 200, 300_000):
            text = texts.text(chance(octets), octets)
            self.assertTrue(text.endswith(b"\r\n"))
            self.assertTrue(octets <= len(text) < octets + 500)
        for part in (b"\r\n\r\n", b"\r\n.\r\n", b"\r\n..", b"\xc3"):
            self.assertIn(part, text)

    def test_the_same_seed_makes_the_same_letters(self) -> None:
        self.assertEqual(Texts(chance(5)).text(chance(6), 99), Texts(chance(5)).text(chance(6), 99))


class WireCase(SynchronousTestCase):
    def hear(self, *octets: bytes) -> Wire:
        """A wire to a peer that has said all it will say."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        for some in octets:
            theirs.sendall(some)
        theirs.shutdown(socket.SHUT_WR)
        heard = Wire(ours)
        self.addCleanup(heard.close)
        return heard


class Answers(WireCase):
    def test_a_reply_counts_when_its_line_has_ended(self) -> None:
        self.assertEqual(self.hear(b"250 2.0.0 ok 17\r\n").reply(b"250"), b"250 2.0.0 ok 17")
        whole = b"250-one\r\n250 two\r\n"
        for end in range(len(whole)):
            self.assertRaises(Lost, self.hear(whole[:end]).reply, b"250")
        self.assertEqual(self.hear(whole).reply(b"250"), b"250 two")

    def test_another_code_is_a_refusal(self) -> None:
        self.assertRaises(Refused, self.hear(b"451 4.3.0 later\r\n").reply, b"250")
        self.assertRaises(Refused, self.hear(b"-ERR [SYS/TEMP] later\r\n").status)
        self.assertRaises(Refused, self.hear(b"+OKAY\r\n").status)

    def test_what_is_no_reply_is_none(self) -> None:
        for line in (b"250\xff\r\n", b"25 ok\r\n", b"2500 ok\r\n", b"\r\n"):
            self.assertRaises(Lost, self.hear(line).reply, b"250")

    def test_a_text_counts_when_its_lone_dot_has_come(self) -> None:
        whole = b"+OK\r\n..\r\n...x\r\n\r\na.\r\n.\r\n"
        for end in range(len(whole)):
            self.assertRaises(Lost, self.fetch, self.hear(whole[:end]))
        self.assertEqual(self.fetch(self.hear(whole)), b".\r\n..x\r\n\r\na.\r\n")
        self.assertEqual(self.fetch(self.hear(b"+OK\r\n.\r\n")), b"")

    def test_what_follows_a_text_is_the_next_answer(self) -> None:
        heard = self.hear(b"+OK 1\r\na\r\n.\r\n+OK 2\r\n.\r\n+OK 3\r\n")
        self.assertEqual([self.fetch(heard), self.fetch(heard), heard.status()], [b"a\r\n", b"", b"+OK 3"])

    def fetch(self, heard: Wire) -> bytes:
        heard.status()
        return heard.text()

    def test_silence_is_a_lost_connection(self) -> None:
        self.patch(wire, "PATIENCE", 0.01)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertRaises(Lost, Wire(ours).line)


class Promises(WireCase):
    """What clients write down, by what the server has said before the connection ended."""

    def setUp(self) -> None:
        self.patch(clients, "RECIPIENTS", {1: 1})
        self.patch(clients, "OCTETS", {200: 1})
        self.patch(clients, "LETTERS", (1,))
        self.patch(clients, "DELETED", 1)
        self.patch(clients, "CUT", 0)
        ports = {"smtp": 0, "submission": 0, "pop3": 0}
        alice = ["alice@localhost"]
        self.load = Load(
            "seed", ports, alice, alice, Texts(chance("promises")), 1, staying=alice, released={"old-held"}
        )

    def visit(self, client: Sender | Fetcher, said: bytes) -> Record:
        self.patch(Wire, "to", lambda port: self.hear(said))
        with contextlib.suppress(Lost, Refused):
            client.visit()
        return client.record

    def send(self, said: bytes, submitted: bool = False) -> list[Attempt]:
        self.patch(clients, "SUBMITTED", submitted)
        return self.visit(Sender("s1", self.load), said).attempts

    def test_a_letter_is_acknowledged_when_the_250_after_its_dot_was_read_to_its_end(self) -> None:
        before = b"220 hi\r\n250-hi\r\n250 PIPELINING\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n"
        asked, answered = before + b"354 go ahead\r\n", b"250 2.0.0 ok 17\r\n"
        for end in range(len(asked)):
            self.assertEqual(self.send(asked[:end]), [], end)
        for end in range(len(answered)):
            (attempt,) = self.send(asked + answered[:end])
            self.assertIsNone(attempt.answer, end)
            self.assertEqual(attempt.boxes, {ALICE})
        (attempt,) = self.send(asked + answered)
        self.assertEqual(attempt.answer, "250 2.0.0 ok 17")
        self.assertTrue(self.load.acknowledged.is_set())

    def test_a_letter_that_is_put_off_is_not_acknowledged(self) -> None:
        before = b"220 hi\r\n250 hi\r\n250 ok\r\n250 ok\r\n354 go ahead\r\n"
        (attempt,) = self.send(before + b"451 4.3.0 later\r\n")
        self.assertIsNone(attempt.answer)

    def test_after_log_in_a_copy_is_promised(self) -> None:
        said = b"220 hi\r\n250 hi\r\n235 welcome\r\n250 ok\r\n250 ok\r\n354 go ahead\r\n250 ok\r\n"
        (attempt,) = self.send(said, submitted=True)
        self.assertEqual(attempt.boxes, {ALICE, COPY})

    def test_a_letter_is_held_where_that_is_offered_to_who_has_logged_in(self) -> None:
        self.patch(clients, "HELD", 1)
        self.patch(self.load, "holds", [2])
        answers = b"250 ok\r\n250 ok\r\n354 go ahead\r\n250 ok\r\n"
        offer = b"220 hi\r\n250-hi\r\n250-PIPELINING\r\n250 FUTURERELEASE 9999 2030-01-01T00:00:00Z\r\n"
        begin = time.time()
        (attempt,) = self.send(offer + b"235 welcome\r\n" + answers, submitted=True)
        self.assertTrue(begin + 2 <= attempt.due <= time.time() + 2)
        self.assertEqual((attempt.boxes, attempt.token), ({ALICE, COPY}, "s1-1-held"))
        for said, submitted in (
            (offer + answers, False),
            (b"220 hi\r\n250-hi\r\n250 FUTURE\r\n235 welcome\r\n" + answers, True),
        ):
            (attempt,) = self.send(said, submitted=submitted)
            self.assertEqual((attempt.due, attempt.token), (0, "s1-1"))
            self.assertIsNotNone(attempt.answer)

    def test_a_letter_that_was_held_is_not_deleted_before_its_release_is_over(self) -> None:
        for token, deleted in (("new-held", ()), ("old-held", ("old-held",)), ("old", ("old",))):
            octets = TRACE + letter(token, b"text\r\n")
            said = b"+OK hi\r\n+OK\r\n+OK\r\n+OK\r\n1 uid\r\n.\r\n+OK\r\n" + octets + b".\r\n" + b"+OK\r\n" * 2
            record = self.visit(Fetcher("f1", self.load), said)
            self.assertEqual(record.deletions, [Deletion(ALICE, deleted, answered=True)])

    def test_a_deletion_is_done_when_quit_was_answered_and_in_doubt_when_it_was_sent(self) -> None:
        octets = TRACE + letter("t", b".\r\n").replace(b"\r\n.", b"\r\n..")
        listed = b"+OK hi\r\n+OK\r\n+OK\r\n+OK\r\n1 uid\r\n.\r\n"
        fetched = listed + b"+OK\r\n" + octets + b".\r\n"
        marked, answered = fetched + b"+OK deleted\r\n", b"+OK good-bye\r\n"
        for end in range(0, len(marked), 7):
            self.assertEqual(self.visit(Fetcher("f1", self.load), marked[:end]).deletions, [], end)
        for end in range(len(answered)):
            record = self.visit(Fetcher("f1", self.load), marked + answered[:end])
            self.assertEqual(record.deletions, [Deletion(ALICE, ("t",), answered=False)], end)
        record = self.visit(Fetcher("f1", self.load), marked + answered)
        self.assertEqual(record.deletions, [Deletion(ALICE, ("t",), answered=True)])
        self.assertEqual(record.sightings, [(ALICE, Found("uid", "t", whole=True))])

    def test_half_a_letter_is_seen_and_not_deleted(self) -> None:
        octets = TRACE + letter("t", b"text\r\n")[:-3] + b"\r\n"
        said = b"+OK hi\r\n+OK\r\n+OK\r\n+OK\r\n1 uid\r\n.\r\n+OK\r\n" + octets + b".\r\n+OK good-bye\r\n"
        record = self.visit(Fetcher("f1", self.load), said)
        self.assertEqual(record.sightings, [(ALICE, Found("uid", "t", whole=False))])
        self.assertEqual(record.deletions, [Deletion(ALICE, (), answered=True)])

    def test_a_listing_that_is_none_is_a_refusal(self) -> None:
        for text in (b"1\r\n", b"one uid\r\n", b"1 uid uid\r\n"):
            heard = self.hear(b"+OK\r\n" + text + b".\r\n")
            self.assertRaises(Refused, clients.unique_ids, heard)

    def test_what_ends_a_client_before_its_time_is_raised(self) -> None:
        came = Event()

        def to(port: int) -> Wire:
            came.set()
            raise ZeroDivisionError

        self.patch(Wire, "to", to)
        self.load.start()
        self.assertTrue(came.wait(60))  # or it might be told to stop before it has begun
        self.assertRaises(ZeroDivisionError, self.load.stop)


class Looking(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.maildata = Maildata(self.root)

    def put(self, path: str, octets: bytes = b"") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(octets)
        return file

    def test_every_file_in_new_and_cur_is_a_letter_of_whoever(self) -> None:
        stored = TRACE + letter("t", b"text\r\n")
        self.put("reception/alice@localhost/new/1.M2P3Q4.host,S=5,W=5", stored)
        self.put("reception/alice@localhost/cur/2.M2P3Q4.host,S=5,W=5:2,S", stored[:-1])
        self.put("envoi/alice@localhost/new/3.host", stored)
        self.put("reception/nobody/new/4.host", b"")
        (self.root / "reception" / "bob@localhost").mkdir()
        self.assertEqual(
            on_disk(self.maildata),
            {
                ALICE: [Found("1.M2P3Q4.host", "t", True), Found("2.M2P3Q4.host", "t", False)],
                BOB: [],
                COPY: [Found("3.host", "t", True)],
                Box(RECEPTION, "nobody"): [Found("4.host", None, False)],
            },
        )

    def test_a_folder_without_mail_has_none(self) -> None:
        self.assertEqual((on_disk(self.maildata), left_over(self.maildata)), ({}, []))
        self.assertEqual(waiting(self.maildata), Waiting([]))

    def test_letters_wait_in_held_as_long_as_there_are_envelopes(self) -> None:
        stored = TRACE + letter("t", b"text\r\n")
        self.put("held/letters/new/1.M2P3Q4.host,S=5,W=5", stored)
        self.put("held/letters/cur/2.M2P3Q4.host,S=5,W=5:2,S", stored[:-1])
        for path in ("new/1.M2P3Q4.host", "new/2.M2P3Q4.host", "cur/3.M2P3Q4.host"):
            self.put(f"held/envelopes/{path}", b"{}")
        found = [Found("1.M2P3Q4.host", "t", True), Found("2.M2P3Q4.host", "t", False)]
        ids = frozenset(f"{number}.M2P3Q4.host" for number in (1, 2, 3))
        self.assertEqual(waiting(self.maildata), Waiting(found, ids))
        self.assertEqual(waiting(self.maildata).tokens, {"t"})
        self.assertEqual((on_disk(self.maildata), left_over(self.maildata)), ({}, []))

    def test_what_lies_in_the_spool_and_in_any_tmp_is_left_over(self) -> None:
        self.put("reception/alice@localhost/new/letter")
        left = [self.put(f"{folder}/left") for folder in TEMPORARY]
        self.assertEqual(sorted(left_over(self.maildata)), sorted(left))

    def test_a_unique_id_is_the_name_without_sizes_and_flags(self) -> None:
        self.assertEqual({unique_id(f"1.M2P3Q4.host{end}") for end in ("", ",S=1,W=1", ":2,S")}, {"1.M2P3Q4.host"})


class Doors(SynchronousTestCase):
    """Opening every mailbox of a server that has just started."""

    ports = {"pop3": 0}

    def setUp(self) -> None:
        self.listening = time.monotonic()
        self.patch(audit, "PAUSE", 0)
        self.answers: dict[str, list[Exception | None]] = {}
        self.patch(audit, "log_in", self.log_in)

    def check(self) -> None:
        """The server runs."""

    def log_in(self, port: int, owner: str) -> Wire:
        answers = self.answers[owner]
        if (error := answers.pop(0) if len(answers) > 1 else answers[0]) is not None:
            raise error
        return wire.Wire(socket.socket())

    def openings(self, **answers: list[Exception | None]) -> Openings:
        self.answers = answers
        openings = Openings(self, answers)  # type: ignore[arg-type]
        self.addCleanup(openings.close)
        return openings

    def test_each_is_tried_until_it_opens_and_holds_no_other_up(self) -> None:
        openings = self.openings(alice=[Refused("-ERR [IN-USE]"), Lost("silence"), None], bob=[None])
        openings.try_all()
        alice, bob = openings.of["alice"], openings.of["bob"]
        self.assertEqual((alice.tries, bob.tries), (3, 1))
        assert alice.after is not None
        assert bob.after is not None
        self.assertLess(bob.after, alice.after)
        self.assertRegex(str(alice), "^opened .* at try 3, .*; before that: silence$")
        self.assertRegex(str(bob), r"^opened \d+\.\d\d s after listening, at try 1, which took \d+\.\d\d s$")

    def test_one_that_stays_shut_is_left_alone_with_its_reason(self) -> None:
        def log_in(port: int, owner: str) -> Wire:
            self.listening -= 2 * audit.GIVE_UP  # so long does it take
            return self.log_in(port, owner)

        self.patch(audit, "log_in", log_in)
        openings = self.openings(alice=[Refused("-ERR [IN-USE]")], bob=[None])
        openings.try_all()
        self.assertEqual(str(openings.of["alice"]), "not opened at try 1; before that: -ERR [IN-USE]")
        self.assertIsNotNone(openings.of["bob"].after, "he was never tried")
        self.patch(audit, "_all_letters", lambda session: [])
        self.assertEqual([box.owner for box in openings.view()], ["bob"])

    def test_a_server_that_ends_meanwhile_is_not_waited_for(self) -> None:
        def check() -> None:
            raise Down("gone")

        self.patch(self, "check", check)
        self.assertRaises(Down, self.openings(alice=[Refused("-ERR")]).try_all)

    def test_a_session_that_is_lost_leaves_its_mailbox_out_of_the_view(self) -> None:
        openings = self.openings(alice=[None], bob=[None])
        openings.try_all()

        def all_letters(session: Wire) -> list[Found]:
            if session is openings.of["alice"].wire:
                raise Lost("the connection ended")
            return [whole("t")]

        self.patch(audit, "_all_letters", all_letters)
        self.assertEqual(openings.view(), {Box(RECEPTION, "bob"): [whole("t")]})
        self.assertIsNone(openings.of["alice"].after)
        self.assertIn("the connection ended", str(openings.of["alice"]))


class Accounts(SynchronousTestCase):
    def test_who_joins_can_log_in_and_has_no_mailbox_and_who_leaves_leaves_no_mail(self) -> None:
        self.patch(scram, "ITERATIONS", 1)
        maildata = Maildata(Path(self.mktemp()))
        maildata.prepare()
        people = People(maildata)
        first = people.join(2)
        self.assertEqual(people.join(1), people.present[2:])
        self.assertEqual([*(maildata.root / "reception").iterdir()], [])
        accounts = database.Accounts(maildata.accounts)
        self.addCleanup(accounts.close)
        for account in accounts.all():
            self.assertTrue(schemes.verify(PASSWORD.encode(), account.record))
            self.assertEqual(schemes.scheme_of(account.record), "MD5-CRYPT")
            self.assertIsNotNone(account.scram)
            make_mailbox(maildata.reception(account.address))
            self.assertEqual(maildata.reception(account.address).name, str(account.address))
        last = people.present[-1]
        self.assertEqual(people.leave(2), first)
        self.assertEqual(people.present, [last])
        self.assertEqual([str(account.address) for account in accounts.all()], [last])
        self.assertEqual([path.name for path in (maildata.root / "reception").iterdir()], [last])
        self.assertEqual([*(maildata.root / "removed").iterdir()], [])

    def test_an_account_that_a_crash_has_taken_can_leave(self) -> None:
        self.patch(scram, "ITERATIONS", 1)
        maildata = Maildata(Path(self.mktemp()))
        maildata.prepare()
        people = People(maildata)
        people.join(2)
        accounts = database.Accounts(maildata.accounts)
        self.addCleanup(accounts.close)
        accounts.remove(Address.parse(people.present[0]))
        people.leave(2)
        self.assertTrue(accounts.empty())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Reports(SynchronousTestCase):
    def setUp(self) -> None:
        self.tally = Tally("kill9", 20, 19, Counter({"sent": 12345, "acknowledged": 12000}), slowest=0.126)
        self.tally.faults = [
            *(Fault(Kind.MISSING, 3, "t", f"in mailbox {number}") for number in range(5)),
            Fault(Kind.MISSING, 3, "u", "in a mailbox"),
            Fault(Kind.SHUT, 4, "alice in round 4", "shut"),
        ]

    def rows(self, text: str) -> dict[str, list[str]]:
        lines = [
            line.rsplit(maxsplit=2) if " of " not in line else line.split(maxsplit=1) for line in text.splitlines()
        ]
        return {" ".join(line[:-2]) or line[0]: line[-2:] for line in lines if line}

    def test_elsewhere_than_on_a_terminal_it_is_plain_text(self) -> None:
        file = io.StringIO()
        show([self.tally, Tally("power-posix", 7)], file)
        text = file.getvalue()
        self.assertTrue(text.isascii())
        self.assertNotIn("\x1b", text)
        rows = self.rows(text)
        self.assertEqual(rows["letters sent"], ["12345", "0"])
        self.assertEqual(rows["acknowledged and missing"], ["2", "0"])
        self.assertEqual(rows["mailboxes not open within a second"], ["1", "0"])
        self.assertEqual(rows["half letters"], ["0", "0"])
        self.assertEqual(rows["slowest last mailbox opened, s after listening"], ["0.13", "0.00"])
        self.assertIn("19 of 20", text)

    def test_on_a_terminal_what_is_wrong_is_red(self) -> None:
        names, numbers = (list(column.cells) for column in table([self.tally], plain=False).columns)
        wrong = dict(zip(names, numbers, strict=True))
        self.assertEqual(wrong["acknowledged and missing"], "[bold red]2[/]")
        self.assertEqual(wrong["half letters"], "0")
        file = Terminal()
        show([self.tally], file)
        self.assertIn("19 of 20", file.getvalue())

    def test_every_kind_of_fault_has_its_row(self) -> None:
        self.assertEqual(set(WRONG), set(Kind))


class CommandCase(SynchronousTestCase):
    def mailbe(self, *arguments: str) -> tuple[int, str, str]:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            try:
                status = cli.main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        return status, out.getvalue(), err.getvalue()


class CommandLine(CommandCase):
    def setUp(self) -> None:
        self.asked: list[tuple[Plan, dict[str, int], Path | None, float | None]] = []

        def run(plan: Plan, ways: Sequence[tuple[Way, int]], folder: Path | None, seconds: float | None) -> int:
            self.asked.append((plan, {way.name: rounds for way, rounds in ways}, folder, seconds))
            return 0

        self.patch(command, "run", run)

    def ask(self, *arguments: str) -> tuple[Plan, dict[str, int], Path | None, float | None]:
        self.assertEqual(self.mailbe(*arguments), (0, "", ""))
        return self.asked[-1]

    def test_with_nothing_said_it_kills_twenty_times_in_a_temporary_folder(self) -> None:
        plan, ways, folder, seconds = self.ask("torture")
        self.assertEqual((ways, folder, seconds, plan.senders), ({"kill9": 20}, None, None, 8))
        self.assertEqual(Path(plan.command[0]).parent, Path(sys.executable).parent)

    def test_every_seed_is_another_one_unless_it_is_given(self) -> None:
        self.assertNotEqual(self.ask("torture")[0].seed, self.ask("torture")[0].seed)
        self.assertEqual(self.ask("torture", "--seed", "17")[0].seed, 17)

    def test_each_way_to_crash_has_its_number(self) -> None:
        both = {"power-posix": 5, "power-ext4": 5}
        self.assertEqual(self.ask("torture", "--kill9", "3")[1], {"kill9": 3})
        self.assertEqual(self.ask("torture", "--power", "5")[1], both)
        self.assertEqual(self.ask("torture", "--power", "5", "--kill9", "3")[1], both | {"kill9": 3})
        self.assertEqual(self.ask("torture", "--power", "5", "--rule", "ext4")[1], {"power-ext4": 5})

    def test_the_rest_is_passed_on(self) -> None:
        plan, _, folder, seconds = self.ask("--maildata", "there", "torture", "--seconds", "1.5", "--connections", "30")
        self.assertEqual((plan.senders, folder, seconds, plan.workers), (30, Path("there"), 1.5, 1))
        self.assertEqual(self.ask("torture", "--workers", "3")[0].workers, 3)

    def test_wrong_usage_is_status_2(self) -> None:
        for arguments in (
            ["--kill9"],
            ["--kill9", "0"],
            ["--kill9", "-1"],
            ["--kill9", "many"],
            ["--kill9", "1.5"],
            ["--power", "0"],
            ["--rule", "posix"],
            ["--power", "1", "--rule", "fat"],
            ["--seconds", "0"],
            ["--seconds", "-1"],
            ["--seconds", "inf"],
            ["--seconds", "nan"],
            ["--seed", "-1"],
            ["--seed", "x"],
            ["--connections", "0"],
            ["--connections", "1000"],
            ["--workers", "0"],
        ):
            status, out, err = self.mailbe("torture", *arguments)
            self.assertEqual((status, out), (2, ""), arguments)
            self.assertIn("usage: mailbe torture", err)
        self.assertEqual(self.asked, [])

    def test_the_rules_are_those_of_the_disk(self) -> None:
        self.assertEqual(set(options.RULES), {rule.value for rule in Rule})

    def test_the_other_commands_load_none_of_it(self) -> None:
        code = "import sys, mailbe.cli; raise SystemExit(bool({'rich', 'mfusepy'} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class Victim:
    """Stands for an ordeal: a script says what comes of it."""

    all: list[Victim] = []

    def script(self) -> None:
        """Nothing is wrong."""

    def __init__(self, plan: Plan, way: Way, folder: Path, tally: Tally) -> None:
        self.way, self.folder, self.tally = way, folder, tally
        self.all.append(self)

    def run(self, deadline: float, watch: Callable[[], object]) -> None:
        self.deadline = deadline
        self.tally.rounds += 1
        self.tally.counts["acknowledged"] += 1
        self.script()
        watch()


class Outcomes(CommandCase):
    """What comes of the rounds, and what is said and kept of it."""

    def setUp(self) -> None:
        self.patch(command, "Ordeal", Victim)
        self.patch(Victim, "all", [])

    def script(self, script: Callable[[Any], object]) -> None:
        self.patch(Victim, "script", script)

    def scratch(self) -> Path:
        folder = Victim.all[0].folder.parent
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def test_where_nothing_is_lost_nothing_is_left(self) -> None:
        status, out, err = self.mailbe("torture", "--seed", "17")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("seed 17", out)
        self.assertIn("1 of 20", out)
        self.assertFalse(self.scratch().exists())

    def test_where_something_is_lost_it_is_told_and_kept(self) -> None:
        self.script(lambda victim: victim.tally.faults.append(Fault(Kind.MISSING, 1, "t", "gone is t")))
        status, out, _ = self.mailbe("torture")
        self.assertEqual(status, 1)
        self.assertIn("kill9, round 1: acknowledged and missing: gone is t", out)
        self.assertIn(str(self.scratch() / "kill9"), out)
        self.assertIn("gone is t", (self.scratch() / "faults").read_text())

    def test_where_much_is_lost_all_of_it_stands_in_a_file(self) -> None:
        faults = [Fault(Kind.MISSING, 1, f"t{number}", f"gone is t{number};") for number in range(100)]
        self.script(lambda victim: victim.tally.faults.extend(faults))
        _, out, _ = self.mailbe("torture")
        self.assertIn("and 80 more", out)
        self.assertNotIn("t99;", out)
        self.assertIn("t99;", (self.scratch() / "faults").read_text())

    def test_where_nothing_was_acknowledged_nothing_is_proved(self) -> None:
        self.script(lambda victim: victim.tally.counts.clear())
        status, _, err = self.mailbe("torture")
        self.assertEqual(status, 1)
        self.assertRegex(err, "^mailbe: no letter was acknowledged.*kill9\n$")

    def test_one_way_to_crash_that_loses_is_enough(self) -> None:
        fault = Fault(Kind.HALF, 1, "t", "half of it")

        def script(victim: Victim) -> None:
            victim.tally.faults += [fault] * (victim.way.name == "power-posix")

        self.script(script)
        status, _, _ = self.mailbe("torture", "--power", "1", "--kill9", "1")
        self.assertEqual([victim.way.name for victim in Victim.all], ["power-posix", "power-ext4", "kill9"])
        self.assertEqual(status, 1)
        self.scratch()

    def test_the_time_is_shared_by_the_ways_to_crash(self) -> None:
        self.mailbe("torture", "--power", "1", "--kill9", "1", "--seconds", "300")
        first, second, third = (victim.deadline for victim in Victim.all)
        self.assertAlmostEqual(second - first, 100)
        self.assertAlmostEqual(third - first, 200)
        self.mailbe("torture")
        self.assertEqual(Victim.all[-1].deadline, float("inf"))

    def test_ctrl_c_is_one_line_and_the_table_of_what_was_done(self) -> None:
        def script(victim: Victim) -> None:
            raise KeyboardInterrupt

        self.script(script)
        status, out, err = self.mailbe("torture")
        self.assertEqual((status, err), (1, "mailbe: broken off\n"))
        self.assertIn("1 of 20", out)
        self.assertFalse(self.scratch().exists())

    def test_a_disk_that_cannot_be_is_one_line(self) -> None:
        def script(victim: Victim) -> None:
            victim.tally.rounds = 0
            raise Unavailable("no FUSE here; do something")

        self.script(script)
        status, out, err = self.mailbe("torture", "--power", "1")
        self.assertEqual((status, err), (1, "mailbe: no FUSE here; do something\n"))
        self.assertNotIn("rounds", out)
        self.assertFalse(self.scratch().exists())

    def test_a_folder_that_is_given_is_made_and_stays(self) -> None:
        folder = Path(self.mktemp())
        for _ in range(2):
            status, _, err = self.mailbe("--maildata", str(folder), "torture")
            self.assertEqual((status, err), (0, ""))
            self.assertEqual(Victim.all[-1].folder, folder.absolute() / "kill9")
            (folder / "kill9").rmdir()

    def test_a_folder_that_is_not_empty_is_left_alone(self) -> None:
        folder = Path(self.mktemp())
        letter = folder / "reception" / "letter"
        letter.parent.mkdir(parents=True)
        letter.write_text("keep me")
        status, out, err = self.mailbe("--maildata", str(folder), "torture")
        self.assertEqual((status, out), (1, ""))
        self.assertRegex(err, rf"^mailbe: {folder}: not empty.*\n$")
        self.assertEqual([*folder.rglob("*")], [letter.parent, letter])
        self.assertEqual(Victim.all, [])

    def test_a_file_in_place_of_the_folder_is_one_line(self) -> None:
        file = Path(self.mktemp())
        file.write_text("keep me")
        status, _, err = self.mailbe("--maildata", str(file), "torture")
        self.assertEqual(status, 1)
        self.assertRegex(err, rf"^mailbe: {file}: .*\n$")
