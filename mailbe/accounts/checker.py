"""Whose name and password these are: one checker for SMTP AUTH and POP3.

A verified log-in is remembered for some minutes as a keyed digest of account, record and password, so
the next one of a client that asks every minute needs no hashing and no thread. The record is part of
the digest, so a changed password or a removed account ends it at once.

The guard is asked before every try, and again after a good one: of many tries at a time, only those count as made
that were over before it locked.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailbe import sent
from mailbe.accounts import schemes, scram
from mailbe.accounts.database import Account, Accounts
from mailbe.accounts.guard import Admission, Guard, Locked, Visit
from mailbe.accounts.lines import Lines
from mailbe.address import login_name
from mailbe.interfaces import IProof, OffReactor, TryLater

REMEMBERED_FOR = 5 * 60.0  # seconds
AT_ONCE = 2  # tries that are hashed; ARGON2ID takes 64 MiB for each
MAX_PAUSES = 1000  # answers that are delayed at one time
MAX_REMEMBERED = 10_000  # log-ins
MAX_LOGGED_NAME = 80  # characters of a name that nobody has
FAILED = "log-in failed: user={user} peer={peer} reason={reason}"  # docs/fail2ban/mailbe.conf reads this

log = Logger()


@implementer(ICredentialsChecker)
class MD5Checker:
    """Checks names and passwords against the accounts, and renews records below ``scheme``.

    ``scheme`` is one of the values of ``schemes.CHOICES``; ``clock`` tells the time that
    ``REMEMBERED_FOR`` and the guard's delays are measured with.
    """

    credentialInterfaces = (IUsernamePassword, IProof)

    def __init__(
        self,
        accounts: Accounts,
        guard: Guard,
        *,
        scheme: str,
        off_reactor: OffReactor,
        clock: IReactorTime,
    ) -> None:
        self._accounts = accounts
        self._guard = guard
        self._scheme = scheme
        self._off_reactor = off_reactor
        self._clock = clock
        # Before the first client comes, so that the first unknown name costs no more than the next.
        self._nobodys_records: dict[str, str] = {}
        self._nobodys_record(scheme)
        self._lines = Lines(clock, AT_ONCE)
        self._pauses: dict[Deferred[None], IDelayedCall] = {}
        self._hurrying = False
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()  # digest -> when it ends

    def requestAvatarId(self, credentials: UsernamePassword | IProof) -> Deferred[bytes | tuple[()]]:
        """``sent.avatar_id`` of the account that name and password belong to.

        ``credentials`` is a ``mailbe.interfaces.Login`` or an ``IProof``; of a plain ``UsernamePassword`` no peer
        is known, and its name is no maildrop's.

        The Deferred fails with ``UnauthorizedLogin``, with ``Locked`` or another ``TryLater`` where it cannot be
        told now, or with what ``IProof.prove`` raises.
        """
        return Deferred.fromCoroutine(self._avatar_id(credentials))

    async def _avatar_id(self, credentials: UsernamePassword | IProof) -> bytes:
        peer: str = getattr(credentials, "peer", "")
        error: Exception
        try:
            if IProof.providedBy(credentials):
                return await self._proved(credentials, peer)
            return await self._verified(credentials, peer)
        except Locked as locked:
            error, reason, delay = locked, locked.reason, locked.delay
        except _Wrong as wrong:
            error, reason, delay = UnauthorizedLogin(), "wrong-password", wrong.delay
        log.warn(FAILED, user=_printable(credentials.username), peer=peer or "unknown", reason=reason)
        await self._pause(delay)
        raise error

    async def _verified(self, credentials: UsernamePassword, peer: str) -> bytes:
        account, name, of_sent = self._look_up(credentials)
        visit = self._guard.visit(account, name, peer)
        if account is not None and self._remembers(account, credentials.password):
            await self._pause(await self._let_in(visit, self._guard.admit(visit, same_look=True)))
            return sent.avatar_id(account.address, sent=of_sent)
        async with self._lines.turn(visit.origin):
            avatar_id, delay = await self._tried(credentials, peer)
        await self._pause(delay)  # when the turn is over: others need not wait for it
        return avatar_id

    async def _tried(self, credentials: UsernamePassword, peer: str) -> tuple[bytes, float]:
        """The avatar's id, and how many seconds the answer is to wait."""
        password = credentials.password
        meant = self._look_up(credentials)
        while True:
            account = meant.account
            visit = self._guard.visit(account, meant.name, peer)
            admission = self._guard.admit(visit)
            if account is not None and self._remembers(account, password):
                return sent.avatar_id(account.address, sent=meant.sent), await self._let_in(visit, admission)
            cost = self._cost()
            fitting = await self._off_reactor(partial(self._fitting, password, account, cost))
            judged, meant = meant, self._look_up(credentials)
            if meant != judged:
                continue  # changed while we were hashing: judge what it is now
            if account is None or fitting is None:
                raise await self._wrong(visit, password)
            delay = await self._let_in(visit, self._guard.admit(visit))
            account = await self._renewed(account, fitting)
            self._remember(account, password)
            return sent.avatar_id(account.address, sent=meant.sent), delay

    async def _proved(self, proof: IProof, peer: str) -> bytes:
        account, name, of_sent = self._look_up(proof)
        visit = self._guard.visit(account, name, peer)
        self._guard.admit(visit)
        verifier = account.scram if account is not None else None
        proven = await proof.prove(
            verifier or scram.dummy_verifier(visit.name.encode(), self._guard.secret()),
            partial(self._guard.admit, visit),
        )
        if account is None or verifier is None or not proven:
            raise await self._wrong(visit, None)
        now = self._look_up(proof).account
        if now is None or (now.id, now.scram) != (account.id, verifier):
            raise TryLater(f"{account.address} was changed during its log-in")
        await self._pause(await self._let_in(visit, self._guard.admit(visit)))
        return sent.avatar_id(account.address, sent=of_sent)

    async def _let_in(self, visit: Visit, admission: Admission) -> float:
        """Write a good log-in down; returns how many seconds its answer is to wait."""
        if not admission.settled:
            try:
                await self._off_reactor(partial(self._guard.succeeded, visit))
            except Locked:
                raise
            except TryLater as error:
                log.error("a log-in of {user} is not written down: {reason}", user=visit.name, reason=str(error))
        return admission.delay

    async def _wrong(self, visit: Visit, password: bytes | None) -> _Wrong:
        # Written down before the answer is delayed: who hangs up early has had his try all the same.
        return _Wrong(await self._off_reactor(partial(self._guard.failed, visit, password)))

    async def _pause(self, seconds: float) -> None:
        # Where very many wait already, one more that is not delayed gains nothing, and one more that is costs memory.
        if not seconds or self._hurrying or len(self._pauses) >= MAX_PAUSES:
            return
        pause: Deferred[None] = Deferred()
        self._pauses[pause] = self._clock.callLater(seconds, self._end_pause, pause)
        await pause

    def _end_pause(self, pause: Deferred[None]) -> None:
        del self._pauses[pause]
        pause.callback(None)

    def hurry(self) -> None:
        """Delay no answer from now on, nor those that are being delayed: the service stops."""
        self._hurrying = True
        for pause, call in list(self._pauses.items()):
            call.cancel()
            self._end_pause(pause)

    def _cost(self) -> str:
        """The scheme that a refusal costs a hash of: the strongest that is chosen or that an account has."""
        stronger = schemes.stronger_than(self._scheme)
        return next((scheme for scheme in reversed(stronger) if self._accounts.has_scheme(scheme)), self._scheme)

    def _nobodys_record(self, scheme: str) -> str:
        if scheme not in self._nobodys_records:
            self._nobodys_records[scheme] = schemes.hash_password(secrets.token_hex().encode(), scheme)
        return self._nobodys_records[scheme]

    def _look_up(self, credentials: UsernamePassword | IProof) -> _Meant:
        name = credentials.username
        account = self._named(name)
        if account is None and getattr(credentials, "maildrop", False):
            owner = sent.owner(name)
            if owner is not None:
                return _Meant(self._named(owner), owner, sent=True)
        return _Meant(account, name, sent=False)

    def _named(self, name: bytes) -> Account | None:
        return self._accounts.named(login_name(name))

    def _fitting(self, password: bytes, account: Account | None, cost: str) -> bytes | None:
        """The password, or what SASLprep makes of it, if the account's record is of that (RFC 6856 2.2, RFC 4616 2)."""
        # A refusal costs at least one hash of the scheme ``cost``. So how long it takes does not tell
        # whether there is such an account, even while its record is of a cheaper scheme.
        spellings = _spellings(password)
        if account is None:
            for each in spellings:
                schemes.verify(each, self._nobodys_record(cost))
            return None
        try:
            fitting = next((each for each in spellings if schemes.verify(each, account.record)), None)
            if fitting is None and schemes.is_below(account.record, cost):
                for each in spellings:
                    schemes.verify(each, self._nobodys_record(cost))
        except schemes.BadRecord as error:
            remedy = f"mailbe user passwd {account.address}"
            raise TryLater(f"{account.address} has {error}; give it a new one: {remedy}") from error
        return fitting

    async def _renewed(self, account: Account, password: bytes) -> Account:
        is_good = account.scram is not None and scram.is_current(account.scram)
        if is_good and not schemes.is_below(account.record, self._scheme):
            return account
        try:
            return await self._off_reactor(lambda: self._renew(account, password))
        except (TryLater, schemes.BadPassword) as error:
            log.error("no new record for {user}: {reason}", user=str(account.address), reason=str(error))
            return account

    def _renew(self, account: Account, password: bytes) -> Account:
        record, verifier = account.record, account.scram
        if schemes.is_below(record, self._scheme):
            record = schemes.hash_password(password, self._scheme)
        if verifier is None or not scram.is_current(verifier):
            verifier = scram.make_verifier(password)
        if (record, verifier) == (account.record, account.scram):
            return account  # this password cannot be used with SCRAM
        # Only in the place of the record that was verified: the password may have been changed meanwhile.
        if self._accounts.set_record(account.id, record, verifier, expected=account.record):
            return replace(account, record=record, scram=verifier)
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


class _Meant(NamedTuple):
    """Whom a name means."""

    account: Account | None
    name: bytes
    """The account's, though there be none: for the guard it is the same as without ``+envoi``, or it would be one more
    name to guess passwords with."""
    sent: bool
    """Whether what the account has sent is meant."""


class _Wrong(Exception):
    """The password, or the proof of one, is wrong; the answer is given after ``delay`` seconds."""

    def __init__(self, delay: float) -> None:
        super().__init__()
        self.delay = delay


def _spellings(password: bytes) -> list[bytes]:
    """The password as it came, and prepared where that differs."""
    prepared = schemes.prepared(password)
    return [password] if prepared == password else [password, prepared]


def _printable(name: bytes) -> str:
    """``name`` on one line of ASCII and not too long, whatever a stranger sent as a name."""
    return ascii(name.decode("utf-8", "backslashreplace")[:MAX_LOGGED_NAME])
