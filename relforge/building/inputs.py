"""What enters a build, as its key sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from relforge.building import TOOLS
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen, content_key, sha256_hex
from relforge.lock import Lock
from relforge.manifest.build import Compiled, OtherImage, Precompiled
from relforge.manifest.facts import BaseImage
from relforge.manifest.fileversion import known_files
from relforge.plan import Planning, Subject
from relforge.rendering import labels
from relforge.stage import StageInputs


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


def build_inputs(planning: Planning) -> BuildInputs:
    """The inputs of a release's build.

    Raises RelforgeError (USAGE) for ``build.also`` that names the device's own architecture.
    """
    from relforge.stages.render import RenderInputs

    subject = planning.subject
    release, lock = subject.release, subject.lock
    if release.build.image is not None:
        return _given(subject)
    rendered = cast(RenderInputs, planning.inputs["render"])
    packages = tuple(_packages(planning))
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
        image_name=image_name(subject.release.name, content_key(lock)),
        pip_check_exceptions=tuple(e.complaint for e in release.build.python.pip_check_exceptions),
        sealed_sources=tuple(
            sorted(p.source for p in subject.patch_sets if p.sealed and p.source in used)
        ),
        plugins=tuple(p.distribution for p in release.build.packages if p.plugin),
        unshipped=tuple(sorted(p.source for p in release.patches if p.ships != "python")),
        also=_others(subject),
    )


def _given(subject: Subject) -> BuildInputs:
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
        image_name=image_name(subject.release.name, content_key(lock)),
        pip_check_exceptions=(),
        sealed_sources=(),
        unshipped=(),
        also=_others(subject),
    )


def _packages(planning: Planning) -> Iterator[BuiltPackage]:
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
