"""What a server does once, before anybody is served: it takes its folder, finds its certificate, opens its ports."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailbe import listening
from mailbe.accounts.database import Accounts
from mailbe.configuration import CannotStart, Configuration
from mailbe.listening import Opened
from mailbe.maildata import Maildata
from mailbe.tls import authority
from mailbe.tls.certificates import given, made
from mailbe.tls.pem import PemFile

LOCALHOST = ("127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 - who listens here is found at that name

log = Logger()

PROXIED = "haproxy:"  # Twisted's word; its own wrapper would take a header from anybody, and greet before it has come
SMTP_PORT = 25


def take(maildata: Maildata, accounts: Accounts) -> int:
    """Make the folder ours, and what is missing in it; returns the descriptor that holds its lock.

    :raises Unusable:
    """
    maildata.prepare()
    lock = maildata.lock()
    if swept := maildata.sweep():
        log.info("swept {count} letters that were cut off", count=swept)
    accounts.open()
    return lock


def leave(maildata: Maildata, lock: int) -> None:
    """Let others have the folder."""
    listening.remove(maildata.listening)
    with contextlib.suppress(OSError):
        maildata.pid.unlink()
    os.close(lock)


def certificate_finder(asked: Configuration) -> Callable[[], SSL.Context]:
    """What looks for the certificate, and makes it where none is given. Only the holder of the lock may call it."""
    if asked.certificate is not None and asked.key is not None:
        return partial(given, asked.certificate, asked.key, time.time)
    return partial(made, asked.maildata.tls, asked.domains, time.time)


def certificate_files(asked: Configuration) -> tuple[Path, Path]:
    """Where the certificate and its key stand that the finder has found."""
    if asked.certificate is not None and asked.key is not None:
        return asked.certificate, asked.key
    chain, key = authority.files(asked.maildata.tls)
    return chain.path, key.path


def authority_certificate(chain: Path) -> bytes:
    """What is to be trusted where we made the certificate that stands in ``chain``: the last one there, as PEM.

    :raises Unusable:
    """
    made_by_us = PemFile(chain, "remove it, and a new one is made").certificates()
    return made_by_us[-1].public_bytes(serialization.Encoding.PEM)


def listen(
    asked: Configuration, reactor: Any, name: str, description: str, factory: IProtocolFactory
) -> IListeningPort:
    """Open the port of one listener.

    :param description: of a Twisted endpoint; where it begins with ``haproxy:``, the factory must be for that.
    :raises CannotStart:
    """
    option = f"--{name} {description}"
    # The endpoints of sockets listen at once; what they could not do must be known before we go on.
    outcome: list[IListeningPort | Failure] = []
    serverFromString(reactor, description.removeprefix(PROXIED)).listen(factory).addBoth(outcome.append)
    if not outcome:
        raise CannotStart(f"{option}: this kind of endpoint cannot be used")
    port = outcome[0]
    if isinstance(port, Failure):
        error = port.value
        if not isinstance(error, (CannotListenError, OSError, OverflowError)):  # the last: a port above 65535
            port.raiseException()
        raise CannotStart(f"{option}: {_reason(error)}; choose another address or port")
    return port


def is_proxied(description: str) -> bool:
    """Whether the clients of an endpoint are passed on by a balancer."""
    return description.startswith(PROXIED)


def check_home(asked: Configuration, name: str, description: str, port: IListeningPort) -> None:
    """See that MD5 stays where nobody else can reach it, and LMTP where nobody expects SMTP.

    :raises CannotStart:
    """
    here = port.getHost()
    if name == "lmtp":  # nobody logs in there
        if getattr(here, "port", None) == SMTP_PORT:
            raise CannotStart(f"--{name} {description}: port 25 is for SMTP (RFC 2033 5); choose another port")
        return
    if not (asked.strong or asked.allow_md5 or (_is_at_home(here) and not is_proxied(description))):
        raise CannotStart(
            f"--{name} {description}: MD5 is too weak for a server that others can reach; "
            "say --password-scheme argon2id, or --allow-md5 if you must"
        )


def next_step(asked: Configuration, accounts: Accounts, ports: Collection[Opened]) -> str:
    """What the operator is to do next.

    :raises TryLater:
    """
    page = _page(told(asked, ports))
    # In a virtual environment that is not activated, the command's name alone leads nowhere.
    command = "mailbe" if shutil.which("mailbe") else Path(sys.executable).with_name("mailbe")
    here = f"{command} --maildata {asked.maildata.root}"
    if page and (asked.registration == "open" or not accounts.empty()):
        return f"next: open {page}"
    if page and asked.registration == "invitation":
        return f"next: {here} invitation add; and open {page}"
    if accounts.empty():
        return f"next: {here} user add you@{asked.domains[0]}"
    return "next: set up your mail program; README.md has the values for Thunderbird"


def _page(told: listening.Listening) -> str | None:
    """Where the first of our pages is; from this machine, if it can be reached there."""
    for port in told.ports:
        if port.listener == "http":
            if port.host in LOCALHOST:
                return _url("http", "localhost", port.port)
            return _url("http", port.host, port.port) if port.at_home else _url("https", told.domains[0], port.port)
    return None


def _url(scheme: str, host: str, port: int) -> str:
    usual = {"http": 80, "https": 443}
    return f"{scheme}://{host}/" if port == usual[scheme] else f"{scheme}://{host}:{port}/"


def announce(places: int, asked: Configuration, ports: Collection[Opened], step: str) -> None:
    """Say what there is, now that clients are answered and signals are heeded: in the log, and to other commands.

    :param places: for how many connections there are descriptors.
    """
    if places < asked.limits.connections:
        log.info("there are descriptors for {count} connections; ulimit -n has more", count=places)
    for name, port, _ in ports:
        log.info("{name} listens on {where}", name=name, where=_printed(port.getHost()))
    try:
        listening.write(asked.maildata.listening, told(asked, ports))
    except OSError as error:
        log.error(
            "{path}: {error}; the commands beside the server do not know its ports",
            path=error.filename,
            error=error.strerror,
        )
    log.info("{step}", step=step)


def told(asked: Configuration, ports: Collection[Opened]) -> listening.Listening:
    """What a server with these ports tells of itself."""
    return listening.listening(asked.domains, ports, classic=asked.classic, has_authority=asked.certificate is None)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    return getattr(error, "strerror", None) or str(error).removesuffix(".")


def _is_at_home(here: IAddress) -> bool:
    """Whether only programs on this machine can reach this address."""
    if isinstance(here, (IPv4Address, IPv6Address)):
        return ipaddress.ip_address(here.host.partition("%")[0]).is_loopback
    return True


def _printed(here: IAddress) -> str:
    if isinstance(here, IPv6Address):
        return f"[{here.host}]:{here.port}"
    if isinstance(here, IPv4Address):
        return f"{here.host}:{here.port}"
    return os.fsdecode(here.name or b"") if isinstance(here, UNIXAddress) else str(here)
