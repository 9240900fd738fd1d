"""``licenses.json``: every package and source with its licence, and what the site's policy says."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from relforge.frozen import Frozen
from relforge.manifest.publishing import LicensePolicy
from relforge.sbom.expressions import Licence, licensing, parse
from relforge.sbom.facts import Facts, origin
from relforge.sbom.packages import Package
from relforge.sbom.policy import Hit, Holder, Rules
from relforge.sbom.sources import Source


class PackageRow(Frozen):
    """A package of the image. ``licence`` is an SPDX expression, None where nothing is stated."""

    kind: str
    name: str
    version: str
    licence: str | None
    basis: str | None
    path: str
    layer: str
    """The digest of the layer as the image's manifest has it."""


class FileRow(Frozen):
    """A licence file of a source. ``licence`` is None where its text is not recognised."""

    path: str
    sha256: str
    licence: str | None


class SourceRow(Frozen):
    """A source of the image; ``licence`` is what the files in its root say together."""

    name: str
    identity: str
    tree: str
    licence: str | None
    files: tuple[FileRow, ...]


class Licences(Frozen):
    """The whole table."""

    format: Literal["relforge.licenses/1"] = "relforge.licenses/1"
    release: str
    image_digest: str
    packages: tuple[PackageRow, ...]
    sources: tuple[SourceRow, ...]
    texts: dict[str, str]
    """The words or the whole text behind each ``LicenseRef``."""
    counts: dict[str, int]
    """Packages by kind."""
    licences: int
    """Different licences in all packages."""
    unstated: int
    """Packages that state no licence."""
    unidentified: int
    """Packages that state one, not all of it by SPDX identifiers."""
    policy: LicensePolicy
    hits: tuple[Hit, ...]

    @property
    def forbidden(self) -> tuple[Hit, ...]:
        """What the site does not allow."""
        return tuple(hit for hit in self.hits if hit.allowed is None)


def table(facts: Facts, policy: LicensePolicy, layers: dict[str, str]) -> Licences:
    """Collects the licences. ``layers``: the digest of each layer by that of its unpacked tar."""
    texts: dict[str, str] = {}
    names: set[str] = set()
    for package in facts.packages:
        if package.licence is not None:
            texts |= package.licence.refs
            names |= _names(package.licence)
    return Licences(
        release=facts.release,
        image_digest=facts.image_digest,
        packages=tuple(_package(one, layers) for one in facts.packages),
        sources=tuple(map(_source, facts.sources)),
        texts=dict(sorted(texts.items())),
        counts=dict(sorted(Counter(one.kind for one in facts.packages).items())),
        licences=len(names),
        unstated=sum(one.licence is None for one in facts.packages),
        unidentified=sum(
            one.licence is not None and not one.licence.identified for one in facts.packages
        ),
        policy=policy,
        hits=Rules(policy).hits(_holders(facts, layers)),
    )


def _names(licence: Licence) -> set[str]:
    symbols = licensing().license_symbols(parse(licence.expression), unique=True, decompose=False)
    return {str(symbol.render()) for symbol in symbols}


def _package(package: Package, layers: dict[str, str]) -> PackageRow:
    return PackageRow(
        kind=package.kind,
        name=package.name,
        version=package.version,
        licence=package.licence.expression if package.licence else None,
        basis=package.basis,
        path=package.path,
        layer=layers.get(package.layer, package.layer),
    )


def _source(source: Source) -> SourceRow:
    return SourceRow(
        name=source.name,
        identity=source.identity,
        tree=source.tree,
        licence=source.licence.expression if source.licence else None,
        files=tuple(
            FileRow(
                path=file.path,
                sha256=file.sha256,
                licence=file.licence.expression if file.licence else None,
            )
            for file in source.licence_files
        ),
    )


def _holders(facts: Facts, layers: dict[str, str]) -> list[Holder]:
    found = [
        Holder(
            name=package.name,
            version=package.version,
            licence=package.licence,
            where=f"{package.path} in layer {layers.get(package.layer, package.layer)}",
        )
        for package in facts.packages
        if package.licence is not None
    ]
    found += [
        Holder(
            name=source.name,
            version=origin(source)[1],
            licence=file.licence,
            where=f"{file.path} of the source tree {source.tree}",
        )
        for source in facts.sources
        for file in source.licence_files
        if file.licence is not None
    ]
    return found
