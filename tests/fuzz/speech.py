"""What clients say, well or badly: commands, letters, garbage, and what happens to octets on their way.

Everything is drawn from a ``Random``, so that a seed tells all of it; hypothesis has one of its own, which it can
shrink. Lines come without their CRLF.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from random import Random

# Accounts as the dialogues in tests/dialogues have them.
PASSWORDS = {"alice@localhost": b"secret", "bob@localhost": b"two words "}
FORGED = b"\n2026-01-01T00:00:00+0000 [mailbe-forged#info] forged\n"

_LOCAL = [b"alice@localhost", b"bob@localhost", b"Bob@LocalHost", b"postmaster@localhost", b'"alice"@localhost']
_OTHERS = [
    b"nobody@localhost",
    b"s@example.org",
    b"x@[192.0.2.1]",
    b"x@[IPv6:::1]",
    b"bob%example.org@localhost",
    b"example.org!bob@localhost",
    b"../../etc/passwd@localhost",
    b'"a b\\"c"@localhost',
    b'"../x"@localhost',
    b"bob",
    b"@localhost",
    b"bob@",
    b"b\xc3\xb6b@localhost",
    b"bob@local\0host",
    b"a" * 65 + b"@localhost",
    b"a@" + b"b." * 130 + b"c",
]
_PARAMETERS = [
    b"SIZE=100",
    b"SIZE=0",
    b"SIZE=99999999999",
    b"SIZE=1e3",
    b"BODY=8BITMIME",
    b"BODY=7BIT",
    b"AUTH=<>",
    b"SMTPUTF8",
    b"REQUIRETLS",
    b"MT-PRIORITY=-9",
    b"RET=FULL",
    b"RET=HALF",
    b"ENVID=a+2Bb",
    b"ENVID=a+2b",
    b"BY=100;N",
    b"BY=100;RT",
    b"BY=-100;N",
    b"BY=0;R",
    b"HOLDFOR=0",
    b"HOLDFOR=3",
    b"HOLDFOR=100",
    b"HOLDFOR=99999999999",
    b"HOLDUNTIL=2020-01-01T00:00:00Z",
    b"HOLDUNTIL=2020-13-01T00:00:00Z",
    b"=",
]
# Not SUCCESS: while its report is made, a letter lies where others fetch and delete it, and nobody was told of it yet.
_WISHES = [
    b"NOTIFY=NEVER",
    b"NOTIFY=FAILURE,DELAY",
    b"NOTIFY=NEVER,DELAY",
    b"NOTIFY=",
    b"ORCPT=rfc822;bob+2Bx@example.org",
    b"ORCPT=utf-8;b\\x{F6}b@example.org",
    b"ORCPT=utf-8;b\xc3\xb6b@example.org",
    b"ORCPT=bob",
    b"RET=FULL",
]
_NAMES = [b"me", b"client.test", b"[127.0.0.1]", b"[IPv6:::1]", b"a" * 255, b"a" * 256, b"b\xf6se", b"x y", b"a\0b"]
_NUMBERS = [b"1", b"2", b"3", b"0", b"-1", b"01", b"9999999999", b"99999999999", b"1 1", b"1 0", b"2 5", b"", b"x"]
_TOKENS = [b"\r", b"\n", b"\r\n", b"\0", b"\xff", b" ", b"\t", b"<", b">", b"*", b"=", b"."]
_TOKENS += [b"\r\n.\r\n", b"\n.\n", b"\r\n.\n"]
_TEXT = [
    b"a",
    b"a line\r\n",
    b"\r\n",
    b".",
    b"..",
    b"\r\n.",
    b"\r\n..\r\n",
    b".\r\n",
    b"\r",
    b"\n",
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n\0.\r\n",
    b"\0",
    b"\xff\xfe",
    b"\r\n\r\n",
    b"From here\r\n",
    b"Received: x\r\n",
    b"Return-Path: <x@example.org>\r\n",
    b" folded\r\n",
    b"MAIL FROM:<>\r\n",
    b"x" * 1001,
]


def encoded(*fields: bytes) -> bytes:
    """The fields of an AUTH PLAIN response, or one of AUTH LOGIN, in base64."""
    return base64.b64encode(b"\0".join(fields))


def address(random: Random) -> bytes:
    return random.choice(_LOCAL if random.randrange(3) else _OTHERS)


def _path(random: Random) -> bytes:
    inside = address(random)
    return random.choice([b"<%b>", b"<%b>", b"<%b>", b"<@a.example,@b.example:%b>", b"%b", b"<%b", b"<>"]).replace(
        b"%b", inside
    )


def _mail(random: Random) -> bytes:
    words = [b"MAIL FROM:" + _path(random), *random.sample(_PARAMETERS, random.choice([0, 0, 1, 2]))]
    return b" ".join(words)


def _auth(random: Random) -> bytes:
    name, password = random.choice([*PASSWORDS.items(), ("nobody", b"x"), (FORGED.decode(), b"x")])
    fields = (b"", name.encode(), random.choice([password, password, b"wrong", b"", FORGED]))
    return b" ".join(
        random.choice(
            [
                [b"AUTH PLAIN", encoded(*fields)],
                [b"AUTH PLAIN"],
                [b"AUTH LOGIN"],
                [b"AUTH LOGIN", encoded(name.encode())],
                [b"AUTH SCRAM-SHA-256", encoded(b"n,,n=%b,r=abc" % name.encode())],
                [b"AUTH SCRAM-SHA-256-PLUS", encoded(b"p=tls-exporter,,n=alice,r=abc")],
                [b"AUTH SCRAM-SHA-256", b"="],
                [b"AUTH PLAIN", b"=="],
                [b"AUTH"],
                [b"AUTH CRAM-MD5"],
            ]
        )
    )


def _rcpt(random: Random) -> bytes:
    return b" ".join([b"RCPT TO:" + _path(random), *random.sample(_WISHES, random.choice([0, 0, 0, 1, 2]))])


_SMTP: list[Callable[[Random], bytes]] = [
    lambda random: random.choice([b"HELO ", b"EHLO ", b"EHLO ", b"HELLO "]) + random.choice(_NAMES),
    _mail,
    _mail,
    _rcpt,
    _rcpt,
    lambda random: b"DATA",
    _auth,
    lambda random: random.choice(
        [b"RSET", b"NOOP", b"NOOP x", b"HELP", b"VRFY bob", b"VRFY", b"EXPN list", b"RSET x", b"DATA x"]
    ),
    lambda random: random.choice([b"ETRN list", b"TURN", b"", b" ", b"GET / HTTP/1.1", b"HELP DATA", b"STARTTLS x"]),
    lambda random: random.choice([b"BDAT 10 LAST", b"BDAT 0", b"bdat 0  last", b"BDAT 3\r\na\r", b"BDAT 2 x", b"BDAT"]),
    lambda random: random.choice(
        [b"RSET\t", b"BDAT 0 \t", b"BDAT\t3", b" BDAT 3", b"RCPT TO:<bob@localhost> \t", b"NOOP \t"]
    ),
    lambda random: b"VRFY " + random.choice([b"alice", b"<bob@localhost>", b"j\xc3\xb6rg SMTPUTF8", b"\xff", b"a b"]),
    lambda random: random.choice([b"mail from:<>", b"rcpt to:<bob@localhost>", b"RCPT TO: <alice@localhost>", b"data"]),
]
_POP3: list[Callable[[Random], bytes]] = [
    lambda random: random.choice([b"RETR ", b"LIST ", b"UIDL ", b"DELE ", b"TOP "]) + random.choice(_NUMBERS),
    lambda random: random.choice([b"STAT", b"LIST", b"UIDL", b"NOOP", b"CAPA", b"RSET", b"TOP 1 0", b"TOP 1 2"]),
    lambda random: (
        b"USER " + random.choice([b"alice", b"bob", b"alice@localhost", b"nobody", b"", FORGED.strip(b"\n")])
    ),
    lambda random: b"PASS " + random.choice([*PASSWORDS.values(), b"wrong", b"", b"\xff"]),
    _auth,
    lambda random: random.choice([b"APOP alice x", b"LAST", b"", b" ", b"XTND", b"retr 1", b"dele 2", b"CAPA x"]),
    lambda random: random.choice(
        [b"UTF8", b"UTF8", b"UTF8 x", b"LANG", b"LANG fr", b"LANG *", b"LANG en-GB", b"LANG -"]
    ),
]


def smtp_command(random: Random) -> bytes:
    """One line, often right, in any order."""
    return _spoilt(random, random.choice(_SMTP)(random))


def pop3_command(random: Random) -> bytes:
    return _spoilt(random, random.choice(_POP3)(random))


def _spoilt(random: Random, command: bytes) -> bytes:
    return command if random.randrange(8) else command + random.choice([b" ", b""]) + random.choice(_TOKENS)


def letter(random: Random) -> bytes:
    """A text as it follows DATA, with its lone dot: dots stuffed or not, and whatever else a line may have."""
    good = random.randrange(2)
    pieces = _TEXT[:7] if good else _TEXT
    header = random.choice([b"Subject: x\r\n\r\n", b"Return-Path: <x@y>\r\n\tz\r\nSubject: x\r\n\r\n", b"\r\n", b""])
    size = random.choice([0, 1, 3, 8, 20])
    text = header + b"".join(random.choice(pieces) for _ in range(size))
    if not random.randrange(12):
        text += random.choice([b"y" * 70_000, b"z\r\n" * 30_000])
    if not random.randrange(12):
        text = b"Received: x\r\n" * random.choice([99, 101, 300]) + text
    return (text if text.endswith(b"\r\n") or not text else text + b"\r\n") + b".\r\n"


def in_pieces(random: Random, octets: bytes) -> bytes:
    """``octets`` by BDAT."""
    pieces = cut(random, octets)
    ends = [b""] * (len(pieces) - 1) + [b" LAST"]
    return b"".join(b"BDAT %d%b\r\n%b" % (len(piece), end, piece) for piece, end in zip(pieces, ends, strict=True))


def garbage(random: Random) -> bytes:
    """No line of any protocol, or by accident only."""
    kind = random.randrange(8)
    if kind < 4:
        return random.randbytes(random.choice([1, 5, 40, 200]))
    if kind < 7:
        return b"".join(random.choice(_TOKENS) for _ in range(random.choice([1, 3, 10])))
    return random.choice([b"a", b"NOOP ", b"\xff", b"."]) * random.choice([510, 600, 2100, 13_000]) + b"\r\n"


def mutated(random: Random, octets: bytes, times: int = 1) -> bytes:
    """``octets`` with so many faults."""
    for _ in range(times):
        at = random.randrange(len(octets) + 1)
        length = random.choice([1, 1, 2, 5, 30])
        part = octets[at : at + length]
        octets = random.choice(_FAULTS)(random, octets[:at], part, octets[at + len(part) :])
    return octets


_FAULTS: list[Callable[[Random, bytes, bytes, bytes], bytes]] = [
    # A bit is flipped, a piece is lost, doubled, repeated to excess, replaced, moved; something is put in; cut off.
    lambda random, head, part, tail: (
        head + bytes([part[0] ^ 1 << random.randrange(8)]) + part[1:] + tail if part else head
    ),
    lambda random, head, part, tail: head + tail,
    lambda random, head, part, tail: head + part + part + tail,
    lambda random, head, part, tail: head + part * random.choice([50, 600, 5000]) + tail,
    lambda random, head, part, tail: head + random.randbytes(len(part)) + tail,
    lambda random, head, part, tail: tail + part + head,
    lambda random, head, part, tail: head + random.choice([*_TOKENS, FORGED]) + part + tail,
    lambda random, head, part, tail: head + part,
    lambda random, head, part, tail: head + part.replace(b"\r\n", random.choice([b"\n", b"\r", b"\r\r\n"])) + tail,
]


def spliced(random: Random, one: bytes, other: bytes) -> bytes:
    """The beginning of one, the end of the other."""
    return one[: random.randrange(len(one) + 1)] + other[random.randrange(len(other) + 1) :]


def cut(random: Random, octets: bytes, most: int = 4) -> list[bytes]:
    """``octets`` in pieces, cut anywhere."""
    edges = sorted(random.randrange(len(octets) + 1) for _ in range(random.randrange(most)))
    return [octets[begin:end] for begin, end in zip([0, *edges], [*edges, len(octets)], strict=True) if end > begin]


def lines(commands: Iterable[bytes]) -> bytes:
    """One segment."""
    return b"".join(command + b"\r\n" for command in commands)


def several(random: Random, command: Callable[[Random], bytes], sizes: Sequence[int] = (1, 2, 4, 8)) -> list[bytes]:
    """Some commands in no order."""
    return [command(random) for _ in range(random.choice(sizes))]


_WRITTEN = {octet: chr(octet) for octet in range(0x20, 0x7F) if octet not in b"\\{}"} | {0x0D: "\\r", 0x0A: "\\n"}
_REPEATED = re.compile(rb"(.{1,40}?)\1{9,}", re.DOTALL)


def written(octets: bytes) -> list[str]:
    """``octets`` as the lines of a file in tests/dialogues; what is said again and again is written once."""
    text = ""
    begin = 0
    for match in _REPEATED.finditer(octets):
        text += _lines(octets[begin : match.start()])
        text += f"{{{len(match[0]) // len(match[1])}*{_escaped(match[1])}}}"
        begin = match.end()
    *complete, rest = (text + _lines(octets[begin:])).split("\n")
    return [*(f"C: {line}" for line in complete), *([f"C~ {rest}"] if rest else [])]


def _lines(octets: bytes) -> str:
    return "\n".join(map(_escaped, octets.split(b"\r\n")))


def _escaped(octets: bytes) -> str:
    return "".join(_WRITTEN.get(octet, f"\\x{octet:02x}") for octet in octets)
