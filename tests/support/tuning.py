"""Models with faulty operators, for tests of the search: known truth, and verdicts with errors."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Sequence

from relforge.tuning.asking import Asked, Evaluate, Found


def names(count: int) -> list[str]:
    """Operators whose order is not that of their names."""
    return [f"op_{number}" for number in range(count)]


def fails(
    disabled: Collection[str], faulty: Collection[str], together: Sequence[Sequence[str]] = ()
) -> bool:
    """Whether a model is wrong: a faulty operator is enabled, or all of some that clash."""
    return any(one not in disabled for one in faulty) or any(
        all(one not in disabled for one in clash) for clash in together
    )


def model(faulty: Collection[str], together: Sequence[Sequence[str]] = ()) -> Evaluate:
    """Verdicts that are always right."""

    def evaluate(asked: Asked) -> Found:
        return Found("fail" if fails(asked.disabled, faulty, together) else "pass", "")

    return evaluate


def noisy(
    faulty: Collection[str], *, wrong: float, inconclusive: float = 0.0, seed: int = 0
) -> Evaluate:
    """Verdicts of which a share is wrong, and a share of those below level 2 inconclusive.

    The same questions get the same verdict, as with a deterministic server.
    """

    def evaluate(asked: Asked) -> Found:
        key = f"{seed} {sorted(asked.disabled)} {asked.part} {asked.level}"
        chance = random.Random(key)
        if asked.level < 2 and chance.random() < inconclusive:
            return Found("inconclusive", "too few questions")
        truth = fails(asked.disabled, faulty)
        return Found("fail" if truth != (chance.random() < wrong) else "pass", "")

    return evaluate


def fewest(
    operators: Sequence[str], faulty: Collection[str], together: Sequence[Sequence[str]]
) -> int:
    """The size of a smallest set to disable, by trying all."""
    return next(
        size
        for size in range(len(operators) + 1)
        for chosen in itertools.combinations(operators, size)
        if not fails(chosen, faulty, together)
    )
