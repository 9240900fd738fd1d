"""How sources become an image: the ``build`` section of a release's manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import (
    Architecture,
    Digest,
    EnvName,
    Line,
    Name,
    Reason,
    RelativePath,
    RepositoryName,
)
from relforge.manifest.facts import (
    RegistryBase,
    RequestedImage,
    Source,
)

Argv = Annotated[tuple[Line, ...], Field(min_length=1)]
BlockName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
"""Of the template."""


class Precompiled(Frozen):
    """Native code taken from a wheel instead of being compiled; recorded as such, by hash."""

    mode: Literal["precompiled"]
    wheel: Name
    """Name of the wheel source that carries the libraries."""


class Compiled(Frozen):
    """Native code compiled in a cached stage of its own, keyed on what it reads."""

    mode: Literal["compiled"]
    reads: tuple[RelativePath, ...]
    """Files and folders of the tree that it sees; what else changes compiles nothing again."""
    commands: tuple[Argv, ...]
    """argv lists, run in the tree; they leave libraries under ``$OUT`` as laid out in the wheel."""
    env: dict[EnvName, Line] = {}
    """Variables of the compilation."""
    extra_sources: dict[Name, EnvName] = {}
    """Other sources the compilation reads, and the variable that tells it where they lie."""


class Scripts(Frozen):
    """The tree's own scripts build and install the package, native code and all.

    They run in the whole tree, with the image's Python first on PATH and no network. Whatever they
    add to its site-packages or programs is what the image gets; one that changes or removes what
    was installed before fails the build.
    """

    mode: Literal["scripts"]
    folder: RelativePath = "."
    """Where in the tree they are started."""
    commands: Annotated[tuple[Argv, ...], Field(min_length=1)]
    """argv lists, in order."""


class NoNative(Frozen):
    """A pure Python package."""

    mode: Literal["none"]


Native = Annotated[Precompiled | Compiled | Scripts | NoNative, Field(discriminator="mode")]


class PackageBuild(Frozen):
    """How one source becomes a wheel in the image. Order in the manifest is order of building."""

    source: Name
    """The source that it is built of."""
    distribution: Name
    """The package's name, as pip knows it."""
    native: Native
    """Where its native code comes from."""
    env: dict[EnvName, Line] = {}
    """Variables of its build."""
    bytecode_skip: tuple[Name, ...] = ("tests",)
    """Names of folders that are not compiled to bytecode ahead."""
    prebuilt: bool = False
    """The source is a wheel's tree: it is repacked, not built."""
    plugin: bool = False
    """It adds a device to vLLM: the image must register it under vLLM's entry points."""

    @model_validator(mode="after")
    def _one_way(self) -> PackageBuild:
        if self.prebuilt and not isinstance(self.native, NoNative):
            raise ValueError("a prebuilt package is packed again: native.mode is `none`")
        return self


class PipCheckException(Frozen):
    """A complaint of ``pip check`` that is known and accepted, with the reason."""

    complaint: Line
    """The line as ``pip check`` prints it."""
    reason: Reason
    """Why it does no harm."""


class PythonPackages(Frozen):
    """What is resolved by ``relforge lock`` into exact, hashed wheels."""

    with_stack: Literal["triton", "flagtree"] | None = None
    """Also torch and numpy of the device's stack, and this one of its compilers: they stand in each
    other's place."""
    requirements: tuple[Line, ...] = ()
    """As pip takes them."""
    requirement_files: dict[Name, tuple[RelativePath, ...]] = {}
    """Requirement files inside sources, by source name; read from the tree before patches."""
    constraints: tuple[Line, ...] = ()
    """Limits on versions, as pip takes them."""
    exclude: tuple[Name, ...] = ()
    """Packages that are left out, with what only they need."""
    build_requirements: tuple[Line, ...] = ()
    """For building the packages; none of them is in the image."""
    bytecode_for: tuple[Name, ...] = ()
    """Modules imported once in the build; what they load is compiled to bytecode ahead."""
    pip_check_exceptions: tuple[PipCheckException, ...] = ()
    """What ``pip check`` says in the image, and nothing else."""


class GivenImage(Frozen):
    """An image that somebody else built, released as it is: nothing in it is changed.

    Either from a registry, by digest, or on request: whoever has it names its archive under
    ``images`` in the site configuration.
    """

    registry: RegistryBase | None = None
    """Pulled by digest."""
    on_request: RequestedImage | None = None
    """Handed out by its owner."""
    source: Source
    """Where it says that this is the image."""

    @model_validator(mode="after")
    def _one_place(self) -> GivenImage:
        if (self.registry is None) == (self.on_request is None):
            raise ValueError("an image has one place: registry, or on_request")
        return self

    @property
    def reference(self) -> str:
        """Its name, without a digest."""
        found = self.registry or self.on_request
        assert found is not None
        return found.reference


class OtherImage(Frozen):
    """The release's image for another architecture, which was built and tested on hosts of it.

    Where ``reference`` cannot be reached, ``images`` of the site configuration names a tar or a
    layout folder of it (``relforge mirror`` writes both).
    """

    architecture: Architecture
    """Which one it is for."""
    reference: RepositoryName
    """``HOST/NAME``, without tag."""
    digest: Digest
    """Of its manifest."""


class Build(Frozen):
    """How sources become an image, or which image of somebody else's is taken as it is."""

    image: GivenImage | None = None
    """An image of somebody else's; then nothing is built."""
    packages: tuple[PackageBuild, ...] = ()
    """Sources that become packages, in the order in which they are built."""
    python: PythonPackages = PythonPackages()
    """What else is installed."""
    template: RelativePath | None = None
    """In place of the device's."""
    blocks: dict[BlockName, str] = {}
    """Jinja2 text that takes the place of a block of the template; ``{{ super() }}`` is what
    stood there."""
    also: tuple[OtherImage, ...] = ()
    """Other architectures' images: with the device's own they become one image, whose digest is
    the release's from then on (docs/publishing.md)."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Build:
        named = [one.architecture for one in self.also]
        if len(set(named)) != len(named):
            raise ValueError("build.also names an architecture twice")
        return self

    @model_validator(mode="after")
    def _as_it_is(self) -> Build:
        if self.image is not None:
            own = [
                name
                for name in ("packages", "python", "template", "blocks")
                if getattr(self, name) != type(self).model_fields[name].default
            ]
            if own:
                raise ValueError(
                    f"an image that is taken as it is has no {', '.join(own)}: nothing is built"
                )
        return self
