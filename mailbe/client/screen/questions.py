"""Questions that must be answered before it goes on, each in a box above the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalGroup, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from mailbe.client.certificate import Certificate
from mailbe.client.errors import NotPrivate
from mailbe.client.words import day


class Answer(NamedTuple):
    """One that can be given."""

    key: str
    label: str
    bad: bool = False
    """Whether it is shown as one to think about."""


YES, NO = "y", "n"
LABEL = len("issued by")  # with more, half a fingerprint is too wide for the box


class Question(ModalScreen[str]):
    """Asks; the result is the key of an answer. Escape gives the last, which does the least."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", show=False),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, text: str | Text, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._answers = answers

    def compose(self) -> ComposeResult:
        with VerticalGroup(classes="box") as box:
            box.border_title = self._title
            with VerticalScroll(can_focus=False):
                yield Static(self._text, markup=False)
            with Horizontal(classes="answers"):
                for answer in self._answers:
                    label = Text.assemble((answer.key, "underline"), f"  {answer.label}")
                    button = Button(label, id=f"answer-{answer.key}", compact=True)
                    button.variant = "error" if answer.bad else "default"
                    yield button

    def on_mount(self) -> None:
        self.query(Button).last().focus()

    def on_key(self, event: events.Key) -> None:
        if any(event.key == answer.key for answer in self._answers):
            self.dismiss(event.key)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss((event.button.id or "").removeprefix("answer-"))

    def action_give_up(self) -> None:
        self.dismiss(self._answers[-1].key)


class TrustQuestion(Question):
    """Whether a certificate that does not verify is the right one all the same."""

    def __init__(self, certificate: Certificate) -> None:
        text = Text()
        if certificate.changed:
            text.append("It is another one than you trusted before. ", "bold")
            text.append("The server may have a new one; or somebody stands between you and it. Ask its operator.\n\n")
        text.append(f"{certificate.place} shows a certificate that cannot be verified:\n{certificate.why}\n\n")
        ends = day(certificate.ends)
        rows = {"for": ", ".join(certificate.names), "issued by": certificate.issuer, "until": ends}
        for name, value in rows.items():
            text.append(f"{name:>{LABEL}}  ", "dim").append(f"{value or '(it does not say)'}\n")
        text.append(f"{'SHA-256':>{LABEL}}  ", "dim")
        text.append(_in_rows(certificate.fingerprint), "bold").append("\n\n")
        text.append("Compare these figures with those that the operator of the server gives you.")
        answers = [Answer(YES, "trust it from now on", bad=True), Answer(NO, "do not connect")]
        super().__init__("Is this the right server?", text, answers)


def _in_rows(fingerprint: str) -> str:
    pairs = fingerprint.split(":")
    return ("\n" + " " * (LABEL + 2)).join(" ".join(pairs[start : start + 16]) for start in range(0, len(pairs), 16))


class PlaintextQuestion(Question):
    """Whether a password may be sent for all to read."""

    def __init__(self, error: NotPrivate) -> None:
        answers = [Answer(YES, "send it all the same", bad=True), Answer(NO, "do not send it")]
        super().__init__("Send the password in plaintext?", f"{error}.", answers)
