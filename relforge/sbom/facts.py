"""What both documents are made of, beside syft's own: the release, its sources, its wheels."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from relforge import PROJECT
from relforge.frozen import canonical_json, sha256_hex
from relforge.sbom.packages import Package, canonical
from relforge.sbom.sources import PatchSet, Source

if TYPE_CHECKING:
    from relforge.building.inputs import BuiltPackage
    from relforge.lock import LockedWheel


@dataclass(frozen=True)
class Facts:
    """One release. ``epoch_s`` is the lock's SOURCE_DATE_EPOCH, seconds since 1970."""

    release: str
    image_digest: str
    labels: Mapping[str, str]
    """Of the image."""
    architecture: str
    epoch_s: int
    packages: tuple[Package, ...]
    sources: tuple[Source, ...]
    patch_sets: tuple[PatchSet, ...]
    built: tuple[BuiltPackage, ...]
    wheels: Mapping[str, LockedWheel]
    """The lock's wheels by canonical name."""

    @property
    def created(self) -> str:
        """The time that both documents state: the lock's, so that the same image has the same."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.epoch_s))

    @property
    def purl(self) -> str:
        """The image, as purl-spec writes OCI images."""
        name = quote(self.release.lower(), safe="")
        return f"pkg:oci/{name}@{quote(self.image_digest, safe='')}?arch={self.architecture}"

    def wheel_of(self, package: Package) -> LockedWheel | None:
        """The locked wheel that a distribution was installed from."""
        wheel = self.wheels.get(package.installed_distribution or "")
        return wheel if wheel is not None and wheel.version == package.version else None

    def built_of(self, package: Package) -> BuiltPackage | None:
        """How relforge's build made a distribution of a source, where it did."""
        name = package.installed_distribution
        for one in self.built:
            if name is not None and canonical(one.distribution) == name:
                return one
        return None

    def sources_of(self, built: BuiltPackage) -> tuple[Source, ...]:
        """The source of a package, then the wheel that its native libraries are taken from."""
        native = built.native_from or ""
        own = [one for one in self.sources if one.name == built.source]
        taken = [one for one in self.sources if one.sha256 and one.sha256 in native]
        return (*own, *(one for one in taken if one not in own))

    def patches_of(self, sources: tuple[Source, ...]) -> tuple[PatchSet, ...]:
        """The patch sets of those sources."""
        names = {one.name for one in sources}
        return tuple(one for one in self.patch_sets if one.source in names)

    @property
    def unused(self) -> tuple[Source, ...]:
        """Sources that no package of its own is made of: a build reads them for others."""
        used = {source.name for one in self.built for source in self.sources_of(one)}
        return tuple(one for one in self.sources if one.name not in used)


def origin(source: Source) -> tuple[str, str, str | None]:
    """Name, version (or commit) and, of a git source, URL: what its identity holds."""
    if source.kind == "git":
        url, _, commit = source.identity.rpartition("@")
        return source.name, commit, url
    name, _, version = source.identity.partition("==")
    return name, version, None


def source_purl(source: Source) -> str:
    """The source, as purl-spec writes it."""
    name, version, url = origin(source)
    if url is None:
        file = f"?file_name={quote(source.file_name, safe='')}" if source.file_name else ""
        return f"pkg:pypi/{canonical(name)}@{quote(version, safe='')}{file}"
    parts = urlsplit(url)
    path = parts.path.strip("/").removesuffix(".git")
    if parts.hostname == "github.com" and path.count("/") == 1:
        return f"pkg:github/{path.lower()}@{version}"
    return f"pkg:generic/{quote(name, safe='')}@{version}?vcs_url={quote(f'git+{url}', safe='')}"


def swhid(tree: str) -> str:
    """A git tree's identifier by content (ISO/IEC 18670): a directory's hash is git's tree hash."""
    return f"swh:1:dir:{tree}"


def document_uuid(facts: Facts, document: Any) -> uuid.UUID:
    """An id of a document that only another image, or other content, changes."""
    content = sha256_hex(canonical_json(document))
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{PROJECT}/sbom/{facts.image_digest}/{content}")
