"""Stages whose place in the pipeline is fixed and whose work is not built yet."""

from __future__ import annotations

from typing import ClassVar

from relforge.errors import ExitCode, RelforgeError
from relforge.plan import Planning
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult


class _Later(Stage[StageInputs, StageResult]):
    result_type = StageResult
    lacking: ClassVar[str | None] = None
    """What to say where relforge has the measurement, but not as part of a release."""

    def plan(self, planning: Planning) -> StageInputs | Skip:
        reason = planning.subject.release.skip.get(self.name)  # type: ignore[call-overload]
        if reason is not None:
            return Skip(kind="not-needed", reason=reason)
        return Skip(
            kind="not-built-yet", reason=self.lacking or f"relforge has no {self.title} yet"
        )

    def run(self, job: Job[StageInputs], ctx: StageContext) -> StageResult:  # noqa: ARG002
        raise RelforgeError(f"{self.name} cannot run", code=ExitCode.BUG)


class Coverage(_Later):
    """Which operators Triton kernels took over."""

    name = "coverage"
    title = "operator coverage"
    lacking = "operator coverage is measured by hand, and is no part of a release yet"


class Sbom(_Later):
    """The bill of materials of the image."""

    name = "sbom"
    title = "bill of materials"


class Scan(_Later):
    """The look for secrets and undeclared sealed content before a publish."""

    name = "scan"
    title = "content scan"


class Sign(_Later):
    """Signed attestations beside the image."""

    name = "attest"
    title = "attestation"
