"""The languages that replies can be in, and how one is chosen (RFC 6856 3).

Replies are written in English where they are given, in ASCII; ``i-default`` is that (RFC 2277 4.5). Another language
has a table of the same texts, where ``{}`` stands for a number. So whoever writes a reply need not know of languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from mailbe.session import Reply

_NUMBER = re.compile(r"[0-9]+|\{\}")
_STATUS = re.compile(rb"(\+OK|-ERR)( \[[A-Z/-]+\])? ")


@dataclass(frozen=True)
class Language:
    """A language, and what our texts are in it."""

    tag: str
    """RFC 5646."""
    description: str
    """In the language itself."""
    changed: str
    """What is said when the client has chosen it."""
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        holes = {_NUMBER.sub("{}", text): _NUMBER.sub("{}", its) for text, its in self.texts.items()}
        object.__setattr__(self, "_texts", holes)

    def said(self, reply: Reply) -> Reply:
        """``reply`` with its text, the rest of its first line, in this language."""
        if not self.texts:
            return reply
        if isinstance(reply.octets, bytes):
            return replace(reply, octets=self._line(reply.octets))
        return replace(reply, octets=self._lines(reply.octets))

    def _lines(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        first = next(chunks)  # which is the first line, see ``replies.text``
        return chain([self._line(first)], chunks)

    def _line(self, octets: bytes) -> bytes:
        status = _STATUS.match(octets)
        if status is None:  # a challenge of AUTH, or nothing at all
            return octets
        end = octets.index(b"\r\n")
        text = octets[status.end() : end].decode()
        its: str | None = self._texts.get(_NUMBER.sub("{}", text))  # type: ignore[attr-defined]
        if its is None:
            return octets
        return status[0] + its.format(*re.findall("[0-9]+", text)).encode() + octets[end:]


FRENCH = {
    "mailbe is ready": "mailbe est prêt",
    "good-bye": "au revoir",
    "here": "présent",
    "this is what we can do": "voici ce que nous savons faire",
    "these are the languages": "voici les langues",
    "this language is not known here": "cette langue n'est pas connue ici",
    "go ahead with TLS": "TLS peut commencer",
    "TLS is on already": "TLS est déjà en place",
    "there is no TLS here": "il n'y a pas de TLS ici",
    "TLS comes before UTF8": "TLS vient avant UTF8",
    "UTF-8 it is": "va pour UTF-8",
    "and the password?": "et le mot de passe ?",
    "say USER first": "dites d'abord USER",
    "these are the mechanisms": "voici les mécanismes",
    "this mechanism is not known here": "ce mécanisme n'est pas connu ici",
    "as you wish: no log-in": "comme vous voulez : pas de connexion",
    "the name or the password is wrong": "le nom ou le mot de passe est faux",
    "no password is taken on a connection that others can read": (
        "aucun mot de passe n'est pris sur une connexion que d'autres peuvent lire"
    ),
    "this can be neither a name nor a password": "ce ne peut être ni un nom ni un mot de passe",
    "that is enough tries for one connection": "assez d'essais pour une connexion",
    "another session has this maildrop open": "une autre session tient cette boîte ouverte",
    "this maildrop was open a moment ago; wait a little": (
        "cette boîte était ouverte il y a un instant ; attendez un peu"
    ),
    "the maildrop cannot be opened now; try again later": (
        "la boîte ne peut pas être ouverte maintenant ; réessayez plus tard"
    ),
    "{} messages, {} octets": "{} messages, {} octets",
    "{} octets": "{} octets",
    "unique-ids follow": "les identifiants suivent",
    "the top follows": "le début suit",
    "message {} deleted": "message {} effacé",
    "message {} is deleted": "le message {} est effacé",
    "no such message": "pas de tel message",
    "another program has taken this message away": "un autre programme a enlevé ce message",
    "the message cannot be read now; try again later": (
        "le message ne peut pas être lu maintenant ; réessayez plus tard"
    ),
    "some deleted messages not removed": "des messages effacés n'ont pas pu être enlevés",
    "this command is not known here, or not now": "cette commande n'est pas connue ici, ou pas maintenant",
    "this command takes no argument": "cette commande ne prend pas d'argument",
    "this command takes an argument": "cette commande prend un argument",
    "this command takes the tag of a language, or *": "cette commande prend l'étiquette d'une langue, ou *",
    "say AUTH and a mechanism": "dites AUTH et un mécanisme",
    "a message number is missing": "il manque un numéro de message",
    "these are not the numbers it takes": "ce ne sont pas les nombres qu'elle prend",
    "the line is too long": "la ligne est trop longue",
    "nothing may follow STLS before TLS has begun": "rien ne peut suivre STLS avant que TLS ait commencé",
    "there are too many connections now; try again later": (
        "il y a trop de connexions en ce moment ; réessayez plus tard"
    ),
    "that was enough of commands without effect": "c'était assez de commandes sans effet",
    "something went wrong here; try again later": "quelque chose a mal tourné ici ; réessayez plus tard",
    # What sasl.py says.
    "PLAIN takes [authzid] NUL name NUL password": "PLAIN prend [authzid] NUL nom NUL mot de passe",
    "LOGIN takes a name and a password": "LOGIN prend un nom et un mot de passe",
    "with -PLUS, and only with it, SCRAM takes a channel binding": (
        "avec -PLUS, et seulement ainsi, SCRAM prend un lien au canal"
    ),
    "a channel binding is offered here, and you were told that it is not": (
        "un lien au canal est offert ici, et l'on vous a dit que non"
    ),
    "this type of channel binding is not known here": "ce type de lien au canal n'est pas connu ici",
    "a proof of SCRAM-SHA-256 has 32 octets": "une preuve de SCRAM-SHA-256 a 32 octets",
    "your channel is not the one that ends here": "votre canal n'est pas celui qui finit ici",
    "the nonce is not that of this exchange": "le nonce n'est pas celui de cet échange",
    "nothing is left to be said in SCRAM": "il ne reste rien à dire en SCRAM",
    "nobody logs in for another here": "personne ne se connecte pour un autre ici",
    "this is no message of SCRAM, or asks for what is not known here": (
        "ce n'est pas un message de SCRAM, ou il demande ce qui n'est pas connu ici"
    ),
    "this cannot be a name": "ce ne peut pas être un nom",
    "not base64": "pas de base64",
}
I_DEFAULT = Language("i-default", "English", "English it is")
LANGUAGES = (
    I_DEFAULT,
    Language("en", "English", "English it is"),
    Language("fr", "français", "en français", FRENCH),
)
LISTING = [f"{language.tag} {language.description}" for language in LANGUAGES]


def matching(wanted: str) -> Language | None:
    """The language that the range ``wanted`` asks for; ``None``: none that we know.

    ``*`` is ours to choose. Of ``fr-CA`` its end is taken off until something is found (RFC 4647 3.4).
    """
    if wanted == "*":
        return I_DEFAULT
    tags = {language.tag: language for language in LANGUAGES}
    subtags = wanted.lower().split("-")
    while subtags:
        if (found := tags.get("-".join(subtags))) is not None:
            return found
        subtags.pop()
    return None
