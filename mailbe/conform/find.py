"""Finding the listeners of a host, and what each of them offers before and after log-in."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mailbe.conform import sasl
from mailbe.conform.door import Door, Drop, NoEntry, depart
from mailbe.conform.letters import Post
from mailbe.conform.pop3 import Pop3Wire, positive
from mailbe.conform.rules import Skip, Unclear
from mailbe.conform.sender import Site, Smtp
from mailbe.conform.smtp import Offers, SmtpWire
from mailbe.conform.wire import Dialogue, Lost, Route, shown
from mailbe.ports import IMPLICIT_TLS, OURS, STANDARD

SMTP_NAMES = ("smtp", "submission", "submissions")


class Unreachable(Exception):
    """Nothing can be checked; the message is the one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line."""

    host: str
    login: sasl.Login
    address: str
    ports: Mapping[str, int] = field(default_factory=dict)
    """By listener; none: they are looked for."""
    ca: Path | None = None
    unverified: bool = False
    plaintext: bool = False
    seconds: float = 30.0
    """The most that one answer may take."""


@dataclass(frozen=True, slots=True)
class Found:
    """The listeners that there are."""

    sites: list[Site]
    """Those of SMTP that are checked whole."""
    sites_in_tls: list[Site]
    """Those with TLS from the first octet, beside them."""
    drop: Drop | None
    drop_in_tls: Drop | None


def find(request: Request) -> Found:
    """The listeners of the host.

    :raises Unreachable:
    """
    routes = _routes(request)
    local = is_local(request.host)
    sites = {name: Site(name, route, local) for name, route in routes.items() if name in SMTP_NAMES}
    drops = {name: Drop(name, route, local) for name, route in routes.items() if name not in SMTP_NAMES}
    whole = [sites[name] for name in ("smtp", "submission") if name in sites]
    in_tls = [sites["submissions"]] if "submissions" in sites else []
    if "submission" not in sites:
        whole, in_tls = whole + in_tls, in_tls if whole else []
    drop, drop_in_tls = drops.get("pop3", drops.get("pop3s")), drops.get("pop3s")
    return Found(whole, in_tls, drop, drop_in_tls)


def is_local(host: str) -> bool:
    """Whether a host is this machine, by its loopback address."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)


def _routes(request: Request) -> dict[str, Route]:
    tls = _trust(request)
    if request.ports:
        routes = {name: _route(request, name, port, tls) for name, port in request.ports.items()}
        for name, route in routes.items():
            try:
                greet(name, route)
            except (Lost, Unclear) as error:
                raise Unreachable(f"{name}: {error}") from error
        return routes
    try:
        socket.getaddrinfo(request.host, None)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{request.host}: no such host") from error
    candidates: list[dict[str, Route]] = []
    why = ""
    for ports in (STANDARD, OURS):
        there: dict[str, Route] = {}
        for name, port in ports.items():
            route = _route(request, name, port, tls)
            try:
                greet(name, route)
            except (Lost, Unclear) as error:
                why = str(error) if "certificate" in str(error) else why
            else:
                there[name] = route
        candidates.append(there)
    # A machine may have a mail server of its own on port 25, and the one to be checked elsewhere.
    best = max(candidates, key=lambda there: (_both(there), bool(there)))
    if not best:
        tried = ", ".join(str(port) for ports in (STANDARD, OURS) for port in ports.values())
        raise Unreachable(why or f"nothing answers on {request.host} at the ports {tried}; name them, as --smtp PORT")
    return best


def _both(there: dict[str, Route]) -> bool:
    return any(name in SMTP_NAMES for name in there) and any(name not in SMTP_NAMES for name in there)


def _route(request: Request, name: str, port: int, tls: ssl.SSLContext) -> Route:
    return Route(request.host, port, name in IMPLICIT_TLS, tls, request.seconds)


def _trust(request: Request) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=request.ca)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"{request.ca}: no certificate of an authority in PEM") from error
    if request.ca is None and (request.unverified or is_local(request.host)):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def greet(name: str, route: Route) -> None:
    """See that somebody who speaks the protocol is there.

    :raises Lost, Unclear: nobody is, or he turns us away.
    """
    if name in SMTP_NAMES:
        smtp = SmtpWire(route, Dialogue())
        reply = smtp.reply()
        smtp.quit()
        if reply.code != "220":
            raise Unclear(f"{route} turns us away: {reply}")
        return
    pop3 = Pop3Wire(route, Dialogue())
    status = pop3.status()
    depart(pop3)
    if not positive(status):
        raise Unclear(f"{route} turns us away: {shown(status)}")


def survey(site: Site, post: Post, login: sasl.Login, *, plaintext: bool) -> None:
    """Find out what a listener of SMTP offers, and log in where a letter is not taken without.

    :raises Unreachable: the log-in fails.
    """
    at = Smtp(site, post, login, Dialogue())
    try:
        wire = at.connect()
        site.plain = site.offers = wire.hello()
        site.in_tls = _in_tls(at)
        refusal = _refusal(at, wire)
        wire.quit()
        if not refusal:
            return
        wire = at.safe()
        offers = site.plain if not wire.tls else wire.hello()
        if "AUTH" not in offers:
            site.why_not = refusal
            return
        _check_privacy(site.route, tls=wire.tls, local=site.local, plaintext=plaintext)
        reply = wire.auth(sasl.chosen(offers["AUTH"]), at.who(wire))
        if reply.code != "235":
            raise Unreachable(f"{site.name}: the log-in of {login.user} was answered {reply}")
        site.offers, site.secured = offers, True
        site.why_not = _refusal(at, wire)
        wire.quit()
    except (Lost, Unclear) as error:
        raise Unreachable(f"{site.name}: {error}") from error
    finally:
        at.close()


def _in_tls(at: Smtp) -> Offers:
    try:
        return at.in_tls().hello()
    except (Skip, Lost, Unclear):
        return {}


def _refusal(at: Smtp, wire: SmtpWire) -> str:
    for line in (at.mail(), at.rcpt()):
        reply = wire.say(line)
        if reply.code != "250":
            return f"{line} was answered {reply}"
    return ""


def survey_drop(door: Door, *, plaintext: bool) -> None:
    """Find out what a listener of POP3 offers, and log in.

    :raises Unreachable:
    """
    drop = door.drop
    try:
        wire = door.connect(Dialogue())
        drop.plain = wire.capa()
        depart(wire)
        wire = door.safe(Dialogue())
        drop.capabilities = wire.capa()
        depart(wire)
        _check_privacy(drop.route, tls=wire.tls, local=drop.local, plaintext=plaintext)
        wire = door.enter(Dialogue())
        inside = wire.capa()
        door.delay = max(map(_delay, (drop.capabilities, inside)))
        depart(wire)
    except NoEntry as error:
        raise Unreachable(f"{drop.name}: the log-in of {door.login.user} was answered {error}") from error
    except (Lost, Unclear) as error:
        raise Unreachable(f"{drop.name}: {error}") from error


def _delay(capabilities: Mapping[str, list[str]]) -> float:
    seconds = capabilities.get("LOGIN-DELAY", [""])[:1]
    return float(seconds[0]) if seconds and seconds[0].isdecimal() else 0.0


def _check_privacy(route: Route, *, tls: bool, local: bool, plaintext: bool) -> None:
    if not (tls or local or plaintext):
        raise Unreachable(f"{route} offers no TLS, so others could read the password; --plaintext says it all the same")
