"""Choosing files of this machine: one to attach, and a folder to save in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalGroup
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import DirectoryTree, Input, SelectionList, Static

from mailbe.client.reading import Attachment
from mailbe.client.words import size


class PathInput(Input):
    """A path; what it may become stands behind it, and tab takes that."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", show=False)]

    def __init__(self, value: str = "") -> None:
        super().__init__(value, "where it lies, such as ~/letter.pdf", suggester=Completion(), compact=True)

    def action_complete(self) -> None:
        if longer := completed(self.value):
            self.value = longer
            self.cursor_position = len(longer)
        else:
            self.screen.focus_next()

    @property
    def path(self) -> Path:
        return Path(self.value).expanduser()


class Completion(Suggester):
    """Suggests what is on the disk."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return completed(value)


def completed(typed: str) -> str | None:
    """The first path that begins with ``typed`` and is longer; a folder ends with a slash."""
    folder, _, start = typed.rpartition("/")
    with suppress(OSError, RuntimeError, ValueError):  # no such folder, no such person's, no path at all
        place = Path(f"{folder}/" if "/" in typed else ".").expanduser()
        for entry in sorted(place.iterdir()):
            name = entry.name + ("/" if entry.is_dir() else "")
            if name.startswith(start) and name != start and (start or not name.startswith(".")):
                return typed[: len(typed) - len(start)] + name
    return None


class Folder(DirectoryTree):
    """What lies in a folder. Without Textual's pictures, which not every terminal has."""

    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "
    ICON_FILE = "  "


class ChooseFile(ModalScreen[Path | None]):
    """A file, by its path or from the tree of the present folder."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def compose(self) -> ComposeResult:
        with VerticalGroup(classes="box files") as box:
            box.border_title = "Attach a file"
            box.border_subtitle = "tab completes · enter attaches · esc goes back"
            yield PathInput()
            yield Folder(Path.cwd())
            yield Static(markup=False, classes="message")

    def on_input_submitted(self) -> None:
        self._take(self.query_one(PathInput).path)

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        self._take(event.path)

    def _take(self, path: Path) -> None:
        if path.is_file() and os.access(path, os.R_OK):
            self.dismiss(path)
        else:
            self.query_one(".message", Static).update("This is no file that can be read.")


class Choice(NamedTuple):
    """What is to be saved, and where."""

    attachments: Sequence[Attachment]
    folder: Path


class ChooseFolder(ModalScreen[Choice | None]):
    """Which files of a letter are to be saved, and in which folder."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, attachments: Sequence[Attachment]) -> None:
        super().__init__()
        self._attachments = attachments

    def compose(self) -> ComposeResult:
        with VerticalGroup(classes="box files") as box:
            box.border_title = "Save files"
            box.border_subtitle = "space chooses · enter in the folder saves · esc goes back"
            yield SelectionList[int](
                *((self._row(attachment), index, True) for index, attachment in enumerate(self._attachments))
            )
            yield Static("In the folder", classes="label")
            yield PathInput("./")
            yield Static(markup=False, classes="message")

    def on_mount(self) -> None:
        self.query_one(PathInput).focus()

    def on_input_submitted(self) -> None:
        chosen = sorted(self.query_one(SelectionList).selected)
        folder = self.query_one(PathInput).path
        if not chosen:
            wrong = "No file is chosen."
        elif not folder.is_dir():
            wrong = "There is no such folder."
        else:
            self.dismiss(Choice([self._attachments[index] for index in chosen], folder))
            return
        self.query_one(".message", Static).update(wrong)

    @staticmethod
    def _row(attachment: Attachment) -> Text:
        row = Text(attachment.name)
        row.append(f"  {attachment.media_type}, {size(len(attachment.content))}", "dim")
        return row
