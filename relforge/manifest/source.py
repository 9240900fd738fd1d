"""Sources: upstream trees pinned by commit or hash. Every kind ends in a git tree hash."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from relforge.addresses import git_address
from relforge.frozen import Frozen
from relforge.manifest.common import Commit, Line, Name, RelativePath, Sha256, TreeHash

PackageVersion = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+!_-]*$")]
"""As a package index has it."""


GitUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(https?|ssh|git|file)://\S+$"),
    AfterValidator(git_address),
]
"""Of a repository, without login."""


class GitSource(Frozen):
    """A git repository at one full commit."""

    kind: Literal["git"]
    url: GitUrl
    """Where it is cloned from; ``git_mirrors`` of a site replace its beginning."""
    commit: Commit
    """In full."""
    subdirectory: RelativePath | None = None
    """The package's folder in the tree."""


class ArchiveSource(Frozen):
    """A source distribution (sdist) from the package index, by name, version and hash."""

    kind: Literal["archive"]
    package: Name
    """Its name in the index."""
    version: PackageVersion
    """Exactly this one."""
    sha256: Sha256
    """Of the archive."""


class WheelSource(Frozen):
    """A wheel from the package index. As a tree it is repacked, and recorded as prebuilt."""

    kind: Literal["wheel"]
    package: Name
    """Its name in the index."""
    version: PackageVersion
    """Exactly this one."""
    sha256: Sha256
    """Of the wheel."""


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
    """As the site configuration and the commands name it."""
    source: Name
    """The source it is applied to."""
    path: RelativePath
    """Folder, bundle or entry."""
    repository: PatchRepository | None = None
    """The git repository that it lies in, where that is not the project."""
    sha256: Sha256 | None = None
    """Of the one file in ``repository``, where its maker tells it."""
    result_tree: TreeHash | None = None
    """What must come out, where its maker tells it; a lock made with the key finds it itself."""
    ships: Literal["none", "binaries", "python"] = "python"
    """What of a sealed set the image may hold: nothing, compiled code, or Python too."""
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
