"""Every dialogue in ``dialogues/``, played whole, byte by byte, pipelined, and pipelined with slow storage."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.dialogue import WAYS, Dialogue, play, read

FOLDER = Path(__file__).parent / "dialogues"


class SmtpDialogues(SynchronousTestCase):
    """``dialogues/smtp``."""


class Pop3Dialogues(SynchronousTestCase):
    """``dialogues/pop3``."""


def _test(dialogue: Dialogue, way: str) -> object:
    def test(self: SynchronousTestCase) -> None:
        play(dialogue, way)
        if "bug" in dialogue.words:
            self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    return test


def _add_tests(case: type[SynchronousTestCase], folder: Path) -> None:
    for path in sorted(folder.glob("*.txt")):
        for way in WAYS:
            setattr(case, f"test_{path.stem.replace('-', '_')}_{way}", _test(read(path), way))


_add_tests(SmtpDialogues, FOLDER / "smtp")
_add_tests(Pop3Dialogues, FOLDER / "pop3")
