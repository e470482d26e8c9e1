r"""Nothing that a peer sends as a name gets anywhere but where names are looked up: into no path, no line of the log
but as what it is, no other host, and no reply but escaped.

There are 115 names here that have harmed some program somewhere. Each goes into all 109 places where a client may put
one, in SMTP and in POP3, and where addresses stand in all the forms of an address: 12,805 conversations.
What the process opens, makes or connects to is watched by Python's own audit events, what it logs is
formatted as twistd does it, and every reply is parsed by the letter.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEventAsClassicLogText
from twisted.trial.unittest import SynchronousTestCase

from mailbe import cli
from mailbe.accounts import scram
from mailbe.accounts.database import Accounts
from mailbe.address import Address, BadAddress
from mailbe.maildata import Maildata, folder_name
from mailbe.smtp.harvest import SLOWEST
from tests.premises import PASSWORDS, Client, Premises
from tests.storage import ALICE, BOB
from tests.strict import below_trace, pop3_status, smtp_codes
from tests.watch import watched

FORGED = (
    b"2026-01-31T12:00:00+0000 [mailbe.accounts.checker#warn] log-in failed: user='a' peer=192.0.2.66 reason=locked"
)
NAMES = [
    # Ways through a file system, to other places in it, and names that are special in one.
    *(b"", b" ", b".", b"..", b"../", b"../../../etc/passwd", b"/etc/passwd", b"/", b"//", b"\\..\\..", b"C:\\"),
    *(b"~", b"~root", b"alice/../bob", b"alice/cur", b"new", b"cur", b"tmp", b"spool", b"accounts.sqlite3", b"-"),
    *(b"--", b"-rf", b".alice", b"CON", b"NUL", b"aux.txt", b"COM1", b"lpt9", b"alice.", b"alice ", b" alice"),
    *(b"alice::$DATA", b"alice,S=1", b"alice:2,S"),
    # Octets that end a text, or do things to a terminal.
    *(b"\0", b"alice\0", b"alice\0.txt", b"\0alice", b"alice\0@localhost", b"a\tb", b"\x0b", b"\x0c", b"\x7f"),
    *(b"\x08\x08\x08", b"\r", b"\n", b"a\rb", b"a\nb", b"\n.\n", b"\x1b[31mred", b"\x1b]0;title\x07", b"\x9b31m"),
    *(b"\xc2\x9b31m", b"\x85", b"\xe2\x80\xa8"),
    # No UTF-8, and UTF-8 that hides something.
    *(b"\xff", b"\xff\xfe", b"\x80", b"\xc0\xae\xc0\xae\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"\xe2\x80\xaeecila", b"a\xcc\x81", b"\xef\xbb\xbfalice", b"al\xe2\x80\x8bice", b"\xe2\x80\xa5/"),
    # Full-width alice, a Cyrillic one, a Kelvin sign, a dotless i, a long s, full-width dots and slash.
    *("\uff41\uff4c\uff49\uff43\uff45".encode(), "\u0430lice".encode(), "\u212ailo".encode()),
    *("al\u0131ce".encode(), "\u017fmith".encode(), "\uff0e\uff0e\uff0f".encode()),
    # What some program or other takes for an instruction.
    *(b"%", b"%s%s%n", b"%2e%2e%2f", b"%00", b"%252e", b"{log_time}", b"{0.__class__}", b"{}", b"${HOME}", b"`id`"),
    *(b"|id", b";id", b"*", b"?", b"[a-z]", b"'", b'"', b"' OR 1=1 --"),
    # Routes, other hosts, and addresses that are none.
    *(b"a%b@c", b"c!b!a", b"@c:a@localhost", b"@", b"a@", b"@localhost", b"a@b@c", b"alice@localhost.", b"alice@"),
    *(b"alice@[127.0.0.1]", b"alice@[IPv6:::1]", b"alice@[x:../..]", b"alice@127.0.0.1", b"alice@other.example"),
    # Too long for one thing or another.
    *(b"a" * length for length in (64, 65, 255, 256, 1000, 4096, 65536)),
    # A line of a log.
    *(FORGED, b"x\n" + FORGED, b"x\r" + FORGED),
]  # fmt: skip
NUMBERS = [b"0", b"-1", b"+1", b"1.0", b"1e3", b"0x1", b"1_0", b"1,1", b"9" * 10, b"9" * 11, b"9" * 300, b"1\0", b"\t1"]
NUMBERS += ["\uff11".encode(), "\u0661".encode(), "\u00b2".encode(), b"\xb2", b"1 1 1"]
SECRET = b"Zq9-secret"  # a part of every password here
EHLO, MAIL, RCPT, DATA = b"EHLO me", b"MAIL FROM:<s@example>", b"RCPT TO:<bob@localhost>", b"DATA"
LETTER = b"Subject: a\r\n\r\nb\r\n"
Places = dict[str, list[bytes]]  # what is said, line by line, by where the name stands in it


def b64(*fields: bytes) -> bytes:
    return base64.b64encode(b"\0".join(fields))


def quoted(name: bytes) -> bytes:
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def escaped(name: bytes) -> bytes:
    return b'"' + b"".join(b"\\" + name[index : index + 1] for index in range(len(name))) + b'"'


def paths(name: bytes) -> dict[str, bytes]:
    """All that may stand between angle brackets."""
    return {
        "a path": name,
        "a local part": name + b"@localhost",
        "a quoted local part": quoted(name) + b"@localhost",
        "an escaped local part": escaped(name) + b"@localhost",
        "a domain": b"bob@" + name,
        "an address literal": b"bob@[" + name + b"]",
        "a tagged literal": b"bob@[x:" + name + b"]",
        "an IPv6 literal": b"bob@[IPv6:" + name + b"]",
        "a source route": b"@" + name + b":bob@localhost",
        "a longer route": b"@a.example,@" + name + b":bob@localhost",
        "a percent route": b"bob%" + name + b"@localhost",
        "another percent route": name + b"%other.example@localhost",
        "a bang route": b"other.example!" + name + b"@localhost",
        "behind a mailbox": b"bob@localhost>" + name + b"<",
    }


def smtp_places(name: bytes) -> Places:
    parameters = (b" ", b" SIZE=", b" BODY=", b" AUTH=", b" NOTIFY=", b" ORCPT=rfc822;", b" X=")
    return {
        "a verb": [name],
        "HELO": [b"HELO " + name, MAIL, RCPT, DATA],
        "EHLO": [b"EHLO " + name, MAIL, RCPT, DATA],
        "EHLO literal": [b"EHLO [x:" + name + b"]", MAIL, RCPT, DATA],
        "MAIL without brackets": [EHLO, b"MAIL FROM:" + name, RCPT, DATA],
        "RCPT without brackets": [EHLO, MAIL, b"RCPT TO:" + name, DATA],
        **{f"MAIL, {what}": [EHLO, b"MAIL FROM:<" + path + b">", RCPT, DATA] for what, path in paths(name).items()},
        **{f"RCPT, {what}": [EHLO, MAIL, b"RCPT TO:<" + path + b">", DATA] for what, path in paths(name).items()},
        **{f"MAIL {keyword!r}": [EHLO, MAIL + keyword + name, RCPT, DATA] for keyword in parameters},
        **{f"RCPT {keyword!r}": [EHLO, MAIL, RCPT + keyword + name, DATA] for keyword in parameters},
        "a keyword": [EHLO, MAIL + b" " + name + b"=1", RCPT, DATA],
        **{
            f"UTF-8, {what}": [EHLO, b"MAIL FROM:<" + path + b"> SMTPUTF8", RCPT, DATA]
            for what, path in paths(name).items()
        },
        "UTF-8 to a local part": [EHLO, MAIL + b" SMTPUTF8", RCPT, b"RCPT TO:<" + name + b"@localhost>", DATA],
        "UTF-8 to a domain": [EHLO, MAIL + b" SMTPUTF8", RCPT, b"RCPT TO:<bob@" + name + b">", DATA],
        "VRFY in UTF-8": [EHLO, b"VRFY " + name + b" SMTPUTF8"],
        "BDAT": [EHLO, MAIL, RCPT, b"BDAT " + name],
        "behind DATA": [EHLO, MAIL, RCPT, b"DATA " + name, DATA],
        **{verb.decode(): [verb + b" " + name] for verb in (b"VRFY", b"EXPN", b"HELP", b"NOOP", b"RSET", b"STARTTLS")},
    }


def pop3_places(name: bytes) -> Places:
    log_in = [b"USER bob", b"PASS " + PASSWORDS[BOB]]
    return {
        "a verb": [name],
        "a verb in a maildrop": [*log_in, name],
        **{verb.decode(): [verb + b" " + name] for verb in (b"CAPA", b"STLS", b"QUIT")},
        "APOP": [b"APOP " + name + b" c4c9334bac560ecc979e58001b3e22fb"],
        "TOP, lines": [*log_in, b"TOP 1 " + name],
        **{
            verb.decode(): [*log_in, verb + b" " + name]
            for verb in (b"STAT", b"LIST", b"UIDL", b"RETR", b"TOP", b"DELE", b"RSET", b"NOOP")
        },
    }


def auth_places(name: bytes) -> Places:
    return {
        "a mechanism": [b"AUTH " + name],
        "a response": [b"AUTH PLAIN " + name],
        "a second response": [b"AUTH PLAIN", name],
        "a name": [b"AUTH PLAIN " + b64(b"", name, SECRET)],
        "an authorization identity": [b"AUTH PLAIN " + b64(name, b"alice", SECRET)],
        "a password": [b"AUTH PLAIN " + b64(b"", b"alice", SECRET + name)],
        "a SCRAM message": [b"AUTH SCRAM-SHA-256 " + b64(name)],
        "a SCRAM name": [b"AUTH SCRAM-SHA-256 " + b64(b"n,,n=" + name + b",r=abc"), b64(b"c=biws,r=abc,p=" + name)],
    }


def log_in_places(name: bytes) -> dict[str, Places]:
    return {
        "smtp": {
            **{what: [EHLO, *lines] for what, lines in auth_places(name).items()},
            "LOGIN, a name": [EHLO, b"AUTH LOGIN", b64(name), b64(SECRET)],
            "LOGIN, a password": [EHLO, b"AUTH LOGIN " + b64(b"alice"), b64(SECRET + name)],
        },
        "pop3": {
            **auth_places(name),
            "USER": [b"USER " + name, b"PASS " + SECRET],
            "PASS": [b"USER alice", b"PASS " + SECRET + name],
        },
    }


# Letters that arrive together share an event, with a line for each.
LETTERS = r"\A[0-9T:+-]{24} \[mailbe\.journal#info\] ([0-9]+\.M[ -~]{1,1000} to [0-9]+ recipients\n\t?)+\Z"


class Names(SynchronousTestCase):
    def setUp(self) -> None:
        self.premises = Premises(self, patient=True)
        self.failures = 0
        root = re.escape(str(self.premises.maildata.root))
        letter = r"[0-9]+\.[A-Za-z0-9]+\.[^/,:]+"
        mailbox = "(reception|envoi)(/(alice|bob|postmaster)@localhost"
        inside = rf"(/(tmp|new|cur)(/{letter}(,A=[0-9]+)?,S=[0-9]+,W=[0-9]+)?)?"
        self.may_name = re.compile(
            rf"(file:///.*)?{root}(/(accounts\.sqlite3(\?mode=rw)?|spool(/{letter})?"
            rf"|held(/(letters|envelopes))?|{mailbox}{inside})?))?"
        )

    @contextmanager
    def watch(self, what: object) -> Iterator[None]:
        """See that nothing is done but what must be, and each event is one line of a log that anybody may read."""
        with watched() as doings, capturedLogs() as events:
            yield
        self.assertEqual([path for path in doings.paths if not self.may_name.fullmatch(path)], [], what)
        self.assertEqual(doings.others + self.premises.reactor.tcpClients, [], what)
        for event in events:
            self.assert_one_clean_line(event)

    def assert_one_clean_line(self, event: LogEvent) -> None:
        line = formatEventAsClassicLogText(event) or ""
        self.assertRegex(line, r"\A[0-9T:+-]{24} \[mailbe\.[a-z0-9_.]+#(info|warn)\] [ -~]{1,1000}\n\Z|" + LETTERS)
        self.assertNotIn(SECRET.decode(), line)
        if "log-in failed" in line:
            self.assertRegex(line, r" peer=127\.0\.0\.1 reason=wrong-password\n\Z")
            self.failures += 1
        self.assertIn(event["log_level"], (LogLevel.info, LogLevel.warn))

    def talk(self, port: str, what: object, lines: list[bytes], replies: Callable[[Client, bytes], int]) -> None:
        """Say ``lines``; to each there must be one good reply, or the connection is at its end."""
        client = self.premises.connect(port)
        for line in lines:
            if not client.open:
                break
            self.assertEqual(replies(client, line + b"\r\n"), 1, (what, lines))
        client.lose()

    def smtp_replies(self, client: Client, line: bytes) -> int:
        said = client.ask(line)
        if not said:  # who asks for many that are not here waits longer and longer
            self.premises.reactor.advance(SLOWEST)
            said = client.hear()
        codes = smtp_codes(said)
        if codes == [354]:
            self.assertEqual(smtp_codes(client.ask(LETTER + b".\r\n")), [250])
        return len(codes)

    def pop3_replies(self, client: Client, line: bytes) -> int:
        _, behind = pop3_status(client.ask(line))
        self.assertRegex(behind, rb"\A(?:(?:[ -~]*\r\n)*\.\r\n)?\Z")  # what we list
        return 1

    def assert_all_is_where_it_belongs(self) -> None:
        root = self.premises.maildata.root
        others = {root / name for name in ("pid", "tls", "accounts.sqlite3-wal", "accounts.sqlite3-shm")}
        others |= set(self.premises.maildata.tls.iterdir())
        there = set(root.parent.rglob("*")) - others
        self.assertEqual([path for path in there if not self.may_name.fullmatch(str(path))], [])
        for user in ("alice", "bob", "postmaster"):
            for letter in self.premises.letters("reception", user):
                self.assertEqual(below_trace(letter), LETTER)
                self.assertRegex(letter, rb"\A(?:[\t -~\x80-\xff]{1,998}\r\n)+\r\nb\r\n\Z")
                self.assertNotRegex(letter.decode(), "[\x80-\x9f\u2028\u2029]")
                self.assertTrue(letter.isascii() or b" with UTF8SMTP id " in letter)
                self.assertRegex(
                    letter, rb"\r\nReceived: from ([A-Za-z0-9._?-]+|\[[!-Z^-~]+\]) \(\[127\.0\.0\.1\]\)\r\n"
                )
        self.assertEqual(self.premises.letters("envoi", "alice") + self.premises.letters("envoi", "bob"), [])

    def test_in_smtp_they_lead_nowhere(self) -> None:
        for name in NAMES:
            with self.watch(name):
                for what, lines in smtp_places(name).items():
                    self.talk("smtp", what, lines, self.smtp_replies)
        self.assertTrue(self.premises.letters("reception", "bob"))
        self.assert_all_is_where_it_belongs()

    def test_in_pop3_they_lead_nowhere(self) -> None:
        for name in NAMES + NUMBERS:
            with self.watch(name):
                for what, lines in pop3_places(name).items():
                    self.talk("pop3", what, lines, self.pop3_replies)
        self.assert_all_is_where_it_belongs()

    def test_nobody_logs_in_with_them_and_the_log_says_who_tried(self) -> None:
        for name in NAMES:
            with self.watch(name):
                for port, places in log_in_places(name).items():
                    for what, lines in places.items():
                        self.talk(port, what, lines, self.smtp_replies if port == "smtp" else self.pop3_replies)
        self.assertGreater(self.failures, 5 * len(NAMES))
        self.assert_all_is_where_it_belongs()


class AccountNames(SynchronousTestCase):
    """Not even who may make accounts can make one whose mail lies elsewhere, or with another's."""

    def setUp(self) -> None:
        self.patch(scram, "ITERATIONS", 1)
        self.maildata = Maildata(Path(self.mktemp()) / "maildata")
        self.maildata.prepare()

    def mailbe(self, *arguments: str) -> tuple[int, str]:
        """Run ``mailbe user``; returns its status and what it printed, which is fit for a terminal."""
        stdin = io.TextIOWrapper(io.BytesIO(b"white-rabbit\n"))
        self.patch(sys, "stdin", stdin)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                status = cli.main(["--maildata", str(self.maildata.root), "user", *arguments])
            except SystemExit as exit:
                status = int(exit.code or 0)
        if status != 2:  # then argparse shows all that can be said
            line = said.getvalue().removesuffix("\n")
            self.assertTrue(line and line.isprintable(), arguments)
        return status, said.getvalue()

    def test_each_has_a_folder_of_its_own_or_is_refused(self) -> None:
        self.assertEqual(self.mailbe("add", "first@localhost", "--password-stdin")[0], 0)  # all is imported now
        root = self.maildata.root
        folders = {"first@localhost": "first@localhost"}
        for name in NAMES:
            for form in ("a path", "a quoted local part", "a tagged literal"):
                text = paths(name)[form].decode("utf-8", "surrogateescape")
                with watched() as doings:
                    status, _ = self.mailbe("add", text, "--password-stdin")
                self.assertIn(status, (0, 1, 2))
                named = {path for path in doings.paths if f"{root}/accounts.sqlite3" not in path}
                self.assertEqual(named - {str(root), *map(str, root.absolute().parents)}, set(), text)
                if status:
                    continue
                address = Address.parse(text)
                mailbox = self.maildata.reception(address)
                self.assertEqual(mailbox.parent, self.maildata.root / "reception")
                self.assertRegex(mailbox.name, r"\A[a-z0-9_~@+=%-][A-Za-z0-9_.~@+=%-]{0,199}\Z")
                self.assertNotIn(mailbox.name, folders, (text, folders.get(mailbox.name)))
                folders[mailbox.name] = text
        self.assertGreater(len(folders), 50)
        with contextlib.closing(Accounts(self.maildata.accounts)) as accounts:
            self.assertEqual(len(accounts.all()), len(folders))
        for text in folders.values():
            mailbox = self.maildata.reception(Address.parse(text))
            mailbox.mkdir()
            self.assertEqual(self.mailbe("remove", text)[0], 0)
            self.assertFalse(mailbox.exists())
        self.assertEqual(list((self.maildata.root / "reception").iterdir()), [])
        self.assertEqual(len(list(self.maildata.root.glob("removed/*/reception"))), len(folders))


printable = st.characters(min_codepoint=32, max_codepoint=126)
odd = st.sampled_from(list('aAbB2eEfF0..%%//\\"@+=~-_ '))
locals_ = st.text(odd, max_size=8) | st.text(printable, max_size=64)
domains = st.sampled_from(["localhost", "LocalHost", "a.b", "A.B", "a-b.c"]) | st.text(
    st.sampled_from("aAbB@:./%-2eEfF"), min_size=1, max_size=8
).map(lambda text: f"[x:{text}]")
addresses = st.builds(Address, locals_, domains)


class FolderNames(SynchronousTestCase):
    @given(addresses)
    def test_from_a_folder_one_can_tell_whose_it_is(self, address: Address) -> None:
        name = folder_name(address)
        self.assertEqual(Address.parse(unquote(name)).key, address.key)
        self.assertRegex(name, r"\A[A-Za-z0-9_~@+=%-][A-Za-z0-9_.~@+=%-]*\Z")
        self.assertEqual(str(Path("/a") / name), f"/a/{name}")

    @given(addresses, addresses)
    def test_two_accounts_never_share_one(self, one: Address, other: Address) -> None:
        names = {folder_name(one), folder_name(other)}
        self.assertEqual(len(names), len({one.key, other.key}))
        # Not even on a disk to which a letter's case is nothing.
        self.assertEqual(len({name.lower() for name in names}), len(names))

    @given(st.text() | st.text(st.sampled_from("aALlIiCcEe@\u212a\u0131\u0130\uff41\u0430\0. ")))
    def test_a_name_that_only_looks_like_anothers_is_nobodys(self, name: str) -> None:
        accounts = Accounts(self.path)
        self.addCleanup(accounts.close)
        account = accounts.named(name)
        with contextlib.suppress(BadAddress):
            name = Address.parse(name).key
        self.assertEqual(account is not None, name.isascii() and name.lower() in ("alice", "alice@localhost"))

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        with contextlib.closing(Accounts(self.path)) as accounts:
            accounts.add_all([(ALICE, "{MD5}" + "0" * 32), (BOB, "{MD5}" + "0" * 32)])
