"""The rules by which hypothesis drives a troupe of clients: whatever can happen, at any time, in any order."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.end_to_end.server import IMPLICIT_TLS, PROTOCOLS
from tests.fuzz import speech
from tests.fuzz.clients import Client
from tests.fuzz.ledger import Broken, Turn
from tests.fuzz.login import POP3_MECHANISMS, SMTP_MECHANISMS
from tests.fuzz.pop3_client import Pop3Client
from tests.fuzz.smtp_client import SmtpClient
from tests.fuzz.troupe import ELSEWHERE, HERE, Troupe

SMTP_PORTS = [port for port in PROTOCOLS if not port.startswith("pop3")]
POP3_PORTS = [port for port in PROTOCOLS if port.startswith("pop3")]
ALICE, BOB = b"RCPT TO:<alice@localhost>", b"RCPT TO:<bob@localhost>"
TEXT = [b"Subject: Hello", b"", b"Hello!", b"..", b"Good-bye!", b"."]
LENIENT = ("--wrong-passwords", "100000", "--address-failures", "100000", "--slowest-answer-seconds", "0")
LONGEST_SILENCE = 3600  # seconds; nobody is waited for so long
EVENTS = ["slow", "slow", "answers", "fast", "trouble", "trouble", "mended", "mended", "stop"]
ENDS = ["QUIT", "shuts its end", "! lost", "! lost"]

randoms = st.randoms(use_true_random=False)
which = st.integers(0, 5)
sometimes = st.integers(0, 2).map(lambda number: number == 2)
rarely = st.integers(0, 7).map(lambda number: number == 7)


class Machine(Troupe):
    """Each rule is something that happens; ``which`` says to which of the clients."""

    @initialize(
        real=st.integers(0, 3).map(bool),
        lenient=st.booleans(),
        classic=rarely,
        letters=st.integers(0, 3),
        storage=st.integers(0, 23),
    )
    def begin(self, real: bool, lenient: bool, classic: bool, letters: int, storage: int) -> None:
        world = self.open(real=real, classic=classic, words=LENIENT if lenient and real else ())
        for port in ("smtp", "submission", "pop3"):
            self.begin_session(port)
        self.begin_session("pop3" if letters % 2 else "submission", ELSEWHERE)
        for recipients in ([ALICE], [ALICE, BOB], [BOB, ALICE])[:letters]:
            client = self.begin_session("smtp")
            client.say(speech.lines([b"HELO me", b"MAIL FROM:<>", *recipients, b"DATA", *TEXT, b"QUIT"]))
            client.shut()
        # Slow in one respect, or in trouble, or good.
        for number, pace in enumerate(world.paces):
            pace.slow = storage % 12 == number
        world.trouble = dict(enumerate(world.troubles, 12)).get(storage, "")

    @rule(port=st.sampled_from(PROTOCOLS), peer=st.sampled_from([HERE, HERE, ELSEWHERE]), shaking=rarely)
    @precondition(lambda self: self.stopped is None and len(self.clients) < 8)
    def connect(self, port: str, peer: str, shaking: bool) -> None:
        client = self.begin_session(port, peer)
        if port in IMPLICIT_TLS.values() and not shaking:
            client.shake_hands()

    @rule(which=which, random=randoms, faults=st.integers(0, 4), kind=st.integers(0, 5))
    def say_anything(self, which: int, random: Random, faults: int, kind: int) -> None:
        client = self.pick(which)
        octets = _commands(client, random)
        if kind == 0:
            octets = speech.garbage(random)
        elif kind == 1:
            octets = octets[: random.randrange(12)]
        elif kind == 2 and isinstance(client, SmtpClient):
            octets += _transaction(client, random) + speech.letter(random)
        self.say(client, random, speech.mutated(random, octets, max(0, faults - 1)))

    @rule(which=which, random=randoms, with_text=st.booleans())
    def send_letter(self, which: int, random: Random, with_text: bool) -> None:
        client = self.pick(which, SMTP_PORTS)
        if client.port.startswith("submission") and not client.account:
            self.try_log_in(client, random, random.choice(SMTP_MECHANISMS), honest=True)
        if not random.randrange(4):
            self.say(client, random, _transaction(client, random, data=False), whole=with_text)
            self.say(client, random, speech.in_pieces(random, speech.letter(random)))
            return
        self.say(client, random, _transaction(client, random), whole=with_text)
        if with_text or client.ledger.turn is Turn.LETTER:
            self.say(client, random, speech.letter(random))

    @rule(which=which, random=randoms, complete=st.booleans())
    @precondition(lambda self: self.at(Turn.LETTER))
    def go_on_with_letter(self, which: int, random: Random, complete: bool) -> None:
        some = self.at(Turn.LETTER)
        octets = speech.letter(random)
        self.say(some[which % len(some)], random, octets if complete else octets.removesuffix(b".\r\n"))

    @rule(which=which, random=randoms, number=st.integers(0, 7), honest=st.integers(0, 3).map(bool))
    def log_in(self, which: int, random: Random, number: int, honest: bool) -> None:
        smtp = number < len(SMTP_MECHANISMS)
        client = self.pick(which, SMTP_PORTS if smtp else POP3_PORTS)
        if client.account and self.stopped is None:
            client = self.begin_session(client.port.rstrip("s"))
        self.try_log_in(client, random, (*SMTP_MECHANISMS, *POP3_MECHANISMS)[number], honest=honest)

    @rule(which=which, random=randoms, honest=st.booleans())
    @precondition(lambda self: self.at(Turn.RESPONSE))
    def go_on_with_log_in(self, which: int, random: Random, honest: bool) -> None:
        some = self.at(Turn.RESPONSE)
        client = some[which % len(some)]
        if honest and client.is_asked:
            self.answer(client)
        else:
            said = [b"*", b"AGE=", b"", *self.books.proofs]
            self.say(client, random, speech.mutated(random, random.choice(said) + b"\r\n", random.randrange(2)))

    @rule(which=which, random=randoms)
    def fetch_and_delete(self, which: int, random: Random) -> None:
        client = self.pick(which, POP3_PORTS)
        if not client.account:
            self.try_log_in(client, random, random.choice(POP3_MECHANISMS), honest=True)
        commands = [b"STAT", b"LIST", b"UIDL", *speech.several(random, _about_message, (1, 3, 6))]
        if random.randrange(2):
            commands.append(random.choice([b"QUIT", b"QUIT", b"RSET"]))
        self.say(client, random, speech.lines(commands))

    @rule(which=which, random=randoms, injected=rarely, shaking=rarely)
    def start_tls(self, which: int, random: Random, injected: bool, shaking: bool) -> None:
        client = self.pick(which)
        line = b"STLS\r\n" if isinstance(client, Pop3Client) else b"STARTTLS\r\n"
        self.say(client, random, line + (_commands(client, random) if injected else b""))
        if client.transport.shaking_hands and not (client.gone or shaking or injected):
            client.shake_hands()

    @rule(which=which)
    @precondition(lambda self: self.at(Turn.HANDSHAKE))
    def shake_hands(self, which: int) -> None:
        some = self.at(Turn.HANDSHAKE)
        some[which % len(some)].shake_hands()

    @rule(seconds=st.sampled_from([0, 0, 0, 0.5, 1, 2, 10, 31, 60, 299, 301, 601, 3601]))
    def let_time_pass(self, seconds: float) -> None:
        if not seconds:
            self.settle()
        idle = [(client, client.exchanges) for client in self.clients if not client.ledger.owed]
        self.pass_time(seconds)
        for client, exchanges in idle:
            if seconds > LONGEST_SILENCE and not client.ended and client.exchanges == exchanges:
                raise Broken(f"silent for {seconds} s, and not hung up on: {client}")

    @rule(which=which, random=randoms, window=st.sampled_from([0, 0, 300, 5000, None]), much=st.booleans())
    def read_so_much(self, which: int, random: Random, window: int | None, much: bool) -> None:
        client = self.pick(which)
        client.transport.window = window
        self.tell(client, f"reads {window} octets more")
        client.move()
        if much:
            pop3 = isinstance(client, Pop3Client)
            command = random.choice([b"CAPA", b"LIST", b"RETR 1", b"UIDL"] if pop3 else [b"HELP", b"NOOP", b"EHLO x"])
            commands = [command] * random.choice([20, 200, 2000]) + random.choice([[], [], [b"QUIT"]])
            self.say(client, random, speech.lines(commands))

    @rule(which=which, how=st.sampled_from(ENDS), sure=sometimes)
    def leave(self, which: int, how: str, sure: bool) -> None:
        at_work = [client for client in self.clients if client.ledger.owed] + self.at(Turn.LETTER)
        client = at_work[which % len(at_work)] if at_work else self.pick(which)
        if client.gone or not sure:
            return
        self.tell(client, how)
        if how == "QUIT":
            client.say(b"QUIT\r\nNOOP\r\n")
        elif how == "! lost":
            client.lose()
        else:
            client.shut()

    @rule(event=st.sampled_from(EVENTS), number=st.integers(0, 10))
    def disturb(self, event: str, number: int) -> None:
        """Storage is slow or fails, or is well again; or the service winds up."""
        assert self.world is not None
        paces, troubles = self.world.paces, self.world.troubles
        pace = paces[number % len(paces)]
        if event == "stop":
            if self.stopped is None and number == 10:
                self.stop()
        elif event in ("trouble", "mended"):
            self.world.trouble = troubles[number % len(troubles)] if event == "trouble" else ""
        elif event == "slow":
            pace.slow = True
        elif event == "fast":
            self.hasten(pace)
        else:
            pace.go()
        self.move()


def _commands(client: Client, random: Random) -> bytes:
    command = speech.pop3_command if isinstance(client, Pop3Client) else speech.smtp_command
    return speech.lines(speech.several(random, command))


def _transaction(client: Client, random: Random, *, data: bool = True) -> bytes:
    """A letter's envelope, and DATA."""
    sender = client.account or random.choice(["s@example.org", "alice@localhost", ""])
    held = client.account and client.port.startswith("submission") and not random.randrange(3)
    commands = [
        b"EHLO me" if held else random.choice([b"EHLO me", b"EHLO me", b"HELO me", b"RSET"]),
        b"MAIL FROM:<" + sender.encode() + b">" + (random.choice([b" HOLDFOR=3", b" HOLDFOR=100"]) if held else b""),
        *(b"RCPT TO:<" + speech.address(random) + b">" for _ in range(random.choice([1, 2, 3]))),
        *([b"DATA"] if data else []),
    ]
    if random.randrange(10) == 9:
        commands.insert(random.randrange(len(commands)), speech.smtp_command(random))
    return speech.lines(commands)


def _about_message(random: Random) -> bytes:
    verb = random.choice([b"RETR ", b"TOP ", b"DELE ", b"DELE ", b"LIST ", b"UIDL "])
    return verb + random.choice([b"1", b"1", b"2", b"3"]) + (b" %d" % random.randrange(4) if verb == b"TOP " else b"")
