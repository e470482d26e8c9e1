"""The protocol pane: what this program and the servers say to each other, line by line, as the RFCs print it.

``C:`` is this program and ``S:`` the server, as in the examples of RFC 5321 and RFC 1939; beside each command stands
the section that rules it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mailbe.client.dialogue import Said

MOST_LINES = 5000  # of the dialogue that are kept
FORGOTTEN_AT_ONCE = 1000
LABEL = len("SMTP  C: ")
SECTION = len("RFC 5321 4.1.1.10")
NARROWEST_WITH_SECTIONS = 54  # columns

WIDEST_TEXT = 100  # columns, so that a section does not stand too far from its command

HINT = (
    "What this program (C:) and the servers (S:) say to each other",
    "stands here, and beside each command the section of its RFC.",
)
_SIDES = {"C": "protocol--client", "S": "protocol--server", "*": "protocol--note"}
_REFUSALS = {"SMTP": ("4", "5"), "POP3": ("-ERR",)}


class Row(NamedTuple):
    """One row of the pane: a line, or the part of a long one."""

    said: Said
    text: str
    first: bool
    section: str | None


class Protocol(ScrollView, can_focus=True):
    """Shows the dialogue, and follows its end unless somebody has scrolled back."""

    COMPONENT_CLASSES = {
        "protocol--client",
        "protocol--server",
        "protocol--refusal",
        "protocol--note",
        "protocol--smtp",
        "protocol--pop3",
        "protocol--section",
        "protocol--dots",
    }
    BORDER_TITLE = "Protocol"

    def __init__(self, lines: Iterable[Said]) -> None:
        """:param lines: what was said already."""
        super().__init__()
        self._lines = list(lines)
        self._rows: list[Row] = []
        self._follows = True
        self._sections: dict[str, str | None] = {}

    def hear(self, said: Said) -> None:
        """One more line of the dialogue."""
        self._lines.append(said)
        if len(self._lines) > MOST_LINES:
            del self._lines[:FORGOTTEN_AT_ONCE]
            self._lay_out()
            return
        self._rows += self._wrapped(said)
        self._show()

    def on_resize(self) -> None:
        self._lay_out()

    def catch_up(self) -> None:
        """Its screen was covered by another: what was heard meanwhile may not have been scrolled to."""
        self._show()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        # Who is at the end stays there; only who scrolls back has left it, and not who is where the end was.
        if self.is_vertical_scroll_end:
            self._follows = True
        elif new_value < old_value:
            self._follows = False

    def _lay_out(self) -> None:
        self._sections = {}
        self._rows = [row for said in self._lines for row in self._wrapped(said)]
        self._show()

    def _show(self) -> None:
        self.virtual_size = Size(self._width, len(self._rows))
        if self._follows:
            self.scroll_end(animate=False, x_axis=False)
        self.refresh()

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width

    @property
    def _text_width(self) -> int:
        beside = LABEL + (SECTION + 1 if self._width >= NARROWEST_WITH_SECTIONS else 0)
        return min(max(self._width - beside, 10), WIDEST_TEXT)

    def _wrapped(self, said: Said) -> list[Row]:
        # Beside each command; beside what a server says only where it is about something else, as a greeting is.
        shown = said.who == "C" or said.section != self._sections.get(said.protocol)
        if said.section:
            self._sections[said.protocol] = said.section
        parts = chop_cells(said.text.expandtabs(), self._text_width) or [""]
        return [
            Row(said, part, number == 0, said.section if shown and number == 0 else None)
            for number, part in enumerate(parts)
        ]

    def render_line(self, y: int) -> Strip:
        index = y + self.scroll_offset.y
        width = self._width
        blank = self.rich_style
        if index >= len(self._rows):
            hint = HINT[y] if not self._lines and y < len(HINT) else ""
            return Strip([Segment(hint, self._look("protocol--note"))]).adjust_cell_length(width, blank)
        said, text, first, section = self._rows[index]
        name = self._look(f"protocol--{said.protocol.lower()}")
        side = self._look(self._side(said))
        segments = [
            Segment(f"{said.protocol:4}  " if first else " " * 6, name),
            Segment(f"{said.who + (' ' if said.who == '*' else ':'):3}" if first else "   ", side),
            Segment(text, side),
        ]
        if section and width >= NARROWEST_WITH_SECTIONS:
            # Dots lead from the one to the other, as in a table of contents.
            dots = self._text_width + SECTION - cell_len(text) - len(section)
            segments.append(Segment(f" {' ·' * ((dots - 1) // 2):>{dots - 1}} ", self._look("protocol--dots")))
            segments.append(Segment(section, self._look("protocol--section") + Style(link=link(section))))
        return Strip(segments).adjust_cell_length(width, blank)

    def _look(self, name: str) -> Style:
        return self.get_component_rich_style(name)

    @staticmethod
    def _side(said: Said) -> str:
        refused = said.who == "S" and said.text.startswith(_REFUSALS[said.protocol])
        return "protocol--refusal" if refused else _SIDES[said.who]


def link(section: str) -> str:
    """Where ``RFC 5321 4.1.1.2`` can be read; terminals that know links open it with a click."""
    _, number, *rest = section.split()
    return f"https://www.rfc-editor.org/rfc/rfc{number}" + (f"#section-{rest[0]}" if rest else "")
