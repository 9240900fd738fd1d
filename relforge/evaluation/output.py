"""What ``relforge eval compare`` prints."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from relforge.evaluation.compare import Comparison
from relforge.evaluation.statistics.figures import FigureComparison
from relforge.evaluation.statistics.judging import Conclusion, Judgement, Overall, sentence
from relforge.evaluation.statistics.sets import Compared
from relforge.frozen import Frozen

_DIGITS = 4


class ComparisonOutput(Frozen):
    """What ``relforge eval compare --json`` prints; rows of several tasks have a ``task`` besides.

    ``difference`` and ``interval`` are in points, result minus reference.
    """

    difference: float
    interval: tuple[float, float]
    verdict: Conclusion
    n_to_decide: int | None
    """Questions that would decide an inconclusive one; None where decided, or where none would."""


def output(judged: Judgement) -> dict[str, Any]:
    """A judgement as ``--json`` has it."""
    low, high = judged.interval_points
    return ComparisonOutput(
        difference=round(judged.difference_points, _DIGITS),
        interval=(round(low, _DIGITS), round(high, _DIGITS)),
        verdict=judged.conclusion,
        n_to_decide=judged.n_to_decide,
    ).model_dump(mode="json")


def rows_output(compared: Compared) -> list[dict[str, Any]]:
    """Rows as ``--json`` has them."""
    return [{"task": row.task, **output(row)} for row in compared.rows]


def of_figures(row: FigureComparison) -> str:
    """One comparison of figures, in a sentence."""
    return sentence(row, _n(row))


def of_answers(comparison: Comparison) -> str:
    """One comparison of answers: the sentence, and what it rests on."""
    grouped = f" in {comparison.groups} groups" if comparison.groups else ""
    return (
        f"{comparison.reason}\n"
        f"right: reference {comparison.reference_correct}, result {comparison.result_correct} of "
        f"{comparison.n}{grouped}; only the reference {comparison.only_reference}, only the result "
        f"{comparison.only_result} (no difference at all: p = {comparison.p_value:.3g})"
    )


def markdown(compared: Compared) -> str:
    """Several comparisons as a Markdown table."""
    head = ["task", "n", "reference", "result", "difference", "interval", "verdict"]
    head += ["n to decide", "all tasks at once"]
    lines = [head, ["---"] * len(head)]
    for row, held in zip(compared.rows, compared.overall.each, strict=True):
        low, high = row.interval_points
        lines.append(
            [
                row.task.replace("|", "\\|"),
                _n(row),
                _percent(row.reference_percent),
                _percent(row.result_percent),
                f"{row.difference_points:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                row.conclusion,
                "" if row.n_to_decide is None else str(row.n_to_decide),
                held,
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def together_sentence(together: Overall, count: int) -> str:
    """What several tasks say together."""
    tasks = "1 task" if count == 1 else f"{count} tasks"
    return f"overall: {together.conclusion} ({tasks})"


def _n(row: FigureComparison) -> str:
    return f"{row.n} (assumed)" if row.assumed else str(row.n)


def _percent(value: Decimal) -> str:
    return f"{value:.2f}"
