"""How a mail program is to be set up for this server: as values, and as the document that programs ask for.

The document is that of draft-ietf-mailmaint-autoconfig. Only ports that really are open are told, and only to who can
reach them, the safest first: a program takes the first that it can do.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from mailbe.address import find_domain
from mailbe.listening import Listening, Port

CONTENT_TYPE = "text/xml; charset=utf-8"
USERNAME = "%EMAILADDRESS%"
PASSWORD, NONE = "password-cleartext", "none"  # the draft's names: inside TLS or this machine, and no log-in at all
SSL, STARTTLS, PLAIN = "SSL", "STARTTLS", "plain"  # its names again: implicit TLS, TLS on demand, none
LOCALHOST = "localhost"
AT_LOCALHOST = ("127.0.0.1", "::1")  # the addresses that it is the name of
MAX_NAME, MAX_SHORT_NAME = 60, 20  # characters that a provider's names may have
HELP = {"en": "How to set up a mail program", "fr": "Comment régler un logiciel de messagerie"}


@dataclass(frozen=True, slots=True)
class Server:
    """One way to fetch or to send, with all that a mail program needs for it. The user's name is the whole address."""

    kind: str
    """``pop3`` or ``smtp``."""
    host: str
    port: int
    socket: str
    """``SSL``, ``STARTTLS`` or ``plain``."""
    authentication: str
    """``password-cleartext`` or ``none``."""


# For each kind of server, the safest way first: the listener that it is had from, and when TLS begins (RFC 8314 3).
WAYS = (
    ("pop3", "pop3s", SSL),
    ("pop3", "pop3", STARTTLS),
    ("pop3", "pop3", PLAIN),
    ("smtp", "submissions", SSL),
    ("smtp", "submission", STARTTLS),
    ("smtp", "submission", PLAIN),
)


def servers(told: Listening, *, at_home: bool) -> list[Server]:
    """What a mail program may use, the safest first; all of one kind stand together.

    :param at_home: whether it runs on this machine.
    """
    ways = (
        Server(kind, host, port.port, socket, NONE if told.classic and kind == "smtp" else PASSWORD)
        for kind, listener, socket in WAYS
        if not (told.classic and (kind, socket) == ("smtp", STARTTLS))  # there is no EHLO, which would offer it
        for port in told.ports
        if port.listener == listener
        if (host := _host(told, kind, socket, port, at_home=at_home))
    )
    return list(dict.fromkeys(ways))


def _host(told: Listening, kind: str, socket: str, port: Port, *, at_home: bool) -> str | None:
    """By which name this client reaches the port, if it may be told of it."""
    # Nobody else may send without a log-in, nor is a password for the network without TLS.
    if not port.at_home and socket != PLAIN and not (told.classic and kind == "smtp"):
        return told.domains[0]
    if not at_home:
        return None
    if port.host in AT_LOCALHOST or ipaddress.ip_address(port.host.partition("%")[0]).is_unspecified:
        return LOCALHOST
    return port.host if port.at_home else None


def document(told: Listening, domain: str | None, *, at_home: bool, help_page: str | None) -> bytes | None:
    """The configuration that a mail program asks for, as UTF-8, to be sent as ``CONTENT_TYPE``.

    There is none (404) where the domain is not served, or where this client could not both fetch and send: the
    programs take no half of it.

    :param domain: of the address that it is for, as the client gave it; ``None`` where it gave none.
    :param at_home: whether the client is on this machine.
    :param help_page: the URL of a page for people.
    """
    if domain is not None and find_domain(domain, told.domains) is None:
        return None
    ways = servers(told, at_home=at_home)
    if {way.kind for way in ways} != {"pop3", "smtp"}:
        return None
    name = told.domains[0]
    # 1.1, as in the path that it stands at; the draft has "1.2", and calls 1.1 compatible.
    root = ET.Element("clientConfig", version="1.1")
    provider = ET.SubElement(root, "emailProvider", id=name)
    # The order of the draft's example.
    for served in told.domains:
        _add(provider, "domain", served)
    _add(provider, "displayName", name[:MAX_NAME])
    _add(provider, "displayShortName", name[:MAX_SHORT_NAME])
    provider.extend(map(_section, ways))
    if help_page is not None:
        provider.append(_documentation(help_page))
    ET.indent(root)
    octets: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return octets


def _section(way: Server) -> ET.Element:
    made = ET.Element("incomingServer" if way.kind == "pop3" else "outgoingServer", type=way.kind)
    for name, value in _elements(way):
        _add(made, name, value)
    return made


def _elements(way: Server) -> Iterator[tuple[str, str]]:
    yield "hostname", way.host
    yield "port", str(way.port)
    yield "socketType", way.socket
    yield "authentication", way.authentication
    yield "username", USERNAME  # also with "none": Thunderbird takes what has none for incomplete


def _documentation(help_page: str) -> ET.Element:
    made = ET.Element("documentation", url=help_page)
    for language, text in HELP.items():
        _add(made, "descr", text).set("lang", language)
    return made


def _add(parent: ET.Element, name: str, text: str) -> ET.Element:
    made = ET.SubElement(parent, name)
    made.text = text
    return made
