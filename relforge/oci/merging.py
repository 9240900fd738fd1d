"""Makes one image for several platforms out of images for one each: an OCI index.

The index depends on nothing but the images: it lists them by platform, or in a given order, so that
merging the same images again gives the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import IO, Any

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.copying import CopyReport, copy
from relforge.oci.store import INDEXES, OCI_INDEX, Descriptor, ImageStore, Manifest

_PARTS = ("os", "architecture", "variant", "os.version", "os.features")


class Union:
    """What several stores hold, and an index of it, as one store to copy from."""

    def __init__(self, stores: Sequence[ImageStore], index: Manifest) -> None:
        self._stores = stores
        self._index = index

    @property
    def name(self) -> str:
        return " + ".join(dict.fromkeys(store.name for store in self._stores))

    def manifest(self, reference: str) -> Manifest | None:
        if reference == self._index.descriptor.digest:
            return self._index
        return next((m for s in self._stores if (m := s.manifest(reference)) is not None), None)

    def has_blob(self, digest: str) -> bool:
        return any(store.has_blob(digest) for store in self._stores)

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]:
        found = [store for store in self._stores if store.has_blob(descriptor.digest)]
        return (found or self._stores)[0].open_blob(descriptor)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        found = {one.digest: one for store in self._stores for one in store.referrers(digest)}
        return tuple(found.values())


def merge(
    sources: Sequence[tuple[ImageStore, str]],
    dst: ImageStore,
    *,
    tag: str | None = None,
    attachments: bool = True,
    in_order: bool = False,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> CopyReport:
    """Copies the images to ``dst`` and names the index of them all ``tag`` there.

    ``sources`` are stores with the digest of an image, or of an index whose images all count.
    ``in_order``: the index lists them as they are named, and not by platform. Raises RelforgeError
    (USAGE) for two images of one platform, (PUBLISH), Cancelled.
    """
    index = merged_index(sources, in_order=in_order)
    union = Union([store for store, _ in sources], index)
    digest = index.descriptor.digest
    return copy(union, dst, digest, tag=tag, attachments=attachments, line=line, cancel=cancel)


def platforms_of(index: Manifest) -> tuple[str, ...]:
    """``os/architecture`` of each image, in the index's order."""
    return tuple(_shown(one.platform or {}) for one in index.manifests)


def merged_index(sources: Sequence[tuple[ImageStore, str]], *, in_order: bool = False) -> Manifest:
    """The index of these images; changes nothing. Raises RelforgeError (USAGE, PUBLISH)."""
    found: dict[str, tuple[Descriptor, str]] = {}
    for src, digest in sources:
        for one in _images(src, digest):
            platform = json.dumps(one.platform, sort_keys=True)
            before = found.get(platform)
            if before is not None and before[0].digest != one.digest:
                raise RelforgeError(
                    f"two images are for {_shown(one.platform or {})}",
                    code=ExitCode.USAGE,
                    where=src.name,
                    why=f"{before[0].digest} ({before[1]}) and {one.digest} ({src.name})",
                    hint="merge one image for each platform",
                )
            found[platform] = (one, src.name)
    rows = [one for one, _ in found.values()]
    if not in_order:
        rows.sort(key=lambda one: _order(one.platform or {}))
    return Manifest.make(
        OCI_INDEX,
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [one.to_json() for one in rows],
        },
    )


def _images(src: ImageStore, digest: str) -> list[Descriptor]:
    manifest = src.manifest(digest)
    if manifest is None:
        raise _unfit(src, f"it has no manifest {digest}")
    if manifest.descriptor.media_type in INDEXES:
        return [one for inner in manifest.manifests for one in _images(src, inner.digest)]
    with src.open_blob(Descriptor.read(manifest.value["config"])) as reader:
        data = b"".join(iter(lambda: reader.read(1 << 16), b""))
    try:
        config = json.loads(data)
        platform = {name: config[name] for name in _PARTS if config.get(name)}
    except (ValueError, TypeError, AttributeError) as error:
        raise _unfit(src, f"the config of {digest} cannot be read: {error}") from error
    if not platform.get("os") or not platform.get("architecture"):
        raise _unfit(src, f"{digest} does not say which platform it is for")
    return [manifest.descriptor.plain.model_copy(update={"platform": platform})]


def _order(platform: Any) -> tuple[str, ...]:
    return tuple(str(platform.get(name, "")) for name in _PARTS)


def _shown(platform: Any) -> str:
    names = (platform.get(name) for name in ("os", "architecture", "variant"))
    return "/".join(name for name in names if name)


def _unfit(src: ImageStore, why: str) -> RelforgeError:
    return RelforgeError(
        "this is no image that can be merged",
        code=ExitCode.PUBLISH,
        where=src.name,
        why=why,
        hint="name images that were built, one for each platform",
    )
