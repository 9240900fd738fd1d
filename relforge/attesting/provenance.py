"""Where an image comes from: SLSA provenance, version 1, made of the lock and the build's result.

Format: slsa.dev/spec/v1.0/provenance; a dependency is an in-toto ResourceDescriptor
(in-toto/attestation, spec/v1/resource_descriptor.md); package URLs: package-url/purl-spec. What the
parameters mean is in docs/supply-chain.md, which ``BUILD_TYPE`` names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from relforge import PROJECT, __version__
from relforge.evidence.store import Record
from relforge.frozen import content_key
from relforge.lock import Lock, LockedSource, LockedWheel
from relforge.manifest.release import Release
from relforge.stages.build import BuildResult

BUILD_TYPE = f"{PROJECT}/blob/main/docs/supply-chain.md#build-type-v1"


@dataclass(frozen=True)
class Opened:
    """What is known of a patch set beside its entry in the lock. ``bundle_sha256`` is of the sealed
    file as it lay here; sealing the same patches again gives another."""

    sealed: bool = False
    ships: str = "python"
    signer_keyid: str | None = None
    bundle_sha256: str | None = None


def provenance(
    release: Release,
    lock: Lock,
    build: BuildResult,
    *,
    opened: Mapping[str, Opened],
    stage_keys: Mapping[str, str],
    built: Record | None,
) -> dict[str, Any]:
    """The predicate. ``built`` is the record of the build, where it is known when that was."""
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "release": release.name,
                "device": release.device,
                "model": release.model,
                "variant": release.variant or "default",
                "manifest": release.model_dump(mode="json", exclude_defaults=True),
            },
            "internalParameters": {
                "lock_sha256": content_key(lock),
                "source_date_epoch": lock.source_date_epoch,
                "stage_keys": dict(stage_keys),
                "base": build.base_how,
                "packages": [package.model_dump(mode="json") for package in build.packages],
            },
            "resolvedDependencies": list(_dependencies(lock, build, opened)),
        },
        "runDetails": {
            "builder": {"id": PROJECT, "version": {"relforge": __version__, **build.builder}},
            "metadata": _metadata(built),
        },
    }


def _metadata(built: Record | None) -> dict[str, str]:
    if built is None:
        return {}
    return {
        "invocationId": built.run_id,
        "startedOn": _timestamp(built.created_s - built.seconds),
        "finishedOn": _timestamp(built.created_s),
    }


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _dependencies(
    lock: Lock, build: BuildResult, opened: Mapping[str, Opened]
) -> Iterator[dict[str, Any]]:
    yield _base(lock, build)
    for other in build.platforms[1:]:
        yield {
            "name": f"image/{other.platform}",
            "uri": other.place,
            "digest": {"sha256": other.digest.removeprefix("sha256:")},
        }
    for name, source in lock.sources.items():
        yield _source(name, source)
    for name in lock.patches:
        yield from _patch_set(name, lock, opened.get(name, Opened()))
    for wheel in lock.wheels.wheels:
        yield _wheel("wheel", wheel)
    for wheel in lock.build_wheels.wheels:
        yield _wheel("build-wheel", wheel)


def _base(lock: Lock, build: BuildResult) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": "base-image",
        "digest": {"sha256": build.base_digest.removeprefix("sha256:")},
        "annotations": {"how": build.base_how},
    }
    if lock.image is not None:
        found["uri"] = lock.image.reference
    if build.base_place is not None:
        found["downloadLocation"] = build.base_place
    return found


def _source(name: str, source: LockedSource) -> dict[str, Any]:
    digest = {
        "gitCommit": source.commit,
        "sha256": source.sha256,
        # Of the tree as it is imported, which for an archive or a wheel is no commit's.
        "gitTree": source.tree,
    }
    if source.kind == "git":
        uri = f"git+{source.identity}"
    else:
        package, _, version = source.identity.partition("==")
        uri = purl(package, version, source.file_name)
    return {
        "name": f"source/{name}",
        "uri": uri,
        "digest": {kind: value for kind, value in digest.items() if value is not None},
    }


def _patch_set(name: str, lock: Lock, opened: Opened) -> Iterator[dict[str, Any]]:
    locked = lock.patches[name]
    about = {
        "source": locked.source,
        "base_tree": locked.base_tree,
        "result_tree": locked.result_tree,
        "sealed": opened.sealed,
        "ships": opened.ships,
        "signer_keyid": opened.signer_keyid,
    }
    yield {
        "name": f"patch-set/{name}",
        # Of the signed content: encryption is randomised, what it hides is not.
        "digest": {"sha256": locked.content},
        "annotations": {key: value for key, value in about.items() if value is not None},
    }
    if opened.bundle_sha256 is not None:
        yield {"name": f"patch-bundle/{name}", "digest": {"sha256": opened.bundle_sha256}}
    for file, sha256 in locked.patches:
        yield {"name": f"patch/{name}/{file}", "digest": {"sha256": sha256}}


def _wheel(use: str, wheel: LockedWheel) -> dict[str, Any]:
    return {
        "name": f"{use}/{wheel.file_name}",
        "uri": purl(wheel.name, wheel.version, wheel.file_name),
        "digest": {"sha256": wheel.sha256},
    }


def purl(package: str, version: str, file_name: str | None = None) -> str:
    """The package URL of a Python distribution."""
    name = package.lower().replace("_", "-")
    found = f"pkg:pypi/{quote(name, safe='')}@{quote(version, safe='')}"
    return f"{found}?file_name={quote(file_name, safe='')}" if file_name else found
