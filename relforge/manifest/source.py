"""Sources: upstream trees pinned by commit or hash. Every kind ends in a git tree hash."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from relforge.addresses import git_address
from relforge.frozen import Frozen
from relforge.manifest.common import Commit, Line, Name, RelativePath, Sha256, TreeHash

PackageVersion = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+!_-]*$")]


GitUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(https?|ssh|git|file)://\S+$"),
    AfterValidator(git_address),
]


class GitSource(Frozen):
    """A git repository at one full commit."""

    kind: Literal["git"]
    url: GitUrl
    commit: Commit
    subdirectory: RelativePath | None = None


class ArchiveSource(Frozen):
    """A source distribution (sdist) from the package index, by name, version and hash."""

    kind: Literal["archive"]
    package: Name
    version: PackageVersion
    sha256: Sha256


class WheelSource(Frozen):
    """A wheel from the package index. As a tree it is repacked, and recorded as prebuilt."""

    kind: Literal["wheel"]
    package: Name
    version: PackageVersion
    sha256: Sha256


SourceSpec = Annotated[GitSource | ArchiveSource | WheelSource, Field(discriminator="kind")]


class PatchRepository(Frozen):
    """A git repository that holds a patch set, at a commit."""

    commit: Commit
    """The state that the patches lie in; mostly a later one than the state they apply to."""
    url: GitUrl | None = None
    """Without one it is the repository of the source that is patched."""


class PatchSetRef(Frozen):
    """A patch set that is applied to a source before the build.

    ``path`` is a folder with a ``series`` file (plain), a ``.bundle`` file (sealed), or an entry of
    FlagScale's layouts (plain or sealed), relative to the project, or to ``repository`` where one
    is named. The site configuration can name a bundle for it instead (``patch_sets``).
    """

    name: Name
    source: Name
    path: RelativePath
    repository: PatchRepository | None = None
    sha256: Sha256 | None = None
    """Of the one file in ``repository``, where its maker tells it."""
    result_tree: TreeHash | None = None
    """What must come out, where its maker tells it; a lock made with the key finds it itself."""
    ships: Literal["none", "binaries", "python"] = "python"
    key_contact: Line | None = None
    """Whom to ask for the key of a sealed set; None: the device's vendor."""

    @model_validator(mode="after")
    def _pinned_file(self) -> PatchSetRef:
        if self.sha256 is not None and self.repository is None:
            raise ValueError("sha256 is for a file of a `repository`; the lock pins all others")
        return self

    def in_repository_of(self, source: SourceSpec) -> PatchSetRef:
        """The same, its repository named by address."""
        if self.repository is None or self.repository.url or not isinstance(source, GitSource):
            return self
        repository = self.repository.model_copy(update={"url": source.url})
        return self.model_copy(update={"repository": repository})
