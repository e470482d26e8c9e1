"""Whose name and password these are: one checker for SMTP AUTH and POP3.

A verified log-in is remembered for some minutes as a keyed digest of account, record and password, so
the next one of a client that asks every minute needs no hashing and no thread. The record is part of
the digest, so a changed password or a removed account ends it at once.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from hashlib import blake2b

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailbe.accounts import schemes
from mailbe.accounts.database import Account, Accounts
from mailbe.interfaces import OffReactor, TryLater

REMEMBERED_FOR = 5 * 60.0  # seconds
MAX_REMEMBERED = 10_000  # log-ins
MAX_LOGGED_NAME = 80  # characters of a name that nobody has

log = Logger()


@implementer(ICredentialsChecker)
class MD5Checker:
    """Checks names and passwords against the accounts, and renews records below ``scheme``.

    ``scheme`` is one of the values of ``schemes.CHOICES``; ``clock`` tells the time that
    ``REMEMBERED_FOR`` is measured with.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, accounts: Accounts, *, scheme: str, off_reactor: OffReactor, clock: IReactorTime) -> None:
        self._accounts = accounts
        self._scheme = scheme
        self._off_reactor = off_reactor
        self._clock = clock
        # Before the first client comes, so that the first unknown name costs no more than the next.
        self._nobodys_record = schemes.hash_password(secrets.token_hex().encode(), scheme)
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()  # digest -> when it ends

    def requestAvatarId(self, credentials: UsernamePassword) -> Deferred[bytes | tuple[()]]:
        """The address, in ASCII, of the account that name and password belong to.

        ``credentials`` is a ``mailbe.interfaces.Login``; of a plain ``UsernamePassword`` no peer is known.

        The Deferred fails with ``UnauthorizedLogin``, or with ``TryLater`` where it cannot be told now.
        """
        return Deferred.fromCoroutine(self._avatar_id(credentials))

    async def _avatar_id(self, credentials: UsernamePassword) -> bytes:
        account = await self._verified(credentials.username, credentials.password)
        if account is None:
            log.warn(
                "log-in failed for {user} from {peer}",
                user=_printable(credentials.username),
                peer=getattr(credentials, "peer", "an unknown peer"),
            )
            raise UnauthorizedLogin()
        return str(account.address).encode("ascii")

    async def _verified(self, username: bytes, password: bytes) -> Account | None:
        account = self._look_up(username)
        while account is None or not self._remembers(account, password):
            fits = await self._off_reactor(partial(self._fits, password, account))
            judged, account = account, self._look_up(username)
            if account != judged:
                continue  # changed while we were hashing: judge what it is now
            if account is None or not fits:
                return None
            account = await self._renewed(account, password)
            self._remember(account, password)
            return account
        return account

    def _look_up(self, username: bytes) -> Account | None:
        try:
            return self._accounts.named(username.decode())
        except UnicodeDecodeError:
            return None

    def _fits(self, password: bytes, account: Account | None) -> bool:
        # A refusal costs at least one hash of the chosen scheme. So how long it takes does not tell
        # whether there is such an account, even while its record is of a cheaper scheme.
        if account is None:
            schemes.verify(password, self._nobodys_record)
            return False
        try:
            fits = schemes.verify(password, account.record)
            if not fits and schemes.is_below(account.record, self._scheme):
                schemes.verify(password, self._nobodys_record)
        except schemes.BadRecord as error:
            remedy = f"mailbe user passwd {account.address}"
            raise TryLater(f"{account.address} has {error}; give it a new one: {remedy}") from error
        return fits

    async def _renewed(self, account: Account, password: bytes) -> Account:
        if not schemes.is_below(account.record, self._scheme):
            return account
        try:
            return await self._off_reactor(lambda: self._renew(account, password))
        except (TryLater, schemes.BadPassword) as error:
            log.error("no new record for {user}: {reason}", user=str(account.address), reason=str(error))
            return account

    def _renew(self, account: Account, password: bytes) -> Account:
        record = schemes.hash_password(password, self._scheme)
        # Only in the place of the record that was verified: the password may have been changed meanwhile.
        if self._accounts.set_record(account.id, record, expected=account.record):
            return replace(account, record=record)
        return account

    def _remembers(self, account: Account, password: bytes) -> bool:
        digest = self._digest(account, password)
        ends = self._remembered.get(digest)
        if ends is None:
            return False
        if ends <= self._clock.seconds():
            del self._remembered[digest]
            return False
        self._remembered.move_to_end(digest)
        return True

    def _remember(self, account: Account, password: bytes) -> None:
        self._remembered[self._digest(account, password)] = self._clock.seconds() + REMEMBERED_FOR
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _digest(self, account: Account, password: bytes) -> bytes:
        # Neither a number nor a record has a NUL, so no two log-ins give the same octets.
        return blake2b(f"{account.id}\0{account.record}\0".encode() + password, key=self._key).digest()


def _printable(name: bytes) -> str:
    """``name`` on one line of ASCII and not too long, whatever a stranger sent as a name."""
    return ascii(name.decode("utf-8", "backslashreplace")[:MAX_LOGGED_NAME])
