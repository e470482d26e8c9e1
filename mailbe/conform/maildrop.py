"""What a POP3 check is handed: connections in the state that it asks for, and our own letters in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailbe.conform.door import Door, NoEntry
from mailbe.conform.letters import Letter
from mailbe.conform.pop3 import Capabilities, Pop3Wire
from mailbe.conform.rules import Skip, Unclear
from mailbe.conform.wire import Dialogue, Route


@dataclass(frozen=True, slots=True)
class Message:
    """One of our own letters in a session."""

    number: int
    size: int
    """What LIST says."""
    letter: Letter


class Pop3:
    """What a check is handed: connections to one listener, in the state that it asks for."""

    def __init__(
        self,
        door: Door,
        dialogue: Dialogue,
        find: Callable[[Pop3Wire], dict[str, int]],
        letters: Sequence[Letter],
        in_utf8: Letter | None,
    ) -> None:
        """:param find: in a session, the message numbers of our letters by their tokens.
        :param letters: those that are there to be looked at.
        :param in_utf8: one more, whose header is in UTF-8.
        """
        self.door = door
        self.drop = door.drop
        self.dialogue = dialogue
        self._find = find
        self._letters = letters
        self._in_utf8 = in_utf8
        self._wires: list[Pop3Wire] = []

    def connect(self, route: Route | None = None) -> Pop3Wire:
        """In AUTHORIZATION state, without TLS but where that comes first."""
        return self._kept(self.door.connect(self.dialogue, route))

    def safe(self) -> Pop3Wire:
        """In AUTHORIZATION state, where a password may be said."""
        self.door.leave()
        return self._kept(self.door.safe(self.dialogue))

    def enter(self, *, utf8: bool = False) -> Pop3Wire:
        """In TRANSACTION state, in a session of its own; for ``utf8`` see ``Door.enter``."""
        try:
            return self._kept(self.door.enter(self.dialogue, utf8=utf8))
        except NoEntry as error:
            raise Unclear(f"the log-in was answered {error}") from error

    def inside(self) -> Pop3Wire:
        """In TRANSACTION state, in a session that others use afterwards: not to be ended, not to delete in."""
        try:
            return self.door.lent(self.dialogue)
        except NoEntry as error:
            raise Unclear(f"the log-in was answered {error}") from error

    def mine(self, wire: Pop3Wire, count: int = 1) -> list[Message]:
        """Some of our own letters in this session.

        :raises Skip: there are too few.
        """
        if not self._letters:
            raise Skip("it needs a letter of our own in the maildrop, and there is no SMTP to send one")
        numbers = self._find(wire)
        sizes = dict(line.split()[:2] for line in wire.listing("LIST"))
        found = [
            Message(number, int(sizes[b"%d" % number]), letter)
            for letter in self._letters
            if (number := numbers.get(letter.token)) is not None and b"%d" % number in sizes
        ]
        if len(found) < count:
            raise Unclear(f"only {len(found)} letters of our own are in the maildrop")
        return found

    def in_utf8(self, wire: Pop3Wire) -> int:
        """The number of a letter whose header is in UTF-8.

        :raises Skip:
        """
        if self._in_utf8 is None or (number := self._find(wire).get(self._in_utf8.token)) is None:
            raise Skip("it needs a letter in UTF-8, and SMTP does not take one (SMTPUTF8)")
        return number

    def needs(self, capability: str, capabilities: Capabilities | None = None) -> list[str]:
        """The parameters of a capability.

        :raises Skip: it is not offered.
        """
        capabilities = self.drop.capabilities if capabilities is None else capabilities
        if capability not in capabilities:
            raise Skip(f"{capability} is not offered")
        return capabilities[capability]

    def close(self) -> None:
        """Leave the connections that are no session in the maildrop any more."""
        for wire in self._wires:
            wire.close()

    def _kept(self, wire: Pop3Wire) -> Pop3Wire:
        self._wires.append(wire)
        return wire
