"""Maildirs are common ground: we serve what other programs have put there, and they read ours."""

from __future__ import annotations

import mailbox
import poplib
import re

from tests.end_to_end.dovecot import PASSWORD, Dovecot
from tests.end_to_end.letters import fetch, letter, maildrop, retrieve, send
from tests.end_to_end.programs import needs, run_on_a_terminal
from tests.end_to_end.server import ALICE, BOB, EndToEndTestCase, Server

HEADER = b"From: old@example.com\nSubject: from before\n\n"
MANY_LINES = b"".join(b"%d %s\n" % (number, b"x" * (number % 70)) for number in range(8_000))
# What lies in files of another program.
OLD_LETTERS = [
    HEADER + "Grüße\n.\n..\n.x\n\n".encode(),
    HEADER + b"the last line has no end",
    HEADER.replace(b"\n", b"\r\n") + b"all of it\r\nwith CRLF\r\n",
    HEADER + b"some of it\r\nwith CRLF\n\r\n\n",
    HEADER + MANY_LINES,
    HEADER.replace(b"\n", b"\r\n") + b"odd\n" + MANY_LINES.replace(b"\n", b"\r\n"),
    HEADER,
    b"Subject: a header and nothing else\n",
]


def on_the_wire(stored: bytes) -> bytes:
    """The octets that a client must get: every line ends with CRLF, the last one too."""
    lines = stored.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    return b"".join(line + b"\r\n" for line in lines)


def unique_ids(pop3: poplib.POP3) -> list[bytes]:
    return [line.split()[1] for line in pop3.uidl()[1]]


class TheirsTests(EndToEndTestCase):
    """Mail that another program has put into bob's mailbox: LF, no sizes in the names, some of it read."""

    def serve_old_mail(self) -> tuple[Server, mailbox.Maildir]:
        """A server that finds bob's old mail in its folder at its first start, and the mailbox with it."""
        maildata = self.scratch() / "maildata"
        folder = maildata / "reception" / BOB
        folder.parent.mkdir(parents=True)
        maildir = mailbox.Maildir(folder)
        for number, octets in enumerate(OLD_LETTERS):
            key = maildir.add(octets)
            # What a mail program does when its user has seen it; some note the size of the file, too.
            read = [None, f"{key}:2,S", f"{key}:2,", f"{key},S={len(octets)}:2,RS"][number % 4]
            if read:
                (folder / "new" / key).rename(folder / "cur" / read)
        return self.serve(maildata=maildata), maildir

    def test_each_is_listed_with_its_wire_size_and_served_with_full_line_ends(self) -> None:
        server, _ = self.serve_old_mail()
        with maildrop(server.pop3, BOB) as pop3:
            letters = [retrieve(pop3, number + 1) for number in range(len(OLD_LETTERS))]
            self.assertEqual(pop3.stat(), (len(letters), sum(map(len, letters))))
        self.assertEqual(sorted(letters), sorted(map(on_the_wire, OLD_LETTERS)))

    def test_each_can_be_deleted(self) -> None:
        server, maildir = self.serve_old_mail()
        with maildrop(server.pop3, BOB) as pop3:
            for number in range(len(OLD_LETTERS)):
                pop3.dele(number + 1)
        self.assertEqual(len(maildir), 0)

    def test_each_keeps_its_unique_id_when_it_is_marked_as_read(self) -> None:
        server, maildir = self.serve_old_mail()
        with maildrop(server.pop3, BOB) as pop3:
            before = unique_ids(pop3)
        self.assertEqual(len(set(before)), len(OLD_LETTERS))
        for key in list(maildir.iterkeys()):
            message = maildir.get_message(key)
            message.set_subdir("cur")
            message.set_flags("S")
            maildir[key] = message
        with maildrop(server.pop3, BOB) as pop3:
            self.assertEqual(unique_ids(pop3), before)

    def test_what_comes_between_two_sessions_is_seen_at_once(self) -> None:
        server, maildir = self.serve_old_mail()
        for number in range(1, 11):
            with maildrop(server.pop3, BOB) as pop3:
                count = pop3.stat()[0]
            self.assertEqual(count, len(OLD_LETTERS) + number - 1)
            maildir.add(OLD_LETTERS[0])


class OursTests(EndToEndTestCase):
    """Mail that a server has put into bob's mailbox, read there by other programs."""

    def serve_new_mail(self) -> tuple[Server, list[bytes]]:
        """A server, and the octets of bob's letters on it."""
        server = self.serve()
        for number in range(3):
            octets = letter(ALICE, [BOB], f"letter {number}", attachment=bytes(100_000 * number))
            send(server.submission, ALICE, [BOB], octets)
        return server, fetch(server.pop3, BOB)

    @needs("mutt")
    def test_mutt_reads_our_letters_and_the_unique_ids_stay(self) -> None:
        server, letters = self.serve_new_mail()
        with maildrop(server.pop3, BOB) as pop3:
            before = unique_ids(pop3)
        home = self.scratch()
        copies = mailbox.Maildir(home / "copies")
        (home / "settings").write_text(
            f'set mbox_type=Maildir folder="{home}" confirmappend=no quit=yes\n'
            'push "<tag-pattern>~A<enter><tag-prefix><copy-message>'
            f'{home / "copies"}<enter><tag-prefix><clear-flag>N<quit>"\n'
        )
        folder = server.mailbox("reception", BOB)
        run_on_a_terminal(home, "mutt", "-n", "-F", "settings", "-f", str(folder))
        # It ends the header of its copies with the size of the text.
        copied = [re.sub(rb"Content-Length: \d+\n\n", b"\r\n", copies.get_bytes(key)) for key in copies.iterkeys()]
        self.assertEqual(sorted(copied), sorted(letters))
        # It has marked them as read: they have moved, and their names have a flag.
        self.assertEqual([path.name[-4:] for path in (folder / "cur").iterdir()], [":2,S"] * len(letters))
        with maildrop(server.pop3, BOB) as pop3:
            self.assertEqual(unique_ids(pop3), before)
        self.assertEqual(fetch(server.pop3, BOB), letters)

    @needs("dovecot")
    def test_dovecot_lists_and_serves_our_letters_as_we_do(self) -> None:
        server, letters = self.serve_new_mail()
        with Dovecot(server.mailbox("reception", BOB)) as dovecot:
            with maildrop(dovecot.port, "bob", PASSWORD) as pop3:
                listing = [int(line.split()[1]) for line in pop3.list()[1]]
                served = [retrieve(pop3, number + 1) for number in range(len(listing))]
            self.assertEqual(listing, [len(one) for one in letters])
            self.assertEqual(served, letters)
            self.assertNotRegex(dovecot.log, "Error|Warning|Panic")

    def test_pythons_mailbox_reads_our_letters(self) -> None:
        server, letters = self.serve_new_mail()
        maildir = mailbox.Maildir(server.mailbox("reception", BOB), create=False)
        self.assertEqual(sorted(maildir.get_bytes(key) for key in maildir.iterkeys()), sorted(letters))
        sent = mailbox.Maildir(server.mailbox("envoi", ALICE), create=False)
        self.assertEqual({message["Subject"] for message in sent}, {f"letter {number}" for number in range(3)})
