"""A Dovecot of its own for a test: POP3 on loopback, serving one Maildir."""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.end_to_end.programs import find
from tests.end_to_end.server import eventually

SECONDS = 30
PASSWORD = "dormouse"  # of every user

# Each service is rid of its chroot, which only root can enter.
SETTINGS = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
protocols = pop3
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
  args = uid={user} gid={group} home={folder}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""


class Dovecot:
    """Dovecot with a copy of ``maildir``, since it serves no mail as root and marks what it has seen."""

    def __init__(self, maildir: Path) -> None:
        # Its sockets need a short path. Root hands the copy to somebody else, who must get there.
        self._folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self._folder.chmod(0o755)
        shutil.copytree(maildir, self._folder / "mail")
        user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        account = pwd.getpwnam(user)
        if os.geteuid() == 0:
            for path in [self._folder / "mail", *(self._folder / "mail").rglob("*")]:
                os.chown(path, account.pw_uid, account.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        group = grp.getgrgid(account.pw_gid).gr_name
        fields = {"folder": self._folder, "user": user, "group": group, "password": PASSWORD, "port": self.port}
        (self._folder / "settings").write_text(SETTINGS.format_map(fields))

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def __enter__(self) -> Self:
        program = find("dovecot")
        assert program, "Dovecot is not installed"
        self._process = subprocess.Popen([program, "-F", "-c", str(self._folder / "settings")])
        eventually(self._listens, "Dovecot listens", SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        shutil.rmtree(self._folder)

    def _listens(self) -> bool:
        assert self._process.poll() is None, "Dovecot ended at once"
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False
