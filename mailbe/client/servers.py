"""Where the servers are: what was asked for, what a server on this machine tells of itself, or the usual ports."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from mailbe import listening
from mailbe.address import ascii_domain, is_domain
from mailbe.listening import Listening, Port
from mailbe.maildata import Maildata
from mailbe.ports import IMPLICIT_TLS, OURS, STANDARD

HOME = "localhost"
# The safest first. Where mail arrives is tried only where a server on this machine tells of no port for submission.
LISTENERS = {"smtp": ("submissions", "submission", "smtp"), "pop3": ("pop3s", "pop3")}
_IN_TLS = {ports[listener] for ports in (STANDARD, OURS) for listener in IMPLICIT_TLS}


@dataclass(frozen=True, slots=True)
class Door:
    """A port to try."""

    host: str
    port: int
    implicit_tls: bool | None
    """Whether TLS begins with the first octet; ``None``: to be found out."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of one person."""

    name: str
    """The host's name, which certificates must be made for."""
    domain: str
    """What stands behind the @ of somebody who gives a plain name."""
    pop3: tuple[Door, ...]
    smtp: tuple[Door, ...]
    site: str | None = None
    """The URL of the web side, without a slash at its end."""
    authorities: tuple[Path, ...] = ()
    """Certificates, as PEM, to trust beside the system's."""


def find(
    maildata: Path,
    host: str | None = None,
    pop3: int | None = None,
    smtp: int | None = None,
    site: str | None = None,
    ca: Path | None = None,
) -> Servers:
    """Where to go.

    :param maildata: the folder of a server on this machine, if there is one.
    :param host: of servers elsewhere.
    :param pop3, smtp: ports that were asked for, in place of others.
    """
    home = Maildata(maildata)
    told = listening.read(home.listening) if host in (None, HOME) else None
    name = told.domains[0] if told and host is None else ascii_host(host or HOME)
    at_home = told is not None or is_this_machine(name)
    authorities = [ca] if ca else []
    if at_home and os.access(home.authority, os.R_OK):
        authorities.append(home.authority)
    return Servers(
        name,
        told.domains[0] if told else name,
        _doors("pop3", name, pop3, told, at_home),
        _doors("smtp", name, smtp, told, at_home),
        site.rstrip("/") if site else _site(told),
        tuple(authorities),
    )


def ascii_host(name: str) -> str:
    """``name`` with A-labels; Python's own are those of an older standard, in which straße is strasse."""
    return ascii_domain(name) if is_domain(name) else name


def is_this_machine(host: str) -> bool:
    """Whether ``host`` is a name or an address of the loopback interface."""
    try:
        return host == HOME or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _doors(kind: str, name: str, asked: int | None, told: Listening | None, at_home: bool) -> tuple[Door, ...]:
    if asked is not None:
        host = HOME if told else name
        return (Door(host, asked, True if asked in _IN_TLS else None),)
    if told:
        ports = [port for listener in LISTENERS[kind] for port in told.ports if port.listener == listener]
        if kind == "smtp" and any(port.listener != "smtp" for port in ports):
            # Where mail arrives for this server's domains, its users are no more than anybody else.
            ports = [port for port in ports if port.listener != "smtp"]
        return tuple(Door(_reachable(port), port.port, port.listener in IMPLICIT_TLS) for port in ports)
    usual = OURS if at_home else STANDARD
    return tuple(Door(name, usual[each], each in IMPLICIT_TLS) for each in LISTENERS[kind] if each != "smtp")


def _reachable(port: Port) -> str:
    """Where a program on this machine finds a port that may be open on all of its addresses."""
    address = ipaddress.ip_address(port.host.partition("%")[0])
    return ("127.0.0.1" if address.version == 4 else "::1") if address.is_unspecified else port.host


def _site(told: Listening | None) -> str | None:
    for port in told.ports if told else ():
        if port.listener == "http":
            host = _reachable(port)
            # Nobody reads along within this machine, so there needs to be no certificate either.
            scheme = "http" if is_this_machine(host) else "https"
            return f"{scheme}://[{host}]:{port.port}" if ":" in host else f"{scheme}://{host}:{port.port}"
    return None
