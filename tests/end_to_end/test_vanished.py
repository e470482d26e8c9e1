"""Maildata that goes away under the running server, and comes back: nobody is refused for good, and nothing is lost."""

from __future__ import annotations

import contextlib
import shutil
import signal
import smtplib
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.disks import DiskTestCase
from tests.end_to_end.ledger import LARGE, LATER, OK, POP3_LATER, SMALL, Ledger, say
from tests.end_to_end.letters import letter, sender
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, WORKERS, Server, eventually, user
from tests.end_to_end.wire import Wire, encoded


class VanishedTests(DiskTestCase):
    """Maildata goes away under the running server, with letters and log-ins on their way, and comes back."""

    def assert_put_off_until_it_is_back(
        self, vanish: Callable[[Path], None], come_back: Callable[[Path], None]
    ) -> None:
        server, ledger = self.serve_with_ledger()
        maildata = server.maildata
        sent = letter(ALICE, [BOB], "half", "no dots\n", bytes(LARGE))
        with contextlib.ExitStack() as stack:
            smtp = stack.enter_context(sender(server.submission, ALICE))
            for octets in (SMALL, LARGE):
                self.assertEqual(ledger.send(smtp, [BOB], octets), OK)
            half = stack.enter_context(Wire(server.submission))
            half.reply()
            half.say("EHLO client.test", f"AUTH PLAIN {encoded('', ALICE, PASSWORDS[ALICE])}")
            half.say(f"MAIL FROM:<{ALICE}>", f"RCPT TO:<{BOB}>", "DATA")
            half.socket.sendall(sent[: LARGE // 2])
            eventually(lambda: list((maildata / "spool").iterdir()), "half a letter lies in the spool")
            open_drop, new = (stack.enter_context(Wire(server.pop3)) for _ in range(2))
            for wire in (open_drop, new):
                wire.reply()
            self.assertRegex(open_drop.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), r"^\+OK 2 ")
            open_drop.say("DELE 1")
            ledger.trouble()

            vanish(maildata)
            half.socket.sendall(sent[LARGE // 2 :] + b".\r\n")
            self.assertRegex(half.reply(), LATER)
            self.assertIn("put off", ledger.trouble()[-1])
            self.let_the_look_end()
            self.assert_nobody_is_lost(server, ledger, smtp, new)
            self.assertRegex(open_drop.say("RETR 2"), POP3_LATER)
            self.assert_told(ledger)
            self.assertRegex(open_drop.say("QUIT"), POP3_LATER)
            self.assert_told(ledger)
            server.tell(signal.SIGHUP)
            eventually(lambda: "the certificate in use is kept" in server.stdout, "the certificate is looked for")
            self.assert_told(ledger)
            self.assertEqual(list(maildata.glob("*")), [])
            if maildata.exists():
                # Somebody does not know of it. What he makes here must not pass for all accounts that there are.
                user(maildata, "add", "dave@localhost", "dormouse-5-tea")
                self.assert_nobody_is_lost(server, ledger, smtp, new)

            come_back(maildata)
            self.assertEqual(ledger.send(smtp, [ALICE, BOB]), OK)
            if not WORKERS:  # of several each takes away what is its own, with its next letter
                ledger.check()
            self.assertRegex(new.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), r"^\+OK 3 ")
            self.assertRegex(new.say("RETR 1"), r"^\+OK ")
            half.say(f"MAIL FROM:<{ALICE}>", f"RCPT TO:<{BOB}>", "DATA")
            half.socket.sendall(sent + b".\r\n")
            self.assertRegex(half.reply(), OK)
            ledger.taken(sent, [BOB])
            self.assert_told(ledger, 0)
        with sender(server.submission, ALICE) as another:
            self.assertEqual(ledger.send(another, [ALICE, BOB], LARGE), OK)
        ledger.check()
        server.tell(signal.SIGHUP)
        eventually(lambda: "the certificate is loaded anew" in server.stdout, "the certificate is found")
        server.stop()

    def assert_nobody_is_lost(self, server: Server, ledger: Ledger, smtp: smtplib.SMTP, new: Wire) -> None:
        """Every recipient and every log-in is put off, and none refused for good."""
        self.assertRegex(ledger.send(smtp, [BOB]), LATER)
        self.assert_told(ledger)
        for recipient in (BOB, "nobody@localhost", "postmaster@localhost"):
            self.assertRegex(say(server.smtp, "HELO c", "MAIL FROM:<>", f"RCPT TO:<{recipient}>"), LATER)
            self.assert_told(ledger)
        log_in = f"AUTH PLAIN {encoded('', ALICE, PASSWORDS[ALICE])}"
        self.assertRegex(say(server.submission, "EHLO client.test", log_in), r"^454 4\.7\.0 ")
        self.assert_told(ledger)
        self.assertRegex(new.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), POP3_LATER)
        self.assert_told(ledger)

    def test_renamed_and_renamed_back(self) -> None:
        self.assert_put_off_until_it_is_back(
            lambda maildata: maildata.rename(maildata.with_name("away")) and None,
            lambda maildata: maildata.with_name("away").rename(maildata) and None,
        )

    def test_an_empty_folder_in_its_place(self) -> None:
        def vanish(maildata: Path) -> None:
            maildata.rename(maildata.with_name("away"))
            maildata.mkdir()

        def come_back(maildata: Path) -> None:
            shutil.rmtree(maildata)
            maildata.with_name("away").rename(maildata)

        self.assert_put_off_until_it_is_back(vanish, come_back)

    def test_removed_and_restored_from_a_copy(self) -> None:
        def vanish(maildata: Path) -> None:
            shutil.copytree(maildata, maildata.with_name("copy"))
            shutil.rmtree(maildata)

        self.assert_put_off_until_it_is_back(
            vanish, lambda maildata: maildata.with_name("copy").rename(maildata) and None
        )

    def test_another_disk_over_it(self) -> None:
        self.assert_put_off_until_it_is_back(lambda maildata: self.disk(maildata, "1m") and None, self.unmount)
