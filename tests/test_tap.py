"""``twistd mailbe``'s options: what they become, and one line for what they cannot be."""

from __future__ import annotations

import io
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.error import ReactorNotRunning
from twisted.plugin import getPlugins
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from mailbe import tap
from mailbe.accounts import guard
from mailbe.configuration import DEFAULT_ENDPOINTS, CannotStart
from mailbe.interfaces import Quota, Terms
from mailbe.limits import Limits
from mailbe.peers import network
from mailbe.service import MailService
from mailbe.supervisor import Supervisor


class OptionsCase(SynchronousTestCase):
    def parse(self, *arguments: str, twistd: Sequence[str] = ("-n",)) -> tap.Options:
        everything = ServerOptions()
        everything.parseOptions([*twistd, "mailbe", *arguments])
        self.twistd = everything
        options: Any = everything.subOptions
        assert isinstance(options, tap.Options)
        return options

    def stopped(self, call: Any, *arguments: Any) -> tuple[object, str]:
        """The exit status, and what stands on the terminal."""
        terminal = io.StringIO()
        self.patch(sys, "__stderr__", terminal)
        error = self.assertRaises(SystemExit, call, *arguments)
        return error.code, terminal.getvalue()


class Parsing(OptionsCase):
    def test_the_defaults_stay_on_this_machine(self) -> None:
        configuration = self.parse().configuration()
        self.assertEqual(configuration.maildata.root, Path("maildata").absolute())
        self.assertEqual(list(configuration.domains), ["localhost"])
        self.assertEqual(configuration.endpoints, DEFAULT_ENDPOINTS)
        self.assertEqual((configuration.scheme, configuration.limits.size), ("MD5-CRYPT", 52428800))
        self.assertEqual(configuration.terms, Terms(days=None, delay=0))
        self.assertEqual((configuration.separator, configuration.quota), ("+", Quota()))
        self.assertEqual((configuration.classic, configuration.allow_md5, configuration.strong), (False, False, False))

    def test_everything_can_be_chosen(self) -> None:
        configuration = self.parse(
            *("--maildata", "/srv/mail", "--domain", "a.example", "--domain", "b.example", "--classic", "--allow-md5"),
            *("--smtp", "tcp:25", "--smtp", "tcp6:25", "--pop3", "unix:pop", "--submission", "tcp:587"),
            *("--password-scheme", "argon2id", "--max-size", "1000", "--wrong-passwords", "5", "--lock-seconds", "60"),
            *("--max-connections", "9", "--max-errors", "8", "--max-logins", "7", "--letter-seconds", "6"),
            *("--max-connections-per-address", "5", "--max-recipients", "400", "--max-idle-commands", "3"),
            *("--max-memory", "5000", "--max-held", "50", "--workers", "4"),
            *("--lmtp", "tcp:24", "--lmtp-from", "192.0.2.0/24"),
            *("--smtp", "haproxy:tcp:26", "--proxy-from", "10.0.0.1", "--proxy-from", "2001:db8::/32"),
            *("--http", "tcp:443", "--registration", "invitation"),
            *("--expire", "30", "--login-delay", "60"),
            *("--separator", "-", "--quota-octets", "2000", "--quota-letters", "20"),
            *("--certificate", "/c.pem", "--key", "/k.pem", "--submissions", "tcp:465", "--pop3s", "tcp:995"),
        ).configuration()
        self.assertEqual(configuration.maildata.root, Path("/srv/mail"))
        self.assertEqual(list(configuration.domains), ["a.example", "b.example"])
        endpoints = {"smtp": ["tcp:25", "tcp6:25", "haproxy:tcp:26"], "pop3": ["unix:pop"], "submission": ["tcp:587"]}
        endpoints |= {"submissions": ["tcp:465"], "pop3s": ["tcp:995"], "lmtp": ["tcp:24"], "http": ["tcp:443"]}
        self.assertEqual((configuration.separator, configuration.quota), ("-", Quota(2000, 20)))
        self.assertEqual(configuration.guard, guard.Limits(wrong_passwords=5, lock_seconds=60))
        self.assertEqual(list(configuration.lmtp_from), [network("192.0.2.0/24")])
        self.assertEqual(list(configuration.proxy_from), [network("10.0.0.1"), network("2001:db8::/32")])
        self.assertEqual((configuration.certificate, configuration.key), (Path("/c.pem"), Path("/k.pem")))
        self.assertEqual(configuration.endpoints, endpoints)
        self.assertEqual(configuration.limits, Limits(9, 5, 8, 3, 7, 6, 400, 1000, 5000, 50))
        self.assertEqual((configuration.scheme, configuration.workers), ("ARGON2ID", 4))
        self.assertEqual(configuration.terms, Terms(days=30, delay=60))
        self.assertEqual((configuration.classic, configuration.allow_md5, configuration.strong), (True, True, True))
        self.assertEqual(configuration.registration, "invitation")

    def test_a_domain_of_u_labels_is_kept_as_a_labels(self) -> None:
        configuration = self.parse("--domain", "BÜCHER.example", "--domain", "例え.テスト").configuration()
        self.assertEqual(list(configuration.domains), ["xn--bcher-kva.example", "xn--r8jz45g.xn--zckzah"])

    def test_what_is_given_is_all_that_is_opened(self) -> None:
        self.assertEqual(self.parse("--pop3", "tcp:110").configuration().endpoints, {"pop3": ["tcp:110"]})

    def test_pages_alone_come_on_top_of_the_mail(self) -> None:
        asked = self.parse("--http", "tcp:2080").configuration()
        self.assertEqual(asked.endpoints, {**DEFAULT_ENDPOINTS, "http": ["tcp:2080"]})
        self.assertEqual(asked.registration, "closed")
        asked = self.parse("--http", "tcp:2080", "--pop3", "tcp:110", "--registration", "open").configuration()
        self.assertEqual(asked.endpoints, {"pop3": ["tcp:110"], "http": ["tcp:2080"]})
        self.assertEqual(asked.registration, "open")

    def test_what_cannot_be_is_told_in_one_line_with_status_2(self) -> None:
        for wrong, named in (
            (["--frobnicate"], "frobnicate"),
            (["argument"], "argument"),
            (["--smtp"], "smtp"),
            (["--smtp", "nonsense:25"], "--smtp"),
            (["--smtp", "tcp:no-number"], "--smtp"),
            (["--pop3", ""], "--pop3"),
            (["--submission", "tcp"], "--submission"),
            (["--domain", "not a domain"], "--domain"),
            (["--domain", "[127.0.0.1]"], "--domain"),
            (["--password-scheme", "rot13"], "--password-scheme"),
            (["--max-size", "big"], "--max-size"),
            (["--max-size", "0"], "--max-size"),
            (["--max-size", "9" * 5000], "--max-size"),
            (["--maildata", ""], "--maildata"),
            (["--certificate", "a.pem"], "--key"),
            (["--key", "a.pem"], "--certificate"),
            (["--wrong-passwords", "0"], "--wrong-passwords"),
            (["--lock-seconds", "long"], "--lock-seconds"),
            (["--max-connections", "0"], "--max-connections"),
            (["--max-connections-per-address", "-1"], "--max-connections-per-address"),
            (["--max-recipients", "99"], "--max-recipients"),
            (["--max-held", "0"], "--max-held"),
            (["--http", "nonsense"], "--http"),
            (["--registration", "maybe", "--http", "tcp:2080"], "--registration"),
            (["--registration", "open"], "--http"),
            (["--expire", "0"], "--expire"),
            (["--expire", "soon"], "--expire"),
            (["--login-delay", "-1"], "--login-delay"),
            (["--separator", "."], "--separator"),
            (["--separator", ""], "--separator"),
            (["--quota-octets", "0"], "--quota-octets"),
            (["--quota-letters", "many"], "--quota-letters"),
            (["--workers", "0"], "--workers"),
            (["--lmtp", "unix"], "--lmtp"),
            (["--lmtp", "tcp:24", "--lmtp-from", "192.0.2.1/24"], "--lmtp-from"),
            (["--lmtp", "tcp:24", "--lmtp-from", "everybody"], "--lmtp-from"),
            (["--lmtp-from", "192.0.2.0/24"], "--lmtp"),
            (["--smtp", "haproxy:tcp:25"], "--proxy-from"),
            (["--smtp", "tcp:25", "--proxy-from", "192.0.2.0/24"], "haproxy:"),
            (["--smtp", "haproxy:tcp:25", "--proxy-from", ""], "--proxy-from"),
            (["--workers", "257"], "--workers"),
        ):
            status, said = self.stopped(self.parse, *wrong)
            self.assertEqual(status, 2, wrong)
            self.assertRegex(said, r"\Amailbe: [^\n]+\n\Z", wrong)
            self.assertIn(named, said)

    def test_two_servers_may_be_started_from_one_folder(self) -> None:
        self.parse()
        self.assertEqual(self.twistd["pidfile"], "")
        self.parse(twistd=["-n", "--pidfile", "mine.pid"])
        self.assertEqual(Path(self.twistd["pidfile"]).name, "mine.pid")


class Making(OptionsCase):
    def test_twistd_knows_the_plugin(self) -> None:
        (plugin,) = (plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "mailbe")
        self.assertIs(plugin.options, tap.Options)

    def setUp(self) -> None:
        self.patch(reactor, "seconds", reactor.seconds)

    def test_time_is_measured_with_a_clock_that_nobody_sets(self) -> None:
        tap.makeService(self.parse())
        self.assertIs(reactor.seconds, time.monotonic)

    def test_it_has_all_descriptors_that_it_may_have(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
        tap.makeService(self.parse())
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (before[1], before[1]))

    def test_what_stops_it_is_told_on_the_terminal_it_was_started_from(self) -> None:
        def fail(self: MailService) -> None:
            raise CannotStart("the port is taken")

        self.patch(MailService, "privilegedStartService", fail)
        self.patch(MailService, "startService", fail)
        service = tap.makeService(self.parse())
        for start in (service.privilegedStartService, service.startService):
            self.assertEqual(self.stopped(start), (1, "mailbe: the port is taken\n"))

    def test_one_worker_is_a_process_of_its_own_and_several_have_a_supervisor(self) -> None:
        for words, kind in ((["--workers", "1"], MailService), (["--workers", "2"], Supervisor)):
            self.assertIsInstance(tap.makeService(self.parse(*words)), kind)

    def test_workers_write_to_the_terminal_only_where_the_log_does(self) -> None:
        for twistd, direct in (
            (["-n"], True),
            (["-n", "--logfile", "-"], True),
            (["-n", "--logfile", "mail.log"], False),
            (["-n", "--syslog"], False),
            ([], False),
        ):
            service = tap.makeService(self.parse("--workers", "2", twistd=twistd))
            assert isinstance(service, Supervisor)
            self.assertEqual(service._log_to_stdout, direct, twistd)

    def test_in_the_background_twistd_tells_it(self) -> None:
        def fail(self: MailService) -> None:
            raise CannotStart("the port is taken")

        self.patch(MailService, "privilegedStartService", fail)
        service = tap.makeService(self.parse(twistd=[]))
        self.assertRaises(CannotStart, service.privilegedStartService)

    def test_signals_reload_it_and_stop_it_once(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        done: list[str] = []
        self.patch(MailService, "reload", lambda service: done.append("reloaded"))
        self.patch(reactor, "callWhenRunning", lambda work, *arguments: work(*arguments))
        self.patch(reactor, "callFromThread", lambda work: work())

        def stop() -> None:
            if "stopped" in done:
                raise ReactorNotRunning
            done.append("stopped")

        self.patch(reactor, "stop", stop)
        tap.makeService(self.parse())
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        self.assertEqual(done, ["reloaded", "stopped"])
