"""Writing a letter: its headings, its text, its files; sending it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

from rich.text import Text
from textual import events
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import HorizontalGroup
from textual.widgets import Input, Label, OptionList, TextArea
from textual.widgets.option_list import Option

from mailbe.client.drafts import Draft
from mailbe.client.reading import Attachment
from mailbe.client.screen.chrome import Bar, Talking
from mailbe.client.screen.files import ChooseFile
from mailbe.client.screen.questions import NO, YES, Answer, Question
from mailbe.client.words import size

File = Path | Attachment
FIELDS = {"to": "To", "cc": "Cc", "bcc": "Bcc", "subject": "Subject"}


class Files(OptionList):
    """What is attached; the Delete key takes one away."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("delete,backspace,d", "remove", "Remove the file")]

    def __init__(self, files: tuple[File, ...]) -> None:
        super().__init__(compact=True)
        self.files = list(files)

    def on_mount(self) -> None:
        self._show()

    def add(self, file: File) -> None:
        self.files.append(file)
        self._show()

    def action_remove(self) -> None:
        if self.highlighted is not None:
            del self.files[self.highlighted]
            self._show()

    def _show(self) -> None:
        self.clear_options()
        self.add_options(Option(_row(file)) for file in self.files)
        self.display = bool(self.files)
        if self.files:
            self.highlighted = 0
        elif self.has_focus:
            self.screen.focus_previous()


def _row(file: File) -> Text:
    octets = _size(file) if isinstance(file, Path) else len(file.content)
    return Text.assemble("attached  ", (file.name, "bold"), (f"  {size(octets)}", "dim"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # sending it will say what is wrong


class Compose(Talking):
    """A draft until it is sent or thrown away."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Send", priority=True),
        Binding("ctrl+t", "attach", "Attach", priority=True),
        Binding("escape", "give_up", "Back"),
        Binding("enter", "next", show=False, priority=True),  # as in the cards
        Binding("ctrl+q", "app.quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self._draft = draft

    def body(self) -> ComposeResult:
        for name, label in FIELDS.items():
            place = Input(getattr(self._draft, name), id=name, compact=True)
            yield HorizontalGroup(Label(label), place, classes="field")
        yield TextArea(self._draft.text, id="text", compact=True, show_line_numbers=False, tab_behavior="focus")
        yield Files(self._draft.attachments)

    def on_mount(self) -> None:
        self.query_one(Bar).show(f"{self.client.mail.address}  a new letter")
        empty = [name for name in ("to", "subject") if not getattr(self._draft, name)]
        self.query_one(f"#{empty[0] if empty else 'text'}").focus()

    @property
    def draft(self) -> Draft:
        """As it stands now."""
        values = {name: self.query_one(f"#{name}", Input).value for name in FIELDS}
        return Draft(
            **values,
            text=self.query_one("#text", TextArea).text,
            attachments=tuple(self.query_one(Files).files),
            in_reply_to=self._draft.in_reply_to,
            references=self._draft.references,
        )

    @property
    def unsent(self) -> bool:
        """Whether somebody wrote something that would be lost."""
        return self.draft != self._draft

    def action_next(self) -> None:
        if not isinstance(self.focused, Input):
            raise SkipAction  # it makes a new line
        self.focus_next()

    def on_key(self, event: events.Key) -> None:
        # From the first line of the text back into the headings, as one would expect of the arrow.
        text = self.query_one(TextArea)
        if event.key == "up" and text.has_focus and text.cursor_location == (0, 0):
            self.focus_previous()
        elif event.key in ("up", "down") and isinstance(self.focused, Input):
            (self.focus_previous if event.key == "up" else self.focus_next)()

    def action_attach(self) -> None:
        def attach(path: Path | None) -> None:
            if path:
                self.query_one(Files).add(path)

        self.app.push_screen(ChooseFile(), attach)

    def action_send(self) -> None:
        self.after_typing(lambda: self.begin("Sending", self._send))

    async def _send(self) -> None:
        mail, draft, progress = self.client.mail, self.draft, self.status.progress
        recipients = await self.from_server(lambda: mail.send(draft, progress))
        await self.in_front()
        below = cast("Talking", self.app.screen_stack[-2])
        below.status.say(f"Sent to {', '.join(recipients)}")
        self.app.pop_screen()

    def go_back(self) -> None:
        if self.unsent:
            answers = [Answer(YES, "throw it away", bad=True), Answer(NO, "go on writing")]
            self.app.push_screen(Question("Throw the letter away?", "It is not sent.", answers), self._thrown_away)
        else:
            self.app.pop_screen()

    def _thrown_away(self, answer: str | None) -> None:
        if answer == YES:
            self.app.pop_screen()
