"""What the child process of lm-eval answered, read strictly: one outcome per question, or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.interface import (
    Asked,
    EvaluationRequest,
    EvaluationResult,
    EvaluationSettings,
    NamedTask,
    Outcome,
    Prepared,
    duplicates,
)
from relforge.evaluation.task import Question, Task, reasons
from relforge.frozen import Frozen
from relforge.manifest.common import PositiveInt, Sha256
from relforge.manifest.evaluation import Endpoint

TOOL = "lm-eval"


class _Config(Frozen):
    doc_to_text: str
    num_fewshot: int
    generation_kwargs: dict[str, Any]


class _Sample(Frozen):
    filter: str
    answers: tuple[str, ...] = Field(min_length=1, max_length=1)
    finish: str | None = None
    metric: str
    value: float


class _Row(_Sample):
    doc: Question
    target: str


class _OfFile(Frozen):
    version: str
    taken: int = 0
    config: _Config
    samples: tuple[_Row, ...]


class _NamedSample(_Sample):
    task: str
    number: int
    prompt_hash: Sha256


class _Described(Frozen):
    questions_sha256: Sha256
    datasets: dict[str, str]
    output_type: Literal["generate_until", "multiple_choice"]
    shots: int
    temperature: float
    top_p: float | None
    max_tokens: PositiveInt
    stop: tuple[str, ...]
    prompt_template: str
    metric: str
    filter: str
    version: str
    indices: dict[str, tuple[int, ...]]
    questions: tuple[Asked, ...]


class _OfName(Frozen):
    version: str
    taken: int = 0
    described: _Described
    shots: dict[str, int]
    samples: tuple[_NamedSample, ...]


def settings_of(
    task: Task, n: int, seed: int, *, tool_version: str, endpoint: Endpoint = "completions"
) -> EvaluationSettings:
    """The settings of an evaluation of a task file by lm-eval; known before it runs."""
    return EvaluationSettings(
        task=task.name,
        task_sha256=task.sha256,
        questions_sha256=task.questions_sha256,
        n=n,
        shots=task.shots,
        temperature=task.temperature,
        seed=seed,
        max_tokens=task.max_tokens,
        stop=task.stop,
        prompt_template=task.prompt_template,
        tool=TOOL,
        tool_version=tool_version,
        endpoint=endpoint,
        metric=task.metric,
    )


def described(answer: Mapping[str, Any], task: NamedTask, request: EvaluationRequest) -> Prepared:
    """What the child process found out about a named task. Raises RelforgeError (GATE)."""
    try:
        read = _Described.model_validate(answer["described"])
    except ValidationError as error:
        raise _Refuser(task.name, None)("lm-eval's task has an unknown form", reasons(error)) from (
            error
        )
    return Prepared(
        settings=EvaluationSettings(
            task=task.name,
            questions_sha256=read.questions_sha256,
            n=len(read.questions),
            shots=read.shots,
            temperature=read.temperature,
            seed=request.seed,
            max_tokens=read.max_tokens,
            stop=read.stop,
            prompt_template=read.prompt_template,
            tool=TOOL,
            tool_version=str(answer["version"]),
            endpoint=request.endpoint,
            output_type=read.output_type,
            metric=read.metric,
            filter=read.filter,
            top_p=read.top_p,
            datasets=read.datasets,
            task_version=read.version,
        ),
        questions=read.questions,
        indices=read.indices,
    )


def result_of(
    answer: Mapping[str, Any],
    task: Task,
    chosen: tuple[Question, ...],
    seed: int,
    *,
    seconds: float | None,
    endpoint: Endpoint = "completions",
    log: Path | None = None,
) -> EvaluationResult:
    """The outcomes in a worker's answer to a task file, in the order of the chosen questions.

    Raises RelforgeError (GATE) when lm-eval used other settings than the task file says, or its
    samples are not exactly one per chosen question, judged as right or wrong.
    """
    refuse = _Refuser(task.name, log)
    try:
        read = _OfFile.model_validate(answer)
    except ValidationError as error:
        raise refuse("lm-eval's samples have an unknown form", reasons(error)) from error
    if unlike := _settings_unlike(read.config, task):
        raise refuse("lm-eval used other settings than the task file says", unlike)
    _refuse_uneven([sample.doc.id for sample in read.samples], len(chosen), refuse)
    by_id = {sample.doc.id: sample for sample in read.samples}
    outcomes = []
    for question in chosen:
        sample = by_id.get(question.id)
        if sample is None or sample.doc != question or sample.target != question.answer:
            raise refuse("lm-eval asked other questions", f"{question.id} came back altered or not")
        asked = Asked(
            id=question.id,
            question=question.question,
            expected=question.answer,
            group=question.group,
        )
        outcomes.append(_outcome(asked, sample, (task.filter, task.metric), refuse))
    return EvaluationResult(
        settings=settings_of(task, len(chosen), seed, tool_version=read.version, endpoint=endpoint),
        outcomes=tuple(outcomes),
        seconds=seconds,
    )


def named_result_of(
    answer: Mapping[str, Any],
    prepared: Prepared,
    task: NamedTask,
    request: EvaluationRequest,
    *,
    seconds: float | None,
    log: Path | None = None,
) -> EvaluationResult:
    """The outcomes in a worker's answer to a named task, in the order of the questions.

    Raises RelforgeError (GATE) when the task is no longer as it was described, or its samples are
    not exactly one per question, judged as right or wrong.
    """
    refuse = _Refuser(task.name, log)
    try:
        read = _OfName.model_validate(answer)
    except ValidationError as error:
        raise refuse("lm-eval's samples have an unknown form", reasons(error)) from error
    if described(answer, task, request) != prepared:
        raise refuse(
            "the task is another one than before the server was started",
            "lm-eval or its datasets were replaced meanwhile",
        )
    settings = prepared.settings
    if unlike := {name: n for name, n in read.shots.items() if n != settings.shots}:
        raise refuse("lm-eval used other settings than it said", f"shots: {unlike}")
    alone = len(prepared.indices) == 1 and all("/" not in one.id for one in prepared.questions)
    names = [str(one.number) if alone else f"{one.task}/{one.number}" for one in read.samples]
    _refuse_uneven(names, len(prepared.questions), refuse)
    by_id = dict(zip(names, read.samples, strict=True))
    outcomes = []
    for question in prepared.questions:
        sample = by_id.get(question.id)
        if sample is None:
            raise refuse("lm-eval asked other questions", f"{question.id} did not come back")
        outcome = _outcome(question, sample, (settings.filter or "", settings.metric), refuse)
        outcomes.append(outcome.model_copy(update={"prompt_sha256": sample.prompt_hash}))
    return EvaluationResult(settings=settings, outcomes=tuple(outcomes), seconds=seconds)


def _outcome(
    asked: Asked, sample: _Sample, judged_by: tuple[str, str], refuse: _Refuser
) -> Outcome:
    judged = (sample.filter, sample.metric, sample.value)
    if judged not in {(*judged_by, 0.0), (*judged_by, 1.0)}:
        raise refuse("an outcome is neither right nor wrong", f"{asked.id}: {judged}")
    return Outcome(
        **asked.model_dump(),
        answer=sample.answers[0],
        correct=sample.value == 1.0,
        cut=True if sample.finish == "length" else None,
    )


class _Refuser:
    """Makes the error of a run that did not end as it must."""

    def __init__(self, task: str, log: Path | None) -> None:
        self._task, self._log = task, log

    def __call__(self, what: str, why: str) -> RelforgeError:
        return RelforgeError(
            what,
            code=ExitCode.GATE,
            where=f"task {self._task}",
            why=why,
            hint="read lm-eval's log, then evaluate again",
            log=str(self._log) if self._log else None,
        )


def _refuse_uneven(ids: list[str], wanted: int, refuse: _Refuser) -> None:
    if len(ids) != wanted:
        raise refuse(
            "the evaluation is truncated" if len(ids) < wanted else "too many outcomes",
            f"{wanted} questions were asked, {len(ids)} outcomes came back",
        )
    if twice := duplicates(ids):
        raise refuse("questions have more than one outcome", ", ".join(twice[:5]))


def _settings_unlike(used: _Config, task: Task) -> str:
    generation = used.generation_kwargs
    rows = (
        ("doc_to_text", used.doc_to_text, task.prompt_template),
        ("num_fewshot", used.num_fewshot, task.shots),
        ("until", generation.get("until"), list(task.stop)),
        ("temperature", generation.get("temperature"), task.temperature),
        ("max_gen_toks", generation.get("max_gen_toks"), task.max_tokens),
    )
    return "; ".join(f"{name}: {was!r}, not {say!r}" for name, was, say in rows if was != say)
