"""Build, where nothing is built: somebody else's image becomes the release as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relforge.evidence.store import Store
from relforge.manifest.facts import BaseImage
from relforge.stage import Job, StageContext

if TYPE_CHECKING:
    from relforge.building.inputs import BuildInputs
    from relforge.stages.build import BuildResult


def take_image(job: Job[BuildInputs], ctx: StageContext) -> BuildResult:
    """The image as a layout, its manifest untouched; nothing is read from inside it.

    Raises what ``engine.given_image.take`` raises.
    """
    from relforge.building.layers import built_layers
    from relforge.engine.given_image import take
    from relforge.engine.images import unpacked_bytes
    from relforge.stages.build import BuildResult

    inputs, env = job.inputs, job.env
    base = BaseImage.model_validate(inputs.base)
    wanted = base.registry or base.on_request
    assert wanted is not None
    layout = Store(env.home).folder("build", job.key) / "image"
    taken = take(
        wanted,
        architecture=inputs.architecture,
        image_name=inputs.image_name,
        layout=layout,
        site=env.site,
        ctx_line=ctx.line,
        cancel=ctx.cancel,
    )
    image = taken.image
    return BuildResult(
        layout=layout,
        image_name=inputs.image_name,
        image_digest=image.digest,
        config_digest=image.config_digest,
        compressed_bytes=image.size_bytes,
        unpacked_bytes=unpacked_bytes(
            inputs.image_name, taken.engine_image_id, image, site=env.site.engine
        ),
        architecture=image.architecture,
        created=image.created or "unknown",
        labels=image.labels,
        layers=tuple(layer.digest for layer in image.layers),
        layer_sizes=built_layers(image, given=True),
        base_how=f"{taken.how}, as it is",
        base_digest=taken.digest,
        base_place=taken.place,
        packages=(),
        python=None,
        python_packages={},
        debian_packages={},
        pip_check=(),
        rebuild="",
    )
