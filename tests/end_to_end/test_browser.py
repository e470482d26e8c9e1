"""The pages in a real browser: registering and changing one's password, with scripts and without, in two languages."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailbe.web.words import english, french
from tests.end_to_end.browser import Browser, accessible_names, shared
from tests.end_to_end.programs import needs
from tests.end_to_end.server import (
    ALICE,
    PASSWORDS,
    QUICK,
    WITH_PAGES,
    EndToEndTestCase,
    Server,
    give_accounts,
    mailbe,
    manage,
)
from tests.end_to_end.test_guard import GUESSES, LOCKED, OPEN, WRONG, user_pass
from tests.end_to_end.wire import Wire

CAROL, PASSWORD, NEW = "carol@localhost", "dormouse-teapot-5", "hookah-caterpillar-3"
NO_BREAK = "\N{NO-BREAK SPACE}"  # which a driver reads as a space
WORDS = {
    language: {name: text.replace(NO_BREAK, " ") for name, text in words.items()}
    for language, words in (("en", english.WORDS), ("fr", french.WORDS))
}
KINDS = tuple((language, javascript) for language in WORDS for javascript in (True, False))
PAGES = ("/", "/register", "/password", "/thunderbird", "/nowhere")
TELEPHONE = (360, 640)  # pixels


def log_in(server: Server, address: str, password: str) -> str:
    """What POP3 answers to this password."""
    with Wire(server.pop3) as wire:
        wire.reply()
        reply = wire.say(f"USER {address}", f"PASS {password}")
        if reply.startswith("+OK"):
            wire.say("QUIT")
        return reply


def fingerprint(server: Server) -> str:
    """The SHA-256 of the server's public key, in base64, as who trusts its authority may see it."""
    with Wire(server.http) as wire:
        wire.start_tls(server.trusting(), "localhost")
        assert isinstance(wire.socket, ssl.SSLSocket)
        certificate = x509.load_der_x509_certificate(wire.socket.getpeercert(True) or b"")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


class BrowserCase(EndToEndTestCase):
    def serve_pages(self, registration: str = "open", *options: str) -> Server:
        """A running server with pages, and the account of alice."""
        maildata = self.scratch() / "maildata"
        give_accounts(maildata, ALICE)
        server = Server(maildata, *QUICK, "--registration", registration, *options, protocols=WITH_PAGES)
        self.addCleanup(server.close)
        return server.start()

    def browse(self, server: Server, path: str, language: str = "en", *, javascript: bool = True) -> Browser:
        """A browser on a page of the server, without anything from before."""
        browser = shared(language, javascript).forget()
        self.assertEqual(browser.runs_scripts(), javascript)
        browser.open(self.url(server, path))
        self.assertEqual(browser.language, language)
        return browser

    def url(self, server: Server, path: str, scheme: str = "http") -> str:
        return f"{scheme}://localhost:{server.http}{path}"

    def kinds(self, server: Server, path: str) -> Iterator[tuple[int, Browser, dict[str, str]]]:
        """Browsers of every kind on a page, each with its number and the words in its language."""
        for number, (language, javascript) in enumerate(KINDS):
            browser = self.browse(server, path, language, javascript=javascript)
            yield number, browser, WORDS[language]
            self.assertEqual(browser.complaints(), [])


@needs("chromium", "chromedriver")
class RegisteringTests(BrowserCase):
    def test_who_registers_is_let_in_over_pop3(self) -> None:
        server = self.serve_pages()
        for number, browser, words in self.kinds(server, "/register"):
            name = f"person{number}"
            browser.submit(name=name, password=PASSWORD, again=PASSWORD)
            self.assertEqual(browser.headline, words["registered.title"])
            self.assertIn(f"{name}@localhost", browser.text)
            self.assertRegex(log_in(server, f"{name}@localhost", PASSWORD), OPEN[1])
            self.assertIn(f"{name}@localhost registered from 127.0.0.1", server.stdout)
        self.assertNotIn(PASSWORD, server.stdout)

    def test_a_button_that_is_pressed_twice_registers_once_and_says_so(self) -> None:
        server = self.serve_pages()
        browser = self.browse(server, "/register").type(name="carol", password=PASSWORD, again=PASSWORD).press_twice()
        self.assertEqual(browser.headline, WORDS["en"]["registered.title"])
        self.assertEqual(server.stdout.count(f"{CAROL} registered"), 1)

    def test_a_duplicate_is_refused_beside_its_field_and_what_was_typed_stays(self) -> None:
        server = self.serve_pages()
        for _, browser, words in self.kinds(server, "/register"):
            browser.submit(name="Alice", password=PASSWORD, again=PASSWORD)
            self.assertIn(words["no.taken"], browser.error("name"))
            self.assertIn(words["no.taken"], browser.element("[role=alert]").text)
            self.assertEqual((browser.field("name"), browser.field("password")), ("Alice", ""))
            # And there it goes on.
        self.assertRegex(log_in(server, ALICE, PASSWORDS[ALICE]), OPEN[1])

    def test_a_bad_password_is_refused_with_the_reason_and_a_good_one_taken_on_the_same_page(self) -> None:
        server = self.serve_pages()
        for number, browser, words in self.kinds(server, "/register"):
            browser.submit(name=f"person{number}", password="password1", again="password1")
            self.assertIn(words["no.password.easy"], browser.error("password"))
            browser.submit(password=PASSWORD, again=PASSWORD + "x")
            self.assertIn(words["again.differs"], browser.error("again"))
            browser.submit(password=PASSWORD, again=PASSWORD)
            self.assertEqual(browser.headline, words["registered.title"])

    def test_an_invitation_is_good_for_one_account(self) -> None:
        server = self.serve_pages("invitation")
        for number, browser, words in self.kinds(server, "/register"):
            made = mailbe("--maildata", str(server.maildata), "invitation", "add")
            self.assertEqual(made.returncode, 0, made.stderr)
            code = made.stdout.strip()
            typed = {"password": PASSWORD, "again": PASSWORD, "invitation": code}
            browser.submit(name=f"first{number}", **typed | {"invitation": "k7mq-x3wz-9hfd-p2ra"})
            self.assertIn(words["no.invitation"], browser.error("invitation"))
            browser.submit(**typed)
            self.assertEqual(browser.headline, words["registered.title"])
            browser.open(self.url(server, "/register")).submit(name=f"second{number}", **typed)
            self.assertIn(words["no.invitation"], browser.error("invitation"))
            self.assertRegex(log_in(server, f"first{number}@localhost", PASSWORD), OPEN[1])
            self.assertNotIn(code, server.stdout)

    def test_where_nobody_registers_there_is_no_form(self) -> None:
        server = self.serve_pages("closed")
        for _, browser, words in self.kinds(server, "/register"):
            self.assertEqual(browser.headline, words["closed.title"])
            self.assertEqual(browser.elements("form"), [])

    def test_in_tls_too(self) -> None:
        server = self.serve_pages()
        with Browser(self.scratch(), trusting=fingerprint(server)) as browser:
            browser.open(self.url(server, "/register", "https"))
            browser.submit(name="carol", password=PASSWORD, again=PASSWORD)
            self.assertEqual(browser.headline, WORDS["en"]["registered.title"])
            self.assertTrue(browser.url.startswith("https:"))
            self.assertRegex(log_in(server, CAROL, PASSWORD), OPEN[1])
            self.assertEqual(browser.complaints(), [])

    def test_one_comes_from_the_first_page_to_an_address_with_the_keyboard_alone(self) -> None:
        server = self.serve_pages()
        browser = self.browse(server, "/")
        browser.tab_to("a", WORDS["en"]["home.register"]).enter()
        for text in ("carol", PASSWORD, PASSWORD):
            browser.tab_to("input").keys(text)
        browser.enter()
        self.assertEqual(browser.headline, WORDS["en"]["registered.title"])
        self.assertRegex(log_in(server, CAROL, PASSWORD), OPEN[1])


@needs("chromium", "chromedriver")
class PasswordTests(BrowserCase):
    def test_the_new_one_works_over_pop3_and_the_old_one_does_not(self) -> None:
        server = self.serve_pages()
        old, new = PASSWORDS[ALICE], NEW
        for number, browser, words in self.kinds(server, "/password"):
            self.assertRegex(log_in(server, ALICE, old), OPEN[1])
            name = ("alice", ALICE)[number % 2]
            browser.submit(name=name, old=old, password=new, again=new)
            self.assertEqual(browser.headline, words["changed.title"])
            self.assertRegex(log_in(server, ALICE, new), OPEN[1])
            self.assertRegex(log_in(server, ALICE, old), WRONG[1])
            old, new = new, f"{new}{number}"
        self.assertEqual(server.stdout.count(f"{ALICE} changed the password from 127.0.0.1"), len(KINDS))

    def test_a_wrong_old_one_changes_nothing(self) -> None:
        server = self.serve_pages()
        for _, browser, words in self.kinds(server, "/password"):
            browser.submit(name=ALICE, old=GUESSES[0], password=NEW, again=NEW)
            self.assertIn(words["no.wrong"], browser.text)
            self.assertEqual((browser.field("name"), browser.field("old")), (ALICE, ""))
        self.assertRegex(log_in(server, ALICE, PASSWORDS[ALICE]), OPEN[1])

    def test_three_different_wrong_ones_lock_the_account_as_pop3_sees_too(self) -> None:
        server = self.serve_pages()
        for _, browser, words in self.kinds(server, "/password"):
            for guess in GUESSES:
                browser.submit(name=ALICE, old=guess, password=NEW, again=NEW)
                self.assertIn(words["no.wrong"], browser.text)
            browser.submit(name=ALICE, old=PASSWORDS[ALICE], password=NEW, again=NEW)
            self.assertIn(words["no.slow.locked"], browser.text)
            self.assertIn(words["again.in.minutes"].format(count=15), browser.text)
            self.assertRegex(log_in(server, ALICE, PASSWORDS[ALICE]), LOCKED[1])
            manage(server.maildata, "unlock", ALICE)
            self.assertRegex(log_in(server, ALICE, PASSWORDS[ALICE]), OPEN[1])
        logged = [line for line in server.stdout.splitlines() if "log-in failed: " in line]
        reasons = [*["wrong-password"] * 3, *["locked"] * 2] * len(KINDS)
        self.assertEqual([line.rpartition("reason=")[2] for line in logged], reasons)

    def test_what_pop3_has_locked_is_locked_here_too(self) -> None:
        server = self.serve_pages()
        browser = self.browse(server, "/password")  # before, as to begin may take it more than a minute of the 15
        for guess in GUESSES:
            self.assertRegex(user_pass(server, guess, "127.0.0.66"), WRONG[1])
        browser.submit(name=ALICE, old=PASSWORDS[ALICE], password=NEW, again=NEW)
        self.assertIn(WORDS["en"]["again.in.minutes"].format(count=15), browser.text)


@needs("chromium", "chromedriver")
class AnybodyTests(BrowserCase):
    def test_every_field_has_a_name_that_is_read_aloud_and_every_page_a_headline(self) -> None:
        server = self.serve_pages("invitation")
        for _, browser, _ in self.kinds(server, "/"):
            titles = set()
            for path in PAGES:
                browser.open(self.url(server, path))
                self.assertEqual(len(browser.elements("h1")), 1, path)
                controls = browser.elements("a, button, select, input:not([type=hidden])")
                self.assertNotIn("", accessible_names(controls), path)
                titles.add(browser.title)
            self.assertEqual(len(titles), len(PAGES))

    def test_every_page_has_room_on_a_telephone(self) -> None:
        server = self.serve_pages("invitation")
        for language in WORDS:
            with Browser(self.scratch(), language=language, size=TELEPHONE) as browser:
                for path in PAGES:
                    self.assertTrue(browser.open(self.url(server, path)).fits(), path)
                browser.open(self.url(server, "/register"))
                browser.submit(invitation="x", name="a b", password="short", again="other")
                self.assertTrue(browser.fits())

    def test_the_other_language_is_one_click_away_and_stays(self) -> None:
        server = self.serve_pages()
        browser = self.browse(server, "/")
        browser.follow("Français")
        self.assertEqual(browser.language, "fr")
        browser.follow(WORDS["fr"]["home.register"])
        self.assertEqual(browser.headline, WORDS["fr"]["register.title"])
        browser.submit(name="alice", password=PASSWORD, again=PASSWORD)
        self.assertIn(WORDS["fr"]["no.taken"], browser.error("name"))
        browser.submit(name="carol", password=PASSWORD, again=PASSWORD)
        self.assertEqual(browser.headline, WORDS["fr"]["registered.title"])
