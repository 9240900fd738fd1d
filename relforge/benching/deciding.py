"""Statistics of alternating runs: is B faster than A, on a machine that others use, too?

The unit is a block of four runs, A B B A or B A A B, and a block gives one number: the mean
logarithm of its two figures of B minus that of A. A drift of the machine that is linear over a
block cancels in it, and a slow hour hits both sides. SciPy (extra ``bench``) is imported when a
function runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen

Conclusion = Literal["faster", "slower", "equivalent", "undecided"]
FEWEST_BLOCKS = 3
_LOOKS = (3, 5, 8, 12, 18, 27, 40)


class Ratio(Frozen):
    """A figure of B as a multiple of A's, with its interval."""

    ratio: float
    low: float
    high: float


def looks(most_blocks: int) -> tuple[int, ...]:
    """After how many blocks it is judged whether the runs may end; the last is ``most_blocks``."""
    if most_blocks < FEWEST_BLOCKS:
        raise ValueError(f"fewer than {FEWEST_BLOCKS} blocks decide nothing")
    return (*(look for look in _LOOKS if look < most_blocks), most_blocks)


def block_effect(a: Sequence[float], b: Sequence[float]) -> float:
    """The mean logarithm of B's figures minus that of A's; all are above zero."""
    return fmean(map(math.log, b)) - fmean(map(math.log, a))


def ratio_of(effects: Sequence[float], *, looks: int, confidence: float = 0.95) -> Ratio:
    """Geometric mean of B/A over blocks, with Student's t interval of the blocks' effects.

    Who looks several times and stops when he likes what he sees is wrong more often than one look
    allows. So every one of the ``looks`` has an equal share of the error probability (Bonferroni;
    Jennison C, Turnbull BW (1999), Group Sequential Methods with Applications to Clinical Trials,
    chapter 2, has the problem): all intervals that are ever shown of one figure hold together with
    probability ``confidence`` at least. Computed by SciPy.
    """
    mean = fmean(effects)
    if max(effects) - min(effects) < 1e-12:
        return Ratio(ratio=math.exp(mean), low=math.exp(mean), high=math.exp(mean))
    test = _scipy_stats().ttest_1samp(list(effects), 0.0)
    low, high = test.confidence_interval(1 - (1 - confidence) / looks)
    return Ratio(ratio=math.exp(mean), low=math.exp(float(low)), high=math.exp(float(high)))


def judge(ratio: Ratio, *, higher_is_better: bool, margin_percent: float) -> Conclusion:
    """What an interval says of B.

    ``equivalent``: it lies within the margin around 1, so that a difference there may be is none
    that matters. Else ``faster`` or ``slower`` where it leaves out 1, and ``undecided`` where not.
    """
    margin = 1 + margin_percent / 100
    if 1 / margin < ratio.low and ratio.high < margin:
        return "equivalent"
    if ratio.low <= 1 <= ratio.high:
        return "undecided"
    return "faster" if (ratio.low > 1) == higher_is_better else "slower"


def require() -> None:
    """Raises RelforgeError (ENVIRONMENT) where SciPy is not installed: before a server starts."""
    _scipy_stats()


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise RelforgeError(
            "comparing benchmarks needs SciPy",
            code=ExitCode.ENVIRONMENT,
            why=str(error),
            hint="pip install 'relforge[bench]'",
        ) from error
    return stats
