"""The realm: from a name that has been checked to what its owner may use, and how he lets it go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from mailbe.address import Address
from mailbe.interfaces import IMaildrop, ISubmitter
from mailbe.maildata import Maildata
from mailbe.maildir import Maildrops
from mailbe.postoffice import Submitter

Avatar = tuple[type[Interface], object, Callable[[], None]]


@implementer(IRealm)
class Realm:
    """Gives POP3 an ``IMaildrop`` and SMTP an ``ISubmitter``."""

    def __init__(self, maildata: Maildata, maildrops: Maildrops) -> None:
        self._maildata = maildata
        self._maildrops = maildrops

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]) -> Any:
        address = Address.parse(bytes(avatarId).decode("ascii"))
        if ISubmitter in interfaces:
            return ISubmitter, Submitter(address), lambda: None
        if IMaildrop in interfaces:
            return Deferred.fromCoroutine(self._maildrop(address))
        raise NotImplementedError(interfaces)  # what twisted.cred asks for

    async def _maildrop(self, address: Address) -> Avatar:
        maildrop = await self._maildrops.open(self._maildata.reception(address))
        return IMaildrop, maildrop, maildrop.close
