"""Releases: one model on one device with one engine, in one variant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from relforge.frozen import Frozen
from relforge.manifest.bench import Bench
from relforge.manifest.build import Build, Compiled, Precompiled
from relforge.manifest.client import Client
from relforge.manifest.common import (
    DeviceName,
    Line,
    Name,
    Reason,
)
from relforge.manifest.evaluation import Evaluation
from relforge.manifest.facts import Source
from relforge.manifest.limits import LimitedStage, StageLimits
from relforge.manifest.serve import Serve
from relforge.manifest.smoke import Smoke
from relforge.manifest.source import PatchSetRef, SourceSpec
from relforge.manifest.tuning import Tuning
from relforge.manifest.weights import Reported


class Deviation(Frozen):
    """Something of the published instructions that the release does otherwise."""

    what: Line
    """As the page has it: an option, a variable, a mount, a value."""
    because: Reason
    """Why."""


class Page(Frozen):
    """Published instructions that a release follows; all of them but for what ``deviates``."""

    source: Source
    """Where it stands."""
    deviates: tuple[Deviation, ...] = ()
    """What the release does otherwise."""


class Release(Frozen):
    """One model on one device with one engine, in one variant."""

    kind: Literal["release"]
    name: Name
    """``<model>-<device>[-<variant>]``."""
    model: Name
    """A model of the project."""
    device: DeviceName
    """A device of the project or a built-in one."""
    stack: Name | None = None
    """Of the device's stacks; without one its default."""
    variant: Name | None = None
    """Tells apart several releases of one model on one device."""
    engine: Literal["vllm", "flagscale", "sglang", "paddlenlp", "command"]
    """What serves it."""
    title: Line
    """What cards call it."""
    sources: dict[Name, SourceSpec] = {}
    """The trees that it is built of, by name."""
    patches: tuple[PatchSetRef, ...] = ()
    """Patch sets, one for a source at most."""
    build: Build
    """How the sources become an image."""
    serve: Serve
    """How the image is started."""
    smoke: Smoke = Smoke()
    """What the smoke test asks."""
    evaluation: Evaluation | None = None
    """The accuracy gate; without one the stage is skipped."""
    bench: Bench | None = None
    """The load it is measured under; without one the stage is skipped."""
    reported: tuple[Reported, ...] = ()
    """Figures that others published of this deployment. What they are compared with stands in
    ``manifests/references/``."""
    client: Client = Client()
    """What people type against the server."""
    tuning: Tuning | None = None
    """How single operators are disabled."""
    page: Page | None = None
    """Published instructions that it follows."""
    skip: dict[Literal["evaluate", "bench", "coverage", "sbom", "scan", "attest"], Reason] = {}
    """Stages this release goes without, each with the reason that card and record show."""
    limits: dict[LimitedStage, StageLimits] = Field(default={}, exclude=True)
    """How long stages may take, and how often they are tried. Left out wherever a release is
    written down, and so of every key: they change no result."""

    @model_validator(mode="after")
    def _consistent(self) -> Release:
        wanted = f"{self.model}-{self.device}" + (f"-{self.variant}" if self.variant else "")
        if self.name != wanted:
            raise ValueError(
                f"a release is named <model>-<device>[-<variant>]: expected {wanted!r}"
            )
        known = set(self.sources)
        for patch in self.patches:
            if patch.source not in known:
                raise ValueError(f"patch set {patch.name!r} names unknown source {patch.source!r}")
            if (
                patch.repository is not None
                and patch.repository.url is None
                and self.sources[patch.source].kind != "git"
            ):
                raise ValueError(
                    f"patch set {patch.name!r} needs repository.url: {patch.source!r} is no git "
                    "source whose repository could hold it"
                )
        if self.build.image is not None and (self.sources or self.patches):
            raise ValueError("an image that is taken as it is has no sources and no patches")
        patched = [patch.source for patch in self.patches]
        if len(set(patched)) != len(patched):
            raise ValueError("a source has at most one patch set; merge their series")
        built = [package.distribution for package in self.build.packages]
        if len(set(built)) != len(built):
            raise ValueError("build.packages builds a distribution twice")
        for package in self.build.packages:
            if package.source not in known:
                raise ValueError(f"build.packages names unknown source {package.source!r}")
            if isinstance(package.native, Precompiled) and package.native.wheel not in known:
                raise ValueError(f"native.wheel names unknown source {package.native.wheel!r}")
            if isinstance(package.native, Compiled):
                for extra in package.native.extra_sources:
                    if extra not in known:
                        raise ValueError(f"native.extra_sources names unknown source {extra!r}")
        for name in self.build.python.requirement_files:
            if name not in known:
                raise ValueError(f"python.requirement_files names unknown source {name!r}")
        if self.engine == "command" and not self.serve.command:
            raise ValueError("engine 'command' needs serve.command")
        if self.engine != "command" and self.serve.command:
            raise ValueError(f"engine {self.engine!r} makes its own command; remove serve.command")
        if self.engine == "command" and self.tuning is not None and self.tuning.argument:
            raise ValueError("engine 'command' has no arguments: name tuning.variable")
        for engine in ("flagscale", "paddlenlp"):
            if self.engine != engine and getattr(self.serve, engine) is not None:
                raise ValueError(f"serve.{engine} is for engine {engine!r}, not {self.engine!r}")
        return self

    @property
    def patch_refs(self) -> tuple[PatchSetRef, ...]:
        """The patch sets; one in its source's own repository has that one's address."""
        return tuple(
            ref.in_repository_of(self.sources[ref.source]) if ref.repository else ref
            for ref in self.patches
        )
