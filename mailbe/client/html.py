"""HTML as plain text: for reading, not for looks.

The standard library's parser takes minutes for a letter that is made to that end, and fails on others. This one goes
through the text once.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

LONGEST = 300_000  # characters that are read
LONGEST_TAG = 4000  # characters of a tag in which attributes are looked for
UNREAD = {"script", "style", "title", "template"}  # up to their end tag
BREAKS = {"br", "div", "tr", "dt", "dd", "hr", "section", "article", "header", "footer"}
PARAGRAPHS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre"}
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]{0,30})")
_HUGE_REFERENCE = re.compile("&#[0-9]{8,};?")  # no character has such a number, and Python does not read each of them


def as_text(text: str) -> str:
    """What somebody would read of HTML, with each link's address behind its text."""
    pieces: list[str] = []
    links: list[tuple[str, int]] = []  # where to, and how many pieces there were before its text
    for name, token in _tokens(text[:LONGEST]):
        if not name:
            pieces.append(re.sub(r"\s+", " ", _unescaped(token)))
        elif name == "a":
            links.append((_attribute(token, "href"), len(pieces)))
        elif name == "/a" and links:
            target, begin = links.pop()
            # Where a link leads is what matters about it: the text may say something else.
            shown = "".join(pieces[begin:]).strip()
            if target.startswith(("http:", "https:", "mailto:")) and target.removeprefix("mailto:") != shown:
                pieces.append(f" <{target}>")
        elif name == "img":
            pieces.append(f"[{_attribute(token, 'alt') or 'image'}]")
        else:
            pieces.append(_space(name))
    if len(text) > LONGEST:
        pieces.append("\n\n[the rest is left out]")
    lines = (re.sub(" +", " ", line).strip() for line in "".join(pieces).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Each tag with its name, ``/name`` for an end tag, and each text with an empty one."""
    lower = text.lower()
    at = 0
    while (begin := text.find("<", at)) >= 0:
        yield "", text[at:begin]
        tag = _TAG.match(text, begin)
        if text.startswith("<!--", begin):
            end = text.find("-->", begin)
            at = end + 3
        elif tag or text[begin + 1 : begin + 2] in ("!", "?", "/"):
            end = text.find(">", begin)
            at = end + 1
            if tag:
                name = tag[0][1:].lower()
                yield name, text[begin : end if end >= 0 else None]
                if name in UNREAD and end >= 0:
                    at = end = lower.find(f"</{name}", end)
        else:
            end = at = begin + 1
            yield "", "<"
        if end < 0:
            return  # it does not end, and so says nothing more
    yield "", text[at:]


def _space(name: str) -> str:
    if name == "li":
        return "\n- "
    if name in ("td", "th"):
        return " "
    name = name.removeprefix("/")
    return "\n\n" if name in PARAGRAPHS else "\n" if name in BREAKS else ""


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf"""(?i)\s{name}\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", tag[:LONGEST_TAG])
    return _unescaped(next(filter(None, found.groups()), "")) if found else ""


def _unescaped(text: str) -> str:
    return html.unescape(_HUGE_REFERENCE.sub("\ufffd", text))
