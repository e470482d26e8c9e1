"""The client finds the server on this machine by itself, and others by their name."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailbe import listening
from mailbe.client.servers import Door, find
from mailbe.listening import Listening, Port

EVERYWHERE = "0.0.0.0"  # noqa: S104


class Finding(SynchronousTestCase):
    def setUp(self) -> None:
        self.maildata = Path(self.mktemp())
        (self.maildata / "tls").mkdir(parents=True)
        self.ca = self.maildata / "tls" / "ca.pem"
        self.ca.touch()

    def tells(self, *ports: Port) -> None:
        told = Listening(("mail.example", "other.example"), ports, classic=False, has_authority=True)
        listening.write(self.maildata / "listening.json", told)

    def test_a_running_server_tells_its_ports_the_safest_first(self) -> None:
        self.tells(
            Port("smtp", EVERYWHERE, 25), Port("pop3", EVERYWHERE, 110), Port("pop3s", "192.0.2.1", 995),
            Port("submission", "::", 587), Port("submissions", "127.0.0.1", 465), Port("http", EVERYWHERE, 8080),
        )  # fmt: skip
        found = find(self.maildata)
        self.assertEqual((found.name, found.domain, found.authorities), ("mail.example", "mail.example", (self.ca,)))
        self.assertEqual(found.pop3, (Door("192.0.2.1", 995, True), Door("127.0.0.1", 110, False)))
        self.assertEqual(found.smtp, (Door("127.0.0.1", 465, True), Door("::1", 587, False)))
        self.assertEqual(found.site, "http://127.0.0.1:8080")

    def test_where_mail_only_arrives_it_is_sent_from_there(self) -> None:
        self.tells(Port("smtp", "127.0.0.1", 25))
        self.assertEqual(find(self.maildata).smtp, (Door("127.0.0.1", 25, False),))
        self.assertEqual(find(self.maildata).pop3, ())

    def test_a_site_on_another_address_than_loopback_is_gone_to_in_tls(self) -> None:
        self.tells(Port("http", "2001:db8::1", 443))
        self.assertEqual(find(self.maildata).site, "https://[2001:db8::1]:443")

    def test_where_no_server_runs_it_is_what_mailbe_listens_on_by_default(self) -> None:
        found = find(self.maildata)
        self.assertEqual((found.name, found.domain, found.site), ("localhost", "localhost", None))
        self.assertEqual(found.pop3, (Door("localhost", 2995, True), Door("localhost", 2110, False)))
        self.assertEqual(found.smtp, (Door("localhost", 2465, True), Door("localhost", 2587, False)))
        self.assertEqual(found.authorities, (self.ca,))

    def test_another_host_has_the_usual_ports_and_is_not_vouched_for_by_our_authority(self) -> None:
        self.tells(Port("pop3s", "127.0.0.1", 995))
        found = find(self.maildata, "pop.example.org", site="https://example.org/mail/")
        self.assertEqual((found.name, found.authorities), ("pop.example.org", ()))
        self.assertEqual(found.pop3, (Door("pop.example.org", 995, True), Door("pop.example.org", 110, False)))
        self.assertEqual(found.smtp, (Door("pop.example.org", 465, True), Door("pop.example.org", 587, False)))
        self.assertEqual(found.site, "https://example.org/mail")

    def test_a_host_of_any_letters_is_looked_up_as_itself(self) -> None:
        """IDNA 2008: the older one, which Python's sockets and TLS go by, would go to strasse.example."""
        self.assertEqual(find(self.maildata, "Straße.example").name, "xn--strae-oqa.example")
        for literally in ("::1", "no_host", "a..b", "☃.example"):
            self.assertEqual(find(self.maildata, literally).name, literally)

    def test_what_is_asked_for_is_taken(self) -> None:
        ca = Path("other.pem")
        found = find(self.maildata, "127.0.0.1", pop3=995, smtp=4711, ca=ca)
        self.assertEqual((found.pop3, found.smtp), ((Door("127.0.0.1", 995, True),), (Door("127.0.0.1", 4711, None),)))
        self.assertEqual(found.authorities, (ca, self.ca))

    def test_an_authority_that_is_not_ours_to_read_is_done_without(self) -> None:
        self.patch(os, "access", lambda path, mode: False)
        self.assertEqual(find(self.maildata).authorities, ())
