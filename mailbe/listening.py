"""What the running server listens on, as it says itself in ``maildata/listening.json``.

The commands beside it read that: which ports a mail program is to be told of is known to nobody else. The file is
there from the moment the server answers clients to its end; what a crash has left is told by its
process, which is gone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IListeningPort

from mailbe.maildata import lives

FOR_SERVERS = "lmtp"


class Opened(NamedTuple):
    """A port that the server has opened."""

    listener: str
    port: IListeningPort
    proxied: bool = False
    """Whether balancers alone come to it."""


@dataclass(frozen=True, slots=True)
class Port:
    """One port that clients may come to."""

    listener: str
    """Its name in ``Configuration.endpoints``: smtp, submission, submissions, pop3, pop3s, http."""
    host: str
    """The IP address that it is open on; ``0.0.0.0`` and ``::`` are all of this machine's."""
    port: int

    @property
    def at_home(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback


@dataclass(frozen=True, slots=True)
class Listening:
    """What one server listens on."""

    domains: tuple[str, ...]
    """Those it serves; the first is its name."""
    ports: tuple[Port, ...]
    classic: bool
    """Whether EHLO is unknown, and with it STARTTLS and AUTH of SMTP."""
    has_authority: bool
    """Whether it made its certificate, so that ``tls/ca.pem`` is to be trusted."""
    proxied: tuple[str, ...] = ()
    """The listeners that clients come to through a balancer, at ports of its that we do not know."""


def listening(domains: Iterable[str], ports: Iterable[Opened], *, classic: bool, has_authority: bool) -> Listening:
    """What a server with these ports can tell of itself to clients. UNIX sockets and LMTP are left out."""
    for_clients = [opened for opened in ports if opened.listener != FOR_SERVERS]
    hosts = [(opened.listener, opened.port.getHost()) for opened in for_clients if not opened.proxied]
    return Listening(
        tuple(domains),
        tuple(Port(name, here.host, here.port) for name, here in hosts if isinstance(here, (IPv4Address, IPv6Address))),
        classic,
        has_authority,
        tuple(dict.fromkeys(opened.listener for opened in for_clients if opened.proxied)),
    )


def write(path: Path, told: Listening) -> None:
    """Let others read ``told``. Only the holder of maildata's lock may call this.

    :raises OSError:
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps({"process": os.getpid()} | asdict(told), indent=1) + "\n")
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """The server ends. Only the holder of maildata's lock may call this."""
    with contextlib.suppress(OSError):
        path.unlink()


def read(path: Path) -> Listening | None:
    """What the server that runs now has told, or ``None`` where none runs, or its file is not ours to read."""
    try:
        told = json.loads(path.read_text())
        # The process's id may have gone to another; then a command learns that nobody answers there.
        if not lives(int(told.pop("process"))):
            return None
        ports = tuple(Port(**port) for port in told.pop("ports"))
        for port in ports:
            ipaddress.ip_address(port.host.partition("%")[0])
        domains = tuple(told.pop("domains"))
        proxied = tuple(told.pop("proxied"))
        return Listening(domains, ports, proxied=proxied, **told) if domains else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
