"""In which of our languages a page is: the one asked for by hand, or the one that the browser's user likes best."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from markupsafe import Markup

from mailbe.web.words import english, french

Words = Mapping[str, Markup]

# The first is for those who know none of ours.
LANGUAGES: Mapping[str, Words] = {
    "en": {name: Markup(text) for name, text in english.WORDS.items()},  # noqa: S704 - our own, with their markup
    "fr": {name: Markup(text) for name, text in french.WORDS.items()},  # noqa: S704
}
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110 12.4.2
MAX_RANGES = 20  # of an Accept-Language; browsers send a handful


def best(accepted: str) -> str:
    """The language of ours that an ``Accept-Language`` likes best (RFC 9110 12.5.4)."""
    liked = dict.fromkeys(LANGUAGES, 0.0)
    for language, quality in _ranges(accepted):
        if language in liked:
            liked[language] = max(liked[language], quality)
    return max(liked, key=lambda language: liked[language])


def _ranges(accepted: str) -> Iterator[tuple[str, float]]:
    for part in accepted.split(",")[:MAX_RANGES]:
        tag, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        if _QUALITY.fullmatch(quality):
            # fr-CA is French; and who likes * is content with the first.
            yield tag.partition("-")[0], float(quality)
