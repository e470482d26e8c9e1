"""LOGIN-DELAY and EXPIRE of a real server: told to everybody, kept by all its workers, and over a restart."""

from __future__ import annotations

import poplib

from tests.end_to_end.letters import SECONDS
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, EndToEndTestCase, Server, manage


class TermsTests(EndToEndTestCase):
    def capabilities(self, server: Server, name: str | None = None) -> tuple[list[str] | None, list[str] | None]:
        """What CAPA says of LOGIN-DELAY and EXPIRE, to a stranger or to who has logged in."""
        pop3 = poplib.POP3("127.0.0.1", server.pop3, SECONDS)
        try:
            if name:
                pop3.user(name)
                pop3.pass_(PASSWORDS[name])
            told = pop3.capa()
            pop3.quit()
        finally:
            pop3.close()
        return told.get("LOGIN-DELAY"), told.get("EXPIRE")

    def assert_too_soon(self, server: Server, name: str) -> None:
        with self.assertRaises(poplib.error_proto) as refused:
            self.capabilities(server, name)
        self.assertIn("-ERR [LOGIN-DELAY] ", str(refused.exception))

    def test_without_options_there_is_neither(self) -> None:
        server = self.serve()
        for name in (None, ALICE, ALICE):
            self.assertEqual(self.capabilities(server, name), (None, ["NEVER"]))

    def test_the_delay_is_kept_by_every_worker_and_over_a_restart(self) -> None:
        server = self.serve("--login-delay", "3600", "--workers", "2")
        self.assertEqual(self.capabilities(server, ALICE), (["3600"], ["NEVER"]))
        for _ in range(6):  # one worker or the other
            self.assert_too_soon(server, ALICE)
        server.stop()
        server.start()
        self.assert_too_soon(server, ALICE)
        self.assertEqual(self.capabilities(server, BOB), (["3600"], ["NEVER"]))
        manage(server.maildata, "delay", ALICE, "0")
        for _ in range(2):
            self.assertEqual(self.capabilities(server, ALICE), (None, ["NEVER"]))
        self.assertEqual(self.capabilities(server), (["3600", "USER"], ["NEVER"]))

    def test_the_days_are_told_before_and_after_the_log_in(self) -> None:
        server = self.serve("--expire", "30")
        self.assertEqual(self.capabilities(server), (None, ["30"]))
        manage(server.maildata, "expire", ALICE, "7")
        manage(server.maildata, "expire", BOB, "never")
        self.assertEqual(self.capabilities(server), (None, ["7", "USER"]))
        self.assertEqual(self.capabilities(server, ALICE), (None, ["7"]))
        self.assertEqual(self.capabilities(server, BOB), (None, ["NEVER"]))
        manage(server.maildata, "expire", ALICE, "default")
        self.assertEqual(self.capabilities(server), (None, ["30", "USER"]))
