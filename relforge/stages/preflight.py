"""Preflight: cheap looks at this host before anything expensive, all faults in one message."""

from __future__ import annotations

from relforge import hostcheck
from relforge.errors import ExitCode, RelforgeError
from relforge.hostcheck import Finding
from relforge.plan import Planning
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult

_GB = 10**9
_HOME_BYTES = 6 * _GB


class PreflightInputs(StageInputs):
    """What the release will need of the host."""

    bootstraps: bool
    evaluates: bool
    sealed: tuple[str, ...]
    memory_bytes: int


class PreflightResult(StageResult):
    """What was found."""

    findings: tuple[Finding, ...]


class Preflight(Stage[PreflightInputs, PreflightResult]):
    """Also removes containers that a killed run left; work areas go when any verb starts."""

    name = "preflight"
    title = "preflight"
    result_type = PreflightResult
    check_only = True

    def plan(self, planning: Planning) -> PreflightInputs | Skip:
        subject = planning.subject
        base = subject.device.base
        wants_bootstrap = subject.site.base_image == "bootstrap" or base.registry is None
        return PreflightInputs(
            bootstraps=base.bootstrap is not None and wants_bootstrap,
            evaluates="evaluate" in planning.asked_for
            and subject.release.evaluation is not None
            and "evaluate" not in subject.release.skip,
            sealed=subject.sealed,
            memory_bytes=subject.release.serve.memory_bytes or 2 * _GB,
        )

    def run(self, job: Job[PreflightInputs], ctx: StageContext) -> PreflightResult:
        site, inputs = job.env.site, job.inputs
        free = site.min_free_disk_bytes
        findings = [
            hostcheck.engine(site),
            hostcheck.disk(job.env.home, free or _HOME_BYTES),
            hostcheck.memory(inputs.memory_bytes),
        ]
        if inputs.bootstraps:
            findings.append(hostcheck.bootstrap())
        if inputs.evaluates:
            findings.append(hostcheck.evaluator())
        if inputs.sealed:
            findings.append(hostcheck.identities(site.identities))
        for finding in findings:
            ctx.line(f"{finding.state}: {finding.name}: {finding.found}")
        missing = [f for f in findings if f.state == "missing"]
        if missing:
            raise RelforgeError(
                f"this host is not ready: {', '.join(f.name for f in missing)}",
                code=ExitCode.SOURCE
                if all(f.name == "keys" for f in missing)
                else ExitCode.ENVIRONMENT,
                why="\n".join(f"{f.name}: {f.found}" for f in missing),
                hint="\n".join(f.remedy for f in missing if f.remedy),
            )
        self._sweep(job, ctx)
        return PreflightResult(findings=tuple(findings))

    def _sweep(self, job: Job[PreflightInputs], ctx: StageContext) -> None:
        from relforge.engine.client import connect
        from relforge.engine.containers import sweep

        client = connect(job.env.site.engine)
        try:
            for name in sweep(client):
                ctx.line(f"removed container {name}, left by a run that was killed")
        finally:
            client.close()

    def outcome(self, result: PreflightResult) -> str:
        warnings = [f for f in result.findings if f.state == "warning"]
        if warnings:
            return "; ".join(f"{f.name}: {f.found}" for f in warnings)
        return f"{len(result.findings)} looks, all well"
