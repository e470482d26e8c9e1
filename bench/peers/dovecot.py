"""Dovecot: POP3 in the fast way of its documentation, and for Postfix the one who knows passwords."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import PASSWORD, Peer, free_port, program

# Log-in processes that serve many clients each ("high-performance mode"), and mail processes that are used again,
# are what its documentation has for many log-ins. The password is compared as it is: nothing is cheaper.
COMMON = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home/%u
}}
service stats {{
  chroot =
}}
service anvil {{
  chroot =
}}
"""

MAIL = """\
protocols = pop3
mail_location = maildir:{folder}/mail/%n
maildir_very_dirty_syncs = yes
mail_max_userip_connections = 0
service pop3-login {{
  chroot =
  service_count = 0
  process_min_avail = {cores}
  client_limit = 2000
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service pop3 {{
  service_count = 1000
  process_min_avail = {cores}
  process_limit = 2000
}}
"""

ONLY_PASSWORDS = """\
protocols =
auth_mechanisms = plain
service auth {{
  unix_listener {socket} {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
"""


def nobody() -> tuple[int, int]:
    """Whose the mail is with those that serve none as root."""
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def write_settings(folder: Path, text: str, **fields: object) -> list[str]:
    """Write the configuration; returns the command that starts Dovecot with it."""
    uid, gid = nobody()
    (folder / "home").mkdir()
    os.chown(folder / "home", uid, gid)
    settings = folder / "dovecot.conf"
    settings.write_text((COMMON + text).format(folder=folder, password=PASSWORD, uid=uid, gid=gid, **fields))
    return [program("dovecot") or "", "-F", "-c", str(settings)]


def dovecot_version() -> str:
    command = [program("dovecot") or "", "--version"]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()[0]  # noqa: S603


class Dovecot(Peer):
    """Dovecot 2.3."""

    name = "Dovecot"
    rows = ("P*", "I-POP3")
    mail_user = nobody()
    idle = 200  # a process each

    @classmethod
    def missing(cls) -> str:
        if os.geteuid():
            return "is run by root only"
        return "" if program("dovecot") else "needs the Debian package dovecot-pop3d"

    @classmethod
    def version(cls) -> str:
        return dovecot_version()

    def mailbox(self, user: str) -> Path:
        return self.folder / "mail" / user

    def command(self, users: Sequence[str]) -> list[str]:
        (self.folder / "mail").mkdir()
        os.chown(self.folder / "mail", *self.mail_user)
        self.ports = {"pop3": free_port()}
        return write_settings(self.folder, MAIL, port=self.ports["pop3"], cores=os.cpu_count())
