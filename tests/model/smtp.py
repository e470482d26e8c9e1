"""The model's SMTP."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.model.talk import DOMAIN, USER, Gone, Talk

if TYPE_CHECKING:
    from tests.model.server import Model

SIZE = 300_000  # octets
LEAST = 60  # seconds that a letter which is to be returned may take
HOLD, LATEST = 86400, "2036-01-01T00:00:00Z"  # seconds, and a date, until which a letter may be held
EVERYWHERE = (
    "PIPELINING",
    f"SIZE {SIZE}",
    "8BITMIME",
    "ENHANCEDSTATUSCODES",
    "SMTPUTF8",
    "CHUNKING",
    "BINARYMIME",
    "LIMITS RCPTMAX=1000 MAILMAX=50",
    "MT-PRIORITY",
    "AUTH PLAIN LOGIN CRAM-MD5",
    "VRFY",
    "HELP",
)
AT_SUBMISSION = ("DSN", f"DELIVERBY {LEAST}", f"FUTURERELEASE {HOLD} {LATEST}")
_ADDRESS = r"(?:@[a-z.]+:)?(?:\"[^\"]+\"|[^\s@<>\"]+)@[^\s@<>]+"
_MAIL = re.compile(rf"FROM:(?:<({_ADDRESS})>|<>)((?: [^ ]+)*)", re.IGNORECASE)
_RCPT = re.compile(rf"TO:<(postmaster|{_ADDRESS})>((?: [^ ]+)*)", re.IGNORECASE)
_XTEXT = r"(?-i:(?:[!-*,-<>-~]|\+[0-9A-F]{2})+)"
_PARAMETERS = {
    "MAIL": {
        "SIZE": ("SIZE", r"[0-9]{1,20}"),
        "BODY": ("8BITMIME", r"7BIT|8BITMIME|BINARYMIME"),
        "AUTH": ("AUTH", r"<>|[!-~]+"),
        "SMTPUTF8": ("SMTPUTF8", None),
        "REQUIRETLS": ("REQUIRETLS", None),
        "MT-PRIORITY": ("MT-PRIORITY", r"-?[0-9]"),
        "BY": ("DELIVERBY", r"[+-]?[0-9]{1,9};[RN]T?"),
        "HOLDFOR": ("FUTURERELEASE", r"[1-9][0-9]{0,8}"),
        "HOLDUNTIL": ("FUTURERELEASE", r"[0-9-]{10}T[0-9:]{8}Z"),
        "RET": ("DSN", r"FULL|HDRS"),
        "ENVID": ("DSN", _XTEXT),
    },
    "RCPT": {
        "NOTIFY": ("DSN", r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*"),
        "ORCPT": ("DSN", rf"[a-z0-9-]+;{_XTEXT}"),
    },
}
"""By command and keyword: which extension a parameter belongs to, and its form, ``None`` where it has no value."""
Parameters = dict[str, str]


@dataclass
class Recipient:
    address: str
    parameters: Parameters


@dataclass
class Envelope:
    sender: str
    parameters: Parameters
    hold: float = 0
    """Seconds."""
    recipients: list[Recipient] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)


class SmtpTalk(Talk):
    """SMTP; ``submission`` asks for a log-in."""

    def __init__(self, model: Model, connection: socket.socket, *, implicit: bool, submission: bool) -> None:
        super().__init__(model, connection, implicit=implicit)
        self.submission = submission
        self.forget()

    def forget(self) -> None:
        self.helo, self.known, self.letters = "", False, 0
        self.letter: Envelope | None = None
        self.before: list[bytes] = []  # chunks that RSET has not thrown away

    def reply(self, code: int, *lines: str) -> None:
        status = "" if code in (220, 334, 354) else f"{code // 100}.0.0 "
        *before, last = [f"{status}{line}" for line in lines]
        self.say("".join([*(f"{code}-{line}\r\n" for line in before), f"{code} {last}\r\n"]).encode())

    def run(self) -> None:
        self.reply(220, f"{DOMAIN} ESMTP")
        while True:
            line = self.line()
            said = line.decode("utf-8", "replace")
            said = said if self.wrong("minds-spaces") else said.rstrip(" ")
            if not self.overridden(said, self.fault.smtp):
                self.obey(said, len(line) + 2)

    def obey(self, line: str, octets: int) -> None:
        verb, _, argument = line.partition(" ")
        method = getattr(self, f"do_{verb.lower()}", None)
        if method is not None and octets <= 2048:
            return method(argument)
        self.reply(500, "what?")
        if self.wrong("hangs-up"):
            raise Gone
        return None

    def offers(self) -> list[str]:
        more = AT_SUBMISSION if self.submission else ()
        return [*EVERYWHERE, *more, "REQUIRETLS" if self.secure else "STARTTLS"]

    def do_ehlo(self, name: str) -> None:
        if not name:
            return self.reply(501, "who?")
        self.helo, self.letter = name, None
        lines = [f"{DOMAIN} hello", *self.fault.offers(self.offers())]
        *before, last = lines
        self.say("".join([*(f"250-{line}\r\n" for line in before), f"250 {last}\r\n"]).encode())
        return None

    def do_helo(self, name: str) -> None:
        self.helo, self.letter = name, None
        self.say(f"250 {DOMAIN}\r\n".encode())

    def do_starttls(self, argument: str) -> None:
        if argument:
            return self.reply(501, "alone")
        if self.secure:
            return self.reply(220 if self.wrong("tls-again") else 503, "again?")
        self.reply(220, "go ahead")
        kept = self.letter
        self.start_tls()
        self.forget()
        if self.wrong("tls-keeps"):
            self.letter = kept
        return None

    def do_auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if not argument:
            return self.reply(501, "how?")
        if (self.known or self.letter) and not self.wrong("logs-in-again"):
            return self.reply(503, "not now")
        if mechanism.upper() not in ("PLAIN", "LOGIN", "CRAM-MD5"):
            return self.reply(504, "what?")
        try:
            self.known = self.check(mechanism.upper(), initial.encode() or None)
        except ValueError:
            return self.reply(535 if self.wrong("any-response") else 501, "no")
        return self.reply(235, "welcome") if self.known else self.reply(535, "no")

    def ask(self, challenge: bytes) -> bytes:
        self.say(b"334 " + challenge + b"\r\n")
        return self.line()

    def do_mail(self, argument: str) -> None:
        match = _MAIL.fullmatch(argument)
        self.letters += 1
        if self.letter is not None:
            return self.reply(501 if self.wrong("odd-code") else 503, "one at a time")
        if (self.submission and not self.known and not self.wrong("open")) or (
            self.wrong("tls-first") and not self.secure
        ):
            return self.reply(530, "log in")
        if self.wrong("takes-few") and self.letters > 10:
            return self.reply(452, "enough")
        if not match:
            return self.reply(501, "whom?")
        parameters = self.parameters(match[2], "MAIL")
        if parameters is None:
            return None
        if int(parameters.get("SIZE") or 0) > SIZE:
            return self.reply(552, "too large")
        if (hold := self.hold(parameters)) is None or self.leaves_no_time(parameters):
            return self.reply(501, "when?")
        self.letter = Envelope(match[1] or "", parameters, hold, chunks=self.before)
        return self.reply(250, "ok")

    def parameters(self, text: str, verb: str) -> Parameters | None:
        """What stands behind a path; ``None`` where that was refused."""
        offered = {word.split()[0] for word in self.offers()}
        found: Parameters = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            name = name.upper()
            extension, form = _PARAMETERS[verb].get(name, ("", None))
            if extension not in offered:
                return self.reply(555, "what?")
            if (form is None) == bool(equals) or (form and not re.fullmatch(form, value, re.IGNORECASE)):
                return self.reply(501, "what?")
            if name in found and not self.wrong("takes-twice"):
                return self.reply(501, "once")
            found[name] = value
        return found

    def hold(self, parameters: Parameters) -> float | None:
        """For how many seconds a letter is to be held; ``None`` where that makes no sense."""
        if "HOLDFOR" in parameters and "HOLDUNTIL" in parameters:
            return None
        seconds = int(parameters.get("HOLDFOR") or 0)
        if until := parameters.get("HOLDUNTIL"):
            try:
                date = datetime.fromisoformat(until)
            except ValueError:
                return None
            seconds = (date - datetime.now(UTC)).total_seconds()
            return None if date > datetime.fromisoformat(LATEST) else max(0, seconds)
        return None if seconds > HOLD else seconds

    def leaves_no_time(self, parameters: Parameters) -> bool:
        seconds, _, mode = parameters.get("BY", "").partition(";")
        return mode[:1].upper() == "R" and int(seconds) < LEAST

    def do_rcpt(self, argument: str) -> None:
        if self.letter is None and self.wrong("any-order"):
            self.letter = Envelope("", {})
        if self.letter is None:
            return self.reply(503, "MAIL first")
        if self.wrong("takes-few") and len(self.letter.recipients) > 50:
            return self.reply(452, "enough")
        if not (match := _RCPT.fullmatch(argument)):
            return self.reply(501, "whom?")
        self.model.recipients.add(match[1])
        if not match[1].isascii() and "SMTPUTF8" not in self.letter.parameters:
            return self.reply(553, "in ASCII")
        local, _, domain = re.sub("^@[^:]+:", "", match[1]).replace('"', "").rpartition("@")
        if domain.lower() not in (DOMAIN, "postmaster"):
            return self.reply(550, "elsewhere")
        if domain.lower() == DOMAIN and local.lower() not in (USER, "postmaster"):
            return self.reply(550, "nobody")
        parameters = self.parameters(match[2], "RCPT")
        if parameters is None:
            self.letter = None if self.wrong("all-or-none") else self.letter
            return None
        self.letter.recipients.append(Recipient(match[1], parameters))
        return self.reply(250, "ok")

    def do_data(self, argument: str) -> None:
        if argument:
            return self.reply(501, "alone")
        mixed = self.letter is not None and self.letter.chunks and not self.wrong("mixes")
        if self.letter is None or not self.letter.recipients or mixed:
            return self.reply(503, "not now")
        if self.letter.parameters.get("BODY", "") == "BINARYMIME":
            return self.reply(503, "BDAT")
        self.reply(354, "go ahead")
        if self.wrong("any-line-end"):
            while not (end := re.search(rb"[\r\n]\.[\r\n]", self.read)):
                self.more()
            octets, self.read = self.read[: end.start()], self.read[end.end() :]
            return self.take(octets + b"\r\n")
        try:
            octets = b"" if self.read.startswith(b".\r\n") else self.until(b"\r\n.\r\n") + b"\r\n"
        except Gone:
            if self.wrong("takes-halves"):
                self.model.deliver(self.letter, self.read, self)
            raise
        return self.take(octets if self.wrong("dots-stay") else (b"\r\n" + octets).replace(b"\r\n.", b"\r\n")[2:])

    def do_bdat(self, argument: str) -> None:
        count, _, last = argument.partition(" ")
        if not count.isdecimal():
            return self.reply(501, "how many?")
        octets = b"" if self.wrong("reads-no-chunk") else self.octets(int(count))
        if self.letter is None or not self.letter.recipients:
            return self.reply(503, "not now")
        self.letter.chunks.append(octets)
        return self.take(b"".join(self.letter.chunks)) if last else self.reply(250, "more")

    def take(self, octets: bytes) -> None:
        letter, self.letter = self.letter, None
        assert letter is not None
        if self.wrong("keeps-transaction"):
            self.letter = Envelope(letter.sender, {}, 0, letter.recipients)
        if len(octets) > SIZE and not self.wrong("takes-any-size"):
            return self.reply(552, "too large")
        if re.search(rb"(?<!\r)\n|\r(?!\n)", octets) and letter.parameters.get("BODY") != "BINARYMIME":
            return self.reply(554, "bare")
        self.model.deliver(letter, octets, self)
        return self.reply(250, "taken")

    def do_rset(self, argument: str) -> None:
        if argument:
            return self.reply(501, "alone")
        self.before = self.letter.chunks if self.letter and self.wrong("keeps-chunks") else []
        self.letter = None
        self.known = self.known and not self.wrong("rset-logs-out")
        return self.reply(250, "ok")

    def do_noop(self, _: str) -> None:
        self.letter = None if self.wrong("noop-forgets") else self.letter
        self.reply(250, "ok")

    def do_vrfy(self, argument: str) -> None:
        self.reply(252, "who knows") if argument else self.reply(501, "whom?")

    def do_expn(self, _: str) -> None:
        self.reply(252, "who knows")

    def do_help(self, _: str) -> None:
        self.reply(214, "help")

    def do_quit(self, argument: str) -> None:
        if argument:
            return self.reply(501, "alone")
        self.reply(221, "bye")
        if not self.wrong("stays"):
            raise Gone
        return None
