"""What hostile clients are made of: one that pours octets into a connection, and a crowd of connections.

All that they do ends after some seconds, and tells what they got for it.
"""

from __future__ import annotations

import errno
import itertools
import re
import select
import selectors
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.end_to_end.server import IMPLICIT_TLS
from tests.end_to_end.wire import Wire

HOST = "127.0.0.1"
QUIET = 1.5  # seconds after which no more answers are expected
PIECE = 64 * 1024  # octets that are sent or read at once
AT_ONCE = 40  # connections that a patient crowd opens at a time: fewer than a backlog holds
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
CUT_OFF = select.POLLERR | select.POLLHUP | select.POLLRDHUP


@dataclass(frozen=True)
class Field:
    """Where a flood is let loose."""

    ports: dict[str, int]
    seconds: float
    """How long it may last."""


@dataclass(frozen=True)
class Outcome:
    """What a flood got."""

    story: str
    connections: int = 1
    """How many it held at most."""


def careless() -> ssl.SSLContext:
    """The settings of a client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def addresses(count: int) -> Iterator[str]:
    """So many addresses of this host, over and over; none is the witness's."""
    return itertools.cycle([f"127.{2 + number // 250}.0.{1 + number % 250}" for number in range(count)])


class Client(Wire):
    """One hostile connection. At first it says what it must as any client does, and then it pours."""

    def __init__(self, field: Field, protocol: str) -> None:
        super().__init__(field.ports[protocol], "127.0.0.2")
        self.sent = 0
        self._replies = 0
        self._tail = b""
        self._end = ""
        self._until = time.monotonic() + field.seconds
        if protocol in IMPLICIT_TLS.values():
            self.start_tls(careless())
        self.reply()

    def pour(self, chunks: Iterable[bytes], *, reads: bool = True) -> Outcome:
        """Send ``chunks`` as fast as they go, until the server has had enough, or the time is over.

        :param reads: whether what the server says is read meanwhile. If not, the server stands before a full pipe.
        """
        begin = heard = time.monotonic()
        self.socket.setblocking(False)
        poll = select.poll()
        source = filter(None, chunks)
        waiting = memoryview(next(source, b""))
        while not self._end and (now := time.monotonic()) < self._until:
            moved = 0
            if waiting:
                moved = self._send(waiting[:PIECE])
                waiting = waiting[moved:] or memoryview(next(source, b""))
            got = reads and self._read_some()
            if moved or got:
                heard = now
                continue
            if reads and not waiting and now - heard > QUIET:
                break
            wanted = (select.POLLOUT if waiting else 0) | (select.POLLIN if reads else 0)
            poll.register(self.socket, wanted | CUT_OFF)
            if any(events & CUT_OFF for _, events in poll.poll(100)) and not reads:
                self._end = "cut off"
        seconds = time.monotonic() - begin
        ended = self._end or ("open" if waiting or not reads else "answered")
        while self._end and self._read_some():  # for the last word
            pass
        self.socket.close()
        return Outcome(
            f"{ended} after {_octets(self.sent)}, {self._replies} lines of answers, {seconds:.1f} s{self._last()}"
        )

    def _send(self, octets: memoryview) -> int:
        try:
            sent = self.socket.send(octets)
        except WOULD_BLOCK:
            return 0
        except OSError:
            # What was said before is read where it can be.
            self._end = "cut off"
            return 0
        self.sent += sent
        return sent

    def _read_some(self) -> bool:
        try:
            octets = self.socket.recv(PIECE)
        except WOULD_BLOCK:
            return False
        except OSError:
            octets = b""
        if not octets:
            self._end = self._end or "closed"
            return False
        self._replies += octets.count(b"\n")
        self._tail = (self._tail + octets)[-200:]
        return True

    def _last(self) -> str:
        lines = self._tail.decode("ascii", "replace").split("\r\n")
        return f": {lines[-2][:70]}" if len(lines) > 1 else ""


@dataclass(frozen=True)
class Crowd:
    """Many connections: each says its lines when it is there, and then stays, drips, or goes and comes again."""

    protocol: str
    count: int
    """How many come in all."""
    says: bytes | Callable[[int], bytes] = b""
    """What each says at once, without waiting for answers, the same or by its number."""
    addresses: int = 1
    """From how many addresses they come."""
    at_once: int = AT_ONCE
    """How many open at one time."""
    drip: bytes = b""
    """Octets of which each sends one a second."""
    leaves_at: re.Pattern[bytes] | None = None
    """An answer at which a connection goes, for the next to come."""

    def __call__(self, where: Field) -> Outcome:
        return _Rush(self, where).run()


@dataclass(eq=False)
class _Member:
    """One connection of a crowd."""

    socket: socket.socket
    says: memoryview
    heard: bytes = b""


class _Rush:
    """One run of a crowd."""

    def __init__(self, crowd: Crowd, where: Field) -> None:
        self._crowd = crowd
        self._port = where.ports[crowd.protocol]
        self._begin = time.monotonic()
        self._until = self._begin + where.seconds
        self._next_drop = self._begin + 1
        self._sources = addresses(crowd.addresses)
        self._selector = selectors.EpollSelector()
        self._came = 0
        self._opening: set[_Member] = set()
        self._there: set[_Member] = set()
        self._ends: Counter[str] = Counter()
        self._last_words: Counter[str] = Counter()
        self._most = 0

    def run(self) -> Outcome:
        seconds = 0.0
        while time.monotonic() < self._until:
            while self._came < self._crowd.count and len(self._opening) < self._crowd.at_once and self._open():
                pass
            for key, events in self._selector.select(0.05):
                self._serve(key.data, events)
            if self._crowd.drip and time.monotonic() > self._next_drop:
                self._next_drop += 1
                for member in list(self._there):
                    self._drop(member)
            if self._came == self._crowd.count and not self._opening:
                seconds = seconds or time.monotonic() - self._begin
                if not self._there:
                    break
        told = [
            f"{self._came} came in {seconds or time.monotonic() - self._begin:.1f} s, {len(self._there)} stayed",
            *(f"{number} {end}" for end, number in self._ends.items()),
            *(f"{number} heard {words}" for words, number in self._last_words.most_common(2)),
        ]
        for member in [*self._opening, *self._there]:
            self._close(member)
        self._selector.close()
        return Outcome(", ".join(told), max(1, self._most))

    def _open(self) -> bool:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.bind((next(self._sources), 0))
            status = connection.connect_ex((HOST, self._port))
        except OSError as error:
            status = error.errno or errno.EIO
        if status not in (0, errno.EINPROGRESS):
            self._ends[errno.errorcode[status]] += 1
            connection.close()
            return False
        says = self._crowd.says
        member = _Member(connection, memoryview(says if isinstance(says, bytes) else says(self._came)))
        self._came += 1
        self._opening.add(member)
        self._most = max(self._most, len(self._opening) + len(self._there))
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, member)
        return True

    def _serve(self, member: _Member, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                if member.says:
                    member.says = member.says[member.socket.send(member.says[:PIECE]) :]
                if not member.says:
                    self._selector.modify(member.socket, selectors.EVENT_READ, member)
            if events & selectors.EVENT_READ:
                octets = member.socket.recv(PIECE)
                if not octets:
                    self._lost(member, "closed")
                    return
                self._hear(member, octets)
        except BlockingIOError:
            return
        except OSError:
            self._lost(member, "cut off")

    def _hear(self, member: _Member, octets: bytes) -> None:
        if member in self._opening:
            self._opening.discard(member)
            self._there.add(member)
        member.heard = (member.heard + octets)[-200:]
        if self._crowd.leaves_at is not None and self._crowd.leaves_at.search(member.heard):
            self._ends["left"] += 1
            self._close(member)

    def _drop(self, member: _Member) -> None:
        if not member.says:
            member.says = memoryview(self._crowd.drip)
        try:
            member.says = member.says[member.socket.send(member.says[:1]) :]
        except BlockingIOError:
            return
        except OSError:
            self._lost(member, "cut off")

    def _lost(self, member: _Member, how: str) -> None:
        self._ends[how] += 1
        last = member.heard.decode("ascii", "replace").strip().rpartition("\r\n")[2]
        self._last_words[last[:60] or "nothing"] += 1
        self._close(member)

    def _close(self, member: _Member) -> None:
        self._selector.unregister(member.socket)
        member.socket.close()
        self._opening.discard(member)
        self._there.discard(member)


def _octets(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 100_000 else f"{number} octets"
