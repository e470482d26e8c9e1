"""What somebody can do in the client of lines: each command, what it asks for, and what it says."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mailbe.client import drafts, reading
from mailbe.client.dialogue import Said
from mailbe.client.drafts import Draft
from mailbe.client.errors import MailError, NotPrivate, NotTrusted
from mailbe.client.keyboard import Over, Script
from mailbe.client.mail import Mail
from mailbe.client.maildrop import Folder, Letter
from mailbe.client.printable import one_line
from mailbe.client.reading import Heading, Reading
from mailbe.client.register import Desk
from mailbe.client.servers import Servers
from mailbe.client.trust import Trust
from mailbe.client.words import day, size

_Value = TypeVar("_Value")


class Quit(Exception):
    """``quit`` was said, and done."""


class Wrong(Exception):
    """A command line that means nothing; the message says what would."""


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table."""

    run: Callable[..., None]
    arguments: str
    help: str
    """What it does, and what it asks for, in this order."""


class Commands:
    """What ``person`` can do, and what came of it so far."""

    def __init__(self, servers: Servers, trust: Trust, person: Script, name: str) -> None:
        """:param name: who logs in, if that was said already."""
        self.mail = Mail(servers, trust, self._hear)
        self._servers, self._trust, self._person, self._name = servers, trust, person, name
        self._traced = False
        self._letters: list[Letter] = []
        """As they were listed last; a number is a place in this."""
        self._unsent: Draft | None = None

    def obey(self, line: str) -> None:
        """Carry out one line of input.

        :raises Wrong, MailError, Quit:
        """
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise Wrong(f"a quotation mark is missing ({error})") from error
        if not words or words[0].startswith("#"):
            return
        command = COMMANDS.get(words[0].lower())
        if command is None:
            raise Wrong(f"{one_line(words[0])[:40]} is no command; help tells which there are")
        least = sum(not word.startswith("[") for word in command.arguments.split())
        if not least <= len(words) - 1 <= len(command.arguments.split()):
            raise Wrong(f"usage: {words[0].lower()} {command.arguments}")
        try:
            command.run(self, *words[1:])
        except Over as error:
            raise Wrong(f"the input ended before {words[0].lower()} had all that it asks for") from error

    def _asking(self, act: Callable[[], _Value]) -> _Value:
        """Do it, and put the questions that come up, as often as they do.

        :raises NotTrusted, NotPrivate: the answer was no, or nobody is there to give one.
        """
        while True:
            try:
                return act()
            except NotTrusted as error:
                if not self._person.trusts(error.certificate):
                    raise
                self._trust.accept(error.certificate)
            except NotPrivate as error:
                if not self._person.agrees(f"{error}. Send it all the same?"):
                    raise
                self.mail.allow_plaintext()

    def _hear(self, said: Said) -> None:
        if self._traced:
            section = f"   [{said.section}]" if said.section and said.who == "C" else ""
            self._person.say(f"{said.protocol} {said.who}: {said.text}{section}")

    def _help(self) -> None:
        for name, command in COMMANDS.items():
            self._person.say(f"{f'{name} {command.arguments}':24} {command.help}")

    def _register(self) -> None:
        desk = Desk(self._servers, self._trust)
        terms = self._asking(desk.terms)
        if terms.registration == "closed":
            raise Wrong("nobody can register here now; ask whoever runs the server for an account")
        if self._person.interactive:
            self._person.say(f"An account at {' or '.join(terms.domains)}.")
        name = self._person.ask("Name: ").strip()
        password = self._new_password()
        invitation = self._person.ask("Invitation: ").strip() if terms.registration == "invitation" else ""
        address = self._asking(lambda: desk.register(name, password, invitation))
        self._person.say(f"{address} is registered")
        self._asking(lambda: self.mail.log_in(address, password))
        self._name = address
        self._greet()

    def _new_password(self) -> str:
        password = self._person.ask_secret("Password: ")
        if self._person.interactive and self._person.ask_secret("The same again: ") != password:
            raise Wrong("the two passwords differ")
        return password

    def login(self, name: str = "") -> None:
        """Log in as ``name``, or else as who was said to."""
        name = name or self._name or self._person.ask("Name: ").strip()
        self._name = ""
        password = self._person.ask_secret("Password: ")
        self._asking(lambda: self.mail.log_in(name, password))
        self._greet()

    def _greet(self) -> None:
        self._letters = self._asking(self.mail.letters)
        count = len(self._letters)
        self._person.say(f"logged in as {self.mail.name}: {count} {'letter' if count == 1 else 'letters'}")

    def _list(self) -> None:
        self._show(Folder.INBOX)

    def _sent(self) -> None:
        self._show(Folder.SENT)

    def _show(self, folder: Folder) -> None:
        self._letters = self._asking(lambda: self.mail.letters(folder))
        if not self._letters:
            self._person.say("no letters")
        headings = self.mail.headings(self._letters)
        number = {letter: place for place, letter in enumerate(self._letters, 1)}
        for letter, heading in headings:
            self._person.say(self._row(number[letter], letter, heading))

    def _row(self, number: int, letter: Letter, heading: Heading) -> str:
        mark = "D" if self.mail.is_deleted(letter) else ""
        when = day(heading.date)
        who = heading.recipients if letter.folder is Folder.SENT else heading.sender
        if not self._person.interactive:
            return "\t".join((str(number), mark, when, who, heading.subject, str(letter.octets)))
        row = f"{number:4} {mark:1} {when:16} {who[:24]:24} {size(letter.octets):>8} {heading.subject}"
        return row[: os.get_terminal_size().columns - 1 or None] if sys.stdout.isatty() else row

    def _read(self, number: str) -> None:
        letter = self._fetched(number)
        for name, people in (("From", letter.sender), ("To", letter.to), ("Cc", letter.cc)):
            if people:
                self._person.say(f"{name}: {', '.join(map(str, people))}")
        for name in ("Date", "Subject"):
            self._person.say(f"{name}: {letter.header(name)}")
        self._person.say()
        self._person.say(letter.text.rstrip("\n"))
        if letter.attachments:
            self._person.say()
        for place, attachment in enumerate(letter.attachments, 1):
            kind, octets = attachment.media_type, size(len(attachment.content))
            self._person.say(f"[attachment {place}: {attachment.name}, {kind}, {octets}]")

    def _save(self, number: str, which: str, folder: str = ".") -> None:
        attachments = self._fetched(number).attachments
        if which != "all" and not _is_number(which, len(attachments)):
            raise Wrong(f"the letter has {len(attachments)} attachments; give the number of one, or all")
        for attachment in attachments if which == "all" else [attachments[int(which) - 1]]:
            path = reading.save(attachment, _path(folder))
            self._person.say(f"saved as {one_line(str(path))}")

    def _send(self) -> None:
        to = self._person.ask("To: ")
        cc = self._person.ask("Cc: ")
        subject = self._person.ask("Subject: ")
        self._compose(Draft(to, subject, "", cc))

    def _reply(self, number: str, everybody: str = "") -> None:
        if everybody not in ("", "all"):
            raise Wrong("usage: reply N [all]")
        letter = self._fetched(number)
        draft = drafts.reply(letter, self.mail.address, everybody=bool(everybody))
        if draft.to:
            self._person.say(f"To: {draft.to}")
        else:
            draft = replace(draft, to=self._person.ask("To: "))
        if draft.cc:
            self._person.say(f"Cc: {draft.cc}")
        self._person.say(f"Subject: {draft.subject}")
        self._compose(draft)

    def _forward(self, number: str) -> None:
        draft = drafts.forward(self._fetched(number))
        self._compose(replace(draft, to=self._person.ask("To: ")))

    def _compose(self, draft: Draft) -> None:
        """Ask for the rest of a letter, and send it. What ``draft`` has as its text comes behind what is typed."""
        line = self._person.ask("Files to attach: ")
        try:
            paths = tuple(map(_path, shlex.split(line)))
        except ValueError as error:
            raise Wrong(f"the files to attach: a quotation mark is missing ({error})") from error
        draft = replace(draft, attachments=(*draft.attachments, *paths))
        self.mail.check(draft)
        if self._person.interactive:
            self._person.say("The text; a line of one dot ends it.")
        lines = []
        while (line := self._person.ask("")) != ".":
            lines.append(line)
        self._hand_in(replace(draft, text="\n".join(lines) + draft.text))

    def _hand_in(self, draft: Draft) -> None:
        self._unsent = draft
        try:
            recipients = self._asking(lambda: self.mail.send(draft, self._person.progress))
        except MailError:
            if self._person.interactive:
                self._person.say("The letter is kept: retry sends it again, and asks to whom.")
            raise
        self._unsent = None
        self._person.say(f"sent to {', '.join(recipients)}")

    def _retry(self) -> None:
        if self._unsent is None:
            raise Wrong("there is no letter that was not sent")
        to = self._person.ask(f"To [{one_line(self._unsent.to)}]: ").strip()
        cc = self._person.ask(f"Cc [{one_line(self._unsent.cc)}]: ").strip()
        self._hand_in(replace(self._unsent, to=to or self._unsent.to, cc=cc or self._unsent.cc))

    def _delete(self, number: str) -> None:
        self.mail.delete(self._letter(number))
        self._person.say(f"{number} is marked; quit deletes it")

    def _undelete(self, number: str) -> None:
        self.mail.undelete(self._letter(number))
        self._person.say(f"{number} stays")

    def _trace(self, which: str) -> None:
        if which not in ("on", "off"):
            raise Wrong("usage: trace on|off")
        self._traced = which == "on"

    def _quit(self) -> None:
        if self.mail.name:
            count = self._asking(self.mail.leave)
            if count:
                self._person.say(f"deleted: {count}")
        raise Quit

    def _letter(self, number: str) -> Letter:
        if not _is_number(number, len(self._letters)):
            raise Wrong(f"there is no letter {one_line(number)[:20]}; list shows which there are")
        return self._letters[int(number) - 1]

    def _fetched(self, number: str) -> Reading:
        letter = self._letter(number)
        return reading.read(self._asking(lambda: self.mail.fetch(letter, self._person.progress)))


def _is_number(text: str, most: int) -> bool:
    return bool(re.fullmatch("[0-9]{1,9}", text)) and 0 < int(text) <= most


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise Wrong(f"{one_line(text)}: {error}") from error


C = Commands
# fmt: off
COMMANDS: dict[str, Command] = {
    "register": Command(C._register, "",               "make an account: name, password, invitation if one is needed"),
    "login":    Command(C.login,     "[NAME]",         "log in: name, password"),
    "list":     Command(C._list,     "",               "list the letters that have come, the newest first"),
    "sent":     Command(C._sent,     "",               "list the letters that you have sent"),
    "read":     Command(C._read,     "N",              "show a letter of the last list"),
    "save":     Command(C._save,     "N M|all [DIR]",  "save attachment M, or all, of a letter"),
    "send":     Command(C._send,     "",               "write a letter: to, cc, subject, files, text, a lone dot"),
    "reply":    Command(C._reply,    "N [all]",        "answer it, or all who got it: files, text, a lone dot"),
    "forward":  Command(C._forward,  "N",              "hand it on: to, files, text, a lone dot"),
    "retry":    Command(C._retry,    "",               "send again what could not be sent: to, cc"),
    "delete":   Command(C._delete,   "N",              "mark a letter; quit deletes it"),
    "undelete": Command(C._undelete, "N",              "take the mark away"),
    "trace":    Command(C._trace,    "on|off",         "show what is said to the servers, and what they say"),
    "help":     Command(C._help,     "",               "show this"),
    "quit":     Command(C._quit,     "",               "delete what is marked, and leave"),
}
# fmt: on
