"""What a release is asked before it is released, and how much it may lose; declared beforehand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import Commit, Line, Name, PositiveInt, RelativePath, Seconds

Margin = Annotated[float, Field(gt=0, le=100)]
"""Points of a percent."""
Endpoint = Literal["completions", "chat"]
_SHORT = ("task", "questions", "margin_points")
_PATH: TypeAdapter[str] = TypeAdapter(RelativePath)


class EvaluationTask(Frozen):
    """One task: how many of its questions, and the loss in points that is still accepted."""

    task: Annotated[Line, Field(min_length=1)]
    """An lm-eval task file of the project (``FOLDER/NAME.yaml``), or the name of a task or group
    that lm-eval brings (``gsm8k``)."""
    questions: PositiveInt
    """How many of the task's questions are asked."""
    margin_points: Margin
    """The loss, in points of a percent, that is still accepted."""
    seed: int = 0
    """Chooses the questions, and goes to the server."""
    endpoint: Endpoint = "completions"
    """``chat``: each prompt is a user's message, and the server applies the model's template."""
    reference: Name | None = None
    """Of ``manifests/references/``; without it the answers that the model pins under
    ``reference``."""
    metric: Line | None = None
    """Of a named task that has several: ``exact_match,strict-match``, as lm-eval writes it."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Of a named task, in place of its own number."""
    max_tokens: PositiveInt | None = None
    """Of a named task, in place of its own limit of an answer."""
    datasets: dict[Line, Commit] = {}
    """The commit of each dataset that a named task reads, by the name that the hub has for it."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> EvaluationTask:
        if self.file is None:
            return self
        _PATH.validate_python(self.task)
        for name in ("metric", "shots", "max_tokens", "datasets"):
            if getattr(self, name) not in (None, {}):
                raise ValueError(f"{name} is said by the task file itself, {self.task}")
        return self

    @property
    def file(self) -> str | None:
        """The task file's path, None for a task of lm-eval's."""
        return self.task if self.task.endswith((".yaml", ".yml")) else None


class Pace(Frozen):
    """How fast the answers may come. Which ones come does not depend on it."""

    concurrency: PositiveInt = 8
    """Questions that are asked at once."""
    request_timeout_s: Seconds = 60.0
    """How long one answer may take; it is asked for three times."""
    timeout_s: Seconds = 3600.0
    """How long a task may take; what was answered until then is kept for the next run."""


class Evaluation(Pace):
    """The evaluation gate. A release with one task names it here, one with several in ``tasks``."""

    task: Annotated[Line, Field(min_length=1)] | None = None
    """See ``tasks``."""
    questions: PositiveInt | None = None
    """See ``tasks``."""
    margin_points: Margin | None = None
    """See ``tasks``."""
    seed: int = 0
    """See ``tasks``."""
    tasks: tuple[EvaluationTask, ...] = ()
    """Several tasks; one alone may stand in the four fields above."""

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        alone = [name for name in (*_SHORT, "seed") if data.get(name)]
        if data.get("tasks") and alone:
            raise ValueError(f"{alone[0]} stands beside tasks: move it into one of them")
        if not data.get("tasks"):
            for name in _SHORT:
                if data.get(name) is None:
                    raise ValueError(f"{name} is missing; or list several under tasks")
        return data

    @model_validator(mode="after")
    def _each_once(self) -> Evaluation:
        names = [one.task for one in self.each]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"tasks has {twice[0]} twice")
        return self

    @property
    def pace(self) -> Pace:
        """The part that no result depends on."""
        return Pace(**{name: getattr(self, name) for name in Pace.model_fields})

    @property
    def each(self) -> tuple[EvaluationTask, ...]:
        """The tasks, of either form."""
        if self.task is None or self.questions is None or self.margin_points is None:
            return self.tasks
        one = EvaluationTask(
            task=self.task,
            questions=self.questions,
            margin_points=self.margin_points,
            seed=self.seed,
        )
        return (one,)

    @property
    def names_references(self) -> bool:
        """Whether some task is compared with something else than the model's own reference."""
        return any(one.reference is not None for one in self.each)

    def at(self, number: int) -> tuple[str | int, ...]:
        """Where a task stands in the manifest, below ``evaluation``."""
        return ("tasks", number) if self.tasks else ()
