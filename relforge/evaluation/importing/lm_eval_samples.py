"""lm-eval: ``samples_<task>_<date>.jsonl``, which ``--log_samples`` writes beside its results.

One line for each question and filter, with the answer, its metrics and hashes of what was sent
(loggers/evaluation_tracker.py). Two such files are compared question by question. They do not say
how many examples the prompts had: the hashes of the prompts tell whether they are the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.importing.reading import Foreign
from relforge.evaluation.interface import EvaluationResult, EvaluationSettings, Outcome
from relforge.manifest.common import PositiveInt, Sha256

_NAME = re.compile(r"^samples_(?P<task>.+)_\d{4}-\d{2}-\d{2}T[\d.:-]+\.jsonl$")
_NO_LIMIT = 256
"""What lm-eval's clients take where a task says no limit."""


class _Generation(Foreign):
    until: tuple[str, ...] | str = ()
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: float | None = None
    max_gen_toks: PositiveInt | None = None


class _Sample(Foreign):
    doc_id: int
    target: str
    arguments: dict[str, dict[str, Any]]
    filtered_resps: list[Any]
    filter: str = "none"
    metrics: tuple[str, ...]
    doc_hash: Sha256
    prompt_hash: Sha256


def is_samples(path: Path) -> bool:
    """Whether a file has the name of lm-eval's samples."""
    return _NAME.match(path.name) is not None


def read_samples(path: Path, metric: str | None) -> EvaluationResult:
    """The answers of one task; ``metric`` is ``metric`` or ``metric,filter`` where it has several.

    Raises RelforgeError (USAGE) with ``file:line`` for a line that is cut short or is none of a
    question, for a metric that is not said or no share of right answers, and for questions that
    occur twice.
    """
    named = _NAME.match(path.name)
    task = named["task"] if named else path.stem
    rows = list(_rows(path))
    if not rows:
        raise _refused(str(path), "the file has no samples", "a run that crashed leaves none")
    wanted = _metric(path, rows, metric)
    generation = _Generation()
    outcomes: dict[int, Outcome] = {}
    docs = hashlib.sha256()
    for where, sample, values in rows:
        if (sample.filter, wanted[0] in sample.metrics) != (wanted[1], True):
            continue
        if sample.doc_id in outcomes:
            raise _refused(where, f"question {sample.doc_id} stands twice", "of one filter")
        value = values.get(wanted[0])
        if value not in (0, 1) or isinstance(value, str):
            raise _refused(where, f"{wanted[0]} is neither right nor wrong", f"found {value!r}")
        first = sample.arguments.get("gen_args_0", {})
        if isinstance(asked := first.get("arg_1"), dict):
            generation = _Generation.model_validate(asked)
        docs.update(f"{sample.doc_id} {sample.doc_hash}\n".encode())
        outcomes[sample.doc_id] = Outcome(
            id=str(sample.doc_id),
            question=sample.doc_hash,
            expected=sample.target,
            answer=_answer(sample.filtered_resps),
            correct=bool(value),
            prompt_sha256=sample.prompt_hash,
        )
    until = generation.until
    choice = len(rows[0][1].arguments) > 1
    settings = EvaluationSettings(
        task=task,
        questions_sha256=docs.hexdigest(),
        n=len(outcomes),
        shots=0,
        temperature=generation.temperature,
        max_tokens=1 if choice else generation.max_gen_toks or _NO_LIMIT,
        stop=(until,) if isinstance(until, str) else until,
        prompt_template="",
        tool="lm-eval",
        tool_version="unknown",
        output_type="multiple_choice" if choice else "generate_until",
        metric=wanted[0],
        filter=wanted[1],
        top_p=generation.top_p,
    )
    return EvaluationResult(settings=settings, outcomes=tuple(outcomes.values()))


def _rows(path: Path) -> Iterator[tuple[str, _Sample, dict[str, Any]]]:
    try:
        raw = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(str(path), "the samples cannot be read", str(error)) from error
    for number, line in enumerate(raw.split("\n"), 1):
        if not line:
            continue
        where = f"{path}:{number}"
        try:
            values = json.loads(line)
            yield where, _Sample.model_validate(values), values
        except ValidationError as error:
            fault = error.errors()[0]
            name = ".".join(str(part) for part in fault["loc"])
            raise _refused(
                where, "the line is not as lm-eval writes it", f"{name}: {fault['msg']}"
            ) from error
        except ValueError as error:
            raise _refused(
                where, "the line is no whole JSON", f"{error}; was the run killed?"
            ) from error


def _metric(
    path: Path, rows: list[tuple[str, _Sample, dict[str, Any]]], named: str | None
) -> tuple[str, str]:
    known = dict.fromkeys(
        (metric, sample.filter) for _, sample, _ in rows for metric in sample.metrics
    )
    metric, _, filtered = (named or "").partition(",")
    fits = [one for one in known if metric in ("", one[0]) and filtered in ("", one[1])]
    if len(fits) == 1:
        return fits[0]
    listed = ", ".join(",".join(one) for one in known)
    raise RelforgeError(
        "the samples have several metrics" if fits else f"the samples have no metric {named}",
        code=ExitCode.USAGE,
        where=str(path),
        why=listed,
        hint="say which is meant: --metric METRIC,FILTER",
    )


def _answer(responses: list[Any]) -> str:
    if len(responses) == 1 and isinstance(responses[0], str):
        return responses[0]
    return json.dumps(responses, ensure_ascii=False)


def _refused(where: str, what: str, why: str) -> RelforgeError:
    return RelforgeError(
        what,
        code=ExitCode.USAGE,
        where=where,
        why=why,
        hint="run the evaluation again to its end",
    )
