"""How to set up Thunderbird for this server, with the very values that it is to be given."""

from __future__ import annotations

from collections.abc import Callable

from mailbe import autoconfig
from mailbe.autoconfig import Server
from mailbe.interfaces import IDesk
from mailbe.listening import Listening
from mailbe.web.exchange import Answer
from mailbe.web.paper import Paper
from mailbe.web.visit import Visit


class Help:
    """The pages that tell something."""

    def __init__(self, desk: IDesk, told: Callable[[], Listening], paper: Paper, *, has_authority: bool) -> None:
        self._desk = desk
        self._told = told
        self._paper = paper
        self._has_authority = has_authority

    def home(self, visit: Visit) -> Answer:
        return self._paper.page(visit, "home", name=self._desk.domains[0], registration=self._desk.registration)

    def registered(self, visit: Visit) -> Answer:
        return self._paper.page(visit, "registered", address=visit.remembered)

    def changed(self, visit: Visit) -> Answer:
        return self._paper.page(visit, "changed")

    def thunderbird(self, visit: Visit) -> Answer:
        asked = visit.asked
        ways = autoconfig.servers(self._told(), at_home=asked.at_home)
        incoming, outgoing = ([way for way in ways if way.kind == kind] for kind in ("pop3", "smtp"))
        return self._paper.page(
            visit,
            "thunderbird",
            incoming=incoming,
            outgoing=outgoing,
            address=visit.remembered or f"{visit.words['tb.you']}@{self._desk.domains[0]}",
            # Thunderbird looks for settings at the ports that need no number, and nowhere else.
            finds_itself=":" not in asked.host.rpartition("]")[2] and bool(incoming and outgoing),
            has_authority=self._has_authority and any(_is_encrypted(way) for way in ways),
        )


def _is_encrypted(way: Server) -> bool:
    return way.socket != autoconfig.PLAIN
