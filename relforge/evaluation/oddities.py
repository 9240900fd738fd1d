"""Answers that are wrong in a way a model rarely is: told beside the figures, judged as wrong."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from relforge.frozen import Frozen

if TYPE_CHECKING:
    from relforge.evaluation.interface import EvaluationResult

_OFTEN = 10


class Oddities(Frozen):
    """Counts over the outcomes of one evaluation."""

    empty: int
    """Answers without a text."""
    cut: int
    """Answers that ended at the limit of tokens."""
    same: int = 0
    """How often the most frequent wrong answer came, to questions with other right answers each;
    0 below ten: an error message in place of an answer looks like this."""
    same_answer: str | None = None

    def words(self, reference: Oddities | None = None) -> tuple[str, ...]:
        """One phrase for each that there is; with a reference's own counts beside them."""
        found = []
        for name, count, before in (
            ("empty", self.empty, reference and reference.empty),
            ("cut at the limit of tokens", self.cut, reference and reference.cut),
        ):
            if count:
                found.append(
                    f"{count} answers are {name}"
                    + ("" if before is None else f" (the reference has {before})")
                )
        if self.same:
            found.append(f"{self.same} questions have the same wrong answer: {self.same_answer!r}")
        return tuple(found)


def oddities(result: EvaluationResult) -> Oddities:
    """The oddities of an evaluation. Of choices only one is taken, so none is often the same."""
    wrong: defaultdict[str, set[str]] = defaultdict(set)
    choice = result.settings.output_type == "multiple_choice"
    for outcome in result.outcomes:
        answer = outcome.answer.strip()
        if answer and not outcome.correct and not choice:
            wrong[answer].add(outcome.expected)
    text, expected = max(wrong.items(), key=lambda item: len(item[1]), default=("", set()))
    often = len(expected) if len(expected) >= _OFTEN else 0
    return Oddities(
        empty=sum(not outcome.answer.strip() for outcome in result.outcomes),
        cut=sum(bool(outcome.cut) for outcome in result.outcomes),
        same=often,
        same_answer=text[:100] if often else None,
    )
