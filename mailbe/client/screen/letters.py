"""The main screen: the letters of a folder, the one that is read, and the protocol pane below."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.worker import Worker

from mailbe.client import drafts
from mailbe.client.drafts import Draft
from mailbe.client.errors import MailError
from mailbe.client.maildrop import Folder, Letter
from mailbe.client.reading import Attachment, Reading, read, save
from mailbe.client.screen.away import away
from mailbe.client.screen.chrome import Bar, Talking
from mailbe.client.screen.compose import Compose
from mailbe.client.screen.files import ChooseFolder
from mailbe.client.screen.letter_list import LetterList
from mailbe.client.screen.reader import Reader
from mailbe.client.words import count

_Value = TypeVar("_Value")

FOLDERS = {Folder.INBOX: "Inbox", Folder.SENT: "Sent"}
IDLE_SECONDS = 240  # RFC 1939 3: a server may hang up after 10 minutes of silence; and others want the maildrop too
LOOK_SECONDS = 10


class Letters(Talking):
    """What one can do with letters."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compose", "Compose"),
        Binding("r", "reply(False)", "Reply"),
        Binding("a", "reply(True)", "Reply to all", show=False),
        Binding("f", "forward", "Forward", show=False),
        Binding("d", "delete", "Delete", tooltip="Mark the letter; it is deleted when you leave"),
        Binding("u", "undelete", "Undelete", show=False, tooltip="Take the mark away"),
        Binding("v", "save", "Save files", show=False),
        Binding("s", "folder", "Sent", tooltip="Go to the sent letters, and back"),
        Binding("g", "get", "Get", show=False, tooltip="Ask for new letters"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, letters: Sequence[Letter]) -> None:
        """:param letters: those of the inbox."""
        super().__init__()
        self._folder = Folder.INBOX
        self._first = letters
        self._open: tuple[Letter, Reading] | None = None
        self._loader: Worker[None] | None = None
        self._used = time.monotonic()

    def body(self) -> ComposeResult:
        with Container(id="desk"):
            yield LetterList(self.client.mail.is_deleted)
            yield Reader()

    @property
    def listing(self) -> LetterList:
        return self.query_one(LetterList)

    @property
    def reader(self) -> Reader:
        return self.query_one(Reader)

    @property
    def _chosen(self) -> Letter | None:
        """What a key is about: the letter under the cursor, or the one that is open while somebody is in that."""
        return self._open[0] if self._open and self.reader.has_focus else self.listing.chosen

    def on_mount(self) -> None:
        self._show(Folder.INBOX, self._first)
        self.listing.focus()
        self.set_interval(LOOK_SECONDS, self._rest_when_idle)

    def _show(self, folder: Folder, letters: Sequence[Letter]) -> None:
        self._folder = folder
        self.listing.border_title = FOLDERS[folder]
        self.listing.show(letters)
        self._tell()

    def _tell(self) -> None:
        marked = len(self.client.mail.deleted)
        letters = count(len(self.listing.letters), "letter") + (f", {marked} marked for deletion" if marked else "")
        self.query_one(Bar).show(f"{self.client.mail.address}  {FOLDERS[self._folder]}", letters)

    async def from_maildrop(self, call: Callable[[], _Value]) -> _Value:
        """As :meth:`from_server`; those who call while another waits come in turn."""
        async with self._fetching:
            try:
                return await self.from_server(call)
            finally:
                self._used = time.monotonic()

    # Headings: those of the letters in sight, whenever others come into it.

    def on_letter_list_scrolled(self) -> None:
        if self._loader is None or self._loader.is_finished:
            self._loader = self.run_worker(self._load())

    async def _load(self) -> None:
        mail = self.client.mail
        while unknown := self.listing.unknown():
            try:
                pairs = await self.from_maildrop(lambda letters=unknown: list(mail.headings(letters)))  # type: ignore[misc]
            except MailError as error:
                if not self.busy:
                    self.failed(str(error))
                return
            for letter, heading in pairs:
                self.listing.know(letter, heading)
            if not pairs:
                return

    # Reading.

    def on_letter_list_chosen(self) -> None:
        self.begin("Fetching the letter", self._read)

    async def _read(self) -> None:
        if reading := await self._fetched():
            self.reader.show(reading)
            self.add_class("-reading")
            self.go_to(self.reader)

    async def _fetched(self) -> Reading | None:
        letter = self._chosen
        if letter is None:
            return None
        if self._open is None or self._open[0] != letter:
            mail, progress = self.client.mail, self.status.progress
            self._open = letter, await self.from_maildrop(lambda: read(mail.fetch(letter, progress)))
        return self._open[1]

    def go_back(self) -> None:
        self.remove_class("-reading")
        self.go_to(self.listing)

    def action_save(self) -> None:
        self.begin("Saving", self._save)

    async def _save(self) -> str | None:
        reading = await self._fetched()
        if reading is None or not reading.attachments:
            return "This letter has no files."
        choice = await self.app.push_screen_wait(ChooseFolder(reading.attachments))
        if choice is None:
            return None
        saved = await away(lambda: save_all(choice.attachments, choice.folder))
        return f"Saved {', '.join(path.name for path in saved)} in {choice.folder}"

    # Writing.

    def action_compose(self) -> None:
        self.app.push_screen(Compose(Draft(to="", subject="", text="")))

    def action_reply(self, everybody: bool) -> None:
        self._write("Replying", lambda reading: drafts.reply(reading, self.client.mail.address, everybody=everybody))

    def action_forward(self) -> None:
        self._write("Forwarding", drafts.forward)

    def _write(self, what: str, begun: Callable[[Reading], Draft]) -> None:
        async def write() -> None:
            if reading := await self._fetched():
                await self.in_front()
                self.app.push_screen(Compose(begun(reading)))

        self.begin(what, write)

    # Deleting: a mark, which counts when one leaves.

    def action_delete(self) -> None:
        self._mark(self.client.mail.delete, "Marked: it is deleted when you leave. u takes the mark away.")

    def action_undelete(self) -> None:
        self._mark(self.client.mail.undelete, "Not marked any more.")

    def _mark(self, change: Callable[[Letter], None], said: str) -> None:
        letter = self._chosen
        if letter is None:
            return
        change(letter)
        self.listing.refresh()
        self._tell()
        if not self.busy:
            self.status.say(said)

    # Folders.

    def action_folder(self) -> None:
        other = Folder.INBOX if self._folder is Folder.SENT else Folder.SENT
        self.begin(f"Opening {FOLDERS[other]}", self._opening(other))

    def action_get(self) -> None:
        self.begin("Asking for letters", self._opening(self._folder))

    def _opening(self, folder: Folder) -> Callable[[], Awaitable[str | None]]:
        async def open_folder() -> str | None:
            mail = self.client.mail
            letters = await self.from_maildrop(lambda: mail.letters(folder))
            fresh = len(set(letters) - set(self.listing.letters))
            same = folder is self._folder
            self._show(folder, letters)
            self.go_back()
            return f"{count(fresh, 'new letter')}.".capitalize() if same else None

        return open_folder

    async def _rest_when_idle(self) -> None:
        if time.monotonic() - self._used > IDLE_SECONDS and not self._fetching.locked():
            with suppress(MailError):
                await self.from_maildrop(self.client.mail.rest)


def save_all(attachments: Sequence[Attachment], folder: Path) -> list[Path]:
    """Save them in ``folder``; returns where.

    :raises mailbe.client.errors.NotSaved:
    """
    return [save(attachment, folder) for attachment in attachments]
