"""A letter that comes in chunks, each of so many octets as BDAT has announced (RFC 3030).

A ``Chunk`` takes exactly what was announced, whatever is wrong with the letter: what is left would be obeyed as
commands. An ``Incoming`` is the letter that the chunks make: it counts them, and looks for what no line may have.
"""

from __future__ import annotations

from collections.abc import Callable

from mailbe.interfaces import ILetter
from mailbe.mime import Lines
from mailbe.smtp.replies import Refusal


class Chunk:
    """Takes so many octets, and hands them on as they come."""

    def __init__(self, octets: int, write: Callable[[bytes], None]) -> None:
        self._left = octets
        self._write = write

    def feed(self, data: bytes) -> bytes | None:
        """Take the next octets; what came behind the last one, or ``None`` while it has not come."""
        rest = None
        if len(data) >= self._left:
            data, rest = data[: self._left], data[self._left :]
        self._left -= len(data)
        self._write(data)
        return rest


class Incoming:
    """A letter of which chunks have come."""

    def __init__(self, letter: ILetter, most: int, *, binary: bool) -> None:
        """:param most: the largest letter that is taken, in octets.
        :param binary: whether it may have parts that are not lines; they are made so (RFC 3030 3).
        """
        self.letter = letter
        self._lines = Lines() if binary else None
        self._most = most
        self._octets = 0
        self._bare = False
        self._cr = False  # whether the last octet was a CR, whose LF may come
        self._end = b""  # the last two octets

    def expect(self, octets: int) -> None:
        """So many will come in the next chunk."""
        self._octets += octets

    def write(self, data: bytes) -> None:
        """Take octets of a chunk. What is wrong with them is told by ``check``."""
        if self._octets > self._most or self._bare:
            return
        self._pass_on(data if self._lines is None else self._lines.feed(data))

    def check(self) -> None:
        """See that nothing is wrong so far.

        :raises Refusal:
        """
        if self._octets > self._most:
            raise too_large(self._most)
        if self._bare:
            raise bare()

    async def end(self) -> None:
        """That was the last chunk.

        :raises Refusal:
        """
        if self._lines is not None:
            self._pass_on(self._lines.end())
        self._bare = self._bare or self._cr
        self.check()
        if self._octets and self._end != b"\r\n":
            # Each line of a letter has its end here, or RETR would send more octets than LIST has told.
            self.letter.write(b"\r\n")

    def _pass_on(self, data: bytes) -> None:
        if not data:
            return
        begin = self._cr and data.startswith(b"\n")
        self._bare = self._bare or (self._cr and not begin)
        self._cr = data.endswith(b"\r")
        others = data[begin : len(data) - self._cr].replace(b"\r\n", b"  ")
        self._bare = self._bare or b"\r" in others or b"\n" in others
        self._end = (self._end + data[-2:])[-2:]
        if not self._bare:
            self.letter.write(data)


def too_large(most: int) -> Refusal:
    return Refusal(552, f"5.3.4 letters of more than {most} octets are not taken")


def bare() -> Refusal:
    return Refusal(554, "5.6.0 a line of the letter has a CR or LF that is no line end")
