"""The list of letters: only what is in sight is drawn, and asked for, so that many thousands cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mailbe.client.maildrop import Folder, Letter
from mailbe.client.reading import Heading
from mailbe.client.words import local, size

NARROWEST_SINGLE = 64  # columns in which a letter has one row; in fewer it has two
MOST_PEOPLE = 24  # columns for who wrote it
DATE = len("2025-11-04")
SIZE = len("1.2 kB")
GAP = 2
NOTHING = "   No letters. g looks for new ones, c writes one."
WIDEST = 500  # characters of a heading that are drawn; there may be a million


class LetterList(ScrollView, can_focus=True):
    """Letters, one of which the cursor is on."""

    COMPONENT_CLASSES = {"letters--cursor", "letters--deleted", "letters--mark", "letters--people", "letters--dim"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown,space", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000000)", "The newest letter", show=False),
        Binding("end", "move(1000000000)", "The oldest letter", show=False),
        Binding("enter", "choose", "Read"),
    ]
    cursor: reactive[int] = reactive(0)

    class Chosen(Message):
        """The letter under the cursor is to be read."""

    class Scrolled(Message):
        """Other letters are in sight."""

    def __init__(self, is_deleted: Callable[[Letter], bool]) -> None:
        super().__init__()
        self.letters: Sequence[Letter] = ()
        self._headings: dict[Letter, Heading] = {}
        self._is_deleted = is_deleted

    def show(self, letters: Sequence[Letter]) -> None:
        """Show these; the cursor stays with its letter, or near it."""
        before = self.chosen
        self.letters = letters
        self._lay_out()
        self.cursor = letters.index(before) if before in letters else min(self.cursor, max(len(letters) - 1, 0))
        self.refresh()
        self.post_message(self.Scrolled())

    def know(self, letter: Letter, heading: Heading) -> None:
        """Who wrote it, and what about."""
        self._headings[letter] = replace(
            heading,
            sender=heading.sender[:WIDEST],
            recipients=heading.recipients[:WIDEST],
            subject=heading.subject[:WIDEST],
        )
        self.refresh()

    @property
    def chosen(self) -> Letter | None:
        """The letter under the cursor."""
        return self.letters[self.cursor] if self.cursor < len(self.letters) else None

    def unknown(self) -> list[Letter]:
        """The letters in sight of which the heading is not known."""
        first = self.scroll_offset.y // self._rows
        shown = self.letters[first : first + self.scrollable_content_region.height // self._rows + 1]
        return [letter for letter in shown if letter not in self._headings]

    @property
    def _rows(self) -> int:
        """Of one letter."""
        return 1 if self.scrollable_content_region.width >= NARROWEST_SINGLE else 2

    def _lay_out(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.letters) * self._rows)

    def on_resize(self) -> None:
        self._lay_out()
        self.watch_cursor()
        self.post_message(self.Scrolled())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Scrolled())

    def watch_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor * self._rows, 1, self._rows), animate=False, immediate=True)
        self.refresh()

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, len(self.letters) - 1))

    def action_move(self, by: int) -> None:
        self.cursor += by

    def action_page(self, by: int) -> None:
        self.cursor += by * max(self.scrollable_content_region.height // self._rows, 1)

    def action_choose(self) -> None:
        if self.letters:
            self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        row = event.get_content_offset(self)
        if row is not None and (index := (row.y + self.scroll_offset.y) // self._rows) < len(self.letters):
            self.cursor = index
            self.action_choose()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index, row = divmod(y + self.scroll_offset.y, self._rows)
        if index >= len(self.letters):
            empty = NOTHING if not self.letters and y == 1 else ""
            return Strip([Segment(empty, self._look("letters--dim"))]).adjust_cell_length(width, self.rich_style)
        letter = self.letters[index]
        heading = self._headings.get(letter)
        deleted = self._is_deleted(letter)
        mark = " ✗ " if deleted else "   "
        date = f"{local(heading.date):%Y-%m-%d}" if heading and heading.date else ""
        people = "…"
        if heading:
            people = f"to {heading.recipients}" if letter.folder is Folder.SENT else heading.sender
        subject = heading.subject or "(no subject)" if heading else ""
        red, dim = self._look("letters--deleted"), self._look("letters--dim")
        bright, plain = (red, red) if deleted else (self._look("letters--people"), self.rich_style)
        if self._rows == 1:
            beside = min(MOST_PEOPLE, width // 4)
            rest = width - 3 - beside - 4 * GAP - DATE - SIZE
            cells = [
                (people, beside + GAP, bright),
                (subject, rest + GAP, plain),
                (date, DATE + GAP, dim),
                (f"{size(letter.octets):>{SIZE}}", SIZE + GAP, dim),
            ]
        elif row == 0:
            cells = [(people, width - 3 - DATE - GAP, bright), (date, DATE + GAP, dim)]
        else:
            mark = "   "
            cells = [
                (subject, width - 3 - SIZE - GAP, plain),
                (f"{size(letter.octets):>{SIZE}}", SIZE + GAP, dim),
            ]
        segments = [Segment(mark, self._look("letters--mark"))]
        for text, room, style in cells:
            text = fitted(text, room)
            # What strikes the text of a deleted letter out leaves the gap behind it alone.
            segments += [
                Segment(text.rstrip(), style),
                Segment(" " * (len(text) - len(text.rstrip())), self.rich_style),
            ]
        strip = Strip(segments).adjust_cell_length(width, self.rich_style)
        return self._under_cursor(strip) if index == self.cursor else strip

    def _under_cursor(self, strip: Strip) -> Strip:
        style = self._look("letters--cursor")
        return Strip([Segment(text, (was or Style()) + style) for text, was, _ in strip], strip.cell_length)

    def _look(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=name == "letters--cursor")


def fitted(text: str, room: int) -> str:
    """``text`` in exactly ``room`` columns, of which the last stays free."""
    if cell_len(text) >= room:
        text = set_cell_size(text, max(room - 2, 0)) + "…"
    return set_cell_size(text, room)
