"""``mailbe dns`` and ``mailbe thunderbird``: what they print is true of the running server, and used as it is."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import dns.name
import dns.rdataset
import dns.rdatatype
import dns.zonefile
from twisted.trial.unittest import SynchronousTestCase

from mailbe import cli, listening
from mailbe.accounts.database import Accounts
from mailbe.accounts.directory import add_domain
from mailbe.address import Address
from mailbe.announce import NothingToTell, profile, zone
from mailbe.autoconfig import Server, servers
from mailbe.listening import Listening
from mailbe.maildata import Maildata
from tests.test_autoconfig import EVERYWHERE, NAME, all_on, told

SERVICES = ("_submissions", "_submission", "_pop3s", "_pop3", "_imaps", "_imap")
SAFE = (
    *(("smtp", EVERYWHERE, 25), ("submission", "::", 587), ("submissions", "::", 465)),
    *(("pop3", "::", 110), ("pop3s", "::", 995), ("http", "::", 443)),
)


def comments(of: Listening) -> str:
    return "\n".join(line for line in zone.lines(of) if line.startswith(";"))


class Zone(SynchronousTestCase):
    def records(self, of: Listening) -> dict[tuple[str, str], set[str]]:
        """What a name server reads out of the lines: name and type to the data."""
        sets = dns.zonefile.read_rrsets("\n".join(zone.lines(of)), rdclass=None, origin=dns.name.root)
        return {
            (one.name.to_text(), dns.rdatatype.to_text(one.rdtype)): {data.to_text() for data in one} for one in sets
        }

    def services(self, of: Listening, domain: str = NAME) -> dict[str, set[str]]:
        records = self.records(of)
        return {name: records[f"{name}._tcp.{domain}.", "SRV"] for name in SERVICES}

    def test_all_that_is_open_can_be_found(self) -> None:
        self.assertEqual(
            self.records(told(*SAFE)),
            {
                ("example.org.", "MX"): {"10 example.org."},
                ("_submissions._tcp.example.org.", "SRV"): {"0 0 465 example.org."},
                ("_submission._tcp.example.org.", "SRV"): {"10 0 587 example.org."},
                ("_pop3s._tcp.example.org.", "SRV"): {"0 0 995 example.org."},
                ("_pop3._tcp.example.org.", "SRV"): {"10 0 110 example.org."},
                ("_imaps._tcp.example.org.", "SRV"): {"0 0 0 ."},
                ("_imap._tcp.example.org.", "SRV"): {"0 0 0 ."},
                ("autoconfig.example.org.", "CNAME"): {"example.org."},
            },
        )

    def test_implicit_tls_is_preferred(self) -> None:
        services = self.services(told(*SAFE))
        for safer, other in (("_submissions", "_submission"), ("_pop3s", "_pop3")):
            self.assertLess(*(int(next(iter(services[name])).split()[0]) for name in (safer, other)))

    def test_what_does_not_listen_is_said_not_to_be_there(self) -> None:
        services = self.services(told(("pop3s", "::", 995)))
        self.assertEqual(services.pop("_pop3s"), {"0 0 995 example.org."})
        self.assertEqual(set(map(frozenset, services.values())), {frozenset({"0 0 0 ."})})

    def test_what_listens_for_this_machine_alone_is_named_and_not_told(self) -> None:
        of = told(("submissions", "::", 465), ("pop3s", "127.0.0.1", 995), ("http", "::1", 443))
        self.assertEqual(self.services(of)["_pop3s"], {"0 0 0 ."})
        self.assertNotIn(("autoconfig.example.org.", "CNAME"), self.records(of))
        for text in ("pop3s listens on 127.0.0.1 port 995, for this machine only", "http listens on ::1 port 443"):
            self.assertIn(text, comments(of))

    def test_of_what_is_behind_a_balancer_nothing_is_said_that_may_be_wrong(self) -> None:
        of = replace(told(("pop3s", "::", 995)), proxied=("smtp", "submissions", "http"))
        records = self.records(of)
        self.assertNotIn(("_submissions._tcp.example.org.", "SRV"), records)
        self.assertEqual(records["_submission._tcp.example.org.", "SRV"], {"0 0 0 ."})
        self.assertEqual(records["_pop3s._tcp.example.org.", "SRV"], {"0 0 995 example.org."})
        for listener in of.proxied:
            self.assertIn(f"; {listener} is behind a balancer", comments(of))
        for text in ("No MX", "No autoconfig"):
            self.assertNotIn(text, comments(of))
        self.records(replace(of, ports=()))

    def test_a_classic_server_lets_nobody_send_from_elsewhere(self) -> None:
        services = self.services(told(*SAFE, classic=True))
        self.assertEqual((services["_submission"], services["_submissions"]), ({"0 0 0 ."}, {"0 0 0 ."}))
        self.assertEqual(services["_pop3s"], {"0 0 995 example.org."})

    def test_services_are_those_that_autoconfig_tells_others(self) -> None:
        for classic in (False, True):
            of = all_on(EVERYWHERE, classic=classic)
            ports = {data.split()[2] for one in self.services(of).values() for data in one} - {"0"}
            self.assertEqual(ports, {str(way.port) for way in servers(of, at_home=False)})

    def test_mail_comes_by_port_25_alone(self) -> None:
        for ports, reason in (
            ([("smtp", "127.0.0.1", 25), ("pop3s", "::", 995)], "no port is open for mail"),
            ([("smtp", "::", 2525)], "smtp listens on 2525"),
        ):
            of = told(*ports)
            self.assertNotIn(("example.org.", "MX"), self.records(of))
            self.assertIn(reason, comments(of))

    def test_mail_programs_ask_for_autoconfig_at_the_webs_ports_alone(self) -> None:
        for port, found in ((443, True), (80, True), (8080, False)):
            of = told(("http", "::", port), ("pop3s", "::", 995))
            self.assertEqual(("autoconfig.example.org.", "CNAME") in self.records(of), found, port)
            self.assertEqual("No autoconfig" in comments(of), not found, port)

    def test_every_domain_leads_to_the_server(self) -> None:
        of = told(*SAFE, domains=(NAME, "example.net"))
        records = self.records(of)
        for domain in (NAME, "example.net"):
            self.assertEqual(records[f"{domain}.", "MX"], {"10 example.org."})
            self.assertEqual(records[f"autoconfig.{domain}.", "CNAME"], {"example.org."})
            self.assertEqual(self.services(of, domain)["_pop3s"], {"0 0 995 example.org."})

    def test_a_domain_that_no_zone_can_hold_is_left_out_and_said_so(self) -> None:
        long = ".".join(["x" * 63] * 4)[:250]
        of = told(*SAFE, domains=(NAME, "localhost", "school.localhost", "y" * 64, long))
        self.assertEqual({name.endswith("example.org.") for name, _ in self.records(of)}, {True})
        for domain in ("localhost is this machine", "school.localhost is this machine", "y" * 64 + " is too", long):
            self.assertIn(f"; {domain}", comments(of))

    def test_a_server_named_localhost_has_nothing_to_publish(self) -> None:
        for name in ("localhost", "school.localhost", "LOCALHOST"):
            with self.assertRaisesRegex(NothingToTell, "--domain"):
                list(zone.lines(told(*SAFE, domains=[name, NAME])))

    def test_a_server_for_this_machine_alone_has_nothing_to_publish(self) -> None:
        for of in (told(), all_on("127.0.0.1"), all_on("::1")):
            with self.assertRaisesRegex(NothingToTell, "--pop3s tcp:995"):
                list(zone.lines(of))

    def test_no_promise_is_made_about_who_sends_for_the_domain(self) -> None:
        of = told(*SAFE)
        self.assertNotIn("TXT", {kind for _, kind in self.records(of)})
        self.assertIn("No SPF", comments(of))

    def test_the_line_for_who_wants_spf_can_be_used_as_it_is(self) -> None:
        [line] = re.findall(r"example\.org\. .* TXT .*", comments(told(*SAFE)))
        [[data]] = dns.zonefile.read_rrsets(line, rdclass=None, origin=dns.name.root)
        self.assertEqual(data.to_text(), '"v=spf1 -all"')


def preferences(text: str) -> dict[str, object]:
    """What Thunderbird reads out of a user.js."""
    found: dict[str, object] = {}
    string = r"\"(?:[ !#-\[\]-~]|\\[\"\\]|\\u[0-9a-f]{4})*\""
    for line in text.splitlines():
        match = re.fullmatch(rf"user_pref\((\"[a-zA-Z0-9._]+\"), ({string}|true|false|[0-9]+)\);", line)
        assert match, line
        name, value = map(json.loads, match.groups())
        assert name not in found, name
        found[name] = value
    return found


class UserJs(SynchronousTestCase):
    def of(self, listens: Listening, address: str = "alice@example.org") -> Mapping[str, object]:
        parsed = Address.parse(address)
        return preferences(profile.user_js(parsed, *profile.ways(listens, parsed)))

    def test_the_account_fetches_and_sends_in_the_safest_way(self) -> None:
        found = self.of(told(*SAFE))
        for name, value in (
            *(("server.server1.hostname", NAME), ("server.server1.port", 995), ("server.server1.socketType", 3)),
            *(("smtpserver.smtp1.hostname", NAME), ("smtpserver.smtp1.port", 465), ("smtpserver.smtp1.try_ssl", 3)),
            *(("server.server1.type", "pop3"), ("server.server1.authMethod", 3), ("smtpserver.smtp1.authMethod", 3)),
            *(("server.server1.userName", "alice@example.org"), ("smtpserver.smtp1.username", "alice@example.org")),
            ("identity.id1.useremail", "alice@example.org"),
        ):
            self.assertEqual(found[f"mail.{name}"], value, name)

    def test_where_there_is_no_port_for_implicit_tls_it_is_starttls(self) -> None:
        found = self.of(told(("pop3", "::", 110), ("submission", "::", 587)))
        self.assertEqual((found["mail.server.server1.port"], found["mail.server.server1.socketType"]), (110, 2))
        self.assertEqual((found["mail.smtpserver.smtp1.port"], found["mail.smtpserver.smtp1.try_ssl"]), (587, 2))

    def test_ports_that_other_machines_reach_come_before_those_of_this_one(self) -> None:
        home = (("pop3s", "127.0.0.1", 1), ("submissions", "127.0.0.1", 2))
        abroad = (("pop3", "::", 110), ("submission", "::", 587))
        self.assertEqual(self.of(told(*home, *abroad))["mail.server.server1.hostname"], NAME)
        self.assertEqual(self.of(told(*home))["mail.server.server1.hostname"], "localhost")
        # One that fetches and cannot send is none.
        self.assertEqual(self.of(told(*home, abroad[0]))["mail.smtpserver.smtp1.hostname"], "localhost")

    def test_a_classic_server_is_sent_to_without_a_log_in(self) -> None:
        found = self.of(all_on("127.0.0.1", classic=True))
        self.assertEqual(found["mail.smtpserver.smtp1.authMethod"], 1)
        self.assertEqual(found["mail.server.server1.authMethod"], 3)

    def test_a_hostile_address_stays_inside_its_string(self) -> None:
        address = '"\\"); alert(1); //\\\\"@example.org'
        found = self.of(told(*SAFE), address)
        self.assertEqual(found["mail.server.server1.userName"], str(Address.parse(address)))

    def test_the_file_is_ascii_whatever_the_address(self) -> None:
        server = Server("pop3", NAME, 995, "SSL", "password-cleartext")
        for local in ("alice", "\u00e9lise", "\u7f8e"):
            text = profile.user_js(Address(local, NAME), server, server)
            self.assertTrue(text.isascii())
            self.assertEqual(preferences(text)["mail.server.server1.userName"], f"{local}@{NAME}")

    def test_a_domain_is_known_in_both_its_forms(self) -> None:
        found = self.of(told(*SAFE, domains=["xn--bcher-kva.example"]), "\u00e9lise@B\u00dcCHER.example")
        self.assertEqual(found["mail.server.server1.hostname"], "xn--bcher-kva.example")

    def test_there_is_none_for_the_address_of_another_domain(self) -> None:
        with self.assertRaisesRegex(NothingToTell, "its domains: example.org"):
            self.of(told(*SAFE), "alice@example.com")

    def test_there_is_none_for_a_server_that_one_cannot_fetch_from_and_send_to(self) -> None:
        ports: Iterable[tuple[str, str, int]]
        for ports in ((), (("pop3s", "::", 1),), (("smtp", "::", 25), ("submissions", "::", 1))):
            with self.assertRaisesRegex(NothingToTell, "start it with both"):
                self.of(told(*ports))


class Commands(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.root.mkdir()

    def runs(self, of: Listening) -> None:
        """Let a server run that says this: this process."""
        listening.write(Maildata(self.root).listening, of)

    def mailbe(self, *arguments: str) -> tuple[int, str, str]:
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            status = cli.main(["--maildata", str(self.root), *arguments])
        return status, out.getvalue(), err.getvalue()

    def refused(self, *arguments: str) -> str:
        status, out, err = self.mailbe(*arguments)
        self.assertEqual((status, out, err.count("\n")), (1, "", 1), err)
        self.assertTrue(err.startswith("mailbe: "), err)
        return err

    def test_where_no_server_runs_one_line_says_what_to_do(self) -> None:
        for command in (("dns",), ("thunderbird", "alice@example.org")):
            self.assertIn("start one", self.refused(*command))

    def test_dns_prints_the_lines(self) -> None:
        self.runs(told(*SAFE))
        self.assertEqual(self.mailbe("dns"), (0, "".join(f"{line}\n" for line in zone.lines(told(*SAFE))), ""))

    def test_domains_that_were_added_since_the_server_began_are_told_of_too(self) -> None:
        self.runs(told(*SAFE))
        self.assertEqual(cli.main(["--maildata", str(self.root), "user", "list"]), 0)  # which makes the database
        accounts = Accounts(Maildata(self.root).accounts)
        self.addCleanup(accounts.close)
        add_domain(accounts, "added.example", None, None)
        _, out, _ = self.mailbe("dns")
        self.assertRegex(out, r"(?m)^added\.example\.\s.*\sMX\s+10 example\.org\.$")
        self.assertEqual(self.mailbe("thunderbird", "alice@added.example")[0], 0)
        self.assertEqual(self.mailbe("thunderbird", "alice@elsewhere.example")[0], 1)

    def test_dns_says_in_one_line_why_there_is_nothing(self) -> None:
        self.runs(all_on("127.0.0.1"))
        self.assertIn("nobody but this machine", self.refused("dns"))

    def test_thunderbird_prints_the_file_and_says_beside_it_where_it_goes(self) -> None:
        self.runs(told(*SAFE))
        status, out, err = self.mailbe("thunderbird", "alice@example.org")
        self.assertEqual(status, 0)
        self.assertEqual(preferences(out)["mail.server.server1.port"], 995)
        self.assertIn("thunderbird --profile", err)

    def test_thunderbird_writes_the_file_where_it_is_told_and_over_nobody_elses(self) -> None:
        self.runs(told(*SAFE))
        file = self.root / "user.js"
        command = ("thunderbird", "alice@example.org", "--output", str(file))
        status, out, _ = self.mailbe(*command)
        self.assertEqual((status, out), (0, ""))
        self.assertEqual(preferences(file.read_text())["mail.server.server1.port"], 995)
        file.write_text("// mine\n")
        self.assertIn(f"{file}: File exists", self.refused(*command))
        self.assertEqual(file.read_text(), "// mine\n")

    def test_thunderbird_tells_how_to_trust_the_server_that_made_its_certificate(self) -> None:
        for has_authority in (True, False):
            self.runs(told(*SAFE, has_authority=has_authority))
            _, _, err = self.mailbe("thunderbird", "alice@example.org")
            policies = re.findall(r"\{.*\}", err)
            self.assertEqual(str((self.root / "tls" / "ca.pem").absolute()) in err, has_authority)
            self.assertEqual(len(policies), has_authority)
            for one in policies:
                [path] = json.loads(one)["policies"]["Certificates"]["Install"]
                self.assertIn(f"to {path}\n", err)

    def test_thunderbird_says_if_the_account_is_for_this_machine_alone(self) -> None:
        local = told(("pop3s", "127.0.0.1", 1), ("submissions", "::1", 2), domains=[NAME, "localhost"])
        for of, alone in ((all_on("127.0.0.1"), True), (local, True), (told(*SAFE), False)):
            self.runs(of)
            self.assertEqual("no ports for others" in self.mailbe("thunderbird", "alice@example.org")[2], alone)

    def test_what_is_no_address_is_refused(self) -> None:
        self.runs(told(*SAFE))
        for text in ("alice", "", "alice@", "\N{NO-BREAK SPACE}@", "alice@example.com"):
            self.refused("thunderbird", text)
