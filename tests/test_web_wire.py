"""HTTP over one connection: in whatever pieces a request comes, it is answered in its turn, or refused with a page."""

from __future__ import annotations

import contextlib
import ssl
import time
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailbe.limits import Limits
from mailbe.tls.certificates import Certificates, made
from mailbe.web.channel import AT_ONCE, MAX_BODY, MAX_FIELDS, MAX_HEADER, UNHEARD
from mailbe.web.door import CLIENT_SECONDS, CLOSING_SECONDS
from tests.surfing import FORM, Heard, Web, WebPort, Wire

HOME = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {FORM}", *headers]
    if not any(header.startswith("Transfer-Encoding") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class WireCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.port = WebPort(self.web)
        self.wire = self.port.connect()

    def heard(self, wire: Wire | None = None) -> Heard:
        (heard,) = (wire or self.wire).hear()
        return heard


class Requests(WireCase):
    def test_a_request_is_answered_in_whatever_pieces_it_comes(self) -> None:
        self.wire.say(HOME)
        whole = self.heard()
        self.assertEqual(whole.status, 200)
        self.assertIn(b"<h1>", whole.body)
        self.wire.say(*(bytes([octet]) for octet in HOME))
        self.assertEqual(self.heard().body, whole.body)
        self.assertFalse(self.wire.ending)

    def test_requests_that_come_together_are_answered_in_order(self) -> None:
        self.wire.say(HOME + b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n" + HOME[:10])
        self.assertEqual([heard.status for heard in self.wire.hear()], [200, 404])
        self.wire.say(HOME[10:])
        self.assertEqual(self.heard().status, 200)

    def test_what_comes_while_one_is_answered_waits_for_it(self) -> None:
        self.web.pace.slow = True
        body = b'{"name": "bob", "password": "mock-turtle"}'
        self.wire.say(post("/register", body).replace(FORM.encode(), b"application/json") + HOME)
        self.assertEqual(self.wire.hear(), [])
        self.web.pace.go()
        self.assertEqual([heard.status for heard in self.wire.hear()], [201, 200])

    def test_who_asks_much_at_once_lets_others_have_their_turn(self) -> None:
        self.wire.say(HOME * (3 * AT_ONCE))
        self.assertEqual(self.wire.octets().count(b"HTTP/1.1 200 OK"), AT_ONCE)
        self.assertEqual(len(self.wire.hear()), 2 * AT_ONCE)

    def test_who_does_not_read_is_answered_no_further_and_then_cut_off(self) -> None:
        self.wire.say(HOME)
        self.wire.hear()
        self.wire.transport.producer.pauseProducing()
        self.wire.say(HOME * 2)
        self.assertEqual(self.wire.hear(), [])
        self.wire.transport.producer.resumeProducing()
        self.assertEqual(len(self.wire.hear()), 2)
        self.wire.transport.producer.pauseProducing()
        self.wire.say(HOME)
        self.port.clock.advance(CLIENT_SECONDS)
        self.assertTrue(self.wire.transport.aborted)
        self.wire.lose()
        self.assertEqual((self.wire.hear(), self.port.listener.doorways), ([], set()))

    def test_who_does_not_read_while_he_is_answered_is_not_listened_to_until_he_does(self) -> None:
        self.web.pace.slow = True
        body = b'{"name": "bob", "password": "mock-turtle"}'
        self.wire.say(post("/register", body).replace(FORM.encode(), b"application/json"))
        self.wire.transport.producer.pauseProducing()
        self.assertEqual(self.wire.transport.producerState, "paused", "what he sends on would be kept")
        self.wire.transport.producer.resumeProducing()
        self.web.pace.go()
        self.assertEqual(self.heard().status, 201)
        self.assertEqual(self.wire.transport.producerState, "producing")
        self.web.pace.slow = False
        self.wire.say(HOME)
        self.assertEqual(self.heard().status, 200)

    def test_head_has_the_headers_and_no_content(self) -> None:
        self.wire.say(HOME)
        whole = self.heard()
        self.wire.say(HOME.replace(b"GET", b"HEAD"))
        (head,) = self.wire.hear(head=True)
        self.assertEqual((head.status, head.headers["content-length"]), (200, str(len(whole.body))))

    def test_a_client_of_http_1_0_or_one_that_says_close_is_hung_up_on(self) -> None:
        for request in (HOME.replace(b"1.1", b"1.0"), HOME.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")):
            wire = self.port.connect()
            wire.say(request)
            self.assertEqual(self.heard(wire).headers["connection"], "close")
            self.assertTrue(wire.ending)

    def test_a_target_with_its_host_counts_more_than_the_header(self) -> None:
        for target, status in (
            (b"http://localhost/password", 200),
            (b"http://localhost/?lang=fr", 200),
            (b"http://elsewhere.example/", 421),
            (b"http://localhost", 400),
            (b"//localhost/", 404),
            (b"////elsewhere.example", 404),
            (b"localhost:80", 400),
        ):
            self.wire.say(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(self.heard().status, status, target)

    def test_an_expectation_is_met_unless_the_body_is_too_large(self) -> None:
        self.wire.say(
            post("/password", b"", "Expect: 100-continue", "Content-Length: 1").replace(b"Content-Length: 0\r\n", b"")
        )
        self.assertEqual(self.wire.octets(), b"HTTP/1.1 100 Continue\r\n\r\n")
        wire = self.port.connect()
        wire.say(b"POST /password HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n")
        self.assertEqual(self.heard(wire).status, 413)


class Refusals(WireCase):
    def refused(self, status: int, *segments: bytes) -> Heard:
        wire = self.port.connect()
        with capturedLogs() as events:
            wire.say(*segments)
        heard = self.heard(wire)
        self.assertEqual((heard.status, heard.headers["connection"]), (status, "close"))
        self.assertIn("default-src 'none'", heard.headers["content-security-policy"])
        self.assertIn(b'<link rel="stylesheet"', heard.body)
        self.assertTrue(wire.ending)
        self.assertEqual(events, [])
        wire.say(HOME)
        self.assertEqual(wire.hear(), [], "what comes after it is not obeyed")
        return heard

    def test_what_is_no_request(self) -> None:
        for nonsense in (
            b"\r\n\r\nGET / HTTP/1.1\r\n",
            b"HELO me\r\n",
            b"GET /\r\n",
            b"GET / HTTP/2.0\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\nno header\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            self.refused(400, nonsense)

    def test_a_request_that_comes_to_nobody(self) -> None:
        for request in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /?" + b"a&" * (MAX_FIELDS + 1) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            self.wire.say(request)
            self.assertEqual(self.heard().status, 400, request)

    def test_a_header_that_is_too_long(self) -> None:
        self.refused(431, b"GET /" + b"a" * MAX_HEADER)
        self.refused(431, b"GET /" + b"a" * MAX_HEADER + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.refused(431, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_FIELDS + 2) + b"\r\n")
        self.refused(431, b"GET / HTTP/1.1\r\n", *[b"X: " + b"y" * 4000 + b"\r\n" for _ in range(5)])

    def test_the_page_of_a_refusal_is_in_the_clients_language_where_that_was_heard(self) -> None:
        french = b"POST / HTTP/1.1\r\nAccept-Language: fr\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
        self.assertIn(b'<html lang="fr">', self.refused(413, french).body)
        self.assertIn(b'<html lang="en">', self.refused(400, b"nonsense\r\n").body)

    def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(self) -> None:
        self.refused(
            413, post("/password", b"", f"Content-Length: {MAX_BODY + 1}").replace(b"Content-Length: 0\r\n", b"")
        )

    def test_a_body_that_turns_out_too_large_is_refused_while_it_arrives(self) -> None:
        chunk = b"1000\r\n" + b"a" * 0x1000 + b"\r\n"
        self.refused(413, post("/password", b"", "Transfer-Encoding: chunked"), *[chunk] * 5)

    def test_the_largest_body_is_taken(self) -> None:
        self.wire.say(post("/password", b"a" * MAX_BODY))
        self.assertEqual(self.heard().status, 403)

    def test_who_goes_on_sending_may_read_why_he_is_refused_and_is_then_cut_off(self) -> None:
        self.wire.say(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        self.assertFalse(self.wire.transport.disconnecting, "a reset would take the answer away")
        self.wire.say(b"a" * UNHEARD)
        self.assertFalse(self.wire.transport.aborted)
        self.wire.say(b"a")
        self.assertTrue(self.wire.transport.aborted)


class Time(WireCase):
    def test_a_client_that_says_nothing_is_hung_up_on(self) -> None:
        self.port.clock.advance(CLIENT_SECONDS)
        self.assertTrue(self.wire.ending)

    def test_a_request_has_its_time_however_slowly_its_octets_come(self) -> None:
        for octet in HOME[:29]:
            self.wire.say(bytes([octet]))
            self.port.clock.advance(1)
        self.assertFalse(self.wire.ending)
        self.port.clock.advance(CLIENT_SECONDS - 29)
        self.assertEqual(self.heard().status, 408)
        self.assertTrue(self.wire.ending)

    def test_a_body_has_no_time_of_its_own(self) -> None:
        self.wire.say(post("/password", b"a" * 100)[:-50])
        for _ in range(int(CLIENT_SECONDS)):
            self.wire.say(b"a")
            self.port.clock.advance(1)
        self.assertEqual(self.heard().status, 408)

    def test_the_next_request_may_begin_late_and_has_all_its_time(self) -> None:
        self.wire.say(HOME)
        self.wire.hear()
        self.port.clock.advance(CLIENT_SECONDS - 1)
        self.wire.say(HOME[:10])
        self.port.clock.advance(CLIENT_SECONDS - 1)
        self.wire.say(HOME[10:])
        self.assertEqual(self.heard().status, 200)
        self.port.clock.advance(CLIENT_SECONDS)
        self.assertEqual(self.wire.octets(), b"", "an idle connection ends without a word")
        self.assertTrue(self.wire.ending)

    def test_our_own_time_is_not_the_clients(self) -> None:
        self.web.pace.slow = True
        body = b'{"name": "bob", "password": "mock-turtle"}'
        self.wire.say(post("/register", body).replace(FORM.encode(), b"application/json"))
        self.port.clock.advance(CLIENT_SECONDS * 10)
        self.web.pace.go()
        self.assertEqual(self.heard().status, 201)

    def test_who_does_not_read_our_last_words_is_cut_off(self) -> None:
        self.wire.say(HOME.replace(b"1.1", b"1.0"))
        self.assertFalse(self.wire.transport.aborted)
        self.port.clock.advance(CLOSING_SECONDS)
        self.assertTrue(self.wire.transport.aborted)

    def test_a_connection_that_is_lost_leaves_no_clock_running(self) -> None:
        self.wire.lose()
        for said in (HOME, HOME[:10], b"nonsense\r\n", HOME.replace(b"1.1", b"1.0")):
            wire = self.port.connect()
            wire.say(said)
            wire.lose()
        self.assertEqual(self.port.clock.getDelayedCalls(), [])


class PlacesAndTheEnd(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.port = WebPort(self.web, Limits(connections=2))

    def test_connections_are_counted_with_all_others_and_given_back(self) -> None:
        one, two, three = (self.port.connect() for _ in range(3))
        self.assertEqual([wire.transport.aborted for wire in (one, two, three)], [False, False, True])
        three.lose()
        one.lose()
        four = self.port.connect()
        four.say(HOME)
        self.assertEqual(four.hear()[0].status, 200)

    def test_who_has_no_place_is_not_heard_though_a_balancer_sends_all_at_once(self) -> None:
        _, _, three = (self.port.connect() for _ in range(3))
        three.say(HOME)
        self.assertEqual(three.hear(), [])

    def wind_up(self) -> Deferred[None]:
        return self.port.listener.wind_up(4.0)

    def test_idle_connections_end_at_once(self) -> None:
        silent, idle = self.port.connect(), self.port.connect()
        idle.say(HOME)
        over = self.wind_up()
        self.assertTrue(silent.ending and idle.ending)
        silent.lose()
        self.assertNoResult(over)
        idle.lose()
        self.assertIsNone(self.successResultOf(over))
        self.assertEqual(self.port.clock.getDelayedCalls(), [])

    def test_without_connections_it_is_over_at_once(self) -> None:
        self.assertIsNone(self.successResultOf(self.wind_up()))

    def test_a_request_that_is_being_answered_is_answered(self) -> None:
        self.web.pace.slow = True
        wire = self.port.connect()
        body = b'{"name": "bob", "password": "mock-turtle"}'
        wire.say(post("/register", body).replace(FORM.encode(), b"application/json"))
        over = self.wind_up()
        self.assertFalse(wire.ending)
        self.web.pace.go()
        (heard,) = wire.hear()
        self.assertEqual((heard.status, heard.headers["connection"]), (201, "close"))
        self.assertTrue(wire.ending)
        wire.lose()
        self.successResultOf(over)

    def test_what_was_begun_for_a_client_that_has_gone_is_waited_for(self) -> None:
        self.web.pace.slow = True
        wire = self.port.connect()
        body = b'{"name": "bob", "password": "mock-turtle"}'
        wire.say(post("/register", body).replace(FORM.encode(), b"application/json"))
        wire.lose()
        over = self.wind_up()
        self.assertNoResult(over)
        self.web.pace.go()
        self.successResultOf(over)
        self.assertIn("bob@example.org", self.web.world.passwords)

    def test_who_is_not_gone_in_time_is_cut_off(self) -> None:
        self.web.pace.slow = True
        wire, reader = self.port.connect(), self.port.connect()
        body = b'{"name": "bob", "password": "mock-turtle"}'
        wire.say(post("/register", body).replace(FORM.encode(), b"application/json"))
        over = self.wind_up()
        self.port.clock.advance(4.0)
        self.successResultOf(over)
        self.assertTrue(wire.transport.aborted and reader.transport.aborted)


class Tls(SynchronousTestCase):
    """Both tongues at one port."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        self.port = WebPort(Web(), tls=Certificates(partial(made, folder, ["localhost"], time.time)))
        self.trusting = ssl.create_default_context(cafile=folder / "ca.pem")

    def begin(self) -> None:
        """A client that has not shaken hands yet."""
        self.wire = self.port.connect()
        self.to_client, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = self.trusting.wrap_bio(self.to_client, self.to_server, server_hostname="localhost")

    def carry(self, piece: int) -> bytes:
        """Carry octets to and fro, so many at a time; returns what the client heard."""
        heard = b""
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
                while octets := self.client.read(65536):
                    heard += octets
            said = self.to_server.read()
            self.wire.say(*(said[begin : begin + piece] for begin in range(0, len(said), piece)))
            self.to_client.write(self.wire.octets())
        return heard

    def test_a_handshake_is_known_by_its_first_octet_however_it_is_cut(self) -> None:
        for piece in (1, 5, 100_000):
            self.begin()
            self.carry(piece)
            self.client.write(HOME.replace(b"/ ", b"/register "))
            heard = self.carry(piece)
            self.assertTrue(heard.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertIn(b"Set-Cookie: __Host-", heard)

    def test_in_tls_too_a_refusal_is_read_before_the_end(self) -> None:
        self.begin()
        self.carry(100_000)
        self.client.write(b"nonsense\r\n")
        self.assertIn(b"HTTP/1.1 400 Bad Request\r\n", self.carry(100_000))
        self.assertEqual(self.client.read(1), b"", "TLS is ended as it should be")

    def test_a_handshake_that_fails_is_one_line_in_the_log(self) -> None:
        wire = self.port.connect("192.0.2.7")
        with capturedLogs() as events:
            wire.say(b"\x16\x03\x01\x00\x05nonsense")
            wire.lose()
        (event,) = events
        self.assertRegex(formatEvent(event), "^no TLS with 192.0.2.7: ")

    def test_a_handshake_has_the_time_of_a_request(self) -> None:
        wire = self.port.connect()
        wire.say(b"\x16\x03\x01")
        self.port.clock.advance(CLIENT_SECONDS)
        self.assertTrue(wire.transport.aborted)

    def test_the_service_does_not_wait_for_a_handshake(self) -> None:
        wire = self.port.connect()
        wire.say(b"\x16\x03\x01")
        over = self.port.listener.wind_up(4.0)
        self.assertTrue(wire.transport.aborted)
        wire.lose()
        self.successResultOf(over)

    def test_the_service_ends_tls_and_does_not_wait_for_the_client_to_do_so(self) -> None:
        self.begin()
        self.carry(100_000)
        self.client.write(HOME)
        self.carry(100_000)
        self.port.listener.wind_up(4.0)
        self.assertTrue(self.wire.transport.disconnecting)
        self.carry(100_000)
        self.assertEqual(self.client.read(1), b"", "TLS is ended as it should be")
