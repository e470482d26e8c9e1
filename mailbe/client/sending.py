"""Submission as a client speaks it, with ``smtplib`` underneath."""

from __future__ import annotations

import base64
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NoReturn, cast

from mailbe.address import literal
from mailbe.client.errors import Cancelled, MailError, NoAnswer, Refused, TryLater
from mailbe.client.printable import one_line
from mailbe.client.wire import Progress, Wire
from mailbe.dots import stuffed

LONGER = 10  # times as long as usual we wait for the reply to a letter: ten minutes in RFC 5321 4.5.3.2.6

UNKNOWN = "it is not known whether the letter was taken"


class Smtp:
    """A session with a server for submission."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        # RFC 5321 4.1.4: who has no name that others can look up says his address.
        self._smtp = smtplib.SMTP(local_hostname=literal(wire.local))
        self._smtp.ehlo_msg = "EHLO"  # smtplib's is in lower case, which is no less right, but not what people learn
        self._smtp.sock = cast(socket.socket, wire)
        self._smtp.command_encoding = "utf-8"  # ``send`` sees to it that nothing beyond ASCII is said to who takes none
        self._greeted = False

    def greet(self) -> None:
        if not self._greeted:
            self._expect(220, self._reply())
            self._greeted = True
        if self._heard(self._smtp.ehlo)[0] != 250:
            self._expect(250, self._say("HELO", self._smtp.local_hostname))

    @property
    def may_start_tls(self) -> bool:
        return self._smtp.has_extn("starttls")

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        self._expect(220, self._say("STARTTLS"))
        self.wire.start_tls(context, name)
        # What was told in plaintext counts no more (RFC 3207 4.2); ``ehlo`` forgets it.
        self.greet()

    @property
    def wants_log_in(self) -> bool:
        """Whether the server has AUTH at all."""
        return self._smtp.has_extn("auth")

    def log_in(self, name: str, password: str) -> None:
        """:raises Refused, TryLater, NoAnswer:"""
        mechanisms = self._smtp.esmtp_features["auth"].upper().split()
        # smtplib's own login() tries one mechanism after the other, so that one mistyped password counts as three,
        # and takes ASCII alone.
        if "PLAIN" in mechanisms:
            reply = self._say("AUTH", f"PLAIN {_base64(f'{chr(0)}{name}{chr(0)}{password}')}")
        elif "LOGIN" in mechanisms:
            self._expect(334, self._say("AUTH", "LOGIN"))
            self._expect(334, self._say(_base64(name)))
            reply = self._say(_base64(password))
        else:
            raise Refused(f"{self.wire.place} takes log-ins in no way known here: {one_line(' '.join(mechanisms))}")
        self._expect(235, reply, "the server for sending refuses the log-in")

    def send(self, sender: str, recipients: Sequence[str], letter: bytes, progress: Progress | None) -> None:
        """Send a letter to all recipients, or to none.

        :param letter: with CRLF at the end of each line.
        :raises Refused, TryLater: nobody gets it.
        :raises NoAnswer: nobody gets it, unless the message says that this is not known.
        """
        beyond_ascii = [address for address in (sender, *recipients) if not address.isascii()]
        if beyond_ascii and not self._smtp.has_extn("smtputf8"):
            raise Refused(
                f"nothing was sent, as {beyond_ascii[0]} is not ASCII before the @, and {self.wire.place}, the server "
                "for sending, does not offer SMTPUTF8 (RFC 6531)"
            )
        most = self._smtp.esmtp_features.get("size", "")
        if re.fullmatch("[0-9]{1,18}", most) and 0 < int(most) < len(letter):
            raise Refused(f"the letter has {len(letter)} octets, and the server takes {most} at most")
        size = f" SIZE={len(letter)}" if self._smtp.has_extn("size") else ""
        utf8 = " SMTPUTF8" if beyond_ascii else ""
        self._expect(250, self._say("MAIL", f"FROM:<{sender}>{size}{utf8}"))
        refused: list[tuple[int, str]] = []
        for recipient in recipients:
            code, words = self._say("RCPT", f"TO:<{recipient}>")
            if code not in (250, 251):
                refused.append((code, f"{recipient}: {_words(code, words)}"))
        if refused:
            text = "nothing was sent, as it would not reach " + "; ".join(words for _, words in refused)
            raise _kind(max(code for code, _ in refused))(text)
        self._expect(354, self._say("DATA"))
        self.wire.be_patient(self.wire.patience * LONGER)
        self.wire.progress = progress
        self.wire.sendall(b"".join(stuffed([letter])))
        try:
            reply = self._reply()
        except (NoAnswer, Cancelled) as error:
            raise type(error)(f"{error}; {UNKNOWN}") from error
        except KeyboardInterrupt:
            raise Cancelled(f"broken off; {UNKNOWN}") from None
        self._expect(250, reply, "the letter was refused")

    def quit(self) -> None:
        """Say good-bye and hang up, whatever the server says to that."""
        try:
            self.wire.progress = None
            self._say("QUIT")
        except MailError:
            pass  # what was to be done is done
        finally:
            self.wire.close()

    def _say(self, command: str, arguments: str = "") -> tuple[int, bytes]:
        return self._heard(lambda: self._smtp.docmd(command, arguments))

    def _reply(self) -> tuple[int, bytes]:
        return self._heard(self._smtp.getreply)

    def _heard(self, act: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        try:
            return act()
        except smtplib.SMTPException as error:
            raise NoAnswer(f"{self.wire.place} does not speak SMTP") from error

    def _expect(self, code: int, reply: tuple[int, bytes], what: str = "") -> None:
        if reply[0] != code:
            self._refused(*reply, what)

    def _refused(self, code: int, words: bytes, what: str) -> NoReturn:
        if not 200 <= code <= 599:
            raise NoAnswer(f"{self.wire.place} does not speak SMTP")
        text = _words(code, words)
        raise _kind(code)(f"{what}: {text}" if what else text)


def _kind(code: int) -> type[MailError]:
    return TryLater if 400 <= code <= 499 else Refused


def _words(code: int, words: bytes) -> str:
    return one_line(f"{code} {words.decode('utf-8', 'replace')}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
