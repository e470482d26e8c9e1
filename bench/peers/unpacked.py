"""Servers that cannot be installed beside Postfix: each runs in a view of the file system of its own.

``dpkg -x`` unpacks their packages into a folder, which lies over ``/usr`` there. Over ``/etc`` lie the users that the
packages would have made, and their configuration; ``/var/spool``, ``/var/lib`` and ``/run`` are theirs alone. Nobody
else sees any of it, and nothing is left.
"""

from __future__ import annotations

import abc
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.peers.base import DOMAIN, Peer, free_port, program
from bench.peers.dovecot import nobody
from tests.end_to_end.server import eventually

SETTLE_SECONDS = 120
FIRST_ID = 64_901  # of the packages' users, whom nobody knows outside of their view


class Unpacked(Peer):
    """A server from a package that was unpacked, or installed."""

    root: ClassVar[Path | None] = None
    """Where the packages were unpacked."""
    package: ClassVar[str]
    daemon: ClassVar[str]
    accounts: ClassVar[tuple[str, ...]]
    rows = ("S[1-5]", "I-SMTP")
    mail_user = nobody()

    @classmethod
    def path(cls) -> str:
        """Where the program is; in its own view it is in /usr/sbin."""
        unpacked = cls.root / "usr/sbin" / cls.daemon if cls.root else None
        return str(unpacked) if unpacked and unpacked.exists() else program(cls.daemon) or ""

    @classmethod
    def missing(cls) -> str:
        if os.geteuid():
            return "is run by root only"
        if not cls.path():
            return f"needs the Debian package {cls.package}, unpacked with dpkg -x into a folder that --unpacked names"
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:  # noqa: S607
            return "needs unshare -m, which is not allowed here"
        return ""

    @abc.abstractmethod
    def configuration(self, users: Sequence[str]) -> tuple[str, str]:
        """What stands in which file below /etc."""

    @abc.abstractmethod
    def arguments(self) -> list[str]:
        """Those of the daemon's command line."""

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @abc.abstractmethod
    def queued(self) -> Sequence[Path]:
        """The folders in which letters wait."""

    def mailbox(self, user: str) -> Path:
        return self.folder / "mail" / user

    def command(self, users: Sequence[str]) -> list[str]:
        for name in ("etc", "spool", "lib", "mail"):
            (self.folder / name).mkdir()
            (self.folder / name).chmod(0o755)
        os.chown(self.folder / "mail", *self.mail_user)
        self.ports = {"smtp": free_port()}
        etc = self.folder / "etc"
        known = {name: Path("/etc", name).read_text() for name in ("passwd", "group")}
        for number, account in enumerate(self.accounts, FIRST_ID):
            known["passwd"] += f"{account}:x:{number}:{number}::/var/lib/empty:/usr/sbin/nologin\n"
            known["group"] += f"{account}:x:{number}:\n"
        (self.folder / "lib" / "empty").mkdir()
        for name, text in known.items():
            (etc / name).write_text(text)
        (etc / "resolv.conf").write_text("lookup file\n")  # each connection's name is asked for, and nobody answers
        name, text = self.configuration(users)
        (etc / name).parent.mkdir(exist_ok=True)
        (etc / name).write_text(text)
        mounts = [f"mount -t overlay overlay -o lowerdir={shlex.quote(str(etc))}:/etc /etc"]
        if self.root:
            mounts.append(f"mount -t overlay overlay -o lowerdir={shlex.quote(str(self.root / 'usr'))}:/usr /usr")
        mounts += [f"mount --bind {shlex.quote(str(self.folder / name))} /var/{name}" for name in ("spool", "lib")]
        mounts.append("mount -t tmpfs tmpfs /run")
        view = " && ".join([*mounts, f"exec {shlex.join([f'/usr/sbin/{self.daemon}', *self.arguments()])}"])
        return ["unshare", "-m", "sh", "-c", view]

    def settle(self) -> None:
        def empty() -> bool:
            return not any(files for folder in self.queued() for _, _, files in os.walk(folder))

        eventually(empty, f"the queue of {self.name} is empty", SETTLE_SECONDS)

    @classmethod
    def _says(cls, *arguments: str) -> str:
        done = subprocess.run([cls.path(), *arguments], capture_output=True, text=True)  # noqa: S603
        return done.stdout + done.stderr


OPENSMTPD = """\
smtp max-message-size 50M
smtp limit max-mails 1000000
listen on 127.0.0.1 port {port}
table people {{ "@" = nobody }}
action deliver maildir "{folder}/mail/%{{rcpt.user}}" virtual <people>
match from any for domain "{domain}" action deliver
"""


class OpenSmtpd(Unpacked):
    """OpenSMTPD; the limit on letters of one connection is lifted. For its note, see docs/performance.md."""

    name = "OpenSMTPD"
    note = "250 before fsync"
    package = "opensmtpd"
    daemon = "smtpd"
    accounts = ("opensmtpd", "opensmtpq")
    idle = 500

    @classmethod
    def version(cls) -> str:
        return cls._says("-h").splitlines()[0].split()[-1]

    def configuration(self, users: Sequence[str]) -> tuple[str, str]:
        (self.folder / "lib" / "opensmtpd" / "empty").mkdir(parents=True)
        (self.spool / "smtpd").mkdir()
        (self.spool / "smtpd").chmod(0o711)
        return "smtpd.conf", OPENSMTPD.format(port=self.ports["smtp"], folder=self.folder, domain=DOMAIN)

    def arguments(self) -> list[str]:
        return ["-d"]

    def queued(self) -> Sequence[Path]:
        return [self.spool / "smtpd" / name for name in ("queue", "incoming")]


EXIM = """\
primary_hostname = {domain}
log_file_path = {folder}/spool/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
message_size_limit = 60M
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = accept_all
begin acl
accept_all:
  accept
begin routers
people:
  driver = accept
  domains = {domain}
  local_parts = lsearch;{folder}/people
  transport = maildir
begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {folder}/mail/$local_part_data
  create_directory
  user = nobody
  group = nogroup
"""


class Exim(Unpacked):
    """Exim; the limits on what is delivered at once, and not later from its queue, are lifted."""

    name = "Exim"
    package = "exim4-daemon-light"
    daemon = "exim4"
    accounts = ("Debian-exim",)
    idle = 80

    @classmethod
    def version(cls) -> str:
        # It says its version only where its user exists.
        found = re.search(rb"\0(4\.\d\d(?:\.\d+)?)\0", Path(cls.path()).read_bytes())
        return found[1].decode() if found else "4"

    def configuration(self, users: Sequence[str]) -> tuple[str, str]:
        (self.folder / "people").write_text("".join(f"{user}: {user}\n" for user in users))
        (self.spool / "exim4").mkdir()
        for folder in (self.spool, self.spool / "exim4"):
            os.chown(folder, FIRST_ID, FIRST_ID)
        return "exim4/exim4.conf", EXIM.format(port=self.ports["smtp"], folder=self.folder, domain=DOMAIN)

    def arguments(self) -> list[str]:
        return ["-bdf", "-q30m"]

    def queued(self) -> Sequence[Path]:
        return [self.spool / "exim4" / "input"]
