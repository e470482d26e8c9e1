"""What a client gets that did not ask for UTF-8: ASCII in every header, the rest as it was."""

from __future__ import annotations

import email
import email.policy
import re
import tracemalloc
from email.header import decode_header, make_header

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe import surrogate as module
from mailbe.surrogate import INVALID, Surrogate, SurrogateSize, surrogate
from tests.test_dots import cut

MULTIPART = """\
Return-Path: <élise@exemple.example>
Received: from é by b; Sat, 22 Nov 2025 21:00:00 +0100
From: Élise Martin <élise@exemple.example>
To: Bob <bob@localhost>, "Ann, B." <ann@localhost>, Bjørn <bjorn@localhost>
Subject: Une très longue ligne de sujet, qui ne tient pas dans un seul mot codé du tout, mais alors pas du tout
X-Spoken: français
Message-ID: <a@b>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=ab; x="été"

préambule
--ab
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Subject: é stays in a body
--abc is no delimiter
--ab
Content-Type: message/rfc822

Subject: Été
From: a@b

é
--ab
Content-Disposition: attachment; filename="Überraschung \\"1\\".pdf"; size=3
Content-Type: application/pdf;
 name=é.pdf
Content-Transfer-Encoding: base64

AAAA
--ab--
épilogue
"""


def wire(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def made(*chunks: bytes) -> bytes:
    return b"".join(surrogate(iter(chunks)))


def shown(value: object) -> str:
    return str(make_header(decode_header(str(value))))


def field(text: str) -> str:
    """A field of a header as it comes out; empty where it is left out."""
    return made(wire(text + "\n\n")).decode("ascii").removesuffix("\r\n")


class Fields(SynchronousTestCase):
    def test_what_is_ascii_stays_as_it_is(self) -> None:
        for text in ("Subject:  a\r\n b \r\n", "From: =?x?= <a\r\n", "no colon\r\n", "X: \0\r\n", ""):
            content = text.encode() + b"\r\n\xc3\xa9\r\n"
            self.assertEqual(made(content), content)

    def test_a_subject_becomes_encoded_words(self) -> None:
        for text in ("é", "a " * 60 + "é" * 60, "\u4f60\u597d", "é\u2028", "é\0\x7f"):
            line = field(f"Subject: {text}")
            self.assertTrue(all(len(part) <= 78 for part in line.split("\r\n")), line)
            value = email.message_from_string(line, policy=email.policy.compat32)["Subject"]
            self.assertEqual(shown(re.sub(r"\r?\n", "", value)), text.strip())

    def test_what_is_no_utf8_is_taken_for_latin_1(self) -> None:
        value = made(b"Subject: \xe9t\xe9\r\n\r\n").decode("ascii")
        self.assertEqual(shown(value.strip().partition(": ")[2]), "été")

    def test_an_address_that_is_ascii_is_kept_and_any_other_goes_nowhere(self) -> None:
        for name in ("From", "TO", "Cc", "Bcc", "Sender", "Reply-To", "Resent-From", "Resent-To"):
            line = field(f"{name}: É <a@b>, é@b, C <c@é>, d@e, friends: é@f;")
            pairs = email.utils.getaddresses([line.partition(": ")[2].replace("\r\n", "")])
            self.assertEqual([address for _, address in pairs], ["a@b", INVALID, INVALID, "d@e", INVALID])
            self.assertEqual([shown(phrase) for phrase, _ in pairs], ["É", "é@b", "C <c@é>", "", "é@f"])
        self.assertEqual(field("Return-Path: <é@b>"), f"Return-Path: <{INVALID}>\r\n")

    def test_parameters_keep_their_value(self) -> None:
        line = field('Content-Disposition: attachment; filename="é \\"a\\".txt"; size=3')
        message = email.message_from_string(line)
        self.assertEqual(message.get_filename(), 'é "a".txt')
        self.assertEqual(message.get_param("size", header="Content-Disposition"), "3")
        self.assertEqual(
            field("Content-Type: text/plain; é=a; x=é" + "é" * 200 + "; b=c"), "Content-Type: text/plain;\r\n b=c\r\n"
        )

    def test_what_is_no_list_of_addresses_is_shown_as_it_came(self) -> None:
        # What several addresses in one are, versions of the library do not agree on.
        for text in ("É:; F:; g", "Anrufbeantworter Küche", "é é é"):
            ((phrase, address),) = email.utils.getaddresses([field(f"To: {text}").partition(": ")[2]])
            self.assertEqual((shown(phrase), address), (text, INVALID))

    def test_a_group_of_nobody_stays_one(self) -> None:
        name, rest = field("To: Freunde und Förderer: ;").partition(": ")[2].split(":")
        self.assertEqual((shown(name), rest), ("Freunde und Förderer", ";\r\n"))

    def test_a_comment_goes_and_what_it_was_about_stays(self) -> None:
        for name, told in (
            ("Date", "Sat, 22 Nov 2025 21:00:00 +0100"),
            ("Resent-Date", "Sat, 22 Nov 2025 21:00:00 +0100"),
            ("MIME-Version", "1.0"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Content-Type", "text/plain"),
        ):
            self.assertEqual(field(f"{name}: {told} (Mitteleuropäische Zeit)"), f"{name}: {told}\r\n")
        self.assertEqual(field("Date: gestern, um fünf (Uhr)"), "")

    def test_a_parameter_that_is_there_in_ascii_too_is_told_once(self) -> None:
        kept = "Content-Disposition: attachment;\r\n FileName*=UTF-8''%C3%A9.txt\r\n"
        self.assertEqual(field("Content-Disposition: attachment; filename=é.txt; FileName*=UTF-8''%C3%A9.txt"), kept)

    def test_a_parameter_that_should_be_ascii_and_is_not_is_left_out(self) -> None:
        for text in ("filename*=UTF-8''é.txt", "filename*0=é; filename*1=.txt", "filename*0*=utf-8''é"):
            message = email.message_from_string(field(f"Content-Disposition: attachment; {text}; size=3"))
            self.assertEqual(message.get_param("size", header="Content-Disposition"), "3")
            self.assertIn(message.get_filename(), (None, ".txt"), text)

    def test_what_cannot_be_told_in_ascii_is_left_out(self) -> None:
        for text in ("X-Other: é", "Received: from é", "é: a", "no colon é", "Message-ID: <é@a>", "Content-Type: é/é"):
            self.assertEqual(field(text), "", text)
        self.assertEqual(field("X: é\n folded\nY: a"), "Y: a\r\n")

    def test_a_header_that_is_too_long_to_hold_loses_what_is_not_ascii(self) -> None:
        long = b"Subject: " + b"a" * module.MAX_HEADER + b"\xc3\xa9\r\n b\xe9\r\n" + b"X: \xe9\r\n" * 100_000
        letter = Surrogate()
        for octet in range(0, len(long), 1000):
            letter.feed(long[octet : octet + 1000])
            self.assertLessEqual(len(letter._held) + len(letter._field), module.MAX_HEADER + 1000)
        after = b"To: b@c\r\n\r\n\xe9"
        expected = long.replace(b"\xc3\xa9", b"??").replace(b"\xe9", b"?") + after
        self.assertEqual(made(long + after), expected)
        self.assertEqual(made(long, after), expected)

    def test_the_empty_line_behind_a_header_as_long_as_can_be_held_may_come_in_two(self) -> None:
        header = b"X: " + b"a" * (module.MAX_HEADER - 5) + b"\r\n"
        self.assertEqual(made(header, b"\r", b"\n\xc3\xa9\r\n"), header + b"\r\n\xc3\xa9\r\n")

    def test_a_field_of_short_lines_takes_no_more_room_than_its_octets(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        letter = Surrogate()
        letter.feed(b"X: \xe9\r\n" + b" \r\n" * (module.MAX_HEADER // 4))
        self.assertLess(tracemalloc.get_traced_memory()[0], 3 * module.MAX_HEADER)
        self.assertTrue(letter.in_header)

    def test_so_many_lines_that_might_be_delimiters_are_a_body(self) -> None:
        few, many = (b"--x\r\n" * count for count in (module.MAX_DASHES - 1, module.MAX_DASHES))
        head, part = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n", b"--a\r\nX: \xe9\r\n\r\n"
        self.assertEqual(made(head + few + part), head + few + b"--a\r\n\r\n")
        self.assertEqual(made(head + many + part), head + many + part)


class Letters(SynchronousTestCase):
    def test_every_header_is_ascii_and_every_body_as_it_was(self) -> None:
        letter = made(wire(MULTIPART))
        parsed = email.message_from_bytes(letter, policy=email.policy.default)
        for part in parsed.walk():
            for name, value in part.raw_items():
                self.assertTrue(f"{name}{value}".isascii(), name)
        text, message, pdf = parsed.iter_parts()
        self.assertEqual(
            text.get_content(),
            "Subject: é stays in a body\n--abc is no delimiter\n".replace("\n", "\r\n").removesuffix("\r\n"),
        )
        self.assertEqual(message.get_content()["Subject"], "Été")
        self.assertIn("é".encode(), message.get_content().get_payload(decode=True))
        self.assertEqual(pdf.get_filename(), 'Überraschung "1".pdf')
        self.assertEqual(pdf.get_content(), b"\0\0\0")
        self.assertNotIn("X-Spoken", parsed)
        self.assertEqual(parsed["Message-ID"], "<a@b>")
        self.assertTrue(letter.endswith("--ab--\r\népilogue\r\n".encode()))
        self.assertIn("\r\n\r\npréambule\r\n".encode(), letter)

    def test_parts_of_a_digest_are_messages(self) -> None:
        text = "Content-Type: multipart/digest; boundary=x\n\n--x\n\nX: é\nTo: a@b\n\né\n--x--\n"
        self.assertEqual(made(wire(text)), wire(text.replace("X: é\n", "")))

    def test_an_encoded_message_is_a_body(self) -> None:
        text = "Content-Type: message/global\nContent-Transfer-Encoding: quoted-printable\n\nX: é\n"
        self.assertEqual(made(wire(text)), wire(text))
        text = "Content-Type: message/global\n\nX: é\nY: a\n\né"
        self.assertEqual(made(wire(text)), wire(text.replace("X: é\n", "")))

    def test_a_part_without_a_body_ends_at_its_delimiter(self) -> None:
        text = "Content-Type: multipart/mixed; boundary=x\n\n--x\nX: é\n--x \t\nTo: a@b\n\né\n--x--\nX: é\n"
        self.assertEqual(made(wire(text)), wire(text.replace("X: é\n--x \t", "--x \t")))

    def test_parts_within_parts_end_with_those_around_them(self) -> None:
        inner = "Content-Type: multipart/mixed; boundary=in\n\n--in\n\né\n"
        text = f"Content-Type: multipart/mixed; boundary=out\n\n--out\n{inner}--out\nX: é\n\né\n--in\nX: é\n--out--\n"
        self.assertEqual(made(wire(text)), wire(text.replace("--out\nX: é\n", "--out\n")))

    def test_it_tells_whether_anything_had_to_be_changed(self) -> None:
        for text, changed in ((MULTIPART, True), ("Subject: a\n\né", False), ("X: é\n\n", True), ("", False)):
            letter = Surrogate()
            letter.feed(wire(text))
            letter.end()
            self.assertEqual(letter.changed, changed)

    def test_its_size_is_known_when_the_letter_has_gone_by(self) -> None:
        long = "To: a@b\n" * 10_000 + "Subject: é\n\n"
        for text in (MULTIPART, "Subject: é\n\né", "Subject: é", long, long + "é" * 100_000):
            for size in (1, 7, 1000, 1_000_000):
                if len(text) / size < 10_000:
                    self.assertEqual(_size(wire(text), size), len(made(wire(text))))
        for text in ("Subject: a\n\né", "Subject: a", "", "Content-Type: message/rfc822\n\nSubject: a\n\né"):
            self.assertIsNone(_size(wire(text), 7))

    def test_its_size_is_known_where_only_a_part_has_a_header_that_is_not_ascii(self) -> None:
        named = "Content-Disposition: attachment; filename=é.pdf\n\né\n"
        for text in (
            f"Content-Type: MULTIPART/mixed; boundary=x\n\n--x\n\n{'a' * 1000}\n--x\n{named}--x--\n",
            f"Content-Type: message/rfc822\n\n{named}",
            f"Content-Type: multipart/digest; boundary=x\n\n--x\n\n{named}--x--\n",
        ):
            for size in (1, 7, 1000, 1_000_000):
                if len(text) / size < 10_000:
                    self.assertEqual(_size(wire(text), size), len(made(wire(text))))

    def test_what_is_small_and_ascii_is_not_even_looked_at(self) -> None:
        content = (b"Subject: a\r\n\r\nb\r\n",)
        self.assertIs(surrogate(content), content)


def _size(letter: bytes, chunk: int) -> int | None:
    measure = SurrogateSize()
    for octet in range(0, len(letter), chunk):
        measure.feed(letter[octet : octet + chunk])
    return measure.end()


PIECES = [
    *(b"\r\n", b"\r", b"\n", b"--", b"-", b"--a", b"--a--", b"\r\n--a\r\n", b"\r\n--b--\r\n", b" ", b"\t", b"\r\n\r\n"),
    *(b"Content-Type: multipart/mixed; boundary=a\r\n", b'Content-Type: multipart/digest; boundary="b"\r\n'),
    *(b"Content-Type: message/rfc822\r\n", b"Subject: ", b"From: ", b"To: a <", b"Content-Disposition: a; filename="),
    *(
        "é".encode(),
        b"\xe9",
        b"\xff",
        b"@",
        b",",
        b";",
        b'"',
        b"(",
        b"<",
        b">",
        b":",
        b"=?utf-8?q?",
        b"x" * 1100,
        b"y\r\n",
    ),
]
SMALL_HEADER = 300  # so that some are too long
contents = st.lists(st.sampled_from(PIECES) | st.binary(max_size=10), max_size=40).map(b"".join)


class AnyOctets(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(module, "MAX_HEADER", SMALL_HEADER)

    @given(contents, st.lists(st.integers(0, 5000), max_size=8))
    @settings(max_examples=1500, deadline=None)
    def test_the_surrogate_is_the_same_wherever_the_letter_is_cut(self, content: bytes, cuts: list[int]) -> None:
        whole = made(content)
        self.assertEqual(made(*cut(content, cuts)), whole)
        self.assertEqual(made(*(content[octet : octet + 1] for octet in range(len(content)))), whole)

    @given(contents, st.integers(1, 500))
    @settings(max_examples=1500, deadline=None)
    def test_its_size_is_what_comes_out(self, content: bytes, chunk: int) -> None:
        size = _size(content, chunk)
        self.assertEqual(len(content) if size is None else size, len(made(content)))

    @given(contents)
    @settings(max_examples=1500, deadline=None)
    def test_its_header_is_ascii_and_it_is_its_own_surrogate(self, content: bytes) -> None:
        once = made(content)
        header = (b"\r\n" + once).partition(b"\r\n\r\n")[0]
        self.assertTrue(header.isascii())
        self.assertEqual(made(once), once)
        if content.isascii():
            self.assertEqual(once, content)
