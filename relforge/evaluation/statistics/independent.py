"""Statistics of two shares of right answers where nobody knows which questions they were.

What is published of an evaluation is most often a percentage. Both systems answered the same
questions, but without the answers each share has to be taken for itself: the interval is wider
than one of pairs, never narrower as long as questions that are hard for one are hard for the other.
statsmodels and SciPy (extra ``eval``) are imported when a function runs.
"""

from __future__ import annotations

import math

from relforge.evaluation.statistics.library import library

_FARTHEST = 37.0
"""Standard errors beyond which a p-value is no double any more."""


def newcombe_interval(
    first_correct: float, second_correct: float, n: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Hybrid score interval for the difference of two shares, second minus first, as fractions.

    Newcombe RG (1998), Interval estimation for the difference between independent proportions:
    comparison of eleven methods, Statistics in Medicine 17:873-890, method 10: the Wilson bounds of
    both shares, combined. Computed by statsmodels. It is preferred to the interval of Miettinen and
    Nurminen (1985, Statistics in Medicine 4:213-226) because it condemns less often near 100 %:
    with n = 198 and a true loss of just 2 points from 99.5 % that one calls 5 % of the releases
    inferior, this one 1 %; elsewhere the two agree (docs/evaluation.md).

    Counts need not be whole: a mean over repeats, or the same shares of another n, have one, too.
    Raises ValueError for counts outside of 0 to n.
    """
    _check(first_correct, second_correct, n)
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not at {confidence}")
    return _newcombe(first_correct, second_correct, n, 1 - confidence)


def newcombe_score(
    first_correct: float, second_correct: float, n: float, difference: float
) -> float:
    """Standard errors by which the observed difference exceeds another, as the interval has them.

    That is the z whose interval just reaches ``difference``: negative where the observed one is the
    smaller. Beyond 37 it is 37.
    """
    _check(first_correct, second_correct, n)
    observed = (second_correct - first_correct) / n
    if math.isclose(observed, difference, abs_tol=1e-12):
        return 0.0
    side = 0 if observed > difference else 1

    def distance(z: float) -> float:
        # alpha of a two-sided interval of +- z, exact also far out.
        alpha = math.erfc(z / math.sqrt(2))
        return _newcombe(first_correct, second_correct, n, alpha)[side] - difference

    sign = 1 if side == 0 else -1
    if sign * distance(_FARTHEST) > 0:
        return sign * _FARTHEST
    root = library("scipy.optimize").brentq(distance, 0.0, _FARTHEST, xtol=1e-9)
    return sign * float(root)


def _newcombe(
    first_correct: float, second_correct: float, n: float, alpha: float
) -> tuple[float, float]:
    interval = library("statsmodels.stats.proportion").confint_proportions_2indep
    low, high = interval(
        second_correct, n, first_correct, n, method="newcomb", compare="diff", alpha=alpha
    )
    return float(low), float(high)


def _check(first_correct: float, second_correct: float, n: float) -> None:
    for correct in (first_correct, second_correct):
        if n < 1 or not 0 <= correct <= n * (1 + 1e-12):
            raise ValueError(f"{correct} of {n} cannot be right")
