"""The SPDX 2.3 document: syft's, with stated licences, wheels, sources and patch sets.

https://spdx.github.io/spdx-spec/v2.3/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from relforge import PROJECT
from relforge.frozen import canonical_json
from relforge.sbom.expressions import Licence
from relforge.sbom.facts import Facts, document_uuid, origin, source_purl, swhid
from relforge.sbom.packages import Package
from relforge.sbom.sources import PatchSet, Source

_NONE = "NOASSERTION"
_Json = dict[str, Any]


def spdx_document(syft: _Json, facts: Facts) -> bytes:
    """The whole document as canonical JSON: the same bytes for the same image and lock."""
    known = {package.id: package for package in facts.packages}
    packages, ids, refs = [], {}, dict[str, str]()
    root = ""
    for raw in syft["packages"]:
        package = known.get(raw["SPDXID"].rpartition("-")[2])
        if package is not None:
            ids[package.id] = raw["SPDXID"]
            packages.append(raw | _of_package(package, facts))
            refs |= package.licence.refs if package.licence else {}
        else:
            root = raw["SPDXID"]
            packages.append(raw | _of_image(raw, facts))
    for source in facts.sources:
        packages.append(_source(source))
        refs |= source.licence.refs if source.licence else {}
    packages += map(_patch_set, facts.patch_sets)
    document = {
        **syft,
        "name": facts.release,
        "creationInfo": {
            **syft["creationInfo"],
            "created": facts.created,
            "creators": [*syft["creationInfo"]["creators"], "Tool: relforge"],
        },
        "packages": sorted(packages, key=lambda one: str(one["SPDXID"])),
        "files": sorted(syft.get("files", ()), key=lambda one: str(one["SPDXID"])),
        "hasExtractedLicensingInfos": [
            {"licenseId": ref, "extractedText": text} for ref, text in sorted(refs.items())
        ],
        "relationships": sorted(
            [*syft["relationships"], *_relationships(facts, ids, root)],
            key=lambda one: (
                one["spdxElementId"],
                one["relationshipType"],
                one["relatedSpdxElement"],
            ),
        ),
    }
    del document["documentNamespace"]
    namespace = f"{PROJECT}/spdx/{facts.release}-{document_uuid(facts, document)}"
    return canonical_json(document | {"documentNamespace": namespace})


def _of_package(package: Package, facts: Facts) -> _Json:
    found: _Json = {"licenseDeclared": _declared(package.licence)}
    comments = [f"Licence as stated by: {package.basis}."] if package.basis else []
    built = facts.built_of(package)
    if built is not None:
        comments.append(f"Native code: {built.describe()}.")
        comments.append(f"Built from the git tree {built.tree}.")
    elif (wheel := facts.wheel_of(package)) is not None:
        found["packageFileName"] = wheel.file_name
        found["checksums"] = [{"algorithm": "SHA256", "checksumValue": wheel.sha256}]
    if comments:
        found["comment"] = " ".join(comments)
    return found


def _of_image(raw: _Json, facts: Facts) -> _Json:
    kept = [ref for ref in raw.get("externalRefs", ()) if ref["referenceType"] != "purl"]
    sha256 = facts.image_digest.removeprefix("sha256:")
    return {
        "name": facts.release,
        "versionInfo": facts.image_digest,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}],
        "externalRefs": [*kept, _reference("PACKAGE-MANAGER", "purl", facts.purl)],
    }


def _source(source: Source) -> _Json:
    _, version, url = origin(source)
    found = _bare(_source_id(source.name), source.name) | {
        "versionInfo": version,
        "downloadLocation": f"git+{url}@{version}" if url else _NONE,
        "licenseDeclared": _declared(source.licence),
        "externalRefs": [
            _reference("PACKAGE-MANAGER", "purl", source_purl(source)),
            _reference("PERSISTENT-ID", "swh", swhid(source.tree)),
        ],
        "primaryPackagePurpose": "SOURCE",
        "comment": " ".join(_about(source)),
    }
    if source.sha256:
        found["checksums"] = [{"algorithm": "SHA256", "checksumValue": source.sha256}]
    if source.file_name:
        found["packageFileName"] = source.file_name
    return found


def _about(source: Source) -> Iterator[str]:
    yield f"Git tree {source.tree}: {source.files} files, {source.size_bytes} bytes."
    for file in source.licence_files:
        stated = file.licence.expression if file.licence else "not recognised"
        yield f"Licence file {file.path}: {stated}, sha256 {file.sha256}."
    for path, commit in source.submodules.items():
        yield f"Submodule {path}: commit {commit}, not in the tree."


def _patch_set(patches: PatchSet) -> _Json:
    made = patches.result_tree or "not pinned"
    listed = " ".join(f"{name}: sha256 {sha256}." for name, sha256 in patches.patches)
    return _bare(_patch_id(patches.name), patches.name) | {
        "comment": f"Patch set. Base tree {patches.base_tree}, result tree {made}. {listed}",
        "primaryPackagePurpose": "SOURCE",
    }


def _relationships(facts: Facts, ids: dict[str, str], root: str) -> Iterator[_Json]:
    for package in facts.packages:
        built = facts.built_of(package)
        for source in facts.sources_of(built) if built is not None else ():
            yield _relation(ids[package.id], "GENERATED_FROM", _source_id(source.name))
    for source in facts.unused:
        yield _relation(_source_id(source.name), "BUILD_DEPENDENCY_OF", root)
    for patches in facts.patch_sets:
        yield _relation(_patch_id(patches.name), "PATCH_APPLIED", _source_id(patches.source))


def _relation(element: str, kind: str, related: str) -> _Json:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}


def _reference(category: str, kind: str, locator: str) -> _Json:
    return {
        "referenceCategory": category,
        "referenceType": kind,
        "referenceLocator": locator,
    }


def _bare(identifier: str, name: str) -> _Json:
    return {
        "SPDXID": identifier,
        "name": name,
        "supplier": _NONE,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": _NONE,
        "copyrightText": _NONE,
    }


def _declared(licence: Licence | None) -> str:
    return licence.expression if licence is not None else _NONE


def _source_id(name: str) -> str:
    return f"SPDXRef-Source-{re.sub(r'[^A-Za-z0-9.]+', '-', name)}"


def _patch_id(name: str) -> str:
    return f"SPDXRef-PatchSet-{re.sub(r'[^A-Za-z0-9.]+', '-', name)}"
