"""The load generator: ``load.c``, compiled when it is first needed, and run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("load.c")
WITH_TLS = ("-DWITH_TLS", "-lssl", "-lcrypto")
PATIENCE = 300  # seconds, more than any run takes


@dataclass(frozen=True)
class Done:
    """What one run did."""

    units: int
    """Letters or log-ins."""
    seconds: float


class Load:
    """The compiled program, in ``folder``. ``tls`` tells whether it can speak TLS, which needs OpenSSL's headers."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "load"
        self.tls = self._compile(*WITH_TLS)
        if not self.tls:
            assert self._compile(), "load.c cannot be compiled; it needs the Debian packages gcc and libc6-dev"

    def _compile(self, *options: str) -> bool:
        command = ["gcc", "-O2", str(SOURCE), "-o", str(self._program), "-lpthread", *options]
        return subprocess.run(command, capture_output=True).returncode == 0  # noqa: S603

    def run(self, mode: str, port: int, *options: str | int) -> Done:
        """Run it to its end; it must meet no reply that it does not expect."""
        done = subprocess.run(  # noqa: S603
            self._command(mode, port, *options), capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{' '.join(self._command(mode, port, *options)[1:])}: {done.stderr}"
        units, seconds = done.stdout.split()
        return Done(int(units), float(seconds))

    def hold(self, port: int, *options: str | int) -> subprocess.Popen[bytes]:
        """Open idle connections; returns when all are there. They last until its standard input is closed."""
        process = subprocess.Popen(  # noqa: S603
            self._command("idle", port, *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout
        assert process.stdout.readline() == b"ready\n", f"connections on port {port} were refused"
        return process

    def _command(self, mode: str, port: int, *options: str | int) -> list[str]:
        return [str(self._program), mode, "-p", str(port), *map(str, options)]
