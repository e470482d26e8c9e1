"""The ledger sees what a server does wrong, and nothing wrong where there is none."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.ledger import Broken, Ledger, Pop3Ledger, SmtpLedger, Turn

GREETED = [(b"", b"220 mail.test ESMTP\r\n"), (b"EHLO me\r\n", b"250-mail.test\r\n250 PIPELINING\r\n")]
SENDING = [
    *GREETED,
    (b"MAIL FROM:<>\r\n", b"250 2.1.0 ok\r\n"),
    (b"RCPT TO:<b@c>\r\n", b"250 2.1.5 ok\r\n"),
    (b"DATA\r\n", b"354 go ahead\r\n"),
]


def play(ledger: Ledger, *words: tuple[bytes, bytes]) -> list[tuple[str, str]]:
    """Say and hear each, and return the verbs and codes."""
    pairs = []
    for said, heard in words:
        ledger.say(said)
        pairs += [(exchange.verb, exchange.code) for exchange in ledger.hear(heard)]
    return pairs


class LedgerCase(SynchronousTestCase):
    def assert_broken(self, ledger: Ledger, *words: tuple[bytes, bytes]) -> None:
        """All but the last of ``words`` are good."""
        *good, bad = words
        play(ledger, *good)
        with self.assertRaises(Broken):
            play(ledger, bad)

    def assert_may_close(self, ledger: Ledger, *words: tuple[bytes, bytes]) -> None:
        play(ledger, *words)
        ledger.close(excused=False)

    def assert_may_not_close(self, ledger: Ledger, *words: tuple[bytes, bytes]) -> None:
        play(ledger, *words)
        with self.assertRaises(Broken):
            ledger.close(excused=False)
        ledger.close(excused=True)


class Smtp(LedgerCase):
    def test_what_is_pipelined_is_paired_in_order_however_it_is_cut(self) -> None:
        said = b"RSET\r\nNOOP\r\nVRFY x\r\nfoo\r\n"
        heard = b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n252 2.5.2 no\r\n500 5.5.2 what\r\n"
        expected = [("RSET", "250"), ("NOOP", "250"), ("VRFY", "252"), ("(unknown)", "500")]
        for size in (1, 2, 7, 1000):
            ledger = SmtpLedger()
            play(ledger, *GREETED)
            pieces = [(b"", heard[at : at + size]) for at in range(0, len(heard), size)]
            self.assertEqual(play(ledger, (said, b""), *pieces), expected)
            self.assertEqual(ledger.owed, b"")

    def test_white_space_behind_a_command_is_none_of_it_and_what_looks_like_bdat_ends_all(self) -> None:
        for line in (b"RSET\t \r\n", b"BDAT\t10\r\n", b" bdat 10\r\n", b"BDAT=10\r\n"):
            ledger = SmtpLedger()
            play(ledger, *GREETED)
            if line.startswith(b"RSET"):
                self.assertEqual(play(ledger, (line, b"250 2.0.0 ok\r\n")), [("RSET", "250")])
                continue
            self.assertEqual(play(ledger, (line, b"501 5.5.4 what\r\n")), [("BDAT", "501")])
            self.assertTrue(ledger.over)

    def test_a_command_without_a_reply_is_owed_one(self) -> None:
        ledger = SmtpLedger()
        self.assertEqual(ledger.owed, b"(greeting)")
        play(ledger, *GREETED, (b"RSET\r\nNOOP\r\nQU", b"250 2.0.0 ok\r\n"))
        self.assertEqual(ledger.owed, b"NOOP\r\n")
        play(ledger, (b"", b"250 2.0.0 ok\r\n"))
        self.assertEqual(ledger.owed, b"")

    def test_a_letter_goes_to_its_lone_dot_and_no_further(self) -> None:
        for text in (b".\r\n", b"Hello\r\n.\r\n", b"..\r\n.\n.\r.\r\n\0.\r\n\r\n.\r\n"):
            ledger = SmtpLedger()
            play(ledger, *SENDING)
            self.assertIs(ledger.turn, Turn.LETTER)
            heard = b"250 2.0.0 ok x\r\n250 2.0.0 ok\r\n"
            self.assertEqual(play(ledger, (text + b"NOOP\r\n", heard)), [("(letter)", "250"), ("NOOP", "250")])

    def test_a_reply_that_nobody_asked_for_is_seen(self) -> None:
        self.assert_broken(SmtpLedger(), *GREETED, (b"NOOP\r\n", b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n"))

    def test_a_code_that_the_command_may_not_have_is_seen(self) -> None:
        self.assert_broken(SmtpLedger(), *GREETED, (b"NOOP\r\n", b"451 4.3.0 fault\r\n"))
        self.assert_broken(SmtpLedger(), *GREETED, (b"DATA\r\n", b"250 2.0.0 ok\r\n"))

    def test_a_malformed_reply_is_seen(self) -> None:
        for reply in (
            b"250 ok\r\n",
            b"250 4.0.0 ok\r\n",
            b"250 2.0.0 \xff\r\n",
            b"250 2.0.0 o\nk\r\n",
            b"250-2.0.0 ok\r\n251 2.0.0 ok\r\n",
            b"250 2.0.0 " + b"x" * 510 + b"\r\n",
            b"\r\n",
        ):
            self.assert_broken(SmtpLedger(), *GREETED, (b"NOOP\r\n", reply))

    def test_nothing_comes_behind_a_last_word(self) -> None:
        self.assert_broken(SmtpLedger(), *GREETED, (b"QUIT\r\nNOOP\r\n", b"221 2.0.0 bye\r\n250 2.0.0 ok\r\n"))
        self.assert_broken(SmtpLedger(), *GREETED, (b"", b"421 4.4.2 bye\r\n"), (b"NOOP\r\n", b"250 2.0.0 ok\r\n"))

    def test_a_server_may_close_behind_a_last_word_only(self) -> None:
        self.assert_may_close(SmtpLedger(), *GREETED, (b"QUIT\r\nNOOP\r\n", b"221 2.0.0 bye\r\n"))
        self.assert_may_close(SmtpLedger(), *GREETED, (b"NOOP\r\nNOOP\r\n", b"421 4.7.0 enough\r\n"))
        self.assert_may_close(SmtpLedger(), *GREETED, (b"", b"421 4.4.2 too long\r\n"))
        self.assert_may_close(SmtpLedger(), *GREETED, (b"x" * 600, b"500 5.5.2 the line is too long\r\n"))
        self.assert_may_close(
            SmtpLedger(), *GREETED, (b"NOOP " + b"x" * 600 + b"\r\n", b"500 5.5.2 the line is too long\r\n")
        )
        self.assert_may_close(SmtpLedger(), *GREETED, (b"STARTTLS\r\nNOOP\r\n", b"501 5.5.1 nothing may follow\r\n"))
        self.assert_may_not_close(SmtpLedger())
        self.assert_may_not_close(SmtpLedger(), *GREETED)
        self.assert_may_not_close(SmtpLedger(), *GREETED, (b"NOOP\r\n", b"250 2.0.0 o"))
        self.assert_may_not_close(SmtpLedger(), *GREETED, (b"foo\r\n", b"500 5.5.2 what\r\n"))

    def test_thousands_of_digits_announce_octets_or_none(self) -> None:
        for digits, missing in ((b"0" * 5000, False), (b"0" * 5000 + b"7", True), (b"7" * 5000, True)):
            ledger = SmtpLedger()
            play(ledger, *GREETED)
            ledger.say(b"BDAT " + digits + b"\r\n")
            self.assertEqual(ledger.missing > 0, missing)

    def test_utf8_is_for_who_has_asked_for_it(self) -> None:
        vrfy, found = b"VRFY j\xc3\xb6rg SMTPUTF8\r\n", b"250 2.1.5 <j\xc3\xb6rg@localhost>\r\n"
        self.assertEqual(play(SmtpLedger(), *GREETED, (vrfy, found))[-1], ("VRFY", "250"))
        self.assert_broken(SmtpLedger(), *GREETED, (b"VRFY jorg\r\n", found))
        self.assert_broken(SmtpLedger(), *GREETED, (vrfy, b"250 2.1.5 <j\xf6rg@localhost>\r\n"))

    def test_what_stands_behind_starttls_is_nobodys(self) -> None:
        ledger = SmtpLedger()
        play(ledger, *GREETED, (b"STARTTLS\r\nNOOP\r\n", b"220 2.0.0 go ahead\r\n"))
        self.assertEqual((ledger.turn, ledger.left, ledger.owed), (Turn.HANDSHAKE, b"NOOP\r\n", b""))
        with self.assertRaises(Broken):
            ledger.hear(b"250 2.0.0 ok\r\n")

    def test_in_tls_it_goes_on(self) -> None:
        ledger = SmtpLedger(implicit_tls=True)
        self.assertEqual(ledger.owed, b"")
        ledger.secured()
        self.assertEqual(play(ledger, *GREETED)[0], ("(greeting)", "220"))
        play(ledger, (b"AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n"))
        self.assertIs(ledger.turn, Turn.RESPONSE)
        self.assertEqual(play(ledger, (b"RSET\r\n", b"501 5.5.2 what\r\n")), [("(response)", "501")])


class Pop3(LedgerCase):
    GREETED = (b"", b"+OK ready\r\n")

    def test_what_has_a_text_has_it_to_its_lone_dot(self) -> None:
        ledger = Pop3Ledger()
        play(ledger, self.GREETED)
        said = b"LIST\r\nLIST 1\r\nRETR 1\r\nUIDL 9\r\nSTAT\r\n"
        heard = b"+OK 1\r\n1 9\r\n.\r\n+OK 1 9\r\n+OK x\r\n..a\r\n.\r\n-ERR no\r\n+OK 1 9\r\n"
        verbs = ["LIST", "LIST", "RETR", "UIDL", "STAT"]
        for size in (1, 5, 1000):
            exchanges = [(b"", heard[at : at + size]) for at in range(0, len(heard), size)]
            self.assertEqual([verb for verb, _ in play(ledger, (said, b""), *exchanges)], verbs)

    def test_the_text_comes_without_its_dots(self) -> None:
        ledger = Pop3Ledger()
        play(ledger, self.GREETED)
        ledger.say(b"RETR 1\r\n")
        [exchange] = ledger.hear(b"+OK x\r\n..\r\n..a\r\n.\r\n")
        self.assertEqual(exchange.text, b".\r\n.a\r\n")

    def test_a_malformed_reply_is_seen(self) -> None:
        for reply in (b"OK\r\n", b"+OK\xff\r\n", b"-ERR [NONSENSE] x\r\n", b"+ \r\n", b"+OK " + b"x" * 520 + b"\r\n"):
            self.assert_broken(Pop3Ledger(), self.GREETED, (b"NOOP\r\n", reply))

    def test_a_reply_that_nobody_asked_for_is_seen(self) -> None:
        self.assert_broken(Pop3Ledger(), self.GREETED, (b"", b"+OK really\r\n"))

    def test_a_server_may_close_behind_an_error_and_behind_quit(self) -> None:
        self.assert_may_close(Pop3Ledger(), self.GREETED, (b"foo\r\nfoo\r\n", b"-ERR enough\r\n"))
        self.assert_may_close(Pop3Ledger(), self.GREETED, (b"QUIT\r\nNOOP\r\n", b"+OK bye\r\n"))
        self.assert_may_close(Pop3Ledger(), self.GREETED, (b"x" * 600, b"-ERR the line is too long\r\n"))
        self.assert_may_not_close(Pop3Ledger(), self.GREETED)
        self.assert_may_not_close(Pop3Ledger(), self.GREETED, (b"NOOP\r\n", b"+OK\r\n"))
        self.assert_may_not_close(Pop3Ledger(), self.GREETED, (b"RETR 1\r\n", b"+OK x\r\nhalf a li"))
