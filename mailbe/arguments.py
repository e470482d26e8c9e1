"""What the words of a command line are read with, whichever command they belong to."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable


def number(least: int, most: int) -> Callable[[str], int]:
    """A type for ``argparse``: a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!a} is not a whole number from {least} to {most}")
        return int(text)

    return read
