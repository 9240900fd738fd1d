"""The CycloneDX 1.6 document: syft's, with stated licences, wheels, and pedigrees.

https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

from relforge.building.inputs import BuiltPackage
from relforge.frozen import canonical_json
from relforge.sbom.expressions import Licence
from relforge.sbom.facts import Facts, document_uuid, origin, source_purl, swhid
from relforge.sbom.packages import Package
from relforge.sbom.sources import PatchSet, Source

_ID = re.compile(r"package-id=([0-9a-f]+)$")
_Json = dict[str, Any]


def cyclonedx_document(syft: _Json, facts: Facts) -> bytes:
    """The whole document as canonical JSON: the same bytes for the same image and lock."""
    known = {package.id: package for package in facts.packages}
    components = []
    for raw in syft["components"]:
        reference = str(raw.get("bom-ref", ""))
        found = _ID.search(reference)
        # A package without a purl has syft's id alone.
        package = known.get(found[1] if found else reference)
        components.append(_component(raw, package, facts) if package is not None else raw)
    for source in facts.unused:
        components.append({**_source(source), "scope": "excluded"})
    metadata = syft["metadata"]
    tools = metadata["tools"]["components"]
    document = {
        **{name: value for name, value in syft.items() if name != "serialNumber"},
        "metadata": {
            **metadata,
            "timestamp": facts.created,
            "tools": {"components": [*tools, {"type": "application", "name": "relforge"}]},
            "component": {
                **metadata["component"],
                "name": facts.release,
                "version": facts.image_digest,
                "purl": facts.purl,
                "hashes": [_hash(facts.image_digest.removeprefix("sha256:"))],
            },
            "properties": [
                *metadata.get("properties", ()),
                *(
                    {"name": f"relforge:label:{name}", "value": value}
                    for name, value in sorted(facts.labels.items())
                ),
            ],
        },
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
        "dependencies": sorted(
            (
                {**one, "dependsOn": sorted(one.get("dependsOn", ()))}
                for one in syft.get("dependencies", ())
            ),
            key=lambda one: str(one["ref"]),
        ),
    }
    serial = f"urn:uuid:{document_uuid(facts, document)}"
    return canonical_json(document | {"serialNumber": serial})


def _component(raw: _Json, package: Package, facts: Facts) -> _Json:
    found = {name: value for name, value in raw.items() if name != "licenses"}
    if package.licence is not None:
        found["licenses"] = _licenses(package.licence)
    properties = [*raw.get("properties", ())]
    if package.basis:
        properties.append({"name": "relforge:licence-basis", "value": package.basis})
    built = facts.built_of(package)
    if built is not None:
        found["pedigree"] = _pedigree(built, facts)
        properties.append({"name": "relforge:native", "value": built.native})
        properties.append({"name": "relforge:tree", "value": built.tree})
    elif (wheel := facts.wheel_of(package)) is not None:
        distribution = {
            "type": "distribution",
            "url": wheel.file_name,
            "hashes": [_hash(wheel.sha256)],
        }
        found["externalReferences"] = [*raw.get("externalReferences", ()), distribution]
    return found | {"properties": properties}


def _pedigree(built: BuiltPackage, facts: Facts) -> _Json:
    sources = facts.sources_of(built)
    patch_sets = facts.patches_of(sources)
    found: _Json = {
        "ancestors": [
            {**_source(one), "bom-ref": f"source:{one.name}:{built.distribution}"}
            for one in sources
        ],
        "notes": " ".join(_notes(built, patch_sets)),
    }
    patches = [
        {"type": "unofficial", "diff": {"url": _by_hash(sha256)}}
        for one in patch_sets
        for _, sha256 in one.patches
    ]
    return found | ({"patches": patches} if patches else {})


def _notes(built: BuiltPackage, patch_sets: tuple[PatchSet, ...]) -> Iterator[str]:
    yield f"Built from the git tree {built.tree}; native code: {built.describe()}."
    for one in patch_sets:
        yield f"Patch set {one.name} on the tree {one.base_tree}:"
        yield "; ".join(f"{name} sha256 {sha256}" for name, sha256 in one.patches) + "."


def _source(source: Source) -> _Json:
    _, version, url = origin(source)
    found: _Json = {
        "type": "library",
        "bom-ref": f"source:{source.name}",
        "name": source.name,
        "version": version,
        "purl": source_purl(source),
        "swhid": [swhid(source.tree)],
        "properties": [{"name": "relforge:tree", "value": source.tree}],
    }
    if source.licence is not None:
        found["licenses"] = _licenses(source.licence)
    if source.sha256:
        found["hashes"] = [_hash(source.sha256)]
    if url:
        found["externalReferences"] = [{"type": "vcs", "url": url}]
    found["properties"] += [
        {"name": f"relforge:licence-file:{file.path}", "value": file.sha256}
        for file in source.licence_files
    ]
    found["properties"] += [
        {"name": f"relforge:submodule:{path}", "value": commit}
        for path, commit in source.submodules.items()
    ]
    return found


def _licenses(licence: Licence) -> list[_Json]:
    if licence.expression in licence.refs:
        text = licence.refs[licence.expression]
        short = " ".join(text.split())
        if len(short) <= 60:
            return [{"license": {"name": short}}]
        return [{"license": {"name": licence.expression, "text": {"content": text}}}]
    if re.search(r"[ ()]", licence.expression):
        return [{"expression": licence.expression}]
    return [{"license": {"id": licence.expression}}]


def _hash(sha256: str) -> _Json:
    return {"alg": "SHA-256", "content": sha256}


def _by_hash(sha256: str) -> str:
    """A name for content by its hash (RFC 6920)."""
    value = urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{value}"
