"""What stands behind a path: the parameters of MAIL and RCPT (RFC 5321 4.1.1.11).

What is read here must not depend on the time of day, as arguments are read once and remembered (``grammar``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mailbe.interfaces import Envelope
from mailbe.smtp import notifications, times
from mailbe.smtp.replies import Refusal
from mailbe.smtp.times import Hold, Within

BINARY = "BINARYMIME"

# A value may be of UTF-8 (RFC 6531 3.3), where its own grammar takes that.
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\0- =\x7f]+))?")
_PRIORITY = re.compile(r"-?[1-9]|0")
_BODIES = ("7BIT", "8BITMIME", BINARY)


@dataclass(frozen=True, slots=True)
class Asked:
    """What MAIL asks for a letter."""

    needs: frozenset[str] = frozenset()
    """The extensions that must have been offered for it."""
    size: int = 0
    """The size announced, in octets; 0 if there is none."""
    body: str = "7BIT"
    utf8: bool = False
    """Whether addresses and header may be of UTF-8 (RFC 6531)."""
    priority: int | None = None
    """From -9 to 9 (RFC 6710)."""
    id: str = ""
    """What the sender calls it, see ``Envelope``."""
    whole: bool = False
    """Whether the sender wants all of it back, see ``Envelope``."""
    within: Within | None = None
    """How soon it is to be delivered."""
    hold: Hold | None = None
    """How long it is to be kept back."""

    def extend(self, envelope: Envelope, now: float) -> None:
        """Write down in ``envelope`` what it is to keep of this; the time is ``now``, in seconds since 1970.

        :raises Refusal:
        """
        envelope.utf8, envelope.id, envelope.whole = self.utf8, self.id, self.whole
        if self.within is not None:
            envelope.deadline = self.within.deadline(now)
        if self.hold is not None:
            envelope.hold, envelope.release = self.hold.asked, self.hold.release(now)
            if envelope.deadline is not None and envelope.release > envelope.deadline.until:  # RFC 4865 5.2.2
                raise Refusal(501, "5.5.4 the letter is to be delivered before it is to be released")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What RCPT wants for one recipient; see ``Recipient``."""

    needs: frozenset[str] = frozenset()
    """The extensions that must have been offered for it."""
    notify: frozenset[str] | None = None
    original: str = ""
    utf8: bool = False
    """Whether MAIL must have said SMTPUTF8, as the address is not ASCII."""


def asked(text: str) -> Asked:
    """What the parameters of MAIL in ``text`` ask for."""
    return Asked(**_values(text, _MAIL))


def wanted(text: str) -> Wanted:
    """What the parameters of RCPT in ``text`` want."""
    return Wanted(**_values(text, _RCPT))


def _values(text: str, table: Mapping[str, Parameter]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    needs = set()
    for keyword, value in _words(text).items():
        if keyword not in table:
            raise Refusal(555, f"5.5.4 {keyword[:60]} is not known here")
        parameter = table[keyword]
        meaning = parameter.grammar(value)
        needs.add(parameter.extension)
        if parameter.field in values:
            raise Refusal(501, "5.5.4 of two such parameters only one can be given")
        if parameter.field:
            values[parameter.field] = meaning
    if values.get("body") == BINARY:
        needs.add(BINARY)
    return values | {"needs": frozenset(filter(None, needs))}


def _words(text: str) -> dict[str, str | None]:
    """The keywords in ``text``, in capitals, each with its value where it has one."""
    found: dict[str, str | None] = {}
    for word in filter(None, text.split(" ")):
        if not (match := _PARAMETER.fullmatch(word)):
            raise Refusal(501, "5.5.4 parameters are of the form KEYWORD or KEYWORD=value")
        keyword, value = match.groups()
        if keyword.upper() in found:
            raise Refusal(501, "5.5.4 a parameter is given twice")
        found[keyword.upper()] = value
    return found


def _size(value: str | None) -> int:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > 20:
        raise Refusal(501, "5.5.4 SIZE takes a number of octets")
    return int(value)


def _body(value: str | None) -> str:
    if value is None or value.upper() not in _BODIES:
        raise Refusal(501, "5.5.4 BODY is 7BIT, 8BITMIME or BINARYMIME")
    return value.upper()


def _authorized(value: str | None) -> None:
    if value is None:
        raise Refusal(501, "5.5.4 AUTH takes a mailbox or <>")


def _priority(value: str | None) -> int:
    if value is None or not _PRIORITY.fullmatch(value):
        raise Refusal(501, "5.5.4 MT-PRIORITY takes a number from -9 to 9")
    return int(value)


def _no_value(value: str | None) -> bool:
    if value is not None:
        raise Refusal(501, "5.5.4 this parameter takes no value")
    return True


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of a table."""

    field: str
    """Where its value goes. Empty: it has no effect, as we trust no client with AUTH, and no letter leaves by TLS or
    without."""
    grammar: Callable[[str | None], Any]
    extension: str = ""
    """What must have been offered; empty: it is taken from everybody, as HELO says little of what a client can do."""


# fmt: off
_MAIL: dict[str, Parameter] = {
    "SIZE":        Parameter("size",     _size),                                       # RFC 1870 4
    "BODY":        Parameter("body",     _body),                                       # RFC 6152 3, RFC 3030 3
    "AUTH":        Parameter("",         _authorized),                                 # RFC 4954 5
    "SMTPUTF8":    Parameter("utf8",     _no_value,                 "SMTPUTF8"),       # RFC 6531 3.4
    "MT-PRIORITY": Parameter("priority", _priority),                                   # RFC 6710 3
    "REQUIRETLS":  Parameter("",         _no_value,                 "REQUIRETLS"),     # RFC 8689 3
    "RET":         Parameter("whole",    notifications.returned,    "DSN"),            # RFC 3461 4.3
    "ENVID":       Parameter("id",       notifications.envelope_id, "DSN"),            # RFC 3461 4.4
    "BY":          Parameter("within",   times.within,              "DELIVERBY"),      # RFC 2852 4
    "HOLDFOR":     Parameter("hold",     times.hold_for,            "FUTURERELEASE"),  # RFC 4865 3
    "HOLDUNTIL":   Parameter("hold",     times.hold_until,          "FUTURERELEASE"),  # RFC 4865 3
}
_RCPT: dict[str, Parameter] = {
    "NOTIFY":      Parameter("notify",   notifications.notify,      "DSN"),            # RFC 3461 4.1
    "ORCPT":       Parameter("original", notifications.original,    "DSN"),            # RFC 3461 4.2
}
# fmt: on
