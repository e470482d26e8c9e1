"""What is kept of a password for SCRAM: enough to check a proof, and not enough to log in with.

A verifier is text in the form that RFC 5803, Dovecot and PostgreSQL use::

    SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode

from passlib.utils import saslprep

# RFC 7677 4 asks for 4096 at least, and the more there are, the dearer is a guess for who has stolen a verifier. But
# the SASL library of many clients, Postfix among them, takes no more than these, and does not try another mechanism.
ITERATIONS = 65_536
SALT_OCTETS = 16


def make_verifier(password: bytes) -> str | None:
    """A new verifier of ``password``; ``None`` where no client could use the password with SCRAM.

    That is one which is not UTF-8 or which SASLprep refuses (RFC 5802 2.2), as it does the characters that are
    younger than Unicode 3.2; it works with the other mechanisms. Takes long: not for the reactor's thread.
    """
    try:
        prepared: str = saslprep(password.decode())
    except ValueError:
        return None
    if not prepared:
        return None
    salt = secrets.token_bytes(SALT_OCTETS)
    salted = hashlib.pbkdf2_hmac("sha256", prepared.encode(), salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return _text(salt, hashlib.sha256(client_key).digest(), server_key)


def is_current(verifier: str) -> bool:
    """Whether ``verifier`` has as many iterations as a new one would have."""
    return verifier.startswith(f"SCRAM-SHA-256${ITERATIONS}:")


def dummy_verifier(name: bytes, key: bytes) -> str:
    """A verifier that no password fits, for a name that has none.

    For the same ``name``, in whatever case, and the same secret ``key`` it is the same for ever, as an account's
    would be: who asks twice does not learn that nobody is there. What would name one account, as ``alice`` and
    ``alice@localhost`` do, must come here as one name.
    """
    salt, stored_key, server_key = (
        hmac.digest(key, part + b"\0" + name.lower(), "sha256") for part in (b"salt", b"StoredKey", b"ServerKey")
    )
    return _text(salt[:SALT_OCTETS], stored_key, server_key)


def _text(salt: bytes, stored_key: bytes, server_key: bytes) -> str:
    salt_text, stored, server = (b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt_text}${stored}:{server}"
