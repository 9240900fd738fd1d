"""The names that evidence has below ``evidence/`` of a release's folder, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from relforge.evidence.record import EVIDENCE
from relforge.files import Output
from relforge.stage import StageResult

if TYPE_CHECKING:
    from relforge.stages.bench import BenchResult


def evidence_of(upstream: Mapping[str, StageResult]) -> dict[str, dict[str, Output]]:
    """Every output of the stages whose outputs are evidence: by stage, and by name.

    What has no name of its own is the log of a server or a probe.
    """
    return {stage: dict(_files(stage, upstream[stage])) for stage in EVIDENCE if stage in upstream}


def _files(stage: str, result: StageResult) -> Iterator[tuple[str, Output]]:
    named = dict(_named(stage, result))
    yield from named.items()
    taken = {output.path for output in named.values()}
    logs = [output for output in result.outputs if output.path not in taken]
    for count, output in enumerate(logs, start=1):
        yield f"logs/{stage}{f'-{count}' if count > 1 else ''}.log", output


def _named(stage: str, result: StageResult) -> Iterator[tuple[str, Output]]:
    outputs = result.outputs
    if stage == "smoke":
        yield "smoke.json", outputs[0]
        yield "server.log", outputs[1]
    elif stage == "render":
        yield "Dockerfile", outputs[0]
    elif stage == "bench":
        bench = cast("BenchResult", result)
        yield "bench.json", outputs[0]
        for level, raw in zip(bench.report.levels, bench.raw, strict=True):
            yield f"bench/concurrency-{level.figures.concurrency}.json", raw
        if bench.chart is not None:
            yield "bench.svg", bench.chart
    elif stage == "coverage":
        # A probe that failed left nothing.
        if outputs:
            yield "coverage.json", outputs[0]
    else:
        by_path = {output.path: output for output in outputs}
        for name, path in result.evidence().items():
            yield name, by_path[path]
