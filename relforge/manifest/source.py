"""Sources: upstream trees pinned by commit or hash. Every kind ends in a git tree hash."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from relforge.frozen import Frozen
from relforge.manifest.common import Commit, Name, RelativePath, Sha256

PackageVersion = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+!_-]*$")]


def carries_no_secret(url: str) -> str:
    if (
        "://" in url
        and "@" in url.split("://", 1)[1].split("/", 1)[0]
        and not url.startswith("ssh://")
    ):
        raise ValueError("a URL in a manifest carries no user name or password")
    return url


GitUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(https?|ssh|git|file)://\S+$"),
    AfterValidator(carries_no_secret),
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


class PatchSetRef(Frozen):
    """A patch set that is applied to a source before the build.

    ``path`` is a folder with a ``series`` file (plain) or a ``.bundle`` file (sealed), relative to
    the project. The site configuration can name a bundle for it instead (``patch_sets``).
    """

    name: Name
    source: Name
    path: RelativePath
    ships: Literal["none", "binaries", "python"] = "python"
