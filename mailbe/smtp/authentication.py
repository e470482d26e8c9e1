"""AUTH: a client says who it is, by one of the mechanisms of SASL (RFC 4954)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import cast

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.logger import Logger

from mailbe import sasl
from mailbe.conversation import Conversation
from mailbe.interfaces import ISubmitter, TryLater
from mailbe.session import Reply
from mailbe.smtp.replies import Refusal

log = Logger()


class Authentication:
    """The log-ins of one client, up to the good one."""

    def __init__(self, wire: Conversation, portal: Portal, offers_scram: Callable[[], bool], tries: int) -> None:
        """:param tries: how many the client has."""
        self._wire = wire
        self._portal = portal
        self._offers_scram = offers_scram
        self._left = tries

    @property
    def mechanisms(self) -> list[bytes]:
        """Those that can be used now."""
        return sasl.offered(self._wire.channel_binding, scram=self._scram)

    async def log_in(self, mechanism: bytes, initial: bytes | None) -> ISubmitter:
        """Who the client is.

        :param initial: what was said behind the mechanism, in base64.
        :raises Refusal: as RFC 4954 4 and 6 have it.
        """
        if mechanism not in self.mechanisms:
            raise Refusal(504, "5.5.4 this mechanism is not known here")
        try:
            client = sasl.Client(self._challenge, self._wire.peer, self._wire.channel_binding)
            credentials = await sasl.exchange(mechanism, initial, client)
            self._count()
            _, submitter, _ = await self._portal.login(credentials, None, ISubmitter)
        except sasl.Cancelled:
            raise Refusal(501, "5.7.0 as you wish: no log-in") from None
        except sasl.Malformed as error:
            raise Refusal(501, f"5.5.2 {error}") from None
        except sasl.Refused as error:
            raise Refusal(535, f"5.7.8 {error}") from None
        except UnauthorizedLogin:
            raise Refusal(535, "5.7.8 the name or the password is wrong") from None
        except TryLater as error:
            if not error.logged:
                log.warn("log-in put off: {error}", error=error)
            raise Refusal(454, "4.7.0 nobody can log in now; try again later") from error
        return cast(ISubmitter, submitter)

    @cached_property
    def _scram(self) -> bool:
        # Asked once: a client says EHLO, STARTTLS, EHLO and AUTH in one breath.
        return self._offers_scram()

    def _challenge(self, challenge: bytes) -> Awaitable[bytes]:
        return self._wire.ask(Reply(b"334 " + challenge + b"\r\n"))

    def _count(self) -> None:
        if self._left < 1:
            raise Refusal(421, "4.7.0 that is enough tries for one connection", last=True)
        self._left -= 1
