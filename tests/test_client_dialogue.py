"""The dialogue that is shown is the one that goes by, and tells nobody a password."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.client.dialogue import LISTINGS, MASK, SECTIONS, SHOWN_LINES, Said, Transcript, masked
from mailbe.client.printable import one_line, printable
from mailbe.pop3 import session as pop3
from mailbe.smtp import session as smtp


class DialogueCase(SynchronousTestCase):
    def play(self, protocol: str, *lines: str) -> list[Said]:
        """What is said of lines that begin with ``C: `` or ``S: ``."""
        heard: list[Said] = []
        transcript = Transcript(protocol, heard.append)
        for line in lines:
            octets = line[3:].encode() + b"\r\n"
            if line[0] == "C":
                transcript.sent(octets)
            else:
                transcript.received(octets)
        return heard

    def texts(self, heard: list[Said]) -> list[str]:
        return [f"{said.who}: {said.text}" for said in heard]


class Transcripts(DialogueCase):
    def test_each_command_and_its_answer_have_the_section_that_defines_it(self) -> None:
        heard = self.play(
            "SMTP",
            "S: 220 here", "C: EHLO me", "S: 250-here", "S: 250 SIZE", "C: MAIL FROM:<a@b>", "S: 250 ok",
            "C: RCPT TO:<c@d>", "S: 550 no", "C: QUIT", "S: 221 bye",
        )  # fmt: skip
        greeting, ehlo, mail, rcpt, quit_ = (
            f"RFC 5321 {n}" for n in ["4.3.1", "4.1.1.1", "4.1.1.2", "4.1.1.3", "4.1.1.10"]
        )
        sections = [greeting, ehlo, ehlo, ehlo, mail, mail, rcpt, rcpt, quit_, quit_]
        self.assertEqual([said.section for said in heard], sections)

    def test_what_utf8_asks_for_has_the_section_that_defines_that(self) -> None:
        heard = self.play("SMTP", "S: 220 here", "C: MAIL FROM:<jörg@x> SIZE=9 SMTPUTF8", "S: 250 ok",
                          "C: MAIL FROM:<smtputf8@x>", "S: 250 ok")  # fmt: skip
        sections = ["RFC 6531 3.4", "RFC 6531 3.4", "RFC 5321 4.1.1.2", "RFC 5321 4.1.1.2"]
        self.assertEqual([said.section for said in heard[1:]], sections)
        heard = self.play("POP3", "S: +OK hello", "C: UTF8", "S: +OK", "C: USER jörg@x", "S: +OK jörg?")
        self.assertEqual([said.section for said in heard[1:3]], ["RFC 6856 2.1"] * 2)
        self.assertEqual(self.texts(heard)[3:], ["C: USER jörg@x", "S: +OK jörg?"])

    def test_answers_to_commands_sent_at_once_are_told_apart(self) -> None:
        heard = self.play(
            "POP3",
            "S: +OK hello", "C: TOP 1 0", "C: DELE 2", "C: NOOP",
            "S: +OK top", "S: Subject: +OK", "S: .", "S: -ERR no", "S: +OK",
        )  # fmt: skip
        sections = [said.section for said in heard if said.who == "S"]
        self.assertEqual(sections, ["RFC 1939 4", "RFC 1939 7", None, None, "RFC 1939 5", "RFC 1939 5"])

    def test_the_server_agrees_about_the_sections(self) -> None:
        for table in (pop3.Authorization.commands, pop3.Transaction.commands):
            for verb, command in table.items():
                if (section := SECTIONS["POP3"].get(verb.decode())) and verb != b"QUIT":
                    self.assertEqual(section, command.rfc, verb)
        for verb, command in smtp.COMMANDS.items():
            if section := SECTIONS["SMTP"].get(verb.decode()):
                self.assertEqual(section, command.rfc, verb)

    def test_no_password_is_shown(self) -> None:
        said = {
            "SMTP": ("S: 220 here", "C: AUTH PLAIN AHNlY3JldA==", "S: 235 ok", "C: auth login", "S: 334 VXNlcm5hbWU6",
                     "C: c2VjcmV0", "S: 334 UGFzc3dvcmQ6", "C: c2VjcmV0", "S: 235 ok", "C: AUTH X secret", "S: 500 no"),
            "POP3": ("S: +OK", "C: USER alice", "S: +OK", "C: PASS secret word", "S: -ERR", "C: pass secret", "S: -ERR",
                     "C: AUTH PLAIN", "S: + ", "C: c2VjcmV0", "S: -ERR", "C: APOP alice secret", "S: +OK"),
        }  # fmt: skip
        for protocol, lines in said.items():
            texts = self.texts(self.play(protocol, *lines))
            self.assertEqual(len(texts), len(lines))
            for text in texts:
                self.assertNotRegex(text, "secret|c2VjcmV0|AHNlY3")
            self.assertGreaterEqual(sum(MASK in text for text in texts), 4, texts)

    def test_who_gives_an_exchange_up_says_so(self) -> None:
        heard = self.play("POP3", "S: +OK", "C: AUTH PLAIN", "S: + ", "C: *", "S: -ERR", "C: NOOP")
        self.assertEqual(self.texts(heard)[3:], ["C: *", "S: -ERR", "C: NOOP"])

    def test_of_a_letter_the_first_lines_are_shown(self) -> None:
        lines = [f"line {number}" for number in range(100)]
        heard = self.play(
            "SMTP", "S: 220", "C: DATA", "S: 354 go", *(f"C: {line}" for line in [*lines, "."]), "S: 250 ok", "C: NOOP"
        )
        hidden = lines[SHOWN_LINES:]
        octets = sum(len(line) + 2 for line in hidden)
        self.assertEqual(
            self.texts(heard)[3:],
            [*(f"C: {line}" for line in lines[:SHOWN_LINES]), f"C: [{len(hidden)} more lines, {octets} octets]",
             "C: .", "S: 250 ok", "C: NOOP"],
        )  # fmt: skip

    def test_what_stands_in_a_letter_is_no_reply(self) -> None:
        for verb in LISTINGS:
            heard = self.play(
                "POP3", "S: +OK", f"C: {verb}", "S: +OK", "S: -ERR", "S: +OK", "S: + ", "S: .", "C: PASS x"
            )
            self.assertEqual(self.texts(heard)[-1], f"C: PASS {MASK}", verb)
            self.assertEqual([said.section for said in heard[3:7]], [None] * 4)

    def test_a_letter_that_looks_like_a_log_in_hides_nothing_of_what_follows(self) -> None:
        heard = self.play(
            "SMTP", "S: 220", "C: DATA", "S: 354", "C: AUTH PLAIN", "C: .", "S: 250 ok", "C: MAIL FROM:<>"
        )
        self.assertEqual(heard[-1], Said("SMTP", "C", "MAIL FROM:<>", "RFC 5321 4.1.1.2"))

    def test_nothing_that_moves_a_terminal_is_shown(self) -> None:
        (said,) = self.play("POP3", "S: +OK \x1b]0;owned\x07\x9b2J\r\n250 ok")
        self.assertEqual(said.text, r"+OK \x1b]0;owned\x07\x9b2J\n250 ok")

    @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=30))), st.sampled_from(["SMTP", "POP3"]))
    def test_any_dialogue_can_be_shown(self, lines: list[tuple[bool, bytes]], protocol: str) -> None:
        heard: list[Said] = []
        transcript = Transcript(protocol, heard.append)
        for ours, octets in lines:
            (transcript.sent if ours else transcript.received)(octets + b"\r\n")
        for said in heard:
            self.assertNotRegex(said.text, "[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Masking(SynchronousTestCase):
    def test_only_secrets_are_masked(self) -> None:
        for line in ("USER alice", "AUTH PLAIN", "PASS", "MAIL FROM:<pass@x>", "TOP 1 0"):
            self.assertEqual(masked(line), line)
        self.assertEqual(masked("pass a b"), f"pass {MASK}")
        self.assertEqual(masked("AUTH  LOGIN  Zm9v"), f"AUTH  LOGIN {MASK}")


class Printing(SynchronousTestCase):
    def test_controls_are_written_out_and_lines_and_letters_stay(self) -> None:
        self.assertEqual(printable("a\tb\r\nc\rd\x1b[2J\x9b\u202egnp.exe\n"), "a\tb\nc\nd\\x1b[2J\\x9b\\u202egnp.exe\n")
        self.assertEqual(printable("Grüße, 你好, שלום 👋"), "Grüße, 你好, שלום 👋")
        self.assertEqual(one_line(" a \r\n\t b\x00 "), "a b\\x00")

    @given(st.text())
    def test_whatever_comes_is_fit_and_stays_so(self, text: str) -> None:
        fit = printable(text)
        self.assertEqual(printable(fit), fit)
        self.assertFalse(re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", fit))
        fit.encode()
