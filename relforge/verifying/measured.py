"""The record's figures made again from the evidence: smoke test, evaluation, operator coverage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from relforge.errors import RelforgeError
from relforge.evaluation.figures import Figures
from relforge.evaluation.interface import EvaluationResult
from relforge.frozen import Frozen
from relforge.verifying.files import Files, json_object

_CLOSE = 1e-9
"""Of figures that another processor may round differently in the last digit."""


class Compared(Frozen):
    """``problems`` name what differs; ``said`` is what was made again, for the report."""

    problems: tuple[str, ...]
    said: str


def smoke(files: Files, result: Mapping[str, Any]) -> Compared:
    """The smoke test's report, probe by probe."""
    name = "evidence/smoke.json"
    found = json_object(files.read(name), name)
    recorded = dict(_mapping(result.get("report"), "smoke.report"))
    recorded.pop("server_log", None)
    problems = [f"smoke: {line}" for line in differences(recorded, found, "record", name)]
    probes = found.get("probes")
    if not isinstance(probes, list):
        problems.append(f"smoke: {name} has no list of probes")
        probes = []
    bad = [p.get("name") for p in probes if isinstance(p, dict) and p.get("verdict") == "fail"]
    if result.get("verdict") == "pass" and (bad or found.get("verdict") != "pass"):
        what = ", ".join(str(one) for one in bad) or "the whole of it"
        problems.append(f"smoke: the record says pass, its evidence says that {what} failed")
    return Compared(problems=tuple(problems), said=f"{len(probes)} probes of the smoke test")


def evaluation(
    files: Files, result: Mapping[str, Any], project: Path | None, inputs: Mapping[str, Any]
) -> Compared:
    """Every task's figures from its answers, one by one; with ``project`` its reference's, too."""
    problems: list[str] = []
    answers = 0
    tasks = result.get("tasks") or []
    for raw in tasks:
        figures = Figures.model_validate(raw)
        name = _evaluation_name(files, figures.task, len(tasks))
        try:
            evaluated = _evaluated(files, name, figures.task)
        except RelforgeError as error:
            problems.append(f"{figures.task}: {name}: {error.why or error.what}")
            continue
        answers += evaluated.n
        found = [*_counted(evaluated, figures, name), *_concluded(figures)]
        problems += [f"{figures.task}: {line}" for line in found]
    problems += _gated(result, [Figures.model_validate(raw) for raw in tasks])
    if project is not None and not problems:
        problems += _compared_again(files, result, project, inputs)
    return Compared(problems=tuple(problems), said=f"{answers} answers of the evaluation")


def coverage(files: Files, result: Mapping[str, Any]) -> Compared:
    """The rows of operator coverage from the operators that were counted."""
    from relforge.coverage.evidence import load_coverage
    from relforge.coverage.rows import summary_rows

    name = "evidence/coverage.json"
    try:
        with _on_disk(files, name) as path:
            evidence = load_coverage(path)
    except RelforgeError as error:
        return Compared(problems=(f"coverage: {name}: {error.why or error.what}",), said="")
    run = evidence.main
    again = {
        "summary": [row.model_dump(mode="json") for row in summary_rows(evidence)],
        "operators": len(run.operators),
        "calls": sum(operator.calls for operator in run.operators),
        "shares": evidence.shares.model_dump(mode="json"),
    }
    recorded = {key: result.get(key) for key in again}
    problems = tuple(f"coverage: {line}" for line in differences(recorded, again, "record", name))
    return Compared(problems=problems, said=f"{len(run.operators)} operators of the coverage")


def differences(
    recorded: Any, found: Any, of_recorded: str, of_found: str, where: str = ""
) -> Iterator[str]:
    """What two JSON values have different, by its path."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in sorted({*recorded, *found}):
            path = f"{where}.{key}" if where else key
            if key not in recorded or key not in found:
                has, lacks = (of_found, of_recorded) if key in found else (of_recorded, of_found)
                yield f"{path} is in {has}, and not in {lacks}"
            else:
                yield from differences(recorded[key], found[key], of_recorded, of_found, path)
        return
    if isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for number, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(one, other, of_recorded, of_found, f"{where}[{number}]")
        return
    if not same(recorded, found):
        yield f"{where or 'it'} is {shown(recorded)} in {of_recorded}, {shown(found)} in {of_found}"


def same(one: Any, other: Any) -> bool:
    """Equal, or numbers that differ in the last digits alone."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other or math.isclose(one, other, rel_tol=_CLOSE)
    return type(one) is type(other) and bool(one == other)


def shown(value: Any) -> str:
    """A value, short enough for a line."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _evaluation_name(files: Files, task: str, tasks: int) -> str:
    named = f"evidence/evaluation-{task.replace('/', '-')}.json"
    return named if tasks > 1 or named in files.names else "evidence/evaluation.json"


def _evaluated(files: Files, name: str, task: str) -> EvaluationResult:
    from relforge.evaluation.evidence import load_reference

    with _on_disk(files, name) as path:
        return load_reference(path, task=task)


def _counted(evaluated: EvaluationResult, figures: Figures, name: str) -> Iterator[str]:
    """What the answers themselves say."""
    from relforge.evaluation.oddities import oddities

    settings = evaluated.settings
    metric = settings.metric + (f",{settings.filter}" if settings.filter else "")
    again = {
        "n": evaluated.n,
        "result_correct": evaluated.k,
        "result_percent": evaluated.accuracy_percent,
        "metric": metric.removesuffix(",none"),
        "tool": settings.tool,
        "tool_version": settings.tool_version,
        "odd": oddities(evaluated).model_dump(mode="json"),
    }
    recorded = {key: figures.model_dump(mode="json")[key] for key in again}
    if (evaluated.k, evaluated.n) != (figures.result_correct, figures.n):
        yield (
            f"{name} has {evaluated.k} of {evaluated.n} right, the record {figures.result_correct} "
            f"of {figures.n}"
        )
        return
    yield from differences(recorded, again, "record", name)


def _concluded(figures: Figures) -> Iterator[str]:
    """Difference and interval from the pairs that the record counts."""
    from relforge.evaluation.statistics.judging import Judgement, Pairs, judge

    lost, won = figures.only_reference, figures.only_result
    if figures.basis != "measured" or lost is None or won is None:
        return
    if figures.reference_correct != figures.result_correct + lost - won:
        yield (
            f"of the reference {figures.reference_correct} answers are right, and by the pairs it "
            f"is {figures.result_correct + lost - won}"
        )
    percent = 100 * (figures.result_correct + lost - won) / figures.n
    if not same(round(figures.reference_percent, 6), round(percent, 6)):
        yield f"the reference has {percent:g} %, the record says {figures.reference_percent:g} %"
    if figures.groups is not None:
        return  # The design effect needs the reference's answers, one by one.
    again = judge(
        Pairs(lost, won, figures.n),
        margin_points=figures.margin_points,
        confidence=figures.confidence,
    )
    for name in Judgement.model_fields:
        recorded, found = getattr(figures, name), getattr(again, name)
        if isinstance(found, tuple):
            recorded, found = list(recorded), list(found)
        # The solvers end where they are near enough, which differs between their versions.
        near = _near(recorded, found)
        if not near:
            yield f"{name} is {shown(recorded)} in the record, the answers give {shown(found)}"


def _near(recorded: Any, found: Any) -> bool:
    if isinstance(found, list):
        return all(_near(one, other) for one, other in zip(recorded, found, strict=True))
    if isinstance(found, float) and isinstance(recorded, (int, float)):
        return math.isclose(recorded, found, rel_tol=1e-6, abs_tol=1e-6)
    return bool(recorded == found)


def _gated(result: Mapping[str, Any], tasks: list[Figures]) -> Iterator[str]:
    """Whether the tasks allow the verdict."""
    verdict = result.get("verdict")
    if verdict == "pass":
        measured = [one for one in tasks if one.basis == "measured"]
        if not measured:
            yield "evaluate passed without a task that has a measured reference"
        for one in tasks:
            if one.held == "inferior" or (one.basis == "measured" and one.held != "non-inferior"):
                yield f"evaluate passed, and {one.task} is {one.held}"


def _compared_again(
    files: Files, result: Mapping[str, Any], project: Path, inputs: Mapping[str, Any]
) -> Iterator[str]:
    """The whole gate with the references of the project, as the manifest pins them."""
    from relforge.evaluation.gate import against, together
    from relforge.evaluation.gating import TaskInput
    from relforge.evaluation.interface import Evaluated
    from relforge.manifest.project import find_project

    found = find_project(project, project)
    compared = []
    declared = [TaskInput.model_validate(raw) for raw in inputs.get("tasks") or []]
    for task in declared:
        name = _evaluation_name(files, task.name, len(declared))
        try:
            reference = task.reference.load(found)
        except RelforgeError as error:
            yield f"{task.name}: the reference of the project: {error.what}"
            return
        evaluated = Evaluated(result=_evaluated(files, name, task.name), from_earlier=0)
        compared.append(against(reference, evaluated, margin_points=task.declared.margin_points))
    if not compared:
        return
    gate = together(compared)
    again = {
        "verdict": gate.verdict,
        "conclusion": gate.conclusion,
        "tasks": [one.model_dump(mode="json", exclude={"from_earlier_runs"}) for one in gate.tasks],
    }
    tasks = [dict(one) for one in result.get("tasks") or []]
    for one in tasks:
        one.pop("from_earlier_runs", None)
    recorded = {**{key: result.get(key) for key in again}, "tasks": tasks}
    for line in differences(_rounded(recorded), _rounded(again), "record", "the comparison"):
        yield f"evaluate: {line}"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


@contextmanager
def _on_disk(files: Files, name: str) -> Iterator[Path]:
    """A copy that is read once: what is judged is what was hashed."""
    with TemporaryDirectory(prefix="relforge-verify-") as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(files.read(name))
        yield path


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is missing")
    return value
