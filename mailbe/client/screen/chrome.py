"""What all full screens have in common: the bar, the protocol pane, the line that says how it goes; and waiting.

A screen waits for one thing at a time, and its keys work meanwhile. Escape gives up what it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static
from textual.worker import Worker

from mailbe.client.errors import Cancelled, MailError, NotPrivate, NotTrusted
from mailbe.client.screen.away import away
from mailbe.client.screen.protocol import Protocol
from mailbe.client.screen.questions import YES, PlaintextQuestion, TrustQuestion
from mailbe.client.words import size

if TYPE_CHECKING:
    from mailbe.client.screen.app import MailClient

_Value = TypeVar("_Value")

TURNS_A_SECOND = 10
WHEEL = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
GAUGE = 24  # columns
LAST_WORD_SECONDS = 1


class Bar(Static):
    """The topmost line: the program, who is logged in, and how many letters there are."""

    _left = _right = ""

    def show(self, left: str, right: str = "") -> None:
        self._left, self._right = left, right
        self.on_resize()

    def on_resize(self) -> None:
        line = Text.assemble((" mailbe ", "bold reverse"), " ", self._left)
        line.append(f"{self._right:>{max(self.size.width - line.cell_len - 1, 0)}} ")
        self.update(line)


class Status(Static):
    """The line above the keys: what is waited for, how far it is, and how it ended."""

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._what = ""
        self._done = self._total = self._turn = 0

    def on_mount(self) -> None:
        self._timer = self.set_interval(1 / TURNS_A_SECOND, self._turn_wheel, pause=True)

    def begin(self, what: str) -> None:
        self._what = what
        self._done = self._total = 0
        self.remove_class("-error")
        self._turn_wheel()
        self._timer.resume()

    def progress(self, done: int, total: int) -> None:
        """So many octets of so many; may be called from any thread."""
        self._done, self._total = done, total

    def end(self) -> None:
        self._what = ""
        self._timer.pause()
        self.update("")

    def say(self, text: str, *, error: bool = False) -> None:
        """A line that stays until something else begins."""
        self.set_class(error, "-error")
        self.update(f"{'✗' if error else '✓'} {text}")

    def _turn_wheel(self) -> None:
        if not self._what:
            return  # a turn that was due before the end may come after it
        self._turn += 1
        line = Text(f"{WHEEL[self._turn % len(WHEEL)]} {self._what} … ")
        if self._total:
            full = min(GAUGE * self._done // self._total, GAUGE)
            line.append("━" * full, "bold").append("─" * (GAUGE - full), "dim")
            line.append(f" {size(min(self._done, self._total))} of {size(self._total)} ")
        line.append(" esc gives up", "dim")
        self.update(line)


class Talking(Screen[None]):
    """A screen that talks to servers. What stands between the bar and the protocol pane is its :meth:`body`."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (18, "-low"), (34, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", show=False, tooltip="Give up what is under way, or go back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._waiting: Worker[None] | None = None
        self._fetching = asyncio.Lock()

    @property
    def client(self) -> MailClient:
        return cast("MailClient", self.app)

    def compose(self) -> ComposeResult:
        yield Bar()
        with Vertical(id="body"):
            yield from self.body()
        protocol = Protocol(self.client.said)
        protocol.display = self.client.shows_protocol
        yield protocol
        yield Status()
        yield Footer(show_command_palette=False)

    def body(self) -> ComposeResult:
        raise NotImplementedError

    def on_screen_resume(self) -> None:
        for pane in self.query(Protocol):
            pane.catch_up()

    @property
    def status(self) -> Status:
        return self.query_one(Status)

    @property
    def busy(self) -> bool:
        return self._waiting is not None and not self._waiting.is_finished

    def begin(self, what: str, work: Callable[[], Awaitable[str | None]]) -> None:
        """Go about ``work``, unless something else is still under way, and tell how it ends.

        :param what: as in "Fetching a letter".
        :param work: returns what is to be told where it ends well.
        """
        if self.busy:
            self.app.bell()
            return
        self._waiting = self.run_worker(self._attend(what, work))

    async def _attend(self, what: str, work: Callable[[], Awaitable[str | None]]) -> None:
        self.status.begin(what)
        said, wrong = None, ""
        try:
            said = await work()
        except asyncio.CancelledError:
            wrong = f"{what}: broken off"
        except Cancelled as error:
            wrong = f"{what}: {error}"
        except MailError as error:
            wrong = str(error)
        except Exception as error:
            # Textual would print it with all that the functions hold, a password among it.
            self.client.broken = error
            self.app.exit(1)
        finally:
            if self.is_attached:
                self.status.end()
                if wrong:
                    self.failed(wrong)
                elif said:
                    self.status.say(said)

    def failed(self, wrong: str) -> None:
        """What was begun went wrong; ``wrong`` says how."""
        self.status.say(wrong, error=True)

    async def from_server(self, call: Callable[[], _Value]) -> _Value:
        """What ``call`` returns, which waits for a server; on the way people are asked what must be asked.

        :raises MailError:
        """
        while True:
            try:
                return await away(call)
            except NotTrusted as error:
                if await self.app.push_screen_wait(TrustQuestion(error.certificate)) != YES:
                    raise
                self.client.accept(error.certificate)
            except NotPrivate as error:
                if await self.app.push_screen_wait(PlaintextQuestion(error)) != YES:
                    raise
                self.client.mail.allow_plaintext()

    def after_typing(self, work: Callable[[], None]) -> None:
        """Go about ``work`` when the field that has the focus has taken in all that was typed before now.

        Keys with priority are seen before those that still wait in the queue of the field.
        """
        (self.focused or self).call_later(work)

    async def in_front(self) -> None:
        """Wait until no question and no list of keys stands before this screen, as another is to take its place."""
        while self.app.screen is not self:
            await asyncio.sleep(1 / TURNS_A_SECOND)

    def action_give_up(self) -> None:
        if self.busy:
            self.stop_waiting()
        else:
            self.go_back()

    def stop_waiting(self) -> None:
        """Give up what is under way. It may tell yet what has become of it, but it has not much time for that."""
        if self._waiting and self.busy:
            self.client.mail.cancel()
            self.set_timer(LAST_WORD_SECONDS, self._waiting.cancel)

    async def stopped(self) -> None:
        """Give up what is under way, and wait until it is."""
        self.stop_waiting()
        while self.busy:
            await asyncio.sleep(1 / TURNS_A_SECOND)

    def go_back(self) -> None:
        """What escape does while nothing is under way."""

    def zoom(self) -> None:
        """Let what has the focus fill the screen, or not any more."""
        if self.maximized:
            self.minimize()
        elif self.focused:
            self.maximize(self.focused)

    def go_to(self, pane: Widget) -> None:
        """Give ``pane`` the focus, and let it be seen whatever fills the screen."""
        if self.maximized is not pane:
            self.maximized = None
        pane.focus()
