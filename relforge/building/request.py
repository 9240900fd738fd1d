"""What BuildKit is asked for: the same when a release is built, and when it is built again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relforge.engine.base_image import BaseResult
from relforge.engine.base_layout import base_layout
from relforge.engine.build_words import BuildRequest
from relforge.manifest.site import CacheSite
from relforge.stage import Job

if TYPE_CHECKING:
    from relforge.building.inputs import BuildInputs


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
    # Decrypted sources leave neither this host nor its engine.
    sealed = bool(job.inputs.sealed_sources)
    builder = "default" if sealed else env.site.engine.builder
    images = {}
    if builder != "default":
        layout_of_base = base_layout(base, home=env.home, site=env.site.engine)
        images[base.reference] = f"oci-layout://{layout_of_base.folder}@{layout_of_base.digest}"
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
        builder=builder,
        images=images,
        cache=CacheSite() if sealed else env.site.build.cache,
        sealed=sealed,
    )
