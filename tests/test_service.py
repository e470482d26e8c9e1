"""The service in this process, on real ports of this machine: what it opens, refuses, and how it ends."""

from __future__ import annotations

import json
import os
import poplib
import smtplib
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailbe import opening, service
from mailbe.accounts import schemes
from mailbe.accounts.database import Accounts
from mailbe.address import Address
from mailbe.configuration import CannotStart, Configuration
from mailbe.listening import Opened
from mailbe.maildata import Maildata
from mailbe.peers import network
from mailbe.service import MailService

HERE = "tcp:0:interface=127.0.0.1"


def configuration(root: str, **changes: Any) -> Configuration:
    values: dict[str, Any] = {
        "scheme": "MD5-CRYPT",
        "endpoints": {"smtp": [HERE], "submission": [HERE], "pop3": [HERE]},
    }
    return Configuration(Maildata(Path(root)), **values | changes)


def next_step(events: Sequence[LogEvent]) -> str:
    """What the service says last; of other tests a port may be closing meanwhile."""
    [line] = [line for event in events if (line := formatEvent(event)).startswith("next: ")]
    return line


class Serving(TestCase):
    async def start(self, root: str, **changes: Any) -> tuple[int, ...]:
        """The ports that were opened."""
        server = MailService(configuration(root, **changes), reactor)
        server.privilegedStartService()
        server.startService()
        self.addCleanup(server.stopService)
        return tuple(port.getHost().port for _, port, _ in server._ports)

    async def test_a_letter_goes_in_and_comes_out(self) -> None:
        root = self.mktemp()
        smtp, submission, pop3 = await self.start(root)
        accounts = Accounts(Maildata(Path(root)).accounts)
        for name in ("alice", "bob"):
            accounts.add(Address(name, "localhost"), schemes.hash_password(b"secret", "MD5-CRYPT"))
        accounts.close()

        def use() -> tuple[list[bytes], list[bytes]]:
            with smtplib.SMTP("127.0.0.1", submission) as client:
                client.login("alice", "secret")
                client.sendmail("alice@localhost", ["bob@localhost"], b"Subject: one\r\n\r\n.\r\n")
            with smtplib.SMTP("127.0.0.1", smtp) as client:
                client.sendmail("s@example", ["bob@localhost"], b"Subject: two\r\n\r\n\xff\r\n")
            client3 = poplib.POP3("127.0.0.1", pop3)
            client3.user("bob@localhost")
            client3.pass_("secret")
            letters = client3.retr(1)[1], client3.retr(2)[1]
            client3.quit()
            return letters

        one, two = await deferToThread(use)
        self.assertEqual((one[-3:], two[-3:]), ([b"Subject: one", b"", b"."], [b"Subject: two", b"", b"\xff"]))
        self.assertEqual(len(list(Path(root).glob("envoi/alice@localhost/new/*"))), 1)

    async def test_it_says_where_it_listens_and_what_comes_next(self) -> None:
        root = self.mktemp()
        with capturedLogs() as events:
            ports = await self.start(root)
            await deferLater(reactor, 0)  # type: ignore[arg-type]  # the reactor runs from here on
        lines = [formatEvent(event) for event in events]
        for name, port in zip(("smtp", "submission", "pop3"), ports, strict=True):
            self.assertIn(f"{name} listens on 127.0.0.1:{port}", lines)
        self.assertIn("user add you@localhost", next_step(events))
        other = self.mktemp()
        maildata = Maildata(Path(other))
        maildata.prepare()
        accounts = Accounts(maildata.accounts)
        accounts.add(Address("alice", "localhost"), "{MD5}" + "0" * 32)
        accounts.close()
        with capturedLogs() as events:
            await self.start(other)
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        self.assertIn("Thunderbird", next_step(events))

    async def test_old_letters_are_looked_for_from_the_start_on(self) -> None:
        class Looking:
            def __init__(self, *arguments: object) -> None:
                self.looked: Deferred[None] = Deferred()
                self.ended = False
                lookers.append(self)

            def run(self) -> None:
                reactor.callFromThread(self.looked.callback, None)  # type: ignore[attr-defined]

            def end(self) -> None:
                self.ended = True

        lookers: list[Looking] = []
        self.patch(service, "Expiry", Looking)
        server = MailService(configuration(self.mktemp()), reactor)
        server.privilegedStartService()
        server.startService()
        await lookers[0].looked
        await server.stopService()
        self.assertTrue(lookers[0].ended)

    async def test_every_port_has_tls_that_our_authority_vouches_for(self) -> None:
        root = self.mktemp()
        names = ("smtp", "submission", "submissions", "pop3", "pop3s")
        ports = dict(zip(names, await self.start(root, endpoints={name: [HERE] for name in names}), strict=True))
        accounts = Accounts(Maildata(Path(root)).accounts)
        accounts.add(Address("alice", "localhost"), schemes.hash_password(b"secret", "MD5-CRYPT"))
        accounts.close()
        context = ssl.create_default_context(cafile=str(Path(root) / "tls" / "ca.pem"))

        def use() -> list[bytes]:
            for name in ("smtp", "submission"):
                with smtplib.SMTP("localhost", ports[name]) as client:
                    client.starttls(context=context)
                    client.login("alice", "secret")
            with smtplib.SMTP_SSL("localhost", ports["submissions"], context=context) as client:
                client.login("alice", "secret")
                client.sendmail("alice@localhost", ["alice@localhost"], b"Subject: one\r\n\r\nHello\r\n")
            plain = poplib.POP3("localhost", ports["pop3"])
            plain.stls(context)
            secure = poplib.POP3_SSL("localhost", ports["pop3s"], context=context)
            letters = []
            for client3 in (plain, secure):
                client3.user("alice")
                client3.pass_("secret")
                letters.append(b"\r\n".join(client3.retr(1)[1]))
                client3.quit()
            return letters

        one, two = await deferToThread(use)
        self.assertEqual(one, two)
        self.assertIn(b" with ESMTPSA id ", one)

    async def test_pages_are_had_in_tls_and_without_at_one_port(self) -> None:
        root = self.mktemp()
        with capturedLogs() as events:
            _, port = await self.start(root, endpoints={"pop3": [HERE], "http": [HERE]}, registration="open")
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        self.assertEqual(next_step(events), f"next: open http://localhost:{port}/")
        context = ssl.create_default_context(cafile=str(Path(root) / "tls" / "ca.pem"))

        def use() -> tuple[str, bytes, bytes]:
            said = json.dumps({"name": "carol", "password": "jabberwock-and-snark"}).encode()
            request = Request(f"http://localhost:{port}/register", said, {"Content-Type": "application/json"})
            with urlopen(request) as answer:  # noqa: S310
                address = json.load(answer)["address"]
            with urlopen(f"https://localhost:{port}/ca.pem", context=context) as answer:
                authority = answer.read()
            with urlopen(f"https://localhost:{port}/thunderbird", context=context) as answer:
                page = answer.read()
            return address, authority, page

        address, authority, page = await deferToThread(use)
        self.assertEqual(address, "carol@localhost")
        self.assertEqual(authority, (Path(root) / "tls" / "ca.pem").read_bytes())
        self.assertIn(b"<h1>", page)
        accounts = Accounts(Maildata(Path(root)).accounts)
        self.assertFalse(accounts.empty())
        accounts.close()

    async def test_pages_behind_a_balancer_are_for_whom_it_names(self) -> None:
        with capturedLogs() as events:
            (port,) = await self.start(
                self.mktemp(),
                endpoints={"http": [f"haproxy:{HERE}"]},
                proxy_from=[network("127.0.0.1")],
                registration="open",
                allow_md5=True,
            )
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        # Nobody but the balancer has a page at our port.
        self.assertIn("user add", next_step(events))

        def use(client: str) -> bytes:
            with socket.create_connection(("127.0.0.1", port)) as balancer:
                balancer.settimeout(60)
                asked = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                balancer.sendall(f"PROXY TCP4 {client} 192.0.2.1 4321 80\r\n{asked}".encode())
                answer = b""
                while octets := balancer.recv(65536):
                    answer += octets
                return answer

        self.assertIn(b"HTTP/1.1 308 ", await deferToThread(use, "192.0.2.7"))
        self.assertIn(b"HTTP/1.1 200 ", await deferToThread(use, "127.0.0.1"))

    async def test_a_handshake_that_fails_is_one_line(self) -> None:
        (port,) = await self.start(self.mktemp(), endpoints={"pop3s": [HERE]})

        def use() -> bytes:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"CAPA\r\n")
                client.settimeout(60)
                return client.recv(100)

        with capturedLogs() as events:
            self.assertEqual(await deferToThread(use), b"")
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        self.assertIn("no TLS with 127.0.0.1: wrong version number", [formatEvent(event) for event in events])

    async def test_a_bad_certificate_does_not_take_the_place_of_a_good_one(self) -> None:
        root = self.mktemp()
        server = MailService(configuration(root), reactor)
        server.privilegedStartService()
        server.startService()
        self.addCleanup(server.stopService)
        with capturedLogs() as events:
            server.reload()
            (Path(root) / "tls" / "key.pem").write_text("no key")
            server.reload()
        good, bad = (line for event in events if "certificate" in (line := formatEvent(event)))
        self.assertIn("loaded anew", good)
        self.assertRegex(bad, "the certificate in use is kept: .*key.pem: ")

    async def test_what_a_crash_left_in_the_spool_is_swept(self) -> None:
        maildata = Maildata(Path(self.mktemp()))
        maildata.prepare()
        (maildata.spool / "1700000000.M000001P2Q000003.host").write_text("half a letter")
        await self.start(str(maildata.root))
        self.assertEqual(list(maildata.spool.iterdir()), [])

    async def test_a_unix_socket_and_ipv6_are_at_home_too(self) -> None:
        socket_path = self.mktemp()[-40:].replace("/", "-")
        ports = {"smtp": [f"unix:{socket_path}"], "pop3": ["tcp6:0:interface=\\:\\:1"]}
        server = MailService(configuration(self.mktemp(), endpoints=ports), reactor)
        server.privilegedStartService()
        server.startService()
        self.addCleanup(server.stopService)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(socket_path)
            greeting = await deferToThread(client.recv, 100)
        self.assertTrue(greeting.startswith(b"220 localhost ESMTP"))

    async def test_md5_may_leave_home_where_the_operator_says_so(self) -> None:
        anywhere = {"smtp": ["tcp:0"]}
        await self.start(self.mktemp(), endpoints=anywhere, allow_md5=True)
        await self.start(self.mktemp(), endpoints=anywhere, scheme="ARGON2ID")


class Refusing(SynchronousTestCase):
    def refused(self, root: str, **changes: Any) -> str:
        server = MailService(configuration(root, **changes), reactor)
        error = self.assertRaises(CannotStart, server.privilegedStartService)
        for _, port, _ in server._ports:
            port.stopListening()
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_a_folder_that_is_in_use(self) -> None:
        root = self.mktemp()
        maildata = Maildata(Path(root))
        maildata.prepare()
        maildata.lock()
        self.assertIn(root, self.refused(root))

    def test_a_folder_that_cannot_be_made(self) -> None:
        root = Path(self.mktemp())
        root.parent.mkdir(parents=True, exist_ok=True)
        root.write_text("a file")
        self.assertIn(str(root), self.refused(str(root / "maildata")))

    def test_a_folder_that_the_user_it_runs_as_may_not_use(self) -> None:
        # twistd --uid: what was prepared as one user is looked at again as the other.
        server = MailService(configuration(self.mktemp()), reactor)
        server.privilegedStartService()
        self.patch(os, "access", lambda path, mode: False)
        error = self.assertRaises(CannotStart, server.startService)
        for _, port, _ in server._ports:
            port.stopListening()
        self.assertIn("may not write", str(error))
        self.assertFalse(server._writer._thread.is_alive())

    def test_a_certificate_that_is_none(self) -> None:
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no certificate")
        message = self.refused(self.mktemp(), certificate=path, key=path)
        self.assertIn(f"--certificate {path}: ", message)

    def test_accounts_that_are_none(self) -> None:
        root = Path(self.mktemp())
        root.mkdir(parents=True)
        (root / "accounts.sqlite3").write_bytes(b"no database" * 1000)
        self.assertIn("accounts.sqlite3", self.refused(str(root)))

    def test_a_port_that_is_taken(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            message = self.refused(self.mktemp(), endpoints={"pop3": [endpoint]})
        self.assertIn(f"--pop3 {endpoint}: Address already in use", message)

    def test_an_address_that_is_not_ours(self) -> None:
        self.assertIn("--smtp", self.refused(self.mktemp(), endpoints={"smtp": ["tcp:0:interface=192.0.2.1"]}))

    def test_a_port_that_no_machine_has(self) -> None:
        for endpoint in ("tcp:65536:interface=127.0.0.1", "tcp:-1:interface=127.0.0.1"):
            message = self.refused(self.mktemp(), endpoints={"http": [endpoint]})
            self.assertEqual(
                message, f"--http {endpoint}: bind(): port must be 0-65535; choose another address or port"
            )

    def test_md5_does_not_leave_home(self) -> None:
        for anywhere in ("tcp:0", "tcp:0:interface=0.0.0.0", "tcp6:0"):
            message = self.refused(self.mktemp(), endpoints={"smtp": [anywhere]})
            self.assertIn("--allow-md5", message)
            self.assertIn("argon2id", message)

    def test_pages_where_passwords_are_set_stay_at_home_with_md5(self) -> None:
        self.assertIn("--allow-md5", self.refused(self.mktemp(), endpoints={"http": ["tcp:0"]}))

    def test_md5_does_not_leave_home_through_a_balancer(self) -> None:
        here = {"pop3": [f"haproxy:{HERE}"]}
        self.assertIn("--allow-md5", self.refused(self.mktemp(), endpoints=here, proxy_from=[network("127.0.0.1")]))

    def test_lmtp_where_everybody_speaks_smtp(self) -> None:
        class Port:
            def getHost(self) -> IPv4Address:
                return IPv4Address("TCP", "127.0.0.1", 25)

        asked = configuration(self.mktemp())
        with self.assertRaises(CannotStart) as refused:
            opening.check_home(asked, "lmtp", "tcp:25", Port())  # type: ignore[arg-type]
        self.assertIn("RFC 2033", str(refused.exception))

    def test_an_endpoint_that_is_not_ready_at_once(self) -> None:
        class Later:
            def listen(self, factory: object) -> Deferred[object]:
                return Deferred()

        self.patch(opening, "serverFromString", lambda reactor, description: Later())
        self.assertIn("--smtp", self.refused(self.mktemp(), endpoints={"smtp": ["later"]}))

    def test_an_error_that_nobody_expected_is_not_hidden(self) -> None:
        class Broken:
            def listen(self, factory: object) -> Deferred[object]:
                deferred: Deferred[object] = Deferred()
                deferred.errback(ZeroDivisionError())
                return deferred

        self.patch(opening, "serverFromString", lambda reactor, description: Broken())
        server = MailService(configuration(self.mktemp(), endpoints={"smtp": ["broken"]}), reactor)
        self.assertRaises(ZeroDivisionError, server.privilegedStartService)


class FakePort:
    def __init__(self, host: str, port: int) -> None:
        self._host = IPv4Address("TCP", host, port)

    def getHost(self) -> IPv4Address:
        return self._host


class NextStep(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = self.mktemp()
        maildata = Maildata(Path(self.root))
        maildata.prepare()
        self.accounts = Accounts(maildata.accounts)
        self.accounts.open()
        self.addCleanup(self.accounts.close)

    def step(self, registration: str, *ports: tuple[str, str, int]) -> str:
        asked = configuration(self.root, domains=("example.org",), registration=registration)
        open_ports: Any = [Opened(name, FakePort(host, port)) for name, host, port in ports]
        return opening.next_step(asked, self.accounts, open_ports)

    def test_without_accounts_it_is_where_the_first_comes_from(self) -> None:
        page = ("http", "127.0.0.1", 2080)
        self.assertIn("user add you@example.org", self.step("closed"))
        self.assertIn("user add you@example.org", self.step("closed", page))
        self.assertEqual(self.step("open", page), "next: open http://localhost:2080/")
        self.assertRegex(self.step("invitation", page), " invitation add; and open http://localhost:2080/$")

    def test_with_accounts_it_is_the_page_that_people_open(self) -> None:
        self.accounts.add(Address("alice", "example.org"), "{MD5}" + "0" * 32)
        for host, port, url in (
            ("127.0.0.1", 80, "http://localhost/"),
            ("0.0.0.0", 2080, "http://localhost:2080/"),  # noqa: S104
            ("127.0.0.5", 2080, "http://127.0.0.5:2080/"),
            ("192.0.2.1", 443, "https://example.org/"),
            ("192.0.2.1", 8443, "https://example.org:8443/"),
        ):
            self.assertEqual(self.step("closed", ("pop3", host, 110), ("http", host, port)), f"next: open {url}")
        self.assertIn("README.md", self.step("closed", ("pop3", "127.0.0.1", 110)))
