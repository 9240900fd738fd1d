"""What a rule is, and how one pass over bytes finds the places that rules look at.

Searching gigabytes with dozens of expressions takes minutes. So every rule has anchors, literal
bytes that stand in whatever it recognises; one automaton (Aho-Corasick) finds all of them at
once, and only there the rule itself looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import ahocorasick_rs

from relforge.scanning.hits import Kind

CONTEXT = 32 << 10
"""Bytes before and behind an anchor that a rule may look at, also where a file comes in pieces."""


@dataclass(frozen=True)
class Rule:
    """One thing to recognise. ``confirm(data, at)`` says whether it is there, for an anchor at
    ``at``; with ``folded`` both anchors and ``data`` are in lower case (ASCII)."""

    kind: Kind
    name: str
    what: str
    anchors: tuple[bytes, ...]
    confirm: Callable[[bytes, int], bool]
    folded: bool = False
    final: bool = False
    """No policy lets it through: it is the very thing, not what looks like it."""


@dataclass(frozen=True)
class Match:
    """A confirmed rule, at an offset of the content."""

    rule: Rule
    at: int


class Searcher:
    """All rules of a scan, ready to search."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        every = tuple(rules)
        self.exact = _Automaton([rule for rule in every if not rule.folded])
        self.folded = _Automaton([rule for rule in every if rule.folded])

    def search(self, data: bytes, start: int = 0, end: int | None = None) -> Iterator[Match]:
        """Matches whose anchors begin in ``data[start:end]``; the rest is context."""
        last = len(data) if end is None else end
        yield from self.exact.search(data, start, last)
        if self.folded.rules:
            yield from self.folded.search(data.lower(), start, last)


class _Automaton:
    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        by_anchor: dict[bytes, list[Rule]] = {}
        for rule in rules:
            for anchor in rule.anchors:
                by_anchor.setdefault(anchor, []).append(rule)
        # An anchor that begins with another one would never be found beside it: it is looked for
        # where that one is.
        self._short = [
            anchor
            for anchor in sorted(by_anchor)
            if not any(anchor != other and anchor.startswith(other) for other in by_anchor)
        ]
        self._longer = [
            [(a, rule) for a in by_anchor if a.startswith(short) for rule in by_anchor[a]]
            for short in self._short
        ]
        self._found = ahocorasick_rs.BytesAhoCorasick(self._short) if self._short else None

    def search(self, data: bytes, start: int, end: int) -> Iterator[Match]:
        if self._found is None:
            return
        for number, at, _ in self._found.find_matches_as_indexes(data):
            if not start <= at < end:
                continue
            for anchor, rule in self._longer[number]:
                if data.startswith(anchor, at) and rule.confirm(data, at):
                    yield Match(rule, at)
