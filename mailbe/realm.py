"""The realm: from a name that has been checked to what its owner may use, and how he lets it go."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from mailbe.address import Address
from mailbe.interfaces import IMaildrop, ISubmitter
from mailbe.maildata import Maildata
from mailbe.maildir import Maildrops
from mailbe.postoffice import Submitter

KEPT = 10_000  # mailboxes whose place is kept in mind

Avatar = tuple[type[Interface], object, Callable[[], None]]


@implementer(IRealm)
class Realm:
    """Gives POP3 an ``IMaildrop`` and SMTP an ``ISubmitter``."""

    def __init__(self, maildata: Maildata, maildrops: Maildrops) -> None:
        self._maildrops = maildrops
        # A client that asks every minute has its mailbox's name quoted and joined once.
        self._reception = lru_cache(KEPT)(lambda avatar_id: maildata.reception(_address(avatar_id)))

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]) -> Any:
        if ISubmitter in interfaces:
            return ISubmitter, Submitter(_address(bytes(avatarId))), lambda: None
        if IMaildrop in interfaces:
            return Deferred.fromCoroutine(self._maildrop(bytes(avatarId)))
        raise NotImplementedError(interfaces)  # what twisted.cred asks for

    async def _maildrop(self, avatar_id: bytes) -> Avatar:
        maildrop = await self._maildrops.open(self._reception(avatar_id))
        return IMaildrop, maildrop, maildrop.close


def _address(avatar_id: bytes) -> Address:
    return Address.parse(avatar_id.decode("ascii"))
