"""What a client asks for, and what it is answered: all that pages know of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, whole. All text is as it came, but for what is said here."""

    method: str
    path: str
    target: str
    """The path, with its ``?`` and what stands behind it."""
    query: Mapping[str, str]
    """What stands behind the path's ``?``, decoded; of a name that is there twice, the last."""
    headers: Mapping[str, str]
    """By name in lower case; of a header that is there twice, the values with ``, `` between them."""
    host: str
    """The ``Host`` that is meant, with its port if it has one."""
    body: bytes
    peer: str
    """The client's IP address; empty where it has none."""
    at_home: bool
    """Whether the client is on this machine."""
    secure: bool
    """Whether it came over TLS."""

    @property
    def origin(self) -> str:
        """What a browser calls the place of our pages (RFC 6454 6.2)."""
        return f"{'https' if self.secure else 'http'}://{self.host}"

    @property
    def cookies(self) -> Mapping[str, str]:
        """Those that came with it (RFC 6265 4.2.1)."""
        pairs = (pair.strip().partition("=") for pair in self.headers.get("cookie", "").split(";"))
        return {name: value for name, equals, value in pairs if equals}


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()
