"""The hosts at the other end, and which of their addresses count as one."""

from __future__ import annotations

import ipaddress


def household(peer: str) -> str:
    """What counts as one address: of IPv6 its /64, as who has one address there has all of them."""
    return str(ipaddress.ip_network((peer, 64), strict=False)) if ":" in peer else peer
