"""Letters to be sent: new ones, answers and forwarded ones, and what they look like on the wire."""

from __future__ import annotations

import email.policy
import mimetypes
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from email.header import Header
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid
from pathlib import Path

from mailbe.address import Address, BadAddress, ascii_domain
from mailbe.client.errors import BadDraft
from mailbe.client.printable import one_line, printable
from mailbe.client.reading import Attachment, Person, Reading

# Nothing but ASCII crosses the wire, so that no server needs to have more than RFC 5321: but for a header with an
# address that is more, which cannot be encoded (RFC 6532 3).
POLICY = email.policy.SMTP.clone(cte_type="7bit")
UTF8_POLICY = email.policy.SMTPUTF8.clone(cte_type="7bit")
MOST_REFERENCES = 20
LONGEST_LINE = 78  # characters of a header's, where its words let it be: RFC 5322 2.1.1
LONGEST_WORD = 64  # of them, of a text in a header; what is longer is cut into encoded words
_MESSAGE_ID = re.compile(r"<[^\s<>\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,500}>")
# What stands between commas, but for those in a quoted name or in an address.
_PARTS = re.compile(r'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,;])+')
_PERSON = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"|[^<>"]*)\s*<(?P<address>[^<>]+)>|(?P<bare>[^\s<>]+)')


@dataclass(frozen=True, slots=True)
class Draft:
    """A letter as somebody has written it.

    ``to``, ``cc`` and ``bcc`` are addresses with commas between them; one without a domain is in the writer's own.
    """

    to: str
    subject: str
    text: str
    cc: str = ""
    bcc: str = ""
    attachments: tuple[Path | Attachment, ...] = ()
    in_reply_to: str = ""
    """The Message-ID of the letter that this answers."""
    references: str = ""
    """Those of the letters before that."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is handed to the server. An address in it that is not ASCII needs SMTPUTF8 (RFC 6531)."""

    sender: str
    recipients: tuple[str, ...]
    octets: bytes


def parcel(draft: Draft, sender: str) -> Parcel:
    """``draft`` as it goes out. Attachments are read now.

    :param sender: the address in From.
    :raises BadDraft:
    """
    origin = _address(sender)
    domain = origin.rpartition("@")[2]
    to, cc, bcc = (_people(line, domain) for line in (draft.to, draft.cc, draft.bcc))
    recipients = tuple(dict.fromkeys(person.address for person in (*to, *cc, *bcc)))
    if not recipients:
        raise BadDraft("the letter is to nobody: give an address")
    shown = (origin, *(person.address for person in (*to, *cc)))
    policy = POLICY if all(map(str.isascii, shown)) else UTF8_POLICY
    subject = one_line(draft.subject)
    header = (
        ("From", [origin]),
        ("To", _named(to, utf8=policy.utf8)),
        ("Cc", _named(cc, utf8=policy.utf8)),
        ("Subject", _words(subject, subject.split(" "), utf8=policy.utf8)),
        ("Date", [format_datetime(localtime())]),
        ("Message-ID", [make_msgid(domain=ascii_domain(domain).strip("[]"))]),
    )
    octets = _thread(draft, beyond_ascii=policy.utf8)
    octets += "".join(_folded(name, words) for name, words in header if words).encode()
    message = EmailMessage(policy)
    # A text has lines, and no surrogates such as a terminal makes of octets that it cannot read.
    text = "\n".join(draft.text.splitlines()) + "\n"
    message.set_content(text.encode("utf-8", "replace").decode())
    for attachment in draft.attachments:
        _attach(message, attachment if isinstance(attachment, Attachment) else load(attachment))
    return Parcel(origin, recipients, octets + message.as_bytes())


def load(path: Path) -> Attachment:
    """A file as an attachment.

    :raises BadDraft: it cannot be read.
    """
    kind, encoding = mimetypes.guess_type(path.name)
    try:
        content = path.expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadDraft(f"{one_line(str(path))} cannot be attached: {reason}") from error
    return Attachment(path.name, "application/octet-stream" if encoding or not kind else kind, content)


def reply(letter: Reading, address: str, *, everybody: bool = False) -> Draft:
    """The beginning of an answer, its text quoted.

    :param address: one's own.
    :param everybody: whether it goes to all who got the letter, too.
    """
    to = letter.reply_to or letter.sender
    if [_key(person.address) for person in to] == [_key(address)]:
        to = letter.to or to  # who answers a letter of his own goes on writing to those it was to
    cc = _others((*letter.to, *letter.cc), [address, *(person.address for person in to)]) if everybody else ()
    return Draft(
        to=_line(to),
        cc=_line(cc),
        subject=_prefixed("Re: ", r"(?i)re\s*:\s*", letter.heading.subject),
        text=f"\n\n{_who_wrote(letter)}\n{quoted(letter.text)}",
        in_reply_to=letter.header("Message-ID"),
        references=f"{letter.header('References') or letter.header('In-Reply-To')} {letter.header('Message-ID')}",
    )


def forward(letter: Reading) -> Draft:
    """The beginning of a letter that hands ``letter`` on, with what was attached to it."""
    shown = [f"{name}: {value}" for name in ("From", "To", "Cc", "Date", "Subject") if (value := letter.header(name))]
    head = "\n".join(shown)
    return Draft(
        to="",
        subject=_prefixed("Fwd: ", r"(?i)fwd?\s*:\s*", letter.heading.subject),
        text=f"\n\n----- a letter forwarded -----\n{head}\n\n{letter.text}",
        attachments=letter.attachments,
    )


def quoted(text: str) -> str:
    """``text`` with a mark before each line."""
    lines = text.strip("\n").split("\n")
    return "".join(f">{line}\n" if line.startswith(">") else f"> {line}".rstrip() + "\n" for line in lines)


def _who_wrote(letter: Reading) -> str:
    date = letter.heading.date
    when = f"On {date:%Y-%m-%d at %H:%M}, " if date else ""
    return f"{when}{letter.heading.sender or 'somebody'} wrote:"


def _prefixed(prefix: str, pattern: str, subject: str) -> str:
    return subject if re.match(pattern, subject) else prefix + subject


def _others(people: Iterable[Person], known: Sequence[str]) -> tuple[Person, ...]:
    """Those of ``people`` that are not known yet, each once."""
    seen = set(map(_key, known))
    others: dict[str, Person] = {}
    for person in people:
        others.setdefault(_key(person.address), person)
    return tuple(person for key, person in others.items() if key not in seen)


def _key(address: str) -> str:
    """What the spellings of an address share, as far as we can know of one of another host."""
    try:
        return Address.parse(address).key
    except BadAddress:
        return address.lower()


def _line(people: Iterable[Person]) -> str:
    return ", ".join(map(str, people))


def _people(line: str, domain: str) -> list[Person]:
    """Those whom ``line`` names, each by an address or by ``name <address>``; nothing in it is passed over."""
    parts = [part.strip() for part in _PARTS.findall(one_line(line))]
    return [_person(part, domain) for part in parts if part]


def _person(text: str, domain: str) -> Person:
    match = _PERSON.fullmatch(text)
    if not match:
        raise BadDraft(f"this is no address: {text[:100]}")
    name, address = (match["name"] or "").strip(), match["address"] or match["bare"]
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return Person(name, _address(address if "@" in address else f"{address}@{domain}"))


def _address(text: str) -> str:
    try:
        address = Address.parse(text)
    except BadAddress as error:
        raise BadDraft(printable(str(error))) from error
    # A domain alone needs no SMTPUTF8, as all servers know its A-labels.
    return str(replace(address, domain=ascii_domain(address.domain)) if address.local.isascii() else address)


def _named(people: Sequence[Person], *, utf8: bool) -> list[str]:
    """The words of a header that names ``people``: an address is one of them, and so is a name in quotes."""
    words: list[str] = []
    for person in people:
        if person.name:
            phrase = person.phrase
            words += _words(person.name, [phrase] if phrase.startswith('"') else phrase.split(" "), utf8=utf8)
        words.append(f"<{person.address}>," if person.name else f"{person.address},")
    return [*words[:-1], words[-1].removesuffix(",")] if words else []


def _words(text: str, plain: list[str], *, utf8: bool) -> list[str]:
    """What stands for ``text`` in a header: the words ``plain`` if all of them can, or else encoded words (RFC 2047).

    Encoded is all of it or nothing: between the two a reader, or the library when it folds, may lose a space.

    :param utf8: whether the header may be of UTF-8 (RFC 6532).
    """
    if all((utf8 or word.isascii()) and len(word) <= LONGEST_WORD and "=?" not in word for word in plain):
        return plain
    return Header(text, "utf-8", maxlinelen=LONGEST_WORD).encode().split()


def _folded(name: str, words: Sequence[str]) -> str:
    """A header of ``words``, each of them whole, in as many lines as it takes.

    Not by the standard library's means: of a word that is longer than a line it makes encoded words, which no address
    and no Message-ID is, and beside a long encoded word Python 3.11 loses a space.
    """
    lines = [f"{name}: {words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= LONGEST_LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(f" {word}")
    return "\r\n".join(lines) + "\r\n"


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    main, _, sub = attachment.media_type.partition("/")
    if main in ("message", "multipart") or not re.fullmatch(r"[\w.+-]+/[\w.+-]+", attachment.media_type, re.ASCII):
        main, sub = "application", "octet-stream"  # the others may not be encoded (so says MIME)
    message.add_attachment(attachment.content, maintype=main, subtype=sub, filename=one_line(attachment.name))


def _thread(draft: Draft, *, beyond_ascii: bool) -> bytes:
    """The headers that tie an answer to what it answers."""

    def ids(text: str) -> list[str]:
        return [one for one in _MESSAGE_ID.findall(text) if beyond_ascii or one.isascii()]

    references = ids(draft.references)
    if len(references) > MOST_REFERENCES:
        references = [references[0], *references[1 - MOST_REFERENCES :]]  # the thread's first is the one that counts
    lines = [("In-Reply-To", ids(draft.in_reply_to)[:1]), ("References", references)]
    return "".join(f"{name}: " + "\r\n ".join(told) + "\r\n" for name, told in lines if told).encode()
