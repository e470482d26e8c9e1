"""A newcomer's first minute, from a clone to the first letter: ``python -m tests.end_to_end.first_minute``, by hand.

Real programs do each step of ``docs/first-minute.md`` and are timed: git, the README's command with the pages on port
80, Chromium, Thunderbird. It takes root's rights, the network that pip needs, and the default ports of a server.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.end_to_end.browser import Browser
from tests.end_to_end.server import CHECKOUT, eventually
from tests.end_to_end.thunderbird import Thunderbird

PAGES = "http://localhost/"
ADDRESS = "alice@localhost"
PASSWORD = "dormouse-teapot-5"
INSTALLING = 600  # seconds, the most that pip may take
SUBJECT = "My first letter"


@contextmanager
def step(what: str) -> Iterator[None]:
    """Time one step, and print its row."""
    begin = time.monotonic()
    yield
    tell(f"| {what} | {time.monotonic() - begin:.1f} |")


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def serving(clone: Path, log: Path) -> Iterator[None]:
    """Run the README's command; it says what is next when this begins."""
    command = [str(clone / "scripts" / "serve"), "--http", "tcp:80:interface=127.0.0.1", "--registration", "open"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=clone, stdout=output, stderr=output)
    try:
        eventually(lambda: server.poll() is not None or "next: " in log.read_text(), "the server says", INSTALLING)
        if server.poll() is not None:
            sys.exit(log.read_text())
        yield
    finally:
        server.terminate()
        server.wait()


def register(scratch: Path) -> None:
    """Get an address in a browser; to start that is not counted."""
    with Browser(scratch / "browser") as browser, step("register"):
        browser.open(PAGES).follow("Get an address").submit(name="alice", password=PASSWORD, again=PASSWORD)
        assert browser.headline == "The address is yours", browser.text


def write_and_read(thunderbird: Thunderbird, attachment: Path) -> None:
    attachment.write_text("Eat me.\n")
    thunderbird.send(ADDRESS, SUBJECT, "Dear me,\n\nit works.\n", attachment)
    assert thunderbird.get_messages() == 1
    assert thunderbird.read(SUBJECT).attachments == {attachment.name: attachment.read_bytes()}


def use_thunderbird(clone: Path, scratch: Path) -> None:
    with ExitStack() as at_the_end:
        with step("start Thunderbird"):
            thunderbird = at_the_end.enter_context(Thunderbird(scratch / "thunderbird"))
        with step("trust the authority"):
            thunderbird.trust(clone / "maildata" / "tls" / "ca.pem")
        hub = thunderbird.open_account_hub()
        with step("name and address"):
            hub.look_up("Alice Liddell", ADDRESS)
        with step("password"):
            hub.log_in(PASSWORD)
            assert not hub.outcome()
        hub.finish()
        with step("the first letter, sent, fetched and read"):
            write_and_read(thunderbird, scratch / "cake.txt")


def main() -> None:
    tell("| step | seconds |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as at_the_end:
        scratch = Path(folder)
        clone = scratch / "mailbe"
        with step("clone"):
            subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
        with step("scripts/serve, the first time"), serving(clone, scratch / "log"):
            pass
        with step("scripts/serve, from then on"):
            at_the_end.enter_context(serving(clone, scratch / "log"))
        register(scratch)
        use_thunderbird(clone, scratch)


if __name__ == "__main__":
    main()
