"""An image that is to be compared: manifest, configuration, and layers that can be opened."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import sha256_hex
from relforge.manifest.site import Site
from relforge.oci.layout_format import tag_of
from relforge.oci.store import INDEXES
from relforge.rebuilding.model import Side

_ATTACHED = "sha256-"
"""Signatures and the like have tags that begin so (the tag schema of referrers, and cosign's)."""


@dataclass(frozen=True)
class Image:
    """``open_layer`` takes a layer's digest. ``place`` is for messages; ``whole`` is the digest of
    the index that lists the image, or its own."""

    place: str
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]
    open_layer: Callable[[str], IO[bytes]]
    whole: str

    @property
    def side(self) -> Side:
        return Side(digest=self.digest, place=self.place)


def from_layout(folder: Path, architecture: str | None = None) -> Image:
    """The one image of an OCI layout; what is attached to it does not count.

    Of an image for several architectures the named one. A published folder (``dist/<release>``)
    stands for the layout in it. Raises RelforgeError
    (USAGE) for a folder that is no layout, (BUILD) for a damaged one.
    """
    layout = folder if (folder / "index.json").is_file() else folder / "image"
    try:
        index = json.loads((layout / "index.json").read_bytes())
        found = {
            str(entry["digest"]): str(entry["mediaType"])
            for entry in index["manifests"]
            if not entry.get("artifactType") and not (tag_of(entry) or "").startswith(_ATTACHED)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RelforgeError(
            "this is no OCI image layout",
            code=ExitCode.USAGE,
            where=str(folder),
            why=f"index.json: {type(error).__name__}: {error}",
            hint="name a published folder such as dist/RELEASE, or a folder with oci-layout in it",
        ) from error
    if len(found) != 1:
        raise RelforgeError(
            "a layout of one image is wanted",
            code=ExitCode.USAGE,
            where=str(folder),
            why=f"it holds {len(found)}: {', '.join(sorted(found)) or 'nothing'}",
            hint="relforge mirror copies one image into a folder of its own",
        )
    ((digest, media_type),) = found.items()

    def opened(blob: str) -> IO[bytes]:
        return _blob(layout, blob).open("rb")

    if media_type in INDEXES:
        index = _json(str(folder), digest, opened)
        return _image(str(folder), _for(architecture, index, str(folder)), opened, whole=digest)
    return _image(str(folder), digest, opened)


def named(
    text: str, site: Site, cancel: CancelToken | None = None, *, architecture: str | None = None
) -> Image:
    """What a user names: a folder, else a tar or HOST/NAME:TAG, as ``oci.opening`` reads it.

    Of an image for several architectures the named one. Raises RelforgeError: USAGE for what is
    none of them, PUBLISH when a registry refuses.
    """
    if Path(text).is_dir():
        return from_layout(Path(text), architecture)
    from relforge.oci.opening import open_store, read_digest

    store, wanted = open_store(text, site, cancel=cancel)
    digest, _ = read_digest(store, wanted)
    whole = digest
    found = store.manifest(digest)
    assert found is not None
    if found.is_index:
        digest = _for(architecture, found.value, f"{store.name}@{whole}")
        found = store.manifest(digest)
        if found is None:
            raise _damaged(f"{store.name}@{whole}", f"{digest}, which it lists, is not there")
    blobs = {blob.digest: blob for blob in found.blobs}

    def opened(wanted: str) -> IO[bytes]:
        return io.BytesIO(found.data) if wanted == digest else store.open_blob(blobs[wanted])

    return _image(f"{store.name}@{whole}", digest, opened, whole=whole)


def _for(architecture: str | None, index: dict[str, Any], place: str) -> str:
    """The digest of the one image that an index has for an architecture."""
    found = [
        str(entry["digest"])
        for entry in index.get("manifests") or ()
        if (entry.get("platform") or {}).get("architecture") == architecture
    ]
    if len(found) != 1:
        raise _several(place)
    return found[0]


def _image(
    place: str,
    digest: str,
    open_blob: Callable[[str], IO[bytes]],
    *,
    whole: str | None = None,
) -> Image:
    manifest = _json(place, digest, open_blob)
    try:
        config = _json(place, str(manifest["config"]["digest"]), open_blob)
        layers, diff_ids = manifest["layers"], config["rootfs"]["diff_ids"]
    except (KeyError, TypeError) as error:
        raise _damaged(place, f"its manifest or configuration has no {error}") from error
    if len(layers) != len(diff_ids):
        raise _damaged(place, "manifest and configuration name different numbers of layers")
    return Image(place, digest, manifest, config, open_blob, whole or digest)


def _json(place: str, digest: str, open_blob: Callable[[str], IO[bytes]]) -> dict[str, Any]:
    try:
        with open_blob(digest) as blob:
            data = blob.read()
        value = json.loads(data)
    except (OSError, ValueError) as error:
        raise _damaged(place, f"blob {digest}: {error}") from error
    if f"sha256:{sha256_hex(data)}" != digest or not isinstance(value, dict):
        raise _damaged(place, f"blob {digest} was altered")
    return value


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    if not (algorithm.isalnum() and value.isalnum()):
        raise _damaged(str(layout), f"{digest!r} is no digest")
    return layout / "blobs" / algorithm / value


def _damaged(place: str, why: str) -> RelforgeError:
    return RelforgeError(
        "the image is damaged",
        code=ExitCode.BUILD,
        where=place,
        why=why,
        hint="have it again from where it came, or build it again",
    )


def _several(place: str) -> RelforgeError:
    return RelforgeError(
        "images of several architectures are compared one by one",
        code=ExitCode.USAGE,
        where=place,
        why="this is an index, not an image",
        hint="name one of its manifests by digest",
    )
