"""No descriptors left, in the process or in the system: who is there is served, and others come in later."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from tests.end_to_end.faults import FaultsTestCase
from tests.end_to_end.ledger import LARGE, LATER, OK, POP3_LATER, SMALL, say
from tests.end_to_end.letters import sender
from tests.end_to_end.programs import needs
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, Server, eventually, of_one_process, user
from tests.end_to_end.wire import Wire, encoded


@needs("gcc")
class DescriptorTests(FaultsTestCase):
    def test_when_the_system_has_none_left_clients_wait_and_the_server_does_not_spin(self) -> None:
        server = self.serve()
        with Wire(server.pop3) as there:
            there.reply()
            before = len(server.stdout)
            with self.faults.failing("open", "", errno.ENFILE):
                waiting = [Wire(port) for port in (server.smtp, server.smtp, server.pop3)]
                for _ in range(20):  # who is there is served, if not with what takes a descriptor
                    self.assertRegex(there.say("CAPA"), r"^\+OK ")
                    while there.reply() != ".":
                        pass
                self.assertRegex(there.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), POP3_LATER)
            for wire in waiting:
                self.assertRegex(wire.reply(), r"^(220|\+OK) ")
                wire.socket.close()
        self.assertLess(len(server.stdout) - before, 5000)
        self.assertNotIn("Traceback", server.stdout)

    def test_who_is_there_logs_in_and_begins_tls_without_any(self) -> None:
        server, ledger = self.serve_with_ledger()
        user(server.maildata, "add", "carol@localhost", "dormouse-5-tea", "--password-scheme", "argon2id")
        wires = [Wire(server.submission) for _ in range(2)]
        for wire in wires:
            self.addCleanup(wire.socket.close)
            wire.reply()
            wire.say("EHLO client.test")
        self.assertRegex(say(server.smtp, "HELO c", "MAIL FROM:<>", f"RCPT TO:<{BOB}>"), OK)  # the accounts are open
        trusting = server.trusting()
        with self.faults.failing("open", "", errno.EMFILE):
            log_in = f"AUTH PLAIN {encoded('', 'carol@localhost', 'dormouse-5-tea')}"
            self.assertRegex(wires[0].say(log_in), r"^235 ")  # the first of this scheme in this process
            self.assertRegex("".join(ledger.trouble()), "a log-in of carol@localhost is not written down: ")
            self.assertRegex(wires[1].say("STARTTLS"), r"^220 ")
            wires[1].start_tls(trusting)
            self.assertRegex(wires[1].say("EHLO client.test"), OK)
            self.assert_told(ledger, 0)
        for wire in wires:
            wire.socket.close()
        server.stop()

    @of_one_process("each worker has descriptors of its own")
    def test_when_the_process_has_none_left_letters_are_put_off_and_others_come_in_later(self) -> None:
        server, ledger = self.serve_with_ledger()
        with sender(server.submission, ALICE) as wire, Wire(server.pop3) as pop3:
            pop3.reply()
            self.assertEqual(ledger.send(wire, [BOB]), OK)
            ledger.trouble()
            limit = self.descriptors(server) + 20
            _, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, most))
            crowd = [Wire(server.smtp, f"127.0.0.{number}") for number in range(2, 42)]
            eventually(lambda: self.descriptors(server) >= limit, "there are no more descriptors")
            for octets in (SMALL, LARGE):
                self.assertRegex(ledger.send(wire, [BOB], octets), LATER)
            self.assertRegex(pop3.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), POP3_LATER)
            trouble = ledger.trouble()
            self.assertLess(len(trouble), 20)
            self.assertNotIn("Traceback", server.stdout)
            ledger.check()
            for one in crowd:
                one.socket.close()
            eventually(lambda: ledger.send(wire, [BOB, ALICE], LARGE) == OK, "there are descriptors again")
            with sender(server.submission, ALICE) as another:
                self.assertEqual(ledger.send(another, [BOB]), OK)
            self.assertRegex(pop3.say(f"USER {BOB}", f"PASS {PASSWORDS[BOB]}"), r"^\+OK 3 ")
            ledger.check()
        server.stop()

    def descriptors(self, server: Server) -> int:
        return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
