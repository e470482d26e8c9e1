"""The client of lines, at a real terminal and as a script, with the real service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable

import pexpect

from mailbe.client.reading import read
from tests.client_actor import Actor
from tests.end_to_end.dovecot import PASSWORD as DOVECOT_PASSWORD
from tests.end_to_end.dovecot import Dovecot
from tests.end_to_end.letters import fetch, send
from tests.end_to_end.programs import needs, reserved_port
from tests.end_to_end.server import (
    ALICE,
    BOB,
    PASSWORDS,
    QUICK,
    EndToEndTestCase,
    Server,
    environment,
    eventually,
    give_accounts,
    manage,
    user,
)
from tests.end_to_end.utf8 import JOERG, PASSWORD
from tests.end_to_end.utf8 import fetch as fetch_utf8
from tests.test_client_register import Site

SECONDS = 120
ANNA = "анна@localhost"
MAIN = "from mailbe.cli import main; raise SystemExit(main())"
HOSTILE = (
    b"From: \"\x1b]0;owned\x07\" <mallory@example.com>\r\nTo: bob@localhost\r\n"
    b"Subject: =?utf-8?q?=1B[2J=C2=9B3J?= hello\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nlook: \x1b[31mred\x07\r\n"
    b"--b\r\nContent-Disposition: attachment; filename=\"../../\x1b[2Jx.sh\"\r\n\r\n#!\r\n--b--\r\n"
)  # fmt: skip


class Registrar(Site):
    """A web side in front of a real server: who registers has an account there."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._maildata = server.maildata

    def reply(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        answer = super().reply(path, body)
        if answer[0] == 201:
            user(self._maildata, "add", f"{body['name']}@x.org", body["password"])
        return answer


class PlainCase(EndToEndTestCase):
    def setUp(self) -> None:
        self.home = self.scratch()

    def command(self, server: Server, *options: str, trusting: bool = True) -> list[str]:
        maildata = server.maildata if trusting else self.home / "none"
        ports = ["--host", "localhost", "--pop3", str(server.pop3), "--smtp", str(server.submission)]
        return [sys.executable, "-c", MAIN, "--maildata", str(maildata), "client", "--plain", *ports, *options]

    @property
    def environment(self) -> dict[str, str]:
        return environment() | {"TERM": "dumb", "XDG_CONFIG_HOME": str(self.home / "config"), "HOME": str(self.home)}

    def script(self, server: Server, *lines: str, trusting: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a script against ``server`` to its end."""
        return self.run_script(self.command(server, trusting=trusting), lines)

    def run_script(self, command: list[str], lines: Iterable[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.home,
            env=self.environment,
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


class Terminal:
    """The client on a terminal of its own."""

    def __init__(self, test: PlainCase, command: list[str]) -> None:
        self._child = pexpect.spawn(
            command[0], command[1:], cwd=test.home, env=test.environment, encoding="utf-8", timeout=SECONDS,
            dimensions=(24, 100),
        )  # fmt: skip
        self.screen = ""
        test.addCleanup(self._end)

    def sees(self, text: str) -> str:
        """Wait until ``text`` is shown; returns all that came before."""
        self._child.expect_exact(text)
        self.screen += self._child.before + text
        return self._child.before

    def types(self, *lines: str) -> None:
        for line in lines:
            self._child.sendline(line)

    def answers(self, *pairs: tuple[str, str]) -> None:
        """Wait for each question, and type what answers it."""
        for question, answer in pairs:
            self.sees(question)
            self.types(answer)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.sendintr()

    def end_input(self) -> None:
        """Press Ctrl-D."""
        self._child.sendeof()

    def ends(self, status: int) -> str:
        """Wait for the end, which must have this exit status; returns what was shown last."""
        self._child.expect(pexpect.EOF)
        self._child.wait()
        assert self._child.exitstatus == status, f"{self._child.exitstatus}: {self.screen}{self._child.before}"
        self.screen += self._child.before
        return self._child.before

    def _end(self) -> None:
        """End the program if it still runs, however long that takes it."""
        if self._child.isalive():
            self._child.kill(signal.SIGKILL)
            self._child.wait()
        self._child.close()

    def log_in(self, name: str) -> None:
        self.answers(("> ", f"login {name}"), ("Password: ", PASSWORDS[name]))
        self.sees(f"logged in as {name}")


class AtATerminal(PlainCase):
    def terminal(self, server: Server, *options: str, trusting: bool = True) -> Terminal:
        return Terminal(self, self.command(server, *options, trusting=trusting))

    def test_the_way_of_a_letter_from_registering_to_deleting(self) -> None:
        server = self.serve("--domain", "x.org", "--domain", "localhost")
        site = Registrar(server)
        self.addCleanup(site.close)
        content = os.urandom(200_000)
        (self.home / "my file.bin").write_bytes(content)
        seen = self.terminal(server, "--site", f"http://127.0.0.1:{site.server_port}")
        seen.answers(
            ("> ", "register"), ("Name: ", "carol"), ("Password: ", "cheshire-cat-5"), ("again: ", "cheshire-cat-5"),
            ("Invitation: ", "rabbit-hole"),
        )  # fmt: skip
        seen.sees("carol@x.org is registered")
        seen.sees("logged in as carol@x.org: 0 letters")
        seen.answers(
            ("> ", "send"), ("To: ", f"carol@x.org, {BOB}"), ("Cc: ", ""), ("Subject: ", "Grüße, allesamt"),
            ("attach: ", '"my file.bin"'), ("ends it.", "Hello.\n..\nGood-bye.\n."),
        )  # fmt: skip
        seen.sees(f"sent to carol@x.org, {BOB}")
        seen.answers(("> ", "list"))
        seen.sees("1 ")
        seen.sees("carol@x.org")
        seen.sees("Grüße, allesamt")
        seen.answers(("> ", "read 1"))
        seen.sees("Hello.\r\n..\r\nGood-bye.")
        seen.sees("[attachment 1: my file.bin, application/octet-stream, 200 kB]")
        for name in ("my file.bin", "my file-2.bin"):
            seen.answers(("> ", "save 1 1 ."))
            seen.sees("saved as ")
            eventually(lambda name=name: (self.home / name).stat().st_size == len(content), "it is written")  # type: ignore[misc]
            self.assertEqual((self.home / name).read_bytes(), content)
        seen.answers(("> ", "reply 1"))
        seen.sees("To: carol@x.org")
        seen.sees("Subject: Re: Grüße, allesamt")
        seen.answers(("attach: ", ""), ("ends it.", "Fine.\n."))
        seen.sees("sent to carol@x.org")
        seen.answers(("> ", "list"), ("Re: Grüße", ""), ("> ", "read 1"))
        seen.sees("Fine.")
        seen.sees("> Hello.\r\n> ..\r\n> Good-bye.")
        seen.answers(("> ", "delete 1"), ("> ", "delete 2"), ("> ", "undelete 1"), ("> ", "quit"))
        seen.sees("deleted: 1")
        seen.ends(0)
        user(server.maildata, "passwd", "carol@x.org", PASSWORDS[ALICE])
        (left,) = server.letters("reception", "carol@x.org")
        self.assertIn(b"Fine.", left.read_bytes())
        self.assertIn("carol@x.org", manage(server.maildata, "list"))

    def test_a_letter_that_is_refused_is_not_lost(self) -> None:
        server = self.serve()
        seen = self.terminal(server)
        seen.log_in(ALICE)
        seen.answers(("> ", "send"), ("To: ", "bob@"), ("Cc: ", ""), ("Subject: ", ""), ("attach: ", ""))
        seen.sees("not of the form name@domain")
        seen.answers(
            ("> ", "send"), ("To: ", "nobody@localhost"), ("Cc: ", ""), ("Subject: ", "kept"), ("attach: ", ""),
            ("ends it.", "a long letter\n."),
        )  # fmt: skip
        seen.sees("nobody@localhost: 550")
        seen.answers(("> ", "retry"), ("To [nobody@localhost]: ", "bob"), ("Cc []: ", ""))
        seen.sees(f"sent to {BOB}")
        self.assertIn(b"a long letter", fetch(server.pop3, BOB)[0])
        seen.answers(("> ", "retry"))
        seen.sees("no letter that was not sent")

    def test_sent_letters_can_be_read_again(self) -> None:
        seen = self.terminal(self.serve())
        seen.log_in(ALICE)
        seen.answers(
            ("> ", "send"), ("To: ", BOB), ("Cc: ", ""), ("Subject: ", "kept"), ("attach: ", ""),
            ("ends it.", "text\n."), ("> ", "sent"), ("bob@localhost", ""), ("kept", ""), ("> ", "read 1"),
        )  # fmt: skip
        seen.sees("Subject: kept\r\n\r\ntext")
        seen.answers(("> ", "quit"))
        seen.ends(0)

    def test_after_three_failures_it_stops_and_says_what_to_do(self) -> None:
        server = self.serve(*QUICK)
        seen = self.terminal(server, "--user", ALICE)
        for left in ("(2 tries left)", "(1 try left)"):
            seen.answers(("Password: ", f"wrong {left}"))
            seen.sees(left)
            seen.answers(("> ", f"login {ALICE}"))
        seen.answers(("Password: ", "wrong again"))
        said = seen.ends(1)
        for words in ("no more are tried", f"mailbe user unlock {ALICE}", f"mailbe user passwd {ALICE}", "15 minutes"):
            self.assertIn(words, said)
        self.assertNotIn("wrong again", seen.screen)
        self.assertNotIn("Traceback", seen.screen)
        seen = self.terminal(server)
        seen.answers(("> ", f"login {ALICE}"), ("Password: ", PASSWORDS[ALICE]))
        seen.sees(f"have it unlocked: mailbe user unlock {ALICE}")
        manage(server.maildata, "unlock", ALICE)
        seen.log_in(ALICE)

    def test_the_dialogue_is_shown_with_its_rfcs_and_without_the_password(self) -> None:
        seen = self.terminal(self.serve())
        seen.answers(("> ", "trace on"))
        seen.log_in(ALICE)
        seen.answers(("> ", "trace off"), ("> ", "list"), ("no letters", ""), ("> ", "quit"))
        seen.ends(0)
        lines = seen.screen.split("trace off")[0].splitlines()
        for line in (
            "POP3 S: +OK mailbe is ready", "POP3 C: STLS   [RFC 2595 4]", f"POP3 C: USER {ALICE}   [RFC 1939 7]",
            "POP3 C: PASS ********   [RFC 1939 7]",
        ):  # fmt: skip
            self.assertIn(line, lines)
        self.assertNotIn(PASSWORDS[ALICE], seen.screen)
        self.assertNotIn("POP3", seen.screen.split("trace off")[1])

    def test_an_unknown_certificate_is_asked_about_once_and_a_no_is_a_no(self) -> None:
        server = self.serve()
        seen = self.terminal(server, trusting=False)
        for answer in ("no", "perhaps", "yes"):
            if answer != "yes":
                seen.answers(("> ", f"login {ALICE}"), ("Password: ", PASSWORDS[ALICE]))
                seen.sees("cannot be verified")
                seen.sees("SHA-256")
            seen.answers(("[yes/no] ", answer))
            if answer == "no":
                seen.sees("is not trusted")
        seen.sees(f"logged in as {ALICE}")
        # The other port is another matter; there the same one is asked about again.
        seen.answers(
            ("> ", "send"), ("To: ", BOB), ("Cc: ", ""), ("Subject: ", "x"), ("attach: ", ""), ("ends it.", "text\n."),
            ("[yes/no] ", "yes"), ("sent to", ""), ("> ", "quit"),
        )  # fmt: skip
        seen.ends(0)
        done = self.script(server, f"login {ALICE}", PASSWORDS[ALICE], "quit", trusting=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_hostile_letter_does_not_move_the_terminal(self) -> None:
        server = self.serve()
        send(server.smtp, "mallory@example.com", [BOB], HOSTILE, log_in=False)
        seen = self.terminal(server)
        seen.answers(("> ", "trace on"))
        seen.log_in(BOB)
        seen.answers(("> ", "list"), ("hello", ""), ("> ", "read 1"))
        seen.sees(r"look: \x1b[31mred\x07")
        seen.answers(("> ", "save 1 all"))
        seen.sees("saved as ")
        seen.answers(("> ", "reply 1"), ("attach: ", ""), ("ends it.", "."))
        seen.answers(("> ", "quit"))
        seen.ends(0)
        self.assertNotRegex(seen.screen, "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
        self.assertEqual([path.name for path in self.home.iterdir() if path.suffix == ".sh"], ["x1b[2Jx.sh"])

    def test_who_presses_ctrl_c_gets_the_prompt_back(self) -> None:
        server = self.serve()
        silent = Actor("!deaf")  # after three seconds without a greeting it is spoken to, in TLS
        self.addCleanup(silent.close)
        command = self.command(server)
        command[command.index("--pop3") + 1] = str(silent.port)
        seen = Terminal(self, [*command, "--user", ALICE])
        seen.answers(("Password: ", "x"))
        self.assertTrue(silent.silent.wait(SECONDS))
        seen.interrupt()
        seen.sees("broken off")
        seen.sees("> ")
        seen.interrupt()
        seen.sees("quit ends the program")
        seen.answers(("> ", "send"), ("To: ", BOB), ("Cc: ", ""))
        seen.sees("Subject: ")
        seen.interrupt()
        seen.sees("broken off")
        seen.answers(("> ", "quit"))
        seen.ends(0)
        self.assertNotIn("Traceback", seen.screen)

    def test_who_ends_the_input_deletes_nothing(self) -> None:
        server = self.serve()
        send(server.smtp, "mallory@example.com", [BOB], HOSTILE, log_in=False)
        seen = self.terminal(server)
        seen.log_in(BOB)
        seen.answers(("> ", "delete 1"))
        seen.sees("> ")
        seen.end_input()
        self.assertIn("nothing is deleted (1 marked)", seen.ends(1))
        self.assertEqual(len(fetch(server.pop3, BOB)), 1)

    def test_who_gives_no_password_is_let_go(self) -> None:
        seen = self.terminal(self.serve(), "--user", ALICE)
        seen.sees("Password: ")
        seen.end_input()
        self.assertNotIn("Traceback", seen.ends(0))

    def test_a_server_that_restarts_is_not_noticed(self) -> None:
        port = self.enterContext(reserved_port())
        maildata = self.scratch() / "maildata"
        give_accounts(maildata, BOB)
        server = Server(maildata, "--pop3", f"tcp:{port}:interface=127.0.0.1", protocols=("smtp", "submission"))
        self.addCleanup(server.close)
        server.start()
        server.ports["pop3"] = port
        send(server.smtp, "mallory@example.com", [BOB], HOSTILE, log_in=False)
        seen = self.terminal(server)
        seen.log_in(BOB)
        seen.answers(("> ", "delete 1"))
        seen.sees("quit deletes it")
        server.stop()
        server.start()
        seen.answers(("> ", "quit"))
        seen.sees("deleted: 1")
        seen.ends(0)
        self.assertEqual(server.letters("reception", BOB), [])


class BeyondAscii(PlainCase):
    """RFC 6531 and 6856, at the keyboard of somebody whose name needs them."""

    def serve_joerg(self) -> Server:
        server = self.serve("--domain", "localhost", "--domain", "bücher.example")
        for name in (JOERG, ANNA):
            user(server.maildata, "add", name, PASSWORD)
        return server

    def test_a_letter_and_its_answer_between_those_whose_names_need_utf8_and_those_whose_do_not(self) -> None:
        server = self.serve_joerg()
        for name, to in ((JOERG, f"{ANNA}, Élise <{ALICE}>"), (ALICE, JOERG)):
            seen = Terminal(self, self.command(server))
            password = PASSWORD if name == JOERG else PASSWORDS[name]
            seen.answers(
                ("> ", "trace on"), ("> ", f"login {name}"), ("Password: ", password), ("> ", "send"), ("To: ", to),
                ("Cc: ", ""), ("Subject: ", "größer"), ("attach: ", ""), ("ends it.", "Grüße.\n."),
            )  # fmt: skip
            seen.sees(", ".join(address for address in (JOERG, ANNA, ALICE) if address in to))
            seen.answers(("> ", "quit"))
            seen.ends(0)
            lines = seen.screen.splitlines()
            self.assertIn("POP3 C: UTF8   [RFC 6856 2.1]", lines)
            self.assertIn(f"POP3 C: USER {name}   [RFC 1939 7]", lines)
            [said] = [line for line in lines if line.startswith("SMTP C: MAIL")]
            self.assertRegex(said, rf"MAIL FROM:<{name}> SIZE=[0-9]+ SMTPUTF8   \[RFC 6531 3.4\]")
        seen = Terminal(self, self.command(server))
        seen.answers(("> ", f"login {JOERG}"), ("Password: ", PASSWORD), ("> ", "list"), (f"{ALICE}", ""))
        seen.answers(("größer", "read 1"), (f"From: {ALICE}", ""), (f"To: {JOERG}", ""), ("Subject: größer", ""))
        seen.answers(("> ", "reply 1"), (f"To: {ALICE}", ""), ("ends it.", "Danke.\n."), (f"sent to {ALICE}", ""))
        seen.answers(("> ", "sent"), ("Re: größer", ""), (f"{ANNA}, Élise", ""), ("> ", "quit"))
        seen.ends(0)
        done = self.script(server, f"login {ANNA}", PASSWORD, "list", "reply 1 all", "", "Auch.", ".", "quit")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"To: {JOERG}\nCc: Élise <{ALICE}>\nSubject: Re: größer\nsent to {JOERG}, {ALICE}\n", done.stdout)
        answers = [read(one) for one in fetch_utf8(server.pop3)]
        self.assertEqual([one.header("From") for one in answers], [ALICE, ANNA])
        self.assertEqual(answers[1].header("References"), answers[1].header("In-Reply-To"))
        self.assertEqual(len(fetch(server.pop3, ALICE)), 3)

    def test_a_domain_alone_needs_no_smtputf8(self) -> None:
        server = self.serve_joerg()
        user(server.maildata, "add", "carol@bücher.example", PASSWORD)
        lines = ["trace on", "send", "carol", "", "größer", "", "Grüße", ".", "list", "quit"]
        done = self.script(server, "login carol@bücher.example", PASSWORD, *lines)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("MAIL FROM:<carol@xn--bcher-kva.example> SIZE=", done.stdout)
        self.assertNotIn("SMTPUTF8 ", done.stdout)
        self.assertRegex(done.stdout, "(?m)^1\t.*\tcarol@xn--bcher-kva.example\tgrößer\t")

    def test_where_smtputf8_is_lacking_the_letter_is_kept(self) -> None:
        server = self.serve_joerg()
        ehlo = "S: 220 hi\nC: EHLO [127.0.0.1]\nS: 250 hi\n"
        good = f"C: MAIL FROM:<{ALICE}>\nS: 250 ok\nC: RCPT TO:<{BOB}>\nS: 250 ok\nC: DATA\nS: 354 go\nC>\nS: 250 ok\n"
        bye = "C: QUIT\nS: 221 bye"
        without = Actor(ehlo + bye, ehlo + good + bye)
        command = self.command(server)
        command[command.index("--smtp") + 1] = str(without.port)
        seen = Terminal(self, command)
        seen.log_in(ALICE)
        seen.answers(
            ("> ", "send"), ("To: ", JOERG), ("Cc: ", ""), ("Subject: ", "kept"), ("attach: ", ""),
            ("ends it.", "a long letter\n."),
        )  # fmt: skip
        seen.sees("The letter is kept")
        seen.sees(f"nothing was sent, as {JOERG} is not ASCII")
        seen.sees("does not offer SMTPUTF8 (RFC 6531)")
        seen.answers(("> ", "retry"), (f"To [{JOERG}]: ", BOB), ("Cc []: ", ""), (f"sent to {BOB}", ""), ("> ", "quit"))
        seen.ends(0)
        without.close()
        self.assertIn(b"a long letter", without.heard[0])

    def test_who_registers_with_such_a_name_where_that_is_let_is_in(self) -> None:
        server = self.serve("--domain", "x.org", "--domain", "localhost")
        site = Registrar(server)
        self.addCleanup(site.close)
        command = self.command(server, "--site", f"http://127.0.0.1:{site.server_port}")
        done = self.run_script(command, ["register", "jörg", "cheshire-cat-5", "rabbit-hole", "quit"])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "jörg@x.org is registered\nlogged in as jörg@x.org: 0 letters\n")

    def test_and_where_it_is_not_is_told_so(self) -> None:
        maildata = self.scratch() / "maildata"
        server = Server(maildata, "--http", "tcp:0:interface=127.0.0.1", "--registration", "open")
        self.addCleanup(server.close)
        server.start()
        command = [sys.executable, "-c", MAIN, "--maildata", str(maildata), "client", "--plain"]
        done = self.run_script(command, ["register", "jörg", "cheshire-cat-5", "quit"])
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("A name has letters from a to z", done.stderr)


@needs("dovecot")
class WithDovecot(PlainCase):
    def test_another_server_is_listed_read_and_deleted_from(self) -> None:
        mail = self.scratch() / "mail"
        for name in ("new", "cur", "tmp"):
            (mail / name).mkdir(parents=True)
        for number in range(3):
            (mail / "new" / f"{number}.x").write_text(f"From: w{number}@y.org\nSubject: s{number}\n\n.dots\n{number}\n")
        with Dovecot(mail) as dovecot:
            login = ["login carol", DOVECOT_PASSWORD]

            def play(*lines: str) -> subprocess.CompletedProcess[str]:
                command = [sys.executable, "-c", MAIN, "client", "--plain", "--host", "127.0.0.1"]
                return self.run_script([*command, "--pop3", str(dovecot.port)], [*login, *lines])

            done = play("list", "read 2", "delete 2", "quit")
            self.assertEqual((done.returncode, done.stderr), (0, ""), dovecot.log)
            subjects = [line.split("\t")[4] for line in done.stdout.splitlines() if "\t" in line]
            self.assertEqual(sorted(subjects), ["s0", "s1", "s2"])
            self.assertIn("\n\n.dots\n", done.stdout)
            self.assertEqual(play("list", "quit").stdout.count("\t"), 2 * 5)
            done = play("sent")
            self.assertEqual(done.stderr, "mailbe: this server keeps no copies of sent mail\n")
            self.assertNotIn("envoi", dovecot.log)


class AsAScript(PlainCase):
    def test_a_script_sends_and_reads_and_is_not_prompted(self) -> None:
        server = self.serve()
        (self.home / "a.txt").write_text("attached\n")
        done = self.script(
            server,
            "# to bob",
            f"login {ALICE}",
            PASSWORDS[ALICE],
            "send",
            BOB,
            "",
            "Grüße",
            "a.txt",
            "one",
            "two",
            ".",
            "quit",
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, f"logged in as {ALICE}: 0 letters\nsent to {BOB}\n")
        done = self.script(server, f"login {BOB}", PASSWORDS[BOB], "list", "read 1", "save 1 all", "delete 1", "quit")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        row = next(line for line in done.stdout.splitlines() if line.startswith("1\t")).split("\t")
        self.assertEqual((row[1], row[3], row[4]), ("", ALICE, "Grüße"))
        self.assertIn("\n\none\ntwo\n\n[attachment 1: a.txt, text/plain, 9 B]\n", done.stdout)
        self.assertIn("saved as a-2.txt\n1 is marked; quit deletes it\ndeleted: 1\n", done.stdout)
        self.assertEqual((self.home / "a-2.txt").read_text(), "attached\n")
        self.assertEqual(fetch(server.pop3, BOB), [])

    def test_a_script_ends_at_the_first_failure_and_deletes_nothing(self) -> None:
        server = self.serve(*QUICK)
        send(server.smtp, "mallory@example.com", [BOB], HOSTILE, log_in=False)
        into = [f"login {BOB}", PASSWORDS[BOB], "delete 1"]
        for lines, status, words in (
            ([*into, "read 7", "quit"], 2, "there is no letter 7"),
            ([*into, "dance", "quit"], 2, "dance is no command"),
            ([*into, "delete", "quit"], 2, "usage: delete N"),
            ([*into, "send 'x", "quit"], 2, "quotation mark"),
            ([*into, "send", "nobody@localhost", "", "", "", ".", "quit"], 1, "nobody@localhost: 550"),
            ([*into, "send", BOB, "", "", "none.txt", ".", "quit"], 1, "none.txt cannot be attached"),
            ([*into, "save 1 1 none", "quit"], 1, "No such file or directory"),
            ([*into], 1, "nothing is deleted (1 marked)"),
            ([f"login {BOB}"], 2, "the input ended before login had all that it asks for"),
            ([*into[:2], "send", BOB, "", "", "", "no dot"], 2, "the input ended before send"),
            ([f"login {BOB}", "wrong", "quit"], 1, "the password is wrong (2 tries left)"),
            (["list", "quit"], 1, "log in first"),
            (["register", "quit"], 1, "mailbe user add"),
        ):
            done = self.script(server, *lines)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (status, 1), lines)
            self.assertIn(words, done.stderr)
            self.assertTrue(done.stderr.startswith("mailbe: "))
        self.assertEqual(len(fetch(server.pop3, BOB)), 1)

    def test_a_script_agrees_to_no_certificate(self) -> None:
        done = self.script(self.serve(), f"login {BOB}", PASSWORDS[BOB], "quit", trusting=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--ca", done.stderr)
        self.assertNotIn("logged in", done.stdout)
        self.assertFalse((self.home / "config").exists())

    def test_without_plain_it_needs_a_terminal(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "client"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        self.assertEqual((done.returncode, done.stderr), (1, "mailbe: this is no terminal to fill; use --plain\n"))

    def test_a_terminal_that_can_do_nothing_is_not_filled(self) -> None:
        said, status = pexpect.run(
            sys.executable, args=["-c", MAIN, "client"], env={**self.environment, "TERM": "dumb"}, withexitstatus=True
        )
        self.assertEqual((said, status), (b"mailbe: this is no terminal to fill; use --plain\r\n", 1))
