"""Clients that a balancer passes on: it says who they are in a header before all they say.

That is the PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt). Such a header is anybody's word, so it
is heard from the balancers that we were told of, and on ports for them alone. When it has come, the connection begins
as if its client had made it: from then on nothing stands between the two.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailbe.peers import Network, Unknown, is_in, plain, who

log = Logger()

HEADER_SECONDS = 10.0  # that a balancer may take for its header
MAX_LINE = 107  # octets of a header of version 1, with its CRLF (2.1)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2 (2.2)
_LOCAL, _PROXY = 0x20, 0x21
_HOST, _PORT = rb"([0-9A-Fa-f:.]+)", rb"(0|[1-9][0-9]{0,4})"
_V1 = re.compile(rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP[46]) %b %b %b %b)\r\n" % (_HOST, _HOST, _PORT, _PORT))
# By family and transport: octets of an address. A UNIX socket, or one that is not told, names nobody.
_V2 = {0x11: 4, 0x21: 16}
_NOBODY = (0x00, 0x31)

Client = IPv4Address | IPv6Address


class BadHeader(ValueError):
    """What came is no header of the PROXY protocol."""


class Own:
    """Whom a header names that speaks for nobody: the balancer itself, which looks whether we are there."""


def read(data: bytes) -> tuple[Client | Own | None, bytes] | None:
    """Whom the header at the beginning of ``data`` names, and what stands behind it; ``None`` while more must come.

    The client's address; ``Own``; or ``None`` where the balancer does not know.

    :raises BadHeader:
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    end = data.find(b"\r\n", 0, MAX_LINE) + 2
    if end < 2:
        if len(data) >= MAX_LINE or data[:6] != b"PROXY "[: len(data)]:
            raise BadHeader("it does not begin with PROXY")
        return None
    if not (match := _V1.fullmatch(data[:end])):
        raise BadHeader("version 1 is malformed")
    kind, *hosts, port, our_port = match.groups()
    if kind is None:
        return None, data[end:]
    try:
        address, ours = (ipaddress.ip_address(host.decode("ascii")) for host in hosts)
    except ValueError:
        raise BadHeader("version 1 has no address") from None
    # What does not match exactly is no header (2.1), though nobody asks for our own address.
    if {address.version, ours.version} != {int(kind[3:])} or max(int(port), int(our_port)) > 65535:
        raise BadHeader("version 1 has an address of another kind")
    return _client(address, int(port)), data[end:]


def _read_v2(data: bytes) -> tuple[Client | Own | None, bytes] | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack(">BBH", data[12:16])
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("version 2 has an unknown command")
    if command == _PROXY and family not in (*_V2, *_NOBODY):
        raise BadHeader("version 2 has no stream of IPv4 or IPv6")
    octets = _V2.get(family, 0)
    if command == _PROXY and octets and length < 2 * octets + 4:
        raise BadHeader("version 2 is too short for its addresses")
    end = 16 + length
    if len(data) < end:
        return None
    if command == _LOCAL:
        return Own(), data[end:]
    if not octets:
        return None, data[end:]
    (port,) = struct.unpack(">H", data[16 + 2 * octets : 18 + 2 * octets])
    return _client(ipaddress.ip_address(data[16 : 16 + octets]), port), data[end:]


def _client(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> Client:
    kind = IPv4Address if address.version == 4 else IPv6Address
    return kind("TCP", str(address), port)


class Proxied(ServerFactory):
    """Takes connections from balancers alone, and has ``factory`` begin with each when its header has come."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, balancers: Sequence[Network], clock: IReactorTime) -> None:
        """:param balancers: the networks that they are in; who comes by a UNIX socket is one."""
        self.behind = factory
        self.clock = clock
        self.waiting: set[Header] = set()
        self._balancers = balancers

    def startFactory(self) -> None:
        self.behind.doStart()

    def stopFactory(self) -> None:
        for header in list(self.waiting):
            header.abort()
        self.behind.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        host, _ = who(addr)
        if host and not is_in(host, self._balancers):
            log.warn("{peer} is no balancer that --proxy-from names: hung up", peer=host)
            return None
        return Header(self, host)


class Header(Protocol):
    """Waits for the header of one connection."""

    transport: Any

    def __init__(self, factory: Proxied, balancer: str) -> None:
        self._factory = factory
        self._balancer = balancer
        self._data = b""
        self._alarm: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._factory.waiting.add(self)
        self._alarm = self._factory.clock.callLater(HEADER_SECONDS, self._refuse, "it does not come")

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            header = read(self._data)
        except BadHeader as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._hand_over(*header)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._leave()

    def abort(self) -> None:
        """Cut the connection off."""
        self._leave()
        self.transport.abortConnection()

    def _refuse(self, why: str) -> None:
        log.warn("no PROXY header from {peer}: {why}", peer=self._balancer or "a UNIX socket", why=why)
        self.abort()

    def _leave(self) -> None:
        self._factory.waiting.discard(self)
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    def _hand_over(self, client: Client | Own | None, rest: bytes) -> None:
        self._leave()
        transport = self.transport
        if not isinstance(client, Own):
            named: Any = client
            # Whoever is on the balancer's machine is not on ours, and whoever is not known may be anywhere.
            if client is None or (plain(client.host)[1] and not (self._balancer and plain(self._balancer)[1])):
                named = Unknown(self._balancer)
            transport.getPeer = lambda: named
        protocol: Any = self._factory.behind.buildProtocol(transport.getPeer())
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)
