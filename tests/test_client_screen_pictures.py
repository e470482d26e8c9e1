"""The pictures of ``mailbe client`` in the documents. ``python -m tests.test_client_screen_pictures`` makes them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

from textual.pilot import Pilot
from textual.widgets import Input, TextArea
from twisted.trial.unittest import SynchronousTestCase

from mailbe.client.screen.compose import Compose
from mailbe.client.screen.files import ChooseFile
from mailbe.client.screen.letters import Letters
from mailbe.client.screen.log_in import GivenUp, LogIn
from tests import client_screen
from tests.client_screen import ALICE, BOTTLE, CROQUET, PASSWORD, TEA, Hands, Played, play

DOCS = Path(__file__).parents[1] / "docs"
SIZE = 104, 34
ADVICE = f"""\
3 log-ins have failed, so no more are tried. What may be wrong, and what helps:
- The name: most servers want the whole address; you gave {ALICE}.
- The password: change it, if you know the old one, or have a new one set by whoever looks after the server:
  mailbe user passwd {ALICE}
- After 3 wrong passwords a mailbe server lets nobody in for 15 minutes, and longer each time: wait, or have it
  unlocked: mailbe user unlock {ALICE}"""


async def log_in(hands: Hands) -> None:
    await hands.on(LogIn)
    await hands.paste(ALICE)
    await hands.press("enter")
    await hands.paste(PASSWORD)


async def letters(hands: Hands) -> None:
    await hands.log_in()
    await hands.on(Letters)
    await hands.press("down", "d", "up", "enter")
    await hands.sees("I have looked")


async def compose(hands: Hands) -> None:
    await hands.log_in()
    await hands.on(Letters)
    await hands.press("r")
    await hands.on(Compose)
    await hands.paste("Dear Bob,\n\nthen I shall have a sip. Here is what I found beside it.")
    await hands.press("ctrl+t")
    await hands.on(ChooseFile)
    await hands.paste(str(Path("cake.txt").resolve()))
    await hands.press("enter")
    await hands.on(Compose)
    await hands.sees("attached", "cake.txt")


async def sent(hands: Hands) -> None:
    await compose(hands)
    await hands.press("ctrl+s")
    await hands.on(Letters)
    await hands.sees("Sent to bob@localhost", "S: 221 2.0.0 localhost says good-bye")


async def three_failures(hands: Hands) -> None:
    await hands.log_in(password="cheshire")
    for left in ("(2 tries left)", "(1 try left)"):
        await hands.sees(left)
        await hands.on(LogIn)
        await hands.paste("cat")
        await hands.press("enter")
    await hands.on(GivenUp)
    await hands.sees("What may be wrong", "connection closed")


PICTURES: dict[str, Callable[[Hands], Awaitable[None]]] = {
    "client-log-in": log_in,
    "client-letters": letters,
    "client-compose": compose,
    "client-sent": sent,
    "client-three-failures": three_failures,
}


def picture(name: str) -> str:
    """One of them, as SVG, made with the demonstration's letters."""
    made = []

    async def run(pilot: Pilot[int]) -> None:
        hands = Hands(pilot)
        await PICTURES[name](hands)
        for place in (*hands.client.screen.query(Input), *hands.client.screen.query(TextArea)):
            place.cursor_blink = False
        await hands.drawn()
        made.append(pilot.app.export_screenshot())

    advice, client_screen.ADVICE = client_screen.ADVICE, ADVICE
    here, zone = Path.cwd(), os.environ.get("TZ")
    with TemporaryDirectory() as folder:
        os.environ["TZ"] = "UTC"
        time.tzset()
        os.chdir(folder)
        try:
            Path("cake.txt").write_text("EAT ME\n")
            play(Played([BOTTLE, TEA, CROQUET]).client, run, SIZE)
        finally:
            os.chdir(here)
            os.environ.pop("TZ") if zone is None else os.environ.update(TZ=zone)
            time.tzset()
            client_screen.ADVICE = advice
    # A picture in a document is to ask nobody for fonts.
    return re.sub(r',\s*url\("https?:[^)]*\) format\("\w+"\)', "", made[0])


def words(svg: str) -> list[str]:
    """What can be read in a picture, however it is drawn."""
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return " ".join(unescape(text).replace("\xa0", " ") for text in texts).split()


class Pictures(SynchronousTestCase):
    def test_the_documents_show_the_client_as_it_is(self) -> None:
        for name in PICTURES:
            kept = (DOCS / f"{name}.svg").read_text(encoding="utf-8")
            remedy = f"{name} has changed: run python -m tests.test_client_screen_pictures, and look at it"
            self.assertEqual(words(kept), words(picture(name)), remedy)

    def test_they_show_nothing_of_this_machine(self) -> None:
        for name in PICTURES:
            kept = (DOCS / f"{name}.svg").read_text(encoding="utf-8")
            shown = " ".join(words(kept))
            self.assertNotIn(PASSWORD, shown)
            for path in (str(Path.home()), str(DOCS.parent), "/tmp"):  # noqa: S108 - not used, looked for
                self.assertNotIn(path, shown)


if __name__ == "__main__":
    for name in PICTURES:
        (DOCS / f"{name}.svg").write_text(picture(name), encoding="utf-8")
