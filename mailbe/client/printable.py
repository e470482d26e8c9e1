"""Text of others, made fit for a terminal: nothing in it moves the cursor, changes colours or turns lines around."""

from __future__ import annotations

import re

# Controls of both sets (C0 but for line ends and tab, DEL, C1), lone surrogates, and what changes the direction of
# text, by which a name can be made to read as another.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")


def printable(text: str) -> str:
    """``text`` with only ``\\n`` as line ends, and what a terminal might obey written out, as ``\\x1b``."""
    return _UNFIT.sub(_written_out, _LINE_END.sub("\n", text))


def one_line(text: str) -> str:
    """The same on one line, runs of white space as one space."""
    return " ".join(printable(text).split())


def _written_out(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]
