"""The realm: from a name that has been checked to what its owner may use, and how he lets it go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from mailbe.accounts.terms import AccountTerms
from mailbe.address import Address
from mailbe.interfaces import IMaildrop, ISubmitter, OffReactor
from mailbe.maildata import Maildata
from mailbe.maildir import Maildrops
from mailbe.postoffice import PostOffice
from mailbe.sent import parse_avatar_id

Avatar = tuple[type[Interface], object, Callable[[], None]]


@implementer(IRealm)
class Realm:
    """Gives POP3 an ``IMaildrop`` and SMTP an ``ISubmitter``."""

    def __init__(
        self,
        maildata: Maildata,
        maildrops: Maildrops,
        terms: AccountTerms,
        office: PostOffice,
        off_reactor: OffReactor,
    ) -> None:
        self._maildata = maildata
        self._maildrops = maildrops
        self._terms = terms
        self._office = office
        self._off_reactor = off_reactor

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]) -> Any:
        address, sent = parse_avatar_id(bytes(avatarId))
        if ISubmitter in interfaces:
            return ISubmitter, self._office.submitter(address), lambda: None
        if IMaildrop in interfaces:
            return Deferred.fromCoroutine(self._maildrop(address, sent=sent))
        raise NotImplementedError(interfaces)  # what twisted.cred asks for

    async def _maildrop(self, address: Address, *, sent: bool) -> Avatar:
        mailbox = self._maildata.envoi(address) if sent else self._maildata.reception(address)
        terms = self._terms.of(address)
        if not terms.delay:
            maildrop = await self._maildrops.open(mailbox, terms)
            return IMaildrop, maildrop, maildrop.close
        # The password was right, or nobody would learn from this that there is such an account.
        self._terms.check(address, terms.delay, sent=sent)
        maildrop = await self._maildrops.open(mailbox, terms)
        try:
            await self._off_reactor(partial(self._terms.opened, address, terms.delay, sent=sent))
        except BaseException:
            maildrop.close()
            raise
        return IMaildrop, maildrop, maildrop.close
