"""The books: what the server promised of each letter, what was found after a crash, and where the two differ.

Nothing here knows of sockets, files or clocks. A letter is sent in *attempts*, each with a token of its own: a client
that lost the answer and sends again makes another attempt, so two copies of one attempt are always the server's doing.
For each attempt and each mailbox that it goes to there is a state, and a restart settles what was in doubt:

========  ===========================================  ===============  ===============
state     because                                      found            not found
========  ===========================================  ===============  ===============
OPEN      the attempt was not answered with 250        now PROMISED     still OPEN
PROMISED  it was                                       as it should be  lost
DOUBTFUL  QUIT would delete it, and was not answered   now PROMISED     now GONE
GONE      QUIT was answered +OK                        undone           as it should be
========  ===========================================  ===============  ===============

What was there once the server was up again has survived a crash, hence PROMISED: it may not vanish at the next one.

A letter that is to be held (RFC 4865) may lie in ``held`` instead, where its recipients' mailboxes are concerned, until
somebody asks for what is ``unreleased``; and it may not be in them before its time. The server is free to release it
while we look, so what lies in ``held`` is looked at before all else: what is not there any more is in the mailboxes.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

RECEPTION, ENVOI = "reception", "envoi"


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """One mailbox: what arrived for an account, or what it sent."""

    kind: str
    """``RECEPTION`` or ``ENVOI``."""
    owner: str
    """The account's address, which is the folder's name as well."""

    def __str__(self) -> str:
        return f"{self.kind}/{self.owner}"


@dataclass(slots=True)
class Attempt:
    """One letter that was sent once, up to its lone dot or to the end of the connection before that."""

    token: str
    boxes: frozenset[Box]
    """Where it belongs: the mailboxes of the recipients that the server took, and the sender's copy."""
    octets: int = 0
    answer: str | None = None
    """The 250 that acknowledged it, once it was read to its end."""
    due: float = 0.0
    """Seconds since 1970 before which it may not be in a recipient's mailbox; 0: it is not to be held."""


@dataclass(slots=True)
class Deletion:
    """The letters of one mailbox that a POP3 client had marked when it sent QUIT."""

    box: Box
    tokens: tuple[str, ...]
    answered: bool = False
    """Whether +OK was read."""


@dataclass(frozen=True, slots=True)
class Found:
    """A letter as it was found in a mailbox."""

    uid: str
    """Its unique-id, which is the beginning of its file's name."""
    token: str | None
    """``None`` where too little of it is there to tell."""
    whole: bool
    seen: float = field(default=0.0, compare=False)
    """When, in seconds since 1970."""


HELD = Box("held", "letters")
View = Mapping[Box, Sequence[Found]]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies in ``held``."""

    letters: Sequence[Found] = ()
    ids: frozenset[str] = frozenset()
    """The letters of which an envelope is there, by their unique-ids in mailboxes: it goes safely after the letter."""

    @property
    def tokens(self) -> set[str]:
        """Those of whole letters."""
        return {found.token for found in self.letters if found.token and found.whole}


class Kind(enum.Enum):
    """What can be wrong."""

    MISSING = "acknowledged and missing"
    TWICE = "stored twice by one acceptance"
    HALF = "half a letter"
    MISPLACED = "in a mailbox that it was not sent to"
    UNDONE = "deletion undone"
    EARLY = "released before its time"
    STRAY = "left over in spool/, tmp/ or held/"
    SHUT = "mailbox not open in time"
    DOWN = "server hung or gone"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and all that is known about it."""

    kind: Kind
    round: int
    subject: str
    """What it befell, and is counted once though it may be in many mailboxes: a letter, a deletion, a file."""
    what: str

    def __str__(self) -> str:
        return f"round {self.round}: {self.kind.value}: {self.what}"


class State(enum.Enum):
    OPEN = enum.auto()
    PROMISED = enum.auto()
    DOUBTFUL = enum.auto()
    GONE = enum.auto()


class Ledger:
    """What one server has promised, from its first letter on. Each fault is told once."""

    def __init__(self) -> None:
        self._attempts: dict[str, Attempt] = {}
        self._states: dict[Box, dict[str, State]] = {}
        self._told: set[tuple[Box, str]] = set()
        self.released: set[str] = set()
        """The tokens of letters that were held and have come, so that nothing of them is in ``held``, for good."""

    def sent(self, attempts: Iterable[Attempt]) -> None:
        """Enter what was sent, before what was seen of it and what was deleted."""
        for attempt in attempts:
            self._attempts[attempt.token] = attempt
            for box in attempt.boxes:
                state = State.OPEN if attempt.answer is None else State.PROMISED
                self._states.setdefault(box, {})[attempt.token] = state

    def deleted(self, deletions: Iterable[Deletion]) -> None:
        """Enter what was deleted, in any order."""
        for deletion in deletions:
            states = self._states.get(deletion.box, {})
            for token in deletion.tokens:
                if token in states and states[token] is not State.GONE:
                    states[token] = State.GONE if deletion.answered else State.DOUBTFUL

    def forget(self, owner: str) -> None:
        """Strike out the mailboxes of an account that was removed: nothing belongs there any more."""
        for kind in (RECEPTION, ENVOI):
            self._states.pop(Box(kind, owner), None)

    def witnessed(self, round: int, sightings: Iterable[tuple[Box, Found]]) -> list[Fault]:
        """Judge what POP3 clients were given while mail was coming in, before they deleted any of it."""
        faults: list[Fault] = []
        uids: dict[tuple[Box, str], str] = {}
        for box, found in sightings:
            if not found.whole:
                faults += self._half(round, box, found, "POP3, before the crash")
                continue
            assert found.token is not None
            state = self._states.get(box, {}).get(found.token)
            if state is None or state is State.GONE:
                kind = Kind.MISPLACED if state is None else Kind.UNDONE
                faults += self._fault(kind, round, box, found.token, "POP3 had it before the crash")
            elif self._is_early(box, found):
                faults += self._fault(Kind.EARLY, round, box, found.token, "POP3 had it before the crash")
            elif (first := uids.setdefault((box, found.token), found.uid)) != found.uid:
                seen = f"POP3 had it before the crash as {first} and {found.uid}"
                faults += self._fault(Kind.TWICE, round, box, found.token, seen)
        return faults

    def judge(self, round: int, disk: View, pop3: View, held: Waiting) -> list[Fault]:
        """Hold what was found after a restart against the books, and settle what was in doubt.

        :param disk: every letter in every mailbox; one that is not in it is empty.
        :param pop3: the same as the server tells it; mailboxes that could not be opened are not in it.
        :param held: what was in ``held`` before.
        """
        faults: list[Fault] = []
        waiting = held.tokens
        for found in held.letters:
            if not found.whole:
                faults += self._half(round, HELD, found, "the disk")
        for box in sorted({*self._states, *disk, *pop3}):
            views = {"the disk": disk.get(box, ())} | ({"POP3": pop3[box]} if box in pop3 else {})
            halves: set[str | None] = set()
            for name, view in views.items():
                for found in view:
                    if not found.whole:
                        halves.add(found.token)
                        faults += self._half(round, box, found, name)
            early = {found.token for view in views.values() for found in view if self._is_early(box, found)}
            counts = {name: Counter(found.token for found in view if found.whole) for name, view in views.items()}
            states = self._states.setdefault(box, {})
            for token in sorted({*states, *(token for count in counts.values() for token in count if token)}):
                copies = {name: count[token] for name, count in counts.items()}
                waits = token in waiting and self._due(box, token) > 0
                kind = Kind.EARLY if token in early else _verdict(states.get(token), copies, waits=waits)
                if token not in halves and kind:
                    said = ", ".join(f"{name} has {number}" for name, number in copies.items())
                    faults += self._fault(kind, round, box, token, said)
                elif token in states:
                    states[token] = _settled(states[token], there=waits or any(copies.values()))
            self.released |= {
                found.token
                for found in disk.get(box, ())
                if found.token and self._due(box, found.token) > 0 and found.uid not in held.ids
            }
        return faults

    def waiting(self, held: Waiting, owners: Iterable[str]) -> list[tuple[Box, str]]:
        """The letters in ``held`` that are for ``owners``: their mailboxes there, and their tokens."""
        boxes, tokens = [Box(RECEPTION, owner) for owner in owners], held.tokens
        return [(box, token) for box in boxes for token in sorted(tokens & self._states.get(box, {}).keys())]

    def unreleased(self, round: int, waiting: Iterable[tuple[Box, str]]) -> list[Fault]:
        """Those should have come by now."""
        return [
            fault
            for box, token in waiting
            for fault in self._fault(Kind.MISSING, round, box, token, "it is not released, and still in held/")
        ]

    def in_part(self, attempts: Iterable[Attempt], disk: View, held: Waiting) -> int:
        """How many of ``attempts`` were not acknowledged and are in some of their mailboxes only, which is no fault."""
        tokens = {box: {found.token for found in view} for box, view in disk.items()}
        waiting = held.tokens
        return sum(
            attempt.answer is None
            and 0
            < sum(
                attempt.token in tokens.get(box, ()) or (box.kind == RECEPTION and attempt.token in waiting)
                for box in attempt.boxes
            )
            < len(attempt.boxes)
            for attempt in attempts
        )

    def _due(self, box: Box, token: str | None) -> float:
        """When a letter may come to ``box``; 0: at once."""
        attempt = self._attempts.get(token or "")
        return 0.0 if attempt is None or box.kind != RECEPTION else attempt.due

    def _is_early(self, box: Box, found: Found) -> bool:
        return found.seen < self._due(box, found.token)

    def _half(self, round: int, box: Box, found: Found, where: str) -> list[Fault]:
        whose = f"of {self._history(found.token)}" if found.token else "of a letter that cannot be told"
        what = f"a part, {found.uid}, {whose}; seen through {where}"
        return self._tell(Kind.HALF, round, box, found.uid, found.token or found.uid, what)

    def _fault(self, kind: Kind, round: int, box: Box, token: str, found: str) -> list[Fault]:
        state = self._states.get(box, {}).get(token)
        subject = f"{token} in {box}" if kind is Kind.UNDONE else token
        return self._tell(kind, round, box, token, subject, f"{self._history(token)}; {_EXPECTED[state]}; {found}")

    def _tell(self, kind: Kind, round: int, box: Box, key: str, subject: str, what: str) -> list[Fault]:
        if (box, key) in self._told:
            return []
        self._told.add((box, key))
        return [Fault(kind, round, subject, f"in {box}: {what}")]

    def _history(self, token: str | None) -> str:
        attempt = self._attempts.get(token or "")
        if attempt is None:
            return f"letter {token}, which nobody sent"
        if attempt.answer is None:
            return f"letter {token}, which was not acknowledged"
        return f'letter {token}, acknowledged with "{attempt.answer}"'


_EXPECTED = {
    State.OPEN: "one copy or none may be there",
    State.PROMISED: "one copy must be there",
    State.DOUBTFUL: "one copy or none may be there",
    State.GONE: "none may be there, as QUIT was answered with +OK",
    None: "none may be there",
}


def _verdict(state: State | None, copies: Mapping[str, int], *, waits: bool) -> Kind | None:
    """What is wrong with a letter of ``state`` of which there are so many whole copies, by view; ``None``: nothing.

    :param waits: whether it is in ``held``, or was when we began to look.
    """
    if state is None:
        return Kind.MISPLACED
    if state is State.GONE and any(copies.values()):
        return Kind.UNDONE
    if max(copies.values()) > 1:
        return Kind.TWICE
    # What only one of the two knows of is lost to whoever looks at the other.
    if not waits and not all(copies.values()) and (state is State.PROMISED or any(copies.values())):
        return Kind.MISSING
    return None


def _settled(state: State, *, there: bool) -> State:
    """The table at the top of this file."""
    if there:
        return State.PROMISED
    return State.GONE if state is State.DOUBTFUL else state
