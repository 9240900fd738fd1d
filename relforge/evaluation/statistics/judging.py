"""The verdict on a difference: is the loss smaller than the margin, larger, or can nobody tell?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from relforge.evaluation.statistics.independent import newcombe_interval, newcombe_score
from relforge.evaluation.statistics.library import library
from relforge.evaluation.statistics.paired import tango_interval, tango_score
from relforge.frozen import Frozen

Conclusion = Literal["non-inferior", "inferior", "inconclusive"]
CONFIDENCE = 0.95
"""Of the two-sided interval: each side of the margin is tested at 2.5 %."""
MOST_QUESTIONS = 10**9
"""Nobody asks more: what needs more is called undecidable."""


class Sample(Protocol):
    """A reference's and a result's answers, as far as they are known. Differences are fractions."""

    @property
    def difference(self) -> float:
        """Result minus reference."""
        ...

    def interval(self, confidence: float) -> tuple[float, float]:
        """The interval of the difference."""
        ...

    def score(self, difference: float) -> float:
        """Standard errors by which the observed difference exceeds another."""
        ...

    def at(self, n: float) -> Sample:
        """The same shares, observed on n questions."""
        ...


@dataclass(frozen=True)
class Pairs:
    """It is known which questions each answered: Tango's interval."""

    only_reference: float
    only_result: float
    n: float
    design_effect: float = 1.0
    """Above 1 where questions stand in groups; counts are divided by it."""

    @property
    def difference(self) -> float:
        return (self.only_result - self.only_reference) / self.n

    def interval(self, confidence: float) -> tuple[float, float]:
        return tango_interval(*self._counts, confidence)

    def score(self, difference: float) -> float:
        return tango_score(*self._counts, difference)

    def at(self, n: float) -> Pairs:
        share = n / self.n
        lost, won = share * self.only_reference, share * self.only_result
        return replace(self, only_reference=lost, only_result=won, n=n)

    @property
    def _counts(self) -> tuple[float, float, float]:
        # Fewer than one independent question is none; one says as little as can be said.
        by = min(self.design_effect, self.n)
        return self.only_reference / by, self.only_result / by, self.n / by


@dataclass(frozen=True)
class Shares:
    """Only the shares of right answers are known: Newcombe's interval."""

    reference_correct: float
    result_correct: float
    n: float

    @property
    def difference(self) -> float:
        return (self.result_correct - self.reference_correct) / self.n

    def interval(self, confidence: float) -> tuple[float, float]:
        return newcombe_interval(self.reference_correct, self.result_correct, self.n, confidence)

    def score(self, difference: float) -> float:
        return newcombe_score(self.reference_correct, self.result_correct, self.n, difference)

    def at(self, n: float) -> Shares:
        share = n / self.n
        return Shares(share * self.reference_correct, share * self.result_correct, n)


class Judgement(Frozen):
    """A difference with its interval and verdict. Result minus reference, in points."""

    difference_points: float
    interval_points: tuple[float, float]
    confidence: float
    margin_points: float
    """Declared before the run: the loss that would still be accepted."""
    conclusion: Conclusion
    n_to_decide: int | None
    """Questions that would decide an inconclusive one at the same shares; None where it is decided,
    or where no number would decide it because the loss is just the margin."""
    p_non_inferior: float
    """One-sided: how likely at least this difference is if the true loss is just the margin."""
    p_inferior: float
    """One-sided: how likely at most this difference is if the true loss is just the margin."""


def judge(sample: Sample, *, margin_points: float, confidence: float = CONFIDENCE) -> Judgement:
    """The verdict that a sample allows. Raises RelforgeError (ENVIRONMENT) without extra ``eval``.

    The interval's bounds against the margin are two one-sided tests at half of 1 - confidence
    (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15:657-680; for
    non-inferiority: ICH E9, section 3.3.2).
    """
    low, high = sample.interval(confidence)
    interval = (100 * low, 100 * high)
    conclusion = conclude(interval, margin_points)
    z = sample.score(-margin_points / 100)
    return Judgement(
        difference_points=100 * sample.difference,
        interval_points=interval,
        confidence=confidence,
        margin_points=margin_points,
        conclusion=conclusion,
        n_to_decide=n_to_decide(sample, margin_points=margin_points, confidence=confidence)
        if conclusion == "inconclusive"
        else None,
        p_non_inferior=_tail(z),
        p_inferior=_tail(-z),
    )


def sentence(judged: Judgement, n: str) -> str:
    """One sentence for console, record and card; *n* as it is to be written."""
    low, high = judged.interval_points
    return (
        f"{judged.conclusion}: {judged.difference_points:+.2f} points "
        f"[{low:+.2f}, {high:+.2f}] at {judged.confidence:.0%} confidence, "
        f"margin {judged.margin_points:g}, n = {n}"
        + (f"; n = {judged.n_to_decide} would decide it" if judged.n_to_decide else "")
    )


def conclude(interval_points: tuple[float, float], margin_points: float) -> Conclusion:
    """The conclusion that an interval of the difference allows, given the accepted loss.

    ``non-inferior`` when its lower bound lies above -margin, ``inferior`` when its upper bound
    lies below, else ``inconclusive``.
    """
    low, high = interval_points
    if low > -margin_points:
        return "non-inferior"
    return "inferior" if high < -margin_points else "inconclusive"


def n_to_decide(
    sample: Sample, *, margin_points: float, confidence: float = CONFIDENCE
) -> int | None:
    """The smallest n whose interval, at the observed shares, has -margin no longer inside.

    None where no n up to 10^9 has: the observed loss is the margin, or all but.
    """
    if math.isclose(100 * sample.difference, -margin_points, abs_tol=1e-9):
        return None

    def decides(n: int) -> bool:
        low, high = sample.at(n).interval(confidence)
        return conclude((100 * low, 100 * high), margin_points) != "inconclusive"

    above = 1
    while not decides(above):
        above *= 2
        if above > MOST_QUESTIONS:
            return None
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if decides(middle) else (middle, above)
    return above


@dataclass(frozen=True)
class Overall:
    """Several tasks together."""

    conclusion: Conclusion
    each: tuple[Conclusion, ...]
    """What can be said of every task at once, in the order of the judgements."""


def overall(judgements: Sequence[Judgement]) -> Overall:
    """What several tasks say together. Raises ValueError for none.

    Of twenty tasks one looks bad by luck, and one looks good: what is said of single tasks is held
    by Holm's step-down procedure (Holm 1979, Scandinavian Journal of Statistics 6:65-70), for both
    sides of the margin, so that the chance of any wrong one stays at half of 1 - confidence on
    either side. ``inferior`` when a task still is after that. ``non-inferior`` when every single
    verdict is: to claim all of them needs no correction, because the weakest already has to hold by
    itself (intersection-union test; Berger 1982, Technometrics 24:295-300). Else ``inconclusive``.
    """
    if not judgements:
        raise ValueError("no task was judged")
    level = (1 - judgements[0].confidence) / 2
    holds = holm([one.p_non_inferior for one in judgements], level)
    fails = holm([one.p_inferior for one in judgements], level)
    each: list[Conclusion] = []
    for good, bad in zip(holds, fails, strict=True):
        each.append("non-inferior" if good else "inferior" if bad else "inconclusive")
    conclusion: Conclusion = "inconclusive"
    if any(fails):
        conclusion = "inferior"
    elif all(one.conclusion == "non-inferior" for one in judgements):
        conclusion = "non-inferior"
    return Overall(conclusion, tuple(each))


def holm(p_values: list[float], level: float) -> list[bool]:
    """Which hypotheses are rejected so that any wrong rejection has at most the chance ``level``.

    Raises RelforgeError (ENVIRONMENT) without extra ``eval``.
    """
    rejected = library("statsmodels.stats.multitest").multipletests(
        p_values, alpha=level, method="holm"
    )[0]
    return [bool(one) for one in rejected]


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))
