"""Getting an account from the server's web side, which has a page for people and takes JSON from programs."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from mailbe.client.errors import NoAnswer, NotRegistered
from mailbe.client.printable import one_line
from mailbe.client.servers import Servers, ascii_host, is_this_machine
from mailbe.client.trust import Trust
from mailbe.client.wire import why

SECONDS = 30.0
LONGEST_ANSWER = 64 * 1024  # octets
NO_SITE = (
    "no web side of the server is known, and only that registers people: give its URL with --site, start the server "
    "with --http and --registration open, or have the account made: mailbe user add"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Who may register."""

    registration: str
    """``open``, ``invitation`` or ``closed``."""
    domains: tuple[str, ...]
    """What may stand behind the @."""


class Desk:
    """Where one registers."""

    def __init__(self, servers: Servers, trust: Trust) -> None:
        self._site = servers.site
        self._trust = trust

    def terms(self) -> Terms:
        """:raises NotRegistered: with the code ``site``, where no site is known.

        :raises NoAnswer, NotTrusted:
        """
        status, answer = self._ask("GET", "/register.json")
        if status != http.client.OK or not isinstance(answer.get("registration"), str):
            raise NoAnswer(f"{self._site} is not the web side of a mailbe server")
        domains = answer.get("domains")
        named = [one_line(name) for name in domains if isinstance(name, str)] if isinstance(domains, list) else []
        return Terms(one_line(answer["registration"]), tuple(named))

    def register(self, name: str, password: str, invitation: str = "") -> str:
        """Make an account; returns its address.

        :raises NotRegistered: and why.
        :raises NoAnswer: the account may have been made, if the server hung up.
        :raises NotTrusted:
        """
        asked = {"name": name, "password": password, "invitation": invitation}
        status, answer = self._ask("POST", "/register", json.dumps(asked).encode())
        if status == http.client.CREATED and isinstance(answer.get("address"), str):
            return one_line(answer["address"])
        if isinstance(answer.get("error"), str):
            raise NotRegistered(answer["error"], one_line(str(answer.get("text") or answer["error"])))
        raise NoAnswer(f"{self._site} does not register anybody: its answer was {status}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        site = _parsed(self._site)
        headers = {"Accept": "application/json", "Accept-Language": "en"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with closing(self._connected(site)) as connection:
                connection.request(method, f"{site.path.rstrip('/')}{path}", body, headers)
                answer = connection.getresponse()
                told = json.loads(answer.read(LONGEST_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{self._site} does not answer: {why(error)}") from error
        except (ValueError, RecursionError):
            told = None  # no JSON
        if not isinstance(told, dict):
            raise NoAnswer(f"{self._site} is not the web side of a mailbe server")
        return answer.status, told

    def _connected(self, site: SplitResult) -> http.client.HTTPConnection:
        """A connection to the site. A password goes over it, so it is in TLS, or within this machine.

        :raises NotTrusted, OSError:
        """
        host, port = ascii_host(site.hostname or ""), site.port or (443 if site.scheme == "https" else 80)
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        if site.scheme == "http":
            return connection

        def secured(context: ssl.SSLContext) -> ssl.SSLSocket:
            plain = socket.create_connection((host, port), SECONDS)
            try:
                return context.wrap_socket(plain, server_hostname=host)
            except BaseException:
                plain.close()
                raise

        try:
            connection.sock = secured(self._trust.verifying)
        except ssl.SSLCertVerificationError as error:
            shown = secured(self._trust.looking)
            connection.sock = shown
            try:
                self._trust.check(shown.getpeercert(binary_form=True) or b"", host, port, error.verify_message)
            except BaseException:
                connection.close()
                raise
        return connection


def _parsed(url: str | None) -> SplitResult:
    if not url:
        raise NotRegistered("site", NO_SITE)
    try:
        site = urlsplit(url)
        usable = site.scheme in ("http", "https") and site.hostname and site.port != 0
    except ValueError:
        usable = None
    if not usable:
        raise NotRegistered("site", f"{one_line(url)} is no URL of a web site: it begins with https://")
    if site.scheme == "http" and not is_this_machine(site.hostname or ""):
        raise NotRegistered("site", f"{one_line(url)}: a password goes to another machine over https only")
    return site
