"""Every letter can be read, and none does anything but be read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.client.errors import NotSaved
from mailbe.client.html import as_text
from mailbe.client.reading import Attachment, Person, heading, read, safe_name, save

UNFIT = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"


def letter(head: str, body: str = "Hello\r\n") -> bytes:
    return (head.strip().replace("\n", "\r\n") + "\r\n\r\n").encode() + body.encode()


class Headings(SynchronousTestCase):
    def test_a_heading_is_read_from_the_header_alone(self) -> None:
        shown = heading(
            letter("From: =?utf-8?q?J=C3=B6rg?= <j@x.org>\nTo: a@x.org, \"B, C\" <b@x.org>\n"
                   "Subject: =?iso-8859-1?q?Gr=FC?=\n =?iso-8859-1?q?=DFe?= an alle\n"
                   "Date: Mon, 23 Nov 2026 08:00:00 +0200")
        )  # fmt: skip
        self.assertEqual((shown.sender, shown.recipients, shown.subject), ("Jörg", "a@x.org, B, C", "Grüße an alle"))
        self.assertEqual(shown.date, datetime(2026, 11, 23, 8, tzinfo=timezone(timedelta(hours=2))))

    def test_where_a_line_is_folded_a_space_stays(self) -> None:
        for head in (
            "=?utf-8?q?gr=C3=B6=C3=9Fer?=\n als",
            "=?utf-8?q?gr=C3=B6=C3=9Fe?=\n =?utf-8?q?r?=\n als",
            "größer\n als",
        ):
            self.assertEqual(heading(letter(f"Subject: {head}")).subject, "größer als")

    def test_what_is_missing_or_broken_is_empty(self) -> None:
        for head in ("X: y", "Date: tomorrow", "Date: 99 Foo 2026 99:99:99 +9999", "From:", "Subject:"):
            shown = heading(letter(head))
            self.assertEqual((shown.sender, shown.subject, shown.date), ("", "", None), head)

    def test_a_sender_that_nobody_can_make_out_is_shown_as_it_came(self) -> None:
        self.assertEqual(
            heading(letter("From: \x1b[2J] <mallory@x\nTo: undisclosed-recipients:;")).sender, "\\x1b[2J] <mallory@x"
        )

    def test_raw_octets_in_a_header_are_utf_8_or_marked(self) -> None:
        self.assertEqual(heading("Subject: Grüße\r\n\r\n".encode()).subject, "Grüße")
        self.assertEqual(heading(b"Subject: Gr\xfc\xdfe\r\n\r\n").subject, "Gr\ufffd\ufffde")

    def test_no_escape_sequence_comes_through_in_any_disguise(self) -> None:
        for disguise in ("\x1b[2J", "=?utf-8?q?=1B[2J?=", "=?utf-8?b?G1sySg==?=", "=?utf-16?b?GwBbADIASgA=?="):
            shown = heading(letter(f"Subject: {disguise}\nFrom: {disguise} <a@b>\nTo: {disguise}@x"))
            self.assertEqual(shown.subject, r"\x1b[2J", disguise)
            self.assertNotIn("\x1b", shown.sender + shown.recipients)


class Texts(SynchronousTestCase):
    def test_of_alternatives_the_plain_one_is_shown(self) -> None:
        message = EmailMessage()
        message.set_content("plain\n")
        message.add_alternative("<p>rich</p>", subtype="html")
        message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="Rechnung März.pdf")
        shown = read(message.as_bytes())
        self.assertEqual(shown.text, "plain\n")
        self.assertEqual(shown.attachments, (Attachment("Rechnung März.pdf", "application/pdf", b"%PDF"),))

    def test_html_alone_is_shown_as_text(self) -> None:
        message = EmailMessage()
        message.set_content("<p>Hello <b>you</b></p>", subtype="html")
        self.assertEqual(read(message.as_bytes()).text, "Hello you\n")

    def test_a_letter_in_a_letter_is_a_file(self) -> None:
        inner = EmailMessage()
        inner["Subject"] = "inner"
        inner.set_content("within\n")
        outer = EmailMessage()
        outer.set_content("outer\n")
        outer.add_attachment(inner)
        shown = read(outer.as_bytes())
        self.assertEqual(shown.text, "outer\n")
        (attached,) = shown.attachments
        self.assertEqual((attached.name, heading(attached.content).subject), ("letter.eml", "inner"))

    def test_a_header_of_utf8_is_read_wherever_it_stands(self) -> None:
        """RFC 6532 3.2, 3.7."""
        inner = "From: jörg@x.org\nSubject: größer\n\nwithin"
        shown = read(
            letter(
                "From: Ülo <jörg@bücher.example>\nContent-Type: multipart/mixed; boundary=b",
                "--b\r\n\r\ntext\r\n"
                '--b\r\nContent-Type: text/plain; name="größe.txt"\r\n\r\none\r\n'
                '--b\r\nContent-Disposition: attachment; filename="Плюс.txt"\r\n\r\ntwo\r\n'
                f"--b\r\nContent-Type: message/global\r\n\r\n{inner}\r\n"
                "--b\r\nContent-Type: message/global-headers\r\n\r\nSubject: größer\r\n\r\n--b--\r\n",
            )
        )
        self.assertEqual((shown.sender, shown.text), ((Person("Ülo", "jörg@bücher.example"),), "text"))
        self.assertEqual([one.name for one in shown.attachments], ["größe.txt", "Плюс.txt", *["letter.eml"] * 2])
        self.assertEqual(shown.attachments[2].content, inner.encode())
        self.assertEqual(heading(shown.attachments[3].content).subject, "größer")

    def test_strange_charsets_are_read_as_well_as_can_be(self) -> None:
        for charset in ("no-such", "base64", "idna", "punycode", "undefined", "unicode_escape", "utf-7", "a\x00b", ""):
            shown = read(letter(f'Content-Type: text/plain; charset="{charset}"', "caf\u00e9 \\x1b[2J\r\n"))
            self.assertIn("caf", shown.text, charset)
            self.assertNotRegex(shown.text, UNFIT)

    def test_parts_within_parts_without_end_are_shown_as_they_came(self) -> None:
        head = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(2000))
        shown = read(b"Subject: deep\n" + head.encode())
        self.assertEqual(shown.heading.subject, "deep")
        self.assertIn("--b1999", shown.text)

    def test_a_long_text_is_cut_where_it_is_shown(self) -> None:
        shown = read(b"\r\n" + b"x" * 1_000_010)
        self.assertTrue(shown.text.endswith("x\n[10 more characters]\n"))

    @given(st.binary(max_size=400))
    @example(
        b'From: =?utf-8?b?=?=\r\nTo: "\r\nContent-Type: =?\r\nContent-Disposition: attachment; filename*0*=\r\n\r\n'
    )
    @example(b"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x--")
    @example(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nxxx")
    @example(b"Content-Type: text/plain; charset*=x'y'%ff\r\n\r\n\xff")
    @example(b"Subject: =?utf-8?b?a?= =?x?q?=?=\r\n\r\n")
    def test_there_is_no_letter_that_cannot_be_shown(self, octets: bytes) -> None:
        shown = read(octets)
        names = [attachment.name for attachment in shown.attachments]
        for text in (shown.text, *(value for pair in shown.headers for value in pair), *names):
            self.assertNotRegex(text, UNFIT)
        heading(octets)

    @given(
        st.lists(
            st.sampled_from(
                [b"Content-Type: ", b"multipart/mixed", b"multipart/alternative", b"message/rfc822", b"; boundary=x",
                 b"message/global", b"\xc3\xb6", b"\xff",
                 b"\r\n--x\r\n", b"--x--", b"text/html", b"\r\n", b"; charset=", b"utf-7", b"Content-Disposition: ",
                 b"attachment; filename*0=", b"=?utf-8?q?", b"?=", b"From: ", b"<a@b>", b"\"", b"(",
                 b"Date: ", b"<!", b"&#",
                 b"Content-Transfer-Encoding: base64", b"x-uuencode", b"begin 644 \r\n", b";"]
            ),
            max_size=40,
        )
    )  # fmt: skip
    def test_nor_one_of_broken_pieces(self, pieces: list[bytes]) -> None:
        self.test_there_is_no_letter_that_cannot_be_shown.hypothesis.inner_test(self, b"".join(pieces))


class Html(SynchronousTestCase):
    def test_it_reads_like_a_text(self) -> None:
        html = (
            "<html><head><title>no</title><style>p{}</style></head><body><h1>News</h1><p>One &amp; two,<br>three</p>"
            "<script>alert(1)</script><ul><li>first<li>second</ul><table><tr><td>a</td><td>b</td></tr></table>"
            '<a href="https://evil.example/">https://bank.example/</a> <a href="mailto:x@y">x@y</a><img alt="logo">'
        )
        text = "News\n\nOne & two,\nthree\n\n- first\n- second\n\na b\n\n"
        self.assertEqual(as_text(html), f"{text}https://bank.example/ <https://evil.example/> x@y[logo]\n")

    def test_what_is_made_to_take_long_or_to_fail_is_read_at_once(self) -> None:
        for piece in (
            "<",
            "<!--",
            "<![",
            "</",
            "<a ",
            "<a href='",
            "<script>",
            "&#",
            "&a",
            "<?",
            "<a>x</a>",
            "<a\thref=",
        ):
            self.assertLess(len(as_text(piece * (200_000 // len(piece)))), 400_000, piece)
        self.assertEqual(as_text(f"a&#{'9' * 5000};b"), "a\ufffdb\n")
        self.assertTrue(as_text("x" * 400_000).endswith("x\n\n[the rest is left out]\n"))
        self.assertEqual(as_text("1 < 2 & 3 <!-- x > --> 4<![x 5> 6"), "1 < 2 & 3 4 6\n")

    def test_a_head_that_never_ends_hides_no_letter(self) -> None:
        self.assertEqual(as_text("<head><title>x</title><body>hello"), "hello\n")


class Saving(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        (self.folder / "in").mkdir(parents=True)

    def test_a_file_stays_in_its_folder_whatever_it_is_called(self) -> None:
        names = (
            "../up", "/etc/passwd", "..\\..\\win", "..", ".", "", ".bashrc", "-rf", "a\x00b", "x" * 300 + ".txt",
            "a\nb",
            "ü" * 200, "\u202egnp.exe", "C:\\x", "a/", "~", "x." + "y" * 300, "\ud800", ". .", "./.ssh/",
        )  # fmt: skip
        for name in names:
            path = save(Attachment(name, "text/plain", name.encode("utf-8", "replace")), self.folder / "in")
            self.assertEqual(path.parent, self.folder / "in")
            self.assertFalse(path.name.startswith((".", "-")), path)
            self.assertEqual(path.read_bytes(), name.encode("utf-8", "replace"))
        self.assertEqual(len(list((self.folder / "in").iterdir())), len(names))
        self.assertEqual([path.name for path in self.folder.iterdir()], ["in"])

    def test_a_good_name_is_kept(self) -> None:
        for name in ("photo.jpeg", "Rechnung März 2026.tar.gz", "README", "a-b_c (1).txt"):
            self.assertEqual(safe_name(name), name)

    def test_no_file_is_written_over_and_no_link_is_followed(self) -> None:
        there = self.folder / "in" / "a.txt"
        there.write_text("mine")
        (self.folder / "in" / "a-2.txt").symlink_to(self.folder / "elsewhere")
        path = save(Attachment("a.txt", "text/plain", b"theirs"), self.folder / "in")
        self.assertEqual((there.read_text(), path.name), ("mine", "a-3.txt"))
        self.assertFalse((self.folder / "elsewhere").exists())

    def test_a_folder_that_is_missing_is_told(self) -> None:
        error = self.assertRaises(NotSaved, save, Attachment("a", "text/plain", b""), self.folder / "none")
        self.assertIn("No such file or directory", str(error))


class People(SynchronousTestCase):
    def test_a_person_can_be_written_to_as_they_are_shown(self) -> None:
        self.assertEqual(str(Person("", "a@b")), "a@b")
        self.assertEqual(str(Person("Jörg Meier", "a@b")), "Jörg Meier <a@b>")
        self.assertEqual(str(Person('M, "J"', "a@b")), '"M, \\"J\\"" <a@b>')
