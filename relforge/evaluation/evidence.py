"""The evidence file of an evaluation: JSON with one question per line, so that it reads and diffs.

Format ``relforge.evaluation/1``: an object with ``format``, ``settings`` (EvaluationSettings),
``result`` (correct, n, accuracy as a fraction rounded to 6 digits, seconds) and ``questions``
(Outcome each); a reference also says which ``model`` answered and carries ``greedy`` texts for the
smoke test. A result and a reference have the same form, so that one can become the other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.interface import EvaluationResult, EvaluationSettings, Outcome
from relforge.evaluation.pinned import read_object
from relforge.evaluation.task import reasons
from relforge.files import write_atomic
from relforge.frozen import Frozen, sha256_hex

FORMAT = "relforge.evaluation/1"


class _Totals(Frozen):
    correct: int
    n: int
    accuracy: float
    seconds: float | None = None


class _EvidenceFile(Frozen):
    format: Literal["relforge.evaluation/1"]
    settings: EvaluationSettings
    result: _Totals
    questions: tuple[Outcome, ...]
    model: dict[str, Any] = {}
    """What answered, in the words of whoever measured it."""
    greedy: tuple[dict[str, Any], ...] = ()
    """Greedy texts for the smoke test (relforge.serving.reference)."""


def evidence_bytes(result: EvaluationResult) -> bytes:
    """The evidence file of a result; the same result gives the same bytes."""
    totals = {
        "correct": result.k,
        "n": result.n,
        "accuracy": round(result.k / result.n, 6),
        "seconds": result.seconds,
    }
    head = (
        f'  "format": {_line(FORMAT)},\n'
        f'  "settings": {_block(result.settings.model_dump(mode="json"))},\n'
        f'  "result": {_block(totals)},\n'
    )
    rows = ",\n".join(
        "    " + _line(outcome.model_dump(exclude_none=True)) for outcome in result.outcomes
    )
    return f'{{\n{head}  "questions": [\n{rows}\n  ]\n}}\n'.encode()


def write_evidence(result: EvaluationResult, path: Path) -> str:
    """Writes the evidence file, whole or not at all; returns its SHA-256."""
    data = evidence_bytes(result)
    write_atomic(path, data)
    return sha256_hex(data)


def load_reference(
    path: Path, *, sha256: str | None = None, task: str | None = None
) -> EvaluationResult:
    """The evaluation that an evidence file records.

    ``sha256`` is what the manifest pins. ``task`` is the name the manifest gives it: a file that
    names another task is refused.

    Raises RelforgeError (SOURCE) when the file cannot be read, is not the pinned one, has another
    format, or records totals that its outcomes do not give.
    """
    parsed = read_object(path, sha256=sha256, refused=_refused)
    try:
        read = _typed(parsed)
        result = EvaluationResult(
            settings=read.settings, outcomes=read.questions, seconds=read.result.seconds
        )
    except ValidationError as error:
        raise _refused(path, reasons(error)) from error
    except ValueError as error:
        raise _refused(path, str(error)) from error
    _check_totals(path, read.result, result)
    if task is not None and result.settings.task != task:
        raise _refused(path, f"it is of task {result.settings.task!r}, not {task!r}")
    return result


def _typed(parsed: dict[str, Any]) -> _EvidenceFile:
    if parsed.get("format") != FORMAT:
        raise ValueError(f"its format is {parsed.get('format')!r}, not {FORMAT!r}")
    return _EvidenceFile.model_validate(parsed)


def _check_totals(path: Path, recorded: _Totals, result: EvaluationResult) -> None:
    if (recorded.correct, recorded.n) != (result.k, result.n):
        raise _refused(
            path,
            f"it records {recorded.correct} of {recorded.n} correct, "
            f"its outcomes give {result.k} of {result.n}",
        )
    # Half a unit of the sixth digit, and a hair for the binary fraction.
    if abs(recorded.accuracy - result.k / result.n) > 0.5000001e-6:
        raise _refused(
            path,
            f"it records an accuracy of {recorded.accuracy}, its outcomes give "
            f"{result.k / result.n:.6f}",
        )


def _refused(path: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "the evidence file cannot be used",
        code=ExitCode.SOURCE,
        where=str(path),
        why=why,
        hint="restore the file, or measure the evaluation again",
    )


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _block(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n  ")
