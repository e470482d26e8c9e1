"""The parts of the model that SMTP and POP3 share: its fault, and one connection."""

from __future__ import annotations

import base64
import hmac
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.model.server import Model

DOMAIN, USER, PASSWORD = "model.test", "alice", "white-rabbit-7"
COPIES = f"{USER}+envoi"  # whose maildrop are the copies, where the model says that it is mailbe
ADDRESS = f"{USER}@{DOMAIN}"


@dataclass(frozen=True)
class Fault:
    """What the server does wrong."""

    smtp: Mapping[str, str] = field(default_factory=dict)
    """Replies to lines that match, by regular expression, whatever the state; nothing else is done."""
    pop3: Mapping[str, str] = field(default_factory=dict)
    offers: Callable[[list[str]], list[str]] = lambda offers: offers
    """What becomes of the keywords of EHLO."""
    capabilities: Callable[[list[str]], list[str]] = lambda capabilities: capabilities
    stores: Callable[[bytes], bytes] = lambda letter: letter
    """What becomes of a letter at delivery."""
    reports: Callable[[bytes], bytes] = lambda report: report
    """What becomes of a report before it is delivered."""
    sends: Callable[[bytes], bytes] = lambda octets: octets
    """What becomes of what RETR and TOP send, dots stuffed."""
    says: Callable[[bytes], bytes] = lambda octets: octets
    """What becomes of each reply."""
    words: frozenset[str] = frozenset()
    """Other faults, by the words that the code asks for."""


class Gone(Exception):
    """The client has gone, or goes."""


class Talk:
    """One connection."""

    who = USER
    """By which name somebody has logged in, or tried to."""

    def __init__(self, model: Model, connection: socket.socket, *, implicit: bool) -> None:
        self.model = model
        self.fault = model.fault
        self.implicit = implicit
        self.secure = False
        self.socket = connection
        self.read = b""
        if implicit:
            self.start_tls()

    def wrong(self, word: str) -> bool:
        return word in self.fault.words

    def start_tls(self) -> None:
        if not self.wrong("obeys-plaintext"):
            self.read = b""
        self.socket = self.model.tls.wrap_socket(self.socket, server_side=True)
        self.secure = True

    def say(self, octets: bytes) -> None:
        self.socket.sendall(self.fault.says(octets))

    def more(self) -> None:
        octets = self.socket.recv(65536)
        if not octets:
            raise Gone
        self.read += octets

    def until(self, end: bytes) -> bytes:
        while end not in self.read:
            self.more()
        octets, _, self.read = self.read.partition(end)
        return octets

    def line(self) -> bytes:
        return self.until(b"\r\n")

    def octets(self, count: int) -> bytes:
        while len(self.read) < count:
            self.more()
        octets, self.read = self.read[:count], self.read[count:]
        return octets

    def overridden(self, line: str, replies: Mapping[str, str]) -> bool:
        """Whether the fault has a reply of its own; then it is said."""
        for pattern, reply in replies.items():
            if re.fullmatch(pattern, line, re.IGNORECASE):
                self.say(reply.encode() + b"\r\n")
                return True
        return False

    def knows(self, name: bytes, password: bytes) -> bool:
        self.who = name.decode("utf-8", "replace")
        self.model.names.append(self.who)
        good = self.who in (USER, COPIES) and password == PASSWORD.encode()
        if name and not good:
            self.model.failures.append(password)
        return good or self.wrong("lets-anybody-in")

    def ask(self, challenge: bytes) -> bytes:
        raise NotImplementedError

    def check(self, mechanism: str, initial: bytes | None) -> bool:
        """Whether somebody logs in; :raises ValueError: a response is not base64."""

        def respond(challenge: bytes) -> bytes:
            return base64.b64decode(self.ask(base64.b64encode(challenge)), validate=True)

        if mechanism == "PLAIN":
            response = base64.b64decode(initial, validate=True) if initial else respond(b"")
            _, name, password = response.split(b"\0")
            return self.knows(name, password)
        if mechanism == "LOGIN":
            return self.knows(respond(b"Username:"), respond(b"Password:"))
        challenge = b"<1@model.test>"
        name, _, digest = respond(challenge).partition(b" ")
        return name == USER.encode() and digest == hmac.new(PASSWORD.encode(), challenge, "md5").hexdigest().encode()
