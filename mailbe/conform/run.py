"""The run: every check on every listener that it is for, the letters fetched at once, and all of them deleted."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mailbe.conform import copies
from mailbe.conform.checks import TABLE
from mailbe.conform.door import Door, Drop, NoEntry
from mailbe.conform.find import Found, Request, survey, survey_drop
from mailbe.conform.letters import Letter, Post, Stored
from mailbe.conform.mailbox import Mailbox
from mailbe.conform.maildrop import Pop3
from mailbe.conform.rules import MAY, Awaited, Differs, Family, Level, Rule, Skip, Steps, Unclear, Verdict
from mailbe.conform.sender import Site, Smtp
from mailbe.conform.wire import Dialogue, Lost

ARRIVAL = 60.0  # seconds in which a letter to ourselves should have come
LAST_ARRIVAL = 20.0  # seconds in which those that are not looked for any more are waited for, to delete them
_UNREADABLE = (Lost, Unclear, NoEntry, ValueError)
"""What stands in the way of reading a maildrop."""
_Value = TypeVar("_Value")
SPECIMENS = (
    b"Short.\r\n",
    b".\r\n..\r\n.x\r\n\r\n .\r\nend .\r\n",
    b"".join(b"line %d\r\n" % number for number in range(1, 41)),
    b"x" * 998 + b"\r\n",
    b"To be deleted.\r\n",
    b"To be deleted, too.\r\n",
    b"And this.\r\n",
)


@dataclass(slots=True)
class Result:
    """What came of one check on one listener."""

    rule: Rule
    listener: str
    verdict: Verdict = Verdict.UNCLEAR
    reason: str = "it was broken off"
    """Why it was skipped, or is unclear."""
    sent: str = ""
    got: str = ""
    wanted: str = ""
    dialogue: Dialogue = field(default_factory=Dialogue)

    @property
    def fails(self) -> bool:
        """Whether a MUST is broken."""
        return self.verdict is Verdict.FAILED and self.rule.level is Level.MUST


class LeftBehind(Exception):
    """Letters of ours could not be deleted; the message says how to find them."""


class Run:
    """One run, on the listeners that were found."""

    def __init__(
        self, request: Request, found: Found, progress: Callable[[int, int], None], rules: Sequence[Rule] | None = None
    ) -> None:
        """:param progress: told how many checks are done, and of how many."""
        self._rules = TABLE if rules is None else rules
        self._request = request
        self._found = found
        self._progress = progress
        self.results: list[Result] = []
        self._door = Door(found.drop, request.login) if found.drop else None
        self._post = Post(request.address, "" if found.drop else "without POP3 the letter could not be deleted again")
        self._mailbox = Mailbox(self._door, self._post.run) if self._door else None
        self._copies: Mailbox | None = None
        """Of what we have sent, where the server keeps them."""
        self._waiting: list[tuple[Result, Steps, Awaited, Smtp]] = []
        self._specimens: list[Letter] = []
        self._in_utf8: Letter | None = None

    def prepare(self) -> None:
        """Log in everywhere, and learn what is offered.

        :raises Unreachable:
        """
        request = self._request
        for site in [*self._found.sites, *self._found.sites_in_tls]:
            survey(site, self._post, request.login, plaintext=request.plaintext)
        if self._door and self._mailbox:
            survey_drop(self._door, plaintext=request.plaintext)
            if login := copies.of(request.login, self._door.drop.capabilities):
                self._copies = Mailbox(self._door.to(login), self._post.run)
            try:
                self._mailbox.begin()
            except _UNREADABLE as error:
                self._post.why_not = f"without UIDL the letter could not be found and deleted again ({error})"
            try:
                if self._copies:
                    self._copies.begin()
            except _UNREADABLE as error:
                self._post.why_not = f"the copy that the server keeps of it could not be deleted again ({error})"

    def go(self) -> None:
        """Make all checks. Whatever happens, our letters are deleted at the end.

        :raises LeftBehind:
        """
        found = self._found
        in_tls = [*found.sites_in_tls, *(site for site in found.sites if site.route.implicit)]
        sending = [*self._jobs(Family.SMTP, found.sites), *self._jobs(Family.SMTP_TLS, in_tls)]
        drops = [found.drop] if found.drop else []
        drops_in_tls = [found.drop_in_tls] if found.drop_in_tls else []
        fetching = [*self._jobs(Family.POP3, drops), *self._jobs(Family.POP3_TLS, drops_in_tls)]
        try:
            # The letters that SMTP leaves are what POP3 is tried on.
            self._send_specimens()
            for done, (rule, listener) in enumerate(sending):
                self._progress(done, len(sending) + len(fetching))
                self._make(rule, listener)
            self._receive()
            for done, (rule, listener) in enumerate(fetching, len(sending)):
                self._progress(done, len(sending) + len(fetching))
                self._make(rule, listener)
        finally:
            with _undisturbed():
                self._clean()

    def _jobs(self, family: Family, listeners: Sequence[Site | Drop]) -> list[tuple[Rule, Site | Drop]]:
        return [(rule, listener) for listener in listeners for rule in self._rules if rule.family is family]

    def _send_specimens(self) -> None:
        self._specimens = [letter for body in SPECIMENS if (letter := self._sent(body)) is not None]
        self._in_utf8 = self._sent(b"In UTF-8.\r\n", "X-Conform: grüße\r\n".encode(), "SMTPUTF8")

    def _sent(self, body: bytes, fields: bytes = b"", extension: str = "") -> Letter | None:
        """A letter, where some listener takes it; with the parameter of an extension, where one offers that."""
        for site in self._found.sites:
            at = Smtp(site, self._post, self._request.login, Dialogue())
            try:
                if extension:
                    at.needs(extension)
                letter = at.letter(body, fields)
                at.send(letter, extension)
            except (Lost, Unclear, Skip):
                continue
            else:
                return letter
            finally:
                at.close()
        return None

    def _make(self, rule: Rule, listener: Site | Drop) -> None:
        result = Result(rule, listener.name)
        self.results.append(result)
        if isinstance(listener, Site):
            smtp = Smtp(listener, self._post, self._request.login, result.dialogue)
            steps = self._judge(result, lambda: self._begin(rule, smtp))
            if steps is not None:
                awaited = self._judge(result, lambda: next(steps))
                if awaited is not None:
                    self._waiting.append((result, steps, awaited, smtp))
            smtp.close()
            return
        assert self._door is not None
        assert self._mailbox is not None
        door = self._door if listener is self._door.drop else self._door.beside(listener)
        pop3 = Pop3(door, result.dialogue, self._mailbox.find, self._specimens, self._in_utf8)
        self._judge(result, lambda: self._begin(rule, pop3))
        pop3.close()
        if result.verdict is not Verdict.PASSED:
            # Nobody knows what it is in the middle of.
            door.forget()

    def _begin(self, rule: Rule, at: Smtp | Pop3) -> Steps | None:
        if rule.offers:
            at.needs(rule.offers)
        return rule.check(at)

    def _receive(self) -> None:
        """Hand each check the letters that it waits for."""
        waiting, self._waiting = self._waiting, []
        stored: dict[str, list[Stored]] = {}
        why = "there is no POP3"
        if self._mailbox:
            specimens = [*self._specimens, *([self._in_utf8] if self._in_utf8 else [])]
            awaited = [entry[2] for entry in waiting] + [Awaited(letter.token) for letter in specimens]
            try:
                stored = self._mailbox.gather(awaited, ARRIVAL)
            except _UNREADABLE as error:
                why = str(error)
        for result, steps, one, _ in waiting:
            if one.token not in stored:
                result.verdict, result.reason = Verdict.UNCLEAR, f"the maildrop could not be read: {why}"
            elif len(stored[one.token]) < one.count:
                result.verdict = Verdict.UNCLEAR
                come = len(stored[one.token])
                result.reason = f"after {ARRIVAL:g} s {come} of {one.count} letters were in the maildrop"
            else:
                self._judge(result, lambda steps=steps, those=stored[one.token]: steps.send(those))  # type: ignore[misc]

    def _judge(self, result: Result, make: Callable[[], _Value]) -> _Value | None:
        """Take the next step of a check. Where it was the last one, the rule is kept."""
        value: _Value | None = None
        try:
            if (value := make()) is None:
                result.verdict, result.reason = Verdict.PASSED, ""
        except StopIteration:
            result.verdict, result.reason = Verdict.PASSED, ""
        except Differs as error:
            result.verdict, result.reason = Verdict.ABSENT if result.rule.level is MAY else Verdict.FAILED, ""
            result.sent, result.got, result.wanted = error.sent, error.got, error.wanted
        except Skip as error:
            result.verdict, result.reason = Verdict.SKIPPED, str(error)
        except (Lost, Unclear) as error:
            result.verdict, result.reason = Verdict.UNCLEAR, str(error)
        except (ValueError, KeyError, IndexError) as error:
            # What we read is not of the form that its own rule judges.
            result.verdict, result.reason = Verdict.UNCLEAR, f"an answer that cannot be read: {error!r}"
        return value

    def _clean(self) -> None:
        if not (self._mailbox and self._post.given):
            return
        sign = f"with {self._post.run} in them"
        late = left = 0
        why = ""
        try:
            # One may have been on its way when we were broken off. Whether it comes, nobody knows.
            expected = dict.fromkeys(self._post.unanswered, 1) | self._post.accepted
            come = self._mailbox.gather(itertools.starmap(Awaited, expected.items()), LAST_ARRIVAL)
            late = sum(max(0, count - len(come[token])) for token, count in self._post.accepted.items())
        except _UNREADABLE as error:
            why = str(error)
        for mailbox in filter(None, (self._mailbox, self._copies)):
            try:
                left += mailbox.clean()
            except _UNREADABLE as error:
                why = str(error)
        if why:
            raise LeftBehind(f"letters of this run may be left, {sign}: {why}")
        if left or late:
            raise LeftBehind(f"{left} letters of this run are left, and {late} have not come yet, {sign}")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Within this no signal from a terminal ends us; it does not take long."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def failed(results: Sequence[Result], level: Level) -> list[Result]:
    """Those that break a rule of this level."""
    return [result for result in results if result.verdict is Verdict.FAILED and result.rule.level is level]
