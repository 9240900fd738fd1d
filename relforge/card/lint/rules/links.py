"""Links that lead nowhere, or elsewhere than they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from relforge.card.lint.document import Document, Link
from relforge.card.lint.finding import Hit, Rule

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")
_EMAIL = re.compile(r"^[\w.+-]+@[\w-]+(?:\.[\w-]+)+$")
_URL_TEXT = re.compile(r"^(?:https?://|www\.)\S+$", re.I)
_MALFORMED = re.compile(r"^(?:https?:/(?!/)|https?//|https?:$|https?:///|www\.|https?:\s*//\S*\s)")
_ESCAPED_MAILTO = re.compile(r"mailto(?:%3a|:)", re.I)


def _missing(document: Document) -> Iterator[Hit]:
    for link in document.links:
        target = unquote(link.target.partition("#")[0].partition("?")[0])
        if not target or _SCHEME.match(target) or target.startswith(("/", "{", "$")):
            continue
        if _MALFORMED.match(target):
            continue
        if document.base is not None and not (document.base / target).exists():
            what = "image" if link.image else "link's target"
            yield Hit(link.line, f"the {what} {target} is not there, beside the card")


def _mailto(document: Document) -> Iterator[Hit]:
    for link in document.links:
        match = _ESCAPED_MAILTO.search(link.target)
        if match and match.start() > 0:
            yield Hit(link.line, f"an e-mail address within the path of a page: {link.target}")
        elif match and "%3a" in match[0].lower():
            yield Hit(link.line, f"the colon of mailto is escaped: {link.target}")


def _text_target(document: Document) -> Iterator[Hit]:
    for link in document.links:
        text = link.text.strip()
        if link.image or not text:
            continue
        if _EMAIL.match(text):
            told = unquote(link.target).partition("?")[0].removeprefix("mailto:").strip()
            if told.lower() != text.lower():
                yield Hit(link.line, f"the link says {text} and goes to {link.target}")
        elif _URL_TEXT.match(text) and not _same_place(text, link):
            yield Hit(link.line, f"the link says {text} and goes to {link.target}")


def _same_place(text: str, link: Link) -> bool:
    said = urlsplit(text if "://" in text else f"//{text}")
    goes = urlsplit(link.target)
    if not goes.netloc:
        return not goes.scheme
    plain = said.netloc.lower().removeprefix("www."), goes.netloc.lower().removeprefix("www.")
    # A shortened text ("https://example.org/...") still names the host.
    return plain[0] == plain[1] or "…" in text or "..." in text


def _malformed(document: Document) -> Iterator[Hit]:
    for link in document.links:
        if _MALFORMED.match(link.target):
            yield Hit(link.line, f"no browser takes this for an address: {link.target}")
        elif not link.target.strip() and not link.image:
            yield Hit(link.line, f"the link {link.text!r} has no target")


def _one_target(document: Document) -> Iterator[Hit]:
    homes: dict[str, list[Link]] = {}
    for link in document.links:
        parts = urlsplit(link.target)
        text = link.text.strip()
        if parts.scheme in ("http", "https") and parts.path in ("", "/") and not parts.query:
            named = text and not link.image and not _URL_TEXT.match(text)
            if named and parts.netloc.lower().removeprefix("www.") not in text.lower():
                homes.setdefault(parts.netloc.lower(), []).append(link)
    for host, links in homes.items():
        texts = list(dict.fromkeys(link.text.strip().lower() for link in links))
        if len(texts) < 3:
            continue
        for link in links:
            if link.text.strip().lower() != texts[0]:
                yield Hit(
                    link.line,
                    f"{link.text!r} links to the home page of {host}, as other names do",
                )


RULES = (
    Rule(
        id="links-missing-target",
        severity="warning",
        title="A relative link to nothing",
        why="On a hub, the reader sees a broken image or an error page.",
        remedy="publish the file beside the card, or give its whole address",
        check=_missing,
    ),
    Rule(
        id="links-mailto",
        severity="error",
        title="An e-mail address that is no link to one",
        why="Who clicks on it gets a page that does not exist, and no mail is written.",
        remedy="write <mailto:name@example.org>, with nothing before it",
        check=_mailto,
    ),
    Rule(
        id="links-text-target",
        severity="error",
        title="A link that says one address and goes to another",
        why="Readers write to, or trust, the wrong place.",
        remedy="make text and target the same address",
        check=_text_target,
    ),
    Rule(
        id="links-malformed",
        severity="error",
        title="A link whose address is malformed",
        why="It leads nowhere, or to a file of that name beside the card.",
        remedy="write the whole address: https://host/path",
        check=_malformed,
    ),
    Rule(
        id="links-one-target",
        severity="note",
        title="Several names that link to one home page",
        why="A reader who wants to know more of one of them finds a front page.",
        remedy="link each name to its own page",
        check=_one_target,
    ),
)
