"""What the stages that serve an image have in common: their inputs, and the launch itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from relforge.manifest.device import Device
from relforge.manifest.release import Release
from relforge.plan import Planning
from relforge.stage import Job, Resources, StageContext, StageInputs

if TYPE_CHECKING:
    from docker import DockerClient

    from relforge.serving.model import LaunchSpec

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
            shared_device=not self.device["accelerator"],
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
    """What is needed to start the built image; ``config_digest`` is the image's.

    ``engine`` is that of the first node.
    """

    engine: DockerClient
    spec: LaunchSpec
    config_digest: str


@contextmanager
def launch(job: Job[Any], ctx: StageContext) -> Iterator[Launch]:
    """The launch of the built digest, which is loaded into each engine where it is not there.

    A release of several nodes is served by the hosts that the site names for it, once they reach
    each other. Raises RelforgeError (ENVIRONMENT) when there are none, or they do not.
    """
    from relforge.engine.client import connect
    from relforge.engine.images import load_into_engine
    from relforge.serving.nodes import site_of
    from relforge.serving.reach import check_reach
    from relforge.serving.site_nodes import site_hosts
    from relforge.serving.spec import launch_spec
    from relforge.stages.build import BuildResult
    from relforge.stages.weights import WeightsResult

    build = cast(BuildResult, job.upstream["build"])
    weights = cast(WeightsResult, job.upstream["weights"])
    release = Release.model_validate(job.inputs.release)
    site = job.env.site.engine
    hosts = site_hosts(release, job.env.site)
    contexts = [None] if hosts is None else [host.context for host in hosts]
    engine = connect(site_of(contexts[0], site))
    try:
        # An image has another id in another kind of store.
        images: dict[str | None, str] = {}
        for context in dict.fromkeys(contexts):
            image = load_into_engine(
                build.layout, build.image_name, site=site_of(context, site), cancel=ctx.cancel
            )
            if image.loaded:
                where = f" at {context}" if context else " again"
                ctx.line(f"loaded {build.image_name} into the engine{where}")
            images[context] = image.id
        spec = launch_spec(
            release,
            Device.model_validate(job.inputs.device),
            image=images[contexts[0]],
            weights=weights.folder,
            weight_files=weights.names,
            name=f"relforge-{job.env.release}-{job.stage}-{job.env.run_id[-6:]}",
            hosts=hosts,
        )
        if hosts is not None:
            nodes = tuple(
                node.model_copy(update={"image": images[node.context]}) for node in spec.nodes
            )
            spec = spec.model_copy(update={"nodes": nodes})
            logs = job.env.run_dir / "logs"
            found = check_reach(spec, site, run_id=job.env.run_id, logs=logs, cancel=ctx.cancel)
            ctx.line(found.shown())
        yield Launch(engine, spec, build.config_digest)
    finally:
        engine.close()
