"""Releases: one model on one device with one engine, in one variant."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import (
    DeviceName,
    EnvName,
    Line,
    Name,
    PositiveInt,
    Reason,
    RelativePath,
    Seconds,
)
from relforge.manifest.serve import Serve
from relforge.manifest.source import PatchSetRef, SourceSpec


class Precompiled(Frozen):
    """Native code taken from a wheel instead of being compiled; recorded as such, by hash."""

    mode: Literal["precompiled"]
    wheel: Name
    """Name of the wheel source that carries the libraries."""


class Compiled(Frozen):
    """Native code compiled in a cached stage of its own, keyed on what it reads."""

    mode: Literal["compiled"]
    reads: tuple[RelativePath, ...]
    commands: tuple[tuple[Line, ...], ...]
    """argv lists, run in the tree; they leave libraries under ``$OUT`` as laid out in the wheel."""
    env: dict[EnvName, Line] = {}
    extra_sources: dict[Name, EnvName] = {}
    """Other sources the compilation reads, and the variable that tells it where they lie."""


class NoNative(Frozen):
    """A pure Python package."""

    mode: Literal["none"]


Native = Annotated[Precompiled | Compiled | NoNative, Field(discriminator="mode")]


class PackageBuild(Frozen):
    """How one source becomes a wheel in the image. Order in the manifest is order of building."""

    source: Name
    distribution: Name
    native: Native
    env: dict[EnvName, Line] = {}
    bytecode_skip: tuple[Name, ...] = ("tests",)
    """Names of folders that are not compiled to bytecode ahead."""
    prebuilt: bool = False
    """The source is a wheel's tree: it is repacked, not built."""


class PipCheckException(Frozen):
    """A complaint of ``pip check`` that is known and accepted, with the reason."""

    complaint: Line
    reason: Reason


class PythonPackages(Frozen):
    """What is resolved by ``relforge lock`` into exact, hashed wheels."""

    requirements: tuple[Line, ...] = ()
    requirement_files: dict[Name, tuple[RelativePath, ...]] = {}
    """Requirement files inside sources, by source name; read from the tree before patches."""
    constraints: tuple[Line, ...] = ()
    exclude: tuple[Name, ...] = ()
    build_requirements: tuple[Line, ...] = ()
    bytecode_for: tuple[Name, ...] = ()
    """Modules imported once in the build; what they load is compiled to bytecode ahead."""
    pip_check_exceptions: tuple[PipCheckException, ...] = ()


class Build(Frozen):
    """How sources become an image."""

    packages: tuple[PackageBuild, ...] = ()
    python: PythonPackages = PythonPackages()
    template: RelativePath | None = None


class Smoke(Frozen):
    """What the smoke stage asks of the served image."""

    max_tokens: PositiveInt = 8
    request_timeout_s: Seconds = 60.0
    exact: bool = True
    """Greedy text must equal the recorded reference (deterministic backends)."""


class Evaluation(Frozen):
    """The evaluation gate, declared before the run."""

    task: RelativePath
    """An lm-eval task file of the project."""
    questions: PositiveInt
    margin_points: Annotated[float, Field(gt=0, le=100)]
    concurrency: PositiveInt = 8
    seed: int = 0


class Release(Frozen):
    """One model on one device with one engine, in one variant."""

    kind: Literal["release"]
    name: Name
    model: Name
    device: DeviceName
    stack: Name | None = None
    """Of the device's stacks; without one its default."""
    variant: Name | None = None
    engine: Literal["vllm", "flagscale", "sglang", "paddlenlp", "command"]
    title: Line
    sources: dict[Name, SourceSpec] = {}
    patches: tuple[PatchSetRef, ...] = ()
    build: Build
    serve: Serve
    smoke: Smoke = Smoke()
    evaluation: Evaluation | None = None
    skip: dict[Literal["evaluate", "bench", "coverage", "sbom", "scan", "attest"], Reason] = {}
    """Stages this release goes without, each with the reason that card and record show."""

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
        patched = [patch.source for patch in self.patches]
        if len(set(patched)) != len(patched):
            raise ValueError("a source has at most one patch set; merge their series")
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
