"""Figures: scores in percent without the answers behind them, and what they can be.

A plain accuracy of n questions is k / n: of all percentages with two decimals, 1,319 questions can
give one in seven or eight. A figure that no k gives was made of other questions than it says, or
copied wrongly, and is refused rather than compared.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.statistics.datasets import dataset_of
from relforge.evaluation.statistics.judging import (
    CONFIDENCE,
    MOST_QUESTIONS,
    Judgement,
    Shares,
    judge,
)
from relforge.frozen import Frozen
from relforge.manifest.common import PositiveInt
from relforge.manifest.reference import AskedWith, ReferenceFigure

# Names of metrics without case, dots and underscores. What is a share of right answers ...
_PLAIN = ("acc", "accuracy", "accnorm", "averageaccuracy", "em", "exactmatch")
# ... and what can be a mean of several answers to each question, or of several subjects.
_AVERAGED = ("meanacc", "naiveaverage", "pass1", "weightedaverage", "weightedaverageaccuracy")


class Figure(Frozen):
    """One score of a task, as somebody printed it."""

    task: str
    metric: str
    percent: Decimal
    off_by: Decimal
    """Half a unit of its last digit: the real score lies no farther away."""
    n: PositiveInt | None = None
    assumed: bool = False
    """n is the size of the dataset: the figure does not say how many questions were asked."""
    settings: AskedWith = AskedWith()
    where: str | None = None
    """``file:line``."""


class FigureComparison(Judgement):
    """A figure against its reference, each taken for itself; the interval is Newcombe's."""

    task: str
    metric: str
    n: int
    assumed: bool
    reference_percent: Decimal
    result_percent: Decimal


def figure_of_reference(name: str, one: ReferenceFigure) -> Figure:
    """A figure of a reference of the project."""
    percent, off_by = printed(str(one.value))
    return Figure(
        task=one.task,
        metric=one.metric,
        percent=percent,
        off_by=off_by,
        n=one.n,
        settings=one.settings,
        where=f"reference {name}",
    )


def printed(text: str) -> tuple[Decimal, Decimal]:
    """A number as it was printed, and half a unit of its last digit. Raises ValueError."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number") from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{text!r} is no finite number")
    return number, Decimal(5).scaleb(min(exponent, 0) - 1)


def is_share(metric: str) -> bool:
    """Whether a metric is known to be a share of right answers, or a mean of such."""
    return _key(metric) in _PLAIN + _AVERAGED


def sized(figure: Figure) -> Figure:
    """The figure with its n; where it says none, the size of the dataset, marked as assumed.

    Raises RelforgeError (USAGE) where that is not known.
    """
    if figure.n is not None:
        if figure.n > MOST_QUESTIONS:
            raise _refused(figure, f"of {figure.n} questions: nobody asks so many", "correct n")
        return figure
    dataset = dataset_of(figure.task)
    if dataset is None:
        raise _refused(figure, "does not say how many questions were asked", "name them: n, or --n")
    return figure.model_copy(update={"n": dataset.n, "assumed": True})


def right_answers(figure: Figure) -> float:
    """How many of n are right: the k that gives a plain accuracy as it is printed.

    A mean over repeats or subjects may be none of k / n; then it is the share of n, not whole.

    Raises RelforgeError (USAGE) when it is out of 0 to 100, the metric is no share, n is not known
    or no k gives the figure.
    """
    figure = sized(figure)
    assert figure.n is not None
    if not is_share(figure.metric):
        raise _refused(
            figure,
            f"is not known to be a share of right answers ({figure.metric})",
            "compare an accuracy, or import with another --metric",
        )
    if not 0 <= figure.percent <= 100:
        raise _refused(figure, "is no percentage", "write percent: 95.07, not 0.9507")
    k = possible_k(figure.percent, figure.off_by, figure.n)
    if k is not None:
        return k
    if _key(figure.metric) in _PLAIN:
        raise _refused(
            figure,
            f"is no accuracy of {figure.n} questions: {_neighbours(figure.percent, figure.n)}",
            "correct n or the figure; for a mean over repeats or subjects name the metric pass@1 "
            "or naive_average",
        )
    return float(figure.percent) * figure.n / 100


def possible_k(percent: Decimal, off_by: Decimal, n: int) -> int | None:
    """The k nearest to *percent* of n, where 100 k / n, rounded, can have been printed so."""
    exact = Fraction(percent)
    k = round(exact * n / 100)
    return k if abs(Fraction(100 * k, n) - exact) <= Fraction(off_by) else None


def compare_figures(
    reference: Figure, result: Figure, *, margin_points: float, confidence: float = CONFIDENCE
) -> FigureComparison:
    """Compares two figures of one task.

    Raises RelforgeError: USAGE when n or known settings differ or a figure is impossible,
    ENVIRONMENT without extra ``eval``.
    """
    reference, result = sized(reference), sized(result)
    assert reference.n is not None
    if reference.n != result.n:
        raise _refused(
            result,
            f"has n = {result.n}{' (assumed)' if result.assumed else ''}, its reference "
            f"{reference.n}{' (assumed)' if reference.assumed else ''}",
            "compare what was asked the same questions",
        )
    if unlike := reference.settings.differences(result.settings):
        raise _refused(
            result,
            "was asked with other settings than its reference: " + "; ".join(unlike),
            "measure one of them with the other's settings",
        )
    judged = judge(
        Shares(right_answers(reference), right_answers(result), reference.n),
        margin_points=margin_points,
        confidence=confidence,
    )
    return FigureComparison(
        **judged.model_dump(),
        task=reference.task,
        metric=result.metric,
        n=reference.n,
        assumed=reference.assumed or result.assumed,
        reference_percent=reference.percent,
        result_percent=result.percent,
    )


def _neighbours(percent: Decimal, n: int) -> str:
    """The possible values below and above: ``1253 give 95.00, 1254 give 95.07``."""
    below = int(Fraction(percent) * n / 100)
    exponent = percent.as_tuple().exponent
    digits = max(2, -exponent if isinstance(exponent, int) else 2)
    return ", ".join(
        f"{k} right give {100 * k / n:.{digits}f} %" for k in (below, below + 1) if k <= n
    )


def _key(metric: str) -> str:
    # lm-eval names the filter behind a comma.
    return re.sub(r"[^a-z0-9]", "", metric.partition(",")[0].casefold())


def _refused(figure: Figure, what: str, hint: str) -> RelforgeError:
    return RelforgeError(
        f"{figure.task}: {figure.percent} % {what}",
        code=ExitCode.USAGE,
        where=figure.where,
        hint=hint,
    )
