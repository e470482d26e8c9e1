"""The load: clients that send, and clients that fetch and delete, until the server is gone.

Each runs in a thread of its own and writes down what it was promised: only what was read to the end of its line
counts, and whatever may have happened since counts as in doubt.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread

from mailbe.torture.ledger import ENVOI, RECEPTION, Attempt, Box, Deletion, Found
from mailbe.torture.letters import Texts, chance, examined, letter
from mailbe.torture.people import PASSWORD
from mailbe.torture.wire import PATIENCE, Lost, Refused, Wire

PAUSE = 0.02  # seconds before a client that was turned away comes again
STRANGER = "torture@example.org"
# The share of letters: their recipients (0: everybody) and octets. Some go through a file of the spool.
RECIPIENTS = {1: 60, 2: 15, 4: 15, 0: 10}
OCTETS = {200: 40, 2_000: 40, 30_000: 12, 100_000: 5, 300_000: 3}
SUBMITTED = 0.4  # share of the connections that log in, so that a copy goes to envoi/
HELD = 0.15  # share of the letters sent over these that are to be held (RFC 4865)
HOLDS = (1, 1, 2, 3)  # seconds
HELD_MARK = "-held"  # the end of their tokens
LETTERS = (1, 2, 10, 100)  # sent over one connection
FETCHED = 20  # letters at most that are fetched in one session
DELETED = 0.6  # share of what was fetched
CUT = 0.15  # share of the sessions that end without QUIT, and so delete nothing

_LISTING = re.compile(r"([0-9]{1,9} [!-~]{1,70}\r\n)*")  # RFC 1939 7, UIDL


@dataclass(slots=True)
class Record:
    """What some clients have seen of one server's life."""

    attempts: list[Attempt] = field(default_factory=list)
    sightings: list[tuple[Box, Found]] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)


class Client(Thread):
    """Comes again and again, until it is told to stop."""

    def __init__(self, name: str, load: Load) -> None:
        super().__init__(name=name, daemon=True)  # a bug here must not hold up the end of the process
        self.record = Record()
        self.error: Exception | None = None
        self._load = load
        self._choices = chance(load.seed, name)

    def run(self) -> None:
        while not self._load.stopping.is_set():
            try:
                self.visit()
            except (Lost, Refused):
                self._load.stopping.wait(PAUSE)
            except Exception as error:  # told by whoever waits for us
                self.error = error
                return

    def visit(self) -> None:
        """One connection.

        :raises Lost, Refused:
        """
        raise NotImplementedError


class Sender(Client):
    """Sends letters over SMTP."""

    def visit(self) -> None:
        choices = self._choices
        submitter = choices.choice(self._load.people) if choices.random() < SUBMITTED else None
        with Wire.to(self._load.ports["submission" if submitter else "smtp"]) as wire:
            wire.reply(b"220")
            wire.send(b"EHLO torture.example.org\r\n")
            offers = {line[4:].partition(b" ")[0] for line in wire.reply_lines(b"250")[1:]}
            if submitter:
                wire.send(b"AUTH PLAIN %s\r\n" % base64.b64encode(f"\0{submitter}\0{PASSWORD}".encode()))
                wire.reply(b"235")
            for _ in range(choices.choice(LETTERS)):
                if self._load.stopping.is_set():
                    return
                holds = self._load.holds if submitter and b"FUTURERELEASE" in offers else ()
                self._send(wire, submitter, choices.choice(holds) if holds and choices.random() < HELD else 0)
            wire.send(b"QUIT\r\n")
            wire.reply(b"221")

    def _send(self, wire: Wire, submitter: str | None, hold: int) -> None:
        """:param hold: the seconds that the letter is to be held."""
        choices, people = self._choices, self._load.staying if hold else self._load.recipients
        (number,) = choices.choices(list(RECIPIENTS), list(RECIPIENTS.values()))
        recipients = choices.sample(people, min(number or len(people), len(people)))
        (octets,) = choices.choices(list(OCTETS), list(OCTETS.values()))
        token = f"{self.name}-{len(self.record.attempts) + 1}{HELD_MARK if hold else ''}"
        content = letter(token, self._load.texts.text(choices, octets))

        mail = f"MAIL FROM:<{submitter or STRANGER}>{f' HOLDFOR={hold}' if hold else ''}"
        commands = [mail, *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
        due = time.time() + hold if hold else 0.0  # the server counts from a later moment, when it has read that
        wire.send("".join(f"{command}\r\n" for command in commands).encode())  # RFC 2920, pipelined
        wire.reply(b"250")
        for _ in recipients:
            wire.reply(b"250")
        wire.reply(b"354")
        boxes = {Box(RECEPTION, recipient) for recipient in recipients}
        if submitter:
            boxes.add(Box(ENVOI, submitter))
        attempt = Attempt(token, frozenset(boxes), len(content), due=due)
        self.record.attempts.append(attempt)
        # The first line has no dot, so each that has one follows a CRLF.
        wire.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        attempt.answer = wire.reply(b"250").decode(errors="replace")
        self._load.acknowledged.set()


class Fetcher(Client):
    """Fetches letters over POP3, and deletes some of them."""

    def visit(self) -> None:
        choices = self._choices
        box = Box(RECEPTION, choices.choice(self._load.people))
        with log_in(self._load.ports["pop3"], box.owner) as wire:
            uids = unique_ids(wire)
            tokens: list[str] = []
            for number in choices.sample(sorted(uids), min(FETCHED, len(uids))):
                if self._load.stopping.is_set():
                    return
                (found,) = retrieve(wire, {number: uids[number]})
                self.record.sightings.append((box, found))
                if found.whole and found.token and self._may_go(found.token) and choices.random() < DELETED:
                    wire.send(b"DELE %d\r\n" % number)
                    wire.status()
                    tokens.append(found.token)
            if choices.random() < CUT:
                return
            deletion = Deletion(box, tuple(tokens))
            self.record.deletions.append(deletion)
            wire.send(b"QUIT\r\n")
            wire.status()
            deletion.answered = True

    def _may_go(self, token: str) -> bool:
        """Whether a letter may be deleted: one that is deleted while it is being released may come again."""
        return not token.endswith(HELD_MARK) or token in self._load.released


class Load:
    """Clients at work on one server, all at the same time."""

    def __init__(
        self,
        seed: str,
        ports: Mapping[str, int],
        people: Sequence[str],
        recipients: Sequence[str],
        texts: Texts,
        senders: int,
        *,
        staying: Sequence[str],
        holds: Sequence[int] = HOLDS,
        released: Container[str] = (),
    ) -> None:
        """:param seed: stands in every token, so it must be another one for every load.
        :param people: who sends, and whose mail is fetched.
        :param recipients: those of them who get mail.
        :param staying: those of them who get letters that are held.
        :param holds: for how many seconds, each as often as it stands here; where it is empty, none is held.
        :param released: the tokens of letters that were held, and certainly are not any more.
        """
        self.seed = seed
        self.ports = ports
        self.people = people
        self.recipients = recipients
        self.staying = staying
        self.holds = holds
        self.released = released
        self.texts = texts
        self.stopping = Event()
        self.acknowledged = Event()
        """A first letter was acknowledged."""
        fetchers = max(1, senders // 4)
        self._clients: list[Client] = [
            *(Sender(f"{seed}-s{number}", self) for number in range(senders)),
            *(Fetcher(f"{seed}-f{number}", self) for number in range(fetchers)),
        ]

    def start(self) -> None:
        for client in self._clients:
            client.start()

    def stop(self) -> Record:
        """See all clients off, once the server is gone; returns what they have seen.

        :raises Exception: what has ended a client before its time.
        """
        self.stopping.set()
        record = Record()
        for client in self._clients:
            if client.ident is not None:
                client.join(4 * PATIENCE)
            if client.error is not None:
                raise client.error
            if client.is_alive():
                raise RuntimeError(f"the client {client.name} does not end")
            record.attempts += client.record.attempts
            record.sightings += client.record.sightings
            record.deletions += client.record.deletions
        return record


def log_in(port: int, owner: str) -> Wire:
    """A POP3 session in the mailbox of ``owner``.

    :raises Lost, Refused:
    """
    wire = Wire.to(port)
    try:
        wire.status()
        for line in (f"USER {owner}", f"PASS {PASSWORD}"):
            wire.send(f"{line}\r\n".encode())
            wire.status()
    except BaseException:
        wire.close()
        raise
    return wire


def unique_ids(wire: Wire) -> dict[int, str]:
    """The unique-ids of all messages, by number.

    :raises Lost, Refused:
    """
    wire.send(b"UIDL\r\n")
    wire.status()
    text = wire.text().decode(errors="replace")
    if not _LISTING.fullmatch(text):
        raise Refused(f"no listing of unique-ids: {text[:80]!a}")
    return {int(number): uid for number, uid in (line.split(" ") for line in text.splitlines())}


def retrieve(wire: Wire, uids: Mapping[int, str]) -> list[Found]:
    """What the messages of these numbers are, asked for in one go.

    :raises Lost, Refused:
    """
    wire.send(b"".join(b"RETR %d\r\n" % number for number in uids))
    found = []
    for uid in uids.values():
        wire.status()
        found.append(examined(uid, wire.text()))
    return found
