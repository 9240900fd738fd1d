"""What the table of known causes is made of, and what a diagnosis says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

from relforge.engine.container_spec import ContainerState

Kind = Literal["root", "symptom", "request"]
"""``symptom``: what another cause brings about, reported when that one left no trace.
``request``: one request was refused; the server need not have failed."""


@dataclass(frozen=True)
class Pattern:
    """A regular expression; compiled where a log first asks for it, which few do of most."""

    source: str

    def search(self, text: str) -> re.Match[str] | None:
        """Its first match in *text*."""
        return self._compiled.search(text)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.source, re.IGNORECASE)


@dataclass(frozen=True)
class KnownCause:
    """One row of the table.

    ``patterns`` are searched in single lines; their named groups become the facts of the cause. A
    root that ``state`` proves outranks all of them.
    """

    id: str
    explanation: str
    remedy: str
    field: str
    seen: tuple[str, ...]
    """Where it was seen: a test that produces it (``tests/...::test_...``), or the public issue
    whose log has the line (an address)."""
    patterns: tuple[Pattern, ...] = ()
    unless: tuple[Pattern, ...] = ()
    """A line that has one of these is no evidence."""
    kind: Kind = "root"
    state: Callable[[ContainerState], bool] = lambda _state: False

    @cached_property
    def words(self) -> tuple[str, ...]:
        """One for each pattern: without it in a line, in lower case, the pattern cannot match."""
        return tuple(required_word(pattern.source) for pattern in self.patterns)

    def match(self, text: str, low: str) -> re.Match[str] | None:
        """The evidence in a line; *low* is the line in lower case."""
        for word, pattern in zip(self.words, self.patterns, strict=True):
            found = pattern.search(text) if word in low else None
            if found is not None:
                return None if any(other.search(text) for other in self.unless) else found
        return None

    @property
    def provenance(self) -> Literal["produced", "reported"]:
        """``produced`` here by a test, or ``reported`` by others in a public issue."""
        return (
            "reported" if all(place.startswith("https://") for place in self.seen) else ("produced")
        )


def patterns(*sources: str) -> tuple[Pattern, ...]:
    """For logs, where case says nothing.

    Repetitions in them are bounded, so that a line of megabytes costs time in its length only.
    """
    return tuple(Pattern(source) for source in sources)


def required_word(source: str) -> str:
    """The longest text, in lower case, that everything a pattern matches contains.

    A log is searched for these words first, which is a hundred times as fast as for patterns.
    Knows what the table's patterns are made of; raises ValueError where they have none of five
    signs, or alternatives at their top.
    """
    best, run, depth = "", "", 0
    parts = [*_PARTS.findall(source), ""]
    for part, after in pairwise(parts):
        depth += part.startswith("(") - (part == ")")
        if part == "|" and depth == 0:
            raise ValueError(f"alternatives at the top of {source!r}")
        literal = part[1:] if part[0] == "\\" and not part[1:].isalnum() else part
        special = len(literal) != 1 or part in _SPECIAL or part.startswith("{")
        if depth or special or after[:1] in _MAY_BE_ABSENT:
            best, run = max(best, run, key=len), ""
        else:
            run += literal
    best = max(best, run, key=len).lower()
    if len(best) < _SHORTEST_WORD:
        raise ValueError(f"no text is part of everything that {source!r} matches")
    return best


_SHORTEST_WORD = 5
_SPECIAL = frozenset(".^$()|?*+")
_MAY_BE_ABSENT = ("?", "*", "{")
_PARTS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]|\{[\d,]+\}|\((?:\?(?:P<\w+>|[:=!]|<[=!]))?|.")


def ended_with(*codes: int) -> Callable[[ContainerState], bool]:
    """The state of a container that ended with one of these exit statuses."""
    return lambda state: state.status == "exited" and state.exit_code in codes
