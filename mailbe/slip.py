"""What is known of a held letter beside its octets (RFC 4865), and how that is written down: as JSON.

Whoever looks after the server may read such a file, and mend it. So it is believed in nothing that was not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from mailbe.address import Address
from mailbe.interfaces import Deadline, Envelope, Recipient

HEAD = 100  # octets, in which ``account_in`` finds it
NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
EARLIEST, LATEST = -1e10, 1e11  # seconds since 1970 that a date can be made of

_ACCOUNT = re.compile(rb'\{\n "account": (?:(\d{1,18})|null),\n')


class Damaged(ValueError):
    """A file that should tell what an envelope says does not."""


@dataclass(frozen=True, slots=True)
class Slip:
    """What is known of a held letter beside its octets."""

    envelope: Envelope
    """With those recipients alone of whom it is still to be decided; neither submitter nor destinations stand in it."""
    submitter: Address | None
    """The account that sent it."""
    arrived: float
    """Seconds since 1970, as all times here."""
    failing: float | None = None
    """Since when it cannot be delivered."""
    told: frozenset[str] = frozenset()
    """What of its being late the sender knows: ``delay``, ``deadline``."""
    done: frozenset[str] = frozenset()
    """The names of mailboxes that have it, though other recipients do not yet."""
    account: int | None = None
    """The submitter's id, which nobody else ever gets: who has his name later is not told of his letters."""

    @property
    def release(self) -> float:
        """When it is to be released."""
        return self.envelope.release or 0.0

    def released(self, time: float) -> Self:
        """The same, to be released at another time."""
        return replace(self, envelope=replace(self.envelope, release=time))

    def left(self, recipients: Iterable[Recipient]) -> Self:
        """The same, for these recipients alone."""
        return replace(self, envelope=replace(self.envelope, recipients=list(recipients)))

    def encode(self) -> bytes:
        """As it is written down."""
        envelope = self.envelope
        deadline = envelope.deadline
        fields = {
            "account": self.account,  # the first, see account_in
            "release": self.release,
            "hold": envelope.hold,
            "arrived": self.arrived,
            "reverse_path": _written(envelope.reverse_path),
            "submitter": _written(self.submitter),
            "recipients": [
                {
                    "address": str(recipient.address),
                    "notify": None if recipient.notify is None else sorted(recipient.notify),
                    "original": recipient.original,
                }
                for recipient in envelope.recipients
            ],
            "id": envelope.id,
            "whole": envelope.whole,
            "utf8": envelope.utf8,
            "deadline": deadline and [deadline.until, deadline.give_up, deadline.trace],
            "failing": self.failing,
            "told": sorted(self.told),
            "done": sorted(self.done),
        }
        return json.dumps(fields, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """The slip that ``encode`` has written down.

        :raises Damaged:
        """
        try:
            fields = json.loads(octets)
            envelope = Envelope(
                _address(fields["reverse_path"]),
                recipients=_recipients(fields["recipients"]),
                utf8=_is(bool, fields["utf8"]),
                id=_line(fields["id"]),
                whole=_is(bool, fields["whole"]),
                deadline=_deadline(fields["deadline"]),
                release=_time(fields["release"]),
                hold=_line(fields["hold"]),
            )
            return cls(
                envelope,
                _address(fields["submitter"]),
                _time(fields["arrived"]),
                None if fields["failing"] is None else _time(fields["failing"]),
                frozenset(_line(each) for each in fields["told"]),
                frozenset(_line(each) for each in fields["done"]),
                None if fields["account"] is None else _is(int, fields["account"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:  # BadAddress is one of the first
            raise Damaged(f"{type(error).__name__}: {str(error)[:100]!a}") from error


def account_in(head: bytes) -> int | None:
    """The account by which a letter was sent, found in the first ``HEAD`` octets of what is written down of it.

    All the rest may be a hundred times as long.

    :raises Damaged: where they do not begin as ``encode`` begins.
    """
    if not (match := _ACCOUNT.match(head)):
        raise Damaged("it does not begin with an account")
    return None if match[1] is None else int(match[1])


def _written(address: Address | None) -> str | None:
    return None if address is None else str(address)


def _address(text: object) -> Address | None:
    return None if text is None else Address.parse(_is(str, text))


def _recipients(all_fields: Any) -> list[Recipient]:
    # To nobody there would be nothing left to do, and the letter would go.
    if not (found := [_recipient(fields) for fields in all_fields]):
        raise ValueError("it is for nobody")
    return found


def _recipient(fields: Any) -> Recipient:
    notify: Sequence[str] | None = fields["notify"]
    if notify is not None and not NOTIFY.issuperset(notify):
        raise ValueError(notify)
    address = Address.parse(_is(str, fields["address"]))
    return Recipient(address, (), None if notify is None else frozenset(notify), _line(fields["original"]))


def _time(value: object) -> float:
    if type(value) not in (int, float) or not EARLIEST <= value <= LATEST:  # type: ignore[operator]
        raise ValueError("it is no time")
    return float(value)  # type: ignore[arg-type]


def _deadline(fields: Any) -> Deadline | None:
    if fields is None:
        return None
    until, give_up, trace = fields
    return Deadline(_time(until), _is(bool, give_up), _is(bool, trace))


def _line(value: object) -> str:
    """A text of which reports can make one line."""
    text: str = _is(str, value)
    text.encode()
    if len(f"{text}.".splitlines()) > 1:
        raise ValueError("it is more than a line")
    return text


def _is(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(value)
    return value
