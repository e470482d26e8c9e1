"""Nothing but CRLF.CRLF ends a letter and nothing but CRLF a command, in whatever pieces they come; and what we
send ends where it should, whatever stands in it.

A server that takes anything else for an end obeys commands that stand inside a letter: whoever wrote the letter
then sends a second one in the name of the host that passes it on (SMTP smuggling). The matrix here has 18 octet
sequences before and 17 behind a dot, or what is nearly one, of which there are 6; that makes 1801 different forms.
Each is followed by a second letter's commands and then by the true end. Each is sent to a whole service on a folder
(1801 letters, whole, pipelined or octet by octet), in all these ways and cut at every edge in and around the form
to one in memory (31,714 letters), and cut at every two of these edges to a ``DotReader`` (207,570 readings).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, cycle, product

from twisted.trial.unittest import SynchronousTestCase

from mailbe.dots import DotReader
from mailbe.pop3.session import Authorization, Transaction
from mailbe.smtp.session import COMMANDS
from tests.dialogue import Stage
from tests.premises import PASSWORDS, Client, Premises
from tests.storage import BOB
from tests.strict import Poplib, below_trace, pop3_statuses, pop3_text, smtp_codes

LINE_ENDS = {
    "nothing": b"",
    "CRLF": b"\r\n",
    "LF": b"\n",
    "CR": b"\r",
    "CR CRLF": b"\r\r\n",
    "LF CR": b"\n\r",
    "CRLF CR": b"\r\n\r",
    "CRLF LF": b"\r\n\n",
    "LF CRLF": b"\n\r\n",
    "NUL CRLF": b"\0\r\n",
    "CRLF NUL": b"\r\n\0",
    "CR NUL LF": b"\r\0\n",
    "VT": b"\x0b",
    "FF": b"\x0c",
    "NEL": b"\x85",
    "NEL in UTF-8": b"\xc2\x85",
    "line separator": b"\xe2\x80\xa8",
}
BEGINNING = "the beginning"
DOTS = {
    "dot": b".",
    "two dots": b"..",
    "dot space": b". ",
    "dot tab": b".\t",
    "NUL dot": b"\0.",
    "dot NUL": b".\0",
}
OPENING = b"EHLO me\r\nMAIL FROM:<s@example>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\n"
ABOVE = b"Subject: first\r\n\r\nabove"
SECOND = b"Subject: second\r\n\r\nsmuggled\r\n"
SMUGGLED = b"MAIL FROM:<m@example>\r\nRCPT TO:<alice@localhost>\r\nDATA\r\n" + SECOND
END = b".\r\n"

# What is said of all that comes behind a true end, where a form is one.
BEHIND_TRUE_END = {
    SMUGGLED + END: [250, 250, 354, 250],
    b"\0" + SMUGGLED + END: [500, 503, 503, 500, 500, 500, 500],
    b"\n" + SMUGGLED + END: [500, 503, 503, 500, 500, 500, 500],
    b"\r" + SMUGGLED + END: [500, 503, 503, 500, 500, 500, 500],
}
GREETED = [250, 250, 250, 354]


class Form:
    """A letter with what may be its end in the middle, and all that RFC 5321 says must come of it."""

    def __init__(self, before: str, dot: str, after: str) -> None:
        self.name = f"{before}, {dot}, {after}"
        above = b"" if before == BEGINNING else ABOVE + LINE_ENDS[before]
        form = DOTS[dot] + LINE_ENDS[after]
        self.stream = above + form + SMUGGLED + END
        # From the two octets before what differs to the two behind it, and in the true end.
        begin, end = max(len(above) - 5, 0), len(above) + len(form) + 2
        self.edges = [*range(begin, end), *range(len(self.stream) - 5, len(self.stream))]
        raw, _, behind = (b"\r\n" + self.stream).partition(b"\r\n.\r\n")
        wire = (raw + b"\r\n")[2:]  # the letter, dots and all
        alone = wire.replace(b"\r\n", b"")
        self.good = b"\r" not in alone and b"\n" not in alone
        self.codes = [250 if self.good else 554, *(BEHIND_TRUE_END[behind] if behind else [])]
        self.for_bob = [re.sub(rb"(\A|\r\n)\.", rb"\1", wire)] if self.good else []
        self.for_alice = [SECOND] if behind == SMUGGLED + END else []
        self.behind = behind


# Some come about in two ways: CRLF NUL and a dot, CRLF and NUL dot.
FORMS = list(
    {
        form.stream: form for form in (Form(*names) for names in product([BEGINNING, *LINE_ENDS], DOTS, LINE_ENDS))
    }.values()
)


def one_by_one(octets: bytes) -> list[bytes]:
    return [octets[index : index + 1] for index in range(len(octets))]


def stage_after(words: str, said: bytes) -> Stage:
    stage = Stage(words.split())
    stage.wire.dataReceived(said)
    stage.hear()
    return stage


def hear_after(stage: Stage, *segments: bytes) -> bytes:
    for segment in segments:
        stage.wire.dataReceived(segment)
    return stage.hear()


class EndsOfData(SynchronousTestCase):
    def test_the_matrix_is_whole(self) -> None:
        self.assertEqual(len(FORMS), 1801)
        # As many as are ends: behind a CRLF, or at the beginning, one dot and CRLF with or without more.
        ends = [form for form in FORMS if form.behind]
        self.assertEqual(len(ends), len(["CRLF", "CR CRLF", "LF CRLF", "NUL CRLF", BEGINNING]) * len(BEHIND_TRUE_END))
        self.assertEqual(len([form for form in FORMS if form.for_alice]), 5)

    def test_nothing_else_ends_a_letter_or_is_lost_of_it(self) -> None:
        premises = Premises(self)
        for form, way in zip(FORMS, cycle(range(3))):
            pieces = [OPENING, form.stream], [OPENING + form.stream], one_by_one(OPENING + form.stream)
            client = premises.connect("smtp")
            self.assertEqual(smtp_codes(client.ask(*pieces[way])), GREETED + form.codes, form.name)
            client.lose()
            for user, wanted in (("bob", form.for_bob), ("alice", form.for_alice)):
                letters = premises.letters("reception", user)
                self.assertEqual([below_trace(letter) for letter in letters], wanted, form.name)
            self.assertEqual(len(premises.files()), len(form.for_bob + form.for_alice), form.name)
            premises.empty()

    def test_nor_is_it_in_whatever_two_pieces_or_octet_by_octet(self) -> None:
        for form in FORMS:
            in_two = [[OPENING, form.stream[:edge], form.stream[edge:]] for edge in form.edges]
            for pieces in (*in_two, [OPENING + form.stream], one_by_one(OPENING + form.stream)):
                stage = Stage([])
                stage.hear()
                self.assertEqual(smtp_codes(hear_after(stage, *pieces)), GREETED + form.codes, pieces)
                for user, wanted in (("bob", form.for_bob), ("alice", form.for_alice)):
                    letters = stage.letters(f"{user}@localhost")
                    self.assertEqual([below_trace(letter) for letter in letters], wanted, pieces)
                stage.lose()

    def test_nor_in_three_pieces(self) -> None:
        for form in FORMS:
            for one, two in combinations(form.edges, 2):
                content: list[bytes] = []
                reader = DotReader(content.append)
                pieces = [form.stream[:one], form.stream[one:two], form.stream[two:]]
                rest = None
                while rest is None:
                    rest = reader.feed(pieces.pop(0))
                self.assertEqual(rest + b"".join(pieces), form.behind, form.name)
                self.assertEqual(reader.bare, not form.good, form.name)
                if form.good:
                    self.assertEqual([b"".join(content)], form.for_bob, form.name)


# What may stand between or behind words and is no line end.
NO_ENDS = [octets for octets in LINE_ENDS.values() if octets and b"\r\n" not in octets]
NO_ENDS += [b"\0", b"\n\n", b"\r\r\0\n", b"\xe2\x80\xa9", b"\xff\n", b"\x1c\x1d\x1e\x1f"]
HELO, MAIL, RCPT = b"EHLO me\r\n", b"MAIL FROM:<s@example>\r\n", b"RCPT TO:<bob@localhost>\r\n"
PLAIN = b"AGFsaWNlAHNlY3JldA=="  # NUL alice NUL secret
# Verb -> what is said before, its argument, what tells whether it was obeyed, and how that is answered
# when it was not and when it was.
SMTP_PROBES = {
    b"HELO": (b"", b" me", b"MAIL FROM:<s@example>", [503], [250]),
    b"HELLO": (b"", b" me", b"MAIL FROM:<s@example>", [503], [250]),
    b"EHLO": (b"", b" me", b"MAIL FROM:<s@example>", [503], [250]),
    b"STARTTLS": (b"", b"", b"STARTTLS", [220], [503]),
    b"AUTH": (HELO, b" PLAIN " + PLAIN, b"AUTH PLAIN " + PLAIN, [235], [503]),
    b"MAIL": (HELO, b" FROM:<s@example>", b"RCPT TO:<bob@localhost>", [503], [250]),
    b"RCPT": (HELO + MAIL, b" TO:<bob@localhost>", b"DATA", [503], [354]),
    b"DATA": (HELO + MAIL + RCPT, b"", b"NOOP", [250], []),
    b"RSET": (HELO + MAIL, b"", b"MAIL FROM:<s@example>", [503], [250]),
    b"QUIT": (b"", b"", b"NOOP", [250], []),
}
SMTP_FREE_TEXT = {b"NOOP": b" x", b"VRFY": b" x", b"EXPN": b" x", b"HELP": b" x"}
SMTP_FREE_TEXT_CODES = (250, 252, 504, 553)  # no such topic of HELP, no address in UTF-8
ALICE = b"USER alice\r\nPASS secret\r\n"
OK, ERR = b"+OK", b"-ERR"
POP3_PROBES = {
    b"USER": (b"", b" alice", b"PASS secret", [ERR], [OK]),
    b"PASS": (b"USER alice\r\n", b" secret", b"STAT", [ERR], [OK]),
    b"AUTH": (b"", b" PLAIN " + PLAIN, b"STAT", [ERR], [OK]),
    b"STLS": (b"", b"", b"STLS", [OK], [ERR]),
    b"UTF8": (b"", b"", b"STLS", [OK], [ERR]),
    b"DELE": (ALICE, b" 1", b"LIST 1", [OK], [ERR]),
    b"RSET": (ALICE + b"DELE 1\r\n", b"", b"LIST 1", [ERR], [OK]),
    b"QUIT": (ALICE, b"", b"NOOP", [OK], []),
}
POP3_ANSWERS = {
    b"CAPA": b"",
    b"LANG": b" en",
    b"STAT": b"",
    b"LIST": b" 1",
    b"UIDL": b" 1",
    b"RETR": b" 1",
    b"TOP": b" 1 1",
    b"NOOP": b"",
}


class EndsOfCommands(SynchronousTestCase):
    """Each of 30 commands, with each of 15 octet sequences behind it that are no line end, and nothing or another
    command behind that, whole and octet by octet: 1800 lines."""

    def lines(self, command: bytes) -> list[list[bytes]]:
        lines = [command + no_end + more + b"\r\n" for no_end in NO_ENDS for more in (b"", b"QUIT")]
        return [way for line in lines for way in ([line], one_by_one(line))]

    def test_the_tables_here_have_every_command(self) -> None:
        self.assertEqual(set(COMMANDS), {*SMTP_PROBES, *SMTP_FREE_TEXT, b"BDAT"})
        self.assertEqual({*Authorization.commands, *Transaction.commands}, {*POP3_PROBES, *POP3_ANSWERS})

    def test_nothing_but_crlf_ends_an_smtp_command(self) -> None:
        for verb, (before, argument, probe, refused, obeyed) in SMTP_PROBES.items():
            stage = stage_after("smtp tls", before)
            hear_after(stage, verb + argument + b"\r\n")
            self.assertEqual(smtp_codes(hear_after(stage, probe + b"\r\n")), obeyed, verb)
            for line in self.lines(verb + argument):
                stage = stage_after("smtp tls", before)
                (code,) = smtp_codes(hear_after(stage, *line))
                self.assertGreaterEqual(code, 500, line)
                self.assertEqual(smtp_codes(hear_after(stage, probe + b"\r\n")), refused, line)
                self.assertFalse(stage.transport.disconnecting, line)

    def test_nor_one_that_takes_any_text(self) -> None:
        for verb, argument in SMTP_FREE_TEXT.items():
            for line in self.lines(verb + argument):
                stage = stage_after("smtp", b"")
                (code,) = smtp_codes(hear_after(stage, *line))
                self.assertIn(code, SMTP_FREE_TEXT_CODES)
                self.assertEqual(smtp_codes(hear_after(stage, b"NOOP\r\n")), [250], line)

    def test_nor_bdat_and_when_nobody_can_count_its_octets_nothing_is_obeyed_any_more(self) -> None:
        for line in self.lines(b"BDAT 0 LAST"):
            stage = stage_after("smtp", HELO + MAIL + RCPT)
            self.assertEqual(smtp_codes(hear_after(stage, *line, b"NOOP\r\n")), [501], line)
            self.assertTrue(stage.transport.disconnecting, line)
            self.assertEqual(stage.letters("bob@localhost"), [])

    def test_nothing_but_a_space_separates_the_words_of_an_smtp_command(self) -> None:
        for before, words in (
            (b"", [b"EHLO", b"me"]),
            (HELO, [b"AUTH", b"PLAIN", PLAIN]),
            (HELO, [b"MAIL", b"FROM:<s@example>", b"SIZE=1"]),
            (HELO + MAIL, [b"RCPT", b"TO:<bob@localhost>"]),
        ):
            for place, no_end in product(range(1, len(words)), NO_ENDS):
                line = b" ".join(words[:place]) + no_end + b" ".join(words[place:])
                (code,) = smtp_codes(hear_after(stage_after("smtp", before), line + b"\r\n"))
                self.assertGreaterEqual(code, 500, line)
            (code,) = smtp_codes(hear_after(stage_after("smtp", before), b" ".join(words) + b"\r\n"))
            self.assertLess(code, 300, words)

    def test_nothing_but_crlf_ends_what_auth_asks_for(self) -> None:
        for no_end, more in product(NO_ENDS, (b"", b"MAIL FROM:<s@example>")):
            stage = stage_after("smtp", HELO + b"AUTH PLAIN\r\n")
            self.assertEqual(smtp_codes(hear_after(stage, PLAIN + no_end + more + b"\r\n")), [501])
            self.assertEqual(smtp_codes(hear_after(stage, RCPT)), [503])

    def test_nothing_but_crlf_ends_a_pop3_command(self) -> None:
        for verb, (before, argument, probe, refused, obeyed) in POP3_PROBES.items():
            stage = stage_after("pop3 mail tls", before)
            hear_after(stage, verb + argument + b"\r\n")
            self.assertEqual(pop3_statuses(hear_after(stage, probe + b"\r\n")), obeyed, verb)
            for line in self.lines(verb + argument):
                stage = stage_after("pop3 mail tls", before)
                (status,) = pop3_statuses(hear_after(stage, *line))
                self.assertEqual(status, ERR, line)
                self.assertEqual(pop3_statuses(hear_after(stage, probe + b"\r\n")), refused, line)
                self.assertFalse(stage.transport.disconnecting, line)

    def test_nor_one_that_changes_nothing(self) -> None:
        for verb, argument in POP3_ANSWERS.items():
            for line in self.lines(verb + argument):
                stage = stage_after("pop3 mail", ALICE)
                self.assertEqual(pop3_statuses(hear_after(stage, *line)), [ERR], line)
                self.assertEqual(pop3_statuses(hear_after(stage, b"NOOP\r\n")), [OK], line)


class EndsOfWhatWeSend(SynchronousTestCase):
    """Letters of ours, and files of other programs: every form of the matrix is in one of them, and what stands
    behind it looks like a reply. Each is read by RETR and by TOP with numbers of lines around it, and by ``poplib``."""

    def setUp(self) -> None:
        self.premises = Premises(self)
        mailbox = self.premises.maildata.reception(BOB)
        for name in ("tmp", "new", "cur"):
            (mailbox / name).mkdir(parents=True)
        self.new = mailbox / "new"

    def put_foreign_letters(self) -> list[bytes]:
        """Files with all that is no line end on the wire, and names that tell as much as those of three programs;
        returns their contents as they must come over the wire."""
        contents = []
        for number, form in enumerate(FORMS):
            octets = form.stream + b"+OK smuggled\n-ERR\r\n" + LINE_ENDS["LF"] * (number % 3)
            wire = re.sub(rb"\r?\n", b"\r\n", octets)
            wire += b"" if wire.endswith(b"\r\n") else b"\r\n"
            told = ("", f",S={len(octets)}", f",S={len(octets)},W={len(wire)}")[number % 4 % 3]
            (self.new / f"{number:010}.foreign{told}").write_bytes(octets)
            contents.append(wire)
        return contents

    def sessions(self, contents: list[bytes]) -> Iterator[tuple[Client, list[tuple[int, bytes]]]]:
        """So many sessions that none takes long, each with some letters that are its to read."""
        numbered = list(enumerate(contents, 1))
        for begin in range(0, len(numbered), 25):
            client = Client(self.premises, "pop3")
            yield client, numbered[begin : begin + 25]
            client.lose()

    def log_in(self, client: Client) -> None:
        said = client.ask(b"UTF8\r\nUSER bob\r\nPASS " + PASSWORDS[BOB] + b"\r\n")
        self.assertEqual(pop3_statuses(said), [OK, OK, OK, OK])

    def assert_sent(self, client: Client, command: bytes, content: bytes) -> None:
        """Whether a strict reader gets just ``content``, and the reply to what stands behind the command."""
        text, behind = pop3_text(client.ask(command + b"\r\nLIST 1\r\n"))
        self.assertEqual((text, pop3_statuses(behind)), (content, [OK]), command)

    def test_letters_of_ours_are_read_to_their_end(self) -> None:
        contents = []
        for form in FORMS:
            if form.for_bob:
                client = self.premises.connect("smtp")
                client.ask(OPENING + form.stream)
                client.lose()
                contents += form.for_bob
        for client, letters in self.sessions(contents):
            self.log_in(client)
            for number, content in letters:
                text, behind = pop3_text(client.ask(b"RETR %d\r\n" % number))
                self.assertEqual((below_trace(text), behind), (content, b""))

    def test_letters_of_other_programs_are_too(self) -> None:
        for client, letters in self.sessions(self.put_foreign_letters()):
            self.log_in(client)
            for number, content in letters:
                self.assert_sent(client, b"RETR %d" % number, content)
                self.assertEqual(client.ask(b"LIST %d\r\n" % number), b"+OK %d %d\r\n" % (number, len(content)))
                header, blank, body = content.partition(b"\r\n\r\n")
                lines = body.removesuffix(b"\r\n").split(b"\r\n")
                for count in (0, 1, 2, 3, len(lines), len(lines) + 1):
                    top = b"".join(line + b"\r\n" for line in lines[:count])
                    self.assert_sent(client, b"TOP %d %d" % (number, count), header + blank + top)

    def test_a_reader_to_whom_every_lf_ends_a_line_gets_them_all(self) -> None:
        for client, letters in self.sessions(self.put_foreign_letters()):
            pop3 = Poplib(client)
            pop3.utf8()
            pop3.user("bob")
            pop3.pass_(PASSWORDS[BOB].decode())
            for number, content in letters:
                self.assertEqual(b"".join(line + b"\r\n" for line in pop3.retr(number)[1]), content)
                self.assertEqual(pop3.top(number, 100)[1], pop3.retr(number)[1])
            self.assertEqual(pop3.noop(), b"+OK here")
