"""The maildrop in which a server keeps what somebody has sent, so that our letters are deleted there, too.

Its name is tried only where the server says that it is mailbe: anywhere else it may be somebody's, and to try it would
count as a log-in that failed.
"""

from __future__ import annotations

import re
from dataclasses import replace

from mailbe import sent
from mailbe.conform.pop3 import Capabilities
from mailbe.conform.sasl import Login

_OURS = re.compile(r"mailbe(?![a-z0-9])", re.IGNORECASE)


def of(login: Login, capabilities: Capabilities) -> Login | None:
    """How to log in to the copies of what ``login`` sends; ``None`` where there are none that POP3 could open."""
    if not _OURS.match(" ".join(capabilities.get("IMPLEMENTATION", []))):
        return None
    local, at, domain = login.user.rpartition("@") if "@" in login.user else (login.user, "", "")
    quote = '"' if local.startswith('"') and local.endswith('"') else ""  # as sent.owner() reads it
    return replace(login, user=f"{local.removesuffix(quote)}{sent.SUFFIX.decode()}{quote}{at}{domain}")
