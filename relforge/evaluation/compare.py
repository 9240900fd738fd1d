"""The consistency verdict: is a release as good as its reference, on the same questions?"""

from __future__ import annotations

from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.interface import EvaluationResult
from relforge.evaluation.paired import mcnemar_p, tango_interval
from relforge.frozen import Frozen
from relforge.stage import Verdict

Conclusion = Literal["non-inferior", "inferior", "inconclusive"]
_VERDICTS: dict[Conclusion, Verdict] = {
    "non-inferior": "pass",
    "inferior": "fail",
    "inconclusive": "inconclusive",
}


class Comparison(Frozen):
    """A result against its reference. Differences are result minus reference, in points."""

    n: int
    reference_correct: int
    result_correct: int
    only_reference: int
    """Questions that only the reference answered correctly."""
    only_result: int
    difference_points: float
    interval_points: tuple[float, float]
    """Tango's score interval of the difference."""
    confidence: float
    p_value: float
    """Exact McNemar test of no difference, two-sided."""
    margin_points: float
    """Declared before the run: the loss that would still be accepted."""
    conclusion: Conclusion

    @property
    def verdict(self) -> Verdict:
        """``pass`` when non-inferior, ``fail`` when inferior."""
        return _VERDICTS[self.conclusion]

    @property
    def reason(self) -> str:
        """One sentence for console, record and card."""
        low, high = self.interval_points
        return (
            f"{self.conclusion}: {self.difference_points:+.2f} points "
            f"[{low:+.2f}, {high:+.2f}] at {self.confidence:.0%} confidence, "
            f"margin {self.margin_points:g}, n = {self.n}"
        )


def compare(
    reference: EvaluationResult,
    result: EvaluationResult,
    *,
    margin_points: float,
    confidence: float = 0.95,
) -> Comparison:
    """Compares outcomes question by question.

    ``non-inferior`` when the interval's lower bound lies above -margin, ``inferior`` when its
    upper bound lies below, else ``inconclusive``. A reference with more questions is cut to the
    result's first: ``reference.only(o.id for o in result.outcomes)``.

    Raises RelforgeError (GATE) when settings, n or questions differ, ENVIRONMENT without SciPy.
    """
    _refuse_unequal(reference, result)
    was_right = {outcome.id: outcome.correct for outcome in reference.outcomes}
    pairs = [(was_right[outcome.id], outcome.correct) for outcome in result.outcomes]
    only_reference = pairs.count((True, False))
    only_result = pairs.count((False, True))
    n = len(pairs)
    low, high = tango_interval(only_reference, only_result, n, confidence)
    interval = (100 * low, 100 * high)
    return Comparison(
        n=n,
        reference_correct=reference.k,
        result_correct=result.k,
        only_reference=only_reference,
        only_result=only_result,
        difference_points=100 * (only_result - only_reference) / n,
        interval_points=interval,
        confidence=confidence,
        p_value=mcnemar_p(only_reference, only_result),
        margin_points=margin_points,
        conclusion=conclude(interval, margin_points),
    )


def conclude(interval_points: tuple[float, float], margin_points: float) -> Conclusion:
    """The conclusion that an interval of the difference allows, given the accepted loss."""
    low, high = interval_points
    if low > -margin_points:
        return "non-inferior"
    return "inferior" if high < -margin_points else "inconclusive"


def _refuse_unequal(reference: EvaluationResult, result: EvaluationResult) -> None:
    if unlike := reference.settings.differences(result.settings):
        raise _refused(
            "were made with other settings", "reference and result: " + "; ".join(unlike)
        )
    if reference.n != result.n:
        raise _refused("have unequal n", f"reference {reference.n}, result {result.n}")
    asked = {outcome.id: (outcome.question, outcome.expected) for outcome in reference.outcomes}
    for outcome in result.outcomes:
        if outcome.id not in asked:
            raise _refused("asked other questions", f"{outcome.id} is not in the reference")
        if asked[outcome.id] != (outcome.question, outcome.expected):
            raise _refused(
                "asked other questions",
                f"{outcome.id} is {asked[outcome.id]!r} in the reference, "
                f"{(outcome.question, outcome.expected)!r} in the result",
            )


def _refused(what: str, why: str) -> RelforgeError:
    return RelforgeError(
        f"reference and result cannot be compared: they {what}",
        code=ExitCode.GATE,
        why=why,
        hint="evaluate with the reference's settings and questions, or measure the reference anew",
    )
