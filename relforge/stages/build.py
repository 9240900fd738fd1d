"""Build: one OCI image layout, whose manifest digest is the release's identity from here on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relforge.building import TOOLS
from relforge.building.layers import BuiltLayer, built_layers
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.files import stamp
from relforge.frozen import Frozen, content_key, sha256_hex
from relforge.lock import Lock
from relforge.manifest.build import Compiled, OtherImage, Precompiled
from relforge.manifest.facts import BaseImage
from relforge.manifest.fileversion import known_files
from relforge.plan import Planning, Subject
from relforge.rendering import labels
from relforge.stage import (
    Job,
    Part,
    Resources,
    Skip,
    Stage,
    StageContext,
    StageInputs,
    StageResult,
)
from relforge.ui.text import size

if TYPE_CHECKING:
    from relforge.engine.base_image import BaseResult

_GB = 10**9


class BuiltPackage(Frozen):
    """How one package got into the image; the record keeps it, the card words it."""

    source: str
    distribution: str
    tree: str
    native: str
    """``compiled`` here or by the tree's own ``scripts``, ``precompiled`` elsewhere, ``prebuilt``
    as a whole, or ``none``."""
    native_from: str | None = None
    """For precompiled code: the wheel it came from, with its sha256."""

    def describe(self) -> str:
        """One phrase for a table."""
        if self.native == "precompiled":
            return f"precompiled, from {self.native_from}"
        return {
            "compiled": "compiled in this build",
            "prebuilt": "prebuilt wheel, packed again",
            "scripts": "built by the tree's own scripts",
            "none": "none",
        }[self.native]


class PlatformImage(Frozen):
    """One architecture of an image for several; ``compressed_bytes`` of it alone."""

    platform: str
    """``os/architecture``."""
    digest: str
    config_digest: str
    compressed_bytes: int
    place: str | None
    """The repository that it came from; None: it was built, and is tested, in this run."""


class BuildInputs(StageInputs):
    """Everything that decides the image's bytes, as far as relforge controls it."""

    dockerfile_sha256: str
    architecture: str
    base: dict[str, Any]
    """What the image stands on, or, with ``given``, is."""
    base_choice: str
    given: bool = False
    """The image is somebody else's, taken as it is."""
    trees: dict[str, str]
    packages: tuple[BuiltPackage, ...]
    files: dict[str, str]
    """Wheels that enter as they are: source name and sha256."""
    wheels_sha256: str
    build_wheels_sha256: str
    tools: dict[str, str]
    source_date_epoch: int
    labels: dict[str, str]
    image_name: str
    pip_check_exceptions: tuple[str, ...]
    sealed_sources: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    """Distributions that have to add a device to vLLM."""
    unshipped: tuple[str, ...]
    """Patched sources whose Python files the image may not ship."""
    also: tuple[OtherImage, ...] = ()
    """Images for other architectures that the image is one with."""


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
    result_type = BuildResult

    def plan(self, planning: Planning) -> BuildInputs | Skip:
        from relforge.stages.render import RenderInputs

        subject = planning.subject
        release, lock = subject.release, subject.lock
        if release.build.image is not None:
            return self._given(subject)
        rendered = cast(RenderInputs, planning.inputs["render"])
        packages = tuple(self._packages(planning))
        used = {p.source for p in packages}
        for package in release.build.packages:
            if isinstance(package.native, Compiled):
                used.update(package.native.extra_sources)
        files = {
            package.native.wheel: lock.sources[package.native.wheel].sha256 or ""
            for package in release.build.packages
            if isinstance(package.native, Precompiled)
        }
        return BuildInputs(
            dockerfile_sha256=sha256_hex(rendered.dockerfile.encode()),
            architecture=subject.device.architecture,
            base=pinned_base(subject.device.base, lock).model_dump(mode="json"),
            base_choice=subject.site.base_image,
            trees={name: lock.tree(name) for name in sorted(used)},
            packages=packages,
            files=files,
            wheels_sha256=content_key(lock.wheels),
            build_wheels_sha256=content_key(lock.build_wheels),
            tools=known_files(subject.project.path(TOOLS)),
            source_date_epoch=lock.source_date_epoch,
            labels=labels(subject),
            image_name=_image_name(subject),
            pip_check_exceptions=tuple(
                e.complaint for e in release.build.python.pip_check_exceptions
            ),
            sealed_sources=tuple(
                sorted(p.source for p in subject.patch_sets if p.sealed and p.source in used)
            ),
            plugins=tuple(p.distribution for p in release.build.packages if p.plugin),
            unshipped=tuple(sorted(p.source for p in release.patches if p.ships != "python")),
            also=_others(subject),
        )

    def _given(self, subject: Subject) -> BuildInputs:
        given, lock = subject.release.build.image, subject.lock
        assert given is not None
        base = pinned_base(BaseImage(registry=given.registry, on_request=given.on_request), lock)
        return BuildInputs(
            dockerfile_sha256="",
            architecture=subject.device.architecture,
            base=base.model_dump(mode="json"),
            base_choice="registry",
            given=True,
            trees={},
            packages=(),
            files={},
            wheels_sha256="",
            build_wheels_sha256="",
            tools={},
            source_date_epoch=lock.source_date_epoch,
            labels={},
            image_name=_image_name(subject),
            pip_check_exceptions=(),
            sealed_sources=(),
            unshipped=(),
            also=_others(subject),
        )

    def key(self, inputs: BuildInputs) -> str:
        # Sealed or plain, the tree is the same, and so is what is built of it.
        return super().key(inputs.model_copy(update={"sealed_sources": ()}))

    def _packages(self, planning: Planning) -> Iterator[BuiltPackage]:
        lock = planning.subject.lock
        for package in planning.subject.release.build.packages:
            native_from = None
            if isinstance(package.native, Precompiled):
                wheel = lock.sources[package.native.wheel]
                native_from = f"{wheel.file_name} (sha256 {wheel.sha256})"
            yield BuiltPackage(
                source=package.source,
                distribution=package.distribution,
                tree=lock.tree(package.source),
                native="prebuilt" if package.prebuilt else package.native.mode,
                native_from=native_from,
            )

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


def pinned_base(base: BaseImage, lock: Lock) -> BaseImage:
    """The base with the digest that the lock has for it, where the device manifest has none."""
    if lock.image is None:
        return base
    pin = {"digest": lock.image.digest}
    registry, on_request = base.registry, base.on_request
    return base.model_copy(
        update={
            "registry": registry and registry.model_copy(update=pin),
            "on_request": on_request and on_request.model_copy(update=pin),
        }
    )


def image_name(release: str, lock_sha256: str) -> str:
    """What the engine calls the image of a release that is built from this lock."""
    return f"relforge/{release.lower()}:{lock_sha256[:12]}"


def _image_name(subject: Subject) -> str:
    return image_name(subject.release.name, content_key(subject.lock))


def _others(subject: Subject) -> tuple[OtherImage, ...]:
    """Raises RelforgeError (USAGE) for one of the device's own architecture."""
    release = subject.release
    for one in release.build.also:
        if one.architecture == subject.device.architecture:
            raise RelforgeError(
                f"build.also names an image for {one.architecture}, which is built here",
                code=ExitCode.USAGE,
                where=f"release {release.name}",
                why=f"{subject.device.name} is {subject.device.architecture}",
                hint="name images of other architectures only",
            )
    return release.build.also
