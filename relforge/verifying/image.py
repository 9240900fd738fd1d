"""The image in whatever place it lies: manifests, labels, layers, each by its digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.errors import RelforgeError
from relforge.oci.store import Descriptor, ImageStore, Manifest
from relforge.verifying.files import json_object, walk
from relforge.verifying.report import Outcome, judged

_CHUNK = 1 << 20
_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True)
class Part:
    """The image for one platform; ``platform`` is ``os/architecture``."""

    platform: str
    digest: str
    config: str
    layers: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageSeen:
    """One image; an index has several ``parts``.

    ``blobs`` are config and layers, ``manifests`` the image's own and those an index lists.
    """

    digest: str
    is_index: bool
    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]
    parts: tuple[Part, ...] = ()

    def tested(self, record: Mapping[str, Any]) -> tuple[Part, ...]:
        """The part that the record's own results are about; all where it does not say which."""
        build = (record.get("results") or {}).get("build") or {}
        found = tuple(one for one in self.parts if one.config == build.get("config_digest"))
        return found or self.parts


def see(store: ImageStore, digest: str) -> ImageSeen:
    """Reads manifests and configs. Raises RelforgeError, ValueError, KeyError."""
    top = store.manifest(digest)
    if top is None:
        raise ValueError(f"{digest} is not there")
    children = list(_children(store, top))
    parts: list[Part] = []
    blobs: dict[str, Descriptor] = {}
    for child in children:
        config = Descriptor.read(child.value["config"])
        if config.size > _CONFIG_BYTES:
            raise ValueError(f"the config {config.digest} is larger than {_CONFIG_BYTES >> 20} MiB")
        with store.open_blob(config) as stream:
            value = json_object(stream.read(), f"config {config.digest}")
        parts.append(
            Part(
                platform=_platform(value),
                digest=child.descriptor.digest,
                config=config.digest,
                layers=tuple(layer["digest"] for layer in child.value["layers"]),
                labels=(value.get("config") or {}).get("Labels") or {},
            )
        )
        blobs |= {one.digest: one for one in child.blobs}
    listed = children if children == [top] else [top, *children]
    return ImageSeen(
        digest=digest,
        is_index=top.is_index,
        manifests=tuple(one.descriptor for one in listed),
        blobs=tuple(blobs.values()),
        parts=tuple(parts),
    )


def image(store: ImageStore, seen: ImageSeen, wanted: str | None, *, whole: bool) -> Outcome:
    """Every blob is there, and, with ``whole``, has its digest; it is the image of ``wanted``."""
    problems = []
    if wanted is not None and seen.digest != wanted:
        problems.append(f"here is {seen.digest}, contents.json names {wanted}")
    faults = (blob_fault(store, blob, whole=whole) for blob in seen.blobs)
    problems += [fault for fault in faults if fault is not None]
    count = len(seen.blobs) + len(seen.manifests)
    size = sum(blob.size for blob in seen.blobs)
    how = f"{size} bytes hashed" if whole else "present; --full reads the layers, too"
    return judged(problems, f"{seen.digest}, {count} blobs, {how}")


def strays(layout: Path, known: set[str]) -> Iterator[str]:
    """What lies in a layout's folder and belongs to nothing. ``known`` are digests."""
    names = {f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in known}
    for name in walk(layout):
        if name not in {*names, "oci-layout", "index.json"}:
            yield f"image/{name} is no part of the image"


def _children(store: ImageStore, top: Manifest) -> Iterator[Manifest]:
    if not top.is_index:
        yield top
        return
    for entry in top.manifests:
        found = store.manifest(entry.digest)
        if found is None:
            raise ValueError(f"{entry.digest}, which the index lists, is not there")
        yield found


def _platform(config: Mapping[str, Any]) -> str:
    return f"{config.get('os', '?')}/{config.get('architecture', '?')}"


def blob_fault(store: ImageStore, blob: Descriptor, *, whole: bool) -> str | None:
    """Why a blob is not what its descriptor says; with ``whole`` it is read to the end, where the
    store checks size and digest."""
    if not store.has_blob(blob.digest):
        return f"the blob {blob.digest} is not there"
    if not whole:
        return None
    try:
        with store.open_blob(blob) as stream:
            while stream.read(_CHUNK):
                pass
    except (RelforgeError, OSError) as error:
        why = getattr(error, "why", None) or str(error)
        return f"the blob {blob.digest} is not what its digest says: {why}"
    return None
