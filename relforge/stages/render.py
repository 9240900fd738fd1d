"""Render: the Dockerfile of a release, as a file in the run."""

from __future__ import annotations

from relforge.evidence.store import Store
from relforge.files import write_atomic
from relforge.plan import Planning
from relforge.rendering import render_dockerfile
from relforge.stage import Job, Skip, Stage, StageContext, StageInputs, StageResult


class RenderInputs(StageInputs):
    """The rendered text itself: rendering is a pure function of manifests, lock and templates."""

    template: str
    dockerfile: str


class RenderResult(StageResult):
    """The Dockerfile as evidence: ``outputs[0]``."""

    lines: int


class Render(Stage[RenderInputs, RenderResult]):
    """Rendering happens while planning, so that the plan already knows what will be built."""

    name = "render"
    title = "Dockerfile"
    result_type = RenderResult

    def plan(self, planning: Planning) -> RenderInputs | Skip:
        if planning.subject.release.build.image is not None:
            return Skip(kind="not-needed", reason="the image is taken as it is")
        template = planning.subject.release.build.template or planning.subject.device.template
        return RenderInputs(template=template, dockerfile=render_dockerfile(planning.subject))

    def run(self, job: Job[RenderInputs], ctx: StageContext) -> RenderResult:
        text = job.inputs.dockerfile
        write_atomic(job.env.run_dir / "Dockerfile", text.encode())
        ctx.line(f"wrote {job.env.run_dir / 'Dockerfile'}")
        blob = Store(job.env.home).put_blob(text.encode())
        return RenderResult(lines=len(text.splitlines()), outputs=(blob,))

    def outcome(self, result: RenderResult) -> str:
        return f"Dockerfile of {result.lines} lines"
