"""For the tests of the full screen: a maildrop and a registry in memory, a demonstration of theirs, and a pilot."""

from __future__ import annotations

import asyncio
import email.policy
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Literal, TypeVar, cast

from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.screen import Screen

from mailbe.client import drafts, reading
from mailbe.client.certificate import Certificate
from mailbe.client.dialogue import MASK, SECTIONS, Listen, Said
from mailbe.client.drafts import Draft
from mailbe.client.errors import Cancelled, NoSentMail, NotRegistered, TooManyFailures, WrongPassword
from mailbe.client.maildrop import Folder, Letter
from mailbe.client.reading import Heading
from mailbe.client.register import Terms
from mailbe.client.screen import close
from mailbe.client.screen.app import MailClient
from mailbe.client.screen.away import THREADS
from mailbe.client.screen.letters import Letters
from mailbe.client.screen.log_in import LogIn
from mailbe.client.screen.protocol import Protocol

ALICE, PASSWORD = "alice@localhost", "white-rabbit-7"
ADVICE = "Three log-ins have failed.\nIs the name right? Is the password?"
SECONDS = 120  # the most that anything may take
QUIET = 20  # rounds of the loop without a message to anybody: what goes from one to the next takes two for each

_Value = TypeVar("_Value")
_Screen = TypeVar("_Screen", bound=Screen)


def letter(
    sender: str, to: str, subject: str, text: str, date: datetime, files: dict[str, bytes] | None = None
) -> bytes:
    """The octets of a letter."""
    message = EmailMessage(email.policy.SMTP)
    message["From"], message["To"], message["Subject"], message["Date"] = sender, to, subject, date
    message["Message-ID"] = f"<{date:%Y%m%d%H%M}@localhost>"
    message.set_content(text)
    for name, content in (files or {}).items():
        message.add_attachment(content, "text", "plain", filename=name)
    return message.as_bytes()


def uid(number: int) -> str:
    """The unique-id of a letter."""
    return f"1751624000.M{number:06}P42Q000000.localhost"


BOTTLE = letter(
    "Bob <bob@localhost>",
    "Alice <alice@localhost>",
    "What the label on the bottle says",
    "Dear Alice,\n\n> is it safe to drink?\n\nI have looked, and it is not marked “poison”.\n"
    "The label reads DRINK ME, beautifully printed in large letters. I attach a copy.\n\nBob\n",
    datetime(2025, 7, 4, 10, 30, tzinfo=UTC),
    {"label.txt": b"DRINK ME\n"},
)
TEA = letter(
    "The Hatter <hatter@localhost>",
    "Alice <alice@localhost>",
    "A mad tea-party",
    "It is always six o'clock here. Come to tea!\n",
    datetime(2025, 7, 3, 18, 0, tzinfo=UTC),
)
CROQUET = letter(
    "The Queen of Hearts <queen@localhost>",
    "Everybody <all@localhost>",
    "Croquet this afternoon [bring a flamingo]",
    "Get to your places!\n",
    datetime(2025, 7, 2, 14, 15, tzinfo=UTC),
)


class FakeMail:
    """Stands for ``mailbe.client.mail.Mail``: a server in memory, which says what a mailbe says."""

    def __init__(self, listen: Listen, inbox: Sequence[bytes] = (BOTTLE, TEA, CROQUET)) -> None:
        self.listen = listen
        self.address = ""
        self.failures = 0
        self.calls: list[str] = []
        self.sent: list[Draft] = []
        self.plaintext_allowed = False
        self.keeps_sent = True
        self.errors: dict[str, list[Exception]] = {}
        """By call: what it is to raise, each once."""
        self.hangs: set[str] = set()
        """The calls that never come back by themselves."""
        self.slow: set[str] = set()
        """The calls that come back when ``released``."""
        self.cancelled, self.released = threading.Event(), threading.Event()
        self.octets: dict[Letter, bytes] = {}
        for number, octets in enumerate(inbox):
            self.octets[Letter(Folder.INBOX, uid(number), len(octets))] = octets
        self.marks: set[Letter] = set()
        self.gone: list[str] = []
        self.verb = ""

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.hangs:
            self.cancelled.clear()
            assert self.cancelled.wait(SECONDS)
            raise Cancelled("broken off")
        if name in self.slow:
            assert self.released.wait(SECONDS)
        if self.errors.get(name):
            raise self.errors[name].pop(0)

    def says(self, protocol: Literal["SMTP", "POP3"], *lines: str) -> None:
        """A dialogue, each line after its ``C: ``, ``S: `` or ``* ``."""
        for line in lines:
            who, text = line[0], line[2:].strip()
            if who == "C":
                self.verb = text.split()[0]
            section = None if who == "*" else SECTIONS[protocol].get(self.verb)
            self.listen(Said(protocol, who, text, section))  # type: ignore[arg-type]

    def log_in(self, name: str, password: str) -> None:
        self._call("log_in")
        self.says("POP3", "* connected to localhost:2995", "* TLSv1.3 begins, TLS_AES_256_GCM_SHA384")
        self.verb = ""
        self.says("POP3", "S: +OK mailbe is ready", f"C: USER {name}", "S: +OK and the password?", f"C: PASS {MASK}")
        if password != PASSWORD:
            self.failures += 1
            self.says("POP3", "S: -ERR [AUTH] the name or the password is wrong", "* connection closed")
            raise TooManyFailures(ADVICE) if self.failures == 3 else WrongPassword(3 - self.failures)
        octets = sum(one.octets for one in self.octets)
        self.says("POP3", f"S: +OK {len(self.octets)} messages, {octets} octets")
        self.address = name

    def letters(self, folder: Folder = Folder.INBOX) -> list[Letter]:
        self._call("letters")
        if folder is Folder.SENT and not self.keeps_sent:
            raise NoSentMail("the server keeps no copies of sent mail")
        letters = [one for one in self.octets if one.folder is folder]
        self.says("POP3", "C: UIDL", "S: +OK unique-ids follow")
        self.says("POP3", *(f"S: {number} {one.uid}" for number, one in enumerate(letters[:3], 1)), "S: .")
        return letters

    def headings(self, letters: Iterable[Letter]) -> Iterator[tuple[Letter, Heading]]:
        self._call("headings")
        for one in letters:
            yield one, reading.read(self.octets[one]).heading

    def fetch(self, one: Letter, progress: Callable[[int, int], None] | None = None) -> bytes:
        if progress:
            progress(one.octets // 2, one.octets)
        self._call("fetch")
        number = list(self.octets).index(one) + 1
        octets = self.octets[one]
        self.says("POP3", f"C: RETR {number}", f"S: +OK {len(octets)} octets")
        first = octets.decode().splitlines()
        self.says("POP3", *(f"S: {line}" for line in first[:2]), f"S: [{len(first) - 2} more lines]", "S: .")
        if progress:
            progress(len(octets), len(octets))
        return octets

    def delete(self, one: Letter) -> None:
        self.marks.add(one)

    def undelete(self, one: Letter) -> None:
        self.marks.discard(one)

    def is_deleted(self, one: Letter) -> bool:
        return one in self.marks

    @property
    def deleted(self) -> frozenset[Letter]:
        return frozenset(self.marks)

    def send(self, draft: Draft, progress: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
        self._call("send")
        parcel = drafts.parcel(draft, self.address)
        self.says("SMTP", "* connected to localhost:2465", "* TLSv1.3 begins, TLS_AES_256_GCM_SHA384")
        self.verb = ""
        self.says("SMTP", "S: 220 localhost ESMTP mailbe", "C: EHLO [127.0.0.1]", "S: 250 AUTH PLAIN LOGIN")
        self.says("SMTP", f"C: AUTH PLAIN {MASK}", "S: 235 2.7.0 welcome")
        self.says("SMTP", f"C: MAIL FROM:<{self.address}>", "S: 250 2.1.0 ok")
        for recipient in parcel.recipients:
            self.says("SMTP", f"C: RCPT TO:<{recipient}>", "S: 250 2.1.5 ok")
        self.says("SMTP", "C: DATA", "S: 354 go ahead; end with a line of one dot", "S: 250 2.0.0 ok")
        self.says("SMTP", "C: QUIT", "S: 221 2.0.0 localhost says good-bye")
        self.sent.append(draft)
        self.octets[Letter(Folder.SENT, f"sent{len(self.sent)}", len(parcel.octets))] = parcel.octets
        return parcel.recipients

    def leave(self) -> int:
        self._call("leave")
        self.gone = sorted(one.uid for one in self.marks)
        return len(self.marks)

    def rest(self) -> None:
        self._call("rest")

    def close(self) -> None:
        self.cancel()

    def cancel(self) -> None:
        self.cancelled.set()

    def allow_plaintext(self) -> None:
        self.plaintext_allowed = True


class FakeDesk:
    """Stands for ``mailbe.client.register.Desk``."""

    def __init__(self, registration: str = "open") -> None:
        self.registration = registration
        self.registered: list[tuple[str, str, str]] = []

    def terms(self) -> Terms:
        return Terms(self.registration, ("localhost",))  # type: ignore[arg-type]

    def register(self, name: str, password: str, invitation: str = "") -> str:
        if name == "bob":
            raise NotRegistered("taken", "bob@localhost has an account already.")
        self.registered.append((name, password, invitation))
        return f"{name}@localhost"


class Played:
    """A program on the screen of a test, with what stands behind it."""

    def __init__(self, inbox: Sequence[bytes] = (BOTTLE, TEA, CROQUET), name: str | None = None) -> None:
        self.desk = FakeDesk()
        self.accepted: list[Certificate] = []
        self.mails: list[FakeMail] = []
        self.name = name
        self.inbox = inbox
        self.client = self._client()

    def _client(self) -> MailClient:
        def connect(listen: Listen) -> FakeMail:
            self.mails.append(FakeMail(listen, self.inbox))
            return self.mails[-1]

        place = "localhost · POP3 2995 · SMTP 2465"
        return MailClient(connect, self.desk, self.accepted.append, place, self.name)  # type: ignore[arg-type]

    @property
    def mail(self) -> FakeMail:
        return self.mails[-1]


def play(
    client: MailClient, script: Callable[[Pilot[int]], Awaitable[None]], size: tuple[int, int] = (80, 24)
) -> int | None:
    """Run the program with ``script`` at its keys; returns its exit status, or ``None`` where it goes on."""

    async def run() -> None:
        async with asyncio.timeout(SECONDS * 10), client.run_test(size=size) as pilot:
            await script(pilot)

    try:
        asyncio.run(run())
    finally:
        close(client)
    if client.broken:
        raise client.broken
    for thread in threading.enumerate():
        if thread.name == THREADS:
            thread.join(SECONDS)
            assert not thread.is_alive(), "a thread is left behind"
    return client.return_value


async def until(condition: Callable[[], _Value], what: str) -> _Value:
    """Wait until ``condition()`` is true."""
    async with asyncio.timeout(SECONDS):
        while not (value := condition()):
            await asyncio.sleep(0.01)
    assert value, what
    return value


def shown(client: MailClient) -> str:
    """All that stands on the screen, as text."""
    strips = client.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


class Hands:
    """Somebody at the keys."""

    def __init__(self, pilot: Pilot[int]) -> None:
        self.pilot = pilot
        self.client = cast("MailClient", pilot.app)

    async def on(self, kind: type[_Screen]) -> _Screen:
        """Wait until a screen of this kind is in front, and nothing is waited for."""

        def there() -> bool:
            screen = self.client.screen
            return isinstance(screen, kind) and screen.is_mounted and not getattr(screen, "busy", False)

        await until(there, kind.__name__)
        await self.pilot.pause()
        await self.settled()
        screen = self.client.screen
        assert isinstance(screen, kind)
        return screen

    async def sees(self, *texts: str) -> None:
        """Wait until all these stand on the screen."""
        try:
            await until(lambda: all(text in shown(self.client) for text in texts), str(texts))
        except TimeoutError:
            raise AssertionError(f"{texts} not on\n{shown(self.client)}") from None

    async def settled(self) -> None:
        """Wait until everybody has done what was asked of him, and what came of that.

        A key goes from the program to what has the focus, and from there up again to who knows what to do with it. The
        pilot waits until the processor is idle, which on a busy machine it is for us in the midst of that, too.
        """
        quiet = 0
        async with asyncio.timeout(SECONDS):
            while quiet < QUIET and self.client.return_value is None:
                await asyncio.sleep(0)
                pumps = [self.client, *self.client.screen.walk_children(with_self=True)]
                quiet = quiet + 1 if all(pump._message_queue.empty() for pump in pumps) else 0

    async def drawn(self) -> None:
        """Wait until the screen shows what there is, the keys below it, too, which are told again when it has."""
        for _ in range(3):
            await self.settled()
            told = asyncio.Event()
            self.client.screen.call_after_refresh(told.set)
            async with asyncio.timeout(SECONDS):
                await told.wait()
        await self.settled()

    async def type(self, text: str) -> None:
        await self.press(*text)

    async def paste(self, text: str) -> None:
        """The quick way of typing."""
        self.client.post_message(Paste(text))
        await self.pilot.pause()
        await self.settled()

    async def rush(self, *keys: str) -> None:
        """Press all of them before the first is looked at, as a fast typist at a slow machine does."""
        driver = self.client._driver
        assert driver
        for key in keys:
            pressed = Key(key, key if len(key) == 1 else None)
            pressed.set_sender(self.client)
            driver.send_message(pressed)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settled()

    async def ended(self) -> None:
        """Wait until the program is left."""
        await until(lambda: self.client.return_value is not None, "it ends")

    async def log_in(self, name: str = ALICE, password: str = PASSWORD) -> None:
        await self.on(LogIn)
        await self.paste(name)
        await self.press("enter")
        await self.paste(password)
        await self.press("enter")

    async def in_letters(self) -> Letters:
        await self.log_in()
        return await self.on(Letters)


def dialogue(pane: Protocol) -> list[str]:
    """What it shows, a text for each line said: ``POP3 C: RETR 1 [RFC 1939 5]``."""
    return [f"{said.protocol} {said.who}: {said.text} [{said.section}]" for said in pane._lines]
