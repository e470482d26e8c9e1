"""Connections that end at every octet of a conversation with a real server, in every way that a connection can end."""

from __future__ import annotations

import enum
import re
import socket
import struct
from collections.abc import Iterator
from itertools import accumulate, count
from pathlib import Path

from tests.end_to_end.letters import SECONDS, below_trace, fetch, letter, send
from tests.end_to_end.programs import opened
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, EndToEndTestCase, Server, eventually
from tests.end_to_end.wire import encoded

MAILBOXES = (("reception", ALICE), ("reception", BOB), ("envoi", ALICE))
AT_ONCE = struct.pack("ii", 1, 0)  # of SO_LINGER: what is on its way is thrown away, and the server gets a RST


class Ending(enum.Enum):
    """How a client ends its connection."""

    HALF = "it says no more, and reads on"
    CLOSE = "it is gone"
    RESET = "it is broken"


def sending(text: bytes) -> list[bytes]:
    """What a client says to send ``text``, which has no line that begins with a dot."""
    return [
        b"EHLO client.test\r\n",
        f"AUTH PLAIN {encoded('', ALICE, PASSWORDS[ALICE])}\r\n".encode(),
        f"MAIL FROM:<{ALICE}>\r\n".encode(),
        f"RCPT TO:<{ALICE}>\r\n".encode(),
        f"RCPT TO:<{BOB}>\r\n".encode(),
        b"DATA\r\n",
        text + b".\r\n",
        b"QUIT\r\n",
    ]


FETCHING = [
    f"USER {BOB}\r\n".encode(),
    f"PASS {PASSWORDS[BOB]}\r\n".encode(),
    b"DELE 1\r\n",
    b"DELE 2\r\n",
    b"QUIT\r\n",
]


def cut_off(steps: list[bytes], length: int) -> Iterator[tuple[bytes, bool]]:
    """The steps that lie within the first ``length`` octets, the last as far as it does; whether each is whole."""
    for end, step in zip(accumulate(map(len, steps)), steps, strict=True):
        begin = end - len(step)
        if begin < length:
            yield step[: length - begin], end <= length


def converse(port: int, steps: list[bytes], length: int, ending: Ending) -> list[bytes]:
    """Say so many octets, and end; returns the last line of each reply that was heard.

    Who reads on says all in one go; the others wait for the reply to each step.
    """
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection, connection.makefile("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ending is Ending.HALF:
            connection.sendall(b"".join(steps)[:length])
            connection.shutdown(socket.SHUT_WR)
            return [line for line in file if not re.match(rb"\d{3}-", line)]
        heard = [file.readline()]
        for step, whole in cut_off(steps, length):
            connection.sendall(step)
            while whole and (line := file.readline()):
                if not re.match(rb"\d{3}-", line):
                    heard.append(line)
                    break
        if ending is Ending.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        return heard


class DisconnectTests(EndToEndTestCase):
    def test_a_letter_is_whole_in_all_its_mailboxes_or_in_none(self) -> None:
        server = self.serve()
        send(server.submission, ALICE, [ALICE, BOB], letter(ALICE, [ALICE, BOB], "first"))
        opened = descriptors(server)
        sent: dict[bytes, bool] = {}  # by letter, whether it was sent to its end
        acknowledged = []
        numbers = count()
        for ending in Ending:
            for length in range(octets(sending(b"Subject: 00000000\r\n\r\nbody\r\n")) + 1):
                text = b"Subject: %08d\r\n\r\nbody\r\n" % next(numbers)
                steps = sending(text)
                heard = converse(server.submission, steps, length, ending)
                sent[text] = length >= octets(steps[:-1])
                if any(re.match(rb"250 2\.0\.0 ok \d", line) for line in heard):
                    acknowledged.append(text)
        eventually(lambda: descriptors(server) == opened, "the server has let go of all connections and files")

        stored = [[below_trace(path.read_bytes()) for path in server.letters(*box)[1:]] for box in MAILBOXES]
        self.assertEqual(stored[1:], stored[:1] * 2)
        self.assertEqual(len(set(stored[0])), len(stored[0]))
        self.assertLessEqual(set(acknowledged), set(stored[0]))
        self.assertLessEqual(set(stored[0]), {text for text, whole in sent.items() if whole})
        # Those who read on hear of it, and those who wait for the reply before they say QUIT.
        self.assertEqual(len(acknowledged), len(Ending) * (len(b"QUIT\r\n") + 1))
        self.assertEqual(list((server.maildata / "spool").iterdir()), [])
        self.assertEqual([below_trace(one) for one in fetch(server.pop3, BOB)][1:], stored[1])

    def test_nothing_is_deleted_before_quit_is_said_to_its_end(self) -> None:
        server = self.serve()
        for number in range(3):
            send(server.smtp, "s@example.com", [BOB], letter("s@example.com", [BOB], f"{number}"), log_in=False)
        before = fetch(server.pop3, BOB)
        opened = descriptors(server)
        for ending in Ending:
            for length in range(octets(FETCHING)):
                # The end of the session before may not have been noticed yet.
                eventually(lambda: self.fetched(server, length, ending), "the maildrop is free again")  # noqa: B023
        eventually(lambda: descriptors(server) == opened, "the server has let go of all connections and files")
        self.assertEqual(fetch(server.pop3, BOB), before)

        self.assertEqual(converse(server.pop3, FETCHING, octets(FETCHING), Ending.CLOSE)[-1], b"+OK good-bye\r\n")
        self.assertEqual(fetch(server.pop3, BOB), before[2:])

    def fetched(self, server: Server, length: int, ending: Ending) -> bool:
        """Say so much of a session, and end; whether the maildrop was there to be opened."""
        heard = converse(server.pop3, FETCHING, length, ending)
        for line in heard:
            self.assertRegex(line, rb"^(\+OK|-ERR \[IN-USE\]|-ERR this command is not known)")
        return not any(b"[IN-USE]" in line for line in heard)


def octets(steps: list[bytes]) -> int:
    return sum(map(len, steps))


def descriptors(server: Server) -> int:
    """How many files, folders and sockets the server has open when it has let go of every connection."""
    return len(eventually(lambda: without_connections(server), "the server has let go of every connection"))


def without_connections(server: Server) -> list[str]:
    """What the server has open; nothing while a socket is among it that is no port (proc(5))."""
    tcp = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {f"socket:[{row[9]}]" for row in tcp if row[3] == "0A"}  # listening
    unix = {f"socket:[{row.split()[6]}]" for row in Path("/proc/net/unix").read_text().splitlines()[1:]}
    links = opened(server.pid)
    connected = {link for link in links if link.startswith("socket:")} - ports - unix
    return [] if connected else links
