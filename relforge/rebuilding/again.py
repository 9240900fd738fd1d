"""A release built again from its lock, without anything that an earlier build has left."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relforge.building.contexts import opened, pruned_afterwards
from relforge.building.inputs import BuildInputs
from relforge.building.request import build_request
from relforge.engine.base_image import ensure_base
from relforge.engine.buildx import build_layout
from relforge.engine.prune import prune_cache_mounts
from relforge.engine.site_secrets import site_secrets
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import content_key
from relforge.manifest.facts import BaseImage
from relforge.manifest.site import CacheSite
from relforge.network import Proxy
from relforge.pipeline import STAGES
from relforge.plan import Planning
from relforge.stage import Job, Resources, Skip, Stage, StageContext, StageResult
from relforge.stages.build import Build

_BEFORE = ("preflight", "sources", "unpatch", "render")


class RebuildResult(StageResult):
    """The new image. ``layout`` lives as long as the caller's folder."""

    layout: Path
    image_digest: str
    base_how: str
    base_digest: str


class Rebuild(Stage[BuildInputs, RebuildResult]):
    """As ``Build``, in every step and with cache mounts of its own, and into a layout of its own.

    The engine's image of the release and the result in the store stay as they are. Sources and
    wheels are those of the store, whose hashes are checked; so is the base image, under its key.
    """

    name = "rebuild"
    title = "image build, again"
    needs = ("sources", "render", "unpatch")
    result_type = RebuildResult
    kept = False

    def __init__(self, layout: Path) -> None:
        self._layout = layout
        self._build = Build()

    def plan(self, planning: Planning) -> BuildInputs | Skip:
        release = planning.subject.release
        if release.build.image is not None:
            raise RelforgeError(
                "there is nothing to build again",
                code=ExitCode.USAGE,
                where=f"release {release.name}, build.image",
                why="its image is somebody else's, taken as it is",
                hint="relforge verify compares what was published with its digest",
            )
        return self._build.plan(planning)

    def resources(self, inputs: BuildInputs) -> Resources:
        return self._build.resources(inputs)

    def secrets(self, inputs: BuildInputs, subject: Any) -> tuple[str, ...]:
        return self._build.secrets(inputs, subject)

    @staticmethod
    def build_key(inputs: BuildInputs) -> str:
        """The key of the build that this repeats."""
        return Build().key(inputs)

    def key(self, inputs: BuildInputs) -> str:
        return content_key({"stage": self.name, "of": self.build_key(inputs)})

    def run(self, job: Job[BuildInputs], ctx: StageContext) -> RebuildResult:
        inputs, env = job.inputs, job.env
        base = ensure_base(
            BaseImage.model_validate(inputs.base),
            architecture=inputs.architecture,
            site=env.site,
            home=env.home,
            ctx_line=ctx.line,
            cancel=ctx.cancel,
        )
        with (
            opened(job, ctx) as contexts,
            site_secrets(env.site, env.home, system=base.system, line=ctx.line) as given,
            _own_cache_mounts(job, ctx) as namespace,
            pruned_afterwards(job, ctx),
        ):
            request = build_request(
                job, base=base, contexts=contexts, secrets=given, layout=self._layout
            )
            image = build_layout(
                request.model_copy(
                    update={"no_cache": True, "cache_mounts": namespace, "cache": CacheSite()}
                ),
                site=env.site.engine,
                proxy=Proxy.of(env.site),
                ctx_line=ctx.line,
                cancel=ctx.cancel,
            )
        return RebuildResult(
            layout=self._layout,
            image_digest=image.digest,
            base_how=base.how,
            base_digest=base.digest,
        )

    def outcome(self, result: RebuildResult) -> str:
        return result.image_digest[:19]


def rebuild_stages(layout: Path) -> tuple[Stage[Any, Any], ...]:
    """What a build needs, and the build; neither weights nor anything that follows."""
    return (*(stage for stage in STAGES if stage.name in _BEFORE), Rebuild(layout))


@contextmanager
def _own_cache_mounts(job: Job[BuildInputs], ctx: StageContext) -> Iterator[str]:
    namespace = f"relforge-rebuild-{secrets.token_hex(6)}"
    try:
        yield namespace
    finally:
        try:
            prune_cache_mounts(namespace, site=job.env.site.engine)
        except RelforgeError as error:
            ctx.line(f"warning: cache mounts of {namespace} are left in the engine: {error.what}")
