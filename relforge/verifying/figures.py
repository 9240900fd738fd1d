"""Every figure of the record, made again from the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from relforge.errors import ExitCode, RelforgeError
from relforge.verifying import loads, measured
from relforge.verifying.files import Files, at
from relforge.verifying.measured import Compared
from relforge.verifying.report import Outcome, judged, not_run


def evidence(files: Files, record: Mapping[str, Any], project: Path | None) -> Outcome:
    """Smoke test, evaluation, benchmark and coverage: what the record says is what the evidence
    gives. With ``project`` answers are compared with its reference once more."""
    results = at(record, "results")
    planned = ((record.get("inputs") or {}).get("evaluate") or {}).get("values") or {}
    parts: dict[str, Callable[[Mapping[str, Any]], Compared]] = {
        "smoke": lambda result: measured.smoke(files, result),
        "evaluate": lambda result: measured.evaluation(files, result, project, planned),
        "bench": lambda result: loads.bench(files, result),
        "coverage": lambda result: measured.coverage(files, result),
    }
    problems: list[str] = []
    said: list[str] = []
    for stage, compare in parts.items():
        result = results.get(stage)
        if result is None:
            continue
        if not isinstance(result, Mapping):
            problems.append(f"{stage}: the record's result is none")
            continue
        if result.get("verdict") == "fail":
            # Nothing of it is in a card; the policy says whether it may be so.
            said.append(f"{stage} failed")
            continue
        try:
            found = compare(result)
        except FileNotFoundError as error:
            problems.append(f"{stage}: {error.filename} is not there")
            continue
        except RelforgeError as error:
            if error.code is not ExitCode.ENVIRONMENT:
                raise
            said.append(f"not {stage}: {error.what} ({error.hint})")
            continue
        problems += found.problems
        said.append(found.said)
    if not said and not problems:
        return not_run("the record has no measured result")
    return judged(problems, f"made again from {', '.join(said)}")
