"""The verdict on a model's tokens: as often right as native torch, within a margin?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from relforge.evaluation.statistics.paired import tango_score
from relforge.tuning.asking import Outcome

CONFIDENCE = 0.95
"""Of the two-sided interval, as for releases."""


def judged(
    native: Sequence[bool], result: Sequence[bool], margin_points: float
) -> tuple[Outcome, str]:
    """Whether *result* is right at most *margin_points* less often than *native*, and why.

    Both tell of the same positions whether the token was right. Tango's score at the margin against
    the normal quantile is the same as his interval against the margin
    (relforge.evaluation.statistics.judging) and needs no SciPy.
    """
    n = len(native)
    lost = sum(a and not b for a, b in zip(native, result, strict=True))
    won = sum(b and not a for a, b in zip(native, result, strict=True))
    score = tango_score(lost, won, n, -margin_points / 100)
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    outcome: Outcome = "pass" if score > z else "fail" if score < -z else "inconclusive"
    right = f"{sum(result)} of {n} tokens right, {sum(native)} in native torch"
    return outcome, f"{right}; {lost} lost, {won} won"
