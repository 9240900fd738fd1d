"""Weights: every file of the model hashed against its manifest."""

from __future__ import annotations

from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import stamp
from relforge.frozen import Frozen
from relforge.manifest.project import Project
from relforge.plan import Planning
from relforge.stage import Job, Output, Skip, Stage, StageContext, StageInputs, StageResult
from relforge.ui.text import size


class WeightFile(Frozen):
    """One pinned file."""

    path: str
    sha256: str


class WeightsInputs(StageInputs):
    """The model's files; ``folder`` is relative to the project."""

    model: str
    folder: str
    files: tuple[WeightFile, ...]


class WeightsResult(StageResult):
    """Where the verified weights lie on this host."""

    folder: Path
    total_bytes: int


class Weights(Stage[WeightsInputs, WeightsResult]):
    """Local folders only, so far."""

    name = "weights"
    title = "weights"
    result_type = WeightsResult

    def plan(self, planning: Planning) -> WeightsInputs | Skip:
        weights = planning.subject.model.weights
        return WeightsInputs(
            model=planning.subject.model.name,
            folder=weights.path,
            files=tuple(
                WeightFile(path=path, sha256=digest)
                for path, digest in sorted(weights.files.items())
            ),
        )

    def run(self, job: Job[WeightsInputs], ctx: StageContext) -> WeightsResult:
        folder = Project(job.env.project_roots).path(job.inputs.folder)
        outputs: list[Output] = []
        for file in job.inputs.files:
            ctx.cancel.check()
            path = folder / file.path
            if not path.is_file():
                raise RelforgeError(
                    f"weights of {job.inputs.model}: {file.path} is missing",
                    code=ExitCode.SOURCE,
                    where=str(path),
                    hint="restore the file, or correct weights.files in the model manifest",
                )
            found = stamp(path)
            ctx.line(f"{found.sha256}  {file.path}")
            if found.sha256 != file.sha256:
                raise RelforgeError(
                    f"weights of {job.inputs.model}: {file.path} is not the pinned file",
                    code=ExitCode.SOURCE,
                    where=str(path),
                    why=f"expected sha256 {file.sha256}, found {found.sha256}",
                    hint="restore the file; if the change is meant, pin the new hash in the model",
                )
            outputs.append(found)
        return WeightsResult(
            folder=folder,
            total_bytes=sum(o.size_bytes for o in outputs),
            outputs=tuple(outputs),
        )

    def outcome(self, result: WeightsResult) -> str:
        return f"{len(result.outputs)} files, {size(result.total_bytes)}"
