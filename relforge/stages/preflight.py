"""Preflight: cheap looks at this host before anything expensive, all faults in one message."""

from __future__ import annotations

from relforge import hostcheck
from relforge.errors import ExitCode, RelforgeError
from relforge.hostcheck import Finding
from relforge.manifest.project import Project
from relforge.plan import Planning, Subject
from relforge.stage import (
    Job,
    Resources,
    Skip,
    Stage,
    StageContext,
    StageInputs,
    StageResult,
    in_turn,
)

_ADVISED_MEMORY_BYTES = 2 * 10**9
_SERVING = {"smoke", "evaluate", "bench", "coverage"}


class PreflightInputs(StageInputs):
    """What the stages that will run need of the host."""

    unresolved: tuple[str, ...] = ()
    """What the lock leaves open; nothing is built before it is known."""
    needs: Resources
    secrets: tuple[str, ...]
    bootstraps: bool
    evaluates: bool
    benches: bool = False
    nodes: int = 0
    """Of the launch, where a stage that will run serves the image; 0: none does."""


class PreflightResult(StageResult):
    """What was found."""

    findings: tuple[Finding, ...]


def _bootstraps(subject: Subject) -> bool:
    """Whether a base image will be made on this host."""
    if subject.release.build.image is not None:
        return False
    base = subject.device.base
    return base.bootstrap is not None and (
        subject.site.base_image == "bootstrap" or base.registry is None
    )


class Preflight(Stage[PreflightInputs, PreflightResult]):
    """Also removes what a killed run left; work areas go when any verb starts."""

    name = "preflight"
    title = "preflight"
    result_type = PreflightResult
    check_only = True

    def plan(self, planning: Planning) -> PreflightInputs | Skip:
        subject = planning.subject
        return PreflightInputs(
            unresolved=subject.lock.unresolved,
            needs=in_turn(planning.work.values()),
            secrets=tuple(sorted(planning.secrets)),
            bootstraps="build" in planning.work and _bootstraps(subject),
            evaluates="evaluate" in planning.work,
            benches="bench" in planning.work,
            nodes=subject.release.serve.nodes if planning.work.keys() & _SERVING else 0,
        )

    def run(self, job: Job[PreflightInputs], ctx: StageContext) -> PreflightResult:
        from relforge import networkcheck

        site, inputs = job.env.site, job.inputs
        if inputs.unresolved:
            raise RelforgeError(
                f"the lock of {job.env.release} is not whole",
                code=ExitCode.SOURCE,
                where=f"{job.env.release}.lock.yaml",
                why="\n".join(f"not resolved: {what}" for what in inputs.unresolved),
                hint=f"relforge lock --release {job.env.release}, where these can be had",
            )
        needs = inputs.needs
        # First: what a killed run left goes also where this one cannot go on.
        self._sweep(job, ctx)
        findings = [
            hostcheck.disk(job.env.home, site.min_free_disk_bytes or needs.disk_bytes),
            hostcheck.memory(max(needs.memory_bytes, _ADVISED_MEMORY_BYTES)),
            *networkcheck.files(site),
        ]
        if needs.engine:
            findings[:0] = hostcheck.engine(site, needs.engine_disk_bytes)
        if inputs.nodes:
            findings += self._where_it_serves(job)
        if inputs.bootstraps:
            findings.append(hostcheck.bootstrap())
        if inputs.evaluates:
            findings.append(hostcheck.evaluator())
        if inputs.benches:
            findings.append(hostcheck.plotter())
        if "identities" in inputs.secrets:
            findings.append(hostcheck.identities(site.identities, site.key_passphrase_file))
        if "signing" in inputs.secrets:
            findings.append(hostcheck.signing_key(site, needed=True))
        for finding in findings:
            ctx.line(f"{finding.state}: {finding.name}: {finding.found}")
        missing = [f for f in findings if f.state == "missing"]
        if missing:
            raise RelforgeError(
                f"this host is not ready: {', '.join(f.name for f in missing)}",
                code=ExitCode.SOURCE
                if all(f.name in ("keys", "signing key") for f in missing)
                else ExitCode.ENVIRONMENT,
                why="\n".join(f"{f.name}: {f.found}" for f in missing),
                hint="\n".join(f.remedy for f in missing if f.remedy),
            )
        return PreflightResult(findings=tuple(findings))

    def _where_it_serves(self, job: Job[PreflightInputs]) -> list[Finding]:
        """The hosts, or this one's accelerator: smoke would find them absent after the build."""
        from relforge import nodecheck, profilecheck
        from relforge.engine.client import engine_host

        project, site = Project(job.env.project_roots), job.env.site
        release = project.release(job.env.release)
        if job.inputs.nodes > 1:
            return [nodecheck.nodes(release, site)]
        device = project.device(release.device)
        if not device.accelerator or not engine_host(site.engine).startswith("unix://"):
            return []
        found = profilecheck.device_files(device)
        # Of a device whose files nobody tells, doctor says so.
        return [] if found.state == "not-run" else [found]

    def _sweep(self, job: Job[PreflightInputs], ctx: StageContext) -> None:
        from relforge import sweeping

        sweeping.files(job.env.home, job.env.dist, ctx.line)
        if job.inputs.needs.engine:
            sweeping.engine(job.env.home, job.env.site.engine, ctx.line)

    def outcome(self, result: PreflightResult) -> str:
        warnings = [f for f in result.findings if f.state == "warning"]
        if warnings:
            return "; ".join(f"{f.name}: {f.found}" for f in warnings)
        return f"{len(result.findings)} looks, all well"
