"""The floods, as a table: what hostile clients do to a server, each under a name."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from OpenSSL import SSL

from bench.hostile import HOST, Client, Crowd, Field, Outcome, addresses, careless
from tests.end_to_end.server import ALICE, BOB
from tests.end_to_end.wire import encoded

Chunks = Callable[[], Iterable[bytes]]

MALLORY, MALLORYS_PASSWORD = "mallory@localhost", "looking-glass-3"
LETTERS = 20_000  # that lie in the maildrop of this account; the first is large, the others are small
MEGABYTE = 1_000_000
TIMES = 100_000  # of what is sent very often
MANY = 10_000  # connections
SOME = 1000
THREADS = 8  # that shake hands
EHLO, MAIL, RCPT = "EHLO hostile.test", "MAIL FROM:<hostile@example.org>", f"RCPT TO:<{BOB}>"
LETTER = (EHLO, MAIL, RCPT, "DATA")
LOG_IN = (f"USER {MALLORY}", f"PASS {MALLORYS_PASSWORD}")
OPENING = "".join(f"{line}\r\n" for line in LETTER).encode()
SCRAM = f"AUTH SCRAM-SHA-256 {base64.b64encode(f'n,,n={ALICE},r=rOprNGfwEbeRWgbNEkqO'.encode()).decode()}\r\n".encode()


def endless(lines: bytes) -> Chunks:
    """``lines`` over and over, in large pieces."""
    return lambda: itertools.repeat(lines * (1 + 50_000 // len(lines)))


def at_once(line: bytes, times: int = TIMES) -> Chunks:
    """``line`` so many times in one piece."""
    return lambda: [line * times]


def much(piece: bytes, octets: int, before: bytes = b"", after: bytes = b"") -> Chunks:
    """``piece`` over and over, so many octets of it."""
    large = piece * (1 + 50_000 // len(piece))
    return lambda: itertools.chain([before], itertools.repeat(large, octets // len(large)), [after])


def guess(number: int) -> bytes:
    """A log-in with a password that nobody has tried before."""
    return f"{EHLO}\r\nAUTH PLAIN {encoded('', ALICE, f'wrong-{number}')}\r\n".encode()


def each_letter(command: str) -> Chunks:
    """``command`` for each of the small letters, over and over; ``#`` is its number."""
    lines = "".join(f"{command}\r\n".replace("#", str(number)) for number in range(2, LETTERS + 1)).encode()
    return lambda: itertools.repeat(lines)


@dataclass(frozen=True)
class Pour:
    """One connection: says ``first``, each line when the one before is answered, and then pours."""

    chunks: Chunks
    protocol: str = "smtp"
    first: tuple[str, ...] = (EHLO,)
    reads: bool = True

    def __call__(self, field: Field) -> Outcome:
        client = Client(field, self.protocol)
        client.say(*self.first)
        return client.pour(self.chunks(), reads=self.reads)


def nothing(field: Field) -> Outcome:
    """No flood at all."""
    time.sleep(field.seconds)
    return Outcome("")


def tiny_segments(field: Field) -> Outcome:
    """A letter, two octets a segment."""
    client = Client(field, "smtp")
    client.say(*LETTER)
    return client.pour(itertools.repeat(b"ab"))


def storm(field: Field, *, abort: bool = False) -> Outcome:
    """Connections that close as soon as they are there, or before."""
    until = time.monotonic() + field.seconds
    sources = addresses(100)
    begin = time.monotonic()
    came = 0
    while came < MANY and time.monotonic() < until:
        connection = socket.socket()
        if abort:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.setblocking(False)
        connection.bind((next(sources), 0))
        connection.connect_ex((HOST, field.ports["smtp"]))
        connection.close()
        came += 1
    return Outcome(f"{came} came and went in {time.monotonic() - begin:.1f} s")


def threaded(field: Field, once: Callable[[Field, str], None]) -> Outcome:
    """``once`` over and over, in some threads, each time from another address."""
    until = time.monotonic() + field.seconds
    sources = addresses(100)
    done: list[int] = []
    failures: list[str] = []

    def work() -> None:
        while time.monotonic() < until:
            try:
                once(field, next(sources))
                done.append(1)
            except (OSError, SSL.Error) as error:
                failures.append(f"{type(error).__name__}: {error}"[:60])

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Outcome(f"{len(done)} done, {len(failures)} failed" + "".join(f"; {failure}" for failure in failures[-1:]))


def shake_hands(field: Field, source: str) -> None:
    with socket.create_connection((HOST, field.ports["submissions"]), 10, (source, 0)) as connection:
        careless().wrap_socket(connection).close()


def starttls(field: Field, source: str) -> None:
    with socket.create_connection((HOST, field.ports["smtp"]), 10, (source, 0)) as connection:
        connection.recv(1000)
        connection.sendall(b"STARTTLS\r\n")
        connection.recv(1000)
        careless().wrap_socket(connection).close()


def garbage_in_tls(field: Field, source: str) -> None:
    """A good handshake, and behind it records that nobody has encrypted."""
    with socket.create_connection((HOST, field.ports["submissions"]), 10, (source, 0)) as connection:
        connection.settimeout(None)
        channel = careless().wrap_socket(connection)
        with socket.socket(fileno=os.dup(channel.fileno())) as below:
            below.sendall(b"\x17\x03\x03\x40\x00" + os.urandom(16384))
            while below.recv(65536):
                pass
        channel.close()


def renegotiate(field: Field, source: str) -> None:
    """A handshake of TLS 1.2, and the wish for another."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with socket.create_connection((HOST, field.ports["submissions"]), 10, (source, 0)) as connection:
        connection.settimeout(None)
        channel = SSL.Connection(context, connection)
        channel.set_connect_state()
        channel.do_handshake()
        channel.recv(1000)
        channel.renegotiate()
        channel.do_handshake()


def client_hello() -> bytes:
    """What a client says first in TLS. It costs nothing to say it again, and the server a signature to answer."""
    outgoing = ssl.MemoryBIO()
    channel = careless().wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        channel.do_handshake()
    return outgoing.read()


DATA = partial(Pour, first=LETTER)
UNREAD = partial(Pour, reads=False)
POP3 = partial(Pour, protocol="pop3")
DROP = partial(Pour, protocol="pop3", first=LOG_IN)
TLS = partial(Pour, protocol="submissions")
END = b"\r\n.\r\n"
ANYTHING = re.compile(b"")

FLOODS: dict[str, tuple[str, Callable[[Field], Outcome]]] = {
    "calm": ("no flood: what the witness sees without one", nothing),
    "noop-unread": ("NOOP without end, no answer is read", UNREAD(endless(b"NOOP\r\n"))),
    "ehlo-unread": ("the same with EHLO", UNREAD(endless(b"EHLO a\r\n"))),
    "help-unread": ("the same with HELP", UNREAD(endless(b"HELP\r\n"))),
    "noop-once": ("100,000 NOOPs in one segment", Pour(at_once(b"NOOP\r\n"))),
    "noop-endless": ("NOOP without end, the answers are read", Pour(endless(b"NOOP\r\n"))),
    "noop-crowd": ("100 connections with 20,000 NOOPs each", Crowd("smtp", 100, b"NOOP\r\n" * 20_000, addresses=100)),
    "unknown-once": ("100,000 commands that are none, in one segment", Pour(at_once(b"X\r\n"))),
    "empty-once": ("100,000 empty lines for commands, in one segment", Pour(at_once(b"\r\n"))),
    "rcpt-valid": ("100,000 RCPTs of one who is here", Pour(at_once(f"{RCPT}\r\n".encode()), first=(EHLO, MAIL))),
    "rcpt-unknown": ("... of somebody who is not", Pour(at_once(b"RCPT TO:<x@localhost>\r\n"), first=(EHLO, MAIL))),
    "rcpt-elsewhere": ("... of another host's", Pour(at_once(b"RCPT TO:<x@example.org>\r\n"), first=(EHLO, MAIL))),
    "rcpt-malformed": ("... that are none", Pour(at_once(b"RCPT TO:x\r\n"), first=(EHLO, MAIL))),
    "rcpt-long": (
        "10,000 RCPTs of 2 KB, with a long source route",
        Pour(at_once(b"RCPT TO:<" + b",".join([b"@a.b"] * 400) + b":\r\n", 10_000), first=(EHLO, MAIL)),
    ),
    "mail-rset": ("100,000 pairs of MAIL and RSET", Pour(at_once(f"{MAIL}\r\nRSET\r\n".encode()))),
    "line-command": ("a command of 100 MB", Pour(much(b"x", 100 * MEGABYTE))),
    "line-auth": ("the same for an answer to AUTH", Pour(much(b"x", 100 * MEGABYTE), first=(EHLO, "AUTH LOGIN"))),
    "line-pop3": ("the same as a command in POP3", POP3(much(b"x", 100 * MEGABYTE), first=())),
    "line-tls": ("the same as a command in TLS", TLS(much(b"x", 100 * MEGABYTE))),
    "header-line": ("a letter whose header is one line of 100 MB", DATA(much(b"x", 100 * MEGABYTE, b"X: ", END))),
    "header-lines": ("a header of 25 MB of short lines", DATA(much(b"a:\r\n", 25 * MEGABYTE, after=END))),
    "body-line": ("a body of one line of 100 MB", DATA(much(b"x", 100 * MEGABYTE, b"X: y\r\n\r\n", END))),
    "body-empty": ("25 MB of empty lines", DATA(much(b"\r\n", 25 * MEGABYTE, after=END))),
    "body-cr": ("25 MB of CR", DATA(much(b"\r", 25 * MEGABYTE, after=END))),
    "body-lf": ("25 MB of LF", DATA(much(b"\n", 25 * MEGABYTE, after=END))),
    "body-dots": ("25 MB of lines of two dots", DATA(much(b"..\r\n", 25 * MEGABYTE, b"\r\n", END))),
    "body-tiny": ("a letter in segments of two octets", tiny_segments),
    "idle-smtp": ("10,000 connections of one address that say nothing", Crowd("smtp", MANY)),
    "idle-spread": ("the same, of 1000 addresses", Crowd("smtp", MANY, addresses=SOME)),
    "idle-pop3": ("the same on POP3", Crowd("pop3", MANY, addresses=SOME)),
    "idle-tls": ("10,000 handshakes half done", Crowd("submissions", MANY, client_hello(), addresses=SOME)),
    "storm": ("10,000 connections that close at once", storm),
    "storm-abort": ("the same, with a reset", partial(storm, abort=True)),
    "drip": ("1000 connections that send an octet a second", Crowd("smtp", SOME, addresses=100, drip=b"EHLO hostile")),
    "half-large": (
        "1000 letters of which 100 KB have come",
        Crowd("smtp", SOME, OPENING + b"X: y\r\n\r\n" + b"x" * 100_000, addresses=100),
    ),
    "half-small": (
        "1000 letters of which 60 KB have come",
        Crowd("smtp", SOME, OPENING + b"X: y\r\n\r\n" + b"x" * 60_000, addresses=100),
    ),
    "tls-shakes": ("handshakes, one behind the other", partial(threaded, once=shake_hands)),
    "tls-starttls": ("the same behind STARTTLS", partial(threaded, once=starttls)),
    "tls-hellos": (
        "first halves of handshakes",
        Crowd("submissions", 10 * TIMES, client_hello(), addresses=100, leaves_at=ANYTHING),
    ),
    "tls-garbage": (
        "octets that are no TLS",
        Crowd("submissions", TIMES, b"x" * 20_000, 100, leaves_at=ANYTHING),
    ),
    "tls-records": ("handshakes, and garbage behind each", partial(threaded, once=garbage_in_tls)),
    "tls-again": ("handshakes, and the wish for another", partial(threaded, once=renegotiate)),
    "noop-tls": ("100,000 NOOPs in TLS", TLS(at_once(b"NOOP\r\n"))),
    "noop-tls-unread": ("NOOP without end in TLS, no answer is read", TLS(endless(b"NOOP\r\n"), reads=False)),
    "listing": ("a log-in to a maildrop of 20,000 letters, and no more", DROP(list)),
    "retr-large-unread": ("a letter of 25 MB over and over, unread", DROP(endless(b"RETR 1\r\n"), reads=False)),
    "retr-small-unread": ("small letters over and over, unread", DROP(each_letter("RETR #"), reads=False)),
    "list-unread": ("LIST of 20,000 letters, unread", DROP(endless(b"LIST\r\n"), reads=False)),
    "uidl-unread": ("UIDL of 20,000 letters, unread", DROP(endless(b"UIDL\r\n"), reads=False)),
    "top-unread": ("TOP of 20,000 letters, unread", DROP(each_letter("TOP # 0"), reads=False)),
    "list-once": ("100,000 LISTs in one segment", DROP(at_once(b"LIST\r\n"))),
    "uidl-once": ("100,000 UIDLs in one segment", DROP(at_once(b"UIDL\r\n"))),
    "retr-small": ("small letters over and over", DROP(each_letter("RETR #"))),
    "retr-large": ("the large letter over and over", DROP(endless(b"RETR 1\r\n"))),
    "dele-rset": ("100,000 pairs of DELE and RSET", DROP(at_once(b"DELE 1\r\nRSET\r\n"))),
    "auth-wrong": (
        "wrong passwords of the witness's account, of 1000 addresses",
        Crowd("submission", TIMES, guess, addresses=SOME, leaves_at=re.compile(rb"(?m)^(535|454|421)")),
    ),
    "auth-flight": (
        "the same, and gone before the answer",
        Crowd("submission", TIMES, guess, addresses=SOME, leaves_at=ANYTHING),
    ),
    "auth-cancelled": ("100,000 times AUTH LOGIN and *", Pour(at_once(b"AUTH LOGIN\r\n*\r\n"))),
    "scram-cancelled": ("100,000 times SCRAM begun, and *", Pour(at_once(SCRAM + b"*\r\n"))),
    "scram-flight": (
        "SCRAM begun, and gone",
        Crowd("submission", TIMES, f"{EHLO}\r\n".encode() + SCRAM, SOME, leaves_at=re.compile(rb"(?m)^(334|421)")),
    ),
}
