"""The program on the full screen: it holds what the screens share, hears what is said, and leaves in good order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.reactive import reactive

from mailbe.client.certificate import Certificate
from mailbe.client.dialogue import Listen, Said
from mailbe.client.errors import MailError
from mailbe.client.mail import Mail
from mailbe.client.register import Desk
from mailbe.client.screen.chrome import Talking
from mailbe.client.screen.compose import Compose
from mailbe.client.screen.help import Keys
from mailbe.client.screen.log_in import LogIn
from mailbe.client.screen.protocol import MOST_LINES, Protocol
from mailbe.client.screen.questions import NO, YES, Answer, Question
from mailbe.client.screen.theme import DAY, NIGHT
from mailbe.client.words import count

KEEP = "k"


class MailClient(App[int]):
    """Reads and writes mail. Its result is the exit status: 0, or 1 where nobody could log in."""

    TITLE = "mailbe client"
    CSS_PATH = "client.tcss"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "keys", "Keys"),
        Binding("f2", "protocol", "Protocol", tooltip="Show or hide the protocol pane"),
        Binding("f3", "zoom", "Zoom", show=False, tooltip="The pane fills the screen, or not any more"),
    ]
    shows_protocol: reactive[bool] = reactive(True)

    def __init__(
        self,
        connect: Callable[[Listen], Mail],
        desk: Desk,
        accept: Callable[[Certificate], None],
        place: str,
        name: str | None = None,
    ) -> None:
        """:param connect: makes the mail of which this program hears the dialogue.
        :param desk: where people register.
        :param accept: remembers a certificate that somebody trusts.
        :param place: which servers these are, for people.
        :param name: who wants to log in, where that is known.
        """
        super().__init__()
        self.mail = connect(self._listen)
        self.desk = desk
        self.accept = accept
        self.place = place
        self.said: deque[Said] = deque(maxlen=MOST_LINES)
        self.broken: Exception | None = None
        """What ended it that nobody expected."""
        self._who = name or ""
        self._leaving = False
        self._here: asyncio.AbstractEventLoop | None = None

    def on_mount(self) -> None:
        self._here = asyncio.get_running_loop()
        self.register_theme(NIGHT)
        self.register_theme(DAY)
        self.theme = NIGHT.name
        self.push_screen(LogIn(self._who))

    def _listen(self, said: Said) -> None:
        """Called in the thread that talks."""
        if self._here:
            with suppress(RuntimeError):  # the loop is closed
                self._here.call_soon_threadsafe(self._hear, said)

    def _hear(self, said: Said) -> None:
        self.said.append(said)
        for screen in self.screen_stack:
            for pane in screen.query(Protocol):
                pane.hear(said)

    def watch_shows_protocol(self, shows: bool) -> None:
        for screen in self.screen_stack:
            for pane in screen.query(Protocol):
                pane.display = shows

    def action_keys(self) -> None:
        self.push_screen(Keys(self.screen.active_bindings))

    def action_protocol(self) -> None:
        self.shows_protocol = not self.shows_protocol

    def action_zoom(self) -> None:
        if isinstance(self.screen, Talking):
            self.screen.zoom()

    async def action_quit(self) -> None:
        """Leave, when what would be lost has been asked about; asked a second time, leave at once."""
        if self._leaving:
            self.exit(0)
        else:
            self.run_worker(self._quit())

    async def _quit(self) -> None:
        screen = self.screen
        if not isinstance(screen, Talking):
            return  # a question stands before it
        if any(isinstance(other, Compose) and other.unsent for other in self.screen_stack):
            answers = [Answer(YES, "throw it away and leave", bad=True), Answer(NO, "stay")]
            if await self.push_screen_wait(Question("Leave?", "A letter is not sent.", answers)) == NO:
                return
        leave: Callable[[], object] = self.mail.leave
        if marked := len(self.mail.deleted):
            answers = [Answer(YES, "delete and leave", bad=True), Answer(KEEP, "keep and leave"), Answer(NO, "stay")]
            text = f"{count(marked, 'letter')} {'is' if marked == 1 else 'are'} marked for deletion."
            answer = await self.push_screen_wait(Question("Delete them now?", text, answers))
            if answer == NO:
                return
            if answer == KEEP:
                leave = self.mail.rest
        self.mail.cancel()
        for other in self.screen_stack:
            if isinstance(other, Talking):
                await other.stopped()
        screen.begin("Leaving", lambda: self._leave(screen, leave))

    async def _leave(self, screen: Talking, leave: Callable[[], object]) -> None:
        self._leaving = True
        try:
            await screen.from_server(leave)
        except MailError as error:
            answers = [Answer(YES, "leave", bad=True), Answer(NO, "stay")]
            if await self.push_screen_wait(Question("Leave all the same?", f"{error}.", answers)) == NO:
                return
        finally:
            self._leaving = False
        self.exit(0)
