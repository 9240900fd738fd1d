"""The consistency verdict: is a release as good as its reference, on the same questions?"""

from __future__ import annotations

import math

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.interface import EvaluationResult, EvaluationSettings
from relforge.evaluation.statistics.clustered import design_effect
from relforge.evaluation.statistics.judging import (
    CONFIDENCE,
    Conclusion,
    Judgement,
    Pairs,
    judge,
    sentence,
)
from relforge.evaluation.statistics.paired import mcnemar_p
from relforge.events import Verdict

_VERDICTS: dict[Conclusion, Verdict] = {
    "non-inferior": "pass",
    "inferior": "fail",
    "inconclusive": "inconclusive",
}


class Comparison(Judgement):
    """A result against its reference, question by question; the interval is Tango's."""

    n: int
    reference_correct: int
    result_correct: int
    only_reference: int
    """Questions that only the reference answered correctly."""
    only_result: int
    groups: int | None
    """Groups that the questions stand in, and the interval allows for; None where in none."""
    p_value: float
    """No difference at all, two-sided: the exact McNemar test; with groups Tango's, which
    allows for them."""

    @property
    def verdict(self) -> Verdict:
        """``pass`` when non-inferior, ``fail`` when inferior."""
        return _VERDICTS[self.conclusion]

    @property
    def reason(self) -> str:
        """One sentence for console, record and card."""
        return sentence(self, str(self.n))


def compare(
    reference: EvaluationResult,
    result: EvaluationResult,
    *,
    margin_points: float,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compares outcomes question by question.

    ``non-inferior`` when the interval's lower bound lies above -margin, ``inferior`` when its
    upper bound lies below, else ``inconclusive``. A reference with more questions is cut to the
    result's first: ``reference.only(o.id for o in result.outcomes)``.

    Raises RelforgeError (GATE) when settings, n, questions or their groups differ, ENVIRONMENT
    without SciPy.
    """
    _refuse_unequal(reference, result)
    was_right = {outcome.id: outcome.correct for outcome in reference.outcomes}
    pairs = [(was_right[outcome.id], outcome.correct) for outcome in result.outcomes]
    lost, won, n = pairs.count((True, False)), pairs.count((False, True)), len(pairs)
    groups = _groups(result)
    sample, p_value = Pairs(lost, won, n), mcnemar_p(lost, won)
    if groups is not None:
        differences = [int(after) - int(before) for before, after in pairs]
        sample = Pairs(lost, won, n, design_effect(differences, groups, confidence))
        p_value = math.erfc(abs(sample.score(0.0)) / math.sqrt(2))
    judged = judge(sample, margin_points=margin_points, confidence=confidence)
    return Comparison(
        **judged.model_dump(),
        n=n,
        reference_correct=reference.k,
        result_correct=result.k,
        only_reference=lost,
        only_result=won,
        groups=None if groups is None else len(set(groups)),
        p_value=p_value,
    )


def _groups(result: EvaluationResult) -> list[str] | None:
    """The group of each question; None where no two questions share one."""
    groups = [outcome.id if outcome.group is None else outcome.group for outcome in result.outcomes]
    if len(set(groups)) == len(groups):
        return None
    if len(set(groups)) == 1:
        raise _refused("have one group of questions alone", "groups cannot be told apart")
    return groups


def refuse_unlike(reference: EvaluationSettings, result: EvaluationSettings) -> None:
    """Raises RelforgeError (GATE) where settings differ that decide the answers."""
    if unlike := reference.differences(result):
        raise _refused(
            "were made with other settings", "reference and result: " + "; ".join(unlike)
        )


def _refuse_unequal(reference: EvaluationResult, result: EvaluationResult) -> None:
    refuse_unlike(reference.settings, result.settings)
    if reference.n != result.n:
        raise _refused("have unequal n", f"reference {reference.n}, result {result.n}")
    asked = {outcome.id: outcome for outcome in reference.outcomes}
    for outcome in result.outcomes:
        if (other := asked.get(outcome.id)) is None:
            raise _refused("asked other questions", f"{outcome.id} is not in the reference")
        was, now = (other.question, other.expected), (outcome.question, outcome.expected)
        if was != now:
            raise _refused(
                "asked other questions",
                f"{outcome.id} is {was!r} in the reference, {now!r} in the result",
            )
        sent = {one for one in (other.prompt_sha256, outcome.prompt_sha256) if one is not None}
        if len(sent) > 1:
            raise _refused("sent other prompts", f"that of {outcome.id} differs: its examples do")
        if other.group != outcome.group:
            raise _refused(
                "put questions into other groups",
                f"{outcome.id} is in {other.group!r} in the reference, {outcome.group!r} in the "
                "result",
            )


def _refused(what: str, why: str) -> RelforgeError:
    return RelforgeError(
        f"reference and result cannot be compared: they {what}",
        code=ExitCode.GATE,
        why=why,
        hint="evaluate with the reference's settings and questions, or measure the reference anew",
    )
