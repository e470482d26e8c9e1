"""The core of the client against servers that say just what a script tells: good ones, hostile ones, silent ones."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailbe.client.dialogue import Said
from mailbe.client.drafts import Draft
from mailbe.client.errors import (
    Cancelled,
    Gone,
    InUse,
    MailError,
    NoAnswer,
    NoSentMail,
    NotPrivate,
    Refused,
    TooManyFailures,
    TryLater,
    Unreachable,
    WrongPassword,
)  # fmt: skip
from mailbe.client.mail import Mail
from mailbe.client.maildrop import Folder, Letter
from mailbe.client.reading import Attachment
from mailbe.client.servers import Door, Servers
from mailbe.client.trust import Trust
from mailbe.client.wire import Wire
from tests.client_actor import SECONDS, Actor
from tests.end_to_end.programs import reserved_port
from tests.end_to_end.server import eventually

HELLO = """
S: +OK hello
C: CAPA
S: +OK
S: UIDL
S: USER
S: PIPELINING
S: IMPLEMENTATION mailbe-1
S: .
"""
IN = f"""{HELLO}
C: USER alice@x.org
S: +OK
C: PASS wonder land
S: +OK
"""
BEYOND_ASCII = f"""
{HELLO.replace("PIPELINING", "UTF8 USER")}
C: UTF8
S: +OK
C: USER {{}}
S: +OK
C: PASS {{}}
S: +OK
"""
LISTED = """
C: LIST
S: +OK
S: 1 100
S: 2 200
S: 3 300
S: .
C: UIDL
S: +OK
S: 1 one
S: 2 two
S: 3 three
S: .
"""
BYE = """
C: QUIT
S: +OK
"""


def on_the_wire(text: str) -> str:
    """``text`` in UTF-8, each octet a character, as a script has it."""
    return text.encode().decode("latin-1")


ONE, TWO, THREE = (Letter(Folder.INBOX, uid, octets) for uid, octets in (("one", 100), ("two", 200), ("three", 300)))
EHLO = """
S: 220 here
C: EHLO [127.0.0.1]
S: 250-here
S: 250-SIZE 10000
S: 250 AUTH LOGIN PLAIN
"""
WITH_UTF8 = EHLO.replace("SIZE 10000", "SMTPUTF8")
AUTH = """
C: AUTH PLAIN AGFsaWNlQHgub3JnAHdvbmRlciBsYW5k
S: 235 ok
"""


def somebody(*doors: Door, folder: str) -> Mail:
    """The mail of somebody whose POP3 server is behind one of these doors."""
    return Mail(Servers("x", "x", doors, ()), Trust(remembered=Path(folder)), lambda said: None)


class MailCase(SynchronousTestCase):
    def mail(self, *scripts: str, smtp: tuple[str, ...] = (), patience: float = SECONDS, **more: Any) -> Mail:
        """The mail of somebody whose servers play these scripts."""
        actors = [Actor(*some) for some in (scripts, smtp)]
        for actor in actors:
            self.addCleanup(actor.close)
        self.smtp = actors[1]
        self.pop3 = actors[0]
        pop3_doors, smtp_doors = ((Door("127.0.0.1", actor.port, False),) for actor in actors)
        self.said: list[Said] = []
        servers = Servers("127.0.0.1", "x.org", pop3_doors, smtp_doors, **more)
        mail = Mail(servers, Trust(remembered=Path(self.mktemp())), self.said.append, patience=patience)
        self.addCleanup(mail.close)
        return mail

    def logged_in(self, *scripts: str, **more: Any) -> Mail:
        mail = self.mail(*scripts, **more)
        mail.log_in("alice@x.org", "wonder land")
        return mail


class LogIn(MailCase):
    def test_a_plain_name_gets_the_domain_in_its_letters(self) -> None:
        mail = self.mail(IN.replace("alice@x.org", "alice"))
        mail.log_in("alice", "wonder land")
        self.assertEqual((mail.name, mail.address), ("alice", "alice@x.org"))

    def test_after_three_failures_no_more_is_tried(self) -> None:
        wrong = IN.rstrip().removesuffix("+OK") + "-ERR [AUTH] no\n"
        mail = self.mail(wrong, wrong, wrong, site="https://x.org:8443")
        for left in (2, 1):
            error = self.assertRaises(WrongPassword, mail.log_in, "alice@x.org", "wonder land")
            self.assertEqual(error.left, left)
        for _ in range(2):  # the second time without a word to the server, which has no script for it
            text = str(self.assertRaises(TooManyFailures, mail.log_in, "alice@x.org", "wonder land"))
        for words in (
            "mailbe user unlock alice@x.org",
            "mailbe user passwd",
            "15 minutes",
            "https://x.org:8443/password",
        ):
            self.assertIn(words, text)

    def test_a_good_log_in_forgets_the_failures(self) -> None:
        wrong = IN.rstrip().removesuffix("+OK") + "-ERR no\n"
        mail = self.mail(wrong, wrong, IN)
        for _ in range(2):
            self.assertRaises(WrongPassword, mail.log_in, "alice@x.org", "wonder land")
        mail.log_in("alice@x.org", "wonder land")
        self.assertEqual(mail.tries_left, 3)

    def test_a_locked_account_is_no_wrong_password(self) -> None:
        mail = self.mail(IN.rstrip().removesuffix("+OK") + "-ERR [SYS/TEMP] later\n")
        error = self.assertRaises(TryLater, mail.log_in, "alice@x.org", "wonder land")
        self.assertIn("mailbe user unlock alice@x.org", str(error))
        self.assertEqual(mail.tries_left, 3)

    def test_a_maildrop_in_use_is_told(self) -> None:
        mail = self.mail(IN.rstrip().removesuffix("+OK") + "-ERR [IN-USE] locked\n")
        error = self.assertRaises(InUse, mail.log_in, "alice@x.org", "wonder land")
        self.assertEqual(str(error), "locked: leave the other mail program, or wait until it logs out")

    def test_no_command_hides_in_a_name_or_a_password(self) -> None:
        mail = self.mail()
        for name, password in (("a\r\nDELE 1", "x"), ("a", "x\nDELE 1"), ("a\0b", "x")):
            self.assertRaises(Refused, mail.log_in, name, password)

    def test_a_server_without_user_is_logged_in_to_with_sasl(self) -> None:
        mail = self.mail(
            """
            S: +OK hello
            C: CAPA
            S: +OK
            S: SASL PLAIN
            S: .
            C: AUTH PLAIN
            S: +\x20
            C: AGFsaWNlQHgub3JnAHdvbmRlciBsYW5k
            S: +OK
            """.replace("S: +\n", "S: + \n")
        )
        mail.log_in("alice@x.org", "wonder land")

    def test_a_server_that_has_utf8_is_asked_for_letters_as_they_are(self) -> None:
        mail = self.mail(IN.replace("S: PIPELINING", "S: UTF8").replace("C: USER", "C: UTF8\nS: +OK\nC: USER"))
        mail.log_in("alice@x.org", "wonder land")

    def test_where_it_does_not_do_what_it_offers_letters_come_all_the_same(self) -> None:
        mail = self.mail(IN.replace("S: PIPELINING", "S: UTF8").replace("C: USER", "C: UTF8\nS: -ERR\nC: USER"))
        mail.log_in("alice@x.org", "wonder land")

    def test_a_name_or_a_password_beyond_ascii_is_said_to_who_takes_it(self) -> None:
        for name, password in (("jörg@x.org", "gryphon"), ("alice@x.org", "größer")):
            mail = self.mail(BEYOND_ASCII.format(*map(on_the_wire, (name, password))))
            mail.log_in(name, password)

    def test_or_with_sasl_which_is_of_utf8_everywhere(self) -> None:
        proof = base64.b64encode("\0jörg@x.org\0größer".encode()).decode()
        capabilities = HELLO.replace("UIDL\n", "UIDL\nS: SASL LOGIN PLAIN\n")
        mail = self.mail(f"{capabilities}\nC: AUTH PLAIN\nS: +\nC: {proof}\nS: +OK\n")
        mail.log_in("jörg@x.org", "größer")

    def test_to_another_it_is_not_said_and_what_that_lacks_is(self) -> None:
        without_capa = "S: +OK hi\nC: CAPA\nS: -ERR what?"
        for script in (HELLO, HELLO.replace("UIDL\n", "UTF8\n") + "C: UTF8\nS: +OK", without_capa):
            for name, password in (("jörg@x.org", "gryphon"), ("alice@x.org", "größer")):
                mail = self.mail(script)
                text = str(self.assertRaises(Refused, mail.log_in, name, password))
                self.assertIn("takes ASCII alone in names and passwords", text)
                self.assertIn("UTF8 USER (RFC 6856)", text)
                self.assertEqual(mail.tries_left, 3)

    def test_a_server_that_knows_no_capa_will_do(self) -> None:
        mail = self.mail("S: +OK hi\nC: CAPA\nS: -ERR what?\n" + IN.partition("S: .\n")[2] + LISTED)
        mail.log_in("alice@x.org", "wonder land")
        self.assertEqual(mail.letters(), [THREE, TWO, ONE])

    def test_nobody_at_the_door_is_told_with_every_door_that_was_tried(self) -> None:
        with reserved_port() as port:
            mail = somebody(
                Door("127.0.0.1", port, True), Door("no-such-host.invalid", 110, False), folder=self.mktemp()
            )
            text = str(self.assertRaises(Unreachable, mail.log_in, "a", "b"))
        self.assertIn(f"127.0.0.1:{port} cannot be reached: Connection refused", text)
        self.assertIn("no-such-host.invalid:110", text)

    def test_the_next_door_is_tried_where_one_is_shut(self) -> None:
        self.mail(IN)
        with reserved_port() as port:
            doors = Door("127.0.0.1", port, True), Door("127.0.0.1", self.pop3.port, False)
            mail = somebody(*doors, folder=self.mktemp())
            mail.log_in("alice@x.org", "wonder land")
        mail.close()

    def test_no_password_goes_where_others_read_along_unless_that_is_agreed(self) -> None:
        self.patch(Wire, "private", False)
        mail = self.mail(HELLO, IN)
        error = self.assertRaises(NotPrivate, mail.log_in, "alice@x.org", "wonder land")
        self.assertIn(str(self.pop3.port), error.place)
        mail.allow_plaintext()
        mail.log_in("alice@x.org", "wonder land")

    def test_another_protocol_is_told(self) -> None:
        for greeting in ("SSH-2.0-OpenSSH_9", "220 smtp", "\\x00\\xff"):
            mail = self.mail(f"S: {greeting}")
            self.assertIn("POP3", str(self.assertRaises(NoAnswer, mail.log_in, "a", "b")))

    def test_words_of_the_server_cannot_move_the_terminal(self) -> None:
        mail = self.mail("S: -ERR \\x1b[2J\\xc2\\x9b go away")
        self.assertEqual(str(self.assertRaises(Refused, mail.log_in, "a", "b")), "\\x1b[2J\\x9b go away")


class Fetching(MailCase):
    def test_the_newest_comes_first_and_each_look_is_a_fresh_one(self) -> None:
        mail = self.logged_in(IN + LISTED + BYE, IN + LISTED.replace("S: 2 200\n", "").replace("S: 2 two\n", ""))
        self.assertEqual(mail.letters(), [THREE, TWO, ONE])
        self.assertEqual(mail.letters(), [THREE, ONE])

    def test_headings_are_asked_for_at_once_and_once(self) -> None:
        tops = "C: TOP 3 0\nC: TOP 1 0\n" + "".join(
            f"S: +OK\nS: From: {who}@y\nS: Subject: +OK\nS: ..dots\nS: \nS: .\n" for who in ("c", "a")
        )
        mail = self.logged_in(IN + LISTED + tops)
        three, _, one = mail.letters()
        for _ in range(2):
            self.assertEqual([(letter, head.sender) for letter, head in mail.headings([three, one])],
                             [(three, "c@y"), (one, "a@y")])  # fmt: skip

    def test_without_pipelining_one_waits_for_the_other(self) -> None:
        top = "C: TOP {} 0\nS: +OK\nS: Subject: {}\nS: .\n"
        mail = self.logged_in(IN.replace("S: PIPELINING\n", "") + LISTED + top.format(1, "x") + top.format(2, "y"))
        mail.letters()
        self.assertEqual([head.subject for _, head in mail.headings([ONE, TWO])], ["x", "y"])

    def test_a_letter_comes_as_it_is_with_its_progress(self) -> None:
        steps: list[tuple[int, int]] = []
        listed = LISTED.replace("2 200", "2 720000")
        mail = self.logged_in(IN + listed + "C: RETR 2\nS: +OK\nS: ..\nS: ...x\nS> 720000\nS: .")
        letters = mail.letters()
        octets = mail.fetch(letters[1], lambda done, total: steps.append((done, total)))
        self.assertEqual(octets[:10], b".\r\n..x\r\nxx")
        self.assertEqual(len(octets), 720000 + 8)
        self.assertGreater(len(steps), 5)
        self.assertEqual(steps, sorted(steps))
        self.assertEqual(steps[-1], (720000, 720000))

    def test_a_long_line_is_no_trouble(self) -> None:
        mail = self.logged_in(IN + LISTED + "C: RETR 1\nS: +OK\nS: " + "y" * 5000 + "\nS: .")
        self.assertEqual(len(mail.fetch(ONE)), 5002)

    def test_a_server_without_unique_ids_has_its_letters_told_apart_by_their_headers(self) -> None:
        refused = LISTED[: LISTED.index("C: UIDL")] + "C: UIDL\nS: -ERR\n"
        top = "S: +OK\nS: Subject: {}\nS: .\n"

        def tops(*subjects: str) -> str:
            asked = "".join(f"C: TOP {number} 0\n" for number in range(1, 4))
            return asked + "".join(map(top.format, subjects))

        mail = self.logged_in(
            IN + refused + tops("x", "y", "x") + BYE, IN + refused + tops("y", "x", "z") + "C: RETR 1\nS: +OK\nS: ."
        )
        _, second, first = mail.letters()
        newest, x, y = mail.letters()
        self.assertEqual([x.uid, y.uid], [first.uid, second.uid])
        self.assertNotIn(newest.uid, (x.uid, y.uid))
        mail.fetch(second)

    def test_without_top_either_by_all_of_them(self) -> None:
        refused = LISTED[: LISTED.index("C: UIDL")] + "C: UIDL\nS: -ERR\n"
        tops = "".join(f"C: TOP {number} 0\n" for number in range(1, 4)) + "S: -ERR\n" * 3
        retrs = "".join(f"C: RETR {number}\nS: +OK\nS: {number // 2}\nS: .\n" for number in range(1, 4))
        uids = [letter.uid for letter in self.logged_in(IN + refused + tops + retrs).letters()]
        self.assertEqual(len(set(uids)), 3)
        self.assertEqual([uid[-2:] for uid in uids], [".2", ".1", ".1"])

    def test_a_letter_that_others_took_away_is_gone(self) -> None:
        mail = self.logged_in(IN + LISTED + "C: RETR 1\nS: -ERR another program has taken it\nC: RETR 2\nS: +OK\nS: .")
        self.assertRaises(Gone, mail.fetch, Letter(Folder.INBOX, "four", 1))
        self.assertRaises(Gone, mail.fetch, ONE)
        self.assertEqual(mail.fetch(TWO), b"")

    def test_a_server_that_hung_up_in_idle_times_is_not_noticed(self) -> None:
        again = LISTED.replace("1 one", "1 three").replace("3 three", "3 one")
        mail = self.logged_in(IN + LISTED, IN + again + "C: RETR 1\nS: +OK\nS: it is three\nS: .")
        three = mail.letters()[0]
        mail.delete(three)
        self.assertEqual(mail.fetch(three), b"it is three\r\n")
        self.assertTrue(mail.is_deleted(three))

    def test_a_server_that_hangs_up_on_every_try_is_told(self) -> None:
        mail = self.logged_in(IN + LISTED + "C: RETR 1\nS: +OK\nS: half", IN + LISTED + "C: RETR 1\nS: +OK\nS: half")
        mail.letters()
        self.assertIn("has hung up", str(self.assertRaises(NoAnswer, mail.fetch, ONE)))

    def test_more_than_was_announced_is_not_taken(self) -> None:
        mail = self.logged_in(IN + LISTED + "C: RETR 1\nS: +OK\nS> 1152000\nS> 72")
        mail.letters()
        self.assertIn("more than it said", str(self.assertRaises(NoAnswer, mail.fetch, ONE)))

    def test_a_list_that_is_none_is_told(self) -> None:
        for line in ("x 1", "1", "1 ", "-1 2", "9999999999 1"):
            mail = self.logged_in(IN + f"C: LIST\nS: +OK\nS: {line}\nS: .")
            self.assertIn("no list of letters", str(self.assertRaises(NoAnswer, mail.letters)))

    def test_a_size_that_no_letter_has_is_none(self) -> None:
        mail = self.logged_in(IN + LISTED.replace("2 200", "2 " + "9" * 5000))
        self.assertEqual([letter.octets for letter in mail.letters()], [300, 0, 100])

    def test_a_password_that_was_changed_meanwhile_is_not_tried_again_and_again(self) -> None:
        wrong = IN.rstrip().removesuffix("+OK") + "-ERR [AUTH] no\n"
        mail = self.logged_in(IN + LISTED + BYE, wrong)
        mail.letters()
        self.assertRaises(WrongPassword, mail.letters)
        self.assertIn("log in first", str(self.assertRaises(Refused, mail.letters)))

    def test_a_silent_server_is_given_up_in_time(self) -> None:
        mail = self.logged_in(IN + LISTED + "C: RETR 1\nS: +OK\nS: half\n!silence")
        mail.letters()
        [wire] = mail._wires.values()
        hear = wire.transcript._listen

        def listen(said: Said) -> None:
            hear(said)
            if said.text == "half":
                wire.be_patient(0.2)  # and not before, when a busy machine may keep a good server silent so long

        self.patch(wire.transcript, "_listen", listen)
        self.assertIn("silent: waited 0.2 seconds", str(self.assertRaises(NoAnswer, mail.fetch, ONE)))

    def test_so_is_one_that_says_nothing_at_all(self) -> None:
        mail = self.mail("!silence", patience=0.2)
        text = str(self.assertRaises(NoAnswer, mail.log_in, "alice@x.org", "wonder land"))
        self.assertIn("silent: waited 0.2 seconds", text)


class Sent(MailCase):
    def test_the_sent_copies_are_a_second_maildrop(self) -> None:
        sent = IN.replace("alice@", "alice+envoi@") + LISTED
        mail = self.logged_in(IN, sent)
        self.assertEqual(mail.letters(Folder.SENT)[0], Letter(Folder.SENT, "three", 300))

    def test_another_server_is_not_asked_to_log_in_for_it(self) -> None:
        other = IN.replace("mailbe-1", "other")
        mail = self.logged_in(other, other.partition("C: USER")[0])
        self.assertRaises(NoSentMail, mail.letters, Folder.SENT)

    def test_a_server_that_refuses_it_is_asked_once(self) -> None:
        wrong = IN.replace("alice@", "alice+envoi@").rstrip().removesuffix("+OK") + "-ERR [AUTH] no\n"
        mail = self.logged_in(IN, wrong, HELLO)
        for _ in range(2):
            self.assertRaises(NoSentMail, mail.letters, Folder.SENT)
        self.assertEqual(mail.tries_left, 3)


class Deleting(MailCase):
    def test_what_is_marked_is_deleted_when_one_leaves_and_not_before(self) -> None:
        mail = self.logged_in(IN + LISTED + "C: DELE 1\nC: DELE 3\nS: +OK\nS: +OK" + BYE)
        for letter in mail.letters():
            mail.delete(letter)
        mail.undelete(TWO)
        self.assertEqual(mail.deleted, {ONE, THREE})
        self.assertEqual(mail.leave(), 2)

    def test_a_crash_deletes_nothing(self) -> None:
        mail = self.logged_in(IN + LISTED + "!silence")
        mail.delete(mail.letters()[0])
        mail.close()
        self.assertTrue(self.pop3.silent.wait(SECONDS))

    def test_a_rest_deletes_nothing_and_marks_stay(self) -> None:
        mail = self.logged_in(IN + LISTED + BYE, IN + LISTED + "C: DELE 2\nS: +OK" + BYE)
        mail.letters()
        mail.delete(TWO)
        mail.rest()
        self.assertEqual(mail.leave(), 1)
        self.assertEqual(mail.deleted, frozenset())

    def test_what_the_server_could_not_delete_is_told_and_stays_marked(self) -> None:
        mail = self.logged_in(IN + LISTED + "C: DELE 2\nS: +OK\nC: QUIT\nS: -ERR [SYS/TEMP] some not removed")
        mail.letters()
        mail.delete(TWO)
        self.assertIn("some not removed", str(self.assertRaises(MailError, mail.leave)))
        self.assertEqual(mail.deleted, {TWO})

    def test_a_server_lost_while_leaving_is_asked_again_for_what_is_still_there(self) -> None:
        left = LISTED.replace("S: 2 200\n", "").replace("S: 2 two\n", "")
        mail = self.logged_in(IN + LISTED + "C: DELE 2\nS: +OK\nC: QUIT", IN + left + BYE)
        mail.letters()
        mail.delete(TWO)
        self.assertEqual(mail.leave(), 0)
        self.assertEqual(mail.deleted, frozenset())

    def test_marks_of_letters_that_are_gone_are_forgotten(self) -> None:
        left = LISTED.replace("S: 2 200\n", "").replace("S: 2 two\n", "")
        mail = self.logged_in(IN + LISTED + BYE, IN + left)
        mail.letters()
        mail.delete(TWO)
        mail.letters()
        self.assertEqual(mail.deleted, frozenset())

    def test_the_marks_of_one_person_are_not_those_of_the_next(self) -> None:
        mail = self.logged_in(IN + LISTED + BYE, IN)
        mail.delete(mail.letters()[0])
        mail.log_in("alice@x.org", "wonder land")
        self.assertEqual(mail.deleted, frozenset())


DRAFT = Draft("bob@y.org, carl@y.org", "Hi", "first\n.\n..second")
ENVELOPE = """
C~ MAIL FROM:<alice@x.org> SIZE=[0-9]{3}
S: 250 ok
C: RCPT TO:<bob@y.org>
S: 250 ok
C: RCPT TO:<carl@y.org>
S: 250 ok
"""
GOODBYE = "\nC: QUIT\nS: 221 bye"


class Sending(MailCase):
    def test_a_letter_goes_to_all(self) -> None:
        steps: list[tuple[int, int]] = []
        mail = self.logged_in(IN, smtp=(EHLO + AUTH + ENVELOPE + "C: DATA\nS: 354 go\nC>\nS: 250 ok" + GOODBYE,))
        recipients = mail.send(DRAFT, lambda done, total: steps.append((done, total)))
        self.assertEqual(recipients, ("bob@y.org", "carl@y.org"))
        self.smtp.close()
        (letter,) = self.smtp.heard
        self.assertTrue(letter.endswith(b"\r\n\r\nfirst\r\n..\r\n...second\r\n"))
        self.assertEqual(steps, [(len(letter) + 3, len(letter) + 3)])

    def test_one_bad_recipient_and_nobody_gets_it(self) -> None:
        refused = ENVELOPE.replace("carl@y.org>\nS: 250 ok", "carl@y.org>\nS: 550 5.1.1 \\x1bno")
        mail = self.logged_in(IN, smtp=(EHLO + AUTH + refused + GOODBYE,))
        text = str(self.assertRaises(Refused, mail.send, DRAFT))
        self.assertEqual(text, "nothing was sent, as it would not reach carl@y.org: 550 5.1.1 \\x1bno")

    def test_a_letter_that_is_too_large_does_not_cross_the_network(self) -> None:
        mail = self.logged_in(IN, smtp=(EHLO + AUTH + GOODBYE,))
        text = str(self.assertRaises(Refused, mail.send, Draft("b@y", "", "x" * 20000)))
        self.assertIn("takes 10000 at most", text)

    def test_a_refused_log_in_names_the_server_for_sending(self) -> None:
        mail = self.logged_in(IN, smtp=(EHLO + AUTH.replace("235 ok", "535 5.7.8 no") + GOODBYE,))
        self.assertIn("for sending refuses the log-in: 535", str(self.assertRaises(Refused, mail.send, DRAFT)))
        self.assertEqual(mail.tries_left, 3)

    def test_a_server_without_auth_decides_itself_whether_it_takes_a_letter(self) -> None:
        bare = EHLO.replace("S: 250 AUTH LOGIN PLAIN", "S: 250 OTHER")
        mail = self.logged_in(IN, smtp=(bare + ENVELOPE + "C: DATA\nS: 354 go\nC>\nS: 250 ok" + GOODBYE,))
        mail.send(DRAFT)

    def test_a_server_without_ehlo_is_spoken_to_as_in_old_times(self) -> None:
        classic = "S: 220 hi\nC: EHLO [127.0.0.1]\nS: 500 what?\nC: HELO [127.0.0.1]\nS: 250 hi\n"
        envelope = ENVELOPE.replace(" SIZE=[0-9]{3}", "")
        mail = self.logged_in(IN, smtp=(classic + envelope + "\nC: DATA\nS: 354 go\nC>\nS: 250 ok" + GOODBYE,))
        mail.send(DRAFT)

    def about_to_send(self, name: str, ehlo: str, rest: str) -> Mail:
        """Somebody who is in, with a letter for a server that says ``ehlo``; ``rest`` comes after his log-in there."""
        proof = base64.b64encode(f"\0{name}\0wonder land".encode()).decode()
        auth = f"C: AUTH PLAIN {proof}\nS: 235 ok\n"
        mail = self.mail(BEYOND_ASCII.format(on_the_wire(name), "wonder land"), smtp=(ehlo + auth + rest + GOODBYE,))
        mail.log_in(name, "wonder land")
        return mail

    def test_an_address_beyond_ascii_is_sent_from_and_to_with_smtputf8(self) -> None:
        for sender, to in (("jörg@x.org", "bob@y.org"), ("alice@x.org", "jörg@x.org"), ("иван@x.org", "jörg@bücher.y")):
            rest = (
                f"C: MAIL FROM:<{on_the_wire(sender)}> SMTPUTF8\nS: 250 ok\n"
                f"C: RCPT TO:<{on_the_wire(to)}>\nS: 250 ok\nC: DATA\nS: 354 go\nC>\nS: 250 ok"
            )
            draft = Draft(to, "größer", "text")
            mail = self.about_to_send(sender, WITH_UTF8, rest)
            self.assertEqual(mail.send(draft), (to,))
            self.smtp.close()
            self.assertIn(f"From: {sender}\r\nTo: {to}\r\nSubject: größer\r\n".encode(), self.smtp.heard[0])

    def test_what_ascii_can_say_is_said_without_it(self) -> None:
        rest = (
            "C: MAIL FROM:<alice@xn--bcher-kva.example>\nS: 250 ok\nC: RCPT TO:<bob@xn--bcher-kva.example>\nS: 250 ok\n"
            "C: DATA\nS: 354 go\nC>\nS: 250 ok"
        )
        draft = Draft("Jörg <bob@Bücher.example>", "größer", "größer")
        mail = self.about_to_send("alice@bücher.example", WITH_UTF8, rest)
        self.assertEqual(mail.send(draft), ("bob@xn--bcher-kva.example",))
        self.smtp.close()
        self.assertTrue(self.smtp.heard[0].isascii())

    def test_a_server_without_smtputf8_gets_nothing_and_the_address_is_named(self) -> None:
        classic = "S: 220 hi\nC: EHLO [127.0.0.1]\nS: 500 what?\nC: HELO [127.0.0.1]\nS: 250 hi\n"
        for sender, draft, named in (
            ("jörg@x.org", Draft("bob@y.org", "", ""), "jörg@x.org"),
            ("alice@x.org", Draft("bob@y.org", "", "", bcc="иван@y.org"), "иван@y.org"),
        ):
            mail = self.about_to_send(sender, EHLO, "")
            text = str(self.assertRaises(Refused, mail.send, draft))
            self.assertIn(f"nothing was sent, as {named} is not ASCII", text)
            self.assertIn("does not offer SMTPUTF8 (RFC 6531)", text)
        mail = self.mail(BEYOND_ASCII.format(on_the_wire(sender), "wonder land"), smtp=(classic + GOODBYE,))
        mail.log_in(sender, "wonder land")
        self.assertIn("SMTPUTF8", str(self.assertRaises(Refused, mail.send, draft)))

    def test_login_is_said_where_there_is_no_plain(self) -> None:
        login = (
            "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2VAeC5vcmc=\n"
            "S: 334 UGFzc3dvcmQ6\nC: d29uZGVyIGxhbmQ=\nS: 235 ok"
        )
        script = EHLO.replace("LOGIN PLAIN", "LOGIN") + login + ENVELOPE + "C: DATA\nS: 354 go\nC>\nS: 250 ok"
        self.logged_in(IN, smtp=(script + GOODBYE,)).send(DRAFT)

    def test_later_is_not_never(self) -> None:
        mail = self.logged_in(IN, smtp=("S: 421 too busy",))
        self.assertRaises(TryLater, mail.send, DRAFT)

    def test_when_the_answer_to_a_letter_is_lost_nobody_says_that_it_was_sent_or_not(self) -> None:
        script = EHLO + AUTH + ENVELOPE + "C: DATA\nS: 354 go\nC>"
        mail = self.logged_in(IN, smtp=(script,))
        self.assertIn("it is not known", str(self.assertRaises(NoAnswer, mail.send, DRAFT)))

    def test_before_that_nothing_is_in_doubt(self) -> None:
        mail = self.logged_in(IN, smtp=(EHLO + AUTH + ENVELOPE + "C: DATA",))
        self.assertNotIn("it is not known", str(self.assertRaises(NoAnswer, mail.send, DRAFT)))

    def test_what_is_no_smtp_is_told(self) -> None:
        for script in (
            "S: +OK POP3",
            "S: 220 " + "x" * 9000,
            "S: 220 hi\nC: EHLO [127.0.0.1]\nS: 25\nC: HELO [127.0.0.1]\nS: 25",
            "S: \\xff",
        ):
            mail = self.logged_in(IN, smtp=(f"{script}\n!deaf",))
            self.assertIn("does not speak SMTP", str(self.assertRaises(NoAnswer, mail.send, DRAFT)))

    def test_a_size_that_no_letter_has_is_no_trouble(self) -> None:
        large = EHLO.replace("SIZE 10000", "SIZE " + "9" * 5000)
        mail = self.logged_in(IN, smtp=(large + AUTH + ENVELOPE + "C: DATA\nS: 354 go\nC>\nS: 250 ok" + GOODBYE,))
        mail.send(DRAFT)

    def test_no_letter_goes_where_others_read_along_unless_that_is_agreed(self) -> None:
        mail = self.logged_in(IN, smtp=(EHLO.replace("AUTH LOGIN PLAIN", "OTHER"),))
        self.patch(Wire, "private", False)
        self.assertRaises(NotPrivate, mail.send, DRAFT)

    def test_nobody_sends_before_a_log_in(self) -> None:
        self.assertIn("log in first", str(self.assertRaises(Refused, self.mail().send, DRAFT)))


class Cancelling(MailCase):
    def begin(self, call: Callable[[], object]) -> Callable[[], MailError]:
        """Let ``call`` wait in a thread of its own; what is returned waits for it, and returns what it raised."""
        caught: list[MailError] = []

        def work() -> None:
            try:
                call()
            except MailError as error:
                caught.append(error)

        def end() -> MailError:
            thread.join(SECONDS)
            self.assertEqual(len(caught), 1)
            return caught[0]

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return end

    def cancelled(self, mail: Mail, actor: Actor, call: Callable[[], object]) -> MailError:
        """What ``call`` raises that waits for a silent server, and is called off."""
        end = self.begin(call)
        self.assertTrue(actor.silent.wait(SECONDS))
        mail.cancel()
        return end()

    def test_whoever_waits_for_a_letter_can_give_it_up_and_go_on(self) -> None:
        mail = self.logged_in(
            IN + LISTED + "C: RETR 1\nS: +OK\nS> 720\n!silence", IN + LISTED + "C: RETR 2\nS: +OK\nS: ."
        )
        mail.letters()
        self.assertIsInstance(self.cancelled(mail, self.pop3, lambda: mail.fetch(ONE)), Cancelled)
        self.assertEqual(mail.fetch(TWO), b"")

    def test_whoever_waits_for_a_greeting_can_give_it_up(self) -> None:
        mail = self.mail("!silence")
        self.assertIsInstance(self.cancelled(mail, self.pop3, lambda: mail.log_in("a", "b")), Cancelled)

    def test_whoever_waits_for_tls_can_give_it_up(self) -> None:
        self.mail("!deaf")
        mail = somebody(Door("127.0.0.1", self.pop3.port, True), folder=self.mktemp())
        self.assertIsInstance(self.cancelled(mail, self.pop3, lambda: mail.log_in("a", "b")), Cancelled)

    def test_whoever_gives_up_a_letter_that_is_on_its_way_learns_that_it_may_have_been_taken(self) -> None:
        mail = self.logged_in(IN, smtp=(EHLO + AUTH + ENVELOPE + "C: DATA\nS: 354 go\nC>\n!silence",))
        error = self.cancelled(mail, self.smtp, lambda: mail.send(DRAFT))
        self.assertIsInstance(error, Cancelled)
        self.assertIn("it is not known", str(error))

    def test_what_was_not_sent_is_not_shown_as_sent(self) -> None:
        greeting = EHLO.replace("10000", "0")
        envelope = "C~ MAIL FROM:.*\nS: 250 ok\nC: RCPT TO:<b@y.org>\nS: 250 ok\nC: DATA\nS: 354 go\n!deaf"
        mail = self.logged_in(IN, smtp=(greeting + AUTH + envelope,))
        draft = Draft("b@y.org", "Hi", "", attachments=(Attachment("a", "image/png", bytes(10**6)),))
        self.assertRaises(Cancelled, mail.send, draft, lambda done, total: mail.cancel())
        said = [(line.who, line.text) for line in self.said if line.protocol == "SMTP"]
        self.assertIn(("C", "From: alice@x.org"), said)
        self.assertNotIn(("C", "."), said)

    def test_nobody_waits_long_for_a_host_that_swallows_everything(self) -> None:
        """A full backlog: the kernel answers nothing, as a filter on the way would."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)), socket.socket() as second:
                second.setblocking(False)
                second.connect_ex(("127.0.0.1", port))
                mail = somebody(Door("127.0.0.1", port, False), folder=self.mktemp())
                end = self.begin(lambda: mail.log_in("a", "b"))
                eventually(lambda: mail._wires, "it is on its way")
                mail.cancel()
                self.assertIsInstance(end(), Cancelled)
