"""Postfix as its package ships it, but for its ports and its mailboxes, which are virtual ones."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import DOMAIN, Peer, address, certificate, free_port, program
from bench.peers.dovecot import ONLY_PASSWORDS, nobody, write_settings
from tests.end_to_end.server import eventually

SHIPPED = Path("/etc/postfix")
QUEUES = ("maildrop", "incoming", "active", "deferred")
SETTLE_SECONDS = 120

# Nothing here has to do with speed but the queue manager's limit for one destination, which stays as it is.
MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
myhostname = {domain}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
biff = no
message_size_limit = 52428800
virtual_mailbox_limit = 0
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = hash:{folder}/mailboxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_chain_files = {key}, {certificate}
smtpd_tls_security_level = may
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth}
smtpd_tls_auth_only = yes
"""


class Postfix(Peer):
    """Postfix, with a Dovecot beside it that checks passwords where one is installed; both count."""

    name = "Postfix"
    rows = ("S*", "I-SMTP")
    mail_user = nobody()
    idle = 60  # it serves a hundred at once

    def __init__(self) -> None:
        super().__init__()
        self._dovecot: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        if os.geteuid():
            return "is run by root only"
        missing = [
            package for name, package in (("postfix", "postfix"), ("dovecot", "dovecot-core")) if not program(name)
        ]
        return f"needs the Debian packages {' and '.join(missing)}" if missing else ""

    @classmethod
    def version(cls) -> str:
        command = [program("postconf") or "", "-hd", "mail_version"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()  # noqa: S603

    def mailbox(self, user: str) -> Path:
        return self.folder / "mail" / user

    def command(self, users: Sequence[str]) -> list[str]:
        uid, gid = self.mail_user
        for name in ("config", "queue", "data", "mail", "dovecot"):
            (self.folder / name).mkdir()
        os.chown(self.folder / "mail", uid, gid)
        subprocess.run(["chown", "postfix", str(self.folder / "data")], check=True)  # noqa: S603, S607
        mailboxes = self.folder / "mailboxes"
        mailboxes.write_text("".join(f"{address(user)} {user}/\n" for user in users))
        subprocess.run([program("postmap") or "", f"hash:{mailboxes}"], check=True)  # noqa: S603
        chain, key = certificate(self.folder)
        auth = self.folder / "dovecot" / "auth"
        config = self.folder / "config"
        fields = {"folder": self.folder, "domain": DOMAIN, "uid": uid, "gid": gid, "auth": auth}
        (config / "main.cf").write_text(MAIN.format(**fields, certificate=chain, key=key))
        port = free_port()
        self.ports = {"smtp": port, "submission": port}
        # Debian has most services in a chroot, for which a script copies files; here there is none.
        master = re.sub(r"^(\S+ +\S+ +\S+ +\S+ +)y", r"\1n", (SHIPPED / "master.cf").read_text(), flags=re.MULTILINE)
        (config / "master.cf").write_text(re.sub(r"^smtp +inet", f"127.0.0.1:{port} inet", master, flags=re.MULTILINE))
        dovecot = write_settings(self.folder / "dovecot", ONLY_PASSWORDS, socket=auth)
        postfix = [program("postfix") or "", "-c", str(config), "start-fg"]
        return ["sh", "-c", f"{shlex.join(dovecot)} & exec {shlex.join(postfix)}"]

    def settle(self) -> None:
        queue = self.folder / "queue"

        def empty() -> bool:
            return not any(files for name in QUEUES for _, _, files in os.walk(queue / name))

        eventually(empty, "the queue is empty", SETTLE_SECONDS)
