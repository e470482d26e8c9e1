"""The hosts at the other end: who they are, which of their addresses count as one, and why TLS with them failed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Unknown:
    """The address of a client of whom nothing is known but who has passed it on."""

    host: str
    """The IP address of that one; empty where it has none."""


def who(peer: object) -> tuple[str, bool]:
    """The IP address of a peer, empty where it has none, and whether it is this machine's own.

    :param peer: a Twisted address, or ``Unknown``.
    """
    if isinstance(peer, Unknown):
        return peer.host, False
    host = getattr(peer, "host", None)
    return ("", True) if host is None else plain(host)


@lru_cache(10_000)
def plain(host: str) -> tuple[str, bool]:
    """An IP address as it is counted, an IPv4 one within IPv6 as what it is; and whether it is this machine's own."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address), address.is_loopback


def household(peer: str) -> str:
    """What counts as one address: of IPv6 its /64, as who has one address there has all of them."""
    return str(ipaddress.ip_network((peer, 64), strict=False)) if ":" in peer else peer


def is_in(peer: str, networks: Iterable[Network]) -> bool:
    """Whether the IP address ``peer``, empty where it has none, is in one of ``networks``."""
    return bool(peer) and any(ipaddress.ip_address(peer) in network for network in networks)


def network(text: str) -> Network:
    """What ``text`` names: ``192.0.2.0/24``, ``2001:db8::1``.

    :raises ValueError:
    """
    return ipaddress.ip_network(text)


def why_no_tls(error: BaseException | None) -> str:
    """OpenSSL's last word on what went wrong."""
    errors = error.args[0] if error is not None and error.args else None
    return str(errors[-1][-1]) if errors else "the client has gone"
