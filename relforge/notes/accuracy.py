"""Is a release more accurate than the one before it, or does it only look so?

Where both evaluations were published with their answers, they are compared question by question.
Where only the figures are there, the interval is wider. Of two evaluations that asked different
questions nothing is said.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.evidence import FORMAT
from relforge.files import sha256_file
from relforge.notes.model import Finding, TaskChange
from relforge.notes.record import Record, Task

CONFIDENCE = 0.95
_ANY_MARGIN = 1.0
"""The comparison wants one; neither interval nor p-value depends on it."""


@dataclass(frozen=True)
class _Measured:
    basis: Literal["paired", "counts"]
    difference_points: float
    interval_points: tuple[float, float]
    p_value: float
    only_before: int | None = None
    only_after: int | None = None


def accuracy(old: Record | None, new: Record) -> tuple[TaskChange, ...]:
    """Every task of either release; none where the very same evaluation is in both records.

    Raises RelforgeError: PUBLISH for evidence that is not what its record names, ENVIRONMENT
    without extra ``eval``.
    """
    if old is None:
        return tuple(_row(None, task) for task in new.tasks)
    if old.image_digest == new.image_digest and old.tasks == new.tasks:
        return ()
    before = {task.task: task for task in old.tasks}
    after = {task.task: task for task in new.tasks}
    rows: list[TaskChange] = []
    measured: dict[int, float] = {}
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        row = _row(one, other)
        if one is None or other is None:
            why = "the earlier release was not asked" if one is None else "it was not asked again"
            rows.append(row.model_copy(update={"why": why}))
            continue
        found = _compared(old, one, new, other)
        if isinstance(found, str):
            rows.append(row.model_copy(update={"why": found}))
            continue
        measured[len(rows)] = found.p_value
        rows.append(
            row.model_copy(
                update={
                    "basis": found.basis,
                    "difference_points": found.difference_points,
                    "interval_points": found.interval_points,
                    "p_value": found.p_value,
                    "only_before": found.only_before,
                    "only_after": found.only_after,
                }
            )
        )
    for at, real in zip(measured, _held(list(measured.values())), strict=True):
        rows[at] = rows[at].model_copy(update={"finding": _finding(rows[at], real)})
    return tuple(rows)


def _row(old: Task | None, new: Task | None) -> TaskChange:
    one = new or old
    assert one is not None
    return TaskChange(
        task=one.task,
        metric=one.metric,
        n_before=old.n if old else None,
        n_after=new.n if new else None,
        before_percent=old.result_percent if old else None,
        after_percent=new.result_percent if new else None,
        reference_before=old.conclusion if old else None,
        reference_after=new.conclusion if new else None,
        margin_before=old.margin_points if old else None,
        margin_after=new.margin_points if new else None,
        difference_to_reference_points=new.difference_points if new else None,
        reference_interval_points=new.interval_points if new else None,
        reference_percent=new.reference_percent if new else None,
    )


def _compared(old: Record, before: Task, new: Record, after: Task) -> _Measured | str:
    """The comparison, or why there can be none."""
    if before.metric != after.metric:
        return f"the metric was {before.metric}"
    files = _answers(old, before), _answers(new, after)
    if files[0] is not None and files[1] is not None:
        return _paired(files[0], files[1])
    if before.n is None or before.n != after.n:
        return f"{before.n} questions were asked before, {after.n} now"
    asked = old.asked.get(before.task), new.asked.get(after.task)
    if asked[0] is None or asked[1] is None:
        return "a record does not say which questions were asked"
    if asked[0] != asked[1]:
        return "the task itself has changed"
    if before.result_correct is None or after.result_correct is None:
        return "a record does not say how many answers were right"
    return _by_counts(before.result_correct, after.result_correct, before.n)


def _paired(before: Path, after: Path) -> _Measured | str:
    from relforge.evaluation.compare import compare
    from relforge.evaluation.evidence import load_reference

    try:
        found = compare(
            load_reference(before),
            load_reference(after),
            margin_points=_ANY_MARGIN,
            confidence=CONFIDENCE,
        )
    except RelforgeError as error:
        if error.code is not ExitCode.GATE:
            raise
        return error.why or error.what
    return _Measured(
        "paired",
        found.difference_points,
        found.interval_points,
        found.p_value,
        found.only_reference,
        found.only_result,
    )


def _by_counts(before: float, after: float, n: int) -> _Measured:
    from relforge.evaluation.statistics.independent import newcombe_interval, newcombe_score

    low, high = newcombe_interval(before, after, n, CONFIDENCE)
    z = newcombe_score(before, after, n, 0.0)
    return _Measured(
        "counts",
        100 * (after - before) / n,
        (100 * low, 100 * high),
        math.erfc(abs(z) / math.sqrt(2)),
    )


def _answers(record: Record, task: Task) -> Path | None:
    """The file with every answer, as the record names it; None where it does not lie there."""
    if record.folder is None:
        return None
    one = len(record.tasks) == 1
    name = "evaluation.json" if one else f"evaluation-{task.task.replace('/', '-')}.json"
    file = record.folder / "evidence" / name
    if not file.is_file():
        return None
    named = record.evidence.get("evaluate") or []
    place = [other.task for other in record.tasks].index(task.task)
    wanted = named[place].get("sha256") if place < len(named) else None
    found = sha256_file(file)
    if found != wanted:
        raise RelforgeError(
            "evidence is not what its record names",
            code=ExitCode.PUBLISH,
            where=str(file),
            why=f"recorded: {wanted}, found: {found}",
            hint="restore the file: notes are made from what was measured",
        )
    # Answers in a form that this version does not know are as good as none: counts are compared.
    return file if json.loads(file.read_bytes()).get("format") == FORMAT else None


def _held(p_values: list[float]) -> list[bool]:
    if not p_values:
        return []
    from relforge.evaluation.statistics.judging import holm

    return holm(p_values, 1 - CONFIDENCE)


def _finding(row: TaskChange, real: bool) -> Finding:
    if not real or row.difference_points is None:
        return "no difference shown"
    return "better" if row.difference_points > 0 else "worse"
