"""What a running server says of itself in its folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from mailbe import listening
from mailbe.listening import Listening, Opened, Port

TOLD = Listening(
    ("example.org", "example.net"),
    (Port("smtp", "192.0.2.1", 25), Port("pop3", "127.0.0.1", 2110), Port("pop3s", "::", 995)),
    classic=False,
    has_authority=True,
)


class FakePort:
    def __init__(self, host: object) -> None:
        self._host = host

    def getHost(self) -> object:
        return self._host


class ListeningTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.path = folder / "listening.json"

    def test_what_was_written_is_read(self) -> None:
        listening.write(self.path, TOLD)
        self.assertEqual(listening.read(self.path), TOLD)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_without_a_file_no_server_runs(self) -> None:
        self.assertIsNone(listening.read(self.path))

    def test_what_is_removed_is_not_read(self) -> None:
        listening.write(self.path, TOLD)
        listening.remove(self.path)
        listening.remove(self.path)
        self.assertIsNone(listening.read(self.path))

    def test_what_a_crash_has_left_is_not_believed(self) -> None:
        listening.write(self.path, TOLD)
        with subprocess.Popen([sys.executable, "-c", ""]) as gone:
            os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
            self.path.write_text(self.path.read_text().replace(f'"process": {os.getpid()}', f'"process": {gone.pid}'))
            self.assertIsNone(listening.read(self.path), "nobody has waited for it")
            gone.wait()
        self.assertIsNone(listening.read(self.path))

    def test_a_damaged_file_is_as_none(self) -> None:
        for damaged in ("", "{", "[]", "{}", '{"process": 1}', '{"process": "x"}', '{"process": 1, "ports": [1]}'):
            self.path.write_text(damaged)
            self.assertIsNone(listening.read(self.path), damaged)

    def test_what_tells_no_domain_or_no_address_is_as_none_too(self) -> None:
        listening.write(self.path, TOLD)
        text = self.path.read_text()
        without = re.sub(r'"domains": \[[^]]*\]', '"domains": []', text)
        for damaged in (text.replace('"192.0.2.1"', '"here"'), without):
            self.assertNotEqual(damaged, text)
            self.path.write_text(damaged)
            self.assertIsNone(listening.read(self.path), damaged)

    def test_ports_are_told_by_address_and_left_out_where_no_client_of_ours_comes(self) -> None:
        ports = [
            Opened("smtp", FakePort(IPv4Address("TCP", "192.0.2.1", 25))),
            Opened("pop3", FakePort(UNIXAddress("/run/pop3"))),
            Opened("pop3s", FakePort(IPv6Address("TCP", "::1", 995))),
            Opened("pop3", FakePort(IPv4Address("TCP", "127.0.0.1", 110)), proxied=True),
            Opened("lmtp", FakePort(IPv4Address("TCP", "127.0.0.1", 24))),
        ]
        told = listening.listening(["a.example"], ports, classic=True, has_authority=False)
        self.assertEqual(
            told,
            Listening(
                ("a.example",), (Port("smtp", "192.0.2.1", 25), Port("pop3s", "::1", 995)), True, False, ("pop3",)
            ),
        )
        self.assertEqual([port.at_home for port in told.ports], [False, True])
