"""Settings that the text speaks of and no command has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Document, Prose
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.placeholders import without_comment

_VARIABLE = re.compile(r"(?<![\w$-])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?![\w-])")
_FLAG = re.compile(r"^--[a-z][\w-]*")
_SETS = re.compile(r"\b(?:enabl\w+|set|sets|setting|export\w*|turn\w* on|activat\w+)\b", re.I)
_POINTS = re.compile(
    r"\b(?:section|below|above|following|as follows|as shown|these steps|the commands?)\b", re.I
)
_EXPLAINS = re.compile(
    r"\b(?:parameters?|options?|arguments?|flags?|variables?|settings?)\b.*\b(?:explained|mean\w*|"
    r"as follows|used above|in the commands?)\b|\b(?:explained|explanation)\b",
    re.I,
)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s")
_LEAST_USED = 2


def _promised(document: Document) -> Iterator[Hit]:
    used = _code(document)
    if not document.commands:
        return
    told: set[str] = set()
    for prose in document.prose:
        if not _SETS.search(prose.text) or not _POINTS.search(prose.text):
            continue
        for match in _VARIABLE.finditer(prose.text):
            name = match[1]
            if name not in told and not _has(used, name):
                told.add(name)
                yield Hit(
                    prose.line,
                    f"the text points to commands that set `{name}`, and none does",
                )
    for prose, flag in _explained(document, used):
        if flag not in told:
            told.add(flag)
            yield Hit(
                prose.line,
                f"`{flag}` is explained among the settings of a command, and no command has it",
            )


def _explained(document: Document, used: str) -> Iterator[tuple[Prose, str]]:
    """Items of a list that explains settings, most of which commands have, without a command."""
    items: list[tuple[Prose, str]] = []
    intro = ""
    for prose in (*document.prose, None):
        is_item = prose is not None and _ITEM.match(document.lines[prose.line - 1]) is not None
        if prose is not None and is_item:
            match = re.match(r"[^`]{0,60}`([^`]+)`", prose.text)
            name = match[1].partition("=")[0].split()[0] if match and match[1].strip() else ""
            if _FLAG.match(name) or _VARIABLE.fullmatch(name):
                items.append((prose, name))
            continue
        if _EXPLAINS.search(intro):
            without = [item for item in items if not _has(used, item[1])]
            if len(items) - len(without) >= max(_LEAST_USED, 2 * len(without)):
                yield from without
        items = []
        intro = prose.text if prose is not None else ""


def _code(document: Document) -> str:
    """What the card has in code blocks, comments of commands left out."""
    lines: list[str] = []
    for block in document.blocks:
        text = block.text.split("\n")
        lines += [without_comment(line) for line in text] if block.is_shell else text
    return "\n".join(lines)


def _has(code: str, name: str) -> bool:
    """Whether a name occurs; programs take options with hyphens and with underscores alike."""
    spelled = re.escape(name)
    if name.startswith("--"):
        spelled = "--" + re.sub(r"\\?[-_]", "[-_]", re.escape(name[2:]))
    return re.search(rf"(?<![\w-]){spelled}(?![\w-])", code) is not None


RULES = (
    Rule(
        id="flow-promised",
        severity="warning",
        title="A setting that the text promises and no command has",
        why="Who follows the commands runs without what the card says is on.",
        remedy="set it in the command, or take it out of the text",
        check=_promised,
    ),
)
