"""The pages: what they show to whom, what their forms do, and what they refuse."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailbe.accounts.guard import Locked
from mailbe.interfaces import BadName, BadNewPassword, TooOften, TryLater
from mailbe.listening import Listening, Port
from mailbe.web.exchange import Answer
from mailbe.web.language import LANGUAGES, best
from mailbe.web.site import AUTOCONFIG
from tests.surfing import CA, ELSEWHERE, FORM, TOLD, Browser, Web, errors, summary, text

PAGES = ("/", "/register", "/register/done", "/password", "/password/done", "/thunderbird", "/no-such-page")
NEW = {"name": "bob", "password": "mock-turtle", "again": "mock-turtle"}
CHANGE = {"name": "alice", "old": "white-rabbit", "password": "cheshire-cat", "again": "cheshire-cat"}


class WebCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self, registration: str = "open", **options: object) -> None:
        self.web = Web(registration, **options)  # type: ignore[arg-type]
        self.browser = Browser(self, self.web)

    def assert_sees_other(self, answer: Answer, target: str) -> None:
        self.assertEqual((answer.status, answer.headers["Location"]), (303, target))


class Registering(WebCase):
    def test_who_fills_in_the_form_has_an_account_and_is_told_what_comes_next(self) -> None:
        answer = self.browser.fill_in("/register", **NEW)
        self.assert_sees_other(answer, "/register/done")
        self.assertEqual(self.web.world.passwords["bob@example.org"], b"mock-turtle")
        done = text(self.browser.get("/register/done"))
        self.assertIn("<b>bob@example.org</b>", done)
        self.assertIn('href="/thunderbird"', done)
        self.assertIn("<samp>bob@example.org</samp>", text(self.browser.get("/thunderbird")))

    def test_the_domain_is_chosen_or_written(self) -> None:
        self.browser.fill_in("/register", **NEW, domain="example.net")
        self.browser.fill_in("/register", **NEW | {"name": "carol@example.org"}, domain="example.net")
        self.assertLessEqual({"bob@example.net", "carol@example.org"}, set(self.web.world.passwords))
        self.assertIn('<option value="example.net">@example.net</option>', text(self.browser.get("/register")))

    def test_a_name_that_is_taken_is_told_beside_its_field_and_nothing_but_passwords_is_to_be_typed_again(self) -> None:
        answer = self.browser.fill_in("/register", **NEW | {"name": "alice"}, domain="example.org")
        self.assertEqual(answer.status, 409)
        self.assertEqual(set(errors(answer)), {"name"})
        self.assertIn('href="#name"', summary(answer))
        page = text(answer)
        self.assertIn('value="alice"', page)
        self.assertIn('<option value="example.org" selected>', page)
        self.assertNotIn("mock-turtle", page)
        self.assertIn("<title>Error: ", page)
        self.assertRegex(page, 'id="name"[^>]* aria-describedby="name-rule name-error" aria-invalid="true"')

    def test_what_is_missing_is_told_all_at_once_and_the_desk_is_not_asked(self) -> None:
        answer = self.browser.fill_in("/register", name=" ", password="", again="x")
        self.assertEqual(answer.status, 422)
        self.assertEqual(set(errors(answer)), {"name", "password"})
        self.assertEqual(self.web.desk.peers, [])

    def test_two_passwords_that_differ(self) -> None:
        answer = self.browser.fill_in("/register", **NEW | {"again": "mock turtle"})
        self.assertEqual((answer.status, set(errors(answer))), (422, {"again"}))
        self.assertNotIn("bob@example.org", self.web.world.passwords)

    def test_rules_are_told_with_their_numbers(self) -> None:
        answer = self.browser.fill_in("/register", name="bob", password="short", again="short")
        self.assertEqual(answer.status, 422)
        self.assertIn("8 characters or more", errors(answer)["password"])
        answer = self.browser.fill_in("/register", **NEW | {"name": "bob@elsewhere.example"})
        self.assertIn("example.org, example.net", errors(answer)["name"])
        self.assertIn("8 characters or more", text(self.browser.get("/register")))

    def test_every_reason_of_the_rules_has_its_sentence(self) -> None:
        for kind, field, reasons in (
            (BadName, "name", ("form", "reserved", "domain", "long")),
            (BadNewPassword, "password", ("short", "long", "characters", "easy", "same")),
        ):
            for reason in reasons:
                self.web.desk.failure = kind(reason)
                answer = self.browser.fill_in("/register", **NEW)
                self.assertEqual((answer.status, set(errors(answer))), (422, {field}))
                self.assertTrue(errors(answer)[field].endswith("."))

    def test_where_it_is_closed_there_is_no_form_and_no_way_round_it(self) -> None:
        self.begin("closed")
        self.assertNotIn("/register", text(self.browser.get("/")))
        self.assertNotIn("<form", text(self.browser.get("/register")))
        self.assertEqual(self.browser.post("/register", NEW).status, 403)
        self.assertEqual(self.web.desk.peers, [])

    def test_an_invitation_is_asked_for_looked_at_and_may_stand_in_the_link(self) -> None:
        self.begin("invitation")
        self.web.desk.invitations.add("k7mq")
        self.assertIn('value="k7mq"', text(self.browser.get("/register?invitation=k7mq")))
        self.assertEqual(set(errors(self.browser.fill_in("/register", **NEW))), {"invitation"})
        answer = self.browser.fill_in("/register", **NEW, invitation="wrong")
        self.assertEqual((answer.status, set(errors(answer))), (403, {"invitation"}))
        self.assert_sees_other(self.browser.fill_in("/register", **NEW, invitation="k7mq"), "/register/done")

    def test_where_none_is_needed_none_is_asked_for(self) -> None:
        self.assertNotIn("invitation", text(self.browser.get("/register")))

    def test_who_tries_too_often_is_told_when_to_come_again(self) -> None:
        for seconds, words in ((600, "in 10 min"), (3 * 3600, "in 3 h")):
            self.web.desk.failure = TooOften(self.web.now + seconds)
            answer = self.browser.fill_in("/register", **NEW)
            self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, str(seconds)))
            self.assertIn(words, summary(answer))
            self.assertEqual(errors(answer), {})

    def test_what_cannot_be_now_is_told_here_and_logged_there(self) -> None:
        self.web.desk.failure = TryLater("the disk is full")
        with capturedLogs() as events:
            answer = self.browser.fill_in("/register", **NEW)
        self.assertEqual(answer.status, 503)
        self.assertNotIn("the disk is full", text(answer))
        self.assertEqual([event["log_format"] for event in events], ["put off: {error}"])
        self.web.desk.failure.logged = True
        with capturedLogs() as events:
            self.browser.fill_in("/register", **NEW)
        self.assertEqual(events, [])

    def test_a_fault_of_ours_is_a_page_and_a_traceback_stays_in_the_log(self) -> None:
        self.web.desk.failure = ZeroDivisionError("a secret")
        answer = self.browser.fill_in("/register", **NEW)
        self.assertEqual(answer.status, 500)
        self.assertNotIn("secret", text(answer))
        self.assertNotIn("Traceback", text(answer))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_the_desk_learns_from_where_it_is_asked(self) -> None:
        self.browser.secure, self.browser.peer, self.browser.host = True, ELSEWHERE, "example.org"
        self.browser.fill_in("/register", **NEW)
        self.assertEqual(self.web.desk.peers, [ELSEWHERE])

    def test_what_strangers_type_is_text_and_never_markup(self) -> None:
        evil = '"><script>alert(1)</script>'
        page = text(self.browser.fill_in("/register", **NEW | {"name": evil}, domain=evil))
        self.assertNotIn("<script", page)
        self.assertIn("&lt;script&gt;", page)
        self.browser.cookies["mailbe-address"] = quote(evil)
        for path in ("/register/done", "/thunderbird", "/password", f"/register?invitation={quote(evil)}"):
            self.assertNotIn("<script", text(self.browser.get(path)))


class Changing(WebCase):
    def test_with_the_old_password_comes_a_new_one(self) -> None:
        self.assert_sees_other(self.browser.fill_in("/password", **CHANGE), "/password/done")
        self.assertEqual(self.web.world.passwords["alice@example.org"], b"cheshire-cat")
        self.assertEqual(self.browser.get("/password/done").status, 200)

    def test_a_wrong_old_password_changes_nothing_and_does_not_tell_whether_there_is_such_an_account(self) -> None:
        wrong = self.browser.fill_in("/password", **CHANGE | {"old": "queen-of-hearts"})
        nobody = self.browser.fill_in("/password", **CHANGE | {"name": "nobody"})
        for answer in (wrong, nobody):
            self.assertEqual((answer.status, set(errors(answer))), (403, {"old"}))
        self.assertEqual(errors(wrong), errors(nobody))
        self.assertEqual(self.web.world.passwords["alice@example.org"], b"white-rabbit")

    def test_who_is_locked_out_is_told_why_and_for_how_long(self) -> None:
        self.web.desk.failure = Locked("locked", self.web.now + 900, 0.0)
        answer = self.browser.fill_in("/password", **CHANGE)
        self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "900"))
        self.assertRegex(summary(answer), "too many wrong passwords.*in 15 min")

    def test_what_is_missing_is_told(self) -> None:
        answer = self.browser.fill_in("/password", name="alice")
        self.assertEqual(set(errors(answer)), {"old", "password", "again"})

    def test_a_new_password_is_bound_by_the_rules(self) -> None:
        answer = self.browser.fill_in("/password", **CHANGE | {"password": "short", "again": "short"})
        self.assertEqual((answer.status, set(errors(answer))), (422, {"password"}))


class Forgeries(WebCase):
    def assert_nothing_done(self) -> None:
        self.assertEqual(self.web.desk.peers, [])

    def test_a_form_without_the_token_of_this_browser_is_shown_again_and_not_obeyed(self) -> None:
        token = re.search('name="token" value="([^"]+)"', text(self.browser.get("/register")))
        assert token
        others = Browser(self, self.web)
        others.get("/register")
        for browser, sent in (
            (self.browser, {}),
            (self.browser, {"token": "x"}),
            (self.browser, {"token": ""}),
            (self.browser, {"token": "\xe9" * 32}),
            (others, {"token": token[1]}),
        ):
            answer = browser.post("/register", NEW | sent)
            self.assertEqual(answer.status, 403)
            self.assertIn('value="bob"', text(answer))
            self.assertIn("send it again", summary(answer))
        self.assert_nothing_done()

    def test_a_cookie_of_ours_is_needed_and_one_that_we_would_not_give_is_none(self) -> None:
        for cookie in ("", "x", "a" * 31, "ä" * 32):
            self.browser.cookies = {"mailbe-form": cookie}
            answer = self.browser.post("/register", NEW | {"token": cookie})
            self.assertEqual(answer.status, 403)
            self.assertEqual(len(answer.cookies), 1)
        self.assert_nothing_done()

    def test_the_form_that_is_shown_again_can_be_sent(self) -> None:
        again = self.browser.post("/register", NEW)
        token = re.search('name="token" value="([^"]+)"', text(again))
        assert token
        self.assert_sees_other(self.browser.post("/register", NEW | {"token": token[1]}), "/register/done")

    def test_what_another_site_has_a_browser_send_is_refused_forms_and_json(self) -> None:
        body = json.dumps(NEW).encode()
        for told in (
            {"origin": "https://elsewhere.example"},
            {"origin": "null"},
            {"origin": "https://localhost:2080"},
            {"origin": "http://localhost"},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
        ):
            self.assertEqual(self.browser.post("/register", NEW, **told).status, 403)
            answer = self.browser.ask("POST", "/register", body, content_type="application/json", **told)
            self.assertEqual(answer.status, 403)
        self.assert_nothing_done()

    def test_what_our_own_page_sends_is_taken(self) -> None:
        self.browser.headers = {"origin": "http://localhost:2080", "sec-fetch-site": "same-origin"}
        self.assert_sees_other(self.browser.fill_in("/register", **NEW), "/register/done")

    def test_cookies_stay_with_the_browser_and_with_this_host(self) -> None:
        (cookie,) = self.browser.get("/register").cookies
        self.assertRegex(cookie, r"^mailbe-form=[A-Za-z0-9_-]{32}; Path=/; HttpOnly; SameSite=Strict$")
        self.assertEqual(self.browser.get("/register").cookies, ())
        self.browser.secure = True
        (cookie,) = self.browser.get("/register").cookies
        self.assertRegex(cookie, r"^__Host-mailbe-form=.{32}; Path=/; HttpOnly; SameSite=Strict; Secure$")
        (cookie,) = self.browser.fill_in("/register", **NEW).cookies
        self.assertRegex(cookie, r"^__Host-mailbe-address=bob@example.org; .*Secure; Max-Age=600$")

    def test_what_is_no_form_is_refused(self) -> None:
        for kind, body, status in (
            ("multipart/form-data; boundary=x", b"", 415),
            ("text/plain", b"name=bob", 415),
            ("", b"name=bob", 415),
            (FORM, b"name=%ff", 400),
            (FORM, b"name=\xff", 400),
            (FORM, b"a=1&" * 30, 400),
        ):
            self.assertEqual(self.browser.ask("POST", "/password", body, content_type=kind).status, status, body)


class Programs(WebCase):
    def register(self, said: object, **headers: str) -> tuple[int, dict[str, str]]:
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        answer = self.browser.ask("POST", "/register", body, content_type="application/json", **headers)
        self.assertEqual(answer.content_type, "application/json")
        return answer.status, json.loads(answer.body)

    def test_they_learn_who_may_register(self) -> None:
        answer = self.browser.get("/register.json")
        self.assertEqual(json.loads(answer.body), {"registration": "open", "domains": ["example.org", "example.net"]})

    def test_they_register_without_a_token(self) -> None:
        self.assertEqual(self.register(NEW), (201, {"address": "bob@example.org"}))

    def test_each_refusal_has_a_code_and_a_sentence(self) -> None:
        for said, status, code in (
            (NEW | {"name": "alice"}, 409, "taken"),
            (NEW | {"name": "a b"}, 422, "name"),
            (NEW | {"password": "short"}, 422, "password"),
        ):
            got, told = self.register(said)
            self.assertEqual((got, told["error"]), (status, code))
            self.assertTrue(told["text"].endswith("."))
        self.assertIn("déjà", self.register(NEW | {"name": "alice"}, accept_language="fr")[1]["text"])
        for registration, code in (("closed", "closed"), ("invitation", "invitation")):
            self.begin(registration)
            status, told = self.register(NEW)
            self.assertEqual((status, told["error"]), (403, code))

    def test_who_tries_too_often_is_told_when_to_come_again(self) -> None:
        self.web.desk.failure = TooOften(self.web.now + 60)
        self.assertEqual(self.register(NEW)[0], 429)

    def test_what_is_no_sense_is_told_in_one_line(self) -> None:
        for said in (
            b"", b"{", b"\xff", b"[]", b"null", b"1", b'"name"', b"{}", {"name": "bob"}, {"name": 1, "password": "x"},
            {"name": "bob", "password": None}, {"name": "bob", "password": "x", "invitation": ["x"]}, b"[" * 5000,
        ):  # fmt: skip
            status, told = self.register(said)
            self.assertEqual((status, told["error"]), (400, "request"), said)


class Looking(WebCase):
    def test_every_page_says_how_browsers_are_to_treat_it(self) -> None:
        for path in (*PAGES, "/style.css", "/icon.svg", "/ca.pem", "/register.json", *AUTOCONFIG):
            headers = self.browser.get(path).headers
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            self.assertIn("frame-ancestors 'none'", headers["Content-Security-Policy"])
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(headers["Referrer-Policy"], "same-origin")
            self.assertIn("Cache-Control", headers)
            self.assertNotIn("Strict-Transport-Security", headers)

    def test_only_a_certificate_that_others_vouch_for_binds_browsers_to_tls(self) -> None:
        for certified, secure, bound in ((True, True, True), (True, False, False), (False, True, False)):
            self.begin(certified=certified)
            self.browser.secure = secure
            self.assertEqual("Strict-Transport-Security" in self.browser.get("/").headers, bound)

    def test_no_page_brings_code_or_asks_others_for_anything(self) -> None:
        for path in PAGES:
            page = text(self.browser.get(path))
            self.assertNotRegex(page, r"(?i)<script|\son\w+=|style=|javascript:")
            for link in re.findall(r'(?:href|src|action)="([^"]*)"', page):
                self.assertRegex(link, r"^(/[^/]|/$|#|\?lang=)")

    def test_every_page_is_whole_and_can_be_read_out(self) -> None:
        for language in LANGUAGES:
            for path in PAGES:
                answer = self.browser.get(f"{path}?lang={language}")
                self.assertEqual(answer.headers["Content-Language"], language)
                self.assertIn(f'<html lang="{language}">', text(answer))
                page = Reader(text(answer))
                self.assertEqual(page.open, [], path)
                self.assertEqual((page.count["h1"], page.count["main"], page.count["title"]), (1, 1, 1))
                self.assertEqual(page.labelled, page.fields - page.hidden)

    def test_what_fills_in_passwords_knows_the_fields(self) -> None:
        for path, wanted in (
            ("/register", ["username", "new-password", "new-password"]),
            ("/password", ["username", "current-password", "new-password", "new-password"]),
        ):
            self.assertEqual(re.findall('autocomplete="([^"]+)"', text(self.browser.get(path))), wanted)

    def test_the_style_may_be_kept_for_good_and_the_pages_not_at_all(self) -> None:
        (link,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', text(self.browser.get("/")))
        style = self.browser.get(link)
        self.assertEqual((style.status, style.content_type), (200, "text/css; charset=utf-8"))
        self.assertIn("immutable", style.headers["Cache-Control"])
        for path in PAGES:
            self.assertEqual(self.browser.get(path).headers["Cache-Control"], "no-store")

    def test_colours_can_be_told_apart_by_day_and_by_night(self) -> None:
        by_day, by_night = re.findall(r":root \{(.*?)\}", self.browser.get("/style.css").body.decode(), re.DOTALL)
        for css in (by_day, by_night):
            colours = {name: luminance(value) for name, value in re.findall(r"--([\w-]+): #(\w{6});", css)}
            for ink, paper in (
                *((ink, paper) for ink in ("ink", "faint", "link", "wrong") for paper in ("paper", "sheet")),
                *(("ink", "wrong-paper"), ("wrong", "wrong-paper"), ("deed-ink", "deed")),
            ):
                dark, light = sorted((colours[ink], colours[paper]))
                self.assertGreaterEqual((light + 0.05) / (dark + 0.05), 4.5, f"{ink} on {paper}")  # WCAG 1.4.3, AA
            for line in ("edge", "wrong"):
                dark, light = sorted((colours[line], colours["paper"]))
                self.assertGreaterEqual((light + 0.05) / (dark + 0.05), 3, line)  # WCAG 1.4.11

    def test_only_the_methods_of_a_page_are_taken(self) -> None:
        for method, path, allowed in (
            ("POST", "/", "HEAD, GET"),
            ("DELETE", "/register", "HEAD, GET, POST"),
            ("get", "/", "HEAD, GET"),
        ):
            answer = self.browser.ask(method, path)
            self.assertEqual((answer.status, answer.headers["Allow"]), (405, allowed))
        self.assertEqual(self.browser.ask("POST", "/autodiscover/autodiscover.xml", b"<x/>").status, 404)


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance."""
    shares = [int(colour[begin : begin + 2], 16) / 255 for begin in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class Reader(HTMLParser):
    """What a page is made of."""

    EMPTY = {"meta", "link", "input", "rect", "path"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.fields: set[str] = set()
        self.hidden: set[str] = set()
        self.labelled: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag in ("input", "select"):
            self.fields.add(str(told["name"]))
            if told.get("type") == "hidden":
                self.hidden.add(str(told["name"]))
            else:
                assert told["id"] == told["name"]
        if tag == "label":
            self.labelled.add(str(told["for"]))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag, tag


class Hosts(WebCase):
    def test_pages_are_given_under_our_own_names_and_by_number(self) -> None:
        for host in (
            "localhost", "LOCALHOST:80", "127.0.0.1:2080", "[::1]:2080", "192.0.2.1", "example.org", "Example.NET:8443",
            "mail.example.org", "autoconfig.example.net", "example.org.",
        ):  # fmt: skip
            self.browser.host = host
            self.assertEqual(self.browser.get("/").status, 200, host)

    def test_a_domain_that_is_added_is_a_name_of_ours_at_once(self) -> None:
        self.browser.host = "added.example"
        self.assertEqual(self.browser.get("/").status, 421)
        self.web.desk.domains = (*self.web.desk.domains, "Added.example")
        self.assertEqual(self.browser.get("/").status, 200)

    def test_under_the_name_of_a_stranger_there_are_none(self) -> None:
        # Else a page of his, whose name leads to this machine a moment later, could read and send ours.
        for host in (
            "elsewhere.example",
            "example.org.elsewhere.example",
            "notexample.org",
            "localhost.example",
            "1.2",
        ):
            self.browser.host = host
            self.assertEqual(self.browser.get("/").status, 421, host)
            self.assertEqual(self.browser.get(AUTOCONFIG[0]).status, 421, host)

    def test_what_is_no_host_is_told(self) -> None:
        for host in ("a b", "example.org:99999999", "example.org@elsewhere", "[::1", "example.org/x", ""):
            self.browser.host = host
            self.assertEqual(self.browser.get("/").status, 400, host)

    def test_without_tls_others_are_sent_to_it_and_get_nothing_else(self) -> None:
        self.browser.peer, self.browser.host = ELSEWHERE, "example.org:2080"
        for method, target in (("GET", "/"), ("GET", "/register?lang=fr"), ("POST", "/password"), ("GET", "/nothing")):
            answer = self.browser.ask(method, target)
            self.assertEqual(answer.status, 308)
            self.assertEqual(answer.headers["Location"], f"https://example.org:2080{target}")
            self.assertEqual(answer.headers["Cache-Control"], "no-store")
            self.assertEqual(answer.headers["Vary"], "Accept-Language")
            self.assertEqual(answer.cookies, ())
        self.browser.secure = True
        self.assertEqual(self.browser.get("/").status, 200)

    def test_they_are_sent_to_a_port_that_is_there(self) -> None:
        for ports, where in (((80,), "example.org:80"), ((80, 443), "example.org"), ((2080,), "example.org")):
            self.begin(told=replace(TOLD, ports=tuple(Port("http", "192.0.2.1", port) for port in ports)))
            self.browser.peer, self.browser.host = ELSEWHERE, "example.org"
            self.assertEqual(self.browser.get("/").headers["Location"], f"https://{where}/")

    def test_mail_programs_are_answered_without_tls_too(self) -> None:
        self.browser.peer, self.browser.host = ELSEWHERE, "autoconfig.example.org"
        for path in AUTOCONFIG:
            self.assertEqual(self.browser.get(f"{path}?emailaddress=bob@example.org").status, 200)


class MailPrograms(WebCase):
    def test_they_get_the_settings_of_their_domain(self) -> None:
        for path in AUTOCONFIG:
            for query in ("", "?emailaddress=bob@example.net", "?emailaddress=bob%40EXAMPLE.ORG"):
                answer = self.browser.get(path + query)
                self.assertEqual((answer.status, answer.content_type), (200, "text/xml; charset=utf-8"))
                self.assertIn("<port>995</port>", text(answer))
                self.assertIn("http://localhost:2080/thunderbird", text(answer))
            self.assertEqual(self.browser.get(f"{path}?emailaddress=bob@elsewhere.example").status, 404)

    def test_the_authority_is_given_where_there_is_one(self) -> None:
        answer = self.browser.get("/ca.pem")
        self.assertEqual((answer.content_type, answer.body), ("application/x-x509-ca-cert", CA))
        self.assertIn("attachment", answer.headers["Content-Disposition"])
        self.begin(certified=True)
        self.assertEqual(self.browser.get("/ca.pem").status, 404)
        self.assertNotIn("ca.pem", text(self.browser.get("/thunderbird")))

    def sides(self) -> tuple[dict[str, str], ...]:
        """The values of the incoming server, and those of the outgoing one."""
        tables = re.findall(r"<table>.*?</table>", text(self.browser.get("/thunderbird")), re.DOTALL)
        cells = [re.findall(r"<tr><th[^>]*>(.*?)</th><td>(.*?)</td></tr>", table) for table in tables]
        return tuple({name: re.sub("<[^>]+>", "", value) for name, value in rows} for rows in cells)

    def test_people_get_the_very_values(self) -> None:
        self.browser.peer, self.browser.secure, self.browser.host = ELSEWHERE, True, "example.org"
        incoming = {
            "Protocol": "POP3",
            "Hostname": "example.org",
            "Port": "995",
            "Connection security": "SSL/TLS",
            "Authentication method": "Normal password",
            "Username": "you@example.org",
        }
        self.assertEqual(self.sides(), (incoming, incoming | {"Protocol": "SMTP", "Port": "465"}))

    def test_on_this_machine_they_are_those_of_this_machine(self) -> None:
        told = replace(TOLD, ports=(Port("pop3s", "127.0.0.1", 2995), Port("submission", "127.0.0.1", 2587)))
        self.begin(told=told)
        incoming, outgoing = self.sides()
        for side, port, security in ((incoming, "2995", "SSL/TLS"), (outgoing, "2587", "STARTTLS")):
            self.assertEqual((side["Hostname"], side["Port"]), ("localhost", port))
            self.assertEqual(side["Connection security"], security)

    def test_a_classic_server_knows_no_log_in_to_send(self) -> None:
        self.begin(told=replace(TOLD, classic=True))
        self.assertEqual(
            [side["Authentication method"] for side in self.sides()], ["Normal password", "No Authentication"]
        )

    def test_where_nothing_can_be_reached_that_is_told(self) -> None:
        self.begin(told=Listening(("example.org",), (), classic=False, has_authority=True))
        page = text(self.browser.get("/thunderbird"))
        self.assertIn("no port", page)
        self.assertNotIn("<table", page)

    def test_by_itself_thunderbird_finds_what_stands_at_the_usual_port_alone(self) -> None:
        for host, wanted in (("localhost", True), ("[::1]", True), ("localhost:2080", False), ("[::1]:2080", False)):
            self.browser.host = host
            page = text(self.browser.get("/thunderbird"))
            self.assertEqual("Thunderbird finds the settings" in page, wanted, host)
            self.assertEqual("Manual configuration" in page, not wanted, host)


class Languages(WebCase):
    def test_the_browsers_user_is_asked_which_he_likes_best(self) -> None:
        for accepted, language in (
            ("", "en"),
            ("fr", "fr"),
            ("fr-CA,en;q=0.5", "fr"),
            ("en;q=0.5, FR;q=0.8", "fr"),
            ("de,fr;q=0.1", "fr"),
            ("de", "en"),
            ("*", "en"),
            ("fr;q=0", "en"),
            ("fr;q=x", "en"),
            ("fr;q=nan", "en"),
            ("en,fr", "en"),
            ("fr;level=1;q=0.9,en;q=0.3", "fr"),
            (",;,;q=", "en"),
            (",".join(["de"] * 1000 + ["fr"]), "en"),
        ):
            self.assertEqual(best(accepted), language, accepted)

    def test_the_answer_says_that_it_depends_on_that(self) -> None:
        answer = self.browser.get("/", accept_language="fr")
        self.assertEqual((answer.headers["Content-Language"], answer.headers["Vary"]), ("fr", "Accept-Language"))

    def test_a_choice_by_hand_counts_more_and_goes_on(self) -> None:
        self.browser.headers = {"accept-language": "en"}
        page = text(self.browser.get("/?lang=fr"))
        for link in ("/register", "/password", "/thunderbird"):
            self.assertIn(f'href="{link}?lang=fr"', page)
        self.assertIn('action="/register?lang=fr"', text(self.browser.get("/register?lang=fr")))
        token = re.search('name="token" value="([^"]+)"', text(self.browser.get("/register")))
        assert token
        self.assert_sees_other(
            self.browser.post("/register?lang=fr", NEW | {"token": token[1]}), "/register/done?lang=fr"
        )
        self.assertEqual(self.browser.get("/?lang=tlh").headers["Content-Language"], "en")

    def test_who_chooses_another_language_keeps_his_invitation(self) -> None:
        self.begin("invitation")
        page = text(self.browser.get("/register?invitation=k7mq-x3wz&lang=fr"))
        self.assertIn('href="?invitation=k7mq-x3wz&amp;lang=en"', page)

    def test_both_say_the_same(self) -> None:
        english, french = LANGUAGES["en"], LANGUAGES["fr"]
        self.assertEqual(set(english), set(french))
        for name in english:
            for what in (r"\{\w*\}", r"</?\w+>"):
                self.assertEqual(sorted(re.findall(what, english[name])), sorted(re.findall(what, french[name])), name)

    def test_french_breaks_no_line_before_a_sign_of_two_parts(self) -> None:
        for name, words in LANGUAGES["fr"].items():
            self.assertNotRegex(words, r"[ \w>][;!?»](?!\w)|[ \w>]:(?!//)|« ", name)
            self.assertNotIn("'", words, name)
