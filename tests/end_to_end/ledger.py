"""Which letters were taken, and so must be in the mailboxes of a server: each whole, each once, and nothing else."""

from __future__ import annotations

import itertools
import re
import smtplib
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mailbe.accounts.database import LOOK_LASTS
from tests.end_to_end.letters import below_trace, letter
from tests.end_to_end.server import ALICE, BOB, EndToEndTestCase, Server, eventually
from tests.end_to_end.wire import Wire

SMALL, LARGE = 500, 300_000  # octets of an attachment; a large letter does not stay in memory
OK, NO_ROOM, LATER = "250 ", r"^452 4\.3\.1 ", r"^451 4\.3\.0 "
POP3_LATER = r"^-ERR \[SYS/TEMP\] "
BOXES = tuple((kind, address) for kind in ("reception", "envoi") for address in (ALICE, BOB))


class Ledger:
    """Sends letters from alice, and compares what was said of them with what there is."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count()
        self._read = {"stdout": 0, "stderr": 0}
        self._digests: dict[tuple[int, int, int], bytes] = {}  # of files that have not changed since
        self.expected: dict[tuple[str, str], list[bytes]] = {box: [] for box in BOXES}
        """The digests of the letters in each mailbox."""

    def send(self, smtp: smtplib.SMTP, recipients: Sequence[str], octets: int = SMALL) -> str:
        """Send one more letter in a session of alice's; returns the last reply."""
        number = next(self._numbers)
        # No two letters share a tail either, or one that was cut off could pass for another.
        sent = letter(ALICE, recipients, f"number {number}", attachment=f"{number:06}".encode() * (octets // 6))
        try:
            smtp.sendmail(ALICE, recipients, sent, mail_options=["BODY=8BITMIME"])
        except smtplib.SMTPRecipientsRefused as refused:
            [(code, text), *_] = refused.recipients.values()
            return f"{code} {text.decode()}"
        except smtplib.SMTPResponseException as refused:
            error = refused.smtp_error
            return f"{refused.smtp_code} {error if isinstance(error, str) else error.decode()}"
        self.taken(sent, recipients)
        return OK

    def taken(self, sent: bytes, recipients: Sequence[str]) -> None:
        """A letter was acknowledged."""
        digest = sha256(sent).digest()
        for recipient in recipients:
            self.expected["reception", recipient].append(digest)
        self.expected["envoi", ALICE].append(digest)

    def check(self) -> None:
        """See that every mailbox has what it must have, and that no part of a letter lies anywhere else."""
        for (kind, address), sent in self.expected.items():
            there = Counter(self._digest(path) for path in self._server.letters(kind, address))
            assert there == Counter(sent), (
                f"{kind}/{address}: {len(sent)} letters were taken, and {there.total()} are there; "
                f"lost: {(Counter(sent) - there).total()}"
            )
        maildata = self._server.maildata
        strays = [*(maildata / "spool").iterdir(), *maildata.glob("*/*/tmp/*")]
        assert not strays, strays

    def trouble(self) -> list[str]:
        """What the log has of warnings and worse since the last call."""
        new = []
        for stream, said in (("stdout", self._server.stdout), ("stderr", self._server.stderr)):
            whole = said.rpartition("\n")[0].splitlines()
            new += whole[self._read[stream] :]
            self._read[stream] = len(whole)
        return [line for line in new if re.search(r"#(warn|error|critical)\]|Traceback", line)]

    def _digest(self, path: Path) -> bytes:
        stat = path.stat()
        file = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if file not in self._digests:
            self._digests[file] = sha256(below_trace(path.read_bytes())).digest()
        return self._digests[file]


def say(port: int, *lines: str) -> str:
    """The last reply to these lines, on a connection of their own."""
    with Wire(port) as wire:
        wire.reply()
        return wire.say(*lines)


class LedgerTestCase(EndToEndTestCase):
    def serve_with_ledger(self, *options: str, maildata: Path | None = None) -> tuple[Server, Ledger]:
        server = self.serve(*options, maildata=maildata)
        ledger = Ledger(server)
        ledger.trouble()
        return server, ledger

    def assert_told(self, ledger: Ledger, lines: int = 1) -> None:
        """The log has one line for each fault, and no traceback."""
        trouble = ledger.trouble()
        self.assertEqual(len(trouble), lines, trouble)
        self.assertNotIn("Traceback", "".join(trouble))

    def let_the_look_end(self) -> None:
        """What a server has just found out of the accounts, it may believe for a moment."""
        end = time.monotonic() + LOOK_LASTS
        eventually(lambda: time.monotonic() > end, "that moment is over")
