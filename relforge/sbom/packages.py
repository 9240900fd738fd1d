"""The packages of an image with their licences, from what syft found and files say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from relforge.frozen import Frozen
from relforge.sbom import debian, expressions, python
from relforge.sbom.expressions import Licence
from relforge.sbom.syft import Scanned
from relforge.sbom.texts import is_licence_file


class Package(Frozen):
    """A package in the image. ``kind`` is syft's word: ``python``, ``deb``, ``go-module``, ..."""

    id: str
    """syft's, which is part of its identifiers in both documents."""
    kind: str
    name: str
    version: str
    purl: str
    path: str
    """The file in the image that states its licence, else that it is installed."""
    layer: str
    """The layer that the file is in: the digest of its unpacked tar."""
    licence: Licence | None
    basis: python.Basis | None
    """What states the licence."""

    @property
    def installed_distribution(self) -> str | None:
        """The canonical name of a Python distribution in a site folder, not in a vendored copy."""
        if self.kind != "python":
            return None
        folders = PurePosixPath(self.path).parts
        if len(folders) < 3 or folders[-3] not in ("site-packages", "dist-packages"):
            return None
        return canonical(self.name)


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages_of(scanned: Scanned) -> tuple[Package, ...]:
    """All packages, sorted by kind, name, version and path."""
    found = [_package(one, scanned.contents) for one in scanned.artifacts]
    return tuple(sorted(found, key=lambda p: (p.kind, p.name, p.version, p.path, p.id)))


def _package(artifact: Mapping[str, Any], contents: Mapping[str, bytes]) -> Package:
    locations = artifact["locations"]
    shown = [at for at in locations if at.get("annotations", {}).get("evidence") == "primary"]
    if artifact["type"] == "deb":
        shown = [at for at in locations if at["path"].endswith("/copyright")] or shown
    where = (shown or locations or [{"path": "", "layerID": ""}])[0]
    found = _stated(artifact, contents)
    return Package(
        id=artifact["id"],
        kind=artifact["type"],
        name=artifact["name"],
        version=artifact["version"],
        purl=artifact.get("purl", ""),
        path=where["path"],
        layer=where.get("layerID", ""),
        licence=found.licence if found else None,
        basis=found.basis if found else None,
    )


def _stated(artifact: Mapping[str, Any], contents: Mapping[str, bytes]) -> python.Stated | None:
    paths = [at["path"] for at in artifact["locations"]]
    if artifact["type"] == "python":
        metadata = next((path for path in paths if path in contents), None)
        if metadata is not None:
            folder = str(PurePosixPath(metadata).parent)
            texts = [
                _text(data)
                for path, data in sorted(contents.items())
                if path.startswith(f"{folder}/") and is_licence_file(path)
            ]
            told = python.stated(_text(contents[metadata]), texts)
            if told is not None:
                return told
    if artifact["type"] == "deb":
        copyright_file = next(
            (p for p in paths if p.endswith("/copyright") and p in contents), None
        )
        if copyright_file is not None:
            licence = debian.licence_of(_text(contents[copyright_file]))
            if licence is not None:
                return python.Stated(licence, "copyright file")
    values = [one["spdxExpression"] or one["value"] for one in artifact.get("licenses", ())]
    licence = expressions.both(expressions.of(v) for v in values if v and v != "UNKNOWN")
    return python.Stated(licence, "syft") if licence is not None else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n")
