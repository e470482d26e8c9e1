"""A maildrop that is open, over one POP3 session, whose letters are known by their unique-ids."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from mailbe.client import reading
from mailbe.client.errors import Gone, Refused, TryLater
from mailbe.client.pop3 import Pop3
from mailbe.client.reading import Heading
from mailbe.client.wire import Progress

_UNKNOWN = Heading("", "", "(the server does not show it)", None)


class Folder(enum.Enum):
    """Which maildrop."""

    INBOX = "inbox"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter that lies on the server."""

    folder: Folder
    uid: str
    """Its unique-id (RFC 1939 7)."""
    octets: int


class Maildrop:
    """One of somebody who is logged in. Its calls raise what those of ``Mail`` do."""

    def __init__(self, folder: Folder, pop3: Pop3) -> None:
        self._folder, self._pop3 = folder, pop3
        self._listed: dict[str, tuple[int, int]] | None = None  # number and size by unique-id, the oldest first
        self.wire = pop3.wire

    @property
    def was_listed(self) -> bool:
        """Whether its letters are known: those that come now are not shown in this session."""
        return self._listed is not None

    def letters(self) -> list[Letter]:
        """All letters, the oldest first."""
        return [Letter(self._folder, uid, octets) for uid, (_, octets) in self._list().items()]

    def headings(self, letters: Iterable[Letter]) -> dict[Letter, Heading]:
        """What a list shows of each of them that is still there."""
        listed = self._list()
        by_number = {listed[letter.uid][0]: letter for letter in letters if letter.uid in listed}
        return {
            by_number[number]: _UNKNOWN if header is None else reading.heading(header)
            for number, header in self._pop3.tops(list(by_number))
        }

    def fetch(self, letter: Letter, progress: Progress | None) -> bytes:
        """:raises Gone:"""
        if letter.uid not in (listed := self._list()):
            raise Gone("this letter is not on the server any more")
        number, octets = listed[letter.uid]
        return self._pop3.retr(number, octets, progress)

    def delete(self, letters: Iterable[Letter]) -> int:
        """Delete those that are still there, and close the maildrop; returns how many they were.

        :raises Refused: not all could be deleted.
        """
        listed = self._list()
        numbers = sorted(listed[letter.uid][0] for letter in letters if letter.uid in listed)
        marked = self._pop3.dele(numbers)
        try:
            self.quit()
        except (Refused, TryLater) as error:
            raise Refused(f"not all letters could be deleted: {error}") from error
        if marked < len(numbers):
            raise Refused(f"{len(numbers) - marked} of {len(numbers)} letters could not be deleted")
        return marked

    def quit(self) -> None:
        """Close it."""
        self._pop3.quit()

    def _list(self) -> dict[str, tuple[int, int]]:
        if self._listed is None:
            self._listed = {uid: (number, octets) for number, uid, octets in self._pop3.letters()}
        return self._listed
