"""Reverse-paths and forward-paths: what must be taken, and what must not (RFC 5321 3.3, 4.1.2, 4.5.1).

Where mail for others is asked for, the names are reserved ones (RFC 2606), and it ends with RCPT.
"""

from __future__ import annotations

from mailbe.conform.rules import MAY, MUST, SHOULD, Awaited, Differs, Skip, Steps, Unclear, smtp
from mailbe.conform.sender import Smtp


@smtp("RFC 5321 4.5.1", MUST)
def postmaster_without_a_domain(at: Smtp) -> None:
    """RCPT TO:<Postmaster> is taken, without a domain and in any case."""
    for name in ("Postmaster", "postmaster", "POSTMASTER"):
        wire = at.begun()
        wire.want("250 251", f"RCPT TO:<{name}>")
        wire.need("250", "RSET")
        wire.quit()


@smtp("RFC 5321 4.5.1", MUST)
def postmaster_of_the_domain(at: Smtp) -> None:
    """Mail for postmaster of a domain that is served is taken."""
    wire = at.begun()
    wire.want("250 251", f"RCPT TO:<postmaster@{_domain(at)}>")
    wire.need("250", "RSET")


@smtp("RFC 5321 4.1.1.2", MUST)
def null_reverse_path(at: Smtp) -> Steps:
    """MAIL FROM:<> is taken, as reports come with it (RFC 6409 3.2 for submission), and delivered."""
    letter = at.letter()
    wire = at.ready()
    wire.want("250", "MAIL FROM:<>")
    wire.want("250", at.rcpt())
    at.taken(at.deliver(wire, letter))
    yield Awaited(letter.token)


@smtp("RFC 5321 2.4", MUST)
def domains_in_any_case(at: Smtp) -> None:
    """The domain of a recipient may be written in upper case."""
    local, _, domain = at.me.rpartition("@")
    at.begun().want("250 251", f"RCPT TO:<{local}@{domain.swapcase()}>")


@smtp("RFC 5321 4.1.2", MUST)
def quoted_local_parts_are_the_same(at: Smtp) -> None:
    """A local part in quotes is the same mailbox as without, where it needs none."""
    local, _, domain = at.me.rpartition("@")
    if local.startswith('"'):
        raise Skip("our own local part needs its quotes")
    at.begun().want("250 251", f'RCPT TO:<"{local}"@{domain}>')


@smtp("RFC 5321 4.1.1.3", MAY)
def source_routes_are_ignored(at: Smtp) -> None:
    """A source route before a recipient is ignored, and the recipient is taken."""
    at.begun().want("250 251", f"RCPT TO:<@relay.invalid:{at.me}>")


@smtp("RFC 5321 3.3", MAY)
def a_space_behind_the_colon_is_tolerated(at: Smtp) -> None:
    """MAIL FROM: <address>, which no grammar has, is taken from clients that write it so."""
    at.ready().want("250", f"MAIL FROM: <{at.me}>")


@smtp("RFC 5321 4.1.2", SHOULD)
def paths_that_are_none(at: Smtp) -> None:
    """A forward-path without a mailbox in it is refused."""
    wire = at.begun()
    for path in ("<>", "<@>", f"<@{_domain(at)}>"):
        wire.want("4 5", f"RCPT TO:{path}", "501, or another refusal")


@smtp("RFC 5321 4.1.2", MAY)
def paths_without_brackets_are_refused(at: Smtp) -> None:
    """A path without its angle brackets is refused as a syntax error."""
    at.begun().want("5", f"RCPT TO:{at.me}", "501")


@smtp("RFC 5321 4.5.3.1.1", MUST)
def local_parts_of_64_octets(at: Smtp) -> None:
    """A local part of 64 octets is no mistake in itself (who has no such mailbox says so)."""
    _not_malformed(at, f"{'x' * 64}@{_domain(at)}")


@smtp("RFC 5321 4.5.3.1.3", MUST)
def paths_of_256_octets(at: Smtp) -> None:
    """A path of 256 octets with its brackets is no mistake in itself."""
    label = "y" * 63
    domain = f"{label}.{label}.{'z' * 53}.invalid"
    _not_malformed(at, f"{'x' * (256 - 3 - len(domain))}@{domain}")


@smtp("RFC 2505 2.1", SHOULD)
def mail_of_strangers_for_others_is_not_relayed(at: Smtp) -> None:
    """Who has not logged in cannot send to other hosts."""
    wire = at.hello()
    reply = wire.say("MAIL FROM:<somebody@example.invalid>")
    if reply.code == "250":
        reply = wire.say("RCPT TO:<somebody@conform.invalid>")
    wire.quit()
    if reply.code == "250" and at.site.local:
        raise Unclear("it was taken, but from this machine itself, which is often allowed to")
    if reply.code == "250":
        raise Differs("a refusal", "RCPT TO:<somebody@conform.invalid>", str(reply))


def _domain(at: Smtp) -> str:
    return at.me.rpartition("@")[2]


def _not_malformed(at: Smtp, address: str) -> None:
    wire = at.begun()
    reply = wire.say(f"RCPT TO:<{address}>")
    if reply.among("500 501"):
        raise Differs("any reply but 500 or 501", f"RCPT TO of {len(address) + 2} octets", str(reply))
    wire.want("250", "RSET")
