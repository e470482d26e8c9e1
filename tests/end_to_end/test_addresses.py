"""Aliases, tags, catch-alls, domains and quotas, changed beside a running server."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.end_to_end.letters import SECONDS, below_trace, fetch, letter, maildrop, send, sender
from tests.end_to_end.programs import needs, outcome
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, WITH_PAGES, EndToEndTestCase, Server, mailbe

STRANGER = "stranger@elsewhere.example"
TEAM = "team@localhost"


class Addresses(EndToEndTestCase):
    def manage(self, server: Server, *arguments: str) -> str:
        done = mailbe("--maildata", str(server.maildata), *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
        return done.stdout

    def try_to_send(self, server: Server, recipient: str, octets: bytes, sender_: str = STRANGER) -> tuple[int, bytes]:
        """What a stranger's letter to one recipient is told at last: at RCPT, or after DATA."""
        with sender(server.smtp) as smtp:
            try:
                self.assertEqual(smtp.sendmail(sender_, [recipient], octets), {})
            except smtplib.SMTPRecipientsRefused as refused:
                return refused.recipients[recipient]
            except smtplib.SMTPDataError as refused:
                return refused.smtp_code, refused.smtp_error  # type: ignore[return-value]
        return 250, b""

    def test_an_alias_leads_to_many_as_soon_as_it_is_made_and_no_longer_than_it_is_there(self) -> None:
        server = self.serve()
        text = letter(STRANGER, [TEAM], "one")
        self.assertEqual(self.try_to_send(server, TEAM, text)[0], 550)
        self.manage(server, "alias", "add", TEAM, ALICE, BOB)
        self.manage(server, "alias", "add", "staff@localhost", TEAM, BOB)
        send(server.smtp, STRANGER, [TEAM, "staff@localhost", "alice+news@localhost"], text, log_in=False)
        for address in (ALICE, BOB):
            self.assertEqual([below_trace(each) for each in fetch(server.pop3, address)], [text])
        files = [path for address in (ALICE, BOB) for path in server.letters("reception", address)]
        self.assertEqual(len({path.stat().st_ino for path in files}), 1)
        self.assertEqual(files[0].stat().st_nlink, 2)
        self.manage(server, "alias", "remove", TEAM)
        self.assertEqual(self.try_to_send(server, TEAM, text)[0], 550)
        self.assertEqual(self.try_to_send(server, "staff@localhost", text)[0], 250)
        self.assertEqual([len(fetch(server.pop3, address)) for address in (ALICE, BOB)], [1, 2])

    def test_a_domain_is_served_as_soon_as_it_is_added_with_its_postmaster_and_catch_all(self) -> None:
        server = self.serve()
        text = letter(STRANGER, ["info@example.org"], "one")
        self.assertEqual(self.try_to_send(server, "info@example.org", text)[0], 550)
        self.assertEqual(self.try_to_send(server, "abuse@localhost", text)[0], 250)
        kept = server.letters("reception", "postmaster@localhost")
        self.assertEqual([below_trace(path.read_bytes()) for path in kept], [text])
        self.manage(server, "domain", "add", "example.org", "--postmaster", ALICE, "--catch-all", BOB)
        for recipient in ("info@Example.org", "abuse@example.org", "postmaster@example.org"):
            self.assertEqual(self.try_to_send(server, recipient, text)[0], 250)
        self.assertEqual([len(fetch(server.pop3, address)) for address in (ALICE, BOB)], [2, 1])
        listed = self.manage(server, "domain", "list")
        self.assertIn("localhost\tpostmaster: nobody; what comes is kept in ", listed)
        self.assertIn(f"example.org\tpostmaster: {ALICE}\tletters to nobody: {BOB}\n", listed)
        self.manage(server, "domain", "remove", "example.org")
        self.assertEqual(self.try_to_send(server, "info@example.org", text)[0], 550)

    def test_the_pages_and_mail_programs_know_an_added_domain_at_once(self) -> None:
        server = Server(self.scratch() / "maildata", "--registration", "open", protocols=WITH_PAGES)
        self.addCleanup(server.close)
        server.start()
        settings = f"http://127.0.0.1:{server.http}/mail/config-v1.1.xml?emailaddress=x@example.org"
        self.assertRaises(HTTPError, urlopen, settings, timeout=SECONDS)
        self.manage(server, "domain", "add", "example.org")
        with urlopen(settings, timeout=SECONDS) as answer:
            self.assertIn(b"<domain>example.org</domain>", answer.read())
        with urlopen(f"http://127.0.0.1:{server.http}/register.json", timeout=SECONDS) as answer:
            self.assertEqual(json.load(answer)["domains"], ["localhost", "example.org"])

    def test_one_sends_as_what_leads_to_him_alone(self) -> None:
        server = self.serve()
        self.manage(server, "alias", "add", "info@localhost", ALICE)
        self.manage(server, "alias", "add", TEAM, ALICE, BOB)
        with sender(server.submission, ALICE) as smtp:
            self.assertEqual(smtp.mail(TEAM)[0], 553)
            self.assertEqual(smtp.sendmail("info@localhost", [BOB], letter("info@localhost", [BOB], "one")), {})
        [received] = fetch(server.pop3, BOB)
        self.assertTrue(received.startswith(b"Return-Path: <info@localhost>\r\n"))
        self.assertEqual(len(server.letters("envoi", ALICE)), 1)

    def test_a_mailbox_takes_what_its_quota_allows_and_more_when_letters_are_deleted(self) -> None:
        server = self.serve("--quota-letters", "2")
        text = letter(STRANGER, [BOB], "one")
        for code in (250, 250, 452):
            self.assertEqual(self.try_to_send(server, BOB, text)[0], code)
        self.assertIn(b"4.2.2", self.try_to_send(server, "bob+tag@localhost", text)[1])
        with sender(server.smtp) as smtp:  # others get the letter
            refused = smtp.sendmail(STRANGER, [ALICE, BOB], text)
            self.assertEqual({address: code for address, (code, _) in refused.items()}, {BOB: 452})
        self.assertRegex(self.manage(server, "user", "list"), rf"(?m)^{BOB}\t.*\t2 letters, \d+ octets$")
        with maildrop(server.pop3, BOB) as bobs:
            bobs.dele(1)
        self.assertEqual(self.try_to_send(server, BOB, text)[0], 250)
        self.assertEqual(self.try_to_send(server, BOB, text)[0], 452)
        self.manage(server, "user", "quota", BOB, "--letters", "none", "--octets", "5000")
        self.assertEqual(self.try_to_send(server, BOB, text)[0], 250)
        self.assertEqual(self.try_to_send(server, BOB, b"x" * 5000)[0], 452)  # SIZE is announced
        with sender(server.smtp) as smtp:
            smtp.ehlo()
            self.assertEqual([smtp.mail(STRANGER)[0], smtp.rcpt(ALICE)[0], smtp.rcpt(BOB)[0]], [250, 250, 250])
            code, reason = smtp.data(b"x" * 5000)
        self.assertEqual((code, reason[:5]), (452, b"4.2.2"))
        self.assertEqual([len(fetch(server.pop3, address)) for address in (ALICE, BOB)], [1, 3])

    def test_workers_know_of_changes_and_of_one_anothers_letters(self) -> None:
        server = self.serve("--workers", "2", "--quota-letters", "3")
        self.manage(server, "alias", "add", TEAM, ALICE, BOB)
        self.manage(server, "domain", "add", "example.org", "--catch-all", BOB)
        text = letter(STRANGER, [TEAM], "one")
        for _ in range(3):  # whoever serves it
            self.assertEqual(self.try_to_send(server, TEAM, text)[0], 250)
        self.assertEqual([len(fetch(server.pop3, address)) for address in (ALICE, BOB)], [3, 3])

        def full() -> bool:
            return self.try_to_send(server, "whoever@example.org", text)[0] == 452

        # A worker may believe for a second that there is room for what another has filled.
        for _ in range(50):
            if full() and full() and full():
                break
        else:
            self.fail("the mailbox never gets full")
        self.assertLessEqual(len(fetch(server.pop3, BOB)), 2 * 3)  # each counts its own

    @needs("swaks")
    def test_swaks_sees_the_rules(self) -> None:
        server = self.serve()
        self.manage(server, "alias", "add", TEAM, ALICE, BOB)
        self.manage(server, "user", "quota", BOB, "--letters", "1")
        home = self.scratch()
        for recipients, status, said in (
            ("alice+tag@localhost", 0, ""),
            (TEAM, 0, ""),
            ("team+tag@localhost", 24, "452 4.2.2 the mailbox is full"),
            (f"nobody@localhost,{ALICE}", 0, "550 5.1.1 nobody of that name is here"),
            ("postmaster@localhost,abuse@localhost", 0, ""),
        ):
            done = self.swaks(server, home, "--to", recipients)
            self.assertEqual(done[0], status, done[2])
            self.assertIn(said, done[2])
        self.assertEqual([len(fetch(server.pop3, address)) for address in (ALICE, BOB)], [3, 1])

    def swaks(self, server: Server, home: Path, *options: str) -> tuple[int, bytes, str]:
        where = ("--server", "127.0.0.1", "--port", str(server.smtp), "--helo", "client.test", "--from", STRANGER)
        return outcome(home, "swaks", *where, *options)

    def test_the_tags_separator_is_an_option(self) -> None:
        server = self.serve("--separator", "-")
        text = letter(STRANGER, [ALICE], "one")
        self.assertEqual(self.try_to_send(server, "alice-tag@localhost", text)[0], 250)
        self.assertEqual(self.try_to_send(server, "alice+tag@localhost", text)[0], 550)
        with maildrop(server.pop3, "alice+envoi", PASSWORDS[ALICE]) as sent:  # which is no address
            self.assertEqual(sent.stat()[0], 0)
