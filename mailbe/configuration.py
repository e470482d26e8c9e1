"""What the operator has asked of a server, and what a server says that cannot do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailbe import ports
from mailbe.accounts import guard
from mailbe.interfaces import Quota, Terms
from mailbe.limits import Limits
from mailbe.maildata import Maildata
from mailbe.peers import Network

DEFAULT_ENDPOINTS: Mapping[str, Sequence[str]] = {
    name: [f"tcp:{port}:interface=127.0.0.1"] for name, port in ports.OURS.items()
}

SEPARATORS = {name: name for name in "+-=_"} | {"none": ""}
REGISTRATION = ("closed", "open", "invitation")


class CannotStart(Exception):
    """The service cannot do what it was asked for; the message says why and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the operator asked for."""

    maildata: Maildata
    scheme: str
    """A password scheme of ``accounts.schemes``."""
    domains: Sequence[str] = ("localhost",)
    endpoints: Mapping[str, Sequence[str]] = field(default_factory=lambda: DEFAULT_ENDPOINTS)
    """Descriptions of Twisted endpoints, by listener: smtp, submission, pop3, submissions, pop3s, lmtp, http."""
    certificate: Path | None = None
    """The server's certificate and those that signed it, as PEM; with none, one is made."""
    key: Path | None = None
    """Its key."""
    classic: bool = False
    allow_md5: bool = False
    registration: str = "closed"
    """Who may register by himself: one of ``REGISTRATION``."""
    limits: Limits = field(default_factory=Limits)
    """What clients may take of us."""
    guard: guard.Limits = field(default_factory=guard.Limits)
    """What the guard of log-ins allows."""
    terms: Terms = field(default_factory=Terms)
    """What holds for the maildrops of accounts that have no terms of their own."""
    lmtp_from: Sequence[Network] = ()
    """From where else than this machine letters may be handed over by LMTP."""
    proxy_from: Sequence[Network] = ()
    """Where the balancers are whose word on their clients is taken."""
    separator: str = "+"
    """What stands between a name and its tag: one of the values of ``SEPARATORS``."""
    quota: Quota = field(default_factory=Quota)
    """Of accounts that have none of their own."""
    workers: int = 1
    """How many processes serve clients."""

    @property
    def strong(self) -> bool:
        """Whether the password scheme may be used where strangers can reach us."""
        return self.scheme == "ARGON2ID"
