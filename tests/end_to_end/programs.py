"""The programs of others that tests need: the Debian packages that bring them, finding and running them."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

PACKAGES = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "dovecot": "dovecot-pop3d",
    "fusermount3": "fuse3",
    "gcc": "gcc and libc6-dev",
    "haproxy": "haproxy",
    "mpop": "mpop",
    "msmtp": "msmtp",
    "mutt": "mutt",
    "openssl": "openssl",
    "postfix": "postfix",
    "strace": "strace",
    "submission-login": "dovecot-submissiond",
    "swaks": "swaks",
    "thunderbird": "thunderbird",
    "tmux": "tmux",
}
SECONDS = 120  # the most that one run may take

# First Thunderbird itself, not the shell script of the same name in /usr/bin; last the daemons, and parts of them.
_PATH = os.pathsep.join(["/usr/lib/thunderbird", os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/lib/dovecot"])

_Tests = TypeVar("_Tests", bound=Callable[..., object])


def find(program: str) -> str | None:
    """The path of ``program``, or ``None`` where it is not installed."""
    return shutil.which(program, path=_PATH)


def needs(*programs: str) -> Callable[[_Tests], _Tests]:
    """Skip a test method or a class of tests where a program is missing, and name its Debian package."""
    missing = sorted({PACKAGES[program] for program in programs if not find(program)})

    def mark(tests: _Tests) -> _Tests:
        if missing:
            tests.skip = f"needs the Debian package {' and '.join(missing)}"  # type: ignore[attr-defined]
        return tests

    return mark


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 where nobody listens but who is told of it: as long as this lasts, nobody else is given it.

    Who listens there must have set SO_REUSEADDR, as nearly all do.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def opened(process: int) -> list[str]:
    """What a process has open, as links in its folder tell (proc(5))."""
    links = []
    for path in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(str(path.readlink()))
    return links


def outcome(home: Path, program: str, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    """Run a program in the folder ``home``, its user's home. Returns its status, what it printed, and all it said."""
    done = subprocess.run(
        [find(program) or program, *arguments],
        cwd=home,
        env=os.environ | {"HOME": str(home)},
        input=stdin,
        capture_output=True,
        timeout=SECONDS,
    )
    return done.returncode, done.stdout, (done.stdout + done.stderr).decode(errors="replace")


def run(home: Path, program: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run a program in the folder ``home``, its user's home; it must end well. Returns what it printed."""
    status, printed, said = outcome(home, program, *arguments, stdin=stdin)
    assert status == 0, f"{program} {' '.join(arguments)}: status {status}\n{said}"
    return printed


def run_on_a_terminal(home: Path, program: str, *arguments: str) -> None:
    """Run a full-screen program that ends by itself, and well, in the folder ``home``, its user's home."""
    ours, theirs = pty.openpty()
    screen = bytearray()

    def watch() -> None:
        try:
            while octets := os.read(ours, 65536):
                screen.extend(octets)
        except OSError:
            pass  # how a terminal tells that the program is gone

    with subprocess.Popen(
        [find(program) or program, *arguments],
        cwd=home,
        env=os.environ | {"HOME": str(home), "TERM": "vt100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = None
        watcher.join()
    os.close(ours)
    assert status == 0, f"{program}: status {status}\n{screen.decode(errors='replace')}"
