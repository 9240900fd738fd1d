"""Smoke: the built digest serves, and says what the reference says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relforge.evidence.store import Store
from relforge.manifest.device import Device
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.smoke import Smoke as Settings
from relforge.plan import Planning
from relforge.serving.expected import expected_of, says_flaggems
from relforge.serving.inputs import ServingInputs, launch, serving_inputs
from relforge.serving.reference import GreedyText
from relforge.serving.report import ProbeReport, SmokeReport
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageResult

if TYPE_CHECKING:
    from relforge.stages.build import BuildResult


class SmokeInputs(ServingInputs):
    """What is served and what it must answer."""

    reference_path: str | None
    reference_sha256: str | None
    settings: dict[str, Any]
    languages: tuple[str, ...]
    flaggems: bool
    """Whether the release says that FlagGems is used."""


class SmokeResult(StageResult):
    """The report, with the server's log and the report itself as ``outputs``."""

    report: SmokeReport
    sample: GreedyText | None
    """A prompt with the answer that was checked; the card shows it."""


class Smoke(Stage[SmokeInputs, SmokeResult]):
    """Starts the digest with the manifest's run options, and stops it whatever happens."""

    name = "smoke"
    revision = 3
    title = "smoke test"
    needs = ("weights", "build")
    result_type = SmokeResult

    def plan(self, planning: Planning) -> SmokeInputs | Skip:
        subject = planning.subject
        reference = subject.model.reference
        return SmokeInputs(
            **serving_inputs(planning),
            reference_path=reference.path if reference else None,
            reference_sha256=planning.file_sha256(reference.path) if reference else None,
            settings=subject.release.smoke.model_dump(mode="json"),
            languages=subject.model.languages,
            flaggems=says_flaggems(subject.release),
        )

    def resources(self, inputs: SmokeInputs) -> Resources:
        return inputs.needs

    def run(self, job: Job[SmokeInputs], ctx: StageContext) -> SmokeResult:
        from relforge.serving.diagnosis.advice import Manifest, advised
        from relforge.serving.reference import read_greedy_texts
        from relforge.serving.smoke import run_smoke

        inputs = job.inputs
        project = Project(job.env.project_roots)
        release = Release.model_validate(inputs.release)
        settings = Settings.model_validate(inputs.settings)
        build = cast("BuildResult", job.upstream["build"])
        reference = (
            read_greedy_texts(project.path(inputs.reference_path)) if inputs.reference_path else ()
        )
        with launch(job, ctx) as (engine, spec, config_digest):
            report = run_smoke(
                spec,
                engine,
                reference=reference,
                settings=settings,
                run_id=job.env.run_id,
                log_path=_log_path(job.env.run_dir),
                cancel=ctx.cancel,
                on_line=ctx.line,
                config_digest=config_digest,
                site=job.env.site.engine,
                on_result=lambda probe: ctx.line(probe.shown()),
                expected=expected_of(
                    release,
                    Device.model_validate(inputs.device),
                    languages=inputs.languages,
                    flaggems=inputs.flaggems,
                    python_packages=build.python_packages,
                ),
            )
        if report.cause is not None:
            path = project.release_files.get(release.name)
            report = report.model_copy(
                update={"cause": advised(report.cause, Manifest(release, path))}
            )
        reason = explained(report)
        store = Store(job.env.home)
        return SmokeResult(
            verdict=report.verdict,
            reason=reason,
            report=report,
            sample=reference[0] if reference and settings.exact else None,
            outputs=(
                store.put_blob(
                    report.model_dump_json(indent=1, exclude={"server_log"}).encode() + b"\n"
                ),
                store.put_blob(report.server_log.read_bytes()),
            ),
        )

    def outcome(self, result: SmokeResult) -> str:
        report = result.report
        if report.start_to_ready_s is None or report.first_token_ms is None:
            return report.reason
        return (
            f"{report.reason}; ready after {report.start_to_ready_s:.0f} s, "
            f"first token after {report.first_token_ms:.0f} ms"
        )


def log_lines(report: ProbeReport) -> Iterator[str]:
    """What a report says beside its probes, for people."""
    if isinstance(report, SmokeReport) and report.start_to_ready_s is not None:
        took = f"ready after {report.start_to_ready_s:.1f} s"
        if report.stop_s is not None and report.overhead_s is not None:
            took += f", ended after {report.stop_s:.1f} s; probing added {report.overhead_s:.2f} s"
        yield took
    yield report.reason if report.verdict == "fail" else f"pass: {report.reason}"


def explained(report: ProbeReport) -> str:
    """The reason of a report, with the cause and its remedy where it is known."""
    if report.cause is None:
        return report.reason
    return (
        f"{report.reason}\n{report.cause.explanation}\nlog line: {report.cause.evidence}\n"
        f"remedy: {report.cause.remedy}"
    )


def _log_path(run_dir: Path) -> Path:
    path = run_dir / "logs" / "server-smoke.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
