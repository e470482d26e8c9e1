"""Lines for the zone file of a domain, by which mail and mail programs find this server.

Mail comes by MX (RFC 5321 5.1), programs by SRV (RFC 6186, RFC 8314 5.1) or by the name ``autoconfig``.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailbe.announce import NothingToTell
from mailbe.autoconfig import LOCALHOST, SSL, STARTTLS, Server, servers
from mailbe.listening import Listening

TTL = 3600  # seconds
SMTP_PORT = 25  # other servers know no other
WEB_PORTS = (443, 80)  # mail programs neither
MAX_LABEL, MAX_NAME = 63, 253  # octets, RFC 1035 2.3.4 without the dot at its end

# The names of RFC 6186 and RFC 8314, and the priority: the lower, the rather (RFC 6186 3.4).
SERVICES = {
    ("smtp", SSL): ("_submissions", 0),
    ("smtp", STARTTLS): ("_submission", 10),
    ("pop3", SSL): ("_pop3s", 0),
    ("pop3", STARTTLS): ("_pop3", 10),
}
NEVER_OFFERED = ("_imaps", "_imap")
LONGEST = "_submissions._tcp."


def lines(told: Listening) -> Iterator[str]:
    """The lines, with what to know beside them as comments.

    :raises NothingToTell:
    """
    name = told.domains[0]
    if reason := _why_not(name):
        raise NothingToTell(f"{name}, the server's name, {reason}; start it with --domain and a name of yours first")
    if all(port.at_home for port in told.ports) and not told.proxied:
        raise NothingToTell(
            "nobody but this machine reaches this server; open ports to others, for example with "
            "--password-scheme argon2id --smtp tcp:25 --submissions tcp:465 --pop3s tcp:995"
        )
    for port in told.ports:
        if port.at_home:
            yield f"; {port.listener} listens on {port.host} port {port.port}, for this machine only: it is not told."
    for listener in told.proxied:
        yield f"; {listener} is behind a balancer, whose ports are not known here: its records are for you to write."
    yield f"; {name} must have the address of this machine, as A or AAAA, and no CNAME (RFC 2181 10.3)."
    ways = servers(told, at_home=False)
    for domain in told.domains:
        yield ""
        if reason := _why_not(domain):
            yield f"; {domain} {reason}."
            continue
        yield f"; {domain}"
        yield from _mail(told, domain)
        yield from _programs(told, ways, domain)
        yield from _autoconfig(told, domain)
        yield f"; No SPF: this server sends nothing to others, but who else does so for {domain} it cannot know."
        yield f'; If nobody does: {domain}. {TTL} IN TXT "v=spf1 -all"'


def _why_not(name: str) -> str | None:
    """Why a name cannot stand in a zone file."""
    labels = name.split(".")
    if labels[-1].lower() == LOCALHOST:
        return "is this machine for every machine (RFC 6761 6.3)"
    if max(map(len, labels)) > MAX_LABEL or len(LONGEST + name) > MAX_NAME:
        return "is too long for the DNS"
    return None


def _mail(told: Listening, domain: str) -> Iterator[str]:
    ports = {port.port for port in told.ports if port.listener == "smtp" and not port.at_home}
    if SMTP_PORT in ports:
        yield _record(domain, "MX", f"10 {told.domains[0]}.")
    elif ports:
        yield f"; No MX: servers send to port {SMTP_PORT}, and smtp listens on {', '.join(map(str, sorted(ports)))}."
    elif "smtp" not in told.proxied:
        yield "; No MX: no port is open for mail from other servers."


def _programs(told: Listening, ways: list[Server], domain: str) -> Iterator[str]:
    for way, (service, priority) in SERVICES.items():
        ports = [made.port for made in ways if (made.kind, made.socket) == way]
        for port in ports:
            yield _service(service, domain, f"{priority} 0 {port} {told.domains[0]}.")
        if not ports and service[1:] not in told.proxied:  # services are called as our listeners are
            yield _not_offered(service, domain)
    for service in NEVER_OFFERED:
        yield _not_offered(service, domain)


def _not_offered(service: str, domain: str) -> str:
    return _service(service, domain, "0 0 0 .")  # RFC 6186 3.4


def _service(service: str, domain: str, data: str) -> str:
    return _record(f"{service}._tcp.{domain}", "SRV", data)


def _autoconfig(told: Listening, domain: str) -> Iterator[str]:
    if any(port.listener == "http" and port.port in WEB_PORTS and not port.at_home for port in told.ports):
        yield _record(f"autoconfig.{domain}", "CNAME", f"{told.domains[0]}.")
    elif "http" not in told.proxied:
        yield "; No autoconfig: mail programs ask port 443 or 80, and --http listens for others on neither."


def _record(name: str, kind: str, data: str) -> str:
    return f"{name}. {TTL} IN {kind} {data}"
