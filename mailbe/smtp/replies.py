"""SMTP replies: three digits, an enhanced status code, and a text for people (RFC 5321 4.2, RFC 2034)."""

from __future__ import annotations

from mailbe import session
from mailbe.session import Reply


def reply(code: int, *lines: str, last: bool = False, effect: bool = False, part: bool = False) -> Reply:
    """The reply of ``lines``, each with its enhanced status code before it where it has one.

    :param last: hang up behind it.
    :param effect: something has come of the conversation.
    :param part: a part of that has.
    """
    *before, end = lines
    text = "".join(f"{code}-{line}\r\n" for line in before) + f"{code} {end}\r\n"
    return Reply(text.encode("ascii"), last, error=code >= 500, effect=effect, part=part)


class Refusal(session.Refusal):
    """Unwinds a command with the reply that refuses it."""

    def __init__(self, code: int, text: str, *, last: bool = False) -> None:
        super().__init__(reply(code, text, last=last))
