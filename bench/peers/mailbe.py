"""mailbe itself: the one of this checkout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import update

from bench.peers.base import DOMAIN, PASSWORD, Peer, address
from mailbe import __version__
from mailbe.accounts import schemes, scram
from mailbe.accounts.database import Accounts
from mailbe.accounts.schema import ACCOUNTS
from mailbe.address import Address
from mailbe.maildata import Maildata
from tests.end_to_end.server import twistd
from tests.end_to_end.wire import Wire, encoded

PORTS = ("smtp", "submission", "pop3")


class Mailbe(Peer):
    """mailbe, with ``options`` of its command line.

    Passwords are stored with ARGON2ID, as the README advises; ``cheap`` takes MD5-crypt, where a thousand users are
    to log in and what that costs is not the question.
    """

    name = "mailbe"
    rows = ("*",)

    def __init__(self, *options: str, cheap: bool = False) -> None:
        super().__init__()
        self._options = options
        self._scheme = "md5-crypt" if cheap else "argon2id"

    @classmethod
    def missing(cls) -> str:
        return ""

    @classmethod
    def version(cls) -> str:
        return __version__

    def for_idle(self) -> Peer:
        return Mailbe(*self._options, cheap=True)

    @property
    def maildata(self) -> Maildata:
        return Maildata(self.folder / "maildata")

    def mailbox(self, user: str) -> Path:
        return self.maildata.reception(Address.parse(address(user)))

    def command(self, users: Sequence[str]) -> list[str]:
        self.maildata.prepare_root()
        record = schemes.hash_password(PASSWORD.encode(), schemes.CHOICES[self._scheme])
        accounts = Accounts(self.maildata.accounts)
        accounts.add_all((Address.parse(address(user)), record) for user in users)
        # Else everybody's first log-in would make one.
        with accounts.change() as connection:
            connection.execute(update(ACCOUNTS).values(scram=scram.make_verifier(PASSWORD.encode())))
        accounts.close()
        endpoints = [word for port in PORTS for word in (f"--{port}", "tcp:0:interface=127.0.0.1")]
        fixed = ["--maildata", str(self.maildata.root), "--domain", DOMAIN, "--password-scheme", self._scheme]
        return twistd(*fixed, *endpoints, *self._options)

    def answers(self) -> bool:
        found = re.findall(r"(\w+) listens on \S+:(\d+)$", self.output, re.MULTILINE)
        self.ports = {protocol: int(port) for protocol, port in found}
        return super().answers() and set(PORTS) <= set(self.ports)

    def warm(self, user: str) -> None:
        with Wire(self.ports["submission"]) as wire:
            wire.reply()
            said = wire.say("EHLO client.test", f"AUTH PLAIN {encoded('', address(user), PASSWORD)}", "QUIT")
            assert said.startswith("221"), said
