"""The languages of POP3's replies: nothing that we say is without its words in each."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mailbe
from mailbe.pop3 import replies, session
from mailbe.pop3.languages import FRENCH, I_DEFAULT, LANGUAGES, LISTING, matching
from mailbe.session import Reply

PACKAGE = Path(mailbe.__file__).parent
SOURCES = [*sorted((PACKAGE / "pop3").glob("*.py")), PACKAGE / "sasl.py"]
SAYING = {"ok", "err", "listing", "text", "Refusal", "Malformed", "Refused"}
NO_TEXT = {"{} {}"}  # what a program reads


def said() -> Iterator[str]:
    """Every text in a call that makes a reply; ``{}`` stands for what is worked out."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            match node.args[0]:
                case ast.IfExp(body=ast.Constant(value=str() as one), orelse=ast.Constant(value=str() as other)):
                    yield from (one, other)
                case ast.Constant(value=str() as text) if name in SAYING:
                    yield text
                case ast.JoinedStr(values=values) if name in SAYING:
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in values)
                case ast.Constant(value=bytes() as octets) if name == "Reply" and octets.startswith((b"+OK", b"-ERR")):
                    yield octets.decode().partition(" ")[2].strip()


def _line(reply: Reply) -> str:
    assert isinstance(reply.octets, bytes)
    return reply.octets.decode().removesuffix("\r\n")


class Texts(SynchronousTestCase):
    def test_every_text_is_there_in_french_and_none_that_nobody_says(self) -> None:
        texts = set(said()) - NO_TEXT
        self.assertGreater(len(texts), 50)
        self.assertEqual(texts - set(FRENCH), set())
        self.assertEqual(set(FRENCH) - texts, set())

    def test_numbers_keep_their_place(self) -> None:
        for text, its in FRENCH.items():
            fields = [
                [name for _, name, _, _ in string.Formatter().parse(one) if name is not None] for one in (text, its)
            ]
            self.assertEqual(fields[0], fields[1], text)
            self.assertEqual([c for c in text if c.isdigit()], [c for c in its if c.isdigit()], text)

    def test_english_is_ascii(self) -> None:
        self.assertTrue(all(text.isascii() for text in FRENCH))

    def test_no_line_is_longer_than_a_reply_may_be(self) -> None:
        for its in FRENCH.values():  # RFC 2449 4
            self.assertLess(len(f"-ERR [LOGIN-DELAY] {its}\r\n".encode()), 512 - 20)


class Saying(SynchronousTestCase):
    french = LANGUAGES[-1]

    def test_only_the_text_changes(self) -> None:
        for reply, line in (
            (replies.ok("2 messages, 55 octets"), "+OK 2 messages, 55 octets"),
            (replies.err("no such message"), "-ERR pas de tel message"),
            (
                replies.err("the name or the password is wrong", "AUTH"),
                "-ERR [AUTH] le nom ou le mot de passe est faux",
            ),
            (replies.ok("1 1234.M5P6.here"), "+OK 1 1234.M5P6.here"),
            (Reply(b"+ TUFJTA==\r\n"), "+ TUFJTA=="),
            (Reply(b"", last=True), ""),
        ):
            its = self.french.said(reply)
            self.assertEqual(_line(its), line)
            self.assertEqual(
                (its.last, its.error, its.effect, its.tls), (reply.last, reply.error, reply.effect, reply.tls)
            )

    def test_what_stands_below_the_first_line_does_not(self) -> None:
        content = b"no such message\r\n-ERR no such message\r\n"
        for size in (len(content), replies.SMALL + 1):  # in one piece, and in several
            octets = self.french.said(replies.text(f"{size} octets", [content], size)).octets
            whole = octets if isinstance(octets, bytes) else b"".join(octets)
            self.assertEqual(whole, b"+OK %d octets\r\n%s.\r\n" % (size, content))
            octets = self.french.said(replies.text("the top follows", [content], size)).octets
            whole = octets if isinstance(octets, bytes) else b"".join(octets)
            self.assertEqual(whole, "+OK le début suit\r\n".encode() + content + b".\r\n")

    def test_a_session_in_no_language_pays_nothing(self) -> None:
        for language in LANGUAGES[:2]:
            reply = replies.ok("good-bye")
            self.assertIs(language.said(reply), reply)

    def test_everything_that_a_state_says_by_itself_changes(self) -> None:
        for state in (session.Authorization, session.Transaction):
            for reply in (*state.refusals.values(), state.fault, *map(Reply, state.farewells.values())):
                self.assertNotEqual(self.french.said(reply).octets, reply.octets)


class Matching(SynchronousTestCase):
    def test_a_range_finds_the_nearest_language(self) -> None:
        for wanted, tag in (
            ("*", "i-default"),
            ("i-default", "i-default"),
            ("I-DEFAULT", "i-default"),
            ("en", "en"),
            ("en-GB", "en"),
            ("FR", "fr"),
            ("fr-Latn-CA", "fr"),
        ):
            language = matching(wanted)
            self.assertEqual(language and language.tag, tag)
        for wanted in ("i", "de", "mul", "frx", "e", "x-fr"):
            self.assertIsNone(matching(wanted), wanted)
        self.assertIs(matching("*"), I_DEFAULT)

    def test_the_listing_has_each_with_its_description(self) -> None:
        self.assertEqual(LISTING, ["i-default English", "en English", "fr français"])
