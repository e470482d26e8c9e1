"""The desk: people without an operator's rights get an account here, and change their own password.

Registering is judged twice: before the password is hashed, as what will be refused need not cost that, and in the
transaction that adds the account. There the address counts once more as one that has registered, and an invitation as
used; so of any number at a time, in any number of processes, no two get one name or the last use of an invitation.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from sqlalchemy import Connection
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mailbe.accounts import directory, invitations, schemes, scram, tally
from mailbe.accounts.checker import MD5Checker
from mailbe.accounts.counters import MINUTE
from mailbe.accounts.database import Account, Accounts, add_account, is_named
from mailbe.accounts.guard import Locked, place_of
from mailbe.accounts.invitations import Invitation, NoSuchInvitation
from mailbe.accounts.lines import Lines
from mailbe.accounts.rules import SHORTEST, check_new_password, new_address
from mailbe.address import Address
from mailbe.interfaces import (
    BadInvitation,
    BadNewPassword,
    IDesk,
    Login,
    NameTaken,
    OffReactor,
    RegistrationClosed,
    TryLater,
)
from mailbe.maildata import Maildata

AT_ONCE = 1  # new password that is hashed: those who log in are more

log = Logger()


@implementer(IDesk)
class Desk:
    """The desk of one maildata folder; see ``IDesk``.

    The message of a ``BadName`` or ``BadNewPassword`` is the one word that ``accounts.rules`` has for the reason.
    """

    shortest_password, longest_password = SHORTEST, schemes.MAX_PASSWORD

    def __init__(
        self,
        maildata: Maildata,
        accounts: Accounts,
        checker: MD5Checker,
        *,
        registration: str,
        domains: Sequence[str],
        separator: str,
        scheme: str,
        off_reactor: OffReactor,
        clock: IReactorTime,
        now: Callable[[], float] = time.time,
    ) -> None:
        """:param registration: one of ``configuration.REGISTRATION``.
        :param domains: those that are served beside the directory's; the first is the server's name.
        :param separator: what stands between a name and its tag, and so in no name.
        :param scheme: one of the values of ``schemes.CHOICES``.
        :param off_reactor: where passwords are hashed.
        :param now: the time in seconds since 1970.
        """
        self.registration = registration
        self._domains = domains
        self._separator = separator
        self._maildata = maildata
        self._accounts = accounts
        self._checker = checker
        self._scheme = scheme
        self._off_reactor = off_reactor
        self._lines = Lines(clock, AT_ONCE)
        self._now = now

    @property
    def domains(self) -> Sequence[str]:
        return directory.served(self._accounts, self._domains)

    async def register(self, name: str, password: str, invitation: str, peer: str) -> Address:
        if self.registration == "closed":
            raise RegistrationClosed
        address = new_address(name, self.domains, self._separator)
        try:
            async with self._lines.turn(place_of(peer)[0]):
                invited = await self._off_reactor(partial(self._register, address, password, invitation, peer))
        except _Again as again:
            # Only who can log in gets the first answer once more, and the guard counts who cannot.
            login = Login(str(address).encode(), _octets(password), peer)
            try:
                await self._checker.requestAvatarId(login)
            except (UnauthorizedLogin, Locked):  # whoever wanted the same name has heard of no wrong passwords
                raise again.error from None
            return address
        if invited is None:
            log.info("{user} registered from {peer}", user=str(address), peer=peer or "this machine")
        else:
            log.info(
                "{user} registered from {peer} by the invitation {label}-...",
                user=str(address),
                peer=peer or "this machine",
                label=invited.label,
            )
        return address

    async def change_password(self, name: str, old: str, new: str, peer: str) -> Address:
        login = Login(_octets(name.strip()), _octets(old), peer)
        avatar_id = await self._checker.requestAvatarId(login)
        account = self._accounts.at(Address.parse(bytes(avatar_id).decode()))
        if account is None:
            raise TryLater(f"{name} was removed while its password was being changed")
        async with self._lines.turn(place_of(peer)[0]):
            await self._off_reactor(partial(self._change, account, login.password, new))
        log.info("{user} changed the password from {peer}", user=str(account.address), peer=peer or "this machine")
        return account.address

    def _register(self, address: Address, password: str, code: str, peer: str) -> Invitation | None:
        check_new_password(password, address)
        try:
            with self._accounts.change() as connection:
                self._judge(connection, address, code, peer)
            record, verifier = self._texts(password)
            with self._accounts.change(lasting=True) as connection:
                invitation = self._judge(connection, address, code, peer)
                add_account(connection, address, record, verifier)
                if invitation is not None:
                    invitations.use(connection, invitation)
                tally.count(connection, tally.REGISTERED, peer, address.key, self._now())
        except (BadInvitation, NameTaken) as error:
            self._refused(error, address, peer)
        return invitation

    def _judge(self, connection: Connection, address: Address, code: str, peer: str) -> Invitation | None:
        """See that the account may be made; returns the invitation by which.

        :raises NotTaken:
        """
        now = self._now()
        tally.check(connection, tally.REFUSED, peer, now)
        invitation = None
        if self.registration == "invitation":
            # Before the name: who has none does not learn who is here. And it counts for itself how many it is for,
            # who may be a class behind one address.
            try:
                invitation = invitations.find(connection, code, now)
            except NoSuchInvitation:
                raise BadInvitation from None
        else:
            tally.check(connection, tally.REGISTERED, peer, now)
        # In any domain: a name that two have is no name to log in with, and the first would be locked out.
        # An alias has no log-in, so only that of this very address is in the way.
        if is_named(connection, address.local) or directory.alias(connection, address.key) is not None:
            raise NameTaken
        # Where the accounts are those of an old backup, a stranger must not get the mail of who had the name.
        for path in (self._maildata.reception(address), self._maildata.envoi(address)):
            if path.exists():
                log.warn("{user} is not given away: {path} lies there", user=str(address), path=str(path))
                raise NameTaken
        return invitation

    def _refused(self, error: BadInvitation | NameTaken, address: Address, peer: str) -> NoReturn:
        """Count a try that tells something, and tell it if that was not too much.

        :raises NotTaken: ``error`` itself, or ``TooOften``.
        :raises _Again:
        """
        with self._accounts.change() as connection:
            now = self._now()
            if tally.has(connection, tally.REGISTERED, peer, address.key, now, MINUTE):
                raise _Again(error)
            tally.check(connection, tally.REFUSED, peer, now)
            # Of a wrong code nothing is kept: it may be nearly right, or a password in the wrong field.
            what = address.key if isinstance(error, NameTaken) else secrets.token_hex()
            tally.count(connection, tally.REFUSED, peer, what, now)
        raise error

    def _change(self, account: Account, old: bytes, new: str) -> None:
        # The checker may have kept the answer back for seconds, in which an operator has given it another.
        if not any(schemes.verify(each, account.record) for each in {old, schemes.prepared(old)}):
            raise TryLater(f"{account.address} was changed while its password was being changed")
        if schemes.prepared(_octets(new)) == schemes.prepared(old):
            raise BadNewPassword("same")
        check_new_password(new, account.address)
        if not self._accounts.set_record(account.id, *self._texts(new), expected=account.record):
            raise TryLater(f"{account.address} was changed while its password was being changed")

    def _texts(self, password: str) -> tuple[str, str]:
        """The record and the SCRAM text of a new password."""
        verifier = scram.make_verifier(password.encode())
        if verifier is None:  # and with one account that cannot use it, SCRAM is offered to nobody
            raise BadNewPassword("characters")
        return schemes.hash_password(schemes.prepared(password.encode()), self._scheme), verifier


class _Again(Exception):
    """This address has registered this name a moment ago: many press a button twice, and see the second answer only."""

    def __init__(self, error: BadInvitation | NameTaken) -> None:
        super().__init__()
        self.error = error


def _octets(text: str) -> bytes:
    # JSON may bring half a surrogate pair. It is in no password and no name: what has it is wrong, as others are.
    return text.encode("utf-8", "surrogatepass")
