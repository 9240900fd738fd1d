"""What BuildKit is asked for: the same when a release is built, and when it is built again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relforge.engine.base_image import BaseResult
from relforge.engine.buildx import BuildRequest
from relforge.stage import Job

if TYPE_CHECKING:
    from relforge.stages.build import BuildInputs


def build_request(
    job: Job[BuildInputs],
    *,
    base: BaseResult,
    contexts: dict[str, Path],
    secrets: dict[str, Path],
    layout: Path,
) -> BuildRequest:
    """The request for the image itself; ``layout`` is where it goes."""
    env = job.env
    return BuildRequest(
        dockerfile=job.upstream["render"].outputs[0].path,
        context=env.run_dir / "empty-context",
        contexts=contexts,
        args={"BASE_IMAGE": base.reference},
        secrets=secrets,
        target="image",
        source_date_epoch=job.inputs.source_date_epoch,
        image_name=job.inputs.image_name,
        layout=layout,
        log=env.run_dir / "logs" / "buildkit.log",
    )
