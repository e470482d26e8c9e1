"""Letters on their way through a real server: they come out as they went in, once, or not at all."""

from __future__ import annotations

import os
import poplib
import smtplib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.end_to_end.letters import SECONDS, below_trace, fetch, letter, maildrop, send, sender
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, QUICK, EndToEndTestCase, Server, eventually, user

TWO_MEGABYTES = os.urandom(2_000_000)
CLIENTS, LETTERS_EACH = 20, 10


class WayTests(EndToEndTestCase):
    def test_a_letter_comes_out_as_it_went_in_and_lies_on_the_disk_once(self) -> None:
        server = self.serve()
        octets = letter(ALICE, [ALICE, BOB], "Maße und Gewichte", attachment=TWO_MEGABYTES)
        send(server.submission, ALICE, [ALICE, BOB], octets)

        for_alice, for_bob = (fetch(server.pop3, address) for address in (ALICE, BOB))
        self.assertEqual([below_trace(one) for one in for_alice], [octets])
        self.assertEqual([below_trace(one) for one in for_bob], [octets])

        boxes = [("reception", ALICE), ("reception", BOB), ("envoi", ALICE)]
        files = [path for kind, address in boxes for path in server.letters(kind, address)]
        self.assertEqual(len(files), 3)
        self.assertEqual({path.parent.name for path in files}, {"new"})
        self.assertEqual(len({path.stat().st_ino for path in files}), 1)
        self.assertEqual({path.stat().st_nlink for path in files}, {3})
        self.assertEqual(files[0].read_bytes(), for_alice[0])
        size = len(for_alice[0])
        for path in files:
            self.assertRegex(path.name, rf"^\d+\.M\d+P\d+Q\d+R[0-9a-f]{{8}}\.[^/,:]+,S={size},W={size}$")

    def test_the_trace_lines_say_who_sent_it_and_how(self) -> None:
        server = self.serve()
        send(server.submission, ALICE, [BOB], letter(ALICE, [BOB], "trace"))
        [stored] = fetch(server.pop3, BOB)
        return_path, received = stored.split(b"\r\n")[:2]
        self.assertEqual(return_path, f"Return-Path: <{ALICE}>".encode())
        self.assertRegex(received, rb"^Received: from client\.test \(\[127\.0\.0\.1\]\)")
        self.assertIn(b"with ESMTPA ", stored[: stored.index(b"From: ")])

    def test_a_stranger_may_write_to_local_users(self) -> None:
        server = self.serve()
        octets = letter("stranger@example.com", [ALICE, BOB], "from outside")
        send(server.smtp, "stranger@example.com", [ALICE, BOB], octets, log_in=False)
        for address in (ALICE, BOB):
            self.assertEqual([below_trace(one) for one in fetch(server.pop3, address)], [octets])
            self.assertEqual(server.letters("envoi", address), [])

    def test_who_only_says_to_be_alice_leaves_no_copy_among_her_letters(self) -> None:
        server = self.serve()
        send(server.smtp, ALICE, [BOB], letter(ALICE, [BOB], "not from alice"), log_in=False)
        self.assertEqual(len(fetch(server.pop3, BOB)), 1)
        self.assertEqual(server.letters("envoi", ALICE), [])

    def test_a_stranger_may_write_to_nobody_else(self) -> None:
        server = self.serve()
        with sender(server.smtp) as smtp:
            smtp.ehlo()
            smtp.mail("stranger@example.com")
            for recipient in ("someone@example.org", "%someone%example.org@example.net"):
                code, text = smtp.rcpt(recipient)
                self.assertEqual((code, text[:5]), (550, b"5.7.1"))
            self.assertEqual(smtp.rcpt("nobody@localhost")[0], 550)
            self.assertEqual(smtp.rcpt(BOB)[0], 250)

    def test_submission_takes_nothing_before_log_in(self) -> None:
        server = self.serve()
        with sender(server.submission) as smtp:
            smtp.ehlo()
            self.assertEqual(smtp.mail(ALICE)[0], 530)
            smtp.login(ALICE, PASSWORDS[ALICE])
            self.assertEqual(smtp.mail(ALICE)[0], 250)

    def test_plain_user_names_log_in(self) -> None:
        server = self.serve()
        with sender(server.submission) as smtp:
            smtp.login("alice", PASSWORDS[ALICE])
            smtp.sendmail(ALICE, [BOB], letter(ALICE, [BOB], "short name"))
        with maildrop(server.pop3, "bob", PASSWORDS[BOB]) as pop3:
            self.assertEqual(pop3.stat()[0], 1)
        self.assertEqual(len(server.letters("envoi", ALICE)), 1)

    def test_what_many_clients_were_acknowledged_is_there_exactly_once(self) -> None:
        server = self.serve()

        def write(client: int) -> list[bytes]:
            """Send letters on one connection; returns what was acknowledged."""
            octets = [letter(ALICE, [BOB], f"letter {client} {number}") for number in range(LETTERS_EACH)]
            with sender(server.submission, ALICE) as smtp:
                for one in octets:
                    smtp.sendmail(ALICE, [BOB], one, mail_options=["BODY=8BITMIME"])
            return octets

        with ThreadPoolExecutor(CLIENTS) as clients:
            acknowledged = [one for octets in clients.map(write, range(CLIENTS)) for one in octets]
        self.assertEqual(len(acknowledged), CLIENTS * LETTERS_EACH)
        fetched = [below_trace(one) for one in fetch(server.pop3, BOB)]
        self.assertEqual(sorted(fetched), sorted(acknowledged))
        self.assertEqual(len(server.letters("envoi", ALICE)), len(acknowledged))


class MaildropTests(EndToEndTestCase):
    def test_quit_deletes_what_was_marked(self) -> None:
        server = self.serve()
        kept = self.send_some(server.smtp, 3)[1]
        with maildrop(server.pop3, BOB) as pop3:
            pop3.dele(1)
            pop3.dele(3)
        self.assertEqual([below_trace(one) for one in fetch(server.pop3, BOB)], [kept])
        self.assertEqual(len(server.letters("reception", BOB)), 1)

    def test_a_lost_connection_deletes_nothing(self) -> None:
        server = self.serve()
        octets = self.send_some(server.smtp, 2)
        with maildrop(server.pop3, BOB) as pop3:
            pop3.dele(1)
            pop3.dele(2)
            pop3.close()
        eventually(lambda: self.is_free(server.pop3), "the lock of the lost session is gone")
        self.assertEqual([below_trace(one) for one in fetch(server.pop3, BOB)], octets)

    def test_a_second_session_is_told_that_the_maildrop_is_in_use(self) -> None:
        server = self.serve()
        with maildrop(server.pop3, BOB) as first:
            self.assertFalse(self.is_free(server.pop3))
            self.assertEqual(first.stat()[0], 0)
        self.assertTrue(self.is_free(server.pop3))

    def test_a_letter_that_comes_during_a_session_is_for_the_next(self) -> None:
        server = self.serve()
        with maildrop(server.pop3, BOB) as pop3:
            self.send_some(server.smtp, 1)
            self.assertEqual(pop3.stat()[0], 0)
        with maildrop(server.pop3, BOB) as pop3:
            self.assertEqual(pop3.stat()[0], 1)

    def test_a_new_password_counts_at_once(self) -> None:
        server = self.serve(*QUICK)
        with maildrop(server.pop3, BOB), sender(server.submission, BOB):
            pass
        new = "two  spaces and more "
        user(server.maildata, "passwd", BOB, new)
        with self.assertRaises(poplib.error_proto), maildrop(server.pop3, BOB):
            pass
        with self.assertRaises(smtplib.SMTPAuthenticationError), sender(server.submission, BOB):
            pass
        with maildrop(server.pop3, BOB, new) as pop3:
            self.assertEqual(pop3.stat()[0], 0)
        with sender(server.submission) as smtp:
            self.assertEqual(smtp.login(BOB, new)[0], 235)

    def test_a_new_account_counts_at_once(self) -> None:
        server = self.serve()
        carol = "carol@localhost"
        with sender(server.smtp) as smtp:
            smtp.ehlo()
            smtp.mail(ALICE)
            self.assertEqual(smtp.rcpt(carol)[0], 550)
            user(server.maildata, "add", carol, "gryphon")
            self.assertEqual(smtp.rcpt(carol)[0], 250)
        with maildrop(server.pop3, carol, "gryphon") as pop3:
            self.assertEqual(pop3.stat(), (0, 0))

    def send_some(self, port: int, count: int) -> list[bytes]:
        """Send bob some letters; returns their octets."""
        octets = [letter("stranger@example.com", [BOB], f"letter {number}") for number in range(count)]
        for one in octets:
            send(port, "stranger@example.com", [BOB], one, log_in=False)
        return octets

    def is_free(self, port: int) -> bool:
        """Whether bob can log in; else he must be told that his maildrop is in use."""
        try:
            with maildrop(port, BOB):
                return True
        except poplib.error_proto as error:
            self.assertRegex(str(error), r"-ERR \[IN-USE\]")
            return False


class CrashTests(EndToEndTestCase):
    def test_an_acknowledged_letter_survives_a_crash(self) -> None:
        server = self.serve()
        octets = letter(ALICE, [BOB], "before the crash")
        with maildrop(server.pop3, BOB) as pop3:
            send(server.submission, ALICE, [BOB], octets)
            server.kill()
            pop3.close()
        server.start()
        self.assertEqual([below_trace(one) for one in fetch(server.pop3, BOB)], [octets])
        self.assertEqual(len(server.letters("envoi", ALICE)), 1)

    def test_a_crash_in_the_middle_of_a_letter_leaves_nothing_of_it(self) -> None:
        server = self.serve()
        self.send_half_a_letter(server)
        server.kill()
        server.start()
        self.assert_nothing_came(server)

    def test_a_letter_that_was_cut_off_is_nowhere(self) -> None:
        server = self.serve()
        self.send_half_a_letter(server).close()
        eventually(lambda: not self.spooled(server), "the spool is empty again")
        self.assert_nothing_came(server)

    def send_half_a_letter(self, server: Server) -> smtplib.SMTP:
        """Send bob two megabytes and no end; returns, when they have begun to reach the disk, the session."""
        smtp = smtplib.SMTP("127.0.0.1", server.smtp, timeout=SECONDS)
        self.addCleanup(smtp.close)
        smtp.ehlo()
        smtp.mail("stranger@example.com")
        smtp.rcpt(BOB)
        self.assertEqual(smtp.docmd("DATA")[0], 354)
        smtp.send(letter("stranger@example.com", [BOB], "half", "no dots\n", TWO_MEGABYTES))
        eventually(lambda: self.spooled(server), "the letter reaches the spool")
        return smtp

    def spooled(self, server: Server) -> list[Path]:
        return list((server.maildata / "spool").iterdir())

    def assert_nothing_came(self, server: Server) -> None:
        self.assertEqual(self.spooled(server), [])
        self.assertEqual(server.letters("reception", BOB), [])
        self.assertEqual(fetch(server.pop3, BOB), [])
