"""Figures of other tools: each adapter reads one format and knows nothing of the others.

An adapter says task, metric, percentage, n where the tool tells it, and the settings that it tells.
A run that the tool calls incomplete, and a value that is no number, is refused with its line.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.evaluation.evidence import FORMAT, load_reference
from relforge.evaluation.importing import (
    aisbench,
    evalscope,
    evidence,
    lm_eval,
    lm_eval_samples,
    table,
)
from relforge.evaluation.importing.reading import Wanted
from relforge.evaluation.interface import EvaluationResult
from relforge.evaluation.statistics.datasets import same_task
from relforge.evaluation.statistics.figures import Figure

KNOWN = (
    "evidence of relforge, lm-eval's results_*.json, evalscope's reports, AISBench's "
    "summary_*.csv, or a table"
)


def read_figures(
    path: Path, *, tasks: Collection[str] = (), column: str | None = None
) -> tuple[Figure, ...]:
    """The figures in a file, or in the folder of one model's reports; with ``tasks`` of these.

    ``column`` names the model of an AISBench summary that has several.

    Raises RelforgeError: USAGE with ``file:line`` when it is of no known format, is cut short, or
    says that its run did not finish; SOURCE for evidence that contradicts itself.
    """

    def wanted(task: str) -> bool:
        return not tasks or any(same_task(task, one) for one in tasks)

    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise _refused(path, "the folder holds no report", "there is no *.json in it")
        return tuple(figure for file in files for figure in read_figures(file, tasks=tasks))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, "the results cannot be read", str(error)) from error
    if path.suffix == ".json":
        return _of_json(text, path, wanted)
    if path.suffix == ".csv" and aisbench.is_summary(text):
        return aisbench.figures(text, path, wanted, column)
    if path.suffix in (".csv", ".yaml", ".yml"):
        return table.figures(text, path, wanted)
    raise _refused(path, "the results are of no known format", f"known: {KNOWN}")


def is_evidence(path: Path) -> bool:
    """Whether a file is evidence of relforge's own, which has every answer."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def has_answers(path: Path) -> bool:
    """Whether a file has every answer: evidence of relforge's own, or lm-eval's samples."""
    return lm_eval_samples.is_samples(path) or is_evidence(path)


def read_answers(path: Path, metric: str | None = None) -> EvaluationResult:
    """The answers in a file that has them; ``metric`` where lm-eval's samples have several.

    Raises RelforgeError: USAGE with ``file:line`` for samples that are not whole, SOURCE for
    evidence that contradicts itself.
    """
    if lm_eval_samples.is_samples(path):
        return lm_eval_samples.read_samples(path, metric)
    return load_reference(path)


def _of_json(text: str, path: Path, wanted: Wanted) -> tuple[Figure, ...]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(
            path,
            "the results are no whole JSON",
            f"{error}; was the run killed while it wrote them?",
            line=getattr(error, "lineno", 1),
        ) from error
    if isinstance(content, dict):
        if content.get("format") == FORMAT:
            return evidence.figures(path, wanted)
        if "results" in content:
            return lm_eval.figures(content, path, wanted)
        if "metrics" in content:
            return evalscope.figures(content, path, wanted)
    raise _refused(path, "the results are of no known format", f"known: {KNOWN}")


def _refused(path: Path, what: str, why: str, *, line: int | None = None) -> RelforgeError:
    return RelforgeError(
        what,
        code=ExitCode.USAGE,
        where=str(path) if line is None else f"{path}:{line}",
        why=why,
        hint="run the evaluation again, or name the file that its tool wrote",
    )
