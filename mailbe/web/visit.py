"""One request among our pages: its language, its links, and the secret between its browser and our forms."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hmac import compare_digest
from urllib.parse import parse_qsl, quote, unquote, urlencode

from mailbe.web.exchange import Asked
from mailbe.web.language import LANGUAGES, Words, best

TOKEN_OCTETS = 24
MAX_FORM_FIELDS = 20
REMEMBERED_SECONDS = 600  # an address that was just registered, for the page that says what to do with it
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")


class BadForm(Exception):
    """What was sent is no form of ours: the status to answer with."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


@dataclass(frozen=True)
class Visit:
    """A request for a page."""

    asked: Asked

    @cached_property
    def chosen(self) -> bool:
        """Whether the language was chosen by hand; then our links go on choosing it."""
        return self.asked.query.get("lang") in LANGUAGES

    @cached_property
    def language(self) -> str:
        return self.asked.query["lang"] if self.chosen else best(self.asked.headers.get("accept-language", ""))

    @cached_property
    def words(self) -> Words:
        return LANGUAGES[self.language]

    def link(self, path: str) -> str:
        """The way to one of our pages."""
        return f"{path}?lang={self.language}" if self.chosen else path

    def in_language(self, language: str) -> str:
        """The way to this page in another language; what stands in its own link, as an invitation, stays."""
        return f"?{urlencode({**self.asked.query, 'lang': language})}"

    @property
    def kind(self) -> str:
        """The media type of what was sent."""
        return self.asked.headers.get("content-type", "").partition(";")[0].strip().lower()

    # The token: a form of ours carries what the browser's cookie holds, and no other site can read or set that.

    @cached_property
    def _sent_token(self) -> str | None:
        token = self.asked.cookies.get(self._cookie("form"), "")
        return token if _TOKEN.fullmatch(token) else None

    @cached_property
    def token(self) -> str:
        """What our forms carry."""
        return self._sent_token or secrets.token_urlsafe(TOKEN_OCTETS)

    def is_ours(self, form: Mapping[str, str]) -> bool:
        """Whether ``form`` comes from a page that we gave this browser."""
        sent = self._sent_token
        return sent is not None and compare_digest(form.get("token", "").encode(), sent.encode())

    @property
    def remembered(self) -> str:
        """The address that was just registered with this browser, if any was."""
        return unquote(self.asked.cookies.get(self._cookie("address"), ""))

    def token_cookie(self) -> tuple[str, ...]:
        """What has the browser keep the token, if it does not yet."""
        return () if self._sent_token else (self._set_cookie("form", self.token),)

    def remember(self, address: str) -> str:
        """The cookie of an address that was just registered."""
        return self._set_cookie("address", quote(address, safe="@")) + f"; Max-Age={REMEMBERED_SECONDS}"

    def form(self) -> Mapping[str, str]:
        """What was sent of a form.

        :raises BadForm:
        """
        if self.kind != "application/x-www-form-urlencoded":
            raise BadForm(415)
        try:
            text = self.asked.body.decode("ascii")
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict"))
        except ValueError:
            raise BadForm(400) from None

    def _cookie(self, name: str) -> str:
        # A browser takes this prefix from nobody but the host itself, over TLS (RFC 6265bis 4.1.3.2).
        return f"__Host-mailbe-{name}" if self.asked.secure else f"mailbe-{name}"

    def _set_cookie(self, name: str, value: str) -> str:
        secure = "; Secure" if self.asked.secure else ""
        return f"{self._cookie(name)}={value}; Path=/; HttpOnly; SameSite=Strict{secure}"
