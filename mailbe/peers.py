"""The hosts at the other end: who they are, which of their addresses count as one, and why TLS with them failed."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


def who(peer: object) -> tuple[str, bool]:
    """The IP address of a peer (a Twisted address; empty where it has none), and whether it is this machine's own."""
    host = getattr(peer, "host", None)
    return ("", True) if host is None else _host(host)


@lru_cache(10_000)
def _host(host: str) -> tuple[str, bool]:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address), address.is_loopback


def household(peer: str) -> str:
    """What counts as one address: of IPv6 its /64, as who has one address there has all of them."""
    return str(ipaddress.ip_network((peer, 64), strict=False)) if ":" in peer else peer


def why_no_tls(error: BaseException | None) -> str:
    """OpenSSL's last word on what went wrong."""
    errors = error.args[0] if error is not None and error.args else None
    return str(errors[-1][-1]) if errors else "the client has gone"
