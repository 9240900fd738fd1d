"""Many cards at once, on all processors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from relforge.card.lint.check import in_order, lint, of_all, of_each
from relforge.card.lint.document import Document, parse
from relforge.card.lint.finding import Finding
from relforge.card.lint.rules import all_rules

_MANY = 100
"""Below this a second process costs more than it saves."""
_AT_ONCE = 50


@dataclass(frozen=True)
class Card:
    """A card's text and where it is from; ``base`` as in ``Document``."""

    name: str
    text: str
    base: Path | None


def lint_cards(
    cards: Iterable[Card], *, without: Iterable[str] = (), processes: int | None = None
) -> tuple[Finding, ...]:
    """What `lint` finds in the cards. ``processes``: as many as there are processors, if None."""
    cards = list(cards)
    without = frozenset(without)
    processes = processes or len(os.sched_getaffinity(0))
    if len(cards) < _MANY or processes == 1:
        return lint((parse(one.text, one.name, one.base) for one in cards), without=without)
    asked = frozenset(rule.id for rule in all_rules()) - without
    parts = [cards[at : at + _AT_ONCE] for at in range(0, len(cards), _AT_ONCE)]
    found: list[Finding] = []
    documents: list[Document] = []
    with ProcessPoolExecutor(processes) as pool:
        for findings, read in pool.map(partial(_part, asked), parts):
            found += findings
            documents += read
    found += of_all(tuple(documents), asked)
    return in_order(found, [one.name for one in cards])


def _part(asked: frozenset[str], cards: list[Card]) -> tuple[tuple[Finding, ...], list[Document]]:
    documents = tuple(parse(one.text, one.name, one.base) for one in cards)
    return of_each(documents, asked), [_bare(document) for document in documents]


def _bare(document: Document) -> Document:
    """The document without what was worked out of it, which is larger than itself."""
    return replace(document, blocks=tuple(replace(block) for block in document.blocks))
