"""What one may call oneself here, and what may be a password: the rules for those who register by themselves.

An operator is bound by fewer: ``mailbe user add`` takes every address, and every password that POP3 can carry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zxcvbn import zxcvbn

from mailbe.accounts import schemes
from mailbe.address import MAX_LOCAL_PART, Address, find_domain
from mailbe.interfaces import BadName, BadNewPassword
from mailbe.maildata import MAX_FOLDER_NAME, folder_name

SHORTEST = 8  # characters, NIST SP 800-63B 5.1.1.2
LEAST_SCORE = 2  # of zxcvbn: more than a million guesses
# Characters, of which more only make it harder to guess. Of 72, zxcvbn's own, it takes seconds where a stranger has
# chosen them among what stands for letters (@, 4, |, 7), and the log-ins wait behind it.
MAX_JUDGED = 32

# No plus sign: what stands behind one is no part of a name at log-in.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.))*(?<![._-])")

# Who has one of these is taken for who runs the place: by people, by programs (RFC 2142), or by those who sell
# certificates (CA/Browser Forum, Baseline Requirements 3.2.2.4.4). With dots, dashes and underscores they are the same.
_RESERVED_NAMES = """
    abuse account accounts admin administrateur administration administrator all anonymous autoconfig billing bin
    bounce bounces certificate certificates contact daemon direction dmarc donotreply everyone ftp help helpdesk
    hostmaster info localhost mail mailbe mailer mailerdaemon marketing moderateur moderator mtasts news nobody noc
    noreply office operator owner password pop pop3 postmaster registrar registration root sales secretariat securite
    security service smtp spam ssl ssladmin sslwebmaster staff support sysadmin system team tech tls tlsrpt
    undisclosedrecipients usenet user users uucp virus web webmaster www
"""
RESERVED = frozenset(_RESERVED_NAMES.split())


def new_address(name: str, domains: Sequence[str], separator: str = "+") -> Address:
    """The address that who types ``name``, with or without its domain, asks for. Case and blanks around do not count.

    :param domains: those that are served; the first is meant where none is given.
    :param separator: what stands between a name and its tag: who had it in his name would get another's letters.
    :raises BadName: ``form``, ``reserved``, ``domain`` (none that is served) or ``long``.
    """
    written, at, asked = name.strip().partition("@")
    local = written.lower()
    # ASCII before it was in lower case: a Kelvin sign is no k.
    if not written.isascii() or not _NAME.fullmatch(local):
        raise BadName("form")
    if separator and separator in local:
        raise BadName("form")
    if len(local) > MAX_LOCAL_PART:
        raise BadName("long")
    if re.sub("[._-]", "", local) in RESERVED:
        raise BadName("reserved")
    domain = find_domain(asked, domains) if at else domains[0]
    if domain is None:
        raise BadName("domain")
    address = Address(local, domain)
    if len(folder_name(address)) > MAX_FOLDER_NAME:
        raise BadName("long")
    return address


def check_new_password(password: str, address: Address) -> None:
    """Whether ``password`` may be that of ``address``. May take a third of a second; not for two threads at a time.

    :raises BadNewPassword: ``characters``, ``long``, ``short`` or ``easy`` (too easy to guess).
    """
    try:
        octets = len(password.encode())
    except UnicodeEncodeError:
        raise BadNewPassword("characters") from None
    if octets > schemes.MAX_PASSWORD:
        raise BadNewPassword("long")
    if len(password) < SHORTEST:
        raise BadNewPassword("short")
    try:
        schemes.check_password_rules(password)
    except schemes.BadPassword:
        raise BadNewPassword("characters") from None
    hints = [str(address), address.local, address.domain, *re.split("[._-]", address.local), "mailbe"]
    if zxcvbn(password[:MAX_JUDGED], hints)["score"] < LEAST_SCORE:
        raise BadNewPassword("easy")
