"""What pages are printed on: the templates, loaded once, and the style that they share."""

from __future__ import annotations

from hashlib import blake2b
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mailbe.web.exchange import Answer
from mailbe.web.language import LANGUAGES
from mailbe.web.visit import Visit

HTML = "text/html; charset=utf-8"
STYLE, ICON = (files(__package__).joinpath(name).read_bytes() for name in ("style.css", "icon.svg"))
STYLE_PATH = "/style.css"
# Another style has another address, so a browser may keep each for good.
_STYLE_LINK = f"{STYLE_PATH}?{blake2b(STYLE, digest_size=6).hexdigest()}"


class Paper:
    """Prints pages."""

    def __init__(self, server: str) -> None:
        """:param server: its name."""
        self._templates = Environment(
            loader=PackageLoader(__package__),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(style=_STYLE_LINK, languages=LANGUAGES, server=server)
        for name in self._templates.list_templates(["html"]):
            self._templates.get_template(name)

    def page(self, visit: Visit, template: str, status: int = 200, **values: Any) -> Answer:
        """The page that the template ``template`` makes of ``values``."""
        text = self._templates.get_template(f"{template}.html").render(
            values, visit=visit, t=visit.words, link=visit.link
        )
        headers = {"Content-Language": visit.language, "Vary": "Accept-Language", "Cache-Control": "no-store"}
        return Answer(status, HTML, text.encode(), headers)
