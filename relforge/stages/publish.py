"""Publish: copies what was tested to where people get it; builds nothing."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.record import EVIDENCE
from relforge.files import Output, stamp
from relforge.manifest.weights import LocalWeights
from relforge.plan import Planning, Subject
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult
from relforge.stages.bench import BenchResult
from relforge.stages.build import BuildResult
from relforge.stages.card import CardResult
from relforge.stages.evaluate import EvaluateResult
from relforge.stages.smoke import SmokeResult
from relforge.stages.unpatch import UnpatchResult
from relforge.stages.weights import WeightsResult


class PublishInputs(StageInputs):
    """The tested results, and the targets."""

    build_key: str
    smoke_key: str
    evaluate_key: str | None
    bench_key: str | None
    coverage_key: str | None
    sbom_key: str | None
    scan_key: str | None
    attest_key: str | None
    card_key: str
    local_weights: dict[str, str]
    """The hash of each file of a model that lies in the project; other models have a hub."""


class PublishResult(StageResult):
    """Where the release lies. ``outputs`` are the files of its folder."""

    folder: Path
    image_digest: str


class Publish(Stage[PublishInputs, PublishResult]):
    """An OCI layout folder with card and evidence; ``relforge promote`` and others send it on."""

    name = "publish"
    revision = 3
    title = "publication"
    needs = (
        "weights", "unpatch", "render", "build", "smoke", "evaluate", "bench", "coverage", "sbom",
        "scan", "attest", "card",
    )  # fmt: skip
    result_type = PublishResult

    def plan(self, planning: Planning) -> PublishInputs | Skip:
        weights = planning.subject.model.weights
        return PublishInputs(
            build_key=planning.key("build"),
            smoke_key=planning.key("smoke"),
            evaluate_key=planning.keys.get("evaluate"),
            bench_key=planning.keys.get("bench"),
            coverage_key=planning.keys.get("coverage"),
            sbom_key=planning.keys.get("sbom"),
            scan_key=planning.keys.get("scan"),
            attest_key=planning.keys.get("attest"),
            card_key=planning.key("card"),
            local_weights=weights.files if isinstance(weights, LocalWeights) else {},
        )

    def run(self, job: Job[PublishInputs], ctx: StageContext) -> PublishResult:
        from relforge.publishing.folder import publish_folder

        env = job.env
        build = cast(BuildResult, job.upstream["build"])
        smoke = cast(SmokeResult, job.upstream["smoke"])
        card = cast(CardResult, job.upstream["card"])
        evaluation = cast("EvaluateResult | None", job.upstream.get("evaluate"))
        _require_shippable(job)
        evidence = {
            "smoke.json": smoke.outputs[0].path,
            "server.log": smoke.outputs[1].path,
        }
        if (rendered := job.upstream.get("render")) is not None:
            evidence["Dockerfile"] = rendered.outputs[0].path
        if evaluation is not None:
            evidence |= evaluation.evidence()
        if (bench := cast("BenchResult | None", job.upstream.get("bench"))) is not None:
            evidence |= _bench_evidence(bench)
        if (covered := job.upstream.get("coverage")) is not None:
            evidence["coverage.json"] = covered.outputs[0].path
        for stage in ("sbom", "scan"):
            if (result := job.upstream.get(stage)) is not None:
                evidence |= result.evidence()
        evidence |= _logs(job, evidence)
        done = publish_folder(
            build.layout,
            cards={name: output.path for name, output in card.files().items()},
            evidence=evidence,
            weights=_local_weights(job),
            record=None,
            target=env.dist / env.release,
            # `docker load` of the folder then gives the very name that the card uses.
            tag=build.image_name,
        )
        ctx.line(f"{done.path}: {'written' if done.written else 'was there already'}")
        return PublishResult(
            folder=done.path,
            image_digest=done.image_digest,
            outputs=_stamps(done.path),
        )

    def unusable(self, result: PublishResult, subject: Subject) -> str | None:
        if subject.dist is not None and result.folder != subject.dist / subject.release.name:
            return f"was published to {result.folder}"
        return None

    def outcome(self, result: PublishResult) -> str:
        return str(result.folder)


def _local_weights(job: Job[PublishInputs]) -> dict[str, Path]:
    if not job.inputs.local_weights:
        return {}
    fetched = cast(WeightsResult, job.upstream["weights"])
    return {name: fetched.folder / name for name in job.inputs.local_weights}


def _logs(job: Job[PublishInputs], named: dict[str, Path]) -> dict[str, Path]:
    """What else the record names as evidence: the logs of the servers that were measured."""
    found: dict[str, Path] = {}
    for stage in EVIDENCE:
        result = job.upstream.get(stage)
        for output in result.outputs if result is not None else ():
            if output.path not in (*named.values(), *found.values()):
                count = sum(name.startswith(f"logs/{stage}") for name in found)
                found[f"logs/{stage}{f'-{count + 1}' if count else ''}.log"] = output.path
    return found


def _bench_evidence(bench: BenchResult) -> dict[str, Path]:
    """The report, the chart, and the load generator's own files that both were made of."""
    files = {"bench.json": bench.outputs[0].path}
    for level, raw in zip(bench.report.levels, bench.raw, strict=True):
        files[f"bench/concurrency-{level.figures.concurrency}.json"] = raw.path
    if bench.chart is not None:
        files["bench.svg"] = bench.chart.path
    return files


def _require_shippable(job: Job[PublishInputs]) -> None:
    """Nothing looks into the layers yet, so only what may be shipped whole is published."""
    unpatch = job.upstream.get("unpatch")
    sets = unpatch.sets if isinstance(unpatch, UnpatchResult) else ()
    kept_back = [s.name for s in sets if s.sealed and s.ships != "python"]
    if kept_back:
        raise RelforgeError(
            f"{job.env.release} is not published: {', '.join(kept_back)} may not be shipped whole",
            code=ExitCode.PUBLISH,
            why="its sealed sources declare ships: none or binaries, and relforge has no scan of "
            "the image's layers yet that could show that it keeps to that",
            hint="agree with the signer on ships: python, or publish by hand",
        )


def _stamps(folder: Path) -> tuple[Output, ...]:
    # The record is written after this stage and is no output of it.
    return tuple(
        stamp(path, sha256=path.name if path.parent.name == "sha256" else None)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "release.json"
    )
