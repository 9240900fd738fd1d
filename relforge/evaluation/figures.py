"""The numbers of one task, once it was compared with its reference (``gate.py``)."""

from __future__ import annotations

from typing import Literal

from relforge.evaluation.oddities import Oddities
from relforge.evaluation.statistics.judging import Conclusion, Judgement, sentence


class Figures(Judgement):
    """One task's numbers, as card and record quote them. Percentages of n questions."""

    task: str
    metric: str
    n: int
    basis: Literal["measured", "reported"]
    """What the reference is: answers that were compared one by one, or a figure."""
    reference: str
    """The reference's file, or its name in ``manifests/references/``."""
    reference_percent: float
    result_percent: float
    reference_correct: int | None = None
    result_correct: int
    only_reference: int | None = None
    """Questions that only the reference answered correctly."""
    only_result: int | None = None
    groups: int | None = None
    held: Conclusion
    """What holds of this task after Holm's correction over all of them."""
    tool: str
    tool_version: str
    notes: tuple[str, ...] = ()
    """Differences that make nothing incomparable, and answers that are odd."""
    odd: Oddities
    from_earlier_runs: int = 0
    """Answers that a run had got which was killed."""


def said(figures: Figures) -> str:
    """One task in a sentence."""
    reported = f" against a reported figure of {figures.reference_percent:g} %"
    return sentence(figures, str(figures.n)) + (reported if figures.basis == "reported" else "")
