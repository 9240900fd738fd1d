"""How likely each verdict is, summed exactly over all outcomes that an evaluation can have.

Nothing is drawn: the outcomes that are left out have less than one chance in 10^9 together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from scipy.stats import binom

from relforge.evaluation.statistics.judging import Conclusion, Pairs, Sample, Shares, conclude


class Chances(NamedTuple):
    """Of an evaluation's three verdicts, the two that say something."""

    non_inferior: float
    inferior: float


def of_pairs(n: int, *, lost: float, won: float, margin: float = 2) -> Chances:
    """Each question is lost with probability *lost*, won with *won*; the pairs are known."""
    good = bad = 0.0
    for k, chance in _binomial(n, lost):
        rows = _binomial(n - k, won / (1 - lost))
        first_good, first_fair = _borders_of([(j, Pairs(k, j, n)) for j, _ in rows], margin)
        good += chance * sum(part for j, part in rows if j >= first_good)
        bad += chance * sum(part for j, part in rows if j < first_fair)
    return Chances(good, bad)


def of_shares(n: int, *, accuracy: float, lost: float, won: float, margin: float = 2) -> Chances:
    """The same questions are asked, the reference is right with probability *accuracy*, and only
    how many each got right is known."""
    good = bad = 0.0
    both = (accuracy - lost) / (1 - lost - won)
    for k, first in _binomial(n, lost):
        for j, second in _binomial(n - k, won / (1 - lost)):
            if first * second < 1e-12:
                continue
            for a, third in _binomial(n - k - j, both):
                first_good, first_fair = _borders(n, a + k, margin)
                good += first * second * third * (a + j >= first_good)
                bad += first * second * third * (a + j < first_fair)
    return Chances(good, bad)


def of_two_samples(n: int, *, accuracy: float, loss: float, margin: float = 2) -> Chances:
    """Two models that answer independently of each other; only how many each got right is known."""
    good = bad = 0.0
    rows = _binomial(n, accuracy - loss)
    for k, chance in _binomial(n, accuracy):
        first_good, first_fair = _borders(n, k, margin)
        good += chance * sum(part for j, part in rows if j >= first_good)
        bad += chance * sum(part for j, part in rows if j < first_fair)
    return Chances(good, bad)


@cache
def _borders(n: int, k: int, margin: float) -> tuple[int, int]:
    return _borders_of([(j, Shares(k, j, n)) for j in range(n + 1)], margin)


def _borders_of(samples: Sequence[tuple[int, Sample]], margin: float) -> tuple[int, int]:
    """The first count that is non-inferior, and the first that is not inferior.

    More wins never make a verdict worse, so the borders are found by halving.
    """
    found = []
    for passing in (("non-inferior",), ("non-inferior", "inconclusive")):
        low, high = 0, len(samples)
        while low < high:
            middle = (low + high) // 2
            fits = _verdict(samples[middle][1], margin) in passing
            low, high = (low, middle) if fits else (middle + 1, high)
        found.append(samples[low][0] if low < len(samples) else samples[-1][0] + 1)
    return found[0], found[1]


def _verdict(sample: Sample, margin: float) -> Conclusion:
    low, high = sample.interval(0.95)
    return conclude((100 * low, 100 * high), margin)


def _binomial(n: int, p: float) -> list[tuple[int, float]]:
    width = 7 * math.sqrt(max(0.0, n * p * (1 - p))) + 4
    counts = range(max(0, int(n * p - width)), min(n, int(n * p + width)) + 1)
    return list(zip(counts, (float(one) for one in binom.pmf(counts, n, p)), strict=True))
