"""Characters that are not what the writer typed, or not what a shell takes them for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.mojibake import repaired
from relforge.card.lint.pasted import is_pasted
from relforge.card.lint.placeholders import quoted_at, without_comment

_LONGEST_SHOWN = 60
# C0 and C1 without tab, newline and NEL (which mojibake has); the marks that turn the direction of
# text; blanks without width, but for the joiner of emoji and of Indic scripts.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_FULL_WIDTH = re.compile(r"[\uff01-\uff5e\u3001\u3002\u3010\u3011\u300c\u300d\u3000]")
_TYPOGRAPHIC = re.compile(r"[\u2018\u2019\u201c\u201d\u2013\u2014\u2212\u00a0\u2026]")
_WHAT = {
    "\u00a0": "a blank that does not break",
    "\u3000": "an ideographic blank",
    "\u2013": "an en dash",
    "\u2014": "an em dash",
    "\u2212": "a minus sign",
    "\u2026": "an ellipsis",
}


def _mojibake(document: Document) -> Iterator[Hit]:
    for number, line in enumerate(document.lines, 1):
        meant = repaired(line)
        if meant != line:
            yield Hit(
                number,
                "UTF-8 that was read as another encoding; it is meant as"
                f" {_excerpt(line, meant)!r}",
            )


def _excerpt(line: str, meant: str) -> str:
    """The part of the repaired line around its first change."""
    same = next(
        (at for at, pair in enumerate(zip(line, meant, strict=False)) if pair[0] != pair[1]), 0
    )
    start = max(0, same - 15)
    return meant[start : start + _LONGEST_SHOWN].strip()


def _lost(document: Document) -> Iterator[Hit]:
    for number, line in enumerate(document.lines, 1):
        if "\ufffd" in line:
            yield Hit(
                number, f"{line.count(chr(0xFFFD))} character(s) were lost: U+FFFD stands here"
            )


def _control(document: Document) -> Iterator[Hit]:
    for number, line in enumerate(document.lines, 1):
        text = line.removeprefix("\ufeff") if number == 1 else line
        match = _INVISIBLE.search(text)
        if match is not None and repaired(line) == line:
            name = unicodedata.name(match[0], "a control character")
            yield Hit(number, f"U+{ord(match[0]):04X} ({name.lower()}) shows nothing and is there")


def _not_ascii(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        if not block.is_shell or not is_pasted(block) or block.text.isascii():
            continue
        others = block.others
        quoted = block.quoted
        for number, line in enumerate(block.typed.split("\n")):
            if line.isascii() or number in others or number in quoted or repaired(line) != line:
                continue
            code = without_comment(line)
            for match in (*_FULL_WIDTH.finditer(code), *_TYPOGRAPHIC.finditer(code)):
                char = match[0]
                if quoted_at(code, match.start()):
                    continue
                plain = unicodedata.normalize("NFKC", char)
                what = _WHAT.get(char) or (
                    "a typographic quote"
                    if char in "\u2018\u2019\u201c\u201d"
                    else f"the full-width `{char}`"
                )
                yield Hit(
                    block.first_line + number,
                    f"{what} in a command: the shell takes it for a letter",
                    f"type `{plain}`" if plain.isascii() and plain.strip() else "",
                )
                break


RULES = (
    Rule(
        id="encoding-mojibake",
        severity="error",
        title="UTF-8 read as another encoding",
        why="Readers see signs that nobody wrote, and commands with them do not run.",
        remedy="write the text that was meant; `relforge card lint --fix` does",
        check=_mojibake,
    ),
    Rule(
        id="encoding-lost",
        severity="error",
        title="Characters that are lost",
        why="A program that could not read them put U+FFFD in their place; no repair knows them.",
        remedy="take the characters from the source of the text",
        check=_lost,
    ),
    Rule(
        id="encoding-invisible",
        severity="warning",
        title="Characters that show nothing",
        why="A copied name or command has one character more than the reader sees.",
        remedy="delete it",
        check=_control,
    ),
    Rule(
        id="encoding-punctuation",
        severity="error",
        title="Typographic or full-width punctuation in a command",
        why="It looks like the sign that the shell knows, and is none: the command fails.",
        remedy="type the ASCII sign",
        check=_not_ascii,
    ),
)
