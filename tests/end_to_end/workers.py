"""Which of a server's workers it is that serves a connection: the system knows."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path

from tests.end_to_end.programs import opened
from tests.end_to_end.server import Server
from tests.end_to_end.wire import Wire

TRIES = 50  # connections until each worker has one


def workers(server: Server) -> dict[int, int]:
    """The process of each worker, by its number."""
    found = re.findall(r"worker (\d+) is process (\d+)\n", server.stdout)
    return {int(number): int(process) for number, process in found}


def worker_of(server: Server, connection: socket.socket) -> int:
    """The number of the worker that has accepted ``connection``."""
    inode = _inode(connection.getpeername()[1], connection.getsockname()[1])
    for number, process in workers(server).items():
        if f"socket:[{inode}]" in opened(process):
            return number
    raise AssertionError("no worker has accepted it")


def one_of_each(server: Server, port: int, stack: ExitStack) -> dict[int, Wire]:
    """A connection to ``port`` for each worker, which has been greeted there; ``stack`` closes them."""
    found: dict[int, Wire] = {}
    with ExitStack() as others:
        for _ in range(TRIES):
            wire = Wire(port)
            holder = others
            wire.reply()  # so somebody has accepted it
            if (number := worker_of(server, wire.socket)) not in found:
                found[number] = wire
                holder = stack
            holder.enter_context(wire)
            if len(found) == len(workers(server)):
                return found
    raise AssertionError(f"of {TRIES} connections all are with the workers {sorted(found)}")


def _inode(ours: int, theirs: int) -> str:
    """Of the server's socket, from the table of all (proc(5)); ports of the server and of the client."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(field.partition(":")[2], 16) for field in fields[1:3])
        if (local, remote) == (ours, theirs):
            return fields[9]
    raise AssertionError("no such connection")
