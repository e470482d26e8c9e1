"""What an account has sent is a maildrop too: over POP3, ``alice+envoi`` opens alice's sent copies.

So a mail program has them as one more account, with the same password. Where an account is itself named
``alice+envoi``, the name means that account; so only the checker, which knows them all, can tell.
"""

from __future__ import annotations

from mailbe.address import Address

SUFFIX = b"+envoi"
_SENT = b" " + SUFFIX  # no address ends so


def owner(name: bytes) -> bytes | None:
    """The name of the account whose sent copies ``name`` means, unless an account is named so; ``None``: of no account.

    :param name: as the client gave it: an address, or what stands before the @. Case does not count in the suffix.
    """
    local, at, domain = name.rpartition(b"@") if b"@" in name else (name, b"", b"")
    quote = b'"' if local.startswith(b'"') and local.endswith(b'"') else b""  # RFC 5321 4.1.2, Quoted-string
    local = local.removesuffix(quote)
    if not local.lower().endswith(SUFFIX):
        return None
    return local[: -len(SUFFIX)] + quote + at + domain


def avatar_id(address: Address, *, sent: bool) -> bytes:
    """How the checker tells the realm what was logged in to: an account, or the maildrop of what it has ``sent``."""
    return str(address).encode() + (_SENT if sent else b"")


def parse_avatar_id(avatar_id: bytes) -> tuple[Address, bool]:
    """The address, and whether what it has sent is meant."""
    return Address.parse(avatar_id.removesuffix(_SENT).decode()), avatar_id.endswith(_SENT)
