"""The files of an image without what tells it from others that hold the same files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from relforge.engine.blobs import blob_path, link_or_copy
from relforge.engine.layout import ImageFacts, describe
from relforge.files import cannot_write
from relforge.frozen import canonical_json
from relforge.leftovers import owned_folder
from relforge.oci.layout_format import LAYOUT_FILE, index_json

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"


@contextmanager
def bare_layout(layout: Path, area: Path) -> Iterator[tuple[Path, ImageFacts]]:
    """A layout of the same layers, whose configuration has nothing but platform and layers.

    Images that differ in labels, variables or history alone have one digest here. Of several
    architectures it has the first. It lies in the folder ``area`` (links where the file system
    allows them) as long as the context. Raises RelforgeError.
    """
    facts = describe(layout)
    config = canonical_json(
        {
            "architecture": facts.architecture,
            "os": facts.os,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in facts.layers]},
        }
    )
    layers = [
        {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size_bytes}
        for layer in facts.layers
    ]
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
            "layers": layers,
        }
    )
    entry = {"mediaType": _MANIFEST, "digest": _digest(manifest), "size": len(manifest)}
    with ExitStack() as stack:
        try:
            work = stack.enter_context(owned_folder(area, ".bare"))
            blob_path(work, _digest(config)).parent.mkdir(parents=True)
            for digest in {layer.digest for layer in facts.layers}:
                link_or_copy(blob_path(layout, digest), blob_path(work, digest))
            for blob in (config, manifest):
                blob_path(work, _digest(blob)).write_bytes(blob)
            (work / "oci-layout").write_bytes(LAYOUT_FILE)
            (work / "index.json").write_bytes(index_json([entry]))
        except OSError as error:
            raise cannot_write(area, error) from error
        yield work, describe(work)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
