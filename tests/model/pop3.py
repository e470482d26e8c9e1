"""The model's POP3."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from tests.model.talk import COPIES, Gone, Talk

CAPABILITIES = (
    "TOP",
    "USER",
    "SASL PLAIN LOGIN CRAM-MD5",
    "RESP-CODES",
    "LOGIN-DELAY 0",
    "PIPELINING",
    "EXPIRE NEVER",
    "UIDL",
    "IMPLEMENTATION model",
    "AUTH-RESP-CODE",
    "UTF8",
    "LANG",
)


class Pop3Talk(Talk):
    """POP3."""

    name = ""
    inside = False
    utf8 = False
    numbers = itertools.count()

    def ok(self, text: str = "", lines: Iterable[str] | None = None) -> None:
        body = "" if lines is None else "".join(f"{line}\r\n" for line in lines) + ".\r\n"
        self.say(f"+OK {text}\r\n{body}".encode())

    def err(self, text: str = "no") -> None:
        self.say(f"-ERR {text}\r\n".encode())

    def run(self) -> None:
        self.ok("ready")
        try:
            while True:
                said = self.line().decode("utf-8", "replace")
                if self.wrong("hangs-up") and len(said) > 200:
                    raise Gone
                if self.overridden(said, self.fault.pop3):
                    continue
                verb, _, argument = said.partition(" ")
                state = "in" if self.inside else "out"
                method = getattr(self, f"{state}_{verb.lower()}", None) or getattr(self, f"do_{verb.lower()}", None)
                method(argument) if method else self.err()
        finally:
            # The next one may be waiting to come in.
            if self.inside and self.wrong("deletes-without-quit"):
                self.update()
            if self.inside:
                self.model.open = False

    def do_capa(self, _: str) -> None:
        tls = [] if self.secure else ["STLS"]
        first = self.wrong("offers-less-inside") and self.inside
        self.ok("", self.fault.capabilities([*CAPABILITIES[first:], *tls]))

    def do_lang(self, tag: str) -> None:
        if not tag:
            return self.ok("", ["en English", "i-default Default"])
        return self.ok("en") if tag in ("*", "en", "i-default") else self.err()

    def out_stls(self, _: str) -> None:
        if self.secure:
            return self.ok() if self.wrong("tls-again") else self.err()
        self.ok()
        self.start_tls()
        self.name = self.name if self.wrong("tls-keeps") else ""
        return None

    def in_stls(self, _: str) -> None:
        self.ok() if self.wrong("tls-again") else self.err()

    def out_utf8(self, _: str) -> None:
        self.utf8 = True
        self.ok()

    def out_user(self, name: str) -> None:
        self.name = name
        self.ok()

    def out_pass(self, password: str) -> None:
        name, self.name = self.name, ""
        self.enter(self.knows(name.encode(), password.encode()) and bool(name))

    def out_auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if mechanism not in ("PLAIN", "LOGIN", "CRAM-MD5"):
            return self.err()
        try:
            good = self.check(mechanism, initial.encode() or None)
        except ValueError:
            return self.ok() if self.wrong("any-response") else self.err()
        return self.enter(good)

    def ask(self, challenge: bytes) -> bytes:
        self.say(b"+ " + challenge + b"\r\n")
        return self.line()

    def enter(self, good: bool) -> None:
        if not good or (self.implicit and self.wrong("nobody-in-tls")):
            return self.err("[AUTH] no")
        if self.model.held_on:
            self.model.held_on = False
            return self.err("[IN-USE] later")
        if self.model.open and not self.wrong("shares"):
            return self.err("[IN-USE] later")
        self.model.open = self.inside = True
        self.session = next(self.numbers)
        self.seen: set[int] = set()
        self.store = self.model.copies if self.who == COPIES else self.model.letters
        self.letters = list(self.store.items())
        self.deleted: set[int] = set()
        return self.ok()

    def out_quit(self, _: str) -> None:
        self.ok()
        if not self.wrong("stays"):
            raise Gone

    def in_quit(self, _: str) -> None:
        self.update()
        self.inside = self.model.open = False
        self.model.held_on = self.wrong("holds-on")
        self.out_quit("")

    def update(self) -> None:
        gone = self.deleted | (self.seen if self.wrong("deletes-what-is-read") else set())
        for number in () if self.wrong("deletes-nothing") else gone:
            self.store.pop(self.letters[number - 1][0], None)

    def kept(self) -> list[int]:
        return [number for number in range(1, len(self.letters) + 1) if number not in self.deleted]

    def size(self, number: int) -> int:
        return len(self.letters[number - 1][1]) + self.wrong("counts-one-more")

    def number(self, text: str) -> int:
        good = text.isdecimal() and len(text) < 9 and 0 < int(text) <= len(self.letters)
        gone = good and int(text) in self.deleted and not self.wrong("deletes-in-name")
        return int(text) if good and not gone else 0

    def in_stat(self, _: str) -> None:
        counted = range(1, len(self.letters) + 1) if self.wrong("counts-deleted") else self.kept()
        self.ok(f"{len(counted)} {sum(map(self.size, counted))}")

    def in_list(self, text: str) -> None:
        if not text:
            return self.ok("", [f"{number} {self.size(number)}" for number in self.kept()])
        number = self.number(text)
        return self.ok(f"{number} {self.size(number)}") if number else self.err()

    def in_uidl(self, text: str) -> None:
        def line(number: int) -> str:
            uid = self.letters[number - 1][0]
            return f"{number} {uid}" + (f"-{self.session}" if self.wrong("new-ids") else "")

        if not text:
            return self.ok("", [line(number) for number in self.kept()])
        number = self.number(text)
        return self.ok(line(number)) if number else self.err()

    def in_retr(self, text: str) -> None:
        self.send(self.number(text), None)

    def in_top(self, text: str) -> None:
        match = re.fullmatch("([0-9]+) ([0-9]+)", text)
        if not match:
            return self.err()
        lines = int(match[2]) + self.wrong("top-of-one-more")
        return self.send(self.number(match[1]), 0 if self.wrong("top-of-few") and lines > 1000 else lines)

    def send(self, number: int, lines: int | None) -> None:
        if not number or self.letters[number - 1][0] not in self.store:
            return self.err()
        self.model.retrieved.add(self.letters[number - 1][0])
        if lines is None:
            self.seen.add(number)
        octets = self.letters[number - 1][1]
        header, empty, body = octets.partition(b"\r\n\r\n")
        if not header.isascii() and not self.utf8 and not self.wrong("sends-utf8"):
            return self.err("[UTF8] ask for it")
        if lines is not None:
            octets = header + empty + b"".join(line + b"\r\n" for line in body.split(b"\r\n")[:-1][:lines])
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        self.say(b"+OK\r\n")
        self.socket.sendall(self.fault.sends(stuffed) + b".\r\n")
        return None

    def in_dele(self, text: str) -> None:
        number = self.number(text)
        if not number:
            return self.err()
        self.deleted.add(number)
        return self.ok()

    def in_noop(self, _: str) -> None:
        if not self.wrong("is-silent"):
            self.ok()

    def in_rset(self, _: str) -> None:
        self.seen.clear()
        self.deleted.clear()
        self.ok()
