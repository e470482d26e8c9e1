"""Other mail servers pass letters on to mailbe, and use what it offers: Postfix, and Dovecot's relay for CHUNKING.

Postfix of Debian 12 takes chunks, and sends none: it says DATA whatever is offered.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import TypeVar, cast

from tests.end_to_end import utf8
from tests.end_to_end.dovecot import dovecot_relay
from tests.end_to_end.letters import below_trace, fetch, letter, send
from tests.end_to_end.programs import needs
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.relays import SECONDS, postfix
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    EndToEndTestCase,
    Server,
    eventually,
    manage,
    of_one_process,
)
from tests.end_to_end.utf8 import JOERG, JoergTestCase
from tests.end_to_end.wire import Wire, encoded

STRANGER, NOBODY = "s@example.org", "nobody@localhost"
DOTS = b"Subject: from Postfix\n\n.\n..\nend\n"
LMTP = ("--lmtp", "tcp:0:interface=127.0.0.1")

Test = TypeVar("Test", bound=Callable[..., None])


def needs_sasl_plugins(test: Test) -> Test:
    """Skip a test where Postfix has no way to log in anywhere."""
    if not list(Path("/usr/lib").glob("*/sasl2/libplain.so")):
        test.skip = "needs the Debian package libsasl2-modules"  # type: ignore[attr-defined]
    return test


def reports(server: Server) -> list[Message]:
    """The delivery reports in Alice's maildrop."""
    letters = [message_from_bytes(octets) for octets in fetch(server.pop3, ALICE)]
    return [one for one in letters if one.get_content_type() == "multipart/report"]


def told(report: Message) -> dict[str, str]:
    """The fields of a report, which is of one recipient (RFC 3464 2.1)."""
    [status] = [part for part in report.walk() if part.get_content_type() == "message/delivery-status"]
    fields: dict[str, str] = {}
    for group in cast(list[Message], status.get_payload()):
        fields |= {name.lower(): " ".join(value.split()) for name, value in group.items()}
    return fields


class PostfixTests(JoergTestCase):
    if os.geteuid() != 0:
        skip = "Postfix is started by root only"

    def await_reports(self, server: Server, count: int) -> list[dict[str, str]]:
        """What the delivery reports in Alice's maildrop say, when so many are there."""
        eventually(lambda: len(reports(server)) >= count, f"{count} reports", SECONDS)
        found = [told(report) for report in reports(server)]
        self.assertEqual(len(found), count)
        return found

    @needs("postfix")
    def test_what_is_offered_is_used_in_one_breath(self) -> None:
        server = self.serve_joerg()
        header = f"From: {JOERG}\nTo: {JOERG}\nSubject: größer\nMIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n"
        with Recorder(server.smtp) as wire, postfix(relayhost=f"[127.0.0.1]:{wire.port}") as host:
            host.send(JOERG, JOERG, ALICE, letter=f"{header}\nHallo, Jörg\n".encode())
            for address in (JOERG, ALICE):
                self.assertIn("(250 2.0.0 ok ", host.outcome(address, "sent"))
        [breath] = [breath for breath in wire.breaths if "MAIL " in breath]
        original = r"utf-8;j\\x\{F6}rg@b\\x\{FC}cher\.example"  # RFC 6533 3
        lines = [
            rf"MAIL FROM:<{JOERG}> SIZE=[1-9]\d+ BODY=8BITMIME SMTPUTF8",
            rf"RCPT TO:<{JOERG}> ORCPT={original}",
            rf"RCPT TO:<{ALICE}> ORCPT=rfc822;{ALICE}",
            "DATA",
        ]
        self.assertRegex(breath, "".join([r"\A", *(rf"{line}\r\n" for line in lines), r"\Z"]))
        [stored] = utf8.fetch(server.pop3)
        self.assertIn(f"Return-Path: <{JOERG}>\r\n".encode(), stored)
        self.assertIn(b" with UTF8SMTP id ", stored)
        self.assertTrue(stored.endswith("\r\n\r\nHallo, Jörg\r\n".encode()))

    @needs("postfix")
    @needs_sasl_plugins
    def test_it_logs_in_in_tls(self) -> None:
        server = self.serve()
        settings = {
            "relayhost": f"[localhost]:{server.submission}",
            "smtp_tls_security_level": "secure",
            "smtp_tls_CAfile": str(server.ca),
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_password_maps": f"inline:{{ {{ localhost={ALICE}:{PASSWORDS[ALICE]} }} }}",
            "smtp_sasl_tls_security_options": "noanonymous",
        }
        with postfix(**settings) as host:
            host.send(ALICE, BOB, letter=DOTS)
            host.outcome(BOB, "sent")
        [stored] = fetch(server.pop3, BOB)
        self.assertIn(b" with ESMTPSA id ", stored)
        self.assertEqual(len(server.letters("envoi", ALICE)), 1)

    @of_one_process("a UNIX socket is for one process")
    @needs("postfix")
    def test_it_hands_letters_over_by_lmtp_on_a_socket(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mailbe-"))  # a socket needs a short path
        self.addCleanup(shutil.rmtree, folder)
        folder.chmod(0o755)
        server = self.serve("--lmtp", f"unix:{folder}/lmtp")
        self.assert_handed_over(server, f"unix:{folder}/lmtp")

    @needs("postfix")
    def test_it_hands_letters_over_by_lmtp_on_a_port(self) -> None:
        server = self.serve(*LMTP)
        with Recorder(server.ports["lmtp"]) as wire:
            self.assert_handed_over(server, f"inet:127.0.0.1:{wire.port}")
        self.assertRegex(wire.said, rf"\ALHLO postfix\.test\r\nMAIL FROM:<{ALICE}> SIZE=\d+\r\nRCPT TO:")

    def assert_handed_over(self, server: Server, where: str) -> None:
        """Two have a letter; that a third is unknown comes back to Alice, the same way."""
        with postfix(default_transport=f"lmtp:{where}") as host:
            host.send(ALICE, ALICE, BOB, NOBODY, letter=DOTS)
            for address in (ALICE, BOB):
                self.assertIn("(250 2.0.0 ok ", host.outcome(address, "sent"))
            self.assertIn(" dsn=5.1.1, ", host.outcome(NOBODY, "bounced"))
            [bounce] = self.await_reports(server, 1)
        self.assertEqual(bounce["diagnostic-code"], "smtp; 550 5.1.1 nobody of that name is here")
        [stored] = fetch(server.pop3, BOB)
        self.assertTrue(stored.endswith(b"\r\n\r\n.\r\n..\r\nend\r\n"))
        self.assertIn(b" with LMTP id ", stored)

    @needs("postfix")
    def test_what_one_mailbox_has_no_room_for_waits_for_it_alone(self) -> None:
        self.assert_waits_for_room("RCPT TO command")

    @needs("postfix")
    def test_so_it_does_where_the_size_is_known_only_at_the_end(self) -> None:
        self.assert_waits_for_room("end of DATA command", lmtp_discard_lhlo_keywords="size")

    def assert_waits_for_room(self, refused: str, **settings: str) -> None:
        server = self.serve(*LMTP)
        manage(server.maildata, "quota", BOB, "--octets", "3000")
        text = letter(STRANGER, [ALICE, BOB], "large", "a line of some length\n" * 200)
        where = f"lmtp:inet:127.0.0.1:{server.ports['lmtp']}"
        with postfix(default_transport=where, **settings) as host:
            host.send(STRANGER, ALICE, BOB, letter=text.replace(b"\r\n", b"\n"))
            host.outcome(ALICE, "sent")
            full = f" said: 452 4.2.2 the mailbox is full; try again later (in reply to {refused})"
            self.assertIn(full, host.delay(BOB))
            self.assertEqual(fetch(server.pop3, BOB), [])
            manage(server.maildata, "quota", BOB, "--octets", "none")
            host.try_again()
            host.outcome(BOB, "sent")
        for address in (ALICE, BOB):
            [stored] = fetch(server.pop3, address)
            self.assertTrue(stored.endswith(text.partition(b"\r\n\r\n")[2]))

    @needs("postfix")
    def test_who_asks_for_reports_gets_one_for_each_recipient_and_who_wants_none_none(self) -> None:
        server = self.serve(*LMTP)
        for number, transport in enumerate(
            (f"smtp:127.0.0.1:{server.smtp}", f"lmtp:inet:127.0.0.1:{server.ports['lmtp']}"), 1
        ):
            with postfix(default_transport=transport) as host:
                host.send(ALICE, BOB, NOBODY, letter=DOTS, options=("-N", "never"))
                host.outcome(NOBODY, "bounced")
                envelope = f"envelope-{number}"
                host.send(ALICE, BOB, NOBODY, letter=DOTS, options=("-N", "success,failure", "-V", envelope))
                found = self.await_reports(server, 2 * number)[-2:]
            actions = {fields["final-recipient"].partition(";")[2].strip(): fields["action"] for fields in found}
            self.assertEqual(set(actions), {BOB, NOBODY})
            self.assertEqual(actions[NOBODY], "failed")
            self.assertEqual(actions[BOB], "delivered")
            self.assertEqual({fields["original-envelope-id"] for fields in found}, {envelope})

    @needs("postfix")
    def test_it_passes_on_what_is_asked_of_reports_and_ours_says_delivered(self) -> None:
        server = self.serve()
        with Recorder(server.smtp) as wire, postfix(relayhost=f"[127.0.0.1]:{wire.port}") as host:
            host.send(ALICE, BOB, letter=DOTS, options=("-N", "success,failure", "-R", "hdrs", "-V", "envelope-1"))
            [fields] = self.await_reports(server, 1)
        self.assertRegex(wire.said, rf"MAIL FROM:<{ALICE}> SIZE=\d+ ENVID=envelope-1 RET=HDRS\r\n")
        self.assertIn(f"RCPT TO:<{BOB}> ORCPT=rfc822;{BOB} NOTIFY=SUCCESS,FAILURE\r\n", wire.said)
        self.assertEqual(fields["reporting-mta"], "x-local-hostname; localhost")
        self.assertEqual((fields["action"], fields["original-envelope-id"]), ("delivered", "envelope-1"))
        self.assertRegex(fields["final-recipient"], rf"(?i)^rfc822; ?{BOB}$")


class DovecotRelayTests(EndToEndTestCase):
    """Its users submit with DATA, and it sends on with BDAT."""

    @needs("dovecot", "submission-login")
    def test_a_large_letter_comes_in_chunks(self) -> None:
        server = self.serve()
        text = letter(ALICE, [BOB], "in chunks", attachment=bytes(range(256)) * 4000)
        with Recorder(server.submission) as wire, dovecot_relay(wire.port, ALICE, PASSWORDS[ALICE]) as relay:
            send(relay.port, ALICE, [BOB, ALICE], text)
        chunks = [(int(octets), last) for octets, last in re.findall(r"BDAT (\d+)( LAST)?\r\n", wire.said)]
        self.assertGreater(len(chunks), 1)
        self.assertEqual([bool(last) for _, last in chunks], [False] * (len(chunks) - 1) + [True])
        self.assertGreater(sum(octets for octets, _ in chunks), len(text))  # with the relay's own trace
        self.assertNotIn("\nDATA\r\n", wire.said)
        [sent] = [path.read_bytes() for path in server.letters("envoi", ALICE)]
        for address in (ALICE, BOB):
            [stored] = fetch(server.pop3, address)
            self.assertTrue(below_trace(stored).endswith(text))
            self.assertIn(b" with ESMTPA id ", stored)
        self.assertEqual(below_trace(sent), below_trace(stored))

    @needs("dovecot", "submission-login")
    def test_a_binary_letter_comes_as_one(self) -> None:
        server = self.serve()
        # The relay makes line ends of CR and LF wherever they stand.
        octets = bytes(octet for octet in range(256) if octet not in b"\r\n") * 20
        header = (
            b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        )
        with (
            Recorder(server.submission) as wire,
            dovecot_relay(wire.port, ALICE, PASSWORDS[ALICE]) as relay,
            Wire(relay.port) as client,
        ):
            client.reply()
            client.say("EHLO client.test", f"AUTH PLAIN {encoded('', ALICE, PASSWORDS[ALICE])}", "EHLO client.test")
            client.say(f"MAIL FROM:<{ALICE}> BODY=BINARYMIME", f"RCPT TO:<{BOB}>")
            client.socket.sendall(f"BDAT {len(header + octets)} LAST\r\n".encode() + header + octets)
            self.assertEqual(client.reply()[:3], "250")
        self.assertRegex(wire.said, rf"MAIL FROM:<{ALICE}> [^\r\n]*BODY=BINARYMIME\r\n")
        [stored] = fetch(server.pop3, BOB)
        self.assertEqual(message_from_bytes(stored).get_payload(decode=True), octets)
