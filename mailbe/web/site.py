"""All pages by their paths, who may see them, and what every answer says to the browser beside its content."""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus

from twisted.logger import Logger

from mailbe import autoconfig
from mailbe.interfaces import IDesk
from mailbe.listening import Listening
from mailbe.web.exchange import Answer, Asked
from mailbe.web.forms import Forms
from mailbe.web.help import Help
from mailbe.web.paper import ICON, STYLE, STYLE_PATH, Paper
from mailbe.web.visit import BadForm, Visit

Page = Callable[[Visit], Answer | Awaitable[Answer]]
log = Logger()

HSTS_SECONDS = 180 * 86400
# All that a page of ours is made of: its text, one style, forms that come back here.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
COMMON = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # And not no-referrer: with that, browsers say "Origin: null" with our own forms (Fetch, append a request Origin).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Where mail programs look for themselves, and also without TLS: who has not our authority yet has no other way.
AUTOCONFIG = ("/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")


class Site:
    """The web side of one server."""

    def __init__(
        self,
        desk: IDesk,
        told: Callable[[], Listening],
        authority: Callable[[], bytes] | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """:param told: what the server listens on.
        :param authority: the certificate to trust, as PEM; ``None`` where the server's was given.
        :param now: the time in seconds since 1970.
        """
        self._told = told
        self._authority = authority
        self._desk = desk
        self._names = _names()
        self._paper = paper = Paper(desk.domains[0])
        forms = Forms(desk, paper, now)
        help_ = Help(desk, told, paper, has_authority=authority is not None)
        self._pages: Mapping[str, Mapping[str, Page]] = {
            "/": {"GET": help_.home},
            "/register": {"GET": forms.register_form, "POST": forms.register},
            "/register/done": {"GET": help_.registered},
            "/register.json": {"GET": forms.who_may_register},
            "/password": {"GET": forms.password_form, "POST": forms.password},
            "/password/done": {"GET": help_.changed},
            "/thunderbird": {"GET": help_.thunderbird},
            STYLE_PATH: {"GET": _style},
            "/icon.svg": {"GET": _icon},
            **({"/ca.pem": {"GET": self._ca}} if authority is not None else {}),
            **{path: {"GET": self._autoconfig} for path in AUTOCONFIG},
        }

    async def answer(self, asked: Asked) -> Answer:
        """What a request gets; it never fails."""
        visit = Visit(asked)
        try:
            answer = self._turned_away(visit) or await self._answer(visit)
        except BadForm as bad:
            answer = self._error(visit, bad.status)
        except Exception:
            log.failure("a page failed")
            answer = self._error(visit, 500)
        return self._finished(answer, asked)

    def refusal(self, status: int, accepted: str) -> Answer:
        """What gets a client whose request cannot be understood, or was not heard to its end.

        :param accepted: its ``Accept-Language``, if that was heard.
        """
        asked = Asked("", "/", "/", {}, {"accept-language": accepted}, "", b"", "", at_home=False, secure=False)
        return self._finished(self._error(Visit(asked), status), asked)

    def _turned_away(self, visit: Visit) -> Answer | None:
        """What gets a request that does not come to our pages."""
        asked = visit.asked
        host = _HOST.fullmatch(asked.host)
        if host is None:
            return self._error(visit, 400)
        if not self._is_ours(host["name"].lower().removesuffix(".")):
            return self._error(visit, 421)
        if not (asked.secure or asked.at_home or asked.path in AUTOCONFIG):
            where = f"https://{asked.host}{'' if host['port'] else self._tls_port()}{asked.target}"
            return _with(self._error(visit, 308), Location=where)
        return None

    def _is_ours(self, name: str) -> bool:
        """Whether people come to us by this name: one of a stranger's could lead his pages' scripts to us."""
        names = self._names | {domain.lower() for domain in self._desk.domains}
        if name in names or any(name.endswith(f".{own}") for own in names):
            return True
        try:
            return bool(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return False

    def _tls_port(self) -> str:
        """What follows our name where a client came to the usual port without TLS."""
        ports = {port.port for port in self._told().ports if port.listener == "http"}
        # Every port takes TLS as well; and where neither is ours, somebody passes them on.
        return ":80" if 80 in ports and 443 not in ports else ""

    async def _answer(self, visit: Visit) -> Answer:
        asked = visit.asked
        methods = self._pages.get(asked.path)
        if methods is None:
            return self._error(visit, 404)
        page = methods.get("GET" if asked.method == "HEAD" else asked.method)
        if page is None:
            allowed = ", ".join(["HEAD", *methods])
            return _with(self._error(visit, 405), Allow=allowed)
        if asked.method == "POST" and not _is_from_here(asked):
            return self._error(visit, 403)
        answer = page(visit)
        return answer if isinstance(answer, Answer) else await answer

    def _error(self, visit: Visit, status: int) -> Answer:
        return self._paper.page(visit, "error", status, code=status, phrase=HTTPStatus(status).phrase)

    def _finished(self, answer: Answer, asked: Asked) -> Answer:
        headers = {**COMMON, **answer.headers}
        if asked.secure and self._authority is None:
            headers["Strict-Transport-Security"] = f"max-age={HSTS_SECONDS}"
        return replace(answer, headers=headers)

    def _ca(self, visit: Visit) -> Answer:
        assert self._authority is not None
        headers = {"Content-Disposition": 'attachment; filename="ca.pem"', "Cache-Control": "no-cache"}
        return Answer(200, "application/x-x509-ca-cert", self._authority(), headers)

    def _autoconfig(self, visit: Visit) -> Answer:
        asked = visit.asked
        address = asked.query.get("emailaddress")
        domain = None if address is None else address.rpartition("@")[2]
        document = autoconfig.document(
            self._told(), domain, at_home=asked.at_home, help_page=f"{asked.origin}/thunderbird"
        )
        if document is None:
            return self._error(visit, 404)
        return Answer(200, autoconfig.CONTENT_TYPE, document, {"Cache-Control": "no-store"})


def _names() -> frozenset[str]:
    """Those that lead to us beside our domains, in lower case."""
    names = ("localhost", socket.gethostname(), socket.getfqdn())
    return frozenset(name.lower() for name in names if name)


def _with(answer: Answer, **headers: str) -> Answer:
    return replace(answer, headers={**answer.headers, **headers})


def _is_from_here(asked: Asked) -> bool:
    """Whether a page of ours has sent this, or a program that is no browser; as far as the browser tells."""
    origin, site = asked.headers.get("origin"), asked.headers.get("sec-fetch-site")
    return origin in (None, asked.origin) and site in (None, "same-origin", "none")


def _style(visit: Visit) -> Answer:
    return Answer(200, "text/css; charset=utf-8", STYLE, {"Cache-Control": "public, max-age=31536000, immutable"})


def _icon(visit: Visit) -> Answer:
    return Answer(200, "image/svg+xml", ICON, {"Cache-Control": "public, max-age=86400"})
