"""The checks of conformance find what they are for: a server with one fault fails those checks that are about it, and
one without a fault passes them all.

The faults stand in ``tests/model/faults.py``.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mailbe import cli
from mailbe.conform import copies, door, mailbox
from mailbe.conform import find as finding
from mailbe.conform import run as running
from mailbe.conform.checks import TABLE, smtp_chunking, smtp_future
from mailbe.conform.find import Request, Unreachable, find
from mailbe.conform.rules import Level, Rule, Verdict
from mailbe.conform.run import LeftBehind, Result, Run
from mailbe.conform.sasl import Login
from mailbe.conform.smtp import Reply, SmtpWire
from tests.end_to_end.programs import reserved_port
from tests.model import ADDRESS, COPIES, PASSWORD, USER, Fault, Model
from tests.model.faults import ROWS, UNTRIED, Row, can, smtp, wrong


def family(rule: Rule) -> str:
    return rule.check.__module__.rpartition(".")[2]


def no_progress(done: int, whole: int) -> None:
    pass


ANSWER = 60  # seconds that one may take; nobody waits for so long
SILENCE = 10  # seconds after which there is none


class ConformCase(SynchronousTestCase):
    def setUp(self) -> None:
        # What the model does not hold has come before it is answered, so nobody waits for what is not there then.
        self.patch(running, "ARRIVAL", 0.1)
        self.patch(running, "LAST_ARRIVAL", 0.1)
        self.patch(mailbox, "PAUSE", 0.05)
        # One session's thread may learn late that its client has gone, and only then the next is let in.
        self.patch(door, "PAUSE", 0.1)
        self.patch(door, "TRIES", 600)
        self._folder = Path(self.mktemp()).resolve()
        self._folder.mkdir(parents=True)

    def serve(self, fault: Fault | None = None) -> Model:
        model = Model(self._folder, fault)
        self.addCleanup(model.close)
        return model

    def request(self, model: Model, ports: tuple[str, ...] = Row.ports, seconds: float = ANSWER) -> Request:
        those = {name: model.ports[name] for name in ports}
        return Request("localhost", Login(USER, PASSWORD), ADDRESS, those, ca=model.ca, seconds=seconds)

    def check(
        self, model: Model, rules: list[Rule], ports: tuple[str, ...] = Row.ports, seconds: float = ANSWER
    ) -> list[Result]:
        """Make these checks; whether the letters could be deleted does not matter."""
        request = self.request(model, ports, seconds)
        run = Run(request, find(request), no_progress, rules)
        run.prepare()
        with contextlib.suppress(LeftBehind):
            run.go()
        return run.results


class EveryCheckFindsItsFault(ConformCase):
    """A test for each family, made below."""

    def assert_found(self, family_name: str) -> None:
        self.patch(smtp_future, "HOLD", 3600)  # those who hold nothing cannot be so late
        for row in ROWS[family_name]:
            own = {rule.name: rule for rule in TABLE if family(rule) == family_name}
            rules = [own[name] for name in row.names.split()]
            self.patch(finding, "is_local", lambda host, remote=row.remote: not remote)
            model = self.serve(row.fault)
            before = [own[name] for name in row.before.split()]
            results = self.check(model, [*before, *rules], row.ports, SILENCE if row.silent else ANSWER)
            model.close()
            for rule in rules:
                wanted = Verdict.ABSENT if rule.level is Level.MAY else Verdict.FAILED
                verdicts = [(result.verdict, result.reason) for result in results if result.rule is rule]
                self.assertIn((wanted, ""), verdicts, rule.name)

    def test_every_rule_is_tried(self) -> None:
        tried = {(name, word) for name, rows in ROWS.items() for row in rows for word in row.names.split()}
        self.assertEqual(tried | UNTRIED, {(family(rule), rule.name) for rule in TABLE})
        self.assertEqual(tried & UNTRIED, set())


for _name in ROWS:

    def _test(self: EveryCheckFindsItsFault, name: str = _name) -> None:
        self.assert_found(name)

    setattr(EveryCheckFindsItsFault, f"test_{_name}", _test)


class AServerWithoutAFault(ConformCase):
    """What all of these tests look at is one run."""

    ran: ClassVar[tuple[Model, list[Result]] | None] = None

    def setUp(self) -> None:
        super().setUp()
        if self.ran is None:
            self.patch(running, "ARRIVAL", ANSWER)
            self.patch(running, "LAST_ARRIVAL", ANSWER)
            self.patch(smtp_future, "HOLD", 2)
            model = self.serve()
            model.letters["of-a-stranger"] = b"Subject: private\r\n\r\nNothing for you.\r\n"
            type(self).ran = model, self.check(model, list(TABLE))
        assert self.ran is not None
        self.model, self.results = self.ran

    def test_it_passes(self) -> None:
        wrong = [
            (result.listener, result.rule.name, result.sent, result.got, result.reason)
            for result in self.results
            if result.verdict in (Verdict.FAILED, Verdict.UNCLEAR)
        ]
        self.assertEqual(wrong, [])

    def test_no_letter_is_left_and_nobody_elses_is_read(self) -> None:
        self.assertEqual(set(self.model.letters), {"of-a-stranger"})
        self.assertNotIn("of-a-stranger", self.model.retrieved)

    def test_it_is_not_taken_for_mailbe(self) -> None:
        """Of whose copies the maildrop has a name that would be a failed log-in here."""
        self.assertEqual(set(self.model.names), {USER, ""})

    def test_each_listener_is_judged_by_its_own_offers(self) -> None:
        verdicts = {(result.listener, result.rule.name): result for result in self.results}
        for name in ("success-is-reported", "deliverby-is-taken", "a-letter-is-held-for-a-time"):
            self.assertEqual(verdicts["submission", name].verdict, Verdict.PASSED)
            self.assertRegex(verdicts["smtp", name].reason, r"\A[A-Z]+ is not offered\Z")
        refused = verdicts["smtp", "parameters-of-extensions-that-are-not-offered"].dialogue.lines
        for parameter in ("RET=HDRS ENVID=conform", "NOTIFY=NEVER", "BY=3600;N", "HOLDFOR=60"):
            [at] = [at for at, line in enumerate(refused) if line.endswith(f"> {parameter}")]
            self.assertEqual(refused[at + 1], "S: 555 5.0.0 what?")

    def test_only_our_own_address_and_reserved_names_are_asked_for(self) -> None:
        for recipient in self.model.recipients:
            self.assertRegex(recipient.lower(), r"(@model\.test|\.invalid|^postmaster)$")

    def test_a_wrong_password_is_said_twice_at_most_and_is_always_the_same(self) -> None:
        self.assertLessEqual(len(self.model.failures), 2)
        self.assertEqual(len(set(self.model.failures)), 1)

    def test_no_password_stands_in_a_dialogue(self) -> None:
        said = "\n".join(line for result in self.results for line in result.dialogue.lines)
        self.assertNotIn(PASSWORD, said)
        self.assertNotIn(base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode(), said)
        self.assertIn("PASS ****", said)


class CopiesOfWhatWasSent(ConformCase):
    """They are deleted, too, where the server is one that is known to keep them in a maildrop."""

    def run_on(self, fault: Fault) -> tuple[Model, list[Result]]:
        model = self.serve(fault)
        model.copies["of-a-stranger"] = b"Subject: private\r\n\r\nNothing for you.\r\n"
        names = ("dots-are-transparent", "success-is-reported", "quit-deletes-what-is-marked")
        return model, self.check(model, [rule for rule in TABLE if rule.name in names])

    def test_none_is_left_and_nobody_elses_is_read(self) -> None:
        model, results = self.run_on(can("IMPLEMENTATION mailbe-1.2.3", without="IMPLEMENTATION"))
        self.assertIn(Verdict.PASSED, [result.verdict for result in results if result.listener == "submission"])
        self.assertEqual(model.letters, {})
        self.assertEqual(set(model.copies), {"of-a-stranger"})
        self.assertNotIn("of-a-stranger", model.retrieved)
        self.assertEqual(model.failures, [])

    def test_no_letter_is_sent_where_they_could_not_be_deleted(self) -> None:
        fault = can("IMPLEMENTATION mailbe-1.2.3", without="IMPLEMENTATION")
        model, results = self.run_on(replace(fault, pop3={f"USER {re.escape(COPIES)}": "-ERR [AUTH] no"}))
        self.assertEqual((model.letters, set(model.copies)), ({}, {"of-a-stranger"}))
        reasons = {result.reason for result in results if result.rule.name == "dots-are-transparent"}
        [reason] = reasons
        self.assertIn("the copy that the server keeps of it could not be deleted again", reason)

    def test_how_their_maildrop_is_named(self) -> None:
        ours = {"IMPLEMENTATION": ["mailbe-0.1"]}
        for user, name in {
            "alice": "alice+envoi",
            "alice@model.test": "alice+envoi@model.test",
            '"a b"@model.test': '"a b+envoi"@model.test',
        }.items():
            self.assertEqual(copies.of(Login(user, "x"), ours), Login(name, "x"))
        for words in ([], ["mailbeat-2"], ["Dovecot"]):
            self.assertIsNone(copies.of(Login("alice", "x"), {"IMPLEMENTATION": words}))
        self.assertIsNone(copies.of(Login("alice", "x"), {}))


class Judging(ConformCase):
    def test_a_report_that_does_not_come_is_unclear_and_told(self) -> None:
        model = self.serve(wrong("reports-nothing"))
        request = self.request(model)
        run = Run(request, find(request), no_progress, [rule for rule in TABLE if rule.name == "success-is-reported"])
        run.prepare()
        with self.assertRaises(LeftBehind) as caught:
            run.go()
        self.assertIn("0 letters of this run are left, and 1 have not come yet", str(caught.exception))
        [result] = [result for result in run.results if result.listener == "submission"]
        self.assertEqual(
            (result.verdict, result.reason), (Verdict.UNCLEAR, "after 0.1 s 1 of 2 letters were in the maildrop")
        )
        self.assertEqual(model.letters, {})

    def test_what_was_broken_off_is_not_called_kept(self) -> None:
        rules = [rule for rule in TABLE if rule.name in ("dots-are-transparent", "noop-changes-nothing")]

        def break_off(done: int, whole: int) -> None:
            if done:
                raise KeyboardInterrupt

        model = self.serve()
        request = self.request(model, ports=("smtp", "pop3"))
        run = Run(request, find(request), break_off, [rules[1], rules[0]])
        run.prepare()
        self.assertRaises(KeyboardInterrupt, run.go)
        self.assertEqual([result.reason for result in run.results], ["it was broken off"])
        self.assertEqual(model.letters, {})

    def test_a_letter_that_was_broken_off_before_its_reply_is_waited_for_and_deleted(self) -> None:
        self.patch(running, "LAST_ARRIVAL", ANSWER)
        for name, owner, method in (
            ("dots-are-transparent", SmtpWire, "content"),
            ("a-letter-in-one-chunk", smtp_chunking, "_want"),
        ):
            self.assert_waited_for(name, owner, method)

    def assert_waited_for(self, name: str, owner: object, method: str) -> None:
        rules = [rule for rule in TABLE if rule.name == name]
        model = self.serve()
        request = self.request(model, ports=("smtp", "pop3"))
        run = Run(request, find(request), no_progress, rules)
        run.prepare()
        on_its_way: list[bytes] = []

        def say_and_be_broken_off(wire: SmtpWire, octets: bytes, **_: object) -> Reply:
            on_its_way.append(octets)
            raise KeyboardInterrupt

        def comes(pause: float) -> None:
            model.letters["late"] = on_its_way.pop()

        broken_off = self.patch(owner, method, say_and_be_broken_off)
        self.patch(run._mailbox, "_sleep", comes)
        self.assertRaises(KeyboardInterrupt, run.go)
        broken_off.restore()
        self.assertEqual((on_its_way, model.letters), ([], {}))

    def test_a_mailbox_that_is_full_breaks_no_rule(self) -> None:
        model = self.serve(Fault(smtp={"BDAT [0-9].*": "452 4.2.2 full"}))
        results = self.check(model, [rule for rule in TABLE if rule.name == "a-letter-in-one-chunk"])
        outcomes = {(result.verdict, result.reason) for result in results}
        self.assertEqual(outcomes, {(Verdict.UNCLEAR, "the letter was answered 452 4.2.2 full")})

    def test_silence_is_no_fault(self) -> None:
        rules = [rule for rule in TABLE if rule.name == "noop-says-ok"]
        request = self.request(self.serve(wrong("is-silent")), seconds=SILENCE)
        run = Run(request, find(request), no_progress, rules)
        run.prepare()
        run.go()
        self.assertEqual([result.verdict for result in run.results], [Verdict.UNCLEAR])
        self.assertIn("no answer to NOOP", run.results[0].reason)

    def test_the_pace_of_login_delay_is_kept(self) -> None:
        self.patch(door, "GRACE", ANSWER)
        drop = find(self.request(self.serve())).drop
        assert drop is not None
        slept: list[float] = []
        way = door.Door(drop, Login(USER, PASSWORD), slept.append)
        way.wait()
        self.assertEqual(slept, [])
        way.delay = 60
        way.to(Login(COPIES, PASSWORD)).wait()
        way.wait()
        # Whose maildrop was not opened yet need not wait; who comes again does, and for a log-in's time more.
        self.assertEqual(slept[0], 0)
        self.assertGreater(slept[1], 60)

    def test_a_log_in_that_fails_is_tried_once(self) -> None:
        model = self.serve()
        request = replace(self.request(model), login=Login(USER, "something else"))
        with self.assertRaises(Unreachable) as caught:
            Run(request, find(request), no_progress).prepare()
        self.assertIn("submission: the log-in of alice was answered 535", str(caught.exception))
        self.assertEqual(len(model.failures), 1)

    def test_no_password_crosses_the_network_in_the_clear(self) -> None:
        fault = Fault(
            offers=lambda known: [word for word in known if word != "STARTTLS"],
            capabilities=lambda known: [word for word in known if word != "STLS"],
        )
        self.patch(finding, "is_local", lambda host: False)
        for name in ("submission", "pop3"):
            model = self.serve(fault)
            request = self.request(model, ports=(name,))
            with self.assertRaises(Unreachable) as caught:
                Run(request, find(request), no_progress).prepare()
            self.assertIn("offers no TLS", str(caught.exception))

    def test_a_certificate_of_somebody_else_is_refused(self) -> None:
        model = self.serve()
        self.patch(finding, "is_local", lambda host: False)
        request = replace(self.request(model, ports=("pop3s",)), ca=None)
        with self.assertRaises(Unreachable) as caught:
            find(request)
        self.assertIn("its certificate is not to be trusted", str(caught.exception))

    def test_without_pop3_no_letter_is_sent(self) -> None:
        model = self.serve()
        results = self.check(model, list(TABLE), ("smtp",))
        self.assertEqual(model.letters, {})
        reasons = {result.rule.name: result.reason for result in results}
        self.assertIn("could not be deleted again", reasons["dots-are-transparent"])
        self.assertEqual(reasons["unknown-commands-are-answered-500"], "")

    def test_where_every_name_is_somebodys_there_is_nothing_to_verify(self) -> None:
        model = self.serve(smtp({"VRFY nobody.*": "250 yes", "RCPT TO:<nobody-of-.*": "250 yes"}))
        rules = [rule for rule in TABLE if rule.name == "vrfy-verifies-before-it-says-250"]
        verdicts = {result.verdict for result in self.check(model, rules, ("smtp",))}
        self.assertEqual(verdicts, {Verdict.SKIPPED})

    def test_without_smtp_the_rest_is_tried(self) -> None:
        model = self.serve()
        results = self.check(model, list(TABLE), ("pop3",))
        verdicts = {result.rule.name: result.verdict for result in results}
        self.assertEqual(verdicts["stat-tells-two-numbers"], Verdict.PASSED)
        self.assertEqual(verdicts["dots-are-stuffed"], Verdict.SKIPPED)


class Finding(ConformCase):
    """Which ports are taken where none are named."""

    def names(self, standard: dict[str, int], ours: dict[str, int]) -> set[str]:
        closed = dict.fromkeys(Row.ports, self.enterContext(reserved_port()))
        self.patch(finding, "STANDARD", closed | standard)
        self.patch(finding, "OURS", closed | ours)
        found = find(replace(self.request(self.model), ports={}))
        sites = [*found.sites, *found.sites_in_tls]
        return {each.name for each in (*sites, found.drop, found.drop_in_tls) if each is not None}

    def setUp(self) -> None:
        super().setUp()
        self.model = self.serve()

    def test_the_standard_ports_come_first(self) -> None:
        self.assertEqual(self.names(self.model.ports, {"smtp": self.model.ports["smtp"]}), set(Row.ports))

    def test_then_those_of_mailbe(self) -> None:
        self.assertEqual(self.names({}, self.model.ports), set(Row.ports))

    def test_a_mail_server_of_the_machine_itself_is_not_meant(self) -> None:
        """Where the standard ports have SMTP alone, and those of mailbe have POP3 as well."""
        self.assertEqual(self.names({"smtp": self.model.ports["smtp"]}, self.model.ports), set(Row.ports))

    def test_somebody_who_speaks_otherwise_is_not_there(self) -> None:
        self.assertEqual(
            self.names({"smtp": self.model.ports["pop3"]} | {"pop3": self.model.ports["pop3"]}, {}), {"pop3"}
        )

    def test_nobody_anywhere_is_one_line(self) -> None:
        with self.assertRaises(Unreachable) as caught:
            self.names({}, {})
        self.assertIn("nothing answers on localhost at the ports", str(caught.exception))


class TheCommand(ConformCase):
    """The command line, on some of the checks."""

    def run_command(self, fault: Fault | None, names: str, *options: str, password: str = PASSWORD) -> int:
        model = self.serve(fault)
        self.patch(running, "TABLE", [rule for rule in TABLE if rule.name in names.split()])
        ports = [word for name in ("smtp", "pop3") for word in (f"--{name}", str(model.ports[name]))]
        self.patch(sys, "stdin", io.StringIO(password + "\n"))
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        who = ["--user", USER, "--address", ADDRESS, "--password-stdin"]
        return cli.main(["conform", "localhost", *who, *ports, *options])

    def test_a_broken_must_is_status_1_and_told_in_full(self) -> None:
        status = self.run_command(smtp({"RSET": "502 what?"}), "rset-is-answered-250 quit-before-ehlo")
        self.assertEqual((status, self.err.getvalue()), (1, ""))
        said = self.out.getvalue()
        self.assertRegex(said, r"failed +MUST +RFC 5321 4\.1\.1\.5 +RSET is answered 250")
        self.assertRegex(said, r"sent: +RSET\n +came: +502 what\?\n +wanted: 250\n")
        self.assertIn("    C: RSET\n    S: 502 what?\n", said)
        self.assertNotIn("C: QUIT", said)
        self.assertIn("1 passed; broken: 1 MUST, 0 SHOULD; 0 absent, 0 skipped, 0 unclear", said)

    def test_a_broken_should_is_status_0(self) -> None:
        self.assertEqual(self.run_command(smtp({"XYZZY": "502 what?"}), "unknown-commands-are-answered-500"), 0)
        self.assertIn("broken: 0 MUST, 1 SHOULD", self.out.getvalue())

    def test_verbose_tells_the_dialogue_of_what_is_well(self) -> None:
        self.assertEqual(self.run_command(None, "quit-before-ehlo", "--verbose"), 0)
        self.assertIn("    C: QUIT\n    S: 221 2.0.0 bye\n", self.out.getvalue())

    def test_json_has_everything(self) -> None:
        self.assertEqual(self.run_command(smtp({"QUIT": "250 ok"}), "quit-before-ehlo", "--json"), 1)
        whole = json.loads(self.out.getvalue())
        self.assertEqual(whole["broken"], {"MUST": 1, "SHOULD": 0})
        [check] = whole["checks"]
        wanted = {"section": "RFC 5321 4.1.1.10", "verdict": "failed", "came": "250 ok", "wanted": "221"}
        self.assertEqual({key: check[key] for key in wanted}, wanted)
        self.assertIn("C: QUIT", check["dialogue"])

    def test_nobody_there_is_one_line(self) -> None:
        self.assertEqual(self.run_command(None, "", "--smtp", str(self.enterContext(reserved_port()))), 1)
        self.assertRegex(self.err.getvalue(), r"\Amailbe: smtp: no connection to localhost:\d+: .*\n\Z")

    def test_a_failed_log_in_is_one_line(self) -> None:
        self.assertEqual(self.run_command(None, "", password="wrong"), 1)
        self.assertEqual(self.err.getvalue(), "mailbe: pop3: the log-in of alice was answered -ERR [AUTH] no\n")

    def test_wrong_usage_is_status_2(self) -> None:
        for words in (
            [],
            ["a b"],
            ["localhost", "--smtp", "0"],
            ["localhost", "--address", "alice"],
            ["localhost", "--timeout", "0"],
            ["localhost", "--password-stdin"],
            ["localhost", "--user", USER],
            ["localhost", "--user", "", "--password-stdin"],
            ["localhost", "--user", USER, "--password-stdin"],
            ["localhost", "--ca", "x", "--unverified"],
        ):
            self.patch(sys, "stdin", io.StringIO("\n"))
            self.patch(sys, "stderr", io.StringIO())
            with self.assertRaises(SystemExit) as caught:
                cli.main(["conform", *words])
            self.assertEqual(caught.exception.code, 2, words)

    def test_letters_that_stay_are_told(self) -> None:
        status = self.run_command(wrong("deletes-nothing"), "dots-are-transparent")
        self.assertEqual(status, 1)
        sign = r"letters of this run are left, .* with conform-[0-9a-f]{16} in them\n\Z"
        self.assertRegex(self.err.getvalue(), sign)
