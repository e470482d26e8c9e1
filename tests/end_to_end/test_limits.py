"""What clients may take of a real server, and what those hear who take more."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import ExitStack

from tests.end_to_end.server import BOB, EndToEndTestCase, Server, eventually
from tests.end_to_end.wire import Wire

LETTER = ("HELO me", "MAIL FROM:<s@example.org>", f"RCPT TO:<{BOB}>", "DATA")


class Limits(EndToEndTestCase):
    def assert_serves(self, server: Server, source: str = "127.0.0.1") -> None:
        """A letter arrives; a place may have to get free first."""

        def arrives() -> bool:
            with Wire(server.smtp, source) as wire:
                return wire.reply()[:3] == "220" and wire.say(*LETTER, ".")[:3] == "250"

        eventually(arrives, "a letter is taken")

    def test_more_connections_of_one_address_are_turned_away_until_one_goes(self) -> None:
        server = self.serve("--max-connections-per-address", "3")
        source = "127.0.0.2"  # from where nobody has looked yet whether the server answers
        with ExitStack() as stack:
            ports = (server.smtp, server.pop3, server.ports["pop3s"])
            first, second, third = (stack.enter_context(Wire(port, source)) for port in ports)
            third.start_tls(server.trusting())
            for wire in (first, second, third):
                self.assertRegex(wire.reply(), r"220|\+OK")
            for port, begins in ((server.smtp, b"421 4.7.0 "), (server.pop3, b"-ERR [SYS/TEMP] ")):
                with Wire(port, source) as wire:
                    self.assertRegex(wire.rest(), rb"\A" + begins.replace(b"[", rb"\[") + rb"[^\r\n]+\r\n\Z")
            with self.assertRaises(OSError), Wire(server.ports["submissions"], source) as wire:
                wire.start_tls(ssl.create_default_context())
            with Wire(server.smtp, "127.0.0.3") as wire:
                self.assertIn("220", wire.reply())
        self.assert_serves(server, source)

    def test_a_client_that_is_still_sending_can_read_why_it_is_hung_up_on(self) -> None:
        server = self.serve()
        with Wire(server.smtp) as wire:
            self.assertIn("220", wire.reply())
            wire.socket.sendall(b"x" * 900_000)
            self.assertEqual(wire.rest(), b"500 5.5.2 the line is too long\r\n")
        with Wire(server.smtp) as wire:
            wire.send(*["FROBNICATE"] * 20_000)
            replies = wire.rest().splitlines()
            self.assertEqual({line[:9] for line in replies[1:-1]}, {b"500 5.5.2"})
            self.assertEqual((len(replies), replies[-1][:9]), (52, b"421 4.7.0"))
        self.assert_serves(server)

    def test_a_client_that_never_stops_sending_is_cut_off(self) -> None:
        server = self.serve()
        with Wire(server.smtp) as wire:
            self.assertIn("220", wire.reply())

            def pour() -> None:
                for _ in range(1000):
                    wire.socket.sendall(b"x" * 100_000)

            self.assertRaises(OSError, pour)
        self.assert_serves(server)

    def test_a_letter_may_take_its_time_but_not_for_ever(self) -> None:
        server = self.serve("--letter-seconds", "1")
        with Wire(server.smtp) as wire:
            wire.reply()
            self.assertIn("354", wire.say(*LETTER))
            stop = threading.Event()

            def trickle() -> None:
                while not stop.wait(0.05):
                    try:
                        wire.socket.send(b"x")
                    except OSError:
                        return

            thread = threading.Thread(target=trickle)
            thread.start()
            self.addCleanup(thread.join)
            self.addCleanup(stop.set)
            self.assertRegex(wire.rest(), rb"\A421 4\.4\.2 [^\r\n]+\r\n\Z")
        self.assertEqual(server.letters("reception", BOB), [])
        self.assertEqual(list((server.maildata / "spool").iterdir()), [])

    def test_a_server_that_stops_does_not_wait_for_who_is_hung_up_on(self) -> None:
        server = self.serve()
        with Wire(server.smtp) as wire:
            wire.reply()
            wire.socket.sendall(b"x" * 20_000)
            self.assertIn("500", wire.reply())
            self.assertEqual(wire.socket.recv(1), b"")  # our end is open still
            server.stop()
            self.assertRaises(OSError, self.poke, wire.socket)

    def poke(self, connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b"x" * 1000)
