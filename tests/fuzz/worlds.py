"""What stands behind the conversations: the whole service on real storage, or the fakes; both in memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from mailbe import listing
from mailbe.accounts.database import Accounts
from mailbe.accounts.schemes import hash_password
from mailbe.address import Address
from mailbe.conversation import Conversation
from mailbe.durable import lock_folder
from mailbe.interfaces import MailboxFull, TryLater
from mailbe.maildata import Maildata
from tests.dialogue import Stage
from tests.end_to_end.server import IMPLICIT_TLS, PROTOCOLS
from tests.fakes import FakeTls, Pace, verifier
from tests.fuzz.memory import HOPELESS, TROUBLES, Disk, Patch, Service
from tests.fuzz.speech import PASSWORDS

Letters = dict[str, dict[str, bytes]]
"""By mailbox (``reception/…``, ``envoi/…``) and unique-id, in the order of the mailbox."""


class World(Protocol):
    """What the machine needs of the server's side."""

    clock: Clock
    paces: Sequence[Pace]
    """Of storage and hashing: where one is slow, what is asked of it waits for ``go``."""
    troubles: Sequence[str]
    """What can go wrong with storage."""
    trouble: str
    """What does; nothing where empty."""
    hopeless: Collection[str]
    """The troubles in which no letter can be stored."""
    left_in_spool: bool
    """Whether that may leave an unacknowledged letter behind where nobody looks before the next start."""

    def conversation(self, port: str) -> Conversation:
        """A new one, as ``port`` (of ``PROTOCOLS``) begins them."""

    def letters(self) -> Letters:
        """All letters that are stored now."""

    def stop(self) -> Deferred[Any]:
        """Wind up."""

    def remains(self) -> list[str]:
        """What is still there when all is over, and should not be."""


class Real:
    """The whole service, on a folder of its own."""

    def __init__(self, template: Path, root: Path, words: Sequence[str], patch: Patch) -> None:
        """:param template: what ``prepare`` has made."""
        shutil.copytree(template, root)
        self._root = root
        self._disk = Disk(patch)
        # No listing is believed again: whether one may be hangs upon how fast this machine is, and by that, which of
        # the calls of a disk with faults is the one that fails.
        patch(listing, "SETTLED", 10**19)
        self.paces = [Pace(), Pace(), Pace()]
        self.troubles = list(TROUBLES)
        self.hopeless = HOPELESS
        self._trouble = ""
        self.left_in_spool = False
        self._service = Service(root, words, *self.paces)
        self.clock = self._service.reactor
        self._service.privilegedStartService()
        self._service.startService()
        factories = [server[1] for server in self._service.reactor.tcpServers]
        self._listeners = {
            port: factory.wrappedFactory if port in IMPLICIT_TLS.values() else factory
            for port, factory in zip(PROTOCOLS, factories, strict=True)
        }
        for listener in self._listeners.values():
            listener.tls = FakeTls()
        self._known: dict[Path, bytes] = {}

    @property
    def trouble(self) -> str:
        return self._trouble

    @trouble.setter
    def trouble(self, trouble: str) -> None:
        self._trouble = trouble
        if trouble:
            self._disk.fail(*TROUBLES[trouble])
            self.left_in_spool |= "read only" in trouble
        else:
            self._disk.mend()

    def conversation(self, port: str) -> Conversation:
        return self._listeners[port].buildProtocol(None)

    def letters(self) -> Letters:
        with self._disk.sound():
            return {
                f"{kind}/{mailbox.name}": {path.name.partition(",")[0]: self._content(path) for path in _files(mailbox)}
                for kind in ("reception", "envoi")
                for mailbox in (self._root / kind).iterdir()
            }

    def _content(self, path: Path) -> bytes:
        if path not in self._known:
            self._known[path] = path.read_bytes()
        return self._known[path]

    def stop(self) -> Deferred[Any]:
        return self._service.stopService()

    def remains(self) -> list[str]:
        found = [f"a call later: {call}" for call in self.clock.getDelayedCalls()]
        found += [f"a conversation of {name}" for name, one in self._listeners.items() if one.conversations]
        if not self.left_in_spool:
            found += [f"a draft: {path.name}" for path in (self._root / "spool").iterdir()]
        found += [
            f"{path} has changed" for path in self._known if path.exists() and path.read_bytes() != self._known[path]
        ]
        for folder in [self._root, *self._root.glob("reception/*")]:
            try:
                os.close(lock_folder(folder))
            except BlockingIOError:
                found.append(f"a lock on {folder}")
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                if str(target := descriptor.readlink()).startswith(f"{self._root}/"):
                    found.append(f"a descriptor of {target}")
            except FileNotFoundError:
                pass  # it was that of the folder itself
        shutil.rmtree(self._root)
        return found


def make_accounts(maildata: Maildata, passwords: Mapping[str, bytes]) -> None:
    """Accounts that can log in by every mechanism; SCRAM costs the client little."""
    maildata.prepare()
    accounts = Accounts(maildata.accounts)
    for name, password in passwords.items():
        accounts.add(Address.parse(name), hash_password(password, "MD5-CRYPT"), verifier(password))
    accounts.close()


def prepare(root: Path) -> None:
    """A maildata with accounts, a certificate and no mail."""
    make_accounts(Maildata(root), PASSWORDS)
    service = Service(root, (), Pace(), Pace(), Pace())
    service.privilegedStartService()
    service.startService()
    service.stopService()


def _files(mailbox: Path) -> list[Path]:
    return sorted([*mailbox.glob("new/*"), *mailbox.glob("cur/*")], key=lambda path: path.name)


_STAGES = {
    "smtp": {"smtp"},
    "submission": {"submission"},
    "submissions": {"submission"},
    "pop3": {"pop3"},
    "pop3s": {"pop3"},
}


class Fakes:
    """The stores in memory, whose replies come in odd chunks, behind a ``Stage`` that many talk to."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = {word.removeprefix("--") for word in words}
        self._stage = Stage(["tls"])
        self._stage.lose()
        # One listener begins conversations in one way.
        self._listeners = {False: self._stage.listener, True: copy(self._stage.listener)}
        self._listeners[True].implicit_tls = True
        self._listeners[True].conversations = set()
        self.clock = self._stage.clock
        self.paces = [self._stage.world.pace]
        self.troubles = self.hopeless = ["full", "broken"]
        self._trouble = ""
        self.left_in_spool = False

    @property
    def trouble(self) -> str:
        return self._trouble

    @trouble.setter
    def trouble(self, trouble: str) -> None:
        self._trouble = trouble
        self._stage.world.failure = {"full": MailboxFull(), "broken": TryLater("disk")}.get(trouble)

    def conversation(self, port: str) -> Conversation:
        self._stage.words = _STAGES[port] | self._words
        return self._listeners[port in IMPLICIT_TLS.values()].buildProtocol(None)

    def letters(self) -> Letters:
        world = self._stage.world
        drops = {"reception": world.reception, "envoi": world.envoi}
        return {
            f"{kind}/{address}": dict(drop.letters) for kind, some in drops.items() for address, drop in some.items()
        }

    def stop(self) -> Deferred[Any]:
        return gatherResults([listener.wind_up(4) for listener in self._listeners.values()])

    def remains(self) -> list[str]:
        world = self._stage.world
        return [
            *(f"a call later: {call}" for call in self.clock.getDelayedCalls()),
            *(f"{conversation}" for one in self._listeners.values() for conversation in one.conversations),
            *(f"{address} is busy" for address, drop in world.reception.items() if drop.busy),
        ]
