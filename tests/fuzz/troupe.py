"""Many clients of one server in memory: how they act together, and what must be true all along and at the end."""

from __future__ import annotations

import gc
import itertools
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, eventAsText, globalLogPublisher

from tests.end_to_end.server import PROTOCOLS
from tests.fakes import FakeTls, Pace
from tests.fuzz import speech
from tests.fuzz.books import Books
from tests.fuzz.clients import Client
from tests.fuzz.ledger import Broken, Turn
from tests.fuzz.login import LogIn
from tests.fuzz.memory import Patch
from tests.fuzz.pop3_client import Pop3Client
from tests.fuzz.smtp_client import SmtpClient
from tests.fuzz.worlds import Fakes, Real, World

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"
LONGEST_DELAY = 11  # seconds: a little more than any answer is delayed by


class Troupe(RuleBasedStateMachine):
    """The clients, their server, and what is known of both; ``Machine`` has the rules by which they act.

    Who runs it gives a subclass these three.
    """

    folder: Path
    """Where worlds find the ``template`` that ``worlds.prepare`` has made, and room of their own."""
    patch: Patch
    reached: Counter[str]
    """Counts what was brought about, over many worlds."""

    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        gc.freeze()  # what is there already need not be looked through for leaks at the end
        self.world: World | None = None
        self.clients: list[Client] = []
        self.stopped: Deferred[Any] | None = None
        self.connected = 0
        """Counts the clients that ever were."""
        self._broken: list[Broken] = []
        self._maildrops: dict[str, Pop3Client] = {}
        self._conversations: list[weakref.ref[object]] = []
        self._log: list[str] = []
        self._story: list[tuple[str, bytes | str]] = []
        globalLogPublisher.addObserver(self._observe)

    def open(self, *, real: bool, classic: bool, words: Sequence[str] = ()) -> World:
        """Make the world: real storage or the fakes.

        :param words: options of the real service.
        """
        self._classic = classic
        words = [*words, *(["--classic"] if classic else [])]
        if real:
            folder = self.folder / str(next(self.numbers))
            self.world = Real(self.folder / "template", folder, words, self.patch)
        else:
            self.world = Fakes(words)
        self.books = Books(self.world, self.reached)
        return self.world

    # What clients do.

    def begin_session(self, port: str, peer: str = HERE) -> Client:
        """A new client."""
        client = self._client(port, peer)
        client.name = str(self.connected)
        self.connected += 1
        self.tell(client, f"{port} from {peer}")
        self.clients.append(client)
        self._conversations.append(client.connect())
        return client

    def pick(self, which: int, ports: Sequence[str] = PROTOCOLS) -> Client:
        """One of those that are there; where there is none, a new one."""
        self.clients = [client for client in self.clients if not client.gone]
        if some := [client for client in self.clients if client.port in ports and not client.ledger.over]:
            return some[which % len(some)]
        port = ports[which % len(ports)]
        if self.stopped is not None:
            return self._client(port, HERE)  # it finds nobody to talk to
        client = self.begin_session(port, ELSEWHERE if which == 5 else HERE)
        if client.transport.shaking_hands:
            client.shake_hands()
        return client

    def at(self, turn: Turn) -> list[Client]:
        """The clients of which the server expects this now."""
        return [client for client in self.clients if client.ledger.turn is turn and not client.gone]

    def say(self, client: Client, random: Random, octets: bytes, *, whole: bool = False) -> None:
        self.tell(client, octets)
        client.say(*([octets] if whole else speech.cut(random, octets)))

    def try_log_in(self, client: Client, random: Random, mechanism: str, *, honest: bool) -> None:
        """Log in, as far as that goes without waiting."""
        if not client.ready:
            return
        if isinstance(client, SmtpClient):
            client.say(b"EHLO me\r\n")
        name, password = random.choice(list(speech.PASSWORDS.items()))
        if not honest:
            name = random.choice([name, speech.FORGED.decode()])
            password = random.choice([b"wrong", b"wrong too", b"x" * random.randrange(1, 9)])
        self.tell(client, f"logs in by {mechanism} as {name!a} with {password!a}")
        if mechanism == "USER":
            client.say(speech.lines([b"USER " + name.encode(), b"PASS " + password]))
            return
        bindings = FakeTls().channel_binding(None) if client.transport.secure else {}
        client.log_in = LogIn(name, password, mechanism, bindings, random)
        client.say(client.log_in.command() + b"\r\n")
        while client.is_asked:
            self.answer(client)

    def answer(self, client: Client) -> None:
        """Answer a challenge as it should be."""
        line = client.answer()
        if client.log_in is not None and speech.PASSWORDS.get(client.log_in.name) == client.log_in.password:
            self.books.proofs |= dict.fromkeys(client.log_in.proofs, client.log_in.name)
            client.log_in.proofs.clear()
        self.say(client, client.random, line + b"\r\n", whole=True)

    def stop(self) -> Deferred[Any]:
        """The service winds up."""
        assert self.world is not None
        self._story.append(("", "the service stops"))
        for client in self.clients:
            client.server_stops = True
        self.stopped = self.world.stop()
        self.stopped.addErrback(lambda failure: self._broken.append(Broken(f"stopping failed: {failure.value}")))
        self.move()
        return self.stopped

    def pass_time(self, seconds: float) -> None:
        assert self.world is not None
        self._story.append(("", f"! {seconds}"))
        self.world.clock.advance(seconds)
        self.move()

    def move(self) -> None:
        """Let all go on that need not wait."""
        while any(client.move() for client in self.clients):
            pass

    def hasten(self, pace: Pace) -> None:
        """Let what is slow be slow no more, when it has done what it was asked."""
        while pace.go():
            self.move()
        pace.slow = False

    def settle(self) -> None:
        """Let storage and clients do all that they can: then everything that was said must be answered.

        :raises Broken:
        """
        for client in self.clients:
            client.transport.window = None
        self._work()
        while owing := [client for client in self.clients if client.ledger.owed and not client.gone]:
            before = self._exchanges()
            self.pass_time(LONGEST_DELAY)
            self._work()
            self.check()
            if self._exchanges() == before and any(client.ledger.owed and not client.gone for client in owing):
                raise Broken(f"no reply to {owing[0].ledger.owed[:500]!r}: {owing[0]}")

    # What must be true.

    @invariant()
    def nothing_is_lost_or_made_up(self) -> None:
        if self.world is not None:
            self.check()
            self.books.audit()

    def check(self) -> None:
        """:raises Broken: where anything was found meanwhile."""
        if self._broken:
            raise self._broken[0]
        if self._log:
            raise Broken("in the log: " + "\n".join(self._log))

    def teardown(self) -> None:
        failure = sys.exc_info()[1]
        try:
            if failure is None and self.world is not None:
                self._end(self.world)
        except Exception as error:
            failure = error
            raise
        finally:
            globalLogPublisher.removeObserver(self._observe)
            if self.world is not None:
                self.world.trouble = ""
            if failure is not None:
                failure.add_note("\n".join(self._told()))

    def _end(self, world: World) -> None:
        """All go, and nothing of them is left."""
        self.check()
        world.trouble = ""
        self.settle()
        for pace in world.paces:
            self.hasten(pace)
        self.books.settle()
        stopped = self.stop() if self.stopped is None else self.stopped
        world.clock.advance(LONGEST_DELAY)
        self.settle()
        if not stopped.called:
            raise Broken("the service does not stop")
        if left := [client for client in self.clients if not client.gone]:
            raise Broken(f"still there: {left}")
        self.books.audit()
        self.clients.clear()
        self._maildrops.clear()
        gc.collect()
        if any(conversation() is not None for conversation in self._conversations):
            raise Broken("a conversation is kept in memory")
        if remains := world.remains():
            raise Broken(f"still there: {remains}")
        self.check()

    # How.

    def tell(self, client: Client, said: bytes | str) -> None:
        """Keep what is said or done, in case that something is found."""
        self._story.append((client.name, said))

    def _told(self) -> Iterator[str]:
        """What was said, as in a dialogue's file but with the number of the client before it."""
        for name, said in self._story:
            for line in speech.written(said) if isinstance(said, bytes) else [f"# {said}"]:
                yield f"{name} {line}"

    def _client(self, port: str, peer: str) -> Client:
        given = (self.world, self.books, port, peer, self._broken)
        if port.startswith("pop3"):
            return Pop3Client(*given, maildrops=self._maildrops)
        return SmtpClient(*given, classic=self._classic)

    def _exchanges(self) -> int:
        return sum(client.exchanges for client in self.clients)

    def _work(self) -> None:
        assert self.world is not None
        moved = True
        while moved:
            self.world.clock.advance(0)
            self.move()
            moved = any(pace.go() for pace in self.world.paces)
        for client in self.clients:
            if client.ended and not client.gone:
                client.shut()
        self.move()

    def _observe(self, event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if "log_failure" in event:
            self._log.append(text)
        # Letters that arrive together share an event, with a line for each.
        lines = text.split("\n") if event["log_namespace"] == "mailbe.journal" else [text]
        if not all(line.isascii() and line.isprintable() and line for line in lines):
            self._log.append(f"not printable lines: {text!r}")
        if any(password.decode() in text for password in speech.PASSWORDS.values()):
            self._log.append(f"a password: {text!r}")
