"""POP3 as a client speaks it.

The standard library's ``poplib`` reads no line of more than 2048 octets, which letters have, sends one command at a
time, and cannot tell how far it is.
"""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NoReturn

from mailbe.client.errors import Gone, InUse, MailError, NoAnswer, Refused, TryLater
from mailbe.client.printable import one_line
from mailbe.client.wire import CHUNK, Progress, Wire

LONGEST_REPLY = 8192  # octets of a line; RFC 2449 4 has 512
MOST_LETTERS = 10**6
AT_ONCE = 50  # commands that are sent before their replies are read
LONGEST_LETTER = 1 << 30  # octets
SLACK = 1 << 20  # octets by which a letter may be longer than twice what the server says

# RFC 2449 8.1, RFC 3206 4
CODES: dict[str, type[MailError]] = {"IN-USE": InUse, "LOGIN-DELAY": TryLater, "SYS/TEMP": TryLater}
_CODE = re.compile(r"\[([A-Za-z/-]+)\] *(.*)")


class BadCredentials(Refused):
    """The name or the password is wrong."""


class Pop3:
    """A session with a POP3 server."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.capabilities: dict[str, list[str]] = {}
        """By name, each with its parameters; empty where the server has no CAPA."""
        self._greeted = False

    def greet(self) -> None:
        if not self._greeted:
            self._reply()
            self._greeted = True
        try:
            lines = self._lines("CAPA")
        except Refused:
            lines = []
        words = [line.decode("ascii", "replace").split() for line in lines]
        self.capabilities = {name.upper(): parameters for name, *parameters in filter(None, words)}

    @property
    def may_start_tls(self) -> bool:
        return "STLS" in self.capabilities

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        self._ask("STLS")
        self.wire.start_tls(context, name)
        self.greet()  # what was told in plaintext counts no more (RFC 2595 4)

    @property
    def is_ours(self) -> bool:
        """Whether the server says that it is mailbe."""
        return " ".join(self.capabilities.get("IMPLEMENTATION", ())).startswith("mailbe")

    def log_in(self, name: str, password: str) -> None:
        """Open the maildrop, with headers of UTF-8 as they are where the server has that.

        :raises BadCredentials, InUse, TryLater, Refused, NoAnswer:
        """
        utf8 = self.capabilities.get("UTF8")
        if utf8 is not None:
            with contextlib.suppress(Refused):  # then headers come in ASCII, as from a server without it
                self._ask("UTF8")
        # RFC 6856 2.2: USER and PASS are ASCII but for a server that says so; AUTH PLAIN is UTF-8 (RFC 4616 2).
        takes_it = (name + password).isascii() or "USER" in map(str.upper, utf8 or ())
        takes_plain = "PLAIN" in map(str.upper, self.capabilities.get("SASL", ()))
        if takes_plain and not (takes_it and "USER" in self.capabilities):
            self._ask("AUTH PLAIN", continued=True)
            response = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
            self._prove(response)
        elif not takes_it:
            raise Refused(
                f"{self.wire.place} takes ASCII alone in names and passwords, as it offers neither UTF8 USER "
                "(RFC 6856) nor AUTH PLAIN (RFC 4616)"
            )
        else:
            try:
                self._ask(f"USER {name}")
            except Refused as error:
                raise BadCredentials(str(error)) from error
            self._prove(f"PASS {password}")

    def _prove(self, line: str) -> None:
        try:
            self._ask(line)
        except (InUse, TryLater):
            raise
        except Refused as error:
            # RFC 3206 4: with SYS/PERM the password is not to blame.
            if str(error).upper().startswith("[SYS/PERM]"):
                raise
            raise BadCredentials(str(error)) from error

    def letters(self) -> list[tuple[int, str, int]]:
        """Number, unique-id and size in octets of every letter."""
        listed = dict(self._pairs("LIST"))
        sizes = {number: int(size) for number, size in listed.items() if re.fullmatch("[0-9]{1,12}", size)}
        try:
            unique_ids = dict(self._pairs("UIDL"))
        except Refused:  # a server need not know it (RFC 1939 7)
            unique_ids = self._digests(list(listed))
        return [(number, uid, sizes.get(number, 0)) for number, uid in unique_ids.items()]

    def _digests(self, numbers: Sequence[int]) -> dict[int, str]:
        """What tells the letters apart where the server does not: their headers, or else all of them.

        Of letters that are alike the first is the first, and it does not matter which of them is deleted.
        """
        unique_ids: dict[int, str] = {}
        seen: Counter[str] = Counter()
        for number, header in list(self.tops(numbers)):
            digest = sha256(self.retr(number, LONGEST_LETTER, None) if header is None else header).hexdigest()
            seen[digest] += 1
            unique_ids[number] = f"{digest}.{seen[digest]}"
        return unique_ids

    def _pairs(self, command: str) -> Iterator[tuple[int, str]]:
        for line in self._lines(command):
            number, _, rest = line.decode("ascii", "backslashreplace").partition(" ")
            if not re.fullmatch("[0-9]{1,9}", number) or not rest.strip():
                raise NoAnswer(f"{self.wire.place} answers {command} with what is no list of letters")
            yield int(number), rest.split()[0]

    def tops(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
        """The header of each letter, or ``None`` where the server does not give it."""
        for some in self._batches(numbers):
            self._send(*(f"TOP {number} 0" for number in some))
            for number in some:
                try:
                    self._reply()
                except (Refused, TryLater):
                    yield number, None
                else:
                    yield number, b"".join(self._text(SLACK))

    def retr(self, number: int, octets: int, progress: Progress | None) -> bytes:
        """A letter.

        :param octets: its size, as LIST tells it.
        :raises Gone: the server does not have it any more, or does not give it.
        """
        try:
            self._ask(f"RETR {number}")
        except Refused as error:
            raise Gone(f"the server does not give this letter: {error}") from error
        lines, done, told = [], 0, 0
        for line in self._text(min(2 * octets + SLACK, LONGEST_LETTER)):
            lines.append(line)
            done += len(line)
            if progress is not None and done - told >= CHUNK:
                told = done
                progress(min(done, octets), octets)
        if progress is not None:
            progress(octets, octets)
        return b"".join(lines)

    def dele(self, numbers: Sequence[int]) -> int:
        """Mark letters as deleted; QUIT deletes them. Returns how many the server has marked."""
        marked = 0
        for some in self._batches(numbers):
            self._send(*(f"DELE {number}" for number in some))
            for _ in some:
                try:
                    self._reply()
                    marked += 1
                except (Refused, TryLater):
                    pass  # the next listing shows it again
        return marked

    def quit(self) -> None:
        """Have what is marked deleted, and hang up.

        :raises Refused, TryLater: some may not have been deleted (RFC 1939 6).
        """
        try:
            self._ask("QUIT")
        finally:
            self.wire.close()

    def _batches(self, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
        """Those of which a command each may be sent before the replies are read (RFC 2449 6.6)."""
        size = AT_ONCE if "PIPELINING" in self.capabilities else 1
        return (numbers[begin : begin + size] for begin in range(0, len(numbers), size))

    def _ask(self, command: str, *, continued: bool = False) -> str:
        self._send(command)
        return self._reply(continued=continued)

    def _lines(self, command: str) -> list[bytes]:
        self._ask(command)
        return [line.rstrip(b"\r\n") for line in self._text(MOST_LETTERS * 80)]

    def _send(self, *commands: str) -> None:
        self.wire.sendall("".join(f"{command}\r\n" for command in commands).encode())

    def _reply(self, *, continued: bool = False) -> str:
        line = self.wire.readline(LONGEST_REPLY)
        if line.startswith(b"+OK") or (continued and line.startswith(b"+")):
            return line[3:].decode("utf-8", "replace").strip()
        if line.startswith(b"-ERR"):
            self._refused(one_line(line[4:].decode("utf-8", "replace")))
        raise NoAnswer(f"{self.wire.place} does not speak POP3")

    def _refused(self, words: str) -> NoReturn:
        match = _CODE.match(words)
        if match and (kind := CODES.get(match[1].upper())):
            raise kind(match[2])
        raise Refused(words)

    def _text(self, most: int) -> Iterator[bytes]:
        """The lines, with their ends, of a text up to its lone dot (RFC 1939 3)."""
        octets = 0
        while (line := self.wire.readline()) not in (b".\r\n", b".\n"):
            octets += len(line)
            if octets > most:
                raise NoAnswer(f"{self.wire.place} sends more than it said; that is given up")
            yield line[1:] if line.startswith(b".") else line
