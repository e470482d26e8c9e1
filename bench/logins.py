"""What log-ins cost, and whether their time tells who exists: ``python -m bench.logins``.

1. With ARGON2ID, one client polls with the right password, over POP3 and over SMTP: the server's CPU time for the
   first log-in, which hashes, and for each of the following, which are remembered. The target is less than 1 ms each.
2. With each scheme, wrong passwords for a user and for a name that nobody has, in turn: how long the answer takes.
   The medians are to be within 5 % of each other.

The exit status is 1 where a target is missed. It takes less than two minutes.
"""

# Printing is what it is for.
# ruff: noqa: T201

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.meters import cpu_milliseconds
from tests.end_to_end.server import ALICE, PASSWORDS, Server, user
from tests.end_to_end.wire import Wire, encoded

LOGINS = 1000
MOST_MILLISECONDS = 1.0
TRIES = 200
MOST_DIFFERENCE = 0.05
NOBODY = "carol@localhost"  # as long as alice's
SCHEME = ("--password-scheme", "argon2id")
# Every try is one more failure; none may be locked out, or kept waiting, for those before.
LENIENT = ("--wrong-passwords", "999999", "--address-failures", "999999", "--slowest-answer-seconds", "0")


def log_in_pop3(server: Server) -> None:
    """A poll, as mail programs do it every few minutes."""
    with Wire(server.pop3) as wire:
        wire.reply()
        said = wire.say(f"USER {ALICE}", f"PASS {PASSWORDS[ALICE]}", "STAT")
        assert said == "+OK 0 0", said
        wire.say("QUIT")


def log_in_smtp(server: Server) -> None:
    with Wire(server.submission) as wire:
        wire.reply()
        said = wire.say("EHLO client.test", f"AUTH PLAIN {encoded('', ALICE, PASSWORDS[ALICE])}")
        assert said.startswith("235 "), said
        wire.say("QUIT")


def cost(server: Server, log_in: Callable[[Server], None], times: int) -> float:
    """The server's CPU milliseconds for each of so many log-ins."""
    before = cpu_milliseconds(server.pid)
    for _ in range(times):
        log_in(server)
    return (cpu_milliseconds(server.pid) - before) / times


def measure_cost(maildata: Path, name: str, log_in: Callable[[Server], None]) -> bool:
    """Print what log-ins of one kind cost; returns whether that is little enough."""
    with Server(maildata, *SCHEME) as server:
        first = cost(server, log_in, 1)
        others = cost(server, log_in, LOGINS - 1)
    print(f"{name}: the first log-in {first:.0f} ms of CPU, the next {LOGINS - 1} {others:.2f} ms each")
    return others < MOST_MILLISECONDS


def failing_seconds(server: Server, name: str, password: str) -> float:
    """How long the server takes to answer a wrong password."""
    with Wire(server.pop3) as wire:
        wire.reply()
        wire.say(f"USER {name}")
        begin = time.perf_counter()
        said = wire.say(f"PASS {password}")
        seconds = time.perf_counter() - begin
        assert said.startswith("-ERR [AUTH]"), said
        wire.say("QUIT")
    return seconds


def measure_timing(maildata: Path, scheme: str) -> bool:
    """Print how long failing log-ins take; returns whether who exists cannot be told from it."""
    user(maildata, "passwd", ALICE, PASSWORDS[ALICE], "--password-scheme", scheme)
    names = [ALICE, NOBODY]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with Server(maildata, "--password-scheme", scheme, *LENIENT) as server:
        for number in range(TRIES):
            names.reverse()  # neither always comes first
            for name in names:
                seconds[name].append(failing_seconds(server, name, f"wrong-{number}"))
    known, unknown = (statistics.median(seconds[name]) * 1000 for name in (ALICE, NOBODY))
    ratio = known / unknown
    print(f"{scheme}: median of {TRIES} failures {known:.2f} ms for a user, {unknown:.2f} ms for nobody: {ratio:.3f}")
    return abs(ratio - 1) <= MOST_DIFFERENCE


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mailbe-") as folder:
        maildata = Path(folder) / "maildata"
        user(maildata, "add", ALICE, PASSWORDS[ALICE], *SCHEME)
        good = [
            measure_cost(maildata, "POP3", log_in_pop3),
            measure_cost(maildata, "SMTP", log_in_smtp),
            measure_timing(maildata, "argon2id"),
            measure_timing(maildata, "md5-crypt"),
        ]
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
