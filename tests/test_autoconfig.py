"""What a mail program is told: only what listens, only to who reaches it, the safest first."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe import autoconfig
from mailbe.autoconfig import Server, document, servers
from mailbe.listening import Listening, Port

LISTENERS = ("smtp", "submission", "submissions", "pop3", "pop3s", "http")
NAME = "example.org"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is opened
HELP = "https://example.org/thunderbird"

# What the draft's schema has within each element, in the order of its example.
CHILDREN = {
    "clientConfig": ["emailProvider"],
    "emailProvider": [
        *("domain", "displayName", "displayShortName", "incomingServer", "outgoingServer", "documentation")
    ],
    "incomingServer": ["hostname", "port", "socketType", "authentication", "username"],
    "outgoingServer": ["hostname", "port", "socketType", "authentication", "username"],
    "documentation": ["descr"],
}
MAY_REPEAT = {"domain", "incomingServer", "outgoingServer", "descr"}
ATTRIBUTES = {
    "clientConfig": {"version"},
    "emailProvider": {"id"},
    "incomingServer": {"type"},
    "outgoingServer": {"type"},
    "documentation": {"url"},
    "descr": {"lang"},
}
VALUES = {
    "socketType": {"SSL", "STARTTLS", "plain"},
    "authentication": {"password-cleartext", "none"},
    "username": {"%EMAILADDRESS%"},
}


def told(
    *ports: tuple[str, str, int], domains: Iterable[str] = (NAME,), classic: bool = False, has_authority: bool = True
) -> Listening:
    return Listening(tuple(domains), tuple(Port(*port) for port in ports), classic, has_authority)


def all_on(host: str, *, classic: bool = False) -> Listening:
    """A server with a port of each kind."""
    return told(*((name, host, 1000 + number) for number, name in enumerate(LISTENERS)), classic=classic)


def ways(of: Listening, *, at_home: bool) -> list[tuple[str, str, int, str]]:
    return [(way.kind, way.host, way.port, way.socket) for way in servers(of, at_home=at_home)]


class Servers(SynchronousTestCase):
    def test_others_are_told_of_tls_alone_at_the_servers_name(self) -> None:
        for host in (EVERYWHERE, "::", "192.0.2.1"):
            self.assertEqual(
                ways(all_on(host), at_home=False),
                [
                    ("pop3", NAME, 1004, "SSL"),
                    ("pop3", NAME, 1003, "STARTTLS"),
                    ("smtp", NAME, 1002, "SSL"),
                    ("smtp", NAME, 1001, "STARTTLS"),
                ],
                host,
            )

    def test_others_are_told_nothing_of_ports_of_this_machine_alone(self) -> None:
        for host in ("127.0.0.1", "127.0.0.2", "::1"):
            self.assertEqual(ways(all_on(host), at_home=False), [], host)

    def test_this_machine_is_told_of_all_ways_the_safest_first(self) -> None:
        for host in ("127.0.0.1", "::1"):
            self.assertEqual(
                ways(all_on(host), at_home=True),
                [
                    ("pop3", "localhost", 1004, "SSL"),
                    ("pop3", "localhost", 1003, "STARTTLS"),
                    ("pop3", "localhost", 1003, "plain"),
                    ("smtp", "localhost", 1002, "SSL"),
                    ("smtp", "localhost", 1001, "STARTTLS"),
                    ("smtp", "localhost", 1001, "plain"),
                ],
                host,
            )

    def test_without_tls_a_port_is_told_as_localhost_even_if_it_is_open_to_all(self) -> None:
        self.assertEqual(
            ways(told(("pop3", EVERYWHERE, 1)), at_home=True),
            [("pop3", NAME, 1, "STARTTLS"), ("pop3", "localhost", 1, "plain")],
        )

    def test_without_tls_a_port_on_the_network_is_told_to_nobody(self) -> None:
        self.assertEqual(ways(told(("pop3", "192.0.2.1", 1)), at_home=True), [("pop3", NAME, 1, "STARTTLS")])

    def test_a_loopback_address_without_a_name_is_told_as_it_is(self) -> None:
        self.assertEqual(ways(told(("pop3s", "127.0.0.2", 1)), at_home=True), [("pop3", "127.0.0.2", 1, "SSL")])

    def test_one_port_of_both_protocols_of_the_internet_is_told_once(self) -> None:
        both = told(("pop3s", EVERYWHERE, 995), ("pop3s", "::", 995))
        self.assertEqual(ways(both, at_home=False), [("pop3", NAME, 995, "SSL")])

    def test_a_password_is_needed_wherever_there_is_a_log_in(self) -> None:
        for way in servers(all_on(EVERYWHERE), at_home=True):
            self.assertEqual(way.authentication, "password-cleartext", way)

    def test_a_classic_server_takes_letters_from_this_machine_alone_and_has_no_log_in_for_them(self) -> None:
        for host in ("127.0.0.1", EVERYWHERE):
            classic = all_on(host, classic=True)
            self.assertEqual(
                [way for way in servers(classic, at_home=True) if way.kind == "smtp"],
                [Server("smtp", "localhost", 1002, "SSL", "none"), Server("smtp", "localhost", 1001, "plain", "none")],
            )
            self.assertNotIn("smtp", {way.kind for way in servers(classic, at_home=False)})

    def test_a_classic_server_is_fetched_from_as_any_other(self) -> None:
        for at_home in (True, False):
            classic, other = (
                [way for way in servers(all_on(EVERYWHERE, classic=classic), at_home=at_home) if way.kind == "pop3"]
                for classic in (True, False)
            )
            self.assertEqual(classic, other)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(LISTENERS),
                st.sampled_from(["127.0.0.1", "127.0.0.2", "::1", EVERYWHERE, "::", "192.0.2.1"]),
                st.integers(1, 65535),
            )
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_nothing_is_told_that_does_not_listen_or_is_less_safe_than_what_follows(
        self, ports: list[tuple[str, str, int]], classic: bool, at_home: bool
    ) -> None:
        safety = ["SSL", "STARTTLS", "plain"]
        told_ways = servers(told(*ports, classic=classic), at_home=at_home)
        for kind, listeners in (("pop3", {"pop3", "pop3s"}), ("smtp", {"submission", "submissions"})):
            ours = [way for way in told_ways if way.kind == kind]
            self.assertLessEqual({way.port for way in ours}, {port for name, _, port in ports if name in listeners})
            self.assertEqual(ours, sorted(ours, key=lambda way: safety.index(way.socket)))
        self.assertTrue(at_home or not any(way.socket == "plain" or way.host != NAME for way in told_ways))
        self.assertEqual(len(told_ways), len(set(told_ways)))


class Document(SynchronousTestCase):
    def read(
        self, of: Listening, domain: str | None = NAME, *, at_home: bool = False, help_page: str = HELP
    ) -> ET.Element:
        octets = document(of, domain, at_home=at_home, help_page=help_page)
        assert octets is not None
        self.assertTrue(octets.startswith(b"<?xml version="), octets)
        return ET.fromstring(octets)  # noqa: S314 - our own

    def assert_keeps_to_the_draft(self, element: ET.Element) -> None:
        self.assertEqual(set(element.attrib), ATTRIBUTES.get(element.tag, set()), element.tag)
        names = [child.tag for child in element]
        allowed = CHILDREN.get(element.tag, [])
        self.assertLessEqual(set(names), set(allowed), element.tag)
        self.assertEqual(names, sorted(names, key=allowed.index), element.tag)
        for name in set(names) - MAY_REPEAT:
            self.assertEqual(names.count(name), 1, name)
        if not allowed:
            self.assertTrue(element.text and element.text.strip(), element.tag)
            self.assertIn(element.text, VALUES.get(element.tag, {element.text}))
        for child in element:
            self.assert_keeps_to_the_draft(child)

    def test_it_keeps_to_the_draft(self) -> None:
        for host, at_home in ((EVERYWHERE, False), (EVERYWHERE, True), ("127.0.0.1", True)):
            for classic in {False, at_home}:
                root = self.read(all_on(host, classic=classic), at_home=at_home)
                self.assertEqual(root.tag, "clientConfig")
                self.assert_keeps_to_the_draft(root)

    def test_it_tells_what_the_servers_are(self) -> None:
        of = all_on(EVERYWHERE)
        read = []
        for section in self.read(of).iter():
            if section.tag in ("incomingServer", "outgoingServer"):
                host, port, socket, authentication, _ = (one.text or "" for one in section)
                read.append(Server(section.attrib["type"], host, int(port), socket, authentication))
        self.assertEqual(read, servers(of, at_home=False))

    def test_it_fits_the_addresses_of_all_domains(self) -> None:
        domains = (NAME, "example.net")
        for domain in (*domains, "EXAMPLE.Net", None):
            root = self.read(told(("pop3s", "::", 1), ("submissions", "::", 2), domains=domains), domain)
            self.assertEqual([one.text for one in root.iter("domain")], list(domains))
            self.assertEqual({one.text for one in root.iter("hostname")}, {NAME})

    def test_a_domain_is_known_in_both_its_forms(self) -> None:
        of = told(("pop3s", "::", 1), ("submissions", "::", 2), domains=["xn--bcher-kva.example"])
        for domain in ("bücher.example", "BÜCHER.example", "XN--Bcher-kva.example"):
            self.assertIsNotNone(document(of, domain, at_home=False, help_page=None), domain)

    def test_there_is_none_for_a_domain_of_others(self) -> None:
        for domain in (
            "example.com",
            "",
            "sub.example.org",
            "example.org.",
            "exämple.org",
            "\udcff",
            "\N{KELVIN SIGN}",
        ):
            self.assertIsNone(document(all_on("::"), domain, at_home=True, help_page=None), domain)

    def test_there_is_none_where_one_cannot_both_fetch_and_send(self) -> None:
        for of, at_home in (
            (told(), True),
            (told(("pop3s", "::", 1)), True),
            (told(("submissions", "::", 1), ("smtp", "::", 25)), True),
            (all_on("127.0.0.1"), False),
            (told(("pop3s", "127.0.0.1", 1), ("submissions", EVERYWHERE, 2)), False),
            (all_on(EVERYWHERE, classic=True), False),
        ):
            self.assertIsNone(document(of, NAME, at_home=at_home, help_page=None), of)

    def test_names_are_no_longer_than_the_draft_allows(self) -> None:
        root = self.read(told(("pop3s", "::", 1), ("submissions", "::", 2), domains=["x" * 70]), None)
        self.assertEqual(root.findtext(".//displayName"), "x" * 60)
        self.assertEqual(root.findtext(".//displayShortName"), "x" * 20)

    def test_people_are_sent_to_the_help_page_in_their_language(self) -> None:
        [documentation] = self.read(all_on("::")).iter("documentation")
        self.assertEqual(documentation.get("url"), HELP)
        self.assertEqual({one.get("lang") for one in documentation}, {"en", "fr"})

    def test_without_a_help_page_it_names_none(self) -> None:
        octets = document(all_on("::"), NAME, at_home=True, help_page=None)
        assert octets is not None
        self.assertNotIn(b"documentation", octets)

    def test_a_strange_url_is_escaped(self) -> None:
        strange = "https://example.org/?a=\"<&>'"
        [documentation] = self.read(all_on("::"), help_page=strange).iter("documentation")
        self.assertEqual(documentation.get("url"), strange)

    def test_thunderbird_reads_its_type_as_xml(self) -> None:
        self.assertTrue(autoconfig.CONTENT_TYPE.startswith("text/xml"))
