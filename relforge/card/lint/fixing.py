"""Repairs what has one right answer, and leaves every other byte as it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relforge.card.lint.check import lint
from relforge.card.lint.document import Document, parse
from relforge.card.lint.mojibake import repaired
from relforge.card.lint.pasted import language_of
from relforge.card.lint.results import result_tables

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_FENCE = re.compile(r"^[ >\t]*(?:[-*+] +|\d+[.)] +)?(`{3,}|~{3,})")
_MARKS = re.compile(r"^([ >]*)(#{1,6})(?=[ \t]|$)")
_PIPE = re.compile(r"(?<!\\)\|")
_NUMBER = re.compile(r"[\s*_~]*(\d+(?:\.\d+)?)(?![\d.])")
_MOST_ROUNDS = 3


@dataclass(frozen=True)
class Change:
    """One repaired line, counted from 1 in the text as it is after the repairs before it."""

    line: int
    rule: str
    what: str


Lines = list[str]
Repair = Callable[[Document, Lines, frozenset[int]], list[Change]]


def fix(text: str, without: Iterable[str] = ()) -> tuple[str, tuple[Change, ...]]:
    """The text with its mechanical mistakes repaired, and what was changed.

    ``without``: rules whose mistakes stay. What a comment of the text takes back stays as well.
    Fixing the result once more changes nothing.
    """
    changes: list[Change] = []
    left_out = frozenset(without)
    for _ in range(_MOST_ROUNDS):
        before = text
        for rule, repair in REPAIRS.items():
            if rule in left_out:
                continue
            document = parse(text)
            at = frozenset(one.line for one in lint([document], only=[rule]))
            if at:
                lines = _LINE.findall(text)
                changes += repair(document, lines, at)
                text = "".join(lines)
        if text == before:
            break
    return text, tuple(changes)


def _mojibake(_document: Document, lines: Lines, at: frozenset[int]) -> list[Change]:
    for line in at:
        body, end = _split(lines[line - 1])
        lines[line - 1] = repaired(body) + end
    return [Change(line, "encoding-mojibake", "the encoding") for line in sorted(at)]


def _close(document: Document, lines: Lines, at: frozenset[int]) -> list[Change]:
    block = document.blocks[-1]
    if block.line not in at or block.first_line + block.text.count("\n") < len(document.lines) - 1:
        return []
    match = re.match(r"^ {0,3}(`{3,}|~{3,})", lines[block.line - 1])
    if match is None:
        return []  # within a quote: where it ends is not certain
    end = _split(lines[block.line - 1])[1] or "\n"
    if not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    lines.append(match[0] + end)
    return [Change(len(lines), "markup-unclosed-fence", "the end of the code block")]


def _name_languages(document: Document, lines: Lines, at: frozenset[int]) -> list[Change]:
    changes = []
    for block in document.blocks:
        match = _FENCE.match(lines[block.line - 1]) if block.line in at else None
        language = language_of(block)
        if match is None or not language or block.others:
            continue  # of a mixed block the right language is none, but to be taken apart
        line = lines[block.line - 1]
        lines[block.line - 1] = line[: match.end()] + language + line[match.end() :]
        changes.append(Change(block.line, "shell-fence-language", f"the language, {language}"))
    return changes


def _level_headings(document: Document, lines: Lines, at: frozenset[int]) -> list[Change]:
    # Headings below the one that jumped go up with it, so that what was a sibling stays one.
    changes = []
    above: list[tuple[int, int]] = []
    before = None
    for heading in document.headings:
        while above and above[-1][0] >= heading.level:
            above.pop()
        level = min(heading.level, above[-1][1] + 1) if above else heading.level
        jumps = before is not None and heading.level > before + 1
        if jumps and heading.line not in at:
            level = heading.level
        before = heading.level
        above.append((heading.level, level))
        match = _MARKS.match(lines[heading.line - 1])
        if level != heading.level and match is not None:
            line = lines[heading.line - 1]
            lines[heading.line - 1] = match[1] + "#" * level + line[match.end() :]
            changes.append(Change(heading.line, "markup-heading-level", f"to level {level}"))
    return changes


def _pad(document: Document, lines: Lines, at: frozenset[int]) -> list[Change]:
    # A value with more decimals than its neighbours stays: cutting it would lose what was measured.
    changes = []
    for table in result_tables(document):
        header = table.table.header
        for index, column in enumerate(table.columns):
            if header.count(column) != 1:
                continue
            values = [(row.line, value) for row in table.rows if (value := row.values[index])]
            counted = Counter(value.decimals for _, value in values if not value.of)
            usual = counted.most_common(1)[0][0] if counted else 0
            for line, value in values:
                if line not in at or value.of or value.decimals >= usual:
                    continue
                padded = _padded(lines[line - 1], header.index(column), usual - value.decimals)
                if padded is not None:
                    lines[line - 1] = padded
                    what = f"{value.text} to {usual} decimals"
                    changes.append(Change(line, "evaluation-decimals", what))
    return changes


def _padded(line: str, column: int, zeros: int) -> str | None:
    """A table's row with zeros after the number in one of its cells."""
    begins = [match.end() for match in _PIPE.finditer(line)]
    if not line.lstrip(" >\t").startswith("|"):
        begins.insert(0, 0)
    match = _NUMBER.match(line, begins[column]) if column < len(begins) else None
    if match is None:
        return None
    point = "" if "." in match[1] else "."
    return line[: match.end(1)] + point + "0" * zeros + line[match.end(1) :]


def _split(line: str) -> tuple[str, str]:
    body = line.rstrip("\r\n")
    return body, line[len(body) :]


REPAIRS: dict[str, Repair] = {
    "encoding-mojibake": _mojibake,
    "markup-unclosed-fence": _close,
    "shell-fence-language": _name_languages,
    "markup-heading-level": _level_headings,
    "evaluation-decimals": _pad,
}
"""The rules whose mistakes are repaired, in the order in which that is done."""
