"""How much clients may take of us: each, all of one address, and all together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from mailbe.board import Board
from mailbe.peers import household
from mailbe.session import Reply

OTHERS_CONNECTIONS = 1000  # of one address on another machine


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken of clients before they are hung up on, and of letters before they are refused."""

    connections: int = 20_000
    """Of all clients, on all ports together."""
    connections_per_address: int | None = None
    """``None``: ``OTHERS_CONNECTIONS``, and for programs on this machine as many as of all clients together."""
    errors: int = 50
    """Commands that are refused, without a letter taken or a message sent between them."""
    idle_commands: int = 1000
    """Commands without such an effect; a letter's recipients come on top of it."""
    logins: int = 10
    """Tries of one connection."""
    letter_seconds: int = 3600
    """The time from the connection, or from the letter before, until a letter has arrived."""
    recipients: int = 1000
    """Of one letter; RFC 5321 4.5.3.1.8 asks for 100."""
    size: int = 50 * 1024 * 1024
    """The largest letter, in octets."""
    memory: int = 64 * 1024
    """Octets of a letter that has not come to its end, or of replies that have not left, which one connection keeps
    in memory."""
    held: int = 1000
    """Letters of one account that are held at a time until they are to be released (RFC 4865 6)."""


class Places:
    """The places for connections, of all the listeners of a process, or of several that share a board."""

    def __init__(self, limits: Limits, descriptors: int, board: Board | None = None) -> None:
        """:param descriptors: how many files and connections each process may have open.
        :param board: where the others are that serve the same clients.
        """
        self._limits = limits
        # The rest is for mailboxes, letters and the accounts: they are of no use to clients that are turned away.
        self._here = descriptors * 3 // 4
        self.all = min(limits.connections, self._here * (board.handle.pages if board is not None else 1))
        """How many there are."""
        self._board = board
        self._taken: Counter[str] = Counter()
        self._all_taken = 0

    def take(self, peer: str, *, local: bool) -> bool:
        """Give the client at the IP address ``peer`` a place; ``False`` where there is none for it.

        :param local: whether it is on this machine.
        """
        address = household(peer)
        elsewhere = of_it_elsewhere = 0
        if self._board is not None:
            elsewhere, of_it_elsewhere = self._board.all_elsewhere(), self._board.elsewhere(address)
        if (
            self._all_taken >= self._here
            or self._all_taken + elsewhere >= self.all
            or self._taken[address] + of_it_elsewhere >= self._of_one(local=local)
        ):
            return False
        self._count(address, 1)
        return True

    def leave(self, peer: str) -> None:
        """The client that ``take`` gave a place has gone."""
        address = household(peer)
        self._count(address, -1)
        if not self._taken[address]:
            del self._taken[address]

    def _count(self, address: str, change: int) -> None:
        self._all_taken += change
        self._taken[address] += change
        if self._board is not None:
            self._board.put(address, self._taken[address], self._all_taken)

    def _of_one(self, *, local: bool) -> int:
        asked = self._limits.connections_per_address
        if asked is not None:
            return asked
        return self.all if local else OTHERS_CONNECTIONS


class Turns:
    """Who sends many commands at once waits here for his next turn, one behind the other, while others are served."""

    COMMANDS = 20  # of one conversation that are answered in one turn
    OCTETS = 1024 * 1024  # of one reply that are sent in one turn, to a client that takes them as fast
    AT_ONCE = 4  # conversations that have their turn before the reactor looks at all the others

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` when it is this one's turn."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._clock.callLater(0, self._move)

    def _move(self) -> None:
        having_it = [self._waiting.popleft() for _ in range(min(self.AT_ONCE, len(self._waiting)))]
        if self._waiting:
            self._clock.callLater(0, self._move)
        for go_on in having_it:
            go_on()


class Patience:
    """What is counted against one client until something comes of its conversation."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self.errors = 0
        """Commands that were wrong."""
        self.commands = 0
        """All of them."""
        self._since = self._clock.seconds()

    @property
    def seconds(self) -> float:
        """For how long nothing has come of it."""
        return self._clock.seconds() - self._since

    def told(self, reply: Reply) -> None:
        """The client is told ``reply``."""
        if reply.effect:
            self._begin()
        self.commands -= reply.part
        self.errors += reply.error
