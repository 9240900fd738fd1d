"""Runs all rules over cards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Finding
from relforge.card.lint.ignoring import ignored
from relforge.card.lint.rules import all_rules


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
    asked = {rule.id for rule in all_rules()} if only is None else set(only)
    asked -= set(without)
    found = (*of_each(documents, asked), *of_all(documents, asked))
    return in_order(found, [document.name for document in documents])


def of_each(documents: tuple[Document, ...], asked: Iterable[str]) -> tuple[Finding, ...]:
    """What the rules find that need one card at a time."""
    asked = set(asked)
    each = [rule for rule in all_rules() if rule.check and rule.id in asked]
    # Card after card, so that what was read of one is still at hand for the next rule.
    found = [one for card in documents for rule in each for one in rule.findings((card,))]
    for rule in all_rules():
        if rule.together and rule.apart and rule.id in asked:
            found += rule.findings(documents)
    return tuple(_left(found, documents))


def of_all(documents: tuple[Document, ...], asked: Iterable[str]) -> tuple[Finding, ...]:
    """What the rules find that compare the cards with each other."""
    asked = set(asked)
    found: list[Finding] = []
    for rule in all_rules():
        if rule.together and not rule.apart and rule.id in asked:
            found += rule.findings(documents)
    return tuple(_left(found, documents))


def in_order(findings: Iterable[Finding], names: Iterable[str]) -> tuple[Finding, ...]:
    """Each finding once, by file, line and rule."""
    order = {name: index for index, name in enumerate(names)}
    return tuple(sorted(set(findings), key=lambda f: (order[f.file], f.line, f.rule, f.message)))


def _left(found: Iterable[Finding], documents: tuple[Document, ...]) -> Iterator[Finding]:
    """Findings that no comment takes back."""
    taken_back = {document.name: ignored(document) for document in documents}
    for finding in found:
        if not any(comment.covers(finding) for comment in taken_back[finding.file]):
            yield finding
