"""The workloads, as a table. Each measures one server, and checks that the server has done the work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.load import Done, Load
from bench.meters import proportional_octets
from bench.peers.base import PASSWORD, Peer, address
from tests.end_to_end.wire import encoded

KB4, MB, MB25 = 4096, 1_000_000, 25_000_000
SENDER = "sender"  # who logs in to send
COMES_TO_REST = 1.2  # seconds after which a folder that was filled can be remembered by its time of change
WARM_SECONDS = 0.5
SETTLES = 0.5  # seconds after which idle connections have been answered for good


@dataclass(frozen=True)
class Sample:
    """One measurement of one row."""

    value: float
    """CPU milliseconds for each unit, or KiB for each connection."""
    rate: float
    """Units a second; 0 where that is no question."""


@dataclass(frozen=True)
class Row:
    """One workload."""

    key: str
    title: str
    unit: ClassVar[str] = "CPU ms"

    @property
    def users(self) -> Sequence[str]:
        """The accounts that it needs."""
        return [self.key.lower()]

    def prepare(self, peer: Peer) -> None:
        """Before anything is measured."""

    def measure(self, peer: Peer, load: Load, seconds: float) -> Sample:
        """Take one sample, for about so many seconds."""
        raise NotImplementedError


def used(peer: Peer, before: float, done: Done) -> Sample:
    """What each unit of ``done`` has cost since the meter stood at ``before``."""
    peer.settle()
    return Sample((peer.group.cpu_seconds() - before) * 1000 / done.units, done.units / done.seconds)


@dataclass(frozen=True)
class Sending(Row):
    """Letters over SMTP."""

    octets: int
    at_once: int
    most: int
    """Letters of one sample."""
    each: int = 0
    """On each connection; 0: one connection for each client."""
    recipients: int = 1
    tls: bool = False
    already: int = 0
    """Letters that lie in each mailbox before."""
    spread: int = 0
    """Over so many accounts, in turn; 0: over as many as a letter has recipients."""

    @property
    def _names(self) -> int:
        return self.spread or self.recipients

    @property
    def users(self) -> Sequence[str]:
        return [f"{self.key.lower()}-{number}" for number in range(self._names)] + [SENDER]

    def prepare(self, peer: Peer) -> None:
        if self.already:
            for user in self.users[:-1]:
                peer.fill(user, self.already, KB4)

    def measure(self, peer: Peer, load: Load, seconds: float) -> Sample:
        options: list[str | int] = ["-o", self.octets, "-k", self.each, "-c", self.at_once, "-R", self.recipients]
        options += ["-r", address(f"{self.key.lower()}-#"), "-m", self._names]
        if self.tls:
            options += ["-t", "-a", encoded("", address(SENDER), PASSWORD), "-f", address(SENDER)]
        port = peer.ports["submission" if self.tls else "smtp"]
        load.run("smtp", port, *options, "-c", 1, "-n", 1)  # the first log-in is one that others need not repeat
        load.run("smtp", port, *options, "-n", self.most, "-s", WARM_SECONDS)
        peer.settle()
        already = self._stored(peer)
        before = peer.group.cpu_seconds()
        done = load.run("smtp", port, *options, "-n", self.most, "-s", seconds)
        sample = used(peer, before, done)
        stored, expected = self._stored(peer) - already, done.units * (1 if peer.one_mailbox else self.recipients)
        assert stored == expected, f"{peer.name}, {self.key}: {stored} letters are there, not {expected}"
        return sample

    def _stored(self, peer: Peer) -> int:
        return sum(peer.count(user) for user in (self.users[:1] if peer.one_mailbox else self.users[:-1]))


@dataclass(frozen=True)
class Polling(Row):
    """Log in, STAT, QUIT."""

    letters: int
    most: int = 2000

    def prepare(self, peer: Peer) -> None:
        peer.fill(self.users[0], self.letters, KB4)

    def measure(self, peer: Peer, load: Load, seconds: float) -> Sample:
        rest()
        options = ["-u", address(self.users[0]), "-w", PASSWORD, "-o", self.letters]
        load.run("poll", peer.ports["pop3"], *options, "-n", 2)
        load.run("poll", peer.ports["pop3"], *options, "-n", self.most, "-s", WARM_SECONDS / 2)
        before = peer.group.cpu_seconds()
        return used(peer, before, load.run("poll", peer.ports["pop3"], *options, "-n", self.most, "-s", seconds))


@dataclass(frozen=True)
class Cold(Polling):
    """The same of maildrops that the server has not seen yet, once each; what is known of the log-in is known."""

    times: int = 2

    @property
    def users(self) -> Sequence[str]:
        return [f"{self.key.lower()}-{number}" for number in range(self.times)] + [f"{self.key.lower()}-warm"]

    def prepare(self, peer: Peer) -> None:
        for user in self.users[:-1]:
            peer.fill(user, self.letters, KB4)
        peer.fill(self.users[-1], 1, KB4)

    def measure(self, peer: Peer, load: Load, seconds: float) -> Sample:
        rest()
        for user in self.users[:-1]:
            peer.warm(user)
        load.run("poll", peer.ports["pop3"], "-u", address(self.users[-1]), "-w", PASSWORD, "-o", 1, "-n", 20)
        pattern = address(f"{self.key.lower()}-#")
        before = peer.group.cpu_seconds()
        options = ["-u", pattern, "-m", self.times, "-w", PASSWORD, "-o", self.letters, "-n", self.times]
        return used(peer, before, load.run("poll", peer.ports["pop3"], *options))


EVERYWHERE = 12  # log-ins after which each of two workers has seen an account, with certainty but for one in 2,000


@dataclass(frozen=True)
class Fetching(Row):
    """Log in, RETR all letters of a maildrop, QUIT; each letter counts."""

    letters: int
    octets: int
    options: tuple[str, ...] = ()
    at_once: int = 1
    most: int = 400
    """Sessions of one sample."""

    @property
    def users(self) -> Sequence[str]:
        # Only one session at a time has a maildrop; with so many nobody comes back to one that is in use.
        return [f"{self.key.lower()}-{number}" for number in range(4 * self.at_once if self.at_once > 1 else 1)]

    def prepare(self, peer: Peer) -> None:
        for user in self.users:
            peer.fill(user, self.letters, self.octets)

    def measure(self, peer: Peer, load: Load, seconds: float) -> Sample:
        rest()
        options = ["-u", address(f"{self.key.lower()}-#"), "-m", len(self.users), "-w", PASSWORD]
        options += ["-o", self.octets, "-k", self.letters, *self.options]
        load.run("fetch", peer.ports["pop3"], *options, "-n", max(2, len(self.users)))
        if self.at_once > 1:  # each worker is to know each password
            load.run("fetch", peer.ports["pop3"], *options, "-n", EVERYWHERE * len(self.users))
        options += ["-c", self.at_once, "-n", self.most, "-s", seconds]
        before = peer.group.cpu_seconds()
        return used(peer, before, load.run("fetch", peer.ports["pop3"], *options))


@dataclass(frozen=True)
class Emptying(Row):
    """Log in, RETR and DELE all letters, QUIT; each letter counts."""

    letters: int
    octets: int
    times: int = 3

    @property
    def users(self) -> Sequence[str]:
        return [f"{self.key.lower()}-{number}" for number in range(self.times + 1)]

    def prepare(self, peer: Peer) -> None:
        for user in self.users:
            peer.fill(user, self.letters, self.octets)

    def measure(self, peer: Peer, load: Load, seconds: float) -> Sample:
        rest()
        for user in self.users[1:]:
            load.run("poll", peer.ports["pop3"], "-u", address(user), "-w", PASSWORD, "-o", self.letters, "-n", 2)
        options = ["-w", PASSWORD, "-o", self.octets, "-k", self.letters, "-i", "-d"]
        load.run("fetch", peer.ports["pop3"], "-u", address(self.users[0]), *options, "-n", 1)
        before = peer.group.cpu_seconds()
        done = [
            load.run("fetch", peer.ports["pop3"], "-u", address(user), *options, "-n", 1) for user in self.users[1:]
        ]
        total = Done(sum(run.units for run in done), sum(run.seconds for run in done))
        sample = used(peer, before, total)
        left = sum(peer.count(user) for user in self.users)
        assert not left, f"{peer.name}, {self.key}: {left} letters are still there"
        return sample


@dataclass(frozen=True)
class Idle(Row):
    """Connections that say no more; on POP3 each has logged in to an empty maildrop of its own."""

    protocol: str
    unit = "KiB"

    @property
    def users(self) -> Sequence[str]:
        names = [f"{name}{number}" for name in ("first", "idle") for number in range(Peer.idle)]
        return names if self.protocol == "pop3" else []

    def measure(self, peer: Peer, load: Load, seconds: float) -> Sample:
        number = peer.idle
        options: list[str | int] = ["-w", PASSWORD, "-m", 1_000_000] if self.protocol == "pop3" else []
        port = peer.ports[self.protocol]
        # The first fill memory that is there already, since the start.
        first = load.hold(port, *options, "-u", address("first#"), "-n", number // 2)
        time.sleep(SETTLES)
        before = proportional_octets(peer.group.pids())
        others = load.hold(port, *options, "-u", address("idle#"), "-n", number)
        time.sleep(SETTLES)
        octets = proportional_octets(peer.group.pids()) - before
        for held in (first, others):
            held.communicate()
        return Sample(octets / 1024 / number, 0)


def rest() -> None:
    """Let folders that were just filled become older than a file system's clock may err."""
    time.sleep(COMES_TO_REST)


ROWS: dict[str, Row] = {
    row.key: row
    for row in (
        Sending("S1", "4 KB, a connection each, 20 at once", KB4, 20, 3000, each=1),
        Sending("S2", "4 KB, connections reused, 20 at once", KB4, 20, 4000),
        Sending("S3", "1 MB, 8 at once", MB, 8, 300),
        Sending("S4", "25 MB, 2 at once", MB25, 2, 12),
        Sending("S5", "4 KB to 50 recipients, 8 at once", KB4, 8, 400, recipients=50),
        Sending("S6", "4 KB, STARTTLS and AUTH PLAIN, a connection each, 20 at once", KB4, 20, 1500, each=1, tls=True),
        Sending("S6R", "the same, connections reused", KB4, 20, 3000, tls=True),
        Polling("P1-10", "log in, STAT, QUIT; 10 letters in the box", 10),
        Polling("P1-1000", "the same; 1,000", 1000),
        Polling("P1-20000", "the same; 20,000", 20_000),
        Cold("P1-COLD", "the same; 20,000, nothing remembered", 20_000),
        Fetching("P2", "RETR of 1,000 letters of 4 KB, pipelined, each", 1000, KB4, ("-i",)),
        Fetching("P2-SLOW", "the same, one by one, each", 1000, KB4),
        Fetching("P2-MANY", "RETR of 200 letters of 4 KB, pipelined, 4 sessions at once, each", 200, KB4, ("-i",), 4),
        Fetching("P3", "RETR 25 MB", 1, MB25),
        Emptying("P4", "RETR and DELE of 1,000 letters of 4 KB, pipelined, QUIT; each", 1000, KB4),
        Idle("I-SMTP", "an idle connection, SMTP", "smtp"),
        Idle("I-POP3", "an idle connection, POP3, logged in", "pop3"),
    )
}
