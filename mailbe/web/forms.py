"""Registering, and changing one's own password: as pages, and for programs as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from markupsafe import Markup
from twisted.cred.error import UnauthorizedLogin
from twisted.logger import Logger

from mailbe.address import Address
from mailbe.interfaces import IDesk, NotTaken, TryLater
from mailbe.web.exchange import Answer
from mailbe.web.paper import Paper
from mailbe.web.visit import Visit

JSON = "application/json"
HOUR = 3600  # seconds
log = Logger()

# What the desk's refusals mean to HTTP, and which field of a form they are about; "" is none of them.
REFUSALS: Mapping[str, tuple[int, str]] = {
    "closed": (403, ""),
    "invitation": (403, "invitation"),
    "name": (422, "name"),
    "taken": (409, "name"),
    "password": (422, "password"),
    "wrong": (403, "old"),
    "slow": (429, ""),
    "later": (503, ""),
}


@dataclass(frozen=True, slots=True)
class Refused:
    """What the desk has not done."""

    code: str
    reason: str = ""
    ends: float | None = None
    """When it may be tried again, in seconds since 1970, where that is known."""


async def tried(work: Awaitable[Address]) -> Address | Refused:
    """What became of something that the desk was asked for."""
    try:
        return await work
    except NotTaken as error:
        return Refused(error.code, str(error), getattr(error, "ends", None))
    except UnauthorizedLogin:
        return Refused("wrong")
    except TryLater as error:
        if not error.logged:
            log.warn("put off: {error}", error=error)
        ends = getattr(error, "ends", None)  # the guard lets nobody in before
        return Refused("later") if ends is None else Refused("slow", "locked", ends)


class Forms:
    """The pages that change something."""

    def __init__(self, desk: IDesk, paper: Paper, now: Callable[[], float]) -> None:
        """:param now: the time in seconds since 1970."""
        self._desk = desk
        self._paper = paper
        self._now = now

    def register_form(self, visit: Visit) -> Answer:
        if self._desk.registration == "closed":
            return self._paper.page(visit, "closed")
        return self._page(visit, "register", {"invitation": visit.asked.query.get("invitation", "")}, {})

    async def register(self, visit: Visit) -> Answer:
        if visit.kind == JSON:
            return await self._register_program(visit)
        if self._desk.registration == "closed":
            return self._paper.page(visit, "closed", 403)
        typed = visit.form()
        if errors := self._missing(visit, typed, "name", "password", "again", *self._invitation_field):
            return self._page(visit, "register", typed, errors, 403 if "" in errors else 422)
        outcome = await tried(
            self._desk.register(
                self._full_name(typed), typed["password"], typed.get("invitation", ""), visit.asked.peer
            )
        )
        if isinstance(outcome, Refused):
            return self._said_no(visit, "register", typed, outcome)
        return _see(visit, "/register/done", visit.remember(str(outcome)))

    def who_may_register(self, visit: Visit) -> Answer:
        """For programs."""
        return _json(200, {"registration": self._desk.registration, "domains": list(self._desk.domains)})

    def password_form(self, visit: Visit) -> Answer:
        return self._page(visit, "password", {"name": visit.remembered}, {})

    async def password(self, visit: Visit) -> Answer:
        typed = visit.form()
        if errors := self._missing(visit, typed, "name", "old", "password", "again"):
            return self._page(visit, "password", typed, errors, 403 if "" in errors else 422)
        outcome = await tried(
            self._desk.change_password(typed["name"], typed["old"], typed["password"], visit.asked.peer)
        )
        if isinstance(outcome, Refused):
            return self._said_no(visit, "password", typed, outcome)
        return _see(visit, "/password/done")

    # Our own.

    @property
    def _invitation_field(self) -> tuple[str, ...]:
        return ("invitation",) if self._desk.registration == "invitation" else ()

    def _full_name(self, typed: Mapping[str, str]) -> str:
        """Of several domains one is chosen beside the name; who writes the whole address means that."""
        name, domain = typed["name"].strip(), typed.get("domain", "")
        return f"{name}@{domain}" if domain and "@" not in name else name

    def _missing(self, visit: Visit, typed: Mapping[str, str], *fields: str) -> dict[str, Markup]:
        """What is wrong with a form before the desk sees it."""
        t = visit.words
        if not visit.is_ours(typed):
            return {"": t["stale"]}
        errors = {field: t[f"missing.{field}"] for field in fields if not typed.get(field, "").strip()}
        if "again" not in errors and "password" not in errors and typed["again"] != typed["password"]:
            errors["again"] = t["again.differs"]
        return errors

    def _said_no(self, visit: Visit, name: str, typed: Mapping[str, str], no: Refused) -> Answer:
        status, field = REFUSALS[no.code]
        answer = self._page(visit, name, typed, {field: self._sentence(visit, no)}, status)
        return replace(answer, headers={**answer.headers, **self._retry_after(no)})

    def _sentence(self, visit: Visit, no: Refused) -> Markup:
        t = visit.words
        text = t[f"no.{no.code}.{no.reason}" if no.reason else f"no.{no.code}"].format(
            domains=Markup(", ").join(self._desk.domains),
            shortest=self._desk.shortest_password,
            longest=self._desk.longest_password,
        )
        seconds = self._seconds(no)
        if seconds is None:
            return text
        unit, size = ("minutes", 60) if seconds < 2 * HOUR else ("hours", HOUR)
        return text + " " + t[f"again.in.{unit}"].format(count=math.ceil(seconds / size))

    def _seconds(self, no: Refused) -> int | None:
        """How long to wait."""
        return None if no.ends is None else max(1, math.ceil(no.ends - self._now()))

    def _retry_after(self, no: Refused) -> dict[str, str]:
        seconds = self._seconds(no)
        return {} if seconds is None else {"Retry-After": str(seconds)}

    def _page(
        self, visit: Visit, name: str, typed: Mapping[str, str], errors: Mapping[str, Markup], status: int = 200
    ) -> Answer:
        answer = self._paper.page(visit, name, status, typed=typed, errors=errors, desk=self._desk)
        return replace(answer, cookies=visit.token_cookie())

    async def _register_program(self, visit: Visit) -> Answer:
        try:
            said = json.loads(visit.asked.body)
            name, password, invitation = said["name"], said["password"], said.get("invitation") or ""
            if not all(isinstance(value, str) for value in (name, password, invitation)):
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return _json(400, {"error": "request", "text": visit.words["request"]})
        outcome = await tried(self._desk.register(name, password, invitation, visit.asked.peer))
        if isinstance(outcome, Address):
            return _json(201, {"address": str(outcome)})
        text = self._sentence(visit, outcome).striptags()
        answer = _json(REFUSALS[outcome.code][0], {"error": outcome.code, "text": text})
        return replace(answer, headers={**answer.headers, **self._retry_after(outcome)})


def _see(visit: Visit, path: str, *cookies: str) -> Answer:
    """Go on there: what is loaded again then is no form that is sent twice."""
    return Answer(303, "text/plain", b"", {"Location": visit.link(path), "Cache-Control": "no-store"}, cookies)


def _json(status: int, value: Mapping[str, object]) -> Answer:
    return Answer(status, JSON, json.dumps(value).encode("ascii"), {"Cache-Control": "no-store"})
