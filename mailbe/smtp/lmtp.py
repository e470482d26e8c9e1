"""LMTP: another mail server hands us letters, and is told of each recipient by itself (RFC 2033).

It is SMTP but for the greeting, and for what is said behind a letter: one reply for each recipient that was taken, in
their order. So whose quota is used up by then does not keep the others from their letter; what else can go wrong goes
wrong for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import cast

from twisted.python.failure import Failure
from zope.interface import implementer

from mailbe.interfaces import ILetter
from mailbe.peers import is_in
from mailbe.session import ISession, PeerGone, Reply
from mailbe.smtp import grammar
from mailbe.smtp.replies import reply
from mailbe.smtp.session import COMMANDS, Command, Session
from mailbe.smtp.transaction import Transaction


class Handover(Transaction):
    """A letter that another server hands us."""

    async def _outcome(self, letter: ILetter, complete: Awaitable[None]) -> Reply:
        recipients = self.envelope.recipients
        try:
            await complete
            outcome = await letter.deliver_to_each()
        except PeerGone:
            raise
        except Exception:
            return _together([self._refused(Failure())] * len(recipients))
        finally:
            letter.discard()
        refused = [None if error is None else self._refused(Failure(error)) for error in outcome]
        if None not in refused:
            return _together(refused)
        taken = [one for one, refusal in zip(recipients, refused, strict=True) if refusal is None]
        delivered = await self._delivered(letter, taken)
        return _together([each or delivered for each in refused])

    def _refused(self, failure: Failure) -> Reply:
        said = self._wire.reply_to(failure)
        assert said is not None  # as it is where the client has gone
        return said


def _together(replies: Iterable[Reply | None]) -> Reply:
    """One reply of those to each recipient."""
    each = [reply for reply in replies if reply is not None]
    octets = b"".join(cast(bytes, reply.octets) for reply in each)
    return Reply(octets, error=all(reply.error for reply in each), effect=any(reply.effect for reply in each))


@implementer(ISession)
class Lmtp(Session):
    """One LMTP conversation."""

    hello = "LHLO"
    transactions = Handover
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

    @property
    def _reports_arrive(self) -> bool:
        return True  # among what a host hands over are the letters of its own users, who are ours

    def _delay(self) -> float:
        return 0.0  # who hands letters over has asked for nobody by himself


_SMTP_ONLY = (b"HELO", b"HELLO", b"EHLO", b"AUTH")
Lmtp.commands = {
    b"LHLO": Command(Lmtp.say_lhlo, grammar.client_name, None, "LHLO host", "RFC 2033 4.1"),
    **{verb: command for verb, command in COMMANDS.items() if verb not in _SMTP_ONLY},
}
