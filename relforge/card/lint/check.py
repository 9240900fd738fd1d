"""Runs all rules over cards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Finding, Rule
from relforge.card.lint.ignoring import ignored
from relforge.card.lint.rules import all_rules

_Part = tuple[tuple[Document, ...], tuple[Rule, ...]]


def lint(
    documents: Iterable[Document],
    *,
    without: Iterable[str] = (),
    only: Iterable[str] | None = None,
) -> tuple[Finding, ...]:
    """What all rules find, by file (in the order given), line and rule.

    ``without``: ids of rules that are not asked; ``only``: the ids of those that are, in place of
    all. What a comment of a document takes back is left out.
    """
    documents = tuple(documents)
    order = {document.name: index for index, document in enumerate(documents)}
    taken_back = {document.name: ignored(document) for document in documents}
    asked = {rule.id for rule in all_rules()} if only is None else set(only)
    asked -= set(without)
    found = {
        finding
        for part, rules in _parts(documents)
        for rule in rules
        if rule.id in asked
        for finding in rule.findings(part)
        if not any(comment.covers(finding) for comment in taken_back[finding.file])
    }
    return tuple(sorted(found, key=lambda f: (order[f.file], f.line, f.rule, f.message)))


def _parts(documents: tuple[Document, ...]) -> Iterator[_Part]:
    """Card after card for the rules about one, so that what was read of it is still at hand."""
    for document in documents:
        yield (document,), tuple(rule for rule in all_rules() if rule.check)
    yield documents, tuple(rule for rule in all_rules() if rule.together)
