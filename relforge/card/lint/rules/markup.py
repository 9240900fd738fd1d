"""Markdown that does not show as it is meant."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule


def _unclosed(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        if block.fenced and not block.closed:
            yield Hit(block.line, "the code block that begins here is never closed")


def _jump(document: Document) -> Iterator[Hit]:
    before = None
    for heading in document.headings:
        if before is not None and heading.level > before.level + 1:
            yield Hit(
                heading.line,
                f"a heading of level {heading.level} follows one of level {before.level}",
                f"write it with {'#' * (before.level + 1)}",
            )
        before = heading


RULES = (
    Rule(
        id="markup-unclosed-fence",
        severity="error",
        title="A code block that is never closed",
        why="All that follows shows as code: headings, tables and links are gone.",
        remedy="end the block with the fence it begins with",
        check=_unclosed,
    ),
    Rule(
        id="markup-heading-level",
        severity="note",
        title="A heading that skips a level",
        why="The outline that hubs and readers of screens build has a hole.",
        remedy="go down one level at a time",
        check=_jump,
    ),
)
