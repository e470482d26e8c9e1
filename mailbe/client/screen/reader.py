"""The reading pane: one letter, its headings above its text."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from mailbe.client.reading import Reading
from mailbe.client.words import cut, day, size

NOTHING = "Enter reads a letter, c writes one."
QUOTED = ">"
MOST_TEXT = 100_000  # characters; laying out more takes longer than a key may wait
MOST_HEADING = 300
MOST_HEADER = 2000


class Reader(VerticalScroll, can_focus=True):
    """Shows a letter, or how to come to one."""

    ALLOW_MAXIMIZE = True
    COMPONENT_CLASSES = {"reader--quoted"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
        Binding("pagedown,space", "page_down", "Page down", show=False),
        Binding("h", "all_headers", "Headers", tooltip="Show all the header of the letter, or what matters most of it"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._reading: Reading | None = None
        self._all_headers = False

    def compose(self) -> ComposeResult:
        yield Static(NOTHING, classes="head", markup=False)
        yield Static(classes="text", markup=False)

    def show(self, reading: Reading) -> None:
        self._reading = reading
        self._draw()
        self.scroll_home(animate=False)

    def action_all_headers(self) -> None:
        self._all_headers = not self._all_headers
        self._draw()

    def _draw(self) -> None:
        if self._reading:
            self.query_one(".head", Static).update(self._head(self._reading))
            self.query_one(".text", Static).update(self._text(self._reading))

    def _head(self, reading: Reading) -> Text:
        heading = reading.heading
        head = Text(overflow="fold")
        head.append(cut(heading.subject, MOST_HEADING) or "(no subject)", "bold")
        if self._all_headers:
            for name, value in reading.headers[:MOST_HEADER]:
                head.append(f"\n{cut(name, MOST_HEADER)}: ", "dim").append(cut(value, MOST_HEADER))
        else:
            parts = (cut(heading.sender, MOST_HEADING), "to", cut(heading.recipients, MOST_HEADING), day(heading.date))
            head.append(f"\n{'  '.join(filter(None, parts))}", "dim")
        for attachment in reading.attachments:
            head.append("\nFile  ", "dim").append(cut(attachment.name, MOST_HEADING))
            head.append(f"  {attachment.media_type}, {size(len(attachment.content))}  (v saves it)", "dim")
        return head

    def _text(self, reading: Reading) -> Text:
        text = Text()
        quoted = self.get_component_rich_style("reader--quoted", partial=True)
        for line in cut(reading.text, MOST_TEXT).splitlines(keepends=True):
            text.append(line, quoted if line.startswith(QUOTED) else None)
        return text
