"""Card: the model card, from evidence alone."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from pydantic import InstanceOf

from relforge.evidence.store import Store
from relforge.files import write_atomic
from relforge.frozen import content_key
from relforge.lock import LockedPatchSet, LockedSource
from relforge.manifest.device import Device
from relforge.manifest.model import Model
from relforge.manifest.release import Release
from relforge.plan import Planning
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult


class CardInputs(StageInputs):
    """The manifests the card words, and the keys of the results it quotes."""

    build_key: str
    smoke_key: str
    evaluate_key: str | None
    bench_key: str | None
    coverage_key: str | None
    release: InstanceOf[Release]
    device: InstanceOf[Device]
    model: InstanceOf[Model]
    sources: dict[str, LockedSource]
    patches: dict[str, LockedPatchSet]
    trees: dict[str, str]
    lock_sha256: str
    registry: str | None
    sealed: tuple[str, ...]
    skipped: dict[str, str]


class CardResult(StageResult):
    """The card, ``outputs[0]``; ``path`` is a copy in the run that a person can open."""

    path: Path
    lines: int


class Card(Stage[CardInputs, CardResult]):
    """Reads results, runs nothing."""

    name = "card"
    title = "model card"
    needs = ("unpatch", "build", "smoke", "evaluate", "bench", "coverage")
    result_type = CardResult
    revision = 2

    def plan(self, planning: Planning) -> CardInputs | Skip:
        subject = planning.subject
        lock = subject.lock
        # What the release has no use for is no limit of it; what it goes without is.
        release_skips = set(subject.release.skip) | {"evaluate", "bench", "coverage"}
        return CardInputs(
            build_key=planning.key("build"),
            smoke_key=planning.key("smoke"),
            evaluate_key=planning.keys.get("evaluate"),
            bench_key=planning.keys.get("bench"),
            coverage_key=planning.keys.get("coverage"),
            release=subject.release,
            device=subject.device,
            model=subject.model,
            sources=lock.sources,
            patches=lock.patches,
            trees={name: lock.tree(name) for name in lock.sources},
            lock_sha256=content_key(lock),
            registry=subject.registry,
            sealed=subject.sealed,
            skipped={
                name: skip.reason
                for name, skip in planning.skips.items()
                if skip.kind == "not-built-yet" or name in release_skips
            },
        )

    def run(self, job: Job[CardInputs], ctx: StageContext) -> CardResult:
        from relforge.card.data import gather
        from relforge.card.render import render
        from relforge.stages.bench import BenchResult
        from relforge.stages.build import BuildResult
        from relforge.stages.coverage import CoverageResult
        from relforge.stages.evaluate import EvaluateResult
        from relforge.stages.smoke import SmokeResult
        from relforge.stages.unpatch import UnpatchResult

        inputs = job.inputs
        unpatched = job.upstream.get("unpatch")
        applied = unpatched.sets if isinstance(unpatched, UnpatchResult) else ()
        evaluation = cast("EvaluateResult | None", job.upstream.get("evaluate"))
        bench = cast("BenchResult | None", job.upstream.get("bench"))
        coverage = cast("CoverageResult | None", job.upstream.get("coverage"))
        data = gather(
            release=inputs.release,
            device=inputs.device,
            model=inputs.model,
            sources=inputs.sources,
            patches=inputs.patches,
            trees={**inputs.trees, **{s.source: s.result_tree or "" for s in applied}},
            lock_sha256=inputs.lock_sha256,
            build=cast(BuildResult, job.upstream["build"]),
            smoke=cast(SmokeResult, job.upstream["smoke"]),
            evaluation=evaluation.tasks if evaluation else (),
            performance=bench.report if bench and bench.verdict == "pass" else None,
            coverage=coverage.summary if coverage else (),
            sealed=frozenset(inputs.sealed),
            skipped=inputs.skipped,
            registry=inputs.registry,
        )
        text = render(data)
        path = job.env.run_dir / "README.md"
        write_atomic(path, text.encode())
        if bench is not None and bench.chart is not None:
            # Where the card, opened in the run, looks for it.
            (path.parent / "evidence").mkdir(exist_ok=True)
            write_atomic(path.parent / "evidence" / "bench.svg", bench.chart.path.read_bytes())
        ctx.line(f"wrote {path}")
        return CardResult(
            path=path,
            lines=len(text.splitlines()),
            outputs=(Store(job.env.home).put_blob(text.encode()),),
        )

    def outcome(self, result: CardResult) -> str:
        return f"{result.lines} lines"
