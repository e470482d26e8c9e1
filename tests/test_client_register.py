"""Registering at a web side, which may be ours, another's, or none."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from mailbe.client.errors import NoAnswer, NotRegistered, NotTrusted
from mailbe.client.register import Desk, Terms
from mailbe.client.servers import Servers
from mailbe.client.trust import Trust
from mailbe.tls import authority
from tests.end_to_end.programs import reserved_port


class Site(HTTPServer):
    """A web side that keeps to the contract of ours: it knows one invitation, and takes each name once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.names: set[str] = set()
        self.answer: tuple[int, bytes] | None = None
        """What it says to everything, if it is to be strange."""
        self.heard: list[tuple[str, str, dict[str, str]]] = []
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not like our certificate is none of the log's business."""

    def reply(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        if self.answer:
            return self.answer
        if path == "/register.json":
            return 200, json.dumps({"registration": "invitation", "domains": ["x.org"]}).encode()
        if body["invitation"] != "rabbit-hole":
            return 403, json.dumps(
                {"error": "invitation", "text": "This invitation is \x1b[1mnot\x1b[0m known."}
            ).encode()
        if body["name"] in self.names:
            return 409, json.dumps({"error": "taken", "text": "That name is taken."}).encode()
        self.names.add(body["name"])
        return 201, json.dumps({"address": f"{body['name']}@x.org"}).encode()


class _Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, str]) -> None:
        self.server.heard.append((self.command, self.path, dict(self.headers) | body))
        status, octets = self.server.reply(self.path, body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""


class Registering(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.close)
        self.url = f"http://127.0.0.1:{self.site.server_port}"

    def desk(self, url: str | None = None, *authorities: Path) -> Desk:
        self.trust = Trust(authorities, Path(self.mktemp()))
        return Desk(Servers("x.org", "x.org", (), (), url or self.url), self.trust)

    def test_who_is_invited_gets_an_account(self) -> None:
        desk = self.desk()
        self.assertEqual(desk.terms(), Terms("invitation", ("x.org",)))
        self.assertEqual(desk.register("alice", "wünder land", "rabbit-hole"), "alice@x.org")
        method, path, heard = self.site.heard[-1]
        self.assertEqual((method, path, heard["Content-Type"]), ("POST", "/register", "application/json"))
        self.assertEqual((heard["password"], heard["Accept-Language"]), ("wünder land", "en"))

    def test_a_refusal_has_its_code_and_words_for_people(self) -> None:
        desk = self.desk()
        error = self.assertRaises(NotRegistered, desk.register, "alice", "x", "wrong")
        self.assertEqual((error.code, str(error)), ("invitation", "This invitation is \\x1b[1mnot\\x1b[0m known."))
        desk.register("alice", "x", "rabbit-hole")
        error = self.assertRaises(NotRegistered, desk.register, "alice", "x", "rabbit-hole")
        self.assertEqual((error.code, str(error)), ("taken", "That name is taken."))

    def test_where_no_site_is_known_the_way_is_told(self) -> None:
        desk = Desk(Servers("x", "x", (), ()), Trust(remembered=Path(self.mktemp())))
        error = self.assertRaises(NotRegistered, desk.terms)
        self.assertEqual(error.code, "site")
        for words in ("--site", "mailbe user add", "--http", "--registration open"):
            self.assertIn(words, str(error))

    def test_another_site_is_not_taken_for_ours(self) -> None:
        for answer in ((200, b"<html>"), (200, b"[]"), (404, b"{}"), (200, b"{}"), (200, b"[" * 60000), (200, b"\xff")):
            self.site.answer = answer
            self.assertRaises(NoAnswer, self.desk().terms)
            self.assertRaises(NoAnswer, self.desk().register, "a", "b")

    def test_nobody_there_is_told(self) -> None:
        with reserved_port() as port:
            error = self.assertRaises(NoAnswer, self.desk(f"http://127.0.0.1:{port}").terms)
        self.assertIn("Connection refused", str(error))

    def test_no_password_goes_to_another_machine_in_plaintext(self) -> None:
        for url in ("http://mail.example/", "ftp://x", "mail.example", "https://", "https://[", "https://x:99999/"):
            self.assertEqual(self.assertRaises(NotRegistered, self.desk(url).register, "a", "b").code, "site", url)

    def test_its_certificate_is_checked_like_those_of_the_others(self) -> None:
        folder = Path(self.mktemp())
        authority.provide(folder, ["x.org"], datetime.now(UTC))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        self.site.socket = context.wrap_socket(self.site.socket, server_side=True)
        url = f"https://localhost:{self.site.server_port}"
        self.assertEqual(self.desk(url, folder / "ca.pem").terms().registration, "invitation")
        desk = self.desk(url)
        error = self.assertRaises(NotTrusted, desk.register, "alice", "x", "rabbit-hole")
        self.assertEqual(self.site.names, set())
        self.trust.accept(error.certificate)
        desk.register("alice", "x", "rabbit-hole")
        self.assertEqual(self.site.names, {"alice"})
