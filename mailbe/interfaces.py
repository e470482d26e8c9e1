"""The seams between the protocols and what stands behind them, and the errors that cross them.

The protocols (``smtp``, ``pop3``) know only what is written here; stores and accounts provide it.
A path never crosses a seam.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from twisted.cred.credentials import ICredentials, UsernamePassword
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import Attribute, Interface

from mailbe.address import Address

T = TypeVar("T")


class OffReactor(Protocol):
    """Runs what may take long where it keeps nobody waiting: in a thread."""

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """Fires with what ``work`` returns, or fails with what it raises."""


class TryLater(Exception):
    """It cannot be done now, and may be later: nothing was changed. The message is for the log."""

    logged = False
    """Whether it stands in the log already."""


class MailboxFull(TryLater):
    """There is no room on the disk."""


class OverQuota(TryLater):
    """A mailbox has no room for the letter: the quota of its account is used up."""

    logged = True  # nothing is wrong here, and it may be asked for a thousand times


class EnoughHeld(TryLater):
    """An account has as many letters held as it may (RFC 4865 6)."""

    logged = True


class NoSuchMailbox(Exception):
    """The domain is ours, and nobody of that name is there."""


class RelayDenied(Exception):
    """The address is not ours, and we pass no mail on for this sender."""


class MailLoop(Exception):
    """The letter has been through so many hosts that it must be going round (RFC 5321 6.3)."""


class MaildropBusy(Exception):
    """Another session holds this maildrop's exclusive lock (RFC 1939 4)."""


class LoginTooSoon(Exception):
    """The password was right, and the maildrop was opened too short a time ago (RFC 2449 8.1.1)."""


class NotAllDeleted(Exception):
    """Some of the letters that were to be deleted are still in the maildrop (RFC 1939 6)."""


class LetterGone(Exception):
    """The letter was in the maildrop at log-in, and another program has taken it since."""


class Login(UsernamePassword):
    """A name and a password as they came over the wire, and the address of the peer they came from."""

    def __init__(self, username: bytes, password: bytes, peer: str, *, maildrop: bool = False) -> None:
        """:param maildrop: whether the name is a maildrop's, see ``sent``, or else an account's."""
        super().__init__(username, password)
        self.peer = peer
        self.maildrop = maildrop


class IProof(ICredentials):
    """A name, and whoever can prove to know the password without telling it: SCRAM (RFC 5802)."""

    username: bytes = Attribute("The name that the client gave.")
    peer: str = Attribute("The address of the peer; empty where it has none.")
    maildrop: bool = Attribute("Whether the name is a maildrop's, see ``sent``, or else an account's.")

    def prove(verifier: str, admit: Callable[[], object]) -> Awaitable[bool]:
        """Have the client prove, once, that it knows the password that ``verifier`` was made of.

        :param verifier: what ``accounts.scram`` makes: ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``.
        :param admit: called when the proof is good and before the client can know; what it raises ends the exchange.
        :raises TryLater: where the verifier is damaged; nothing was said to the client.

        What else is raised is for the protocol that began the exchange: the client gave it up, went away, or
        answered what is no proof, right or wrong.
        """


class ITls(IOpenSSLServerConnectionCreator):
    """The server's end of TLS, with the certificate of the moment."""

    def channel_binding(transport: object) -> dict[str, bytes]:
        """What a log-in over ``transport`` can be bound to, by the name of the kind (RFC 5056)."""


class ISubmitter(Interface):
    """Somebody who is known to us and sends: the avatar of SMTP AUTH."""

    address: Address = Attribute("The account's address.")

    def may_send_as(reverse_path: Address | None) -> bool:
        """Whether this sender may use ``reverse_path`` (``None``: the null one, ``<>``)."""


class NotTaken(Exception):
    """Why nobody was registered, or no password changed. Each kind has a ``code`` that programs read."""

    code: str


class RegistrationClosed(NotTaken):
    """Nobody can register by himself here."""

    code = "closed"


class BadInvitation(NotTaken):
    """There is no such invitation, or not any more."""

    code = "invitation"


class BadName(NotTaken):
    """Nobody can have this name here, whoever asks. Its message is a word for the reason, see ``accounts.rules``."""

    code = "name"


class NameTaken(NotTaken):
    """Somebody has this name already."""

    code = "taken"


class BadNewPassword(NotTaken):
    """The new password does not keep the rules. Its message is a word for the reason, see ``accounts.rules``."""

    code = "password"


class TooOften(NotTaken):
    """This address has registered, or tried to, too often; later it may again."""

    code = "slow"

    def __init__(self, ends: float) -> None:
        """:param ends: when; seconds since 1970."""
        super().__init__()
        self.ends = ends


class IDesk(Interface):
    """Where people without an operator's rights get an account, and change their own password."""

    registration: str = Attribute("Who may register: ``closed`` (nobody), ``open``, ``invitation``.")
    domains: Sequence[str] = Attribute("Those in which accounts are; the first is meant where none is given.")
    shortest_password: int = Attribute("In characters.")
    longest_password: int = Attribute("In octets of UTF-8.")

    def register(name: str, password: str, invitation: str, peer: str) -> Awaitable[Address]:
        """Make an account; it is safely on the disk when this returns.

        :param name: an address, or what stands before its @.
        :param invitation: the code of one; empty where none is needed.
        :param peer: the client's IP address.
        :raises NotTaken, TryLater:
        """

    def change_password(name: str, old: str, new: str, peer: str) -> Awaitable[Address]:
        """Give the account that ``name`` and ``old`` log in to the password ``new``; returns its address.

        :raises twisted.cred.error.UnauthorizedLogin: where name and old password are not an account's.
        :raises NotTaken, TryLater: the latter also where the guard lets nobody in now.
        """


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may lie in one mailbox; ``None``: as much as there is."""

    octets: int | None = None
    letters: int | None = None

    def has_room(self, letters: int, octets: int, more: int) -> bool:
        """Whether beside so many letters of so many octets there is room for one of ``more`` octets."""
        return (self.letters is None or letters < self.letters) and (
            self.octets is None or octets + more <= self.octets
        )


class Destination(Protocol):
    """Where one recipient's letters go; only the post office that made it looks inside."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """What RCPT said of one of those whom a letter goes to."""

    address: Address
    destination: Destination
    notify: frozenset[str] | None = None
    """Of what the sender is to be told: ``SUCCESS``, ``FAILURE``, ``DELAY``; empty: of nothing; ``None``: he has not
    said (RFC 3461 4.1)."""
    original: str = ""
    """Whom the sender wrote to, with the kind of the address: ``rfc822;bob@example.org``; empty where he has not said
    (RFC 3461 4.2)."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a letter is to have been delivered (RFC 2852)."""

    until: float
    """In seconds since 1970."""
    give_up: bool
    """Whether it is of no use later and the sender is told that it failed (R), or else that it is late (N)."""
    trace: bool
    """Whether the sender wants to know of each host that it passed."""


@dataclass(slots=True)
class Envelope:
    """What MAIL and RCPT said of one letter (RFC 5321 2.3.1)."""

    reverse_path: Address | None
    submitter: ISubmitter | None = None
    octets: int = 0
    """How large the client has said that it will be (RFC 1870); 0 where it has not."""
    recipients: list[Recipient] = field(default_factory=list)
    utf8: bool = False
    """Whether addresses and header may be of UTF-8 (RFC 6531)."""
    id: str = ""
    """What the sender calls it in reports; empty where he has not said (RFC 3461 4.4)."""
    whole: bool = False
    """Whether the sender wants all of it back if it fails, and not its header alone (RFC 3461 4.3)."""
    deadline: Deadline | None = None
    release: float | None = None
    """Until when it is kept back, in seconds since 1970 (RFC 4865); ``None``: it is not."""
    hold: str = ""
    """How that was asked for, which reports repeat (RFC 4865 5.1.2): ``for;3600``, ``until;2030-01-01T00:00:00Z``;
    empty where it was not."""


class ILetter(Interface):
    """A letter on its way in."""

    id: str = Attribute("Its name for ever: in the log, in the reply, and as its unique-id.")

    def write(chunk: bytes) -> None:
        """Take the next octets of the content. Never raises: what goes wrong is told by ``deliver``."""

    def deliver() -> Awaitable[None]:
        """Put the letter into all its mailboxes, safely on the disk, or into none.

        Where its envelope has a ``release``, it is kept safely on the disk until then, and in no mailbox before.

        :raises EnoughHeld, MailLoop, MailboxFull, OverQuota, TryLater: and then the letter is in no mailbox.
        """

    def deliver_to_each() -> Awaitable[Sequence[OverQuota | None]]:
        """The same, but leave those recipients out whose quota is used up, and say for each whether he was (RFC 2033).

        :raises MailLoop, MailboxFull, TryLater: and then the letter is in no mailbox.
        """

    def discard() -> None:
        """Forget the letter; what is left of it anywhere goes. Harmless after ``deliver``."""


class IPostOffice(Interface):
    """Who is local, who may send where, and which mailboxes a letter goes to."""

    def destination(recipient: Address, submitter: ISubmitter | None) -> Destination:
        """Where ``recipient``'s mail goes when ``submitter`` (``None``: a stranger) sends it.

        :raises NoSuchMailbox, RelayDenied, TryLater:
        """

    def room(destination: Destination, octets: int) -> Awaitable[None] | None:
        """See that ``destination`` has room for a letter of so many octets, 0 if nobody knows how many.

        ``None``: it has, as nearly always. Else who awaits it knows when it ends, or by what it raises.

        :raises OverQuota, TryLater:
        """

    def may_hold(submitter: ISubmitter | None) -> Awaitable[None] | None:
        """See that one more letter of ``submitter`` may be held. ``None``: it may, as with ``room``.

        :raises EnoughHeld, TryLater:
        """

    def postmaster() -> Address:
        """Whom ``<Postmaster>`` without a domain means (RFC 5321 4.1.1.3)."""

    def believed(reverse_path: Address | None) -> ISubmitter | None:
        """The local account that ``reverse_path`` names, for peers that are believed without a password."""

    def letter(envelope: Envelope) -> ILetter:
        """Begin a letter to all the recipients of ``envelope``."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for maildrops beside their letters."""

    days: int | None = None
    """So long are letters kept, at least; ``None``: for ever (RFC 2449 6.7)."""
    delay: int = 0
    """Seconds from one log-in to the next (RFC 2449 6.5)."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What can be said of the terms of all maildrops: the fewest days, and the longest delay."""

    terms: Terms = Terms()
    days_differ: bool = False
    delays_differ: bool = False


class IMaildrop(Interface):
    """One maildrop as one POP3 session sees it: the avatar of POP3 (RFC 1939 3).

    The messages are those that were there at log-in, in their order, and stay so to the end.
    """

    sizes: Sequence[int] = Attribute("The size of each message in octets as ``read`` gives it.")
    surrogates: Mapping[int, int] = Attribute(
        "By index, the size of the surrogate of each message that is known to need one, see ``surrogate``."
    )
    terms: Terms = Attribute("What holds for it.")
    octets: int = Attribute("All of them; many sessions begin by asking for them, and adding up takes its time.")

    def uid(index: int) -> str:
        """The unique-id of a message: 1 to 70 characters of 0x21 to 0x7E (RFC 1939 7)."""

    def read(index: int) -> Iterable[bytes]:
        """The content of a message, CRLF at the end of each line, not dot-stuffed.

        The letter is open when this returns.

        :raises LetterGone, TryLater:
        """

    def delete(indices: Iterable[int]) -> Awaitable[None]:
        """Delete these messages for good, safely on the disk.

        :raises NotAllDeleted: and as many as could be are gone.
        """
