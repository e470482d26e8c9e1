"""What the benchmark asks of every server that it measures."""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

from bench.meters import Group, new_group
from tests.end_to_end.server import CHECKOUT, eventually

DOMAIN = "bench.test"
PASSWORD = "looking-glass-3"  # noqa: S105 (of every user, for this server's few minutes)
STOP_SECONDS = 20
START_SECONDS = 30
LETTERS_PER_FILE = 50_000  # ext4 allows 65,000 links to one file
DISTINCT = 1000  # up to so many letters are files of their own
SPARE = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/lib/postfix/sbin"])
LINE = b"The quick brown fox jumps over the lazy dog, and the dog does not even look.\r\n"
HEAD = b"From: <sender@client.test>\r\nTo: <somebody@bench.test>\r\nSubject: Benchmark\r\n\r\n"


def program(name: str) -> str | None:
    """Where a program is, or ``None``."""
    return shutil.which(name, path=SPARE)


def address(name: str) -> str:
    """A user's address."""
    return f"{name}@{DOMAIN}"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate with an ECDSA key, the fastest that every client knows, and its key."""
    chain, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "9",
    ]
    command += ["-subj", f"/CN={DOMAIN}", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    return chain, key


class Peer(abc.ABC):
    """One server. It is started in a new folder for each round."""

    name: ClassVar[str]
    rows: ClassVar[tuple[str, ...]]
    """Patterns of the keys of the rows that it can do, see ``bench.rows``."""
    note: ClassVar[str] = ""
    """What it does not do before 250, and others do."""
    mail_user: ClassVar[tuple[int, int]] = (0, 0)
    """Who its mail belongs to."""

    one_mailbox: ClassVar[bool] = False
    """Whether it puts every letter into one mailbox, once, whoever its recipients are."""
    idle: ClassVar[int] = 1000
    """How many idle connections it is asked to hold, and half as many before."""

    def __init__(self) -> None:
        self.folder = Path()
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._group: Group | None = None
        self._linked: dict[int, tuple[str, int]] = {}  # by size: the file that is linked to, and how often it is
        self._command: list[str] = []

    @classmethod
    @abc.abstractmethod
    def missing(cls) -> str:
        """What is missing to run it; empty where nothing is."""

    @classmethod
    @abc.abstractmethod
    def version(cls) -> str: ...

    @classmethod
    def suits(cls, key: str) -> bool:
        """Whether it can do this row."""
        return any(fnmatchcase(key, pattern) for pattern in cls.rows)

    def for_idle(self) -> Peer:
        """Another one of its kind, for the rows of idle connections."""
        return type(self)()

    @property
    def group(self) -> Group:
        assert self._group, "not started"
        return self._group

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process, "not started"
        return self._process.pid

    @abc.abstractmethod
    def mailbox(self, user: str) -> Path:
        """Where a user's mail lies, a Maildir."""

    @abc.abstractmethod
    def command(self, users: Sequence[str]) -> list[str]:
        """Write the configuration into ``folder``; returns what starts the server, in the foreground."""

    def start(self, folder: Path, users: Sequence[str]) -> None:
        """Start it in ``folder``, which is new, with an account for each of ``users``."""
        folder.mkdir()
        folder.chmod(0o755)
        self.folder = folder
        self._linked = {}
        self._command = self.command(users)
        self.launch()

    def launch(self) -> None:
        """Start the process, again where it was stopped, and wait until it answers on all its ports."""
        self._group = new_group(f"{self.name}-{self.folder.name}".replace("/", "-"))
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=self._group.join,
            )
        try:
            eventually(self.answers, f"{self.name} answers", START_SECONDS)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.output[-2000:]}") from None

    def answers(self) -> bool:
        """Whether it takes connections and greets."""
        assert self._process, "not started"
        assert self._process.poll() is None, f"{self.name} ended at once:\n{self.output[-2000:]}"
        return all(greets(port) for port in self.ports.values())

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def stop(self) -> None:
        """End it, and what it has started."""
        if not self._process or not self._group:
            return
        pids = self._group.pids()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for number in (signal.SIGTERM, signal.SIGKILL):
            # Those who do not end with the first of them.
            for pid in self._group.left(pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(AssertionError):
                eventually(lambda: not self.group.left(pids), f"{self.name}'s processes end", STOP_SECONDS / 4)
        self._group.close()
        self._process = self._group = None

    def settle(self) -> None:  # noqa: B027 (most have nothing to settle)
        """Wait until every letter that was acknowledged is where it belongs."""

    def warm(self, user: str) -> None:  # noqa: B027
        """Have a log-in of ``user`` behind it, without looking at the mail, where that makes a difference."""

    def count(self, user: str) -> int:
        """How many letters lie in a mailbox."""
        folders = (self.mailbox(user) / name for name in ("new", "cur"))
        return sum(sum(1 for _ in folder.iterdir()) for folder in folders if folder.is_dir())

    def fill(self, user: str, letters: int, octets: int) -> None:
        """Put letters into a mailbox, named as Maildir servers name them: with their sizes."""
        mailbox = self.mailbox(user)
        for folder in (mailbox, mailbox / "cur", mailbox / "tmp", mailbox / "new"):
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, *self.mail_user)
        text = HEAD + LINE * (octets // len(LINE))
        text += b"x" * max(0, octets - len(text) - 2) + b"\r\n"
        already = self.count(user)
        for number in range(already, already + letters):
            name = f"{1_700_000_000 + number}.M{number:06}P1Q{number:06}.bench,S={len(text)},W={len(text)}"
            stored = f"{mailbox}/new/{name}"
            source, links = self._linked.get(len(text), ("", 0))
            if letters > DISTINCT and 0 < links < LETTERS_PER_FILE:
                os.link(source, stored)
            else:
                Path(stored).write_bytes(text)
                os.chown(stored, *self.mail_user)
                source, links = stored, 0
            if letters > DISTINCT:
                self._linked[len(text)] = source, links + 1


def greets(port: int) -> bool:
    """Whether somebody says something on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
