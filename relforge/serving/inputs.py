"""What the stages that serve an image have in common: their inputs, and the launch itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from relforge.manifest.device import Device
from relforge.manifest.release import Release
from relforge.plan import Planning
from relforge.serving.spec import LaunchSpec, launch_spec
from relforge.stage import Job, Resources, StageContext, StageInputs

if TYPE_CHECKING:
    from docker import DockerClient

# Fields of the release that decide how it is served; the rest must not restart a server.
_SERVED = {
    "kind",
    "name",
    "model",
    "device",
    "variant",
    "engine",
    "title",
    "build",
    "serve",
    "smoke",
}


class ServingInputs(StageInputs):
    """The image (through the key of its build), how it is started, and with which weights."""

    build_key: str
    release: dict[str, Any]
    device: dict[str, Any]
    weights: dict[str, str]

    @property
    def needs(self) -> Resources:
        """What a host that serves the image must have."""
        return Resources(
            cpu_cores=2,
            memory_bytes=self.release["serve"]["memory_bytes"] or 0,
            engine=True,
            device=self.release["device"],
        )


def serving_inputs(planning: Planning) -> dict[str, Any]:
    """The fields of ``ServingInputs`` for a release."""
    subject = planning.subject
    release = subject.release.model_dump(mode="json", include=_SERVED)
    # How it was built is in the key of the build already; a title changes nothing.
    release |= {"build": {}, "title": ""}
    return {
        "build_key": planning.key("build"),
        "release": release,
        "device": subject.device.model_dump(
            mode="json", exclude={"default_release", "vendor", "title", "aliases"}
        )
        | {"vendor": {"name": subject.device.vendor.name}, "title": ""},
        # Where nothing is pinned, the stage's key stands for what lies in the folder.
        "weights": dict(sorted(subject.model.weights.files.items()))
        or {"": planning.key("weights")},
    }


class Launch(NamedTuple):
    """What is needed to start the built image; ``config_digest`` is the image's."""

    engine: DockerClient
    spec: LaunchSpec
    config_digest: str


@contextmanager
def launch(job: Job[Any], ctx: StageContext) -> Iterator[Launch]:
    """The launch of the built digest, which is loaded into the engine where it is not there."""
    from relforge.engine.client import connect
    from relforge.engine.images import load_into_engine
    from relforge.stages.build import BuildResult
    from relforge.stages.weights import WeightsResult

    build = cast(BuildResult, job.upstream["build"])
    weights = cast(WeightsResult, job.upstream["weights"])
    engine = connect(job.env.site.engine)
    try:
        image = load_into_engine(
            build.layout, build.image_name, site=job.env.site.engine, cancel=ctx.cancel
        )
        if image.loaded:
            ctx.line(f"loaded {build.image_name} into the engine again")
        spec = launch_spec(
            Release.model_validate(job.inputs.release),
            Device.model_validate(job.inputs.device),
            image=image.id,
            weights=weights.folder,
            weight_files=weights.names,
            name=f"relforge-{job.env.release}-{job.stage}-{job.env.run_id[-6:]}",
        )
        yield Launch(engine, spec, build.config_digest)
    finally:
        engine.close()
