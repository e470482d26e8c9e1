"""What can go wrong for somebody who reads and sends mail; each message is one line for people."""

from __future__ import annotations

from mailbe.client.certificate import Certificate


class MailError(Exception):
    """It did not work; the message says why, and where there is a remedy, which. Safe to print."""


class NoAnswer(MailError):
    """A server cannot be reached, fell silent or hung up."""


class Unreachable(NoAnswer):
    """Nobody answers at that host and port."""


class HungUp(NoAnswer):
    """The server has closed the connection."""


class Cancelled(MailError):
    """The person gave it up."""


class NotTrusted(MailError):
    """A server's certificate does not verify. Ask; after a yes, ``Trust.accept(error.certificate)`` and try again."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(f"the certificate of {certificate.place} is not trusted: {certificate.why}")
        self.certificate = certificate


class NotPrivate(MailError):
    """There is no TLS, and a password, or a letter, would cross the network for all to read.

    Ask; after a yes, ``Mail.allow_plaintext()`` and try again.
    """

    def __init__(self, place: str) -> None:
        super().__init__(f"{place} offers no TLS, so others could read your password and your letters on their way")
        self.place = place
        """``host:port``."""


class WrongPassword(MailError):
    """The name or the password is wrong."""

    def __init__(self, left: int) -> None:
        super().__init__(f"the name or the password is wrong ({left} {'try' if left == 1 else 'tries'} left)")
        self.left = left
        """So many more tries there are."""


class TooManyFailures(MailError):
    """Three log-ins have failed. No more is tried; the message, of several lines, says what to do."""


class TryLater(MailError):
    """The server cannot do it now."""


class InUse(TryLater):
    """Another program has the maildrop open."""


class NoSentMail(MailError):
    """The server keeps no copies of sent mail that could be fetched."""


class Refused(MailError):
    """The server says no; the message has its words."""


class Gone(MailError):
    """The letter is not in the maildrop any more."""


class BadAuthority(MailError):
    """A file of certificates to trust cannot be used."""


class BadDraft(MailError):
    """A letter cannot be sent as it is written: no recipient, a bad address, a file that cannot be read."""


class NotSaved(MailError):
    """A file cannot be written."""


class NotRegistered(MailError):
    """No account was made."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        """One of: closed, invitation, name, taken, password, slow; ``site`` where no site is known."""
