"""Images made by hand, in layout folders: no engine is needed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from relforge.attesting.attachments import SPDX, TAG, signature_tag
from relforge.oci.layout_store import LayoutStore
from relforge.oci.store import (
    EMPTY_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def put(store: LayoutStore, media_type: str, data: bytes) -> Descriptor:
    """A blob with these bytes."""
    descriptor = Descriptor.of(media_type, data)
    store.put_blob(descriptor, lambda: io.BytesIO(data))
    return descriptor


def layer_tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def image(
    folder: Path,
    *words: bytes,
    tag: str | None = "v1",
    architecture: str = "amd64",
    media_type: str = OCI_MANIFEST,
) -> str:
    """Adds an image with one layer for each word to the layout; returns its digest.

    A word that begins with ``big`` and ends in a number is a layer with so many random MiB.
    """
    store = LayoutStore(folder)
    layers, diff_ids = [], []
    for number, word in enumerate(words or (b"one", b"two")):
        content = word
        if word.startswith(b"big"):
            content = _noise(int(word[3:]) << 20)
        plain = layer_tar({f"file-{number}": content})
        diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
        layers.append(
            put(
                store,
                LAYER,
                gzip.compress(plain, compresslevel=0 if len(content) > 1 << 16 else 6, mtime=0),
            )
        )
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": {"words": " ".join(w.decode("latin1") for w in words)}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"step {n}"} for n in range(len(layers))],
    }
    described = put(store, CONFIG, json.dumps(config, sort_keys=True).encode())
    manifest = Manifest.make(
        media_type,
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": described.to_json(),
            "layers": [layer.to_json() for layer in layers],
        },
    )
    store.put_manifest(manifest, tag=tag)
    return manifest.descriptor.digest


def index(folder: Path, *digests: str, tag: str | None = "v1") -> str:
    """An index of images of the layout; returns its digest."""
    store = LayoutStore(folder)
    rows = []
    for digest in digests:
        found = store.manifest(digest)
        assert found is not None
        config = json.loads(store.open_blob(Descriptor.read(found.value["config"])).read())
        row = found.descriptor.plain.to_json()
        row["platform"] = {"architecture": config["architecture"], "os": "linux"}
        rows.append(row)
    made = Manifest.make(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": rows})
    store.put_manifest(made, tag=tag)
    return made.descriptor.digest


def attachment(
    folder: Path, digest: str, word: bytes, *, kind: str = SPDX, tag: str | None = None
) -> Manifest:
    """Attaches something to an image of the layout; under ``tag`` in registries, if given."""
    store = LayoutStore(folder)
    subject = store.manifest(digest)
    assert subject is not None
    empty = put(store, EMPTY_CONFIG, b"{}")
    data = put(store, kind, word)
    made = Manifest.make(
        OCI_MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": empty.to_json(),
            "layers": [data.to_json()],
            "subject": subject.descriptor.plain.to_json(),
        },
    )
    if tag is not None:
        annotated = made.descriptor.model_copy(update={"annotations": {TAG: tag}})
        made = Manifest(descriptor=annotated, data=made.data)
    store.attach(made)
    return made


def signed_image(folder: Path, *words: bytes, tag: str | None = "v1") -> tuple[str, list[str]]:
    """An image with an SBOM and a signature attached; their digests."""
    digest = image(folder, *words, tag=tag)
    made = [
        attachment(folder, digest, b'{"sbom": true}'),
        attachment(
            folder, digest, b"a signature",
            kind="application/vnd.dev.cosign.artifact.sig.v1+json", tag=signature_tag(digest),
        ),
    ]  # fmt: skip
    return digest, [one.descriptor.digest for one in made]


def _noise(count: int) -> bytes:
    import random

    return random.Random(count).randbytes(count)
