"""Our lm-eval task files: read strictly, so that what is recorded is all that decides an answer.

A task file is plain YAML in lm-eval's task format (its docs/task_guide.md); of that format only
what is listed here may occur. ``include`` and ``!function`` would bring in files and code that
no hash of ours covers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen, sha256_hex
from relforge.manifest.common import Name, PositiveInt, Sha256


class Question(Frozen):
    """One line of a questions file."""

    id: str
    question: str
    answer: str
    group: str | None = None
    """What it shares with others, such as a passage; such questions do not count as independent."""


class Task(Frozen):
    """A task file's content as far as it decides the answers. Holds no path of this machine."""

    name: Name
    sha256: Sha256
    questions_file: str
    """As the task file writes it: relative to the task file's folder."""
    questions_sha256: Sha256
    shots: int
    temperature: float
    max_tokens: int
    stop: tuple[str, ...]
    prompt_template: str
    filter: str
    """Name of the one filter pipeline that lm-eval applies before it judges."""
    metric: str


class _DataFiles(Frozen):
    test: str


class _DatasetKwargs(Frozen):
    data_files: _DataFiles


class _Generation(Frozen):
    until: Annotated[tuple[str, ...], Field(min_length=1)]
    do_sample: bool
    temperature: Annotated[float, Field(ge=0)]
    max_gen_toks: PositiveInt


class _Filter(Frozen):
    name: str
    filter: tuple[dict[str, Any], ...]


class _Metric(Frozen):
    metric: Literal["exact_match"]
    aggregation: Literal["mean"]
    higher_is_better: Literal[True]


class _TaskFile(Frozen):
    task: Name
    dataset_path: Literal["json"]
    dataset_kwargs: _DatasetKwargs
    test_split: Literal["test"]
    output_type: Literal["generate_until"]
    num_fewshot: Literal[0]
    doc_to_text: str
    doc_to_target: Literal["{{answer}}"]
    generation_kwargs: _Generation
    filter_list: Annotated[tuple[_Filter, ...], Field(min_length=1, max_length=1)]
    metric_list: Annotated[tuple[_Metric, ...], Field(min_length=1, max_length=1)]
    metadata: dict[str, Any] = {}


def read_task(path: Path) -> Task:
    """The task of a task file. Raises RelforgeError (USAGE) naming file and key or line."""
    raw = _bytes(path, "task file")
    try:
        read = _TaskFile.model_validate(yaml.safe_load(raw))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise RelforgeError(
            f"{path.name} is not a task file",
            code=ExitCode.USAGE,
            where=f"{path}{at}",
            why=error.problem or str(error),
            hint="write plain YAML: task files carry no code",
        ) from error
    except (yaml.YAMLError, ValidationError) as error:
        raise RelforgeError(
            f"{path.name} is not a task file that relforge can run",
            code=ExitCode.USAGE,
            where=str(path),
            why=reasons(error) if isinstance(error, ValidationError) else str(error),
            hint="compare it with examples/tasks/tiny_adder_addition.yaml",
        ) from error
    questions = read.dataset_kwargs.data_files.test
    return Task(
        name=read.task,
        sha256=sha256_hex(raw),
        questions_file=questions,
        questions_sha256=sha256_hex(_bytes(path.parent / questions, "questions file")),
        shots=read.num_fewshot,
        temperature=read.generation_kwargs.temperature,
        max_tokens=read.generation_kwargs.max_gen_toks,
        stop=read.generation_kwargs.until,
        prompt_template=read.doc_to_text,
        filter=read.filter_list[0].name,
        metric=read.metric_list[0].metric,
    )


def read_questions(task_file: Path, task: Task) -> tuple[Question, ...]:
    """The questions of a task, in the file's order.

    Raises RelforgeError: SOURCE when the file is no longer the one the task was read with, USAGE
    with file and line when a row is malformed or an id occurs twice.
    """
    path = task_file.parent / task.questions_file
    raw = _bytes(path, "questions file")
    if sha256_hex(raw) != task.questions_sha256:
        raise RelforgeError(
            "the questions file was altered since the plan was made",
            code=ExitCode.SOURCE,
            where=str(path),
            why=f"expected sha256 {task.questions_sha256}, found {sha256_hex(raw)}",
            hint="run the same command again, so that the plan is made anew",
        )
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        try:
            question = Question.model_validate(json.loads(line))
        except (ValidationError, ValueError) as error:
            why = reasons(error) if isinstance(error, ValidationError) else str(error)
            raise _bad_row(path, number, why) from error
        if question.id in seen:
            raise _bad_row(path, number, f"id {question.id!r} also in line {seen[question.id]}")
        seen[question.id] = number
        questions.append(question)
    return tuple(questions)


def select(questions: tuple[Question, ...], n: int, seed: int, skip: int = 0) -> tuple[int, ...]:
    """Positions of n of the questions, ascending: the same for the same ids, n, seed and skip.

    Questions are ranked by SHA-256 of ``seed:id``; the n lowest after the first ``skip`` are taken.
    So the choice depends on no library's random numbers, and a larger n only adds questions.
    Raises RelforgeError (USAGE) when there are fewer than n.
    """
    if skip + n > len(questions):
        raise RelforgeError(
            f"{skip + n} questions are asked for, but the task has {len(questions)}",
            code=ExitCode.USAGE,
            hint=f"set evaluation.questions to at most {len(questions)}",
        )

    return lowest([one.id for one in questions], n, seed, skip)


def lowest(ids: Sequence[str], n: int, seed: int, skip: int = 0) -> tuple[int, ...]:
    """Positions of the n ids whose SHA-256 of ``seed:id`` is lowest, ascending.

    ``skip`` leaves out the lowest so many.
    """

    def rank(position: int) -> bytes:
        return hashlib.sha256(f"{seed}:{ids[position]}".encode()).digest()

    return tuple(sorted(sorted(range(len(ids)), key=rank)[skip : skip + n]))


def reasons(error: ValidationError) -> str:
    """What a validation found, one ``key: message`` per line."""
    return "\n".join(
        f"{'.'.join(str(part) for part in row['loc']) or 'file'}: {row['msg']}"
        for row in error.errors()[:10]
    )


def _bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RelforgeError(
            f"the {what} cannot be read",
            code=ExitCode.USAGE,
            where=str(path),
            why=error.strerror,
            hint="check the path in the manifest or task file",
        ) from error


def _bad_row(path: Path, line: int, why: str) -> RelforgeError:
    return RelforgeError(
        "the questions file has a bad row",
        code=ExitCode.USAGE,
        where=f"{path}:{line}",
        why=why,
        hint='each line is an object with "id", "question" and "answer", all text, ids unique',
    )
