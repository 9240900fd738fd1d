"""What an evaluation is: settings, one outcome per question, and whoever can produce them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, model_validator

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.task import Task
from relforge.frozen import Frozen, content_key
from relforge.manifest.common import PositiveInt, Seconds, Sha256
from relforge.manifest.evaluation import Endpoint


class Outcome(Frozen):
    """One question and what became of it. ``answer`` is the text that was judged."""

    id: str
    question: str
    expected: str
    answer: str
    correct: bool
    group: str | None = None
    """What this question shares with others: a passage, a subject, or, where one question is asked
    repeatedly, that question. Questions of one group are not counted as independent."""
    cut: Literal[True] | None = None
    """The answer ended at the limit of tokens; None where it did not, or nobody noted it."""
    prompt_sha256: Sha256 | None = None
    """Of all that was sent, examples included; None where the question is all of it."""


class EvaluationSettings(Frozen):
    """Everything that decides the answers, and the tool that asked."""

    task: str
    task_sha256: Sha256 | None = None
    """Hash of the task file; absent where the tool had none."""
    questions_sha256: Sha256
    """Hash of the whole questions file, of which n were asked."""
    n: PositiveInt
    shots: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(ge=0)]
    seed: int | None = None
    """Chose the n questions, and went to the server; absent where all were asked greedily."""
    max_tokens: PositiveInt
    stop: tuple[str, ...]
    prompt_template: str
    tool: str
    tool_version: str
    endpoint: Endpoint = "completions"
    """``chat``: the server put the prompt into the model's template."""
    output_type: Literal["generate_until", "multiple_choice"] = "generate_until"
    metric: str = "exact_match"
    filter: str | None = None
    """What was taken from an answer before it was judged, by lm-eval's name for it; None where the
    task file says it."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    datasets: dict[str, str] = {}
    """Commits of the datasets that the questions come from."""
    task_version: str | None = None

    def differences(self, other: EvaluationSettings) -> list[str]:
        """The settings in which two evaluations are not comparable, as ``name: this, other``.

        Tool, its version, the task file and n are left out: another tool may ask the same, and
        which questions were asked is compared one by one. The seed counts only where sampling
        uses it.
        """
        names = ["questions_sha256", "shots", "temperature", "max_tokens", "prompt_template"]
        names += ["endpoint", "output_type", "metric", "filter", "top_p"]
        if self.temperature > 0 or other.temperature > 0:
            names.append("seed")
        rows = [(name, getattr(self, name), getattr(other, name)) for name in names]
        rows.append(("stop", sorted(set(self.stop)), sorted(set(other.stop))))
        return [f"{name}: {mine!r}, {theirs!r}" for name, mine, theirs in rows if mine != theirs]

    def notes(self, other: EvaluationSettings) -> list[str]:
        """What differs and is told, but makes nothing incomparable, as ``name: this, other``."""
        if self.tool != other.tool:
            mine, theirs = (f"{one.tool} {one.tool_version}" for one in (self, other))
            return [f"tool: {mine}, {theirs}"]
        rows = [
            (name, getattr(self, name), getattr(other, name))
            for name in ("tool_version", "task_version", "datasets")
        ]
        return [
            f"{name}: {mine}, {theirs}"
            for name, mine, theirs in rows
            if mine and theirs and mine != theirs
        ]


class EvaluationResult(Frozen):
    """The outcomes of one evaluation, one per question, ids unique, as many as the settings say."""

    settings: EvaluationSettings
    outcomes: tuple[Outcome, ...]
    seconds: float | None = None
    """Wall time of asking and judging; absent where it was not recorded."""

    @model_validator(mode="after")
    def _complete(self) -> EvaluationResult:
        if len(self.outcomes) != self.settings.n:
            raise ValueError(f"{len(self.outcomes)} outcomes, but n is {self.settings.n}")
        if twice := duplicates(outcome.id for outcome in self.outcomes):
            raise ValueError(f"question ids occur more than once: {', '.join(twice[:5])}")
        return self

    @property
    def k(self) -> int:
        """Number of correct answers."""
        return sum(outcome.correct for outcome in self.outcomes)

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self.outcomes)

    @property
    def accuracy_percent(self) -> float:
        """100 k / n."""
        return 100.0 * self.k / self.n

    def only(self, ids: Iterable[str]) -> EvaluationResult:
        """The same evaluation restricted to some of its questions, in its own order.

        Made for a reference that answered more questions than a gate asks. Raises RelforgeError
        (GATE) when it never answered one of them. ``seconds`` is dropped: it was for all.
        """
        wanted = set(ids)
        kept = tuple(outcome for outcome in self.outcomes if outcome.id in wanted)
        if missing := sorted(wanted - {outcome.id for outcome in kept}):
            raise RelforgeError(
                f"{len(missing)} of {len(wanted)} questions have no outcome in this evaluation",
                code=ExitCode.GATE,
                where=f"task {self.settings.task}, {self.settings.tool}",
                why=f"for example {', '.join(missing[:5])}",
                hint="use a reference made from the same questions file",
            )
        settings = self.settings.model_copy(update={"n": len(kept)})
        return EvaluationResult(settings=settings, outcomes=kept)


class NamedTask(Frozen):
    """A task or group that the tool brings, as the manifest declares it."""

    name: str
    datasets: dict[str, str] = {}
    metric: str | None = None
    shots: int | None = None
    max_tokens: PositiveInt | None = None
    tool_version: str | None = None
    """Of the tool whose task it is; None where it is not installed here."""

    @property
    def datasets_key(self) -> str:
        """Names a folder for these datasets alone: without a hub, the client takes whatever commit
        of a dataset is there."""
        return content_key(self.datasets)[:16]


class EvaluationRequest(Frozen):
    """What to ask a served model. A ``Task`` is what was read from ``task_file`` when planning."""

    task: Task | NamedTask
    task_file: Path | None = None
    n: PositiveInt
    skip: Annotated[int, Field(ge=0)] = 0
    """Questions to leave out, of those that would be asked first: two requests share none where
    one skips what the other asks."""
    seed: int = 0
    endpoint: Endpoint = "completions"
    concurrency: PositiveInt = 8
    request_timeout_s: Seconds = 60.0
    timeout_s: Seconds = 3600.0


class Asked(Frozen):
    """A question before it is answered."""

    id: str
    question: str
    expected: str
    group: str | None = None


class Prepared(Frozen):
    """What will be asked, known before there is a server. ``settings`` may lack tool_version."""

    settings: EvaluationSettings
    questions: tuple[Asked, ...]
    indices: dict[str, tuple[int, ...]]
    """The rows of the data by task."""


class Evaluated(Frozen):
    """A finished evaluation, and how many of its answers an earlier run had got."""

    result: EvaluationResult
    from_earlier: int = 0


class Evaluator(Protocol):
    """Whoever asks a served model and returns its outcomes; stages know only this."""

    def prepare(
        self,
        request: EvaluationRequest,
        *,
        cancel: CancelToken | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Prepared:
        """Settings and questions of an evaluation; asks no server.

        Raises RelforgeError with USAGE (there is no such task, or it has fewer questions), SOURCE
        (task or questions altered, datasets not to be had) or ENVIRONMENT (tool missing).
        """
        ...

    def evaluate(
        self,
        base_url: str,
        served_name: str,
        request: EvaluationRequest,
        prepared: Prepared,
        *,
        cancel: CancelToken | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Evaluated:
        """Asks the prepared questions of the model ``served_name`` behind ``base_url``.

        ``base_url`` is the server's root, with or without ``/v1``. Raises RelforgeError with
        ENVIRONMENT (tool missing), SOURCE (task or questions altered) or GATE (the run crashed,
        or did not end with exactly one outcome per question); Cancelled when the token is set.
        """
        ...


def duplicates(ids: Iterable[str]) -> list[str]:
    """The ids that occur more than once, sorted."""
    seen: set[str] = set()
    twice: set[str] = set()
    for one in ids:
        (twice if one in seen else seen).add(one)
    return sorted(twice)
