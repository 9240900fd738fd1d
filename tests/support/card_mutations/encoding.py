"""Broken text, and Markdown that does not show as it is meant."""

from __future__ import annotations

import re
from collections.abc import Callable

import ftfy.bad_codecs  # noqa: F401 - brings sloppy-windows-1252, which keeps every byte

from tests.support.card_mutations import Mutation, replaced

_PARAGRAPH = r"^(?=[A-Z][a-z]+ .*\.$)"
"""The begin of a line that is a sentence of its own."""


def _misread(encoding: str, sentence: str) -> Callable[[str], str | None]:
    broken = sentence.encode().decode(encoding)
    return replaced(_PARAGRAPH, lambda _: broken + " ")


def _unclosed(text: str) -> str | None:
    """Takes the last fence of the card away."""
    at = text.rstrip().rfind("\n```")
    if at < 0 or text.count("\n```") % 2:
        return None
    return text[:at] + text[at + 4 :]


def _full_width(text: str) -> str | None:
    return replaced(r"^(docker run .*?) -", "\\1\u3000-")(text)


def _deeper(text: str) -> str | None:
    """Makes the last heading two levels deeper than the one before it."""
    headings = list(re.finditer(r"^(#{1,3}) ", text, re.M))
    headings = [one for one in headings if text[: one.start()].count("\n```") % 2 == 0]
    if len(headings) < 2:
        return None
    last, before = headings[-1], headings[-2]
    return text[: last.start()] + before[1] + "##" + text[last.end(1) :]


# What is no option any more is taken for the image.
_NO_OPTION = frozenset({"supply-mutable-tag"})

MUTATIONS = (
    Mutation(
        "encoding-mojibake",
        "cp1252",
        _misread("cp1252", "Its speed is 70\u201380 % of the café\u2019s."),
    ),
    Mutation("encoding-mojibake", "Latin-1", _misread("latin-1", "Größe und Übung: naïve.")),
    Mutation(
        "encoding-mojibake", "Mac-Roman", _misread("mac_roman", "It holds — mostly — 【so】.")
    ),
    Mutation("encoding-mojibake", "an emoji", _misread("mac_roman", "📌 It holds.")),
    Mutation("encoding-mojibake", "Chinese", _misread("sloppy-windows-1252", "请\uff0c联系。")),
    Mutation("encoding-lost", "a sentence", replaced(_PARAGRAPH, "The caf\ufffd is open. ")),
    Mutation("encoding-invisible", "no width", replaced(_PARAGRAPH, "The se\u200brver is open. ")),
    Mutation("encoding-invisible", "direction", replaced(_PARAGRAPH, "The \u202eserver is. ")),
    Mutation("encoding-invisible", "control", replaced(_PARAGRAPH, "The \x1b server is open. ")),
    Mutation("encoding-punctuation", "an ideographic blank", _full_width, _NO_OPTION),
    Mutation(
        "encoding-punctuation",
        "a dash",
        replaced(r"^(docker run .*)--name ", "\\1\u2013name "),
        _NO_OPTION,
    ),
    Mutation(
        "encoding-punctuation",
        "quotes",
        replaced(r"^```bash\n", "```bash\necho \u201cready\u201d\n"),
    ),
    Mutation("encoding-punctuation", "a comma", replaced(r"^```bash\n", "```bash\nls\uff0c\n")),
    Mutation(
        "markup-unclosed-fence",
        "the last",
        _unclosed,
        along=frozenset({"evaluation-absent"}),  # the table is code by then
    ),
    Mutation("markup-heading-level", "the last", _deeper),
)
