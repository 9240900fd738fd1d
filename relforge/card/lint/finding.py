"""What a rule is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from relforge.card.lint.document import Document
from relforge.frozen import Frozen

Severity = Literal["error", "warning", "note"]
"""``error``: a reader who follows the card fails, or is told something untrue. ``warning``: it
will hurt somebody, some day. ``note``: it could be better."""


class Finding(Frozen):
    """One mistake, where it stands, and what to do; ``--json`` prints a list of these."""

    file: str
    line: int
    rule: str
    severity: Severity
    message: str
    remedy: str


@dataclass(frozen=True)
class Hit:
    """What a rule yields; the runner adds file, rule and severity.

    ``remedy`` and ``severity`` override the rule's own.
    """

    line: int
    message: str
    remedy: str = ""
    severity: Severity | None = None
    document: Document | None = None
    """For rules about several documents: the one it stands in."""


@dataclass(frozen=True)
class Rule:
    """One kind of mistake. ``id`` is ``<theme>-<mistake>``, stable, and named in configuration."""

    id: str
    severity: Severity
    title: str
    """The mistake in a few words."""
    why: str
    """What it costs the reader."""
    remedy: str
    check: Callable[[Document], Iterable[Hit]] | None = None
    together: Callable[[tuple[Document, ...]], Iterable[Hit]] | None = None
    """For mistakes that only several cards side by side show."""
    apart: bool = False
    """Whether ``together`` looks at each card alone, and gets several to ask for much at once."""

    def findings(self, documents: tuple[Document, ...]) -> Iterator[Finding]:
        """What the rule finds in all of the documents."""
        for document in documents:
            for hit in self.check(document) if self.check else ():
                yield self._finding(document, hit)
        for hit in self.together(documents) if self.together else ():
            assert hit.document is not None
            yield self._finding(hit.document, hit)

    def _finding(self, document: Document, hit: Hit) -> Finding:
        return Finding(
            file=document.name,
            line=hit.line,
            rule=self.id,
            severity=hit.severity or self.severity,
            message=hit.message,
            remedy=hit.remedy or self.remedy,
        )
