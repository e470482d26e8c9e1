"""A Dovecot of its own for a test, on loopback: one that serves a Maildir by POP3, or one that relays to mailbe."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.end_to_end.programs import find, reserved_port
from tests.end_to_end.relays import SECONDS, listens, reachable_folder
from tests.end_to_end.server import eventually

PASSWORD = "dormouse"  # of every user

# Each service is rid of its chroot, which only root can enter.
SETTINGS = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = {protocol}
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
mail_location = maildir:{folder}/mail
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/home
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service {protocol}-login {{
  chroot =
  inet_listener {protocol} {{
    port = {port}
  }}
  inet_listener {protocol}s {{
    port = 0
  }}
}}
"""


class Dovecot:
    """Dovecot with a copy of ``maildir``, since it serves no mail as root and marks what it has seen."""

    def __init__(
        self, maildir: Path | None = None, protocol: str = "pop3", password: str = PASSWORD, **settings: object
    ) -> None:
        """:param settings: more of them, by their names."""
        self._settings = {"protocol": protocol, "password": password}
        self._more = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self._maildir = maildir
        self.port = 0

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def __enter__(self) -> Self:
        program = find("dovecot")
        assert program, "Dovecot is not installed"
        with ExitStack() as left:
            self.port = left.enter_context(reserved_port())
            self._folder = left.enter_context(reachable_folder("dovecot"))
            self._fill()
            self._process = subprocess.Popen([program, "-F", "-c", str(self._folder / "settings")])
            left.callback(self._process.wait, SECONDS)
            left.callback(self._process.terminate)
            eventually(self._listens, "Dovecot listens", SECONDS)
            self._left = left.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.close()

    def _fill(self) -> None:
        mail, home = self._folder / "mail", self._folder / "home"
        home.mkdir()
        if self._maildir:
            shutil.copytree(self._maildir, mail)
        else:
            mail.mkdir()
        user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        account = pwd.getpwnam(user)
        if os.geteuid() == 0:
            for path in (home, mail, *mail.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid)
        fields = {"folder": self._folder, "user": user, "group": grp.getgrgid(account.pw_gid).gr_name}
        text = SETTINGS.format_map(fields | self._settings | {"port": self.port})
        (self._folder / "settings").write_text(text + self._more)

    def _listens(self) -> bool:
        assert self._process.poll() is None, "Dovecot ended at once"
        return listens(self.port)


def dovecot_relay(onward: int, name: str, password: str) -> Dovecot:
    """Dovecot that hands letters on to the submission port ``onward``, where it logs in as ``name``.

    Its own users have that password too.
    """
    relay = {"host": "127.0.0.1", "port": onward, "user": name, "password": password}
    settings = {f"submission_relay_{key}": value for key, value in relay.items()}
    return Dovecot(None, "submission", password, hostname="dovecot.test", **settings)
