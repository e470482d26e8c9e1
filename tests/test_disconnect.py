"""A client that goes, at whatever octet: a letter is whole in all its mailboxes or in none, nothing is deleted that
QUIT did not delete, and nothing stays behind: no file in the spool, no lock, no descriptor, no conversation.

Everything is real but the sockets. The conversations are cut behind each of their octets, but in the body of a large
letter, where one octet is like the next.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from itertools import accumulate

from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts.guard import Limits
from mailbe.durable import SMALL, lock_folder
from tests.premises import PASSWORDS, Client, Premises
from tests.storage import ALICE, BOB
from tests.strict import below_trace, pop3_status, pop3_text, smtp_codes

LOG_IN = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0" + PASSWORDS[ALICE]) + b"\r\n"
RECIPIENTS = (b"alice@localhost", b"bob@localhost", b"Postmaster", b"BOB@LocalHost")
MAILBOXES = [("reception", "alice"), ("reception", "bob"), ("reception", "postmaster"), ("envoi", "alice")]
BEGIN = [b"EHLO me\r\n", LOG_IN, b"MAIL FROM:<alice@localhost>\r\n", *(b"RCPT TO:<%b>\r\n" % to for to in RECIPIENTS)]
CODES = [250, 235, 250, 250, 250, 250, 250, 354, 250, 221]
SMALL_LETTER = b"Subject: a\r\n\r\n..first\r\n\r\n.\r\n..\r\nlast\r\n"
LARGE_LETTER = b"Subject: a\r\n\r\n" + b"".join(b".%07d and so on\r\n" % number for number in range(4000))
SLOWEST = Limits().slowest_answer_seconds
ACKNOWLEDGED = b"250 2.0.0 ok "  # and its id


def steps_of(letter: bytes) -> list[bytes]:
    """What a client says to send ``letter``, each when the one before is answered."""
    stuffed = (b"\r\n" + letter).replace(b"\r\n.", b"\r\n..")[2:]
    return [*BEGIN, b"DATA\r\n", stuffed + b".\r\n", b"QUIT\r\n"]


def cut_off(steps: list[bytes], length: int) -> Iterator[bytes]:
    """The steps that lie within the first ``length`` octets, the last of them as far as it does."""
    for end, step in zip(accumulate(map(len, steps)), steps, strict=True):
        begin = end - len(step)
        if begin < length:
            yield step[: length - begin]


class Sending(SynchronousTestCase):
    def send_and_go(self, letter: bytes, lengths: range | list[int], *, pipelined: bool, slow: bool = False) -> None:
        """Send as much of a transaction as ``lengths`` tell, each on a connection of its own that then is lost."""
        premises = Premises(self, slow=slow)
        steps = steps_of(letter)
        complete = sum(map(len, steps[:-1]))
        self.all_of_it(premises, steps)  # what is opened once and for all is open now
        held = premises.held()
        spooled = acknowledged = 0
        for length in lengths:
            client = premises.connect("submission")
            said = b""
            for step in [b"".join(steps)[:length]] if pipelined else cut_off(steps, length):
                client.send(*(step[begin : begin + 16384] for begin in range(0, len(step), 16384)))
                said += client.heard() if slow else client.hear()
            spooled += any(name.startswith("spool/") for name in premises.files())
            client.lose()
            client.hear()  # a slow disk is done only now
            boxes = [premises.letters(kind, user) for kind, user in MAILBOXES]
            whole = [[letter]] * len(MAILBOXES) if length >= complete else [[]] * len(MAILBOXES)
            self.assertEqual([[below_trace(stored) for stored in box] for box in boxes], whole, length)
            self.assertEqual(smtp_codes(said), CODES[: len(smtp_codes(said))])
            if ACKNOWLEDGED in said:
                self.assertGreaterEqual(length, complete)
                acknowledged += 1
            self.assertEqual([name for name in premises.files() if name.startswith("spool/")], [], length)
            self.assertEqual(premises.held(), held, length)
            premises.empty()
        self.assertEqual(acknowledged, 0 if slow else sum(length >= complete for length in lengths))
        self.assertEqual(spooled > 0, len(letter) > SMALL)

    def all_of_it(self, premises: Premises, steps: list[bytes]) -> None:
        client = premises.connect("submission")
        self.assertEqual(smtp_codes(client.ask(b"".join(steps))), CODES)
        client.lose()
        premises.empty()

    def every_length(self) -> range:
        return range(sum(map(len, steps_of(SMALL_LETTER))) + 1)

    def some_lengths(self) -> list[int]:
        """All but those within the body, of which there are some, more where it goes from memory into a file."""
        steps = steps_of(LARGE_LETTER)
        begin, end = sum(map(len, steps[:-2])), sum(map(len, steps[:-1]))
        within = [*range(begin + 20, end - 40, 4093), *range(begin + SMALL - 500, begin + SMALL + 10, 17)]
        return [*range(begin + 20), *sorted(within), *range(end - 40, end + len(steps[-1]) + 1)]

    def test_a_letter_sent_step_by_step_is_nowhere_before_its_end_and_then_everywhere(self) -> None:
        self.send_and_go(SMALL_LETTER, self.every_length(), pipelined=False)

    def test_so_is_one_sent_in_one_go(self) -> None:
        self.send_and_go(SMALL_LETTER, self.every_length(), pipelined=True)

    def test_so_is_one_that_is_stored_when_its_sender_has_gone(self) -> None:
        self.send_and_go(SMALL_LETTER, self.every_length(), pipelined=True, slow=True)

    def test_so_is_a_large_one(self) -> None:
        self.send_and_go(LARGE_LETTER, self.some_lengths(), pipelined=False)

    def test_so_is_a_large_one_in_one_go(self) -> None:
        self.send_and_go(LARGE_LETTER, self.some_lengths(), pipelined=True)


LETTERS = [b"Subject: %d\r\n\r\n%b\r\n" % (number, b"x" * size) for number, size in enumerate((10, 300_000, 20, 30))]
FETCH = [
    b"USER bob\r\n",
    b"PASS " + PASSWORDS[BOB] + b"\r\n",
    b"RETR 1\r\n",
    b"DELE 1\r\n",
    b"RETR 2\r\n",
    b"DELE 2\r\n",
]
FETCH += [b"STAT\r\n", b"DELE 4\r\n", b"QUIT\r\n"]
KEPT = [LETTERS[2]]


class Fetching(SynchronousTestCase):
    def setUp(self) -> None:
        self.open(slow=False)

    def open(self, *, slow: bool) -> None:
        self.premises = Premises(self, slow=slow)
        self.mailbox = self.premises.maildata.reception(BOB)
        for name in ("tmp", "new", "cur"):
            (self.mailbox / name).mkdir(parents=True)
        self.fill()
        client = self.connect()
        client.ask(b"".join(FETCH))  # what is opened once and for all is open now
        client.lose()
        self.assertEqual(self.letters(), KEPT)
        self.fill()
        self.held = self.premises.held()

    def fill(self) -> None:
        for number, letter in enumerate(LETTERS):
            (self.mailbox / "new" / f"{number}.M,S={len(letter)},W={len(letter)}").write_bytes(letter)

    def letters(self) -> list[bytes]:
        return self.premises.letters("reception", "bob")

    def connect(self) -> Client:
        return self.premises.connect("pop3")

    def assert_let_go(self, letters: list[bytes], length: object) -> None:
        """These letters are there, and nobody holds the maildrop or anything else."""
        self.assertEqual(self.letters(), letters, length)
        os.close(lock_folder(self.mailbox))
        self.assertEqual(self.premises.held(), self.held, length)

    def fetch_and_go(self, *, pipelined: bool) -> None:
        everything = sum(map(len, FETCH))
        for length in range(everything + 1):
            client = self.connect()
            for step in [b"".join(FETCH)[:length]] if pipelined else cut_off(FETCH, length):
                client.ask(step)
            client.lose()
            self.assert_let_go(KEPT if length == everything else LETTERS, length)

    def test_nothing_is_deleted_before_quit_is_said_to_its_end(self) -> None:
        self.fetch_and_go(pipelined=False)

    def test_nor_when_all_is_said_in_one_go(self) -> None:
        self.fetch_and_go(pipelined=True)

    def test_nor_when_a_large_letter_is_not_read_to_its_end(self) -> None:
        for limit in (1000, 100_000, 262_200, 300_000):
            client = self.connect()
            clog(client, limit)
            client.ask(b"".join(FETCH))
            self.assertEqual(self.premises.held(), (1, self.held[1] + 2))  # the lock, and the letter
            client.lose()
            self.assert_let_go(LETTERS, limit)

    def test_nor_is_anything_left_when_the_disk_is_slow(self) -> None:
        self.open(slow=True)
        outcomes = []
        for steps in range(8):
            client = self.connect()
            client.send(b"".join(FETCH))
            for _ in range(steps):  # log-in, the maildrop, the deletion
                self.premises.pace.go()
            client.lose()
            client.hear()
            outcomes.append(self.letters())
            self.assertIn(outcomes[-1], (LETTERS, KEPT))
            self.fill()
            self.assert_let_go(LETTERS, steps)
        self.assertEqual(outcomes, sorted(outcomes, key=len, reverse=True))
        self.assertEqual((outcomes[0], outcomes[-1]), (LETTERS, KEPT))

    def test_who_reads_on_is_told_the_rest(self) -> None:
        client = self.connect()
        clog(client, 1000)
        said = client.ask(b"".join(FETCH))
        while client.open:
            client.wire.resumeProducing()
            said += client.heard()
        for _ in ("USER", "PASS"):
            _, said = pop3_status(said)
        for letter in LETTERS[:2]:
            text, said = pop3_text(said)
            _, said = pop3_status(said)
            self.assertEqual(text, letter)
        client.lose()
        self.assert_let_go(KEPT, "all of it")


def b64(text: bytes) -> bytes:
    return base64.b64encode(text) + b"\r\n"


class LoggingIn(SynchronousTestCase):
    """With a wrong password, whose answer is delayed, and with the right one."""

    def test_nothing_is_left_of_a_log_in_that_is_broken_off(self) -> None:
        premises = Premises(self, slow=True)
        mailbox = premises.maildata.reception(BOB)
        for password in (b"wrong", PASSWORDS[BOB]):
            plain = b64(b"\0bob\0" + password)
            for port, steps in (
                ("submission", [b"EHLO me\r\n", b"AUTH LOGIN\r\n", b64(b"bob"), b64(password)]),
                ("submission", [b"EHLO me\r\n", b"AUTH PLAIN\r\n", plain]),
                ("submission", [b"EHLO me\r\n", b"AUTH SCRAM-SHA-256\r\n", b64(b"n,,n=bob,r=abc"), b64(b"c=biws")]),
                ("pop3", [b"USER bob\r\n", b"PASS " + password + b"\r\n"]),
                ("pop3", [b"AUTH PLAIN " + plain]),
            ):
                self.break_off(premises, port, steps, None)
                held = premises.held()
                for length in range(sum(map(len, steps)) + 1):
                    self.break_off(premises, port, steps, length)
                    self.assertEqual(premises.held(), held, (steps, length))
                    if mailbox.exists():
                        os.close(lock_folder(mailbox))
        self.assertTrue(mailbox.exists())

    def break_off(self, premises: Premises, port: str, steps: list[bytes], length: int | None) -> None:
        client = premises.connect(port)
        client.send(b"".join(steps)[:length])
        client.lose()
        client.hear()
        premises.reactor.advance(SLOWEST)
        client.hear()


def clog(client: Client, limit: int) -> None:
    """Have the transport ask for a pause whenever it holds more than ``limit`` octets."""
    write = client.transport.write

    def write_and_pause(octets: bytes) -> None:
        write(octets)
        if len(client.transport.value()) > limit and client.transport.producer is not None:
            client.wire.pauseProducing()

    client.transport.write = write_and_pause  # type: ignore[method-assign]
