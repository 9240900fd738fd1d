"""The release's evaluation in two halves that share no question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.interface import EvaluationRequest, EvaluationResult
from relforge.evaluation.statistics.judging import CONFIDENCE
from relforge.evaluation.task import Task, read_questions
from relforge.manifest.evaluation import EvaluationTask, Pace
from relforge.tuning.asking import BOTH, FRESH, Asked

_MORE = 1.5
"""Over the fewest that could decide: a few answers differ by chance."""


@dataclass(frozen=True)
class Questions:
    """What is asked, how many of each half at each level, and what it is compared with."""

    task: Task
    task_file: Path
    evaluation: EvaluationTask
    reference: EvaluationResult
    sizes: tuple[int, ...]
    pace: Pace

    @property
    def half(self) -> int:
        return self.sizes[-1]

    def request(self, asked: Asked) -> EvaluationRequest:
        """The questions of a half and level; of both halves twice as many."""
        size = self.sizes[asked.level]
        return EvaluationRequest(
            task=self.task,
            task_file=self.task_file,
            n=2 * size if asked.part == BOTH else size,
            skip=self.half if asked.part == FRESH else 0,
            seed=self.evaluation.seed,
            endpoint=self.evaluation.endpoint,
            **self.pace.model_dump(),
        )


def fewest(margin_points: float, confidence: float = CONFIDENCE) -> int:
    """The questions that decide when no answer differs from the reference's.

    Without discordant pairs the lower bound of Tango's interval is -z^2 / (n + z^2).
    """
    z_squared = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    margin = margin_points / 100
    return math.floor(z_squared * (1 - margin) / margin) + 1


def questions_of(
    task: Task,
    task_file: Path,
    evaluation: EvaluationTask,
    reference: EvaluationResult,
    pace: Pace | None = None,
) -> Questions:
    """All questions that the reference answered, in halves.

    Raises RelforgeError (USAGE) where half of them cannot decide within the margin.
    """
    answered = {outcome.id for outcome in reference.outcomes}
    questions = read_questions(task_file, task)
    # The gate's own questions have an answer for certain; the file may have more.
    every = answered.issuperset(question.id for question in questions)
    half = (len(questions) if every else evaluation.questions) // 2
    needed = fewest(evaluation.margin_points)
    if half < needed:
        raise RelforgeError(
            "there are too few questions to find operators with some and confirm them with others",
            code=ExitCode.USAGE,
            where=f"task {task.name}",
            why=f"half of them are {half}; with a margin of {evaluation.margin_points:g} points at "
            f"least {needed} decide",
            hint="use a task with more questions, or --by smoke",
        )
    sizes = [min(half, math.ceil(_MORE * needed))]
    while sizes[-1] < half:
        sizes.append(min(half, 2 * sizes[-1]))
    return Questions(task, task_file, evaluation, reference, tuple(sizes), pace or Pace())
