"""A network of a test's own: loopback and nothing else, where every port is free, the low ones too."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.end_to_end.programs import find

CLONE_NEWNET = 0x40000000  # <linux/sched.h>

_Tests = TypeVar("_Tests", bound=Callable[..., object])


def needs_a_network(tests: _Tests) -> _Tests:
    """Skip tests where nobody may make a network: that takes root's rights."""
    if not (find("ip") and find("unshare")):
        tests.skip = "needs the Debian packages iproute2 and util-linux"  # type: ignore[attr-defined]
    elif subprocess.run(["unshare", "--net", "--mount", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        tests.skip = "needs root's rights, for a network of its own with ports 80 and 443"  # type: ignore[attr-defined]
    return tests


@contextmanager
def network_of_its_own() -> Iterator[None]:
    """Have this thread, and the processes that it starts, in a new network; afterwards it is back where it was."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            subprocess.run([find("ip") or "ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _call("setns", before, CLONE_NEWNET)
    finally:
        os.close(before)


def _call(name: str, *arguments: int) -> None:
    # Python has these from 3.12 on.
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
