"""The way into a maildrop, which one session at a time may go."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mailbe.conform import sasl
from mailbe.conform.pop3 import Capabilities, Pop3Wire, positive
from mailbe.conform.rules import Unclear
from mailbe.conform.wire import Dialogue, Lost, Route, shown

TRIES = 8  # at a maildrop that another session holds
TRIES_WITHOUT_A_REASON = 3  # where the answer does not say that it does, but we were let in before
PAUSE = 1.0  # seconds between them
GRACE = 1.0  # seconds that a log-in may take: LOGIN-DELAY counts from its end, and we from its beginning
LATER = re.compile(rb"-ERR \[(?:IN-USE|LOGIN-DELAY|SYS/TEMP)[\]/]", re.IGNORECASE)


class NoEntry(Exception):
    """The log-in is refused; the message says with what."""


@dataclass(slots=True)
class Drop:
    """One POP3 listener, and what was found out about it."""

    name: str
    route: Route
    local: bool
    plain: Capabilities = field(default_factory=dict)
    """What it says that it can do before TLS."""
    capabilities: Capabilities = field(default_factory=dict)
    """What it says where we log in."""


class Door:
    """The way into the maildrop. At most one session is in it at a time, and it keeps the pace of LOGIN-DELAY."""

    def __init__(self, drop: Drop, login: sasl.Login, sleep: Callable[[float], None] = time.sleep) -> None:
        self.drop = drop
        self.login = login
        self.delay = 0.0
        """Seconds from one log-in to the next."""
        self.refused = b""
        """What was said to a wrong password."""
        self._sleep = sleep
        self._last = -1e9
        self._entered = False
        self._shared: Pop3Wire | None = None

    def connect(self, dialogue: Dialogue, route: Route | None = None) -> Pop3Wire:
        """A connection that was greeted.

        :raises Lost, Unclear:
        """
        wire = Pop3Wire(route or self.drop.route, dialogue)
        if not positive(greeting := wire.status()):
            raise Unclear(f"the greeting is {shown(greeting)}")
        return wire

    def safe(self, dialogue: Dialogue) -> Pop3Wire:
        """One that a password may cross, as far as the server can do.

        :raises Lost, Unclear:
        """
        wire = self.connect(dialogue)
        if "STLS" in self.drop.plain and not wire.tls:
            wire.need("STLS")
            wire.start_tls()
        return wire

    def enter(self, dialogue: Dialogue, *, utf8: bool = False) -> Pop3Wire:
        """A new session in the maildrop.

        :param utf8: whether letters may come in UTF-8 (RFC 6856), where the server offers it.
        :raises NoEntry, Lost, Unclear:
        """
        self.leave()
        for attempt in range(TRIES):
            self.wait()
            wire = self.safe(dialogue)
            if utf8 and "UTF8" in self.drop.capabilities:
                wire.need("UTF8")
            status = self.log_in(wire)
            if positive(status):
                self._entered = True
                return wire
            wire.close()
            tries = TRIES if LATER.match(status) else TRIES_WITHOUT_A_REASON if self._entered else 1
            if attempt + 1 >= tries:
                break
            self._sleep(max(PAUSE, self.delay))
        raise NoEntry(shown(status))

    def to(self, login: sasl.Login) -> Door:
        """The way into another maildrop by the same listener."""
        other = Door(self.drop, login, self._sleep)
        other.delay = self.delay
        return other

    def beside(self, drop: Drop) -> Door:
        """The way into the same maildrop by another listener, at the same pace."""
        self.leave()
        other = Door(drop, self.login, self._sleep)
        other.delay, other._last, other._entered = self.delay, self._last, self._entered
        return other

    def wait(self) -> None:
        """Until another log-in is allowed."""
        if self.delay:
            self._sleep(max(0.0, self._last + self.delay + GRACE - time.monotonic()))
        self._last = time.monotonic()

    def log_in(self, wire: Pop3Wire) -> bytes:
        """Log in; returns the status line.

        :raises Lost, Silence, Unclear:
        """
        capabilities = self.drop.capabilities
        if capabilities and "USER" not in capabilities and capabilities.get("SASL"):
            return wire.auth(sasl.chosen(capabilities["SASL"]), self.who(wire))
        status = wire.say(f"USER {self.login.user}")
        return wire.say(f"PASS {self.login.password}", "PASS ****") if positive(status) else status

    def who(self, wire: Pop3Wire) -> sasl.Login:
        """Who we are, on this connection."""
        return sasl.Login(self.login.user, self.login.password, wire.certificate)

    def lent(self, dialogue: Dialogue) -> Pop3Wire:
        """A session in which nothing is marked as deleted, for a check that leaves it open.

        :raises NoEntry, Lost, Unclear:
        """
        if self._shared is not None:
            self._shared.dialogue = dialogue
            try:
                if positive(self._shared.say("RSET")):
                    return self._shared
            except (Lost, Unclear):
                pass
            self.leave()
        self._shared = self.enter(dialogue)
        return self._shared

    def leave(self) -> None:
        """End the session that is lent, without deleting anything."""
        wire, self._shared = self._shared, None
        if wire is not None:
            wire.dialogue = Dialogue()
            depart(wire)

    def forget(self) -> None:
        """Cut the session that is lent off, since nobody knows what it is in the middle of."""
        wire, self._shared = self._shared, None
        if wire is not None:
            wire.close()


def opened(status: bytes) -> bool:
    """Whether a log-in was let in.

    :raises Unclear: it was put off, which is no refusal.
    """
    if LATER.match(status):
        raise Unclear(f"the log-in was answered {shown(status)}")
    return positive(status)


def depart(wire: Pop3Wire) -> None:
    """End a session without deleting anything."""
    try:
        if positive(wire.say("RSET")):
            wire.say("QUIT")
    except (Lost, Unclear):
        pass
    finally:
        wire.close()
