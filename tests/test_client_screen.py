"""The full screen of ``mailbe client``, with keys pressed by a pilot, on mail in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input, TextArea
from twisted.trial.unittest import SynchronousTestCase

from mailbe.client.certificate import Certificate
from mailbe.client.dialogue import Said
from mailbe.client.errors import NoAnswer, NotPrivate, NotTrusted, Refused
from mailbe.client.maildrop import Folder
from mailbe.client.screen import letters as letters_module
from mailbe.client.screen.compose import Compose, Files
from mailbe.client.screen.files import ChooseFile, ChooseFolder, completed
from mailbe.client.screen.help import Keys
from mailbe.client.screen.letter_list import LetterList
from mailbe.client.screen.letters import Letters
from mailbe.client.screen.log_in import GivenUp, LogIn, Register
from mailbe.client.screen.protocol import MOST_LINES, Protocol, link
from mailbe.client.screen.questions import PlaintextQuestion, Question, TrustQuestion
from mailbe.client.screen.reader import Reader
from mailbe.client.words import count, day, size
from tests.client_screen import (
    ADVICE,
    ALICE,
    BOTTLE,
    PASSWORD,
    Hands,
    Played,
    dialogue,
    letter,
    play,
    shown,
    uid,
    until,
)

SIZES = (80, 24), (140, 40)


def certificate(*, changed: bool = False) -> Certificate:
    return Certificate(
        host="mail.example.org",
        port=995,
        names=("mail.example.org",),
        issuer="Looking-Glass CA",
        ends=datetime(2027, 7, 4, tzinfo=UTC),
        fingerprint=":".join(["AB", "CD"] * 16),
        why="it is signed by nobody known",
        changed=changed,
    )


class ScreenTestCase(SynchronousTestCase):
    def play(
        self,
        script: Callable[[Hands], Awaitable[None]],
        played: Played | None = None,
        size: tuple[int, int] = (80, 24),
    ) -> int | None:
        """Run the program; returns its exit status, ``None`` where it was not left."""
        self.played = played or Played()

        async def run(pilot: Pilot[int]) -> None:
            await script(Hands(pilot))

        return play(self.played.client, run, size)

    @property
    def mail(self):
        return self.played.mail


class TheWholeWay(ScreenTestCase):
    def test_log_in_compose_read_delete_undelete_and_quit_with_nothing_but_keys(self) -> None:
        tarts = Path("tarts.txt")
        tarts.write_bytes(b"flour, butter, jam")

        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.type(ALICE)
            await hands.press("enter")
            await hands.type(PASSWORD)
            await hands.press("enter")
            screen = await hands.on(Letters)
            await hands.press("c")
            compose = await hands.on(Compose)
            await hands.type("bob@localhost")
            await hands.press("enter", "enter", "enter")
            await hands.type("Tarts")
            await hands.press("enter")
            await hands.type("Who stole them?")
            await hands.press("ctrl+t")
            await hands.on(ChooseFile)
            await hands.type(str(tarts))
            await hands.press("enter")
            await hands.on(Compose)
            await hands.sees("attached", tarts.name, "18 B")
            self.assertTrue(compose.unsent)
            await hands.press("ctrl+s")
            await hands.on(Letters)
            await hands.sees("Sent to bob@localhost", "SMTP  C: DATA", "RFC 5321 4.1.1.4")
            await hands.press("enter")
            await hands.sees("Dear Alice,", "label.txt")
            self.assertIn("POP3 C: RETR 1 [RFC 1939 5]", dialogue(screen.query_one(Protocol)))
            await hands.press("escape", "down", "d")
            await hands.sees("1 marked for deletion", "✗")
            await hands.press("u")
            await hands.sees("3 letters ")
            self.assertNotIn("marked", screen.query_one("Bar").render_line(0).text)
            await hands.press("q")
            await hands.ended()

        self.assertEqual(self.play(script), 0)
        [draft] = self.mail.sent
        self.assertEqual(
            (draft.to, draft.subject, draft.text, draft.attachments),
            ("bob@localhost", "Tarts", "Who stole them?", (tarts,)),
        )
        self.assertEqual(self.mail.gone, [])
        self.assertEqual(self.mail.calls[-1], "leave")

    def test_reply_goes_to_who_wrote_with_the_text_quoted(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("r")
            screen = await hands.on(Compose)
            self.assertEqual(screen.query_one("#to", Input).value, "Bob <bob@localhost>")
            self.assertEqual(screen.query_one("#subject", Input).value, "Re: What the label on the bottle says")
            self.assertIn("> Dear Alice,", screen.query_one(TextArea).text)
            self.assertFalse(screen.unsent)
            await hands.press("escape")
            await hands.on(Letters)
            await hands.press("f")
            screen = await hands.on(Compose)
            self.assertEqual([file.name for file in screen.query_one(Files).files], ["label.txt"])

        self.play(script)

    def test_every_screen_fits_a_small_terminal_and_a_large_one(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await self._fits(hands, "Address", "Password", "Log in", "Register", "Protocol")
            await hands.in_letters()
            await hands.press("enter")
            await hands.on(Letters)
            await self._fits(hands, "Bob", "DRINK ME" if hands.client.size.height > 24 else "Dear Alice", "Protocol")
            await hands.press("r")
            await hands.on(Compose)
            await self._fits(hands, "To", "Bcc", "Subject", "> Dear Alice,", "Send", "Attach", "Protocol")
            await hands.press("f1")
            await hands.on(Keys)
            await self._fits(hands, "Send", "Show or hide the protocol pane")

        for terminal in SIZES:
            self.play(script, size=terminal)

    def test_what_is_typed_can_be_seen_in_a_tiny_terminal(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.sees("Address", "Password")
            await hands.in_letters()
            await hands.press("enter")
            await hands.sees("What the label")

        self.play(script, size=(40, 12))

    def test_the_keys_of_this_program_come_first_and_those_of_its_toolkit_not_at_all(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("f1")
            await hands.on(Keys)
            await hands.sees("Reply to all", "Forward", "Save files", "Ask for new letters")
            await hands.press("end")
            for text in ("Scroll", "Page Left", "Focus", "Copy"):
                self.assertNotIn(text, shown(hands.client).partition("Keys")[2])

        self.play(script)

    def test_the_wheel_does_not_turn_when_nothing_is_waited_for_any_more(self) -> None:
        async def script(hands: Hands) -> None:
            screen = await hands.in_letters()
            screen.status.begin("Turning")
            screen.status.call_next(screen.status._turn_wheel)  # as by its clock, in the moment before the end
            screen.status.end()
            await hands.pilot.pause()
            self.assertNotIn("gives up", shown(hands.client))

        self.play(script)

    async def _fits(self, hands: Hands, *texts: str) -> None:
        await hands.sees(*texts)
        await hands.drawn()
        screen = hands.client.screen
        for widget in screen.query("Input, Button, Footer, Protocol, LetterList"):
            if widget.display and widget.region:
                self.assertIn(widget.region, screen.region, f"{widget} at {screen.size}")
        last = shown(hands.client).splitlines()[-1]
        for name in ("Keys", "Protocol"):
            if not isinstance(screen, Keys):
                self.assertIn(name, last)


class TypingAhead(ScreenTestCase):
    def test_what_is_typed_faster_than_it_is_seen_is_not_lost(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.rush(*ALICE, "enter", *PASSWORD, "enter")
            await hands.on(Letters)
            await hands.press("c")
            await hands.on(Compose)
            await hands.rush(*"bob@localhost", "enter", "enter", "enter", *"Tarts", "enter", *"Who?", "enter", "ctrl+s")
            await hands.on(Letters)

        self.play(script)
        [draft] = self.mail.sent
        self.assertEqual((draft.to, draft.subject, draft.text), ("bob@localhost", "Tarts", "Who?\n"))


class LoggingIn(ScreenTestCase):
    def test_after_three_failures_it_stops_asking_and_says_what_to_do(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.log_in(password="cheshire")
            for password, left in (("cat", "(2 tries left)"), ("grin", "(1 try left)")):
                await hands.sees(left)
                await hands.on(LogIn)
                await hands.paste(password)
                await hands.press("enter")
            screen = await hands.on(GivenUp)
            await hands.sees(*ADVICE.splitlines())
            self.assertFalse(screen.query(Input))
            await hands.press("q")
            await hands.ended()

        self.assertEqual(self.play(script), 1)
        self.assertEqual(self.mail.calls, ["log_in"] * 3)

    def test_no_password_is_shown_nor_asked_for_in_vain(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.press("tab")
            await hands.paste(PASSWORD)
            await hands.press("enter")
            await hands.sees("Both an address and a password are needed.", "•" * len(PASSWORD))
            self.assertNotIn(PASSWORD, shown(hands.client))

        self.play(script, Played(name=None))
        self.assertEqual(self.mail.calls, [])

    def test_a_name_that_is_known_is_not_asked_for(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.paste(PASSWORD)
            await hands.press("enter")
            await hands.on(Letters)

        self.play(script, Played(name=ALICE))
        self.assertEqual(self.mail.address, ALICE)

    def test_an_unknown_certificate_is_asked_about_and_no_is_no(self) -> None:
        async def script(hands: Hands) -> None:
            self.played.mail.errors["log_in"] = [NotTrusted(certificate()), NotTrusted(certificate(changed=True))]
            await hands.log_in()
            await hands.on(TrustQuestion)
            await hands.sees("mail.example.org:995", "Looking-Glass CA", "2027-07-04", "signed by nobody")
            half = " ".join(["AB CD"] * 8)
            await until(lambda: shown(hands.client).count(f" {half} ") == 2, "the fingerprint")
            self.assertNotIn("another one", shown(hands.client))
            await hands.press("enter")  # the answer that has the focus is the safe one
            await hands.on(LogIn)
            await hands.sees("is not trusted")
            self.assertEqual(self.played.accepted, [])
            await hands.press("enter")
            await hands.on(TrustQuestion)
            await hands.sees("It is another one than you trusted before.")
            await hands.press("y")
            await hands.on(Letters)

        self.play(script)
        self.assertEqual(self.played.accepted, [certificate(changed=True)])
        self.assertEqual(self.mail.calls[:3], ["log_in"] * 3)

    def test_a_password_goes_out_in_plaintext_only_after_a_yes(self) -> None:
        async def script(hands: Hands) -> None:
            self.played.mail.errors["log_in"] = [
                NotPrivate("mail.example.org:110"),
                NotPrivate("mail.example.org:110"),
            ]
            await hands.log_in()
            await hands.on(PlaintextQuestion)
            await hands.sees("mail.example.org:110 offers no TLS")
            await hands.press("escape")
            await hands.on(LogIn)
            self.assertFalse(self.played.mail.plaintext_allowed)
            await hands.press("enter")
            await hands.on(PlaintextQuestion)
            await hands.press("y")
            await hands.on(Letters)

        self.play(script)
        self.assertTrue(self.mail.plaintext_allowed)


class Registering(ScreenTestCase):
    def test_who_has_registered_is_logged_in(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.press("ctrl+r")
            await hands.on(Register)
            await hands.sees("@ and localhost")
            for text in ("alice", PASSWORD, PASSWORD):
                await hands.paste(text)
                await hands.press("enter")
            await hands.on(Letters)

        self.play(script)
        self.assertEqual(self.played.desk.registered, [("alice", PASSWORD, "")])
        self.assertEqual(self.mail.address, ALICE)

    def test_a_name_that_is_taken_and_passwords_that_differ_are_told(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.press("ctrl+r")
            await hands.on(Register)
            for text in ("bob", "mock", "turtle"):
                await hands.paste(text)
                await hands.press("enter")
            await hands.sees("The two passwords differ.")
            for _ in range(2):  # nobody can see which was wrong, so both are typed anew
                await hands.paste("mock")
                await hands.press("enter")
            await hands.sees("bob@localhost has an account already.")
            self.assertEqual(getattr(hands.client.focused, "id", None), "name")
            await hands.press("escape")
            await hands.on(LogIn)

        self.play(script)
        self.assertEqual(self.played.desk.registered, [])

    def test_an_invitation_is_asked_for_where_one_is_needed(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            self.assertNotIn("Invitation", shown(hands.client))
            await hands.press("ctrl+r")
            await hands.on(Register)
            await hands.sees("Invitation")
            for text in ("alice", PASSWORD, PASSWORD, "rabbit-hole"):
                await hands.paste(text)
                await hands.press("enter")
            await hands.on(Letters)

        played = Played()
        played.desk.registration = "invitation"
        self.play(script, played)
        self.assertEqual(played.desk.registered, [("alice", PASSWORD, "rabbit-hole")])

    def test_a_closed_server_says_so(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.press("ctrl+r")
            await hands.sees("This server lets nobody register")

        played = Played()
        played.desk.registration = "closed"
        self.play(script, played)


class AServerThatNeverAnswers(ScreenTestCase):
    def test_keys_work_and_escape_gives_up_while_it_logs_in(self) -> None:
        async def script(hands: Hands) -> None:
            self.played.mail.hangs = {"log_in"}
            await hands.log_in()
            await hands.sees("Logging in", "esc gives up")
            await hands.press("f2")
            await until(lambda: "Protocol" not in shown(hands.client).splitlines()[-8], "the pane goes")
            await hands.press("escape")
            await hands.on(LogIn)
            await hands.sees("Logging in: broken off")
            self.played.mail.hangs = set()
            await hands.press("enter")
            await hands.on(Letters)

        self.play(script)

    def test_what_comes_while_the_keys_are_listed_does_not_take_their_place(self) -> None:
        async def script(hands: Hands) -> None:
            self.mail.slow = {"log_in", "send"}
            await hands.log_in()
            await hands.press("f1")
            await hands.on(Keys)
            self.mail.released.set()
            await hands.press("f1")
            await hands.on(Letters)
            self.mail.released.clear()
            await hands.press("c")
            compose = await hands.on(Compose)
            await hands.paste("bob@localhost")
            await hands.press("ctrl+s", "f1")
            await hands.on(Keys)
            self.mail.released.set()
            await until(lambda: self.mail.sent, "it is sent")
            await hands.pilot.pause()
            self.assertTrue(compose.busy)
            await hands.press("f1")
            await hands.on(Letters)

        self.play(script)

    def test_letters_can_be_marked_and_written_while_one_is_fetched(self) -> None:
        async def script(hands: Hands) -> None:
            screen = await hands.in_letters()
            self.played.mail.hangs = {"fetch"}
            await hands.press("enter", "down", "d")
            await hands.sees("Fetching the letter", "━─", "420 B of 841 B", "1 marked for deletion")
            self.assertTrue(screen.busy)
            await hands.press("enter")  # one thing at a time
            await hands.press("c")
            await hands.on(Compose)
            await hands.paste("bob@localhost")
            await hands.press("ctrl+s")
            await until(lambda: hands.client.screen is screen, "it is sent all the same")
            self.assertTrue(screen.busy)
            await hands.press("escape")
            await hands.on(Letters)
            await hands.sees("Fetching the letter: broken off")
            self.played.mail.hangs = set()
            await hands.press("up", "enter")
            await hands.sees("Dear Alice,")

        self.play(script)
        self.assertEqual(self.mail.calls.count("fetch"), 2)

    def test_who_leaves_twice_is_gone_though_it_hangs(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            self.played.mail.hangs = {"leave"}
            await hands.press("q")
            await hands.sees("Leaving")
            await hands.press("q")
            await hands.ended()

        self.assertEqual(self.play(script), 0)

    def test_who_leaves_while_a_letter_is_fetched_is_not_held(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            self.played.mail.hangs = {"fetch"}
            await hands.press("enter")
            await hands.sees("Fetching the letter")
            await hands.press("q")
            await hands.ended()

        self.assertEqual(self.play(script), 0)


class Reading(ScreenTestCase):
    def test_what_looks_like_markup_is_shown_as_it_stands(self) -> None:
        nasty = letter(
            "[bold]Mallory[/bold] <m@localhost>",
            ALICE,
            "[@click=app.quit]win[/]",
            "[red]text[/red] and [/nothing]\n",
            datetime(2025, 7, 4, tzinfo=UTC),
        )

        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.sees("[@click=app.quit]win[/]")
            await hands.press("enter")
            await hands.sees("[red]text[/red] and [/nothing]")
            await hands.press("h")
            await hands.sees("Message-ID: <")
            await hands.press("h", "escape", "d")
            await hands.sees("Marked")

        self.play(script, Played([nasty]))

    def test_of_many_letters_only_those_in_sight_are_asked_for(self) -> None:
        async def script(hands: Hands) -> None:
            screen = await hands.in_letters()
            listing = screen.query_one(LetterList)
            await until(lambda: not listing.unknown(), "the headings of the first")
            await hands.press("end")
            self.assertEqual(listing.cursor, 9999)
            await until(lambda: not listing.unknown(), "the headings of the last")
            await hands.sees("10000 letters")
            self.assertLess(len(listing._headings), 100)

        self.play(script, Played([BOTTLE] * 10_000))

    def test_a_letter_of_a_million_characters_does_not_hold_the_keys(self) -> None:
        endless = letter("a <a@localhost>", ALICE, "s" * 100_000, "word " * 200_000, datetime(2025, 7, 4, tzinfo=UTC))

        async def script(hands: Hands) -> None:
            screen = await hands.in_letters()
            await hands.press("enter")
            await hands.sees("more characters]", "ssss")
            screen.query_one(Reader).action_scroll_end()
            await hands.sees("more characters]")

        self.play(script, Played([endless]))

    def test_attached_files_are_saved_where_one_says(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()

        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("down", "v")
            await hands.on(Letters)
            await hands.sees("This letter has no files.")
            await hands.press("up", "v")
            await hands.on(ChooseFolder)
            await hands.press("ctrl+u")
            await hands.paste("/no/such/folder")
            await hands.press("enter")
            await hands.sees("There is no such folder.")
            await hands.press("ctrl+u")
            await hands.paste(str(folder))
            await hands.press("enter")
            await hands.on(Letters)
            await hands.sees("Saved label.txt")

        self.play(script)
        self.assertEqual((folder / "label.txt").read_bytes(), b"DRINK ME\n")

    def test_sent_letters_are_a_key_away_and_new_ones_too(self) -> None:
        async def script(hands: Hands) -> None:
            screen = await hands.in_letters()
            await hands.press("c")
            await hands.on(Compose)
            await hands.paste("bob@localhost")
            await hands.press("ctrl+s")
            await hands.on(Letters)
            await hands.press("s")
            await hands.sees("to bob@localhost", "1 letter ")
            await hands.press("s")
            await hands.sees("3 letters ")
            listing = screen.query_one(LetterList)
            self.played.mail.octets = {
                type(listing.letters[0])(Folder.INBOX, "new", len(BOTTLE)): BOTTLE,
                **self.played.mail.octets,
            }
            await hands.press("g")
            await hands.sees("4 letters ", "1 new letter.")
            self.played.mail.keeps_sent = False
            await hands.press("s")
            await hands.sees("the server keeps no copies of sent mail", "Inbox")

        self.play(script)

    def test_an_error_is_told_and_the_next_try_works(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            self.played.mail.errors["fetch"] = [NoAnswer("localhost:2995 hung up")]
            await hands.press("enter")
            await hands.sees("✗ localhost:2995 hung up")
            await hands.press("enter")
            await hands.sees("Dear Alice,")

        self.play(script)

    def test_an_idle_session_is_ended_so_that_others_get_at_the_maildrop(self) -> None:
        self.patch(letters_module, "IDLE_SECONDS", 0)
        self.patch(letters_module, "LOOK_SECONDS", 0.05)

        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await until(lambda: "rest" in self.played.mail.calls, "it rests")

        self.play(script)


class Leaving(ScreenTestCase):
    def _leave(self, answer: str) -> int | None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("d", "q")
            await hands.on(Question)
            await hands.sees("1 letter is marked for deletion.")
            await hands.press(answer)
            if answer == "escape":
                await hands.on(Letters)
            else:
                await hands.ended()

        return self.play(script)

    def test_marked_letters_are_deleted_after_a_yes(self) -> None:
        self.assertEqual(self._leave("y"), 0)
        self.assertEqual(self.mail.gone, [uid(0)])

    def test_marked_letters_can_be_kept(self) -> None:
        self.assertEqual(self._leave("k"), 0)
        self.assertEqual(self.mail.gone, [])
        self.assertNotIn("leave", self.mail.calls)

    def test_who_stays_keeps_the_marks(self) -> None:
        self.assertIsNone(self._leave("escape"))
        self.assertEqual(len(self.mail.marks), 1)

    def test_what_could_not_be_deleted_is_told_before_it_ends(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            self.played.mail.errors["leave"] = [Refused("some letters could not be deleted")]
            await hands.press("q")
            await hands.on(Question)
            await hands.sees("some letters could not be deleted")
            await hands.press("n")
            await hands.on(Letters)
            await hands.press("q")
            await hands.ended()

        self.assertEqual(self.play(script), 0)

    def test_an_unsent_letter_is_not_thrown_away_without_asking(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("c")
            compose = await hands.on(Compose)
            await hands.paste("bob")
            for keys in (["escape"], ["ctrl+q"]):
                await hands.press(*keys)
                await hands.on(Question)
                await hands.press("n")
                self.assertIs(await hands.on(Compose), compose)
            await hands.press("escape")
            await hands.on(Question)
            await hands.press("y")
            await hands.on(Letters)

        self.play(script)


class Writing(ScreenTestCase):
    def test_a_draft_that_cannot_be_sent_stays_with_the_reason(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("c")
            compose = await hands.on(Compose)
            await hands.press("ctrl+s")
            await hands.sees("the letter is to nobody")
            await hands.paste("bob@localhost")
            self.played.mail.errors["send"] = [Refused("552 5.3.4 too large")]
            await hands.press("ctrl+s")
            await hands.sees("552 5.3.4 too large")
            self.assertIs(hands.client.screen, compose)

        self.play(script)
        self.assertEqual(self.mail.sent, [])

    def test_an_attached_file_can_be_taken_away(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("f")
            compose = await hands.on(Compose)
            files = compose.query_one(Files)
            files.focus()
            await hands.press("delete")
            await until(lambda: not files.display, "the list goes")
            self.assertEqual(compose.draft.attachments, ())

        self.play(script)

    def test_tab_completes_a_path(self) -> None:
        folder = Path(self.mktemp())
        (folder / "tea").mkdir(parents=True)
        (folder / ".hidden").touch()
        self.assertEqual(completed(f"{folder}/t"), f"{folder}/tea/")
        self.assertEqual(completed(f"{folder}/"), f"{folder}/tea/")
        self.assertEqual(completed(f"{folder}/.h"), f"{folder}/.hidden")
        self.assertIsNone(completed(f"{folder}/tea/"))
        self.assertIsNone(completed("/no/such/folder/"))
        self.assertIsNone(completed("~nobody-has-this-name/x"))

        async def script(hands: Hands) -> None:
            await hands.in_letters()
            await hands.press("c")
            await hands.on(Compose)
            await hands.press("ctrl+t")
            screen = await hands.on(ChooseFile)
            await hands.paste(f"{folder}/t")
            await hands.press("tab")
            self.assertEqual(screen.query_one(Input).value, f"{folder}/tea/")
            await hands.press("enter")
            await hands.sees("This is no file that can be read.")

        self.play(script)


class ProtocolPane(ScreenTestCase):
    def test_each_command_has_its_section_and_long_lines_are_whole(self) -> None:
        long = "x" * 60 + "y" * 60

        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            await hands.sees("beside each command the section of its RFC")
            hands.client._hear(Said("SMTP", "C", "MAIL FROM:<alice@localhost>", "RFC 5321 4.1.1.2"))
            hands.client._hear(Said("SMTP", "S", long, "RFC 5321 4.1.1.2"))
            await hands.sees("SMTP  C: MAIL FROM:<alice@localhost> ", "RFC 5321 4.1.1.2")
            pane = hands.client.screen.query_one(Protocol)
            texts = "".join(pane.render_line(y).text[9 : 9 + pane._text_width].rstrip() for y in range(1, 5))
            self.assertEqual(texts, long)
            self.assertEqual(shown(hands.client).count("RFC 5321 4.1.1.2"), 1)

        self.play(script)

    def test_it_follows_the_end_unless_somebody_scrolls_back(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            pane = hands.client.screen.query_one(Protocol)
            for number in range(50):
                hands.client._hear(Said("POP3", "S", f"line {number};", None))
            await hands.sees("line 49;")
            pane.focus()
            await hands.press("pageup")
            await until(lambda: "line 49;" not in shown(hands.client), "it scrolls")
            hands.client._hear(Said("POP3", "S", "line 50;", None))
            await hands.pilot.pause()
            self.assertNotIn("line 50;", shown(hands.client))
            await hands.press("end")
            await hands.sees("line 50;")

        self.play(script)

    def test_it_forgets_the_oldest(self) -> None:
        async def script(hands: Hands) -> None:
            await hands.on(LogIn)
            for number in range(MOST_LINES + 10):
                hands.client._hear(Said("POP3", "S", f"line {number};", None))
            await hands.sees(f"line {MOST_LINES + 9};")
            self.assertLessEqual(len(dialogue(hands.client.screen.query_one(Protocol))), MOST_LINES)
            self.assertLessEqual(len(hands.client.said), MOST_LINES)

        self.play(script)

    def test_sections_lead_to_their_rfc(self) -> None:
        self.assertEqual(link("RFC 5321 4.1.1.2"), "https://www.rfc-editor.org/rfc/rfc5321#section-4.1.1.2")

    def test_each_pane_can_have_the_whole_screen(self) -> None:
        async def script(hands: Hands) -> None:
            screen = await hands.in_letters()
            await hands.press("f3")
            await until(lambda: screen.listing.size.height > 20, "the list grows")
            await hands.press("enter")
            await hands.on(Letters)
            await hands.sees("mailbe", "Inbox", "Dear Alice")
            await hands.press("f3")
            await until(lambda: screen.reader.size.height > 20, "the letter grows")
            await hands.press("g")
            await hands.on(Letters)
            await hands.sees("No new letters")
            top = shown(hands.client).splitlines()[0]
            self.assertTrue(top.endswith(" 3 letters "), top)

        self.play(script)

    def test_zoom_gives_a_pane_the_whole_screen(self) -> None:
        async def script(hands: Hands) -> None:
            screen = await hands.in_letters()
            screen.query_one(Protocol).focus()
            await hands.press("f3")
            await until(lambda: screen.query_one(Protocol).size.height > 15, "it grows")
            await hands.press("escape")
            await until(lambda: screen.query_one(Protocol).size.height < 10, "it shrinks")

        self.play(script)


class Words(SynchronousTestCase):
    def test_sizes_are_short(self) -> None:
        cases = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9951: "10 kB", 999_499: "999 kB"}
        cases |= {999_500: "1.0 MB", 52_428_800: "52 MB", 10**9: "1.0 GB"}
        for octets, text in cases.items():
            self.assertEqual(size(octets), text)

    def test_counts_and_days(self) -> None:
        self.assertEqual([count(number, "letter") for number in (0, 1, 2)], ["no letters", "1 letter", "2 letters"])
        self.assertEqual(day(None), "")
        self.assertTrue(day(datetime(1, 1, 1, tzinfo=UTC)).startswith("1-01-01"))
