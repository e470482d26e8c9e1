"""LMTP: another mail server hands us letters, and is told of each recipient by itself (RFC 2033).

It is SMTP but for the greeting, and for what is said behind a letter: one reply for each recipient that was taken, in
their order. Delivery to all of them is one thing here, so these replies are all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from twisted.python.failure import Failure
from zope.interface import implementer

from mailbe.interfaces import Envelope, ILetter
from mailbe.peers import is_in
from mailbe.session import ISession, PeerGone, Reply
from mailbe.smtp import grammar
from mailbe.smtp.replies import reply
from mailbe.smtp.session import COMMANDS, Command, Session


@implementer(ISession)
class Lmtp(Session):
    """One LMTP conversation."""

    hello = "LHLO"
    keyword, utf8_keyword = "LMTP", "UTF8LMTP"  # RFC 3848, RFC 6531 4.3

    def greeting(self) -> Reply:
        if not (self._wire.at_home or is_in(self._wire.peer, self._settings.networks)):
            return reply(554, "5.7.1 letters are not taken from there; --lmtp-from says from where", last=True)
        return reply(220, f"{self._settings.host} LMTP mailbe")

    def say_lhlo(self, name: str) -> Reply:
        """The client gives its name, and learns what can be done here."""
        self.say_helo(name)
        self.extended = True
        tls = ["STARTTLS"] if self._wire.may_start_tls else []
        return reply(250, self._settings.host, *self._extensions(), *tls, "ENHANCEDSTATUSCODES", "HELP")

    async def _outcome(self, envelope: Envelope, letter: ILetter, complete: Awaitable[None]) -> Reply | None:
        try:
            said = await super()._outcome(envelope, letter, complete)
        except PeerGone:
            raise
        except Exception:
            said = self._wire.reply_to(Failure())
        if said is None:
            return None
        assert isinstance(said.octets, bytes)
        return replace(said, octets=said.octets * len(envelope.recipients))

    def _delay(self) -> float:
        return 0.0  # who hands letters over has asked for nobody by himself


_SMTP_ONLY = (b"HELO", b"HELLO", b"EHLO", b"AUTH")
Lmtp.commands = {
    b"LHLO": Command(Lmtp.say_lhlo, grammar.client_name, None, "LHLO host", "RFC 2033 4.1"),
    **{verb: command for verb, command in COMMANDS.items() if verb not in _SMTP_ONLY},
}
