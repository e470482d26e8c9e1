"""haproxy before a server's ports, and a server that has each port twice: one for anybody, one for a balancer."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.end_to_end.programs import find, reserved_port
from tests.end_to_end.relays import listens
from tests.end_to_end.server import PROTOCOLS, Server, eventually

SECONDS = 30
BALANCER = "127.0.0.1"  # where haproxy connects from

_DEFAULTS = """\
defaults
  mode tcp
  timeout connect 9s
  timeout client 30s
  timeout server 30s
  timeout check 30s
"""
# How it asks whether a server of this kind is there; of others only whether they take connections.
_CHECKS = {
    "smtp": "  option smtpchk EHLO haproxy.test\n",
    "pop3": "  option tcp-check\n  tcp-check expect rstring ^\\+OK\n  tcp-check send QUIT\\r\\n\n",
}


class Balanced(Server):
    """Its ``ports`` are for anybody, and those in ``behind`` for balancers."""

    behind: Mapping[str, int] = {}

    def __init__(self, maildata: Path, *options: str) -> None:
        ours = [word for name in PROTOCOLS for word in (f"--{name}", f"haproxy:tcp:0:interface={BALANCER}")]
        super().__init__(maildata, "--proxy-from", BALANCER, "--allow-md5", *ours, *options)

    def _listens(self) -> bool:
        there = super()._listens()
        # Each name is there twice when all are; first those that were given first.
        found = re.findall(r"(\w+) listens on \S+:(\d+)$", self.stdout, re.MULTILINE)
        self.ports = {name: int(port) for name, port in reversed(found)}
        self.behind = {name: int(port) for name, port in found}
        return there and len(found) == 2 * len(PROTOCOLS)


@contextmanager
def haproxy(folder: Path, ports: Mapping[str, int], *, version: int) -> Iterator[dict[str, int]]:
    """A haproxy that passes clients on to ``ports``, with a header of this version; gives its own, by the same names.

    It looks ten times a second whether each server is there, and on a busy machine as soon as it has its answer. That
    it cannot connect so soon may happen there many times.
    """
    header = {1: "send-proxy", 2: "send-proxy-v2"}[version]
    lines = [_DEFAULTS]
    own = {}
    with ExitStack() as left:
        for name, port in ports.items():
            own[name] = left.enter_context(reserved_port())
            lines.append(f"listen {name}\n  bind 127.0.0.1:{own[name]}\n{_CHECKS.get(name, '')}")
            lines.append(f"  server one 127.0.0.1:{port} {header} check inter 100ms fall 1000\n")
        (folder / "haproxy.cfg").write_text("".join(lines))
        with (folder / "haproxy.log").open("wb") as log:
            process = subprocess.Popen(
                [find("haproxy") or "haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log
            )
        left.callback(process.wait, SECONDS)
        left.callback(process.terminate)
        for port in own.values():
            eventually(lambda: listens(port), "haproxy listens", SECONDS)  # noqa: B023
        yield own
