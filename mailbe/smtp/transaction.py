"""One mail transaction: whom a letter is from and goes to, how it comes, and what becomes of it (RFC 5321 3.3).

MAIL begins it, RCPT names one more whom it is for, and DATA or the last BDAT delivers it. Who may say which of these,
and when, is the session's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from mailbe.address import Address
from mailbe.conversation import Conversation
from mailbe.dots import DotReader
from mailbe.interfaces import Envelope, ILetter, IPostOffice, Recipient
from mailbe.journal import Journal
from mailbe.limits import Limits
from mailbe.reports import Fate, Reports
from mailbe.session import Reply
from mailbe.smtp import grammar
from mailbe.smtp.incoming import Incoming, bare, too_large
from mailbe.smtp.notifications import Witnessed
from mailbe.smtp.parameters import BINARY, Asked, Wanted
from mailbe.smtp.replies import Refusal, reply
from mailbe.trace import received

RECIPIENT_OK = reply(250, "2.1.5 ok")
GO_AHEAD = reply(354, "go ahead; end with a line of one dot")


class Transaction:
    """What MAIL has begun."""

    def __init__(
        self,
        wire: Conversation,
        host: str,
        limits: Limits,
        office: IPostOffice,
        journal: Journal,
        now: Callable[[], float],
        envelope: Envelope,
        asked: Asked,
        helo: str,
        protocol: str,
    ) -> None:
        """:param host: the name that we go by.
        :param now: the time of day, in seconds since 1970.
        :param asked: what MAIL asked for.
        :param helo: what the client calls itself.
        :param protocol: how the letter comes, in the words of RFC 3848.
        """
        self.envelope = envelope
        self.asked = asked
        self.incoming: Incoming | None = None
        """What has come of the letter by BDAT."""
        self._wire = wire
        self._host = host
        self._limits = limits
        self._office = office
        self._journal = journal
        self._now = now
        self._helo = helo
        self._protocol = protocol

    def add(self, forward_path: Address | None, wanted: Wanted) -> Reply | Coroutine[Any, Any, Reply]:
        """One more whom the letter goes to.

        :param forward_path: ``None`` for ``<Postmaster>``.
        :raises NoSuchMailbox: and what else the post office raises.
        """
        envelope = self.envelope
        if wanted.utf8 and not self.asked.utf8:
            raise grammar.not_ascii()
        if len(envelope.recipients) >= self._limits.recipients:
            raise Refusal(452, "4.5.3 that is enough recipients; send the others the letter anew")
        address = forward_path or self._office.postmaster()
        destination = self._office.destination(address, envelope.submitter)
        recipient = Recipient(address, destination, wanted.notify, wanted.original)
        # Of a letter that is held, it is asked at its release: that there is none today says nothing of then.
        room = self._office.room(destination, envelope.octets) if envelope.release is None else None
        if room is not None:
            return self._add_when_there_is_room(room, recipient)
        envelope.recipients.append(recipient)
        return RECIPIENT_OK

    async def read(self) -> Reply:
        """Read the letter up to its lone dot, and deliver it (DATA)."""
        letter = self._open()
        return await self._outcome(letter, self._read(letter))

    def expect(self, octets: int) -> Incoming:
        """So many octets of the letter come next (BDAT); they are for what this returns."""
        if self.incoming is None:
            self.incoming = Incoming(self._open(), self._limits.size, binary=self.asked.body == BINARY)
        self.incoming.expect(octets)
        return self.incoming

    async def end(self) -> Reply:
        """That was the last of its chunks: deliver it (BDAT LAST)."""
        assert self.incoming is not None
        return await self._outcome(self.incoming.letter, self.incoming.end())

    def forget(self) -> None:
        """The letter will not be delivered."""
        if self.incoming is not None:
            self.incoming.letter.discard()

    async def _add_when_there_is_room(self, room: Awaitable[None], recipient: Recipient) -> Reply:
        await room
        self.envelope.recipients.append(recipient)
        return RECIPIENT_OK

    def _open(self) -> ILetter:
        envelope = self.envelope
        if envelope.release is not None and envelope.release <= self._now():
            envelope.release = None  # it has come while we heard of the recipients
        letter = self._office.letter(envelope)
        # Of a letter that is held, the sender is told when it is released.
        if envelope.release is None and any("SUCCESS" in (each.notify or ()) for each in envelope.recipients):
            letter = Witnessed(letter, self._now())
        letter.write(self._received(letter))
        return letter

    def _received(self, letter: ILetter) -> bytes:
        recipients = self.envelope.recipients
        return received(
            helo=self._helo,
            peer=self._wire.peer,
            by=self._host,
            protocol=self._protocol,
            id=letter.id,
            time=self._now(),
            recipient=recipients[0].address if len(recipients) == 1 else None,
            priority=self.asked.priority,
        )

    async def _read(self, letter: ILetter) -> None:
        def write(chunk: bytes) -> None:
            if reader.octets <= self._limits.size and not reader.bare:
                letter.write(chunk)

        reader = DotReader(write)
        await self._wire.ask(GO_AHEAD, reader)
        if reader.bare:
            raise bare()
        if reader.octets > self._limits.size:
            raise too_large(self._limits.size)

    async def _outcome(self, letter: ILetter, complete: Awaitable[None]) -> Reply:
        """What becomes of the letter when it is ``complete``: the last word of DATA, and of BDAT LAST."""
        try:
            await complete
            self._see_that_it_is_in_time()
            await letter.deliver()
        finally:
            letter.discard()
        return await self._delivered(letter, self.envelope.recipients)

    def _see_that_it_is_in_time(self) -> None:
        # RFC 2852 4.1.3; a letter that is held may fail later, and with N a late one is better than none.
        deadline = self.envelope.deadline
        if deadline is not None and deadline.give_up and self._now() > deadline.until:
            raise Refusal(554, "5.4.7 the time for the letter's delivery is over")

    async def _delivered(self, letter: ILetter, recipients: Sequence[Recipient]) -> Reply:
        """It is safe in the mailboxes of ``recipients``: tell the sender, where he wants to know, and the client.

        RFC 3463 3.2 has the code. What an alias leads to is nobody's business: the letter has been delivered to it.
        """
        envelope = self.envelope
        if isinstance(letter, Witnessed):
            fates = [Fate(recipient, "delivered", "2.1.5") for recipient in recipients]
            reports = Reports(self._office, self._host, self._now)
            await reports.send(envelope, letter.id, letter.arrived, fates, [bytes(letter.header)])
        sender = str(envelope.reverse_path or "<>").encode("ascii", "backslashreplace").decode()
        self._journal.note(f"{letter.id}: {sender} to {len(recipients)} recipients")
        return reply(250, f"2.0.0 ok {letter.id}", effect=True)
