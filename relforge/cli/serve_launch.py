"""From the options of ``relforge serve`` to a launch spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cli.common import Workplace
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.serving.spec import LaunchSpec, launch_spec

if TYPE_CHECKING:
    from relforge.stage import StageResult


def launch_of(
    place: Workplace,
    release: Release,
    *,
    hosts: tuple[HostNode, ...] | None,
    image: str | None,
    weights: Path | None,
    mount: list[str],
) -> LaunchSpec:
    """The launch that the options of ``relforge serve`` name. Raises RelforgeError (USAGE)."""
    planned = _Planned(place, release)
    device = place.project.device(release.device).on(release.stack)
    return launch_spec(
        release,
        device,
        image=image or planned.image,
        weights=_weights(planned, hosts) if weights is None else weights,
        host_port=release.serve.port,
        hosts=hosts,
        mounts=dict(_mount(word) for word in mount),
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


class _Planned:
    """What was made here before and is still what the manifests ask for; looked up when needed."""

    def __init__(self, place: Workplace, release: Release) -> None:
        self._place = place
        self._release = release

    @cached_property
    def _reused(self) -> Mapping[str, StageResult]:
        from relforge.evidence.store import Store
        from relforge.pipeline import STAGES
        from relforge.plan import make_plan, subject

        place = self._place
        loaded = subject(place.project, self._release, place.site)
        return make_plan(loaded, STAGES, Store(place.home)).reused

    @property
    def image(self) -> str:
        """The name of the image that was built here."""
        from relforge.stages.build import BuildResult

        built = self._reused.get("build")
        if not isinstance(built, BuildResult):
            raise RelforgeError(
                f"{self._release.name} is not built here as its manifests say",
                code=ExitCode.USAGE,
                where=f"release {self._release.name}",
                why="the launch names an image",
                hint=f"relforge build --release {self._release.name}, or name one with --image REF",
            )
        return built.image_name

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
        found = self._reused.get("weights")
        if not isinstance(found, WeightsResult):
            raise RelforgeError(
                f"where the weights of {model.name} lie on the nodes is not known",
                code=ExitCode.USAGE,
                where=f"release {self._release.name}",
                hint="give the folder with --weights DIR, or as weights of each node in the nodes "
                "file",
            )
        return found.folder


def _weights(planned: _Planned, hosts: tuple[HostNode, ...] | None) -> Path:
    """Only looked up where a host does not say it itself."""
    if hosts and all(host.weights for host in hosts):
        return Path(hosts[0].weights or "")
    return planned.weights
