"""The long run: a real server, many clients that misbehave, a witness that does not, and what is seen of it all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from mailbe.held import Held
from mailbe.maildata import Maildata
from tests.end_to_end.server import Server, eventually
from tests.end_to_end.wire import Wire
from tests.fuzz import witness
from tests.fuzz.sessions import ACCOUNTS, Session
from tests.fuzz.talk import Figures, Target
from tests.fuzz.watch import Log, Memory, descriptors
from tests.fuzz.worlds import make_accounts

AT_ONCE = 32  # sessions
HANGS = 300  # seconds after which a session is held up by something that it does not see itself
# Octets that the server may grow by when it is warm, in however long: what malloc cannot give back comes to some MiB,
# and one kept conversation of a hundred would come to more within the hour.
GROWTH = 48 * 2**20
WARM = 120  # seconds, or a quarter of a shorter run
RETURN = 90  # seconds after the last session in which all descriptors are given back
# SQLite keeps what it has closed for its next use while the file is open elsewhere: at most as many as were ever open
# at one time, one in each thread.
REUSED = 12
OLD = 20  # seconds after which letters are taken away, as another program might, so that mailboxes stay small
BETWEEN = 10  # seconds in which the witness begins with a letter
LATE = 10  # seconds after its time that a letter may still be held
TOLD_EVERY = 10  # seconds
# Accounts must stay open though passwords are guessed; answers may be late, but not by so much that nothing goes on.
OPTIONS = ("--wrong-passwords", "1000000", "--slowest-answer-seconds", "2", "--max-size", "1000000")
MIB = 2**20


class Run:
    """One run. ``failures`` say what was found, ``stories`` what was being said when the first was."""

    def __init__(
        self,
        folder: Path,
        seconds: float,
        seed: int,
        tell: Callable[[str], None],
        *,
        late: float,
        slow: bool = False,
    ) -> None:
        """:param tell: prints a line.
        :param late: the seconds that the witness's letter may take, there and back.
        :param slow: whether others use the disk as well, so that it may keep the server waiting.
        """
        self._maildata = folder / "maildata"
        self._seconds = seconds
        self._seed = seed
        self._tell = tell
        self._late = late
        self._slow = slow
        self._numbers = itertools.count()
        self._at_work: set[Session] = set()
        self._over: deque[tuple[float, Session]] = deque(maxlen=200)
        self._begin = 0.0
        self.figures = Figures()
        self.letters: list[tuple[float, str]] = []
        """The witness's: the seconds there and back, and what took longest."""
        self.failures: list[str] = []
        self.stories: list[str] = []

    def run(self) -> bool:
        """Start a server, play, stop it; whether nothing was found."""
        make_accounts(Maildata(self._maildata), {**ACCOUNTS, witness.NAME: witness.PASSWORD.encode()})
        server = Server(self._maildata, *OPTIONS).start()
        self._log = Log(self._maildata.with_name(f"{self._maildata.name}.1.stdout"), slow=self._slow)
        self._memory = Memory(server.pid)
        try:
            witness.go_first(server.pid)  # where others use this machine too, only what the server does is to count
            with witness.Witness(server.smtp, server.pop3) as watching:
                self._play(server, watching)
            self._stop(server)
        finally:
            server.kill()
        self._read_log()
        if server.stderr:
            self._fail(f"on stderr:\n{server.stderr[:5000]}")
        self._judge()
        return not self.failures

    def _play(self, server: Server, watching: witness.Witness) -> None:
        self._await_letters(watching, 3)
        base = descriptors(server.pid)
        base[str(self._maildata / "accounts.sqlite3")] += REUSED
        self.letters.clear()
        asyncio.run(self._play_sessions(Target(server.ports, server.trusting()), watching))
        end = time.monotonic() + RETURN
        while (kept := descriptors(server.pid) - base) and time.monotonic() < end:
            time.sleep(0.1)  # the witness may be there at any moment
        now = descriptors(server.pid).total()
        self._tell(f"descriptors: {base.total() - REUSED} before, {now} after")
        if kept:
            self._fail(f"descriptors are not given back: {dict(kept)}")
        self._await_letters(watching, 1)

    def _await_letters(self, watching: witness.Witness, count: int) -> None:
        """Hear the witness until it has seen so many letters, or misses one."""
        seconds = count * (self._late + BETWEEN)
        eventually(
            lambda: self._hear(watching) or len(self.letters) >= count or self.failures,
            f"the witness sees letters: {count}",
            seconds,
        )

    def _stop(self, server: Server) -> None:
        """The end, with clients who are in the middle of nothing."""
        with contextlib.ExitStack() as stack:
            for port in server.ports.values():
                stack.enter_context(Wire(port))
            begin = time.monotonic()
            try:
                server.stop()
            except AssertionError as error:
                self._fail(f"it does not stop as it should: {error}")
            self._tell(f"stopped within {time.monotonic() - begin:.1f} s")

    async def _play_sessions(self, target: Target, watching: witness.Witness) -> None:
        self._begin = time.monotonic()
        clients = [asyncio.ensure_future(self._be_client(target)) for _ in range(AT_ONCE)]
        for second in itertools.count(1):
            await asyncio.sleep(1)
            self._memory.sample(self._now)
            self._hear(watching)
            self._read_log()
            if self.failures or self._now > self._seconds:
                break
            if second % TOLD_EVERY == 0:
                self._take_away()
                self._tell(self._sums())
        for client in clients:
            if self.failures:
                client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    @property
    def _now(self) -> float:
        return time.monotonic() - self._begin

    async def _be_client(self, target: Target) -> None:
        while self._now < self._seconds and not self.failures:
            session = Session(target, self._seed, next(self._numbers), self.figures)
            self._at_work.add(session)
            try:
                await asyncio.wait_for(session.play(), HANGS)
            except Exception as error:  # what the server has broken, or ourselves
                self._fail(f"{type(error).__name__}: {error}", session)
            finally:
                self._at_work.remove(session)
                self._over.append((self._now, session))

    def _hear(self, watching: witness.Witness) -> None:
        self.letters += (letters := watching.letters())
        if any(seconds > self._late for seconds, _ in letters):
            self._remember(self._present())
        if watching.failure:
            self._fail(f"the witness misses something: {watching.failure}")

    def _read_log(self) -> None:
        if odd := self._log.odd_lines():
            self._fail("in the log:\n" + "\n".join(odd[:50]))

    def _take_away(self) -> None:
        for letter in [path for kind in ("reception", "envoi") for path in self._maildata.glob(f"{kind}/*/new/*")]:
            with contextlib.suppress(FileNotFoundError):
                if witness.NAME not in letter.parts and time.time() - letter.stat().st_mtime > OLD:
                    letter.unlink()
        self._take_held_away()

    def _take_held_away(self) -> None:
        """As the operator may; no letter may have been forgotten there."""
        held = Held(Maildata(self._maildata))
        if held.stamps() is None:
            return
        lock = held.lock(wait=True)
        try:
            letters, _ = held.scan()
            slips = {id: held.read(id) for id in letters}
            held.remove(id for id, slip in slips.items() if time.time() - slip.arrived > OLD)
        finally:
            os.close(lock)
        for id, slip in slips.items():
            if (late := time.time() - slip.release) > LATE:
                self._fail(f"{id} is still held {late:.1f} s after its time: {slip}")

    def _sums(self) -> str:
        figures, memory = self.figures, self._memory.samples
        return (
            f"{memory[-1][0]:.0f} s: {figures.sessions} sessions ({figures.in_tls} in TLS, {figures.resets} reset), "
            f"{figures.octets} octets, {figures.replies} replies, {len(figures.pairs)} pairs of verb and code, "
            f"{self._log.lines} lines of log, {memory[-1][1] / MIB:.1f} MiB"
        )

    def _judge(self) -> None:
        sizes = [size for _, size in self._memory.samples]
        warm = min(WARM, self._seconds / 4)
        growth = self._memory.growth(warm)
        hour = growth / max(1, self._memory.samples[-1][0] - warm) * 3600
        self._tell(self._sums())
        pairs = sorted(self.figures.pairs.items())
        self._tell("verbs and codes: " + ", ".join(f"{verb} {code} {count}" for (verb, code), count in pairs))
        self._tell(
            f"memory: {sizes[0] / MIB:.1f} MiB first, {sizes[-1] / MIB:.1f} last, {max(sizes) / MIB:.1f} at most; "
            f"since it was warm, after {warm:.0f} s, {growth / MIB:+.2f} MiB, which is {hour / MIB:+.1f} an hour"
        )
        if growth > GROWTH:
            self._fail(f"the server has grown by {growth / MIB:.1f} MiB, and may by {GROWTH / MIB:.0f}")
        if not self.letters:
            self._fail("the witness has seen no letter")
            return
        worst, step = max(self.letters)
        median = statistics.median(seconds for seconds, _ in self.letters)
        often = sum(seconds < 0.1 for seconds, _ in self.letters) / len(self.letters)
        self._tell(
            f"the witness's letter there and back: {median * 1000:.0f} ms (median), "
            f"{worst * 1000:.0f} ms at most (most of it for {step}), {often:.1%} of {len(self.letters)} within 100 ms"
        )
        if worst > self._late:
            self._fail(f"a letter there and back took {worst:.1f} s")

    def _fail(self, what: str, session: Session | None = None) -> None:
        """Write down what was found, and who may have brought it about."""
        self.failures.append(what)
        self._remember(self._present() if session is None else [session])

    def _present(self) -> list[Session]:
        return [*self._at_work, *(session for end, session in self._over if self._now - end < 2)]

    def _remember(self, sessions: Iterable[Session]) -> None:
        """Keep what was said when the first thing was found."""
        self.stories = self.stories or [line for session in sessions for line in (*session.story(), "")]
