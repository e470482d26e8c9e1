"""Faults that a running server meets on demand: system calls that fail or wait, and another time of day.

``faults.c`` is built here and preloaded into the server; it obeys the orders in a file that both map into memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.end_to_end.ledger import LedgerTestCase
from tests.end_to_end.programs import run

ORDERS = 8


class _Order(ctypes.Structure):
    """The same in faults.c, which says what each field means."""

    _fields_ = (
        ("given", ctypes.c_int),
        ("error", ctypes.c_int),
        ("passes", ctypes.c_int),
        ("fails", ctypes.c_int),
        ("hits", ctypes.c_int),
        ("call", ctypes.c_char * 12),
        ("path", ctypes.c_char * 256),
    )


class _Orders(ctypes.Structure):
    _fields_ = (("clock", ctypes.c_longlong), ("order", _Order * ORDERS))


class Faults:
    """The faults of one server, which must be started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        file = folder / "orders"
        file.write_bytes(bytes(ctypes.sizeof(_Orders)))
        with file.open("r+b") as opened:
            self._orders = _Orders.from_buffer(mmap.mmap(opened.fileno(), 0))
        library, _ = _built()
        self.environment = {"LD_PRELOAD": str(library), "MAILBE_TEST_FAULTS": str(file)}

    def set_clock(self, seconds: float) -> None:
        """Let the time of day be so many ``seconds`` ahead of the true one, or behind it."""
        self._orders.clock = int(seconds * 1_000_000_000)

    def stop(self) -> None:
        """Let nothing fail any more."""
        for order in self._orders.order:
            order.given = 0

    @contextmanager
    def failing(self, call: str, path: str, error: int, *, passes: int = 0, fails: int = -1) -> Iterator[None]:
        """Let ``call`` (as faults.c names it) fail with ``error`` where ``path`` stands in the file's path.

        :param passes: so many of these calls go well before.
        :param fails: so many fail then; -1: all. At least one must, or the test has shown nothing.
        """
        with self._given(call, path, error, passes, fails) as order:
            yield
            assert order.hits, f"{call} {path} was never called"

    @contextmanager
    def waiting(self, call: str, path: str) -> Iterator[Callable[[], int]]:
        """Let the first ``call`` for such a path wait until this is over. Yields what tells whether one waits."""
        with self._given(call, path, 0, 0, 1) as order:
            yield lambda: order.hits

    @contextmanager
    def _given(self, call: str, path: str, error: int, passes: int, fails: int) -> Iterator[_Order]:
        order = next(order for order in self._orders.order if not order.given)
        order.error, order.passes, order.fails, order.hits = error, passes, fails, 0
        order.call, order.path = call.encode(), path.encode()
        order.given = 1
        try:
            yield order
        finally:
            order.given = 0


@cache
def _built() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """The library, and its folder, which ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="mailbe-faults-")
    library = Path(folder.name) / "faults.so"
    source = Path(__file__).with_suffix(".c")
    flags = ("-std=gnu17", "-Wall", "-Werror", "-O1", "-shared", "-fPIC")
    run(library.parent, "gcc", *flags, "-o", str(library), str(source), "-ldl")
    return library, folder


class FaultsTestCase(LedgerTestCase):
    """Tests of servers that meet faults; every program of ours that a test starts meets them."""

    def setUp(self) -> None:
        self.faults = Faults(self.scratch())
        self.patch(os, "environ", {**os.environ, **self.faults.environment})
