"""One file of a Maildir: what its name tells, and its content as it crosses the wire.

A message's name is ``<unique part>[,A=<octets>][,S=<octets>][,W=<octets>][:2,<flags>]``. S is the size of the
file, W its size on the wire, where every line ends in CRLF, and A that of its surrogate there, of ASCII, where it
needs one. (U is isync's and pine's, for a number of theirs.)
Our own files are stored as they crossed the wire, so both are the same, and sending one is copying it. A file that
another program has put there may have lines that end in LF, and a name that tells no size: it is converted on its
way out, and measured once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from mailbe.durable import named, trouble

SMALL = 64 * 1024  # octets of a letter that is read at once
CHUNK = 256 * 1024  # octets of a larger one that are

_WIRE_SIZE = re.compile(r",W=(\d+)")
_SURROGATE_SIZE = re.compile(r",A=(\d{1,18})(?=,|$)")


def base(name: str) -> str:
    """A message's name without its flags: what stays the same as long as the message is there."""
    return name.partition(":")[0]


def told_size(base_name: str) -> int | None:
    """The octets on the wire that a name without flags tells; ``None`` where it does not."""
    _, tells, last = base_name.rpartition(",W=")
    if tells and last.isdecimal():  # as in nearly all names; the expression takes twice as long
        return int(last)
    told = _WIRE_SIZE.search(base_name)
    return int(told[1]) if told else None


def told_surrogate(base_name: str) -> int | None:
    """The octets of its surrogate that a name without flags tells; ``None`` where it does not."""
    told = _SURROGATE_SIZE.search(base_name)
    return int(told[1]) if told else None


def content(path: str, size: int) -> Iterable[bytes]:
    """The content of a message as it goes over the wire; the file is open, or has been read, when this returns.

    :param size: its octets there, as far as its name or a listing tells.
    :raises OSError: at once; who asks for chunks that are read later may meet ``TryLater``.
    """
    if size <= SMALL and _is_as_on_wire(path, size):
        octets = _read(path, size + 1)
        if len(octets) == size:
            return (octets,)
    chunks = contents(path)
    return chain([next(chunks, b"")], _or_trouble(chunks))


def contents(path: str) -> Iterator[bytes]:
    """The chunks of a file as they go over the wire. It is open when the first is asked for.

    :raises OSError:
    """
    try:
        with Path(path).open("rb", buffering=0) as file:
            chunks = iter(partial(file.read, CHUNK), b"")
            size = os.fstat(file.fileno()).st_size
            yield from chunks if _is_as_on_wire(path, size) else with_crlf(chunks)
    except OSError as error:
        raise named(error, Path(path)) from None


def with_crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """``chunks`` with every line end, LF or CRLF, made CRLF, and one at the very end."""
    held = b""
    last = b"\n"
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if data:
            last = data[-1:]
            yield data
    if held or last != b"\n":
        yield held + b"\r\n"


def _is_as_on_wire(path: str, size: int) -> bool:
    """Whether a file of so many octets needs no converting: its name tells two equal sizes, and they are true."""
    return f",S={size},W={size}," in f"{base(path.rpartition('/')[2])},"


def _read(path: str, octets: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, octets)
    except OSError as error:
        raise named(error, Path(path)) from None
    finally:
        os.close(descriptor)


def _or_trouble(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except OSError as error:
        raise trouble(error) from error
