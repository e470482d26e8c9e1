"""The ports of mail, by the listener's name: every server's, and those of mailbe where it is told nothing else."""

from __future__ import annotations

from collections.abc import Mapping

STANDARD: Mapping[str, int] = {"smtp": 25, "submission": 587, "submissions": 465, "pop3": 110, "pop3s": 995}
"""RFC 5321 4.5.4.2, RFC 6409 3.1, RFC 8314 3.3 and 3.1, RFC 1939 3."""
OURS: Mapping[str, int] = {"smtp": 2525, "submission": 2587, "submissions": 2465, "pop3": 2110, "pop3s": 2995}
IMPLICIT_TLS = ("submissions", "pop3s")
"""Where TLS begins with the first octet (RFC 8314 3)."""
