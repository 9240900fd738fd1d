"""What is said of each look at an image: verdict, reason, figures, and the evidence by hash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from relforge.attesting import predicates
from relforge.files import Output
from relforge.stage import StageResult

if TYPE_CHECKING:
    from relforge.stages.bench import BenchResult
    from relforge.stages.build import BuildResult
    from relforge.stages.coverage import CoverageResult
    from relforge.stages.evaluate import EvaluateResult
    from relforge.stages.smoke import SmokeResult

Predicate = dict[str, Any]

OURS = {
    "evaluate": predicates.EVALUATION,
    "bench": predicates.BENCHMARK,
    "coverage": predicates.COVERAGE,
    "scan": predicates.CONTENT_SCAN,
}
_LOOKED_FOR = ("evaluate", "bench", "coverage")
"""Where these were not run, the statement says so, with the reason."""
_RESULTS = {"pass": "PASSED", "fail": "FAILED"}


def result_predicates(
    upstream: Mapping[str, StageResult],
    evidence: Mapping[str, Mapping[str, Output]],
    *,
    stage_keys: Mapping[str, str],
    skipped: Mapping[str, str],
) -> Iterator[tuple[str, Predicate]]:
    """Predicate types and predicates, in the order of the pipeline.

    ``evidence``: of each stage, by the name below ``evidence/``. ``skipped``: why a stage has no
    result.
    """
    where = _where(upstream)
    smoke = upstream.get("smoke")
    if smoke is not None:
        yield (
            predicates.TEST_RESULT,
            {
                **_tests(cast("SmokeResult", smoke), stage_keys["smoke"]),
                **_common(smoke, evidence.get("smoke", {})),
                **where,
            },
        )
    for stage, kind in OURS.items():
        result = upstream.get(stage)
        if result is not None:
            about = {} if stage == "scan" else where  # every architecture's layers are searched
            found = {**_common(result, evidence.get(stage, {})), **_figures(stage, result)}
            yield kind, {**found, **about}
        elif stage in _LOOKED_FOR:
            reason = skipped.get(stage, "it was not run")
            yield kind, {"verdict": "not-run", "reason": reason, "evidence": []}
    for result in upstream.values():
        yield from sorted(result.attested().items())


def _where(upstream: Mapping[str, StageResult]) -> Predicate:
    """On which architecture of an image for several it was measured."""
    build = cast("BuildResult | None", upstream.get("build"))
    return {"platform": build.platforms[0].platform} if build and build.platforms else {}


def evidence_list(files: Mapping[str, Output]) -> list[dict[str, Any]]:
    """Resource descriptors of evidence files, sorted by name."""
    return [
        {"name": f"evidence/{name}", "digest": {"sha256": output.sha256}}
        for name, output in sorted(files.items())
    ]


def _common(result: StageResult, files: Mapping[str, Output]) -> Predicate:
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "evidence": evidence_list(files),
    }


def _tests(smoke: SmokeResult, key: str) -> Predicate:
    """in-toto's test-result v0.1. What was not run is neither passed nor failed."""
    by_verdict: dict[str, list[str]] = {}
    for probe in smoke.report.probes:
        by_verdict.setdefault(probe.verdict, []).append(probe.name)
    return {
        "result": _RESULTS.get(smoke.verdict or "", "WARNED"),
        # The key is the SHA-256 of everything that was configured, canonical.
        "configuration": [{"name": "relforge smoke inputs", "digest": {"sha256": key}}],
        "passedTests": by_verdict.get("pass", []),
        "warnedTests": by_verdict.get("inconclusive", []),
        "failedTests": by_verdict.get("fail", []),
        "notRunTests": by_verdict.get("not-run", []),
    }


def _figures(stage: str, result: StageResult) -> Predicate:
    if stage == "evaluate":
        evaluated = cast("EvaluateResult", result)
        return {
            "conclusion": evaluated.conclusion,
            "tasks": [task.model_dump(mode="json") for task in evaluated.tasks],
        }
    if stage == "bench":
        report = cast("BenchResult", result).report
        return {
            "tool": report.settings.tool,
            "tool_version": report.settings.tool_version,
            "machine": report.machine.model_dump(mode="json"),
            "levels": [level.figures.model_dump(mode="json") for level in report.levels],
        }
    if stage == "coverage":
        covered = cast("CoverageResult", result)
        shares = covered.shares.model_dump(mode="json") if covered.shares else None
        return {"operators": covered.operators, "calls": covered.calls, "shares": shares}
    return {}
