"""The pictures of our pages in ``docs``: ``python -m tests.end_to_end.pictures``, by hand, when the pages change."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.end_to_end.browser import Browser
from tests.end_to_end.server import ALICE, CHECKOUT, PASSWORDS, environment, eventually, twistd, user

HTTP = 2080
URL = f"http://localhost:{HTTP}"
TELEPHONE = (390, 700)  # pixels
WINDOW = (760, 600)


def take(folder: Path, scratch: Path) -> None:
    """Take them all."""
    with Browser(scratch / "english", size=WINDOW) as browser:
        browser.open(f"{URL}/register").type(name="carol", password="dormouse-teapot-5", again="dormouse-teapot-5")
        browser.picture(folder / "web-register.png")
        browser.press().picture(folder / "web-registered.png")
        browser.open(f"{URL}/thunderbird").picture(folder / "web-thunderbird.png")
    with Browser(scratch / "french", language="fr", size=WINDOW) as browser:
        browser.open(f"{URL}/register").submit(name="alice", password="dormouse-teapot-5", again="dormouse-teapot-5")
        browser.picture(folder / "web-taken.png")
    with Browser(scratch / "telephone", language="fr", size=TELEPHONE, dark=True) as browser:
        browser.open(f"{URL}/password").picture(folder / "web-telephone.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        maildata = scratch / "maildata"
        user(maildata, "add", ALICE, PASSWORDS[ALICE])
        options = ["--maildata", str(maildata), "--registration", "open", "--http", f"tcp:{HTTP}:interface=127.0.0.1"]
        log = scratch / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(twistd(*options), env=environment(), cwd=scratch, stdout=output, stderr=output)
        try:
            # Not by asking: another server may have these ports.
            eventually(lambda: server.poll() is not None or "http listens" in log.read_text(), "it serves pages", 30)
            if server.poll() is not None:
                sys.exit(log.read_text())
            take(CHECKOUT / "docs", scratch)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
