"""The way in: logging in, registering, and what to do when three log-ins have failed."""

from __future__ import annotations

import re
from typing import ClassVar

from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, HorizontalGroup, VerticalGroup
from textual.widgets import Button, Input, Label, Static

from mailbe.client.errors import NotRegistered, TooManyFailures, WrongPassword
from mailbe.client.register import Terms
from mailbe.client.screen.chrome import Bar, Talking
from mailbe.client.screen.letters import Letters

WRONG_FIELD = {"password": "password", "invitation": "invitation"}  # by what the server says; else it is the name
WORDMARK = """\
┌┬┐┌─┐┬┬  ┌┐ ┌─┐
│││├─┤││  ├┴┐├┤
┴ ┴┴ ┴┴┴─┘└─┘└─┘"""


def field(label: str, place: Input) -> HorizontalGroup:
    """An input with its name before it."""
    place.compact = True
    return HorizontalGroup(Label(label), place, classes="field")


class Card(Talking):
    """A form in the middle, in which enter goes from one field to the next, and at the last does it."""

    # With priority, so that what is typed after it goes into the next field, however fast it comes.
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "next", show=False, priority=True)]

    def body(self) -> ComposeResult:
        with VerticalGroup(classes="box card"):
            yield Static(WORDMARK, classes="wordmark")
            yield Static(self.client.place, markup=False, classes="servers")
            yield from self.form()
            yield Static(markup=False, classes="message")

    def form(self) -> ComposeResult:
        raise NotImplementedError

    def do(self) -> None:
        """What the form is for."""
        raise NotImplementedError

    def value(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value

    def tell(self, text: str, *, error: bool = False) -> None:
        """Say something in the card."""
        message = self.query_one(".message", Static)
        message.set_class(error, "-error")
        message.update(text)

    def failed(self, wrong: str) -> None:
        self.tell(wrong, error=True)

    def action_next(self) -> None:
        shown = [place for place in self.query(Input) if place.parent and place.parent.display]
        if self.focused not in shown:
            raise SkipAction  # it is for a button
        if self.focused is shown[-1]:
            self.after_typing(self.do)
        else:
            self.focus_next(Input)


class LogIn(Card):
    """Name and password, until they are right, or have been wrong three times."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "register", "Register"),
        Binding("ctrl+q", "app.quit", "Quit", priority=True),
    ]

    def __init__(self, name: str = "", password: str = "") -> None:
        """:param password: where it is known already, log in at once."""
        super().__init__()
        self._who = name
        self._password = password

    def form(self) -> ComposeResult:
        yield field("Address", Input(self._who, id="name", placeholder="alice@localhost"))
        yield field("Password", Input(self._password, id="password", password=True))
        with Horizontal(classes="answers"):
            yield Button("Log in", "primary", id="log-in", compact=True)
            yield Button("Register…", id="register", compact=True)

    def on_mount(self) -> None:
        self.query_one(Bar).show("log in")
        self.query_one("#password" if self._who else "#name").focus()
        if self._password:
            self.do()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "register":
            self.action_register()
        else:
            self.do()

    def action_register(self) -> None:
        if not self.busy:
            self.app.push_screen(Register())

    def do(self) -> None:
        if self.value("name") and self.value("password"):
            self.tell("")
            self.begin("Logging in", self._log_in)
        else:
            self.tell("Both an address and a password are needed.", error=True)

    async def _log_in(self) -> None:
        mail = self.client.mail
        name, password = self.value("name"), self.value("password")
        try:
            await self.from_server(lambda: mail.log_in(name, password))
            letters = await self.from_server(mail.letters)
        except TooManyFailures as error:
            await self.in_front()
            self.app.switch_screen(GivenUp(str(error)))
            return
        except WrongPassword:
            place = self.query_one("#password", Input)
            place.value = ""
            place.focus()
            raise
        await self.in_front()
        self.app.switch_screen(Letters(letters))


class Register(Card):
    """A new account, where the server lets people make their own."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "Back")]

    def form(self) -> ComposeResult:
        yield field("Name", Input(id="name", placeholder="alice"))
        yield field("Password", Input(id="password", password=True))
        yield field("Again", Input(id="again", password=True))
        invitation = field("Invitation", Input(id="invitation"))
        invitation.display = False
        yield invitation
        with Horizontal(classes="answers"):
            yield Button("Register", "primary", compact=True)

    def on_mount(self) -> None:
        self.query_one(Bar).show("register")
        self.query_one("#name").focus()
        self.begin("Asking whether people can register", self._look)

    async def _look(self) -> None:
        terms: Terms = await self.from_server(self.client.desk.terms)
        self.query_one("#invitation", Input).parent.display = terms.registration == "invitation"  # type: ignore[union-attr]
        if terms.registration == "closed":
            self.tell("This server lets nobody register; its operator makes the accounts.", error=True)
        else:
            self.tell(f"Your address will be the name, @ and {' or '.join(terms.domains)}.")

    def on_button_pressed(self) -> None:
        self.do()

    def do(self) -> None:
        if self.value("password") != self.value("again"):
            self.tell("The two passwords differ.", error=True)
            self._ask_again("password")
        elif not self.value("name") or not self.value("password"):
            self.tell("Both a name and a password are needed.", error=True)
        else:
            self.tell("")
            self.begin("Registering", self._register)

    async def _register(self) -> None:
        desk = self.client.desk
        name, password, invitation = self.value("name"), self.value("password"), self.value("invitation")
        try:
            address = await self.from_server(lambda: desk.register(name, password, invitation))
        except NotRegistered as error:
            self._ask_again(WRONG_FIELD.get(error.code, "name"))
            raise
        await self.in_front()
        self.app.pop_screen()
        self.app.switch_screen(LogIn(address, password))

    def _ask_again(self, name: str) -> None:
        """Go to the field that was wrong; a password that nobody can see is typed anew."""
        if name == "password":
            for place in self.query("#password, #again").results(Input):
                place.value = ""
        self.query_one(f"#{name}").focus()

    def go_back(self) -> None:
        self.app.pop_screen()


class GivenUp(Talking):
    """After three failures nothing more is asked; what can be done is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,enter,escape", "leave", "Leave")]

    def __init__(self, advice: str) -> None:
        super().__init__()
        self._advice = re.sub(r"\n +", " ", advice)  # its lines are for another width

    def body(self) -> ComposeResult:
        with VerticalGroup(classes="box card -sorry") as card:
            card.border_title = "Three log-ins have failed"
            yield Static(self._advice, markup=False)
            yield Static("Press q to leave.", classes="message")

    def on_mount(self) -> None:
        self.query_one(Bar).show("no log-in")

    def action_leave(self) -> None:
        self.app.exit(1)
