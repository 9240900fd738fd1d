"""Runs all rules over cards."""

from __future__ import annotations

from collections.abc import Iterable

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Finding
from relforge.card.lint.rules import all_rules


def lint(documents: Iterable[Document]) -> tuple[Finding, ...]:
    """What all rules find, by file (in the order given), line and rule."""
    documents = tuple(documents)
    order = {document.name: index for index, document in enumerate(documents)}
    found = {finding for rule in all_rules() for finding in rule.findings(documents)}
    return tuple(sorted(found, key=lambda f: (order[f.file], f.line, f.rule, f.message)))
