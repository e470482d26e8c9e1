"""A Postfix of its own for a test, which passes letters on to mailbe. Root alone can start it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.programs import run
from tests.end_to_end.server import eventually

SECONDS = 120

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = postfix.test
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtp_host_lookup = native
"""
# As Debian ships them, but without a chroot, and with nothing that listens to a network.
_MASTER = """\
postlog   unix-dgram n - n - 1 postlogd
pickup    unix  n - n 1  1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
flush     unix  n - n 1000? 0 flush
smtp      unix  - - n - - smtp
lmtp      unix  - - n - - lmtp
error     unix  - - n - - error
retry     unix  - - n - - error
scache    unix  - - n - 1 scache
showq     unix  n - n - - showq
"""


class Postfix:
    """Takes letters from its ``sendmail``, and passes on all of them, its own reports and bounces too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def log(self) -> str:
        path = self._folder / "log"
        return path.read_text() if path.exists() else ""

    def send(self, sender: str, *recipients: str, letter: bytes, options: tuple[str, ...] = ()) -> None:
        """Have a letter taken into the queue."""
        run(self._folder, "sendmail", "-C", self._config, "-i", *options, "-f", sender, *recipients, stdin=letter)

    def outcome(self, recipient: str, status: str) -> str:
        """Wait until the log says that this became of a letter to ``recipient``; returns the last line that does."""
        line = re.compile(rf".* to=<{re.escape(recipient)}>, .* status={status} .*")
        end = time.monotonic() + SECONDS
        while not (found := list(map(str, line.findall(self.log)))):
            assert time.monotonic() < end, f"{recipient} is not {status}:\n{self.log}"
            time.sleep(0.02)
        return found[-1]

    def delay(self, recipient: str) -> str:
        """Wait until letters to ``recipient``, and to nobody else, are put off; returns why."""

        def reason() -> str:
            lines = run(self._folder, "postqueue", "-c", self._config, "-j").splitlines()
            waiting = [(letter["queue_name"], one) for letter in map(json.loads, lines) for one in letter["recipients"]]
            if {(queue, one["address"]) for queue, one in waiting} != {("deferred", recipient)}:
                return ""
            return str(waiting[0][1].get("delay_reason", ""))

        return eventually(reason, f"letters to {recipient} alone are put off", SECONDS)

    def try_again(self) -> None:
        """Try once more to deliver the letters that wait, now."""
        run(self._folder, "postqueue", "-c", self._config, "-f")

    @property
    def _config(self) -> str:
        return str(self._folder / "config")


@contextmanager
def postfix(**settings: str) -> Iterator[Postfix]:
    """A Postfix with these lines in its main.cf."""
    with reachable_folder("postfix") as folder:
        for name in ("config", "queue", "data"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (folder / "config" / "main.cf").write_text(_MAIN.format(folder=folder) + lines)
        (folder / "config" / "master.cf").write_text(_MASTER)
        run(folder, "postfix", "-c", str(folder / "config"), "start")
        try:
            yield Postfix(folder)
        finally:
            run(folder, "postfix", "-c", str(folder / "config"), "stop")


@contextmanager
def reachable_folder(program: str) -> Iterator[Path]:
    """A folder where others than root get to, of a short path, as sockets need one."""
    # A daemon's last process may still write there.
    with tempfile.TemporaryDirectory(prefix=f"{program}-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def listens(port: int) -> bool:
    """Whether somebody listens on this port of this host."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
