"""Comments that take findings back: ``<!-- relforge-lint: ignore RULE reason -->``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Finding

_COMMENT = re.compile(
    r"<!--\s*relforge-lint:\s*(ignore|ignore-file)\s+([a-z][a-z-]*(?:\s*,\s*[a-z][a-z-]*)*)"
    r"\s+(\S.*?)\s*-->"
)


@dataclass(frozen=True)
class Ignored:
    """One comment: the rules and the lines, both ends included, that it speaks of."""

    rules: frozenset[str]
    first_line: int
    last_line: int
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether it takes a finding back."""
        return finding.rule in self.rules and self.first_line <= finding.line <= self.last_line


def ignored(document: Document) -> tuple[Ignored, ...]:
    """The comments of a document that give a reason; others have no effect.

    ``ignore`` holds for its own line and for the next paragraph, table or code block,
    ``ignore-file`` for the whole document. Within code blocks nothing is a comment.
    """
    inside = {
        number
        for block in document.blocks
        for number in range(block.line, block.first_line + block.text.count("\n") + 1)
    }
    found = []
    for number, line in enumerate(document.lines, 1):
        match = _COMMENT.search(line) if number not in inside else None
        if match is None:
            continue
        rules = frozenset(re.split(r"\s*,\s*", match[2]))
        if match[1] == "ignore-file":
            found.append(Ignored(rules, 1, len(document.lines), match[3]))
        else:
            found.append(Ignored(rules, number, _end(document, number), match[3]))
    return tuple(found)


def _end(document: Document, number: int) -> int:
    """The last line of what begins below a line, counted from 1."""
    at = number
    while at < len(document.lines) and not document.lines[at].strip():
        at += 1
    for block in document.blocks:
        if block.line == at + 1:
            return block.first_line + block.text.count("\n")
    while at < len(document.lines) and document.lines[at].strip():
        at += 1
    return at
