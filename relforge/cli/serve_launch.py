"""From the options of ``relforge serve`` to a launch spec."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cli.common import Workplace, to_stderr
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.serving.model import LaunchSpec
from relforge.serving.spec import launch_spec

if TYPE_CHECKING:
    from relforge.building.inputs import BuildInputs
    from relforge.plan import ReleasePlan


def launch_of(
    place: Workplace,
    release: Release,
    *,
    hosts: tuple[HostNode, ...] | None,
    image: str | None,
    weights: Path | None,
    mount: list[str],
    local: str | None = None,
    started: bool = True,
    name: str | None = None,
    own_port: bool = True,
    weight_files: tuple[str, ...] | None = None,
) -> LaunchSpec:
    """The launch that the options of ``relforge serve`` name.

    One that is only printed, not ``started``, may name an image that is not built yet and a folder
    of weights that is a convention; stderr says so. It answers on the release's own port, or with
    ``own_port`` false on a free one; ``weight_files`` are all that is mounted of the weights.
    Raises RelforgeError (USAGE).
    """
    planned = Planned(place, release, started)
    builds = release.build.image is None
    device = place.project.device(release.device).for_release(release.stack, builds=builds)
    return launch_spec(
        release,
        device,
        image=image or planned.image,
        weights=_weights(planned, hosts, local) if weights is None else weights,
        host_port=release.serve.port if own_port else None,
        name=name,
        weight_files=weight_files,
        hosts=hosts,
        mounts=dict(_mount(word) for word in mount),
        local=local,
    )


def _mount(word: str) -> tuple[str, Path]:
    name, equals, path = word.partition("=")
    if not (name and equals and path.startswith("/")) or "," in path:
        raise RelforgeError(
            f"--mount {word!r} is not NAME=/PATH",
            code=ExitCode.USAGE,
            hint="NAME is that of serve.mounts in the release, PATH absolute and without a comma",
        )
    return name, Path(path)


class Planned:
    """What was made here before and is still what the manifests ask for; looked up when needed."""

    def __init__(self, place: Workplace, release: Release, started: bool) -> None:
        self._place = place
        self._release = release
        self._started = started

    @cached_property
    def _plan(self) -> ReleasePlan:
        from relforge.evidence.store import Store
        from relforge.pipeline import STAGES
        from relforge.plan import make_plan, subject

        place = self._place
        loaded = subject(place.project, self._release, place.site)
        return make_plan(loaded, STAGES, Store(place.home))

    @property
    def image(self) -> str:
        """The image that was built here; of a launch that is printed also one that will be."""
        from relforge.building.inputs import BuildInputs
        from relforge.stages.build import BuildResult

        built = self._plan.reused.get("build")
        if not isinstance(built, BuildResult):
            inputs = self._plan.inputs.get("build")
            if not self._started and isinstance(inputs, BuildInputs):
                return self._not_built_yet(inputs)
            raise RelforgeError(
                f"{self._release.name} is not built here as its manifests say",
                code=ExitCode.USAGE,
                where=f"release {self._release.name}",
                why="the launch names an image",
                hint=f"relforge build --release {self._release.name}, or name one with --image REF",
            )
        return built.image_name

    def _not_built_yet(self, inputs: BuildInputs) -> str:
        """The name that the build will give, or that of the image which is taken as it is."""
        lock = self._plan.subject.lock
        if inputs.given and lock.image is not None:
            if lock.image.digest == UNRESOLVED:
                to_stderr(f"note: nobody resolved {lock.image.reference} to a digest yet")
                return lock.image.reference
            if self._release.build.image and self._release.build.image.registry:
                return f"{lock.image.reference}@{lock.image.digest}"
            return lock.image.reference
        to_stderr(
            f"note: {inputs.image_name} is not built yet: relforge build --release "
            f"{self._release.name}"
        )
        return inputs.image_name

    @property
    def weights(self) -> Path:
        """Where the weights lie, as the site says, in the project, or where they were fetched."""
        from relforge.stages.weights import WeightsResult

        place = self._place
        model = place.project.model(self._release.model)
        if (known := place.site.weights.get(model.name)) is not None:
            return known
        if model.weights.kind == "local":
            return place.project.path(model.weights.path)
        found = self._plan.reused.get("weights")
        if not isinstance(found, WeightsResult):
            if not self._started:
                folder = Path("/weights") / model.name
                to_stderr(f"note: the weights are taken to lie in {folder}; --weights says where")
                return folder
            raise RelforgeError(
                f"where the weights of {model.name} lie on the nodes is not known",
                code=ExitCode.USAGE,
                where=f"release {self._release.name}",
                hint="give the folder with --weights DIR, or as weights of each node in the nodes "
                "file",
            )
        return found.folder


def _weights(planned: Planned, hosts: tuple[HostNode, ...] | None, local: str | None) -> Path:
    """Only looked up where a host does not say it itself, and where they are mounted."""
    if local is not None:
        return Path("/")
    if hosts and all(host.weights for host in hosts):
        return Path(hosts[0].weights or "")
    return planned.weights
