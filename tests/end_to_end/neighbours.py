"""Servers of others for a test to put before mailbe: Postfix passes letters on to it, and haproxy clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.programs import find
from tests.end_to_end.server import eventually

SECONDS = 30

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = postfix.test
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtputf8_enable = yes
default_transport = {transport}
"""
# As Debian ships them, but without a chroot, and with nothing that listens to a network.
MASTER = """\
postlog   unix-dgram n - n - 1 postlogd
pickup    unix  n - n 1  1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
smtp      unix  - - n - - smtp
lmtp      unix  - - n - - lmtp
error     unix  - - n - - error
retry     unix  - - n - - error
"""


class Postfix:
    """Takes letters from its ``sendmail`` and passes each on to ``transport``."""

    def __init__(self, folder: Path, transport: str) -> None:
        self._folder = folder
        self._transport = transport

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def send(self, sender: str, *recipients: str, letter: bytes) -> str:
        """Send a letter; returns what the log says when it has left."""
        program = find("sendmail") or "sendmail"
        command = [program, "-C", str(self._folder / "config"), "-i", "-f", sender, *recipients]
        before = len(self.log) if (self._folder / "log").exists() else 0
        subprocess.run(command, input=letter, check=True, timeout=SECONDS)
        eventually(lambda: ": removed" in self.log[before:] or "status=deferred" in self.log[before:], "sent", SECONDS)
        return self.log[before:]


@contextmanager
def postfix(transport: str) -> Iterator[Postfix]:
    """A Postfix of its own, for root only."""
    folder = Path(tempfile.mkdtemp(prefix="postfix-"))  # its sockets need a short path
    folder.chmod(0o755)
    for name in ("config", "queue", "data"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    (folder / "config" / "main.cf").write_text(MAIN.format(folder=folder, transport=transport))
    (folder / "config" / "master.cf").write_text(MASTER)
    command = [find("postfix") or "postfix", "-c", str(folder / "config")]
    subprocess.run([*command, "start"], check=True, timeout=SECONDS, capture_output=True)
    try:
        yield Postfix(folder, transport)
    finally:
        subprocess.run([*command, "stop"], check=True, timeout=SECONDS, capture_output=True)
        shutil.rmtree(folder)


@contextmanager
def haproxy(folder: Path, port: int, *, version: int) -> Iterator[int]:
    """A haproxy that passes clients on to ``port``, with a header of this version; gives its own port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = int(free.getsockname()[1])
    header = {1: "send-proxy", 2: "send-proxy-v2"}[version]
    (folder / "haproxy.cfg").write_text(
        f"defaults\n  mode tcp\n  timeout connect 9s\n  timeout client 30s\n  timeout server 30s\n"
        f"listen all\n  bind 127.0.0.1:{own}\n"
        f"  server one 127.0.0.1:{port} {header} check inter 200ms check-send-proxy\n"
    )
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [find("haproxy") or "haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log
        )
    try:
        eventually(lambda: _listens(own), "haproxy listens", SECONDS)
        yield own
    finally:
        process.terminate()
        process.wait(SECONDS)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def is_root() -> bool:
    return os.geteuid() == 0
