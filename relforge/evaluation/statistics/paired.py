"""Statistics of paired yes/no outcomes: two systems answered the same n questions.

Of the four cells only the discordant ones matter beside n: ``only_first`` questions were right
with the first system alone, ``only_second`` with the second alone. SciPy (extra ``eval``) is
imported when a function runs.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from relforge.evaluation.statistics.library import library

_EDGE = 1e-12
"""How near to a difference of -1 or 1, where the score's variance vanishes, roots are sought."""


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided p-value of the exact McNemar test (McNemar 1947, Psychometrika 12:153-157).

    Given their number, the discordant questions fall to either side with probability 1/2 when
    both systems are equally good; without discordant questions p is 1.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    test = library("scipy.stats").binomtest(only_first, discordant, 0.5)
    return float(test.pvalue)


def tango_interval(
    only_first: float, only_second: float, n: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Score interval for the difference of paired proportions, second minus first, as fractions.

    Tango T (1998), Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design, Statistics in Medicine 17:891-908. The bounds are the roots D of
    T(D) = +z and T(D) = -z, with b = only_second, c = only_first and::

        T(D) = (b - c - n D) / sqrt(n (2 q(D) + D (1 - D)))
        q(D) = (sqrt(B^2 - 4 A C) - B) / (2 A)
        A = 2 n,  B = -b - c + (2 n - b + c) D,  C = -c D (1 - D)

    where q(D) is the maximum-likelihood estimate of the probability of the cell c under the
    restriction that the difference is D. Unlike Wald's, the interval has a width where no
    question is discordant. Counts need not be whole: the same shares of another n, or counts
    divided by a design effect, have an interval, too.
    """
    _check_counts(only_first, only_second, n)
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not at {confidence}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    estimate = (only_second - only_first) / n

    def above(difference: float) -> float:
        return _score(difference, only_second, only_first, n) - z

    def below(difference: float) -> float:
        return _score(difference, only_second, only_first, n) + z

    brentq = library("scipy.optimize").brentq
    low, high = -1.0, 1.0
    if only_first < n:
        low = float(brentq(above, -1 + _EDGE, estimate, xtol=1e-12))
    if only_second < n:
        high = float(brentq(below, estimate, 1 - _EDGE, xtol=1e-12))
    return low, high


def tango_score(only_first: float, only_second: float, n: float, difference: float) -> float:
    """T(D) of ``tango_interval``: standard errors by which the observed difference exceeds D."""
    _check_counts(only_first, only_second, n)
    return _score(difference, only_second, only_first, n)


def _check_counts(only_first: float, only_second: float, n: float) -> None:
    # Counts that were scaled add up to n but for the last bit.
    if n < 1 or min(only_first, only_second) < 0 or only_first + only_second > n * (1 + 1e-12):
        raise ValueError(f"no {n} pairs have {only_first} and {only_second} discordant ones")


def _score(difference: float, b: float, c: float, n: float) -> float:
    distance = b - c - n * difference
    if abs(distance) < 1e-12:
        return 0.0
    first = -b - c + (2 * n - b + c) * difference
    second = -c * difference * (1 - difference)
    root = math.sqrt(max(0.0, first * first - 8 * n * second))
    # Of the two equal forms of q, the one that subtracts no nearly equal numbers.
    q = -2 * second / (root + first) if first > 0 else (root - first) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
