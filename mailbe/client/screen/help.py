"""The keys that do something where one is."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalGroup, VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Static


class Keys(ModalScreen[None]):
    """Lists them; any of a few keys closes the list."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,f1", "dismiss(None)", "Back")]

    def __init__(self, bindings: dict[str, ActiveBinding]) -> None:
        super().__init__()
        self._keys = bindings

    def compose(self) -> ComposeResult:
        with VerticalGroup(classes="box") as box:
            box.border_title = "Keys"
            with VerticalScroll():
                yield Static(self._list(), markup=False)

    def _list(self) -> Text:
        rows: dict[str, list[str]] = {}
        # What can be done with letters comes first: how to move about is guessed.
        for active in sorted(self._keys.values(), key=lambda active: not isinstance(active.node, Screen)):
            if active.binding.action not in _own_actions(active.node):
                continue  # how Textual's own fields are edited, and scrolled, is no news
            said = active.tooltip or active.binding.tooltip or active.binding.description
            if said:
                rows.setdefault(said, []).append(self.app.get_key_display(active.binding))
        text = Text()
        for said, keys in rows.items():
            text.append(f"{', '.join(keys):>16}  ", "bold").append(f"{said}\n")
        return text


def _own_actions(node: DOMNode) -> set[str]:
    """What the keys do that this program gives to ``node``, and not Textual."""
    own = (kind for kind in type(node).__mro__ if kind.__module__.startswith("mailbe."))
    return {binding.action for kind in own for binding in Binding.make_bindings(vars(kind).get("BINDINGS", ()))}
