"""The full screen of ``mailbe client`` against a real server, with a pilot at its keys, and once in a real terminal."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from textual.pilot import Pilot
from textual.widgets import Static
from twisted.trial.unittest import SynchronousTestCase

from mailbe.client import dial
from mailbe.client.screen import program
from mailbe.client.screen.compose import Compose
from mailbe.client.screen.files import ChooseFile
from mailbe.client.screen.letters import Letters
from mailbe.client.screen.log_in import GivenUp, LogIn, Register
from mailbe.client.screen.protocol import Protocol
from mailbe.client.screen.questions import Question, TrustQuestion
from mailbe.client.servers import find
from mailbe.client.trust import Trust
from tests.client_screen import Hands, dialogue, play
from tests.end_to_end.letters import letter, send
from tests.end_to_end.programs import needs
from tests.end_to_end.server import ALICE, BOB, PASSWORDS, QUICK, EndToEndTestCase, Server, environment, eventually
from tests.end_to_end.utf8 import JOERG, PASSWORD, JoergTestCase

FAR = Path("no-server-here")
SECONDS = 120  # the most that a terminal may take


class AgainstTheServer(JoergTestCase):
    def _play(
        self, server: Server, script: Callable[[Hands], Awaitable[None]], *, trusting: bool = True
    ) -> tuple[int | None, Trust]:
        """Run the program on ``server``; returns its exit status, and whom it trusts in the end."""
        # Whoever listens there says nothing before TLS, however long he is waited for.
        self.patch(dial, "SECONDS_FOR_A_GREETING", 0.1)
        servers = find(FAR, "localhost", server.ports["pop3s"], server.ports["submissions"])
        trust = Trust([server.ca] if trusting else [], self.scratch() / "certificates")

        async def run(pilot: Pilot[int]) -> None:
            await script(Hands(pilot))

        return play(program(servers, trust, None), run, (120, 36)), trust

    def test_log_in_compose_with_a_file_read_delete_undelete_and_quit(self) -> None:
        server = self.serve()
        tarts = self.scratch() / "tarts.txt"
        tarts.write_bytes(b"flour, butter, jam\n" * 10_000)

        async def script(hands: Hands) -> None:
            await hands.log_in(ALICE, PASSWORDS[ALICE])
            await hands.on(Letters)
            await hands.sees("No letters.")
            await hands.press("c")
            await hands.on(Compose)
            await hands.paste(f"{ALICE}, {BOB}")
            await hands.press("enter", "enter", "enter")
            await hands.paste("Who stole the tarts?")
            await hands.press("enter")
            await hands.paste("I have a suspicion.\n.\nIt is no dormouse.")
            await hands.press("ctrl+t")
            await hands.on(ChooseFile)
            await hands.paste(str(tarts))
            await hands.press("enter")
            await hands.on(Compose)
            await hands.press("ctrl+s")
            screen = await hands.on(Letters)
            await hands.sees(f"Sent to {ALICE}, {BOB}")
            await hands.press("g")
            await hands.sees("1 new letter.", "Who stole the tarts?")
            await hands.press("enter")
            await hands.sees("It is no dormouse.", "tarts.txt", "190 kB")
            await hands.press("escape", "d", "u", "d")
            await hands.sees("1 marked for deletion")
            lines = dialogue(screen.query_one(Protocol))
            for line in (
                "SMTP C: DATA [RFC 5321 4.1.1.4]",
                f"SMTP C: RCPT TO:<{BOB}> [RFC 5321 4.1.1.3]",
                "POP3 C: RETR 1 [RFC 1939 5]",
            ):
                self.assertIn(line, lines)
            self.assertNotIn(PASSWORDS[ALICE], "\n".join(lines))
            self.assertEqual(len(server.letters("reception", ALICE)), 1)
            await hands.press("q")
            await hands.on(Question)
            await hands.press("y")
            await hands.ended()

        self.assertEqual(self._play(server, script)[0], 0)
        self.assertEqual(server.letters("reception", ALICE), [])
        self.assertEqual(len(server.letters("reception", BOB)), 1)

    def test_whose_name_needs_utf8_writes_and_is_written_to(self) -> None:
        server = self.serve_joerg()

        async def script(hands: Hands) -> None:
            await hands.log_in(JOERG, PASSWORD)
            await hands.on(Letters)
            await hands.press("c")
            await hands.on(Compose)
            await hands.paste(f"{ALICE}, Jörg <{JOERG}>")
            await hands.press("enter", "enter", "enter")
            await hands.paste("größer")
            await hands.press("ctrl+s")
            screen = await hands.on(Letters)
            await hands.sees(f"Sent to {ALICE}, {JOERG}")
            await hands.press("g")
            await hands.sees("1 new letter.", "größer")
            await hands.press("enter")
            await hands.sees(f"{JOERG}  to  {ALICE}, Jörg")
            await hands.press("r")
            compose = await hands.on(Compose)
            self.assertEqual(compose.draft.to, f"{ALICE}, Jörg <{JOERG}>")
            await hands.press("ctrl+s")
            await hands.on(Letters)
            await hands.sees(f"Sent to {ALICE}, {JOERG}")
            lines = dialogue(screen.query_one(Protocol))
            self.assertIn("POP3 C: UTF8 [RFC 6856 2.1]", lines)
            self.assertIn(f"SMTP C: RCPT TO:<{JOERG}> [RFC 5321 4.1.1.3]", lines)
            said = [line for line in lines if line.startswith(f"SMTP C: MAIL FROM:<{JOERG}>")]
            self.assertEqual([line.partition(" SMTPUTF8")[2] for line in said], [" [RFC 6531 3.4]"] * 2)
            await hands.press("q")
            await hands.ended()

        self.assertEqual(self._play(server, script)[0], 0)
        self.assertEqual(len(server.letters("reception", ALICE)), 2)

    def test_letters_that_were_undeleted_are_there_after_leaving(self) -> None:
        server = self.serve()
        send(server.submission, BOB, [ALICE], letter(BOB, [ALICE], "Down the rabbit-hole"))

        async def script(hands: Hands) -> None:
            await hands.log_in(ALICE, PASSWORDS[ALICE])
            await hands.on(Letters)
            await hands.sees("Down the rabbit-hole")
            await hands.press("d", "u", "q")
            await hands.ended()

        self.assertEqual(self._play(server, script)[0], 0)
        self.assertEqual(len(server.letters("reception", ALICE)), 1)

    def test_an_unknown_certificate_is_asked_about_once(self) -> None:
        server = self.serve()

        async def script(hands: Hands) -> None:
            await hands.log_in(ALICE, PASSWORDS[ALICE])
            await hands.on(TrustQuestion)
            asked = hands.client.screen.query_one(Static).render()
            self.assertIn("SHA-256", str(asked))
            await hands.press("y")
            await hands.on(Letters)
            await hands.press("q")
            await hands.ended()

        self._play(server, script, trusting=False)

    def test_register_and_be_logged_in(self) -> None:
        maildata = self.scratch() / "maildata"
        server = Server(maildata, "--http", "tcp:0:interface=127.0.0.1", "--registration", "open")
        self.addCleanup(server.close)
        server.start()
        servers = find(maildata)
        client = program(servers, Trust(servers.authorities, self.scratch() / "certificates"), None)

        async def run(pilot: Pilot[int]) -> None:
            hands = Hands(pilot)
            await hands.on(LogIn)
            await hands.press("ctrl+r")
            await hands.on(Register)
            for text in ("alice", PASSWORDS[ALICE], PASSWORDS[ALICE]):
                await hands.paste(text)
                await hands.press("enter")
            await hands.on(Letters)
            await hands.sees(ALICE, "No letters.")
            await hands.press("q")
            await hands.ended()

        self.assertEqual(play(client, run), 0)

    def test_three_failures(self) -> None:
        server = self.serve(*QUICK)

        async def script(hands: Hands) -> None:
            await hands.log_in(ALICE, "cheshire")
            for password in ("cat", "grin"):
                await hands.sees("left)")
                await hands.on(LogIn)
                await hands.paste(password)
                await hands.press("enter")
            await hands.on(GivenUp)
            await hands.press("q")
            await hands.ended()

        self.assertEqual(self._play(server, script)[0], 1)


class AServerThatNeverAnswers(SynchronousTestCase):
    def test_keys_work_it_can_be_given_up_and_left(self) -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        port = silent.getsockname()[1]
        client = program(find(FAR, "localhost", port, port), Trust([], Path(self.mktemp())), None)

        async def run(pilot: Pilot[int]) -> None:
            hands = Hands(pilot)
            await hands.log_in(ALICE, PASSWORDS[ALICE])
            for _ in range(2):
                await hands.sees("Logging in", "esc gives up")
                await hands.press("f1")
                await hands.sees("Show or hide the protocol pane")
                await hands.press("f1", "escape")
                await hands.on(LogIn)
                await hands.sees("Logging in: broken off")
                await hands.press("enter")
            await hands.press("ctrl+q")
            await hands.ended()

        self.assertEqual(play(client, run), 0)


class Tmux:
    """A program in a terminal of 120 columns and 36 rows."""

    def __init__(self, folder: Path, command: list[str], variables: dict[str, str]) -> None:
        # The path of a socket may have no more than some hundred octets, which those of tests have.
        self._short = TemporaryDirectory(prefix="mailbe-tmux-")
        self._tmux = ["tmux", "-S", str(Path(self._short.name) / "socket"), "-f", "/dev/null"]
        start = ["new-session", "-d", "-x", "120", "-y", "36", "-s", "mail"]
        given = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        self._ended = folder / "ended"
        self._run(*start, *given, f"{shlex.join(command)}; echo $? >{shlex.quote(str(self._ended))}")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, timeout=SECONDS)
        return done.stdout

    @property
    def screen(self) -> str:
        return self._run("capture-pane", "-p", "-t", "mail")

    def sees(self, *texts: str) -> None:
        try:
            eventually(lambda: all(text in self.screen for text in texts), str(texts), SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen}") from None

    def type(self, text: str) -> None:
        self._run("send-keys", "-t", "mail", "-l", text)

    def press(self, *keys: str) -> None:
        self._run("send-keys", "-t", "mail", *keys)

    def status(self) -> int:
        """What the program ended with."""
        return int(eventually(lambda: self._ended.exists() and self._ended.read_text(), "the program ends", SECONDS))

    def close(self) -> None:
        self._run("kill-server")
        self._short.cleanup()


@needs("tmux")
class InATerminal(EndToEndTestCase):
    def test_the_command_from_log_in_to_quit(self) -> None:
        server = self.serve()
        send(
            server.submission,
            BOB,
            [ALICE],
            letter(BOB, [ALICE], "Down the rabbit-hole", "Mind the jar of marmalade.\n"),
        )
        folder = self.scratch()
        ports = ["--pop3", str(server.ports["pop3s"]), "--smtp", str(server.ports["submissions"])]
        program = "from mailbe.cli import main; raise SystemExit(main())"
        command = [sys.executable, "-c", program, "client", "--host", "localhost", "--ca", str(server.ca), *ports]
        home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        terminal = Tmux(folder, command, {"PYTHONPATH": environment()["PYTHONPATH"], **home})
        self.addCleanup(terminal.close)
        terminal.sees("Address", "Password", "Log in")
        terminal.type(ALICE)
        terminal.press("Enter")
        terminal.type(PASSWORDS[ALICE])
        terminal.press("Enter")
        terminal.sees("Down the rabbit-hole", "1 letter", "RFC 1939")
        terminal.press("Enter")
        terminal.sees("Mind the jar of marmalade.", "RETR 1")
        terminal.press("r")
        terminal.sees("> Mind the jar of marmalade.", "Re: Down the rabbit-hole")
        terminal.type("It was empty.")
        terminal.press("C-s")
        terminal.sees(f"Sent to {BOB}", "SMTP  C: DATA", "RFC 5321 4.1.1.4")
        terminal.press("d")
        terminal.sees("1 marked for deletion")
        terminal.press("q")
        terminal.sees("delete and leave")
        self.assertNotIn(PASSWORDS[ALICE], terminal.screen)
        terminal.press("y")
        self.assertEqual(terminal.status(), 0)
        self.assertEqual(server.letters("reception", ALICE), [])
        [answer] = server.letters("reception", BOB)
        self.assertIn(b"It was empty.", answer.read_bytes())
