"""Thunderbird finds out by itself: nothing is typed but a name, an address and a password."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.end_to_end.letters import fetch
from tests.end_to_end.network import needs_a_network, network_of_its_own
from tests.end_to_end.programs import needs
from tests.end_to_end.server import ALICE, PASSWORDS, QUICK, EndToEndTestCase, Server, mailbe, user
from tests.end_to_end.thunderbird import Thunderbird

NAME = "Alice Liddell"
SUBJECT = "Grüße aus dem Kaninchenbau"
TEXT = "Schöne Grüße!\n.\n..\n.x\n\nund Schluß"
ATTACHMENT = os.urandom(10_000)
WEB = [word for port in (80, 443) for word in ("--http", f"tcp:{port}:interface=127.0.0.1")]
DOMAIN = "school.localhost"  # which Thunderbird looks for on this machine, with all names below it
STUDENT = f"alice@{DOMAIN}"
PASSWORD = PASSWORDS[ALICE]
# It would ask while it starts, when nobody is there who answers.
LATER = 'user_pref("mail.server.server1.login_at_startup", false);\n'


class LetterCase(EndToEndTestCase):
    def assert_sends_and_fetches(self, thunderbird: Thunderbird, server: Server, address: str, protocol: str) -> None:
        """Send a letter to oneself and read it.

        :param protocol: the one that the server is to have taken it by, as in its Received line.
        """
        attachment = self.scratch() / "a.bin"
        attachment.write_bytes(ATTACHMENT)
        thunderbird.send(address, SUBJECT, TEXT, attachment)
        self.assertEqual(thunderbird.get_messages(), 1)
        shown = thunderbird.read(SUBJECT)
        self.assertEqual((shown.text.strip("\n"), shown.attachments), (TEXT, {"a.bin": ATTACHMENT}))
        [copy] = server.letters("envoi", address)
        self.assertIn(f" with {protocol} id ".encode(), copy.read_bytes())


@needs("thunderbird")
@needs_a_network
class AccountHubTests(LetterCase):
    def setUp(self) -> None:
        self.enterContext(network_of_its_own())

    def test_name_address_and_password_are_enough_to_send_and_fetch(self) -> None:
        maildata = self.scratch() / "maildata"
        user(maildata, "add", STUDENT, PASSWORD)
        server = self.serve("--domain", DOMAIN, *WEB, maildata=maildata)
        thunderbird = self.enterContext(Thunderbird(self.scratch()))
        thunderbird.trust(server.ca)
        hub = thunderbird.open_account_hub()
        self.assertEqual(
            hub.look_up(NAME, STUDENT),
            {
                "incomingType": "pop3",
                "incomingHost": "localhost",
                "incomingPort": str(server.ports["pop3s"]),
                "outgoingType": "smtp",
                "outgoingHost": "localhost",
                "outgoingPort": str(server.ports["submissions"]),
                "sharedUsername": STUDENT,
                "sharedSocketType": "SSL/TLS",
                "sharedAuthenticationType": "Normal Password",
            },
        )
        hub.log_in(PASSWORD)
        self.assertEqual(hub.outcome(), "")
        hub.finish()
        thunderbird.type_passwords("it is remembered")
        self.assert_sends_and_fetches(thunderbird, server, STUDENT, "ESMTPSA")
        self.assertEqual(thunderbird.passwords_asked_for(), [])
        [copy] = server.letters("envoi", STUDENT)
        self.assertIn(f"From: {NAME} <{STUDENT}>".encode(), copy.read_bytes())

    def test_a_mistyped_password_is_told_and_the_right_one_is_taken_after_it(self) -> None:
        server = self.serve(*WEB, *QUICK)
        thunderbird = self.enterContext(Thunderbird(self.scratch()))
        thunderbird.trust(server.ca)
        hub = thunderbird.open_account_hub()
        hub.look_up(NAME, ALICE)
        hub.log_in("white-rabbit-8")
        self.assertRegex(hub.outcome(), "username or password")
        hub.log_in(PASSWORD)
        self.assertEqual(hub.outcome(), "")

    def test_an_untrusted_certificate_is_shown_and_no_password_is_sent_until_the_authority_is_trusted(self) -> None:
        server = self.serve(*WEB)
        thunderbird = self.enterContext(Thunderbird(self.scratch()))
        hub = thunderbird.open_account_hub()
        # Over plain HTTP, as HTTPS is not to be had from a server that is not trusted.
        self.assertEqual(hub.look_up(NAME, ALICE)["sharedSocketType"], "SSL/TLS")
        for _ in range(10):
            hub.log_in(PASSWORD)
            said = hub.cancel_dialog()
            self.assertRegex(hub.outcome(), "Unable to log in")
            # One time in seven Thunderbird takes the certificate that it refuses for a connection that was refused.
            if "the connection was refused" not in said:
                break
        self.assertRegex(said, rf"localhost:{server.ports['pop3s']}\b.* not trusted")
        self.assertNotIn("reason=", server.stdout)
        self.assertEqual(server.letters("envoi", ALICE), [])
        thunderbird.trust(server.ca)
        hub.log_in(PASSWORD)
        self.assertEqual(hub.outcome(), "")
        hub.finish()
        self.assert_sends_and_fetches(thunderbird, server, ALICE, "ESMTPSA")

    def test_a_classic_server_is_sent_to_without_a_log_in(self) -> None:
        server = self.serve("--classic", *WEB)
        thunderbird = self.enterContext(Thunderbird(self.scratch()))
        thunderbird.trust(server.ca)
        hub = thunderbird.open_account_hub()
        shown = hub.look_up(NAME, ALICE)
        self.assertEqual(shown["outgoingPort"], str(server.ports["submissions"]))
        self.assertEqual(shown["outgoingAuthenticationType"], "None")
        self.assertEqual(shown["incomingAuthenticationType"], "Normal Password")
        hub.log_in(PASSWORD)
        self.assertEqual(hub.outcome(), "")
        hub.finish()
        self.assert_sends_and_fetches(thunderbird, server, ALICE, "SMTP")


@needs("thunderbird")
class UserJsTests(LetterCase):
    def told(self, server: Server) -> tuple[str, str]:
        """What ``mailbe thunderbird`` prints, and what it says beside it."""
        done = mailbe("--maildata", str(server.maildata), "thunderbird", ALICE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr

    def assert_asks_for_a_password_and_no_more(self, thunderbird: Thunderbird, server: Server) -> None:
        thunderbird.type_passwords(PASSWORD)
        self.assertEqual(thunderbird.get_messages(), 0)
        self.assert_sends_and_fetches(thunderbird, server, ALICE, "ESMTPSA")
        asked = thunderbird.passwords_asked_for()
        self.assertEqual(len(asked), 2, asked)  # to fetch and to send
        for text in asked:
            self.assertEqual(text, f"Enter your password for {ALICE} on localhost:")

    def test_a_new_profile_has_the_account_and_asks_for_the_password_alone(self) -> None:
        server = self.serve()
        text, _ = self.told(server)
        thunderbird = self.enterContext(Thunderbird(self.scratch(), text + LATER))
        thunderbird.trust(server.ca)
        self.assert_asks_for_a_password_and_no_more(thunderbird, server)
        self.assertEqual(len(fetch(server.pop3, ALICE)), 1)

    @needs_a_network
    def test_the_policy_that_is_named_beside_it_has_the_authority_trusted(self) -> None:
        server = self.serve()
        text, said = self.told(server)
        etc = self.scratch()
        copied = re.search(r"copy (\S+) to /etc/thunderbird/(\S+)", said)
        policy = re.search(r"write into /etc/thunderbird/(\S+): (.*)", said)
        assert copied, said
        assert policy, said
        for name, octets in ((copied[2], Path(copied[1]).read_bytes()), (policy[1], policy[2].encode())):
            (etc / name).parent.mkdir(exist_ok=True)
            (etc / name).write_bytes(octets)
        thunderbird = self.enterContext(Thunderbird(self.scratch(), text + LATER, etc))
        self.assert_asks_for_a_password_and_no_more(thunderbird, server)

    def test_it_tells_what_the_server_that_runs_listens_on_and_nothing_of_one_that_does_not(self) -> None:
        server = self.serve()
        text, _ = self.told(server)
        ports = set(re.findall(r'\.port", (\d+)\)', text))
        self.assertEqual(ports, {str(server.ports[name]) for name in ("pop3s", "submissions")})
        server.stop()
        done = mailbe("--maildata", str(server.maildata), "thunderbird", ALICE)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
