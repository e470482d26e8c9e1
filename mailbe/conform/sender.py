"""What an SMTP check is handed: connections in the state that it asks for, and letters to send to ourselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailbe.conform import sasl
from mailbe.conform.letters import Letter, Post
from mailbe.conform.rules import Skip, Unclear
from mailbe.conform.smtp import Offers, Reply, SmtpWire
from mailbe.conform.wire import Dialogue, Lost, Route


@dataclass(slots=True)
class Site:
    """One SMTP listener, and what was found out about it."""

    name: str
    route: Route
    local: bool
    """Whether it is on this machine."""
    plain: Offers = field(default_factory=dict)
    """What it offers before TLS and log-in."""
    in_tls: Offers = field(default_factory=dict)
    """What it offers in TLS, before log-in; nothing where there is none."""
    offers: Offers = field(default_factory=dict)
    """What it offers where a letter can be sent."""
    secured: bool = False
    """Whether a letter is sent in TLS, and after log-in."""
    why_not: str = ""
    """Why no letter can be sent; empty where one can."""


class Smtp:
    """What a check is handed: connections to one listener, in the state that it asks for."""

    def __init__(self, site: Site, post: Post, login: sasl.Login, dialogue: Dialogue) -> None:
        self.site = site
        self.post = post
        self.login = login
        self.dialogue = dialogue
        self.me = post.address
        self._wires: list[SmtpWire] = []

    def connect(self, route: Route | None = None) -> SmtpWire:
        """A connection that was greeted.

        :raises Lost, Unclear:
        """
        wire = SmtpWire(route or self.site.route, self.dialogue)
        self._wires.append(wire)
        greeting = wire.reply()
        if greeting.code != "220":
            raise Unclear(f"the greeting is {greeting}")
        return wire

    def hello(self) -> SmtpWire:
        """A connection that has heard EHLO, without TLS but where that comes first."""
        wire = self.connect()
        wire.hello()
        return wire

    def in_tls(self) -> SmtpWire:
        """A connection in TLS that has heard EHLO in it.

        :raises Skip: there is no TLS.
        """
        wire = self.hello()
        if not wire.tls:
            self.needs("STARTTLS", self.site.plain)
            wire.need("220", "STARTTLS")
            wire.start_tls()
            wire.hello()
        return wire

    def safe(self) -> SmtpWire:
        """A connection that a password may cross, as far as the server can do: in TLS where it offers that."""
        return self.in_tls() if "STARTTLS" in self.site.plain or self.site.route.implicit else self.hello()

    def ready(self) -> SmtpWire:
        """A connection over which a letter to ourselves is taken; logged in where that needs it.

        :raises Unclear:
        """
        if self.site.why_not:
            raise Unclear(f"no letter is taken here: {self.site.why_not}")
        if not self.site.secured:
            return self.hello()
        wire = self.safe()
        reply = wire.auth(sasl.chosen(self.site.offers.get("AUTH", [])), self.who(wire))
        if reply.code != "235":
            raise Unclear(f"the log-in was answered {reply}")
        return wire

    def begun(self, parameters: str = "", wire: SmtpWire | None = None) -> SmtpWire:
        """The same, or ``wire`` which is one, with MAIL said and taken."""
        wire = wire or self.ready()
        wire.need("250", self.mail(parameters))
        return wire

    def addressed(self, parameters: str = "", wire: SmtpWire | None = None) -> SmtpWire:
        """The same, with RCPT said and taken."""
        wire = self.begun(parameters, wire)
        wire.need("250", self.rcpt())
        return wire

    def mail(self, parameters: str = "") -> str:
        return f"MAIL FROM:<{self.me}> {parameters}".rstrip()

    def rcpt(self, parameters: str = "") -> str:
        return f"RCPT TO:<{self.me}> {parameters}".rstrip()

    def who(self, wire: SmtpWire) -> sasl.Login:
        """Who we are, on this connection."""
        return sasl.Login(self.login.user, self.login.password, wire.certificate)

    def send(self, letter: Letter, parameters: str = "", wire: SmtpWire | None = None) -> Reply:
        """Send a letter to ourselves; the reply to it is not judged.

        :param wire: a connection that is ready for it; ``None``: a new one.
        :raises Lost, Unclear:
        """
        wire = self.addressed(parameters, wire)
        reply = self.taken(self.deliver(wire, letter))
        wire.quit()
        return reply

    def deliver(self, wire: SmtpWire, letter: Letter, comes: int = 1) -> Reply:
        """Say DATA and the letter, in a transaction that has its recipient.

        :param comes: how many come of it: two, where a report was asked for.
        :raises Lost, Unclear:
        """
        wire.need("354", "DATA")
        return self.noted(letter, lambda: wire.content(letter.octets), comes)

    def noted(self, letter: Letter, finish: Callable[[], Reply], comes: int = 1) -> Reply:
        """The reply to a letter, which may be on its way to us from now on.

        :param finish: says the rest of it, and reads that reply.
        :raises Differs, Lost, Unclear:
        """
        try:
            reply = finish()
        except (Lost, KeyboardInterrupt):
            self.post.unanswered.add(letter.token)
            raise
        if reply.code == "250":
            self.post.accepted[letter.token] = self.post.accepted.get(letter.token, 0) + comes
        return reply

    def taken(self, reply: Reply) -> Reply:
        """:raises Unclear: the letter was not taken."""
        if reply.code != "250":
            raise Unclear(f"the letter was answered {reply}")
        return reply

    def letter(self, body: bytes = b"A test.\r\n", fields: bytes = b"") -> Letter:
        """A letter to ourselves.

        :raises Skip: there is no way to delete it again.
        """
        return self.post.letter(body, fields)

    def needs(self, keyword: str, offers: Offers | None = None) -> list[str]:
        """The parameters of an extension.

        :raises Skip: it is not offered.
        """
        offers = self.site.offers if offers is None else offers
        if keyword not in offers:
            raise Skip(f"{keyword} is not offered")
        return offers[keyword]

    def close(self) -> None:
        """Leave all connections."""
        for wire in self._wires:
            wire.close()
