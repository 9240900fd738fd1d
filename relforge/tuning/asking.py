"""What the search asks, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "inconclusive"]
Purpose = Literal["baseline", "search", "confirm", "give-back", "alone", "partners", "smaller"]

SEARCH, FRESH, BOTH = 0, 1, 2
"""The two halves of the questions: one finds, the other confirms, and they share no question.
Where they contradict each other, all are asked together."""


@dataclass(frozen=True)
class Asked:
    """A verdict is wanted on the model with these operators disabled and all others enabled.

    ``level`` says how many questions: 0 for the first attempt, more after an inconclusive one.
    """

    disabled: frozenset[str]
    part: int = SEARCH
    level: int = 0


@dataclass(frozen=True)
class Found:
    """The verdict. ``evidence`` is the SHA-256 of a file that holds it, where there is one."""

    outcome: Outcome
    reason: str
    n: int = 0
    """Questions that were asked."""
    seconds: float = 0.0
    evidence: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """One verdict that was asked for, and why."""

    asked: Asked
    found: Found
    purpose: Purpose


Evaluate = Callable[[Asked], Found]
"""Raises what keeps it from a verdict; a server that dies of an operator is a verdict."""


@dataclass(frozen=True)
class Limits:
    """When the search stops with what it has. None: no limit."""

    evaluations: int | None = None
    seconds: float | None = None
    levels: int = 1
    """Numbers of questions that can be asked: ``Asked.level`` stays below."""
