"""Stages whose place in the pipeline is fixed and whose work is not built yet."""

from __future__ import annotations

from relforge.errors import ExitCode, RelforgeError
from relforge.plan import Planning
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult


class _Later(Stage[StageInputs, StageResult]):
    result_type = StageResult

    def plan(self, planning: Planning) -> StageInputs | Skip:
        reason = planning.subject.release.skip.get(self.name)  # type: ignore[call-overload]
        if reason is not None:
            return Skip(kind="not-needed", reason=reason)
        return Skip(kind="not-built-yet", reason=f"relforge has no {self.title} yet")

    def run(self, job: Job[StageInputs], ctx: StageContext) -> StageResult:  # noqa: ARG002
        raise RelforgeError(f"{self.name} cannot run", code=ExitCode.BUG)


class Sbom(_Later):
    """The bill of materials of the image."""

    name = "sbom"
    title = "bill of materials"


class Sign(_Later):
    """Signed attestations beside the image."""

    name = "attest"
    title = "attestation"
