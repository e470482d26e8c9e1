"""Looking at a server that was started again: what it tells through POP3, and what lies in its folder."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailbe.maildata import Maildata
from mailbe.torture.clients import PAUSE, log_in, retrieve, unique_ids
from mailbe.torture.ledger import ENVOI, RECEPTION, Box, Found, View, Waiting
from mailbe.torture.letters import examined
from mailbe.torture.server import Server
from mailbe.torture.wire import Lost, Refused, Wire

GIVE_UP = 15.0  # seconds after which a mailbox that stays shut is left alone
AT_ONCE = 50  # messages that are asked for in one go


@dataclass(slots=True)
class Opening:
    """How one mailbox was opened, or was not."""

    wire: Wire | None = None
    """The session in it."""
    after: float | None = None
    """Seconds from the server's listening to the answer that let us in."""
    tries: int = 0
    took: float = 0.0
    """Seconds of the last try."""
    refusal: str = ""
    """The last one."""

    def __str__(self) -> str:
        before = f"; before that: {self.refusal}" if self.refusal else ""
        if self.after is None:
            return f"not opened at try {self.tries}{before}"
        return f"opened {self.after:.2f} s after listening, at try {self.tries}, which took {self.took:.2f} s{before}"


class Openings:
    """A POP3 session in every mailbox, as soon as the server lets us in."""

    def __init__(self, server: Server, owners: Iterable[str]) -> None:
        self._server = server
        self.of = {owner: Opening() for owner in owners}

    def try_all(self) -> None:
        """Open them all, each as often as it takes, for some time.

        :raises Down:
        """
        while waiting := [owner for owner, opening in self.of.items() if opening.wire is None]:
            for owner in waiting:
                self._server.check()
                opening = self.of[owner]
                if opening.tries and time.monotonic() - self._server.listening > GIVE_UP:
                    return
                self._try(owner, opening)
            time.sleep(PAUSE)

    def _try(self, owner: str, opening: Opening) -> None:
        begun = time.monotonic()
        opening.tries += 1
        try:
            opening.wire = log_in(self._server.ports["pop3"], owner)
            opening.after = time.monotonic() - self._server.listening
        except (Lost, Refused) as error:
            opening.refusal = str(error)
        opening.took = time.monotonic() - begun

    def view(self) -> View:
        """All letters in the mailboxes that are open; but for one whose session is lost on the way."""
        seen: dict[Box, list[Found]] = {}
        for owner, opening in self.of.items():
            try:
                if opening.wire is not None:
                    seen[Box(RECEPTION, owner)] = _all_letters(opening.wire)
            except (Lost, Refused) as error:
                opening.after, opening.refusal = None, f"opened, and then: {error}"
        return seen

    def close(self) -> None:
        for opening in self.of.values():
            if opening.wire is not None:
                opening.wire.close()


def _all_letters(wire: Wire) -> list[Found]:
    uids = unique_ids(wire)
    numbers = sorted(uids)
    found: list[Found] = []
    for begin in range(0, len(numbers), AT_ONCE):
        found += retrieve(wire, {number: uids[number] for number in numbers[begin : begin + AT_ONCE]})
    wire.send(b"QUIT\r\n")
    wire.status()
    return found


def on_disk(maildata: Maildata) -> View:
    """All letters in all mailboxes of the folder, whoever they belong to."""
    seen: dict[Box, list[Found]] = {}
    for kind in (RECEPTION, ENVOI):
        for mailbox in _inside(maildata.root / kind):
            files = [*_inside(mailbox / "new"), *_inside(mailbox / "cur")]
            seen[Box(kind, mailbox.name)] = [examined(unique_id(path.name), path.read_bytes()) for path in files]
    return seen


def waiting(maildata: Maildata) -> Waiting:
    """What is held for its time; the server may be releasing some of it meanwhile."""
    letters = []
    for path in (path for name in ("new", "cur") for path in _inside(maildata.held_letters / name)):
        with suppress(FileNotFoundError):
            letters.append(examined(unique_id(path.name), path.read_bytes()))
    ids = {path.name for name in ("new", "cur") for path in _inside(maildata.held_envelopes / name)}
    return Waiting(letters, frozenset(ids))


def left_over(maildata: Maildata) -> list[Path]:
    """What lies in the spool, or in any ``tmp``, while no letter is on its way."""
    mailboxes = [mailbox for kind in (RECEPTION, ENVOI, "held") for mailbox in _inside(maildata.root / kind)]
    return [path for folder in (maildata.spool, *(box / "tmp" for box in mailboxes)) for path in _inside(folder)]


def unique_id(name: str) -> str:
    """What mailbe makes a message's unique-id of: the name of its file up to its sizes and flags."""
    return name.partition(":")[0].partition(",")[0]


def _inside(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()
