"""What a balancer tells of its clients: from whom it is heard, and what is made of it wherever it is cut."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailbe.peers import network
from mailbe.proxied import HEADER_SECONDS, MAX_LINE, SIGNATURE, BadHeader, Own, Proxied, read
from tests.dialogue import Stage, Transport

BALANCER = IPv4Address("TCP", "10.0.0.9", 40000)


def v2(source: str, port: int = 4321, *, command: int = 0x21, family: int | None = None, more: bytes = b"") -> bytes:
    octets = ip_address(source).packed
    kind = family if family is not None else {4: 0x11, 16: 0x21}[len(octets)]
    block = octets + octets + struct.pack(">HH", port, 25) + more
    return SIGNATURE + struct.pack(">BBH", command, kind, len(block)) + block


GOOD = {
    b"PROXY TCP4 192.0.2.7 192.0.2.9 4321 25\r\n": "192.0.2.7",
    b"PROXY TCP6 2001:db8::7 2001:db8::9 4321 25\r\n": "2001:db8::7",
    v2("192.0.2.7"): "192.0.2.7",
    v2("2001:db8::7"): "2001:db8::7",
    v2("192.0.2.7", more=b"\x20\x00\x05hello"): "192.0.2.7",  # what else it tells stands behind
}
OF_NOBODY = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n",
    SIGNATURE + b"\x21\x00\x00\x00",
    SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
]
OF_ITSELF = [SIGNATURE + b"\x20\x00\x00\x00", v2("192.0.2.7", command=0x20)]
BAD = [
    *(b"EHLO me\r\n", b"\r\n.", b"PROXY TCP4 192.0.2.7 192.0.2.9 4321\r\n", b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n"),
    *(
        b"PROXY TCP4 192.0.2.256 192.0.2.9 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.9 65536 25\r\n",
        b"proxy UNKNOWN\r\n",
    ),
    *(b"PROXY TCP4 192.0.2.7 ::: 1 2\r\n", b"PROXY TCP4 192.0.2.7 ::1 1 2\r\n"),
    *(b"PROXY TCP4 192.0.2.7 192.0.2.9 1 65536\r\n", b"PROXY TCP4 192.0.2.7 192.0.2.9 01 2\r\n"),
    *(b"PROXY UNKNOWN" + b"x" * MAX_LINE, b"PROXY UNKNOWNX\r\n", b"PROXY  TCP4 192.0.2.7 192.0.2.9 1 2\r\n"),
    *(SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12), SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12)),
    *(SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12), SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11)),
]


class Reading(SynchronousTestCase):
    def test_good_headers_are_understood_when_they_are_whole_and_not_before(self) -> None:
        for header in (*GOOD, *OF_NOBODY, *OF_ITSELF):
            for end in range(1, len(header)):
                self.assertIsNone(read(header[:end]), header)
            found = read(header + b"EHLO me\r\n")
            assert found is not None
            client, rest = found
            self.assertEqual(rest, b"EHLO me\r\n")
            if header in GOOD:
                kind = IPv6Address if ":" in GOOD[header] else IPv4Address
                self.assertEqual(client, kind("TCP", GOOD[header], 4321))
            else:
                self.assertEqual(isinstance(client, Own), header in OF_ITSELF)
                self.assertEqual(client is None, header in OF_NOBODY)

    def test_bad_ones_are_refused(self) -> None:
        for header in BAD:
            self.assertRaises(BadHeader, read, header)

    @given(st.binary(max_size=40), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"]))
    def test_any_octets_are_a_header_or_the_beginning_of_one_or_refused(self, octets: bytes, before: bytes) -> None:
        try:
            read(before + octets)
        except BadHeader as error:
            self.assertTrue(str(error))


class Wire(Transport):
    """A connection whose protocol may be another one later, as that of a real one."""

    protocol: Any


class Passing(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage([])
        self.clock = Clock()
        self.factory = Proxied(self.stage.listener, [network("10.0.0.0/24"), network("127.0.0.2")], self.clock)

    def connect(self, balancer: IAddress = BALANCER) -> Wire | None:
        protocol = self.factory.buildProtocol(balancer)
        if protocol is None:
            return None
        wire = Wire(peerAddress=balancer)  # type: ignore[arg-type]
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return wire

    def peer(self, header: bytes, balancer: IAddress = BALANCER) -> tuple[str, bool]:
        """Who the client is, for its session, and whether nobody can read along."""
        wire = self.connect(balancer)
        assert wire is not None
        for index in range(len(header)):
            self.assertEqual(wire.value(), b"")
            wire.protocol.dataReceived(header[index : index + 1])
        self.assertTrue(wire.value().startswith(b"220 "))
        return wire.protocol.peer, wire.protocol.private

    def test_the_client_is_who_the_header_says_and_is_greeted_behind_it(self) -> None:
        for header, host in GOOD.items():
            self.assertEqual(self.peer(header), (host, False))

    def test_what_stands_behind_the_header_is_the_clients(self) -> None:
        wire = self.connect()
        assert wire is not None
        wire.protocol.dataReceived(v2("192.0.2.7") + b"NOOP\r\n")
        self.assertRegex(wire.value(), rb"\A220 [^\r]+\r\n250 [^\r]+\r\n\Z")

    def test_nobody_is_taken_for_a_program_on_this_machine_because_a_balancer_elsewhere_says_so(self) -> None:
        for header in (*OF_NOBODY, v2("127.0.0.1"), v2("::ffff:127.0.0.1"), b"PROXY TCP6 ::1 ::1 1 2\r\n"):
            self.assertEqual(self.peer(header), ("10.0.0.9", False))

    def test_nor_because_a_balancer_on_this_machine_knows_nothing(self) -> None:
        here = IPv4Address("TCP", "127.0.0.2", 1)
        for header in OF_NOBODY:
            self.assertEqual(self.peer(header, here), ("127.0.0.2", False))
        self.assertEqual(self.peer(v2("127.0.0.1"), here), ("127.0.0.1", True))
        for header in OF_ITSELF:
            self.assertEqual(self.peer(header, here), ("127.0.0.2", True))

    def test_nor_hands_such_a_client_letters_over(self) -> None:
        self.stage = Stage(["lmtp"])
        self.factory = Proxied(self.stage.listener, [network("127.0.0.2")], self.clock)
        for balancer in (IPv4Address("TCP", "127.0.0.2", 1), UNIXAddress(b"socket")):
            for header in OF_NOBODY:
                wire = self.connect(balancer)
                assert wire is not None
                wire.protocol.dataReceived(header)
                self.assertEqual(wire.value()[:4], b"554 ", balancer)

    def test_a_balancer_that_looks_whether_we_are_there_is_itself(self) -> None:
        for header in OF_ITSELF:
            self.assertEqual(self.peer(header), ("10.0.0.9", False))

    def test_a_unix_socket_is_trusted(self) -> None:
        self.assertEqual(self.peer(v2("192.0.2.7"), UNIXAddress(b"socket")), ("192.0.2.7", False))

    def test_who_is_no_balancer_is_hung_up_on(self) -> None:
        for host in ("192.0.2.1", "127.0.0.1", "10.0.1.9"):
            with capturedLogs() as events:
                self.assertIsNone(self.connect(IPv4Address("TCP", host, 1)))
            self.assertIn(host, formatEvent(events[0]))

    def test_who_says_something_else_or_nothing_is_cut_off_with_a_line_in_the_log(self) -> None:
        for header in (*BAD, b"PROXY ", b""):
            wire = self.connect()
            assert wire is not None
            with capturedLogs() as events:
                if header:
                    wire.protocol.dataReceived(header)
                if not wire.aborted:
                    self.clock.advance(HEADER_SECONDS)
            self.assertTrue(wire.aborted, header)
            self.assertEqual((len(events), wire.value()), (1, b""))
            self.assertEqual((self.factory.waiting, self.clock.getDelayedCalls()), (set(), []))

    def test_when_the_port_closes_nobody_is_waited_for(self) -> None:
        self.factory.doStart()
        wire = self.connect()
        assert wire is not None
        self.factory.doStop()
        self.assertTrue(wire.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
