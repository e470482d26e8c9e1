"""A real mailbe server in a process of its own, on a scratch maildata, for the tests to talk to."""

from __future__ import annotations

import enum
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).resolve().parents[2]
ALICE, BOB = "alice@localhost", "bob@localhost"
PASSWORDS = {ALICE: "white-rabbit-7", BOB: "mock-turtle-9"}
PROTOCOLS = ("smtp", "submission", "pop3", "submissions", "pop3s")
WITH_PAGES = (*PROTOCOLS, "http")
IMPLICIT_TLS = {"submission": "submissions", "pop3": "pop3s"}  # and the same without TLS before it
WORKERS = ["--workers", os.environ["MAILBE_TEST_WORKERS"]] if "MAILBE_TEST_WORKERS" in os.environ else []
QUICK = ("--slowest-answer-seconds", "0")  # those who fail are not made to wait
# What is waited for comes at once; a machine whose disk and processor others want may take this long.
SECONDS = 60
START_SECONDS = 60
STOP_SECONDS = 30  # the service has 4, and the rest is for what it still stores, and for its process to end

_Value = TypeVar("_Value")


_Test = TypeVar("_Test", bound=Callable[..., None])


def of_one_process(why: str) -> Callable[[_Test], _Test]:
    """Leave a test out where servers have several workers, since what it asks for each does by itself."""

    def mark(test: _Test) -> _Test:
        if WORKERS:
            test.skip = why  # type: ignore[attr-defined]
        return test

    return mark


class Security(enum.Enum):
    """When TLS begins. The values are Thunderbird's names, of its ``nsMsgSocketType``."""

    NONE = "plain"
    STARTTLS = "alwaysSTARTTLS"
    IMPLICIT = "SSL"


def eventually(condition: Callable[[], _Value | None], what: str, seconds: float = SECONDS) -> _Value:
    """Wait until ``condition()`` is true, and return what it returned; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return value


def environment() -> dict[str, str]:
    """The environment in which a program finds this checkout and its plugin."""
    path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def twistd(*arguments: str) -> list[str]:
    """The command line of the service."""
    return [str(Path(sys.executable).with_name("twistd")), "-n", "mailbe", *WORKERS, *arguments]


def mailbe(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the mailbe command to its end."""
    return subprocess.run(
        [sys.executable, "-c", "from mailbe.cli import main; raise SystemExit(main())", *arguments],
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def manage(maildata: Path, *arguments: str, stdin: str = "") -> str:
    """Run a ``mailbe user`` command, which must end well; returns what it printed."""
    command = ["--maildata", str(maildata), "user", *arguments]
    done = mailbe(*command, stdin=stdin)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def user(maildata: Path, verb: str, address: str, password: str, *options: str) -> None:
    """``mailbe user add`` and ``mailbe user passwd``."""
    manage(maildata, verb, address, "--password-stdin", *options, stdin=password + "\n")


@cache
def _maildata_of(*addresses: str) -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """A maildata with these accounts, made by the commands; it ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="mailbe-accounts-")
    maildata = Path(folder.name) / "maildata"
    for address in addresses:
        user(maildata, "add", address, PASSWORDS[address])
    return maildata, folder


def give_accounts(maildata: Path, *addresses: str) -> None:
    """Make the new maildata ``maildata`` with these accounts, as ``mailbe user add`` has once made such a one.

    Tests of that command itself, and of the disk it writes on, use ``user``.
    """
    made, _ = _maildata_of(*addresses)
    shutil.copytree(made, maildata)


class Server:
    """One ``twistd -n mailbe`` process. As a context manager it is stopped at the end, and must stop well."""

    def __init__(
        self,
        maildata: Path,
        *options: str,
        protocols: Sequence[str] = PROTOCOLS,
        interface: str = "127.0.0.1",
        working_directory: Path | None = None,
    ) -> None:
        self.maildata = maildata
        self.ports: dict[str, int] = {}
        self._protocols = protocols
        self._options = options
        self._endpoint = f"tcp:0:interface={interface}"
        self._working_directory = working_directory or maildata.parent
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def smtp(self) -> int:
        return self.ports["smtp"]

    @property
    def submission(self) -> int:
        return self.ports["submission"]

    @property
    def pop3(self) -> int:
        return self.ports["pop3"]

    @property
    def http(self) -> int:
        return self.ports["http"]

    def port(self, protocol: str, security: Security) -> int:
        """Where ``submission`` or ``pop3`` is to be had with this kind of TLS."""
        return self.ports[IMPLICIT_TLS[protocol] if security is Security.IMPLICIT else protocol]

    @property
    def ca(self) -> Path:
        """The authority that signed the certificate which the server has made."""
        return self.maildata / "tls" / "ca.pem"

    def trusting(self) -> ssl.SSLContext:
        """The settings of a client that trusts this authority, and nobody else."""
        return ssl.create_default_context(cafile=self.ca)

    @property
    def pid(self) -> int:
        assert self._process, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def stdout(self) -> str:
        """The log of the present or last run."""
        return self._output("stdout").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._output("stderr").read_text(errors="replace")

    @property
    def said(self) -> str:
        """The end of all it wrote, for the message of a failure."""
        return "".join((self.stdout + self.stderr).splitlines(keepends=True)[-30:])

    def mailbox(self, kind: str, address: str) -> Path:
        """The Maildir of ``address``; ``kind`` is ``reception`` or ``envoi``."""
        return self.maildata / kind / address

    def letters(self, kind: str, address: str) -> list[Path]:
        """The files of the letters in one mailbox, oldest first."""
        mailbox = self.mailbox(kind, address)
        return sorted([*mailbox.glob("new/*"), *mailbox.glob("cur/*")], key=lambda path: path.name)

    def start(self) -> Self:
        """Start the process and wait until it answers."""
        endpoints = [word for protocol in self._protocols for word in (f"--{protocol}", self._endpoint)]
        arguments = ["--maildata", str(self.maildata), *endpoints, *self._options]
        self._starts += 1
        with self._output("stdout").open("wb") as stdout, self._output("stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                twistd(*arguments),
                cwd=self._working_directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        try:
            eventually(self._listens, "the server listens", START_SECONDS)
            # It listens before its main loop runs; when it answers, it does.
            port = next(port for name, port in self.ports.items() if name in IMPLICIT_TLS or name == "smtp")
            with socket.create_connection(("127.0.0.1", port), START_SECONDS) as connection:
                assert connection.recv(1), "the server says nothing"
        except (AssertionError, OSError) as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.said}") from None
        return self

    def tell(self, number: signal.Signals) -> None:
        """Send the process a signal, and do not wait."""
        assert self._process, "the server was not started"
        self._process.send_signal(number)

    def join(self) -> None:
        """Wait for the end of a process that was told to stop: in time, status 0, no traceback."""
        assert self._process, "the server was not started"
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there after {STOP_SECONDS} s\n{self.said}") from None
        assert status == 0, f"status {status}\n{self.said}"
        assert "Traceback" not in self.stdout + self.stderr, self.said

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell the process to stop, and see that it does."""
        self.tell(number)
        self.join()

    def kill(self) -> None:
        """End the process as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Stop the process if it still runs."""
        if self.running:
            self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            self.kill()
        self.close()

    def _output(self, stream: str) -> Path:
        return self.maildata.with_name(f"{self.maildata.name}.{self._starts}.{stream}")

    def _listens(self) -> bool:
        found = re.findall(r"(\w+) listens on \S+:(\d+)\n", self.stdout)
        self.ports = {protocol: int(port) for protocol, port in found}
        if not self.running:
            raise AssertionError("the server ended at once")
        return set(self._protocols) <= set(self.ports)


class EndToEndTestCase(SynchronousTestCase):
    """Tests that start servers; each is stopped, and must stop well, when its test is over."""

    def scratch(self) -> Path:
        """A new, empty folder."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        return folder

    def give_letters_time(self) -> None:
        """Let no server that is started from now on cut a letter off when it stops, however slow its disk is."""
        folder = self.scratch()
        (folder / "sitecustomize.py").write_text("from mailbe import service\n\nservice.GRACE = 600.0\n")
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.patch(os, "environ", os.environ | {"PYTHONPATH": os.pathsep.join(path)})

    def serve(self, *options: str, maildata: Path | None = None) -> Server:
        """A running server with the accounts of alice and bob.

        :param maildata: a folder in which something is; there the command makes them.
        """
        if maildata is None:
            maildata = self.scratch() / "maildata"
            give_accounts(maildata, *PASSWORDS)
        else:
            for address, password in PASSWORDS.items():
                user(maildata, "add", address, password)
        server = Server(maildata, *options)
        self.addCleanup(server.close)
        return server.start()
