"""Build: one OCI image layout, whose manifest digest is the release's identity from here on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relforge.building.inputs import BuildInputs, BuiltPackage, build_inputs
from relforge.building.layers import BuiltLayer, built_layers
from relforge.evidence.store import Store
from relforge.files import stamp
from relforge.frozen import Frozen, content_key
from relforge.manifest.facts import BaseImage
from relforge.plan import Planning, Subject
from relforge.stage import (
    Job,
    Part,
    Resources,
    Stage,
    StageContext,
    StageResult,
)
from relforge.ui.text import size

if TYPE_CHECKING:
    from relforge.engine.base_image import BaseResult

_GB = 10**9


class PlatformImage(Frozen):
    """One architecture of an image for several; ``compressed_bytes`` of it alone."""

    platform: str
    """``os/architecture``."""
    digest: str
    config_digest: str
    compressed_bytes: int
    place: str | None
    """The repository that it came from; None: it was built, and is tested, in this run."""


class BuildResult(StageResult):
    """The image. ``outputs`` are the blobs of its layout.

    Of several architectures ``image_digest`` is the index's, and all else is about the one that was
    built here; ``platforms`` has that one first.
    """

    layout: Path
    image_name: str
    image_digest: str
    platforms: tuple[PlatformImage, ...] = ()
    """Empty for an image of one architecture."""
    config_digest: str
    compressed_bytes: int
    unpacked_bytes: int
    architecture: str
    created: str
    labels: dict[str, str]
    layers: tuple[str, ...]
    layer_sizes: tuple[BuiltLayer, ...] = ()
    """The same with size and kind; empty in results of earlier versions."""
    base_how: str
    base_digest: str
    base_place: str | None = None
    """Where a registry's base was pulled from: that registry, or the site's mirror of it."""
    packages: tuple[BuiltPackage, ...]
    python: str | None
    """None for an image that was taken as it is: nothing was read back from it."""
    python_packages: dict[str, str]
    licenses: dict[str, str] = {}
    """What each Python package states in its metadata; empty where nothing was read back."""
    debian_packages: dict[str, str]
    pip_check: tuple[str, ...]
    rebuild: str
    builder: dict[str, str] = {}
    """Versions of engine and buildx; empty for an image that was taken as it is."""


class Build(Stage[BuildInputs, BuildResult]):
    """BuildKit through ``docker buildx``; sources enter as bind-mounted named contexts."""

    name = "build"
    title = "image build"
    needs = ("sources", "render", "unpatch")
    cheap_again = True  # BuildKit has its steps
    result_type = BuildResult

    def plan(self, planning: Planning) -> BuildInputs:
        return build_inputs(planning)

    def key(self, inputs: BuildInputs) -> str:
        # Sealed or plain, the tree is the same, and so is what is built of it.
        return super().key(inputs.model_copy(update={"sealed_sources": ()}))

    def resources(self, inputs: BuildInputs) -> Resources:  # noqa: ARG002
        return Resources(
            cpu_cores=2,
            memory_bytes=4 * _GB,
            disk_bytes=3 * _GB,
            engine_disk_bytes=8 * _GB,
            engine=True,
        )

    def secrets(self, inputs: BuildInputs, subject: Subject) -> tuple[str, ...]:  # noqa: ARG002
        return ("identities",) if inputs.sealed_sources else ()

    def parts(self, inputs: BuildInputs) -> tuple[Part, ...]:
        """The base image."""
        if inputs.given:
            return ()
        about = {"base": inputs.base, "architecture": inputs.architecture}
        needs = Resources(disk_bytes=_GB, engine=True)
        return (Part(key=content_key(about), name="the base image", needs=needs),)

    def run_part(self, part: Part, job: Job[BuildInputs], ctx: StageContext) -> None:  # noqa: ARG002
        _base(job, ctx)

    def run(self, job: Job[BuildInputs], ctx: StageContext) -> BuildResult:
        from relforge.building.merging import with_others

        result = with_others(self._built(job, ctx), job, ctx)
        files = (path for path in sorted(result.layout.rglob("*")) if path.is_file())
        outputs = (stamp(f, sha256=f.name if len(f.name) == 64 else None) for f in files)
        return result.model_copy(update={"outputs": tuple(outputs)})

    def _built(self, job: Job[BuildInputs], ctx: StageContext) -> BuildResult:
        from relforge.building.contexts import opened, pruned_afterwards
        from relforge.building.report import check_report, read_report
        from relforge.building.request import build_request
        from relforge.engine.buildx import build, export_target
        from relforge.engine.images import unpacked_bytes
        from relforge.engine.site_secrets import site_secrets
        from relforge.network import Proxy

        inputs, env = job.inputs, job.env
        if inputs.given:
            from relforge.building.taken import take_image

            return take_image(job, ctx)
        base = _base(job, ctx)
        proxy = Proxy.of(env.site)
        with (
            opened(job, ctx) as contexts,
            site_secrets(env.site, env.home, system=base.system, line=ctx.line) as secrets,
        ):
            request = build_request(
                job,
                base=base,
                contexts=contexts,
                secrets=secrets,
                layout=Store(env.home).folder("build", job.key) / "image",
            )
            with pruned_afterwards(job, ctx):
                report = read_report(
                    export_target(
                        request,
                        target="report",
                        dest=env.run_dir / "report",
                        site=env.site.engine,
                        proxy=proxy,
                        ctx_line=ctx.line,
                        cancel=ctx.cancel,
                    )
                )
                check_report(
                    report,
                    release=env.release,
                    accepted=inputs.pip_check_exceptions,
                    plugins=inputs.plugins,
                )
                built = build(
                    request,
                    site=env.site.engine,
                    proxy=proxy,
                    ctx_line=ctx.line,
                    cancel=ctx.cancel,
                )
        return BuildResult(
            layout=built.layout,
            image_name=built.image_name,
            image_digest=built.image_digest,
            config_digest=built.image.config_digest,
            compressed_bytes=built.image.size_bytes,
            unpacked_bytes=unpacked_bytes(
                built.image_name, built.engine_image_id, built.image, site=env.site.engine
            ),
            architecture=built.image.architecture,
            created=built.image.created or inputs.labels["org.opencontainers.image.created"],
            labels=built.image.labels,
            layers=tuple(layer.digest for layer in built.image.layers),
            layer_sizes=built_layers(built.image),
            base_how=base.how,
            base_digest=base.digest,
            base_place=base.place,
            packages=inputs.packages,
            python=report.python,
            python_packages=report.packages,
            licenses=report.licenses,
            debian_packages=report.debian,
            pip_check=report.pip_check.complaints,
            rebuild=built.rebuild_script,
            builder=built.builder,
        )

    def outcome(self, result: BuildResult) -> str:
        return f"{result.image_digest[:19]}, {size(result.compressed_bytes)}"


def _base(job: Job[BuildInputs], ctx: StageContext) -> BaseResult:
    from relforge.engine.base_image import ensure_base

    inputs, env = job.inputs, job.env
    return ensure_base(
        BaseImage.model_validate(inputs.base),
        architecture=inputs.architecture,
        site=env.site,
        home=env.home,
        ctx_line=ctx.line,
        cancel=ctx.cancel,
    )
