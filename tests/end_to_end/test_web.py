"""The web side of a real server: what people and programs get of it, from one process and from several."""

from __future__ import annotations

import json
import os
import poplib
import re
import signal
import socket
import ssl
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from urllib.parse import urlencode

from tests.end_to_end.programs import needs, run
from tests.end_to_end.server import (
    ALICE,
    PASSWORDS,
    QUICK,
    WITH_PAGES,
    EndToEndTestCase,
    Server,
    eventually,
    give_accounts,
)

NEW = "jabberwock-and-snark"


class WebTestCase(EndToEndTestCase):
    def pages(self, *options: str) -> Server:
        """A running server with pages, and the account of alice."""
        maildata = self.scratch() / "maildata"
        give_accounts(maildata, ALICE)
        server = Server(maildata, *QUICK, *options, protocols=WITH_PAGES)
        self.addCleanup(server.close)
        return server.start()

    def log_in(self, server: Server, name: str, password: str) -> bytes:
        client = poplib.POP3_SSL("localhost", server.ports["pop3s"], context=server.trusting())
        client.user(name)
        try:
            return client.pass_(password)
        except poplib.error_proto as error:
            return bytes(error.args[0])
        finally:
            client.close()


class Client:
    """A browser without a face, that keeps one cookie of each name."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection
        self._cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[HTTPResponse, str]:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if self._cookies:
            said["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        self._connection.request(method, path, body, said)
        response = self._connection.getresponse()
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return response, response.read().decode()

    def connect_again(self) -> None:
        """Perhaps to another worker."""
        self._connection.close()

    def fill_in(self, path: str, **fields: str) -> tuple[HTTPResponse, str]:
        _, page = self.ask("GET", path)
        self.connect_again()
        token = re.search(r'name="token" value="([^"]+)"', page)
        assert token, page
        form = urlencode({"token": token[1], **fields}).encode()
        return self.ask("POST", path, form, Content_Type="application/x-www-form-urlencoded")


class Pages(WebTestCase):
    def test_who_registers_can_log_in_at_once_and_who_changes_the_password_with_the_new_one(self) -> None:
        for workers in ("1", "2"):
            server = self.pages("--registration", "open", "--workers", workers)
            client = Client(HTTPSConnection("localhost", server.http, context=server.trusting()))
            done, _ = client.fill_in("/register", name="carol", password=NEW, again=NEW)
            self.assertEqual((done.status, done.headers["Location"]), (303, "/register/done"))
            self.assertTrue(self.log_in(server, "carol", NEW).startswith(b"+OK"))
            again = NEW[::-1]
            taken, page = client.fill_in("/register", name="carol", password=again, again=again)
            self.assertEqual((taken.status, 'id="name-error"' in page), (409, True))
            for _ in range(5):  # whichever worker has the connection, it takes the form of another
                differ, page = client.fill_in("/password", name=ALICE, old="x", password=again, again=NEW)
                self.assertEqual((differ.status, 'id="again-error"' in page), (422, True))
            done, _ = client.fill_in("/password", name=ALICE, old=PASSWORDS[ALICE], password=again, again=again)
            self.assertEqual((done.status, done.headers["Location"]), (303, "/password/done"))
            self.assertTrue(self.log_in(server, ALICE, again).startswith(b"+OK"))
            self.assertTrue(self.log_in(server, ALICE, PASSWORDS[ALICE]).startswith(b"-ERR"))

            self.assertIn("carol@localhost registered from 127.0.0.1", server.stdout)
            self.assertIn(f"{ALICE} changed the password from 127.0.0.1", server.stdout)
            server.stop()
            for secret in (NEW, again, PASSWORDS[ALICE], "/register", "/password"):
                self.assertNotIn(secret, server.stdout + server.stderr)

    def test_wrong_old_passwords_count_as_wrong_passwords_do(self) -> None:
        server = self.pages()
        client = Client(HTTPConnection("localhost", server.http))
        for number in range(3):
            client.fill_in("/password", name=ALICE, old=f"wrong-{number}", password=NEW, again=NEW)
        locked, page = client.fill_in("/password", name=ALICE, old=PASSWORDS[ALICE], password=NEW, again=NEW)
        self.assertEqual(locked.status, 429)
        self.assertIn("too many wrong passwords", page)
        self.assertTrue(self.log_in(server, ALICE, PASSWORDS[ALICE]).startswith(b"-ERR"))

    def test_programs_register_with_json(self) -> None:
        server = self.pages("--registration", "open")
        client = Client(HTTPConnection("localhost", server.http))
        for name, status, part in (("carol", 201, ("address", "carol@localhost")), ("alice", 409, ("error", "taken"))):
            said = json.dumps({"name": name, "password": NEW}).encode()
            got, text = client.ask("POST", "/register", said, Content_Type="application/json")
            self.assertEqual(got.status, status)
            self.assertIn(part, json.loads(text).items())

    @needs("curl")
    def test_curl_gets_the_authority_and_then_trusts_the_server(self) -> None:
        server = self.pages()
        home = self.scratch()
        run(home, "curl", "-sSfo", "ca.pem", f"http://localhost:{server.http}/ca.pem")
        settings = run(
            home, "curl", "-sSf", "--cacert", "ca.pem", f"https://localhost:{server.http}/mail/config-v1.1.xml"
        )
        self.assertIn(f"<port>{server.ports['pop3s']}</port>".encode(), settings)
        head = run(home, "curl", "-sSI", f"http://localhost:{server.http}/")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        (home / "large").write_bytes(b"a" * 500_000)
        page = run(home, "curl", "-sS", "-d", "@large", f"http://localhost:{server.http}/register")
        self.assertIn(b"413 ", page)


class Clients(WebTestCase):
    def test_the_end_of_the_service_waits_for_nobody_who_is_idle(self) -> None:
        server = self.pages("--registration", "open")
        silent = socket.create_connection(("127.0.0.1", server.http))
        half = socket.create_connection(("127.0.0.1", server.http))
        half.sendall(b"POST /register HTTP/1.1\r\nHost: localhost\r\n")
        shaking = socket.create_connection(("127.0.0.1", server.http))
        shaking.sendall(b"\x16\x03\x01")
        idle = HTTPSConnection("localhost", server.http, context=server.trusting())
        idle.request("GET", "/")
        idle.getresponse().read()
        server.stop()
        for client in (silent, half, shaking):
            client.close()
        idle.close()

    def test_many_requests_in_one_segment_are_answered_in_order(self) -> None:
        server = self.pages()
        with socket.create_connection(("127.0.0.1", server.http), 30) as client:
            requests = [f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in ("/", "/no", "/password")] * 30
            client.sendall("".join([*requests[:-1], requests[-1][:-2], "Connection: close\r\n\r\n"]).encode())
            said = b""
            while octets := client.recv(65536):
                said += octets
        statuses = re.findall(rb"^HTTP/1.1 (\d+)", said, re.MULTILINE)
        self.assertEqual(statuses, [b"200", b"404", b"200"] * 30)

    def test_a_certificate_that_others_vouch_for_binds_to_tls_and_hides_the_authority(self) -> None:
        made = self.pages()
        tls = made.maildata / "tls"
        made.stop()
        server = Server(
            self.scratch() / "maildata",
            *("--certificate", str(tls / "certificate.pem"), "--key", str(tls / "key.pem")),
            protocols=WITH_PAGES,
        )
        self.addCleanup(server.close)
        server.start()
        context = ssl.create_default_context(cafile=tls / "ca.pem")
        client = Client(HTTPSConnection("localhost", server.http, context=context))
        home, _ = client.ask("GET", "/")
        self.assertIn("max-age=", home.headers["Strict-Transport-Security"])
        self.assertEqual(client.ask("GET", "/ca.pem")[0].status, 404)

    def test_a_worker_that_dies_takes_nobodys_page_away_for_long(self) -> None:
        server = self.pages("--workers", "2", "--registration", "open")
        pids = re.findall(r"worker \d is process (\d+)", server.stdout)
        self.assertEqual(len(pids), 2)
        os.kill(int(pids[0]), signal.SIGKILL)
        eventually(lambda: len(re.findall(r"worker \d is process", server.stdout)) == 3, "another worker begins")
        client = Client(HTTPConnection("localhost", server.http))
        done, _ = client.fill_in("/register", name="carol", password=NEW, again=NEW)
        self.assertEqual(done.status, 303)
