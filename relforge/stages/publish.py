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
from relforge.stages.scan import ScanResult
from relforge.stages.smoke import SmokeResult
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
    registry: str | None


class PublishResult(StageResult):
    """Where the release lies. ``outputs`` are the files of its folder."""

    folder: Path
    image_digest: str
    pushed: str | None
    """``HOST/NAME@sha256:...`` as read back from the registry."""


class Publish(Stage[PublishInputs, PublishResult]):
    """An OCI layout folder with card and evidence; with ``--registry`` also a push by digest."""

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
            registry=planning.subject.registry,
        )

    def run(self, job: Job[PublishInputs], ctx: StageContext) -> PublishResult:
        from relforge.network import for_children
        from relforge.publishing.folder import publish_folder
        from relforge.publishing.registry import Repository, push

        env = job.env
        build = cast(BuildResult, job.upstream["build"])
        smoke = cast(SmokeResult, job.upstream["smoke"])
        card = cast(CardResult, job.upstream["card"])
        evaluation = cast("EvaluateResult | None", job.upstream.get("evaluate"))
        tag = f"{env.release}-{build.image_digest.removeprefix('sha256:')[:12]}"
        repository = None
        if job.inputs.registry is not None:
            repository = Repository.parse(job.inputs.registry)
            _require_gates(env.release, smoke, evaluation)
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
        cards = {name: output.path for name, output in card.files().items()}
        _require_scanned(job, {**cards, **{f"evidence/{n}": p for n, p in evidence.items()}})
        # The registry first: a folder whose card names an image that is not there helps nobody.
        pushed = None
        if repository is not None:
            with for_children(env.site) as network:
                sent = push(
                    build.layout,
                    repository,
                    tag=tag,
                    image_name=build.image_name,
                    site=env.site.engine,
                    network=network,
                    line=ctx.line,
                    cancel=ctx.cancel,
                )
            pushed = sent.reference
        done = publish_folder(
            build.layout,
            cards=cards,
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
            pushed=pushed,
            outputs=_stamps(done.path),
        )

    def unusable(self, result: PublishResult, subject: Subject) -> str | None:
        if subject.dist is not None and result.folder != subject.dist / subject.release.name:
            return f"was published to {result.folder}"
        if subject.registry is not None:
            # Only the registry knows what it has now; pushing what is there sends nothing.
            return f"asks {subject.registry}"
        return None

    def outcome(self, result: PublishResult) -> str:
        return f"{result.folder}" + (f", {result.pushed}" if result.pushed else "")


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


def _require_scanned(job: Job[PublishInputs], files: dict[str, Path]) -> None:
    """The layers passed the scan as this very image, and cards and evidence have nothing either."""
    from relforge.scanning.files import search_files
    from relforge.scanning.folder import require_none
    from relforge.scanning.looking import LookedFor
    from relforge.scanning.seeking import Finder

    env = job.env
    build = cast(BuildResult, job.upstream["build"])
    scan = cast("ScanResult | None", job.upstream.get("scan"))
    if scan is None or scan.verdict != "pass" or scan.image_digest != build.image_digest:
        raise RelforgeError(
            f"{env.release} is not published: the content scan did not pass on this image",
            code=ExitCode.GATE,
            why="nothing shows that the image holds no secret, and no sealed source that may not "
            "be shipped"
            if scan is None
            else scan.reason,
            hint=f"relforge release --release {env.release}; a release that skips `scan` is not "
            "published",
        )
    looked_for = LookedFor(env.site, env.home, env.project_roots)
    found = search_files(files, Finder(looked_for.searcher, looked_for.policy))
    require_none(found.hits, name=env.release)


def _require_gates(release: str, smoke: SmokeResult, evaluation: EvaluateResult | None) -> None:
    missing = [
        name
        for name, verdict in (
            ("smoke", smoke.verdict),
            ("evaluate", evaluation.verdict if evaluation else "not-run"),
        )
        if verdict != "pass"
    ]
    if missing:
        raise RelforgeError(
            f"{release} is not pushed: {', '.join(missing)} did not pass on this digest",
            code=ExitCode.GATE,
            why="a release tag only goes to an image whose gates passed",
            hint=f"relforge release --release {release}",
        )


def _stamps(folder: Path) -> tuple[Output, ...]:
    # The record is written after this stage and is no output of it.
    return tuple(
        stamp(path, sha256=path.name if path.parent.name == "sha256" else None)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "release.json"
    )
