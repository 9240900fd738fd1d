"""The canonical artefact of a build: a folder in the OCI image layout with one image in it.

Formats: OCI image-layout, image-index, manifest and config of the image specification 1.1. The
digest of an image is its manifest's; everything below it is checked by SHA-256 on reading.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import IO, Any

from relforge.cancel import CancelToken
from relforge.engine.attached import is_attachments, read_attached
from relforge.engine.blobs import (
    altered,
    blob_path,
    check_size,
    damaged,
    hash_blob,
    read_json,
    small_blob,
    sync_file,
)
from relforge.errors import ExitCode
from relforge.files import cannot_write, remove_tree, sync_folder
from relforge.frozen import Frozen, canonical_json
from relforge.leftovers import REPLACED, owned_folder

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'


class LayerFacts(Frozen):
    """One layer; ``size_bytes`` is compressed, ``diff_id`` the digest of the unpacked tar."""

    digest: str
    diff_id: str
    media_type: str
    size_bytes: int
    created_by: str


class ImageFacts(Frozen):
    """What a layout says about its image. Sizes are bytes, compressed, each blob counted once."""

    digest: str
    config_digest: str
    media_type: str
    manifest_bytes: int
    architecture: str
    os: str
    created: str | None
    labels: dict[str, str]
    layers: tuple[LayerFacts, ...]
    size_bytes: int

    @property
    def blobs(self) -> dict[str, int]:
        """Every blob of the image: digest and size."""
        layers = {layer.digest: layer.size_bytes for layer in self.layers}
        config = self.size_bytes - self.manifest_bytes - sum(layers.values())
        return {self.digest: self.manifest_bytes, self.config_digest: config, **layers}


def describe(layout: Path, *, code: ExitCode = ExitCode.BUILD) -> ImageFacts:
    """Reads index, manifest and config (their hashes checked) and the layers' sizes.

    Raises RelforgeError with ``code`` when the folder is not a layout of exactly one image, or
    when a blob is missing, has another size or (manifest, config) another hash.
    """
    index = read_json(layout, layout / "index.json", code)
    entries = index.get("manifests") or []
    images = [entry for entry in entries if not is_attachments(entry)]
    if (
        len(images) != 1
        or images[0] is not entries[0]
        or len(entries) > 2
        or images[0].get("mediaType") not in _MANIFESTS
    ):
        raise damaged(
            layout,
            f"index.json names {len(entries)} entries, wanted is one image manifest, and after it "
            "at most one index of what is attached to it",
            code,
        )
    entry = entries[0]
    manifest = json.loads(small_blob(layout, entry, code))
    config = json.loads(small_blob(layout, manifest["config"], code))
    diff_ids = config.get("rootfs", {}).get("diff_ids", [])
    if len(diff_ids) != len(manifest["layers"]):
        raise damaged(layout, "manifest and config name different numbers of layers", code)
    steps = [h.get("created_by", "") for h in config.get("history", []) if not h.get("empty_layer")]
    if len(steps) != len(diff_ids):
        steps = [""] * len(diff_ids)
    layers = []
    for layer, diff_id, step in zip(manifest["layers"], diff_ids, steps, strict=True):
        check_size(layout, layer, code)
        layers.append(
            LayerFacts(
                digest=layer["digest"],
                diff_id=diff_id,
                media_type=layer["mediaType"],
                size_bytes=layer["size"],
                created_by=step,
            )
        )
    unique = {layer.digest: layer.size_bytes for layer in layers}
    return ImageFacts(
        digest=entry["digest"],
        config_digest=manifest["config"]["digest"],
        media_type=entry["mediaType"],
        manifest_bytes=entry["size"],
        architecture=config.get("architecture", ""),
        os=config.get("os", ""),
        created=config.get("created"),
        labels=config.get("config", {}).get("Labels") or {},
        layers=tuple(layers),
        size_bytes=sum(unique.values()) + entry["size"] + manifest["config"]["size"],
    )


def verify(
    layout: Path, *, code: ExitCode = ExitCode.BUILD, cancel: CancelToken | None = None
) -> ImageFacts:
    """Like ``describe``, and hashes every blob, also of what is attached to the image.

    Raises RelforgeError naming the altered one.
    """
    facts = describe(layout, code=code)
    for digest in {**facts.blobs, **read_attached(layout, code=code).blobs}:
        found = hash_blob(blob_path(layout, digest), cancel)
        if found != digest:
            raise altered(layout, digest, found, code)
    return facts


def normalise(layout: Path, *, code: ExitCode = ExitCode.BUILD) -> ImageFacts:
    """Makes a freshly exported layout depend on nothing but its image.

    Rewrites index.json without names and times, drops work folders of the exporter, and writes
    everything through to the disk.
    """
    facts = describe(layout, code=code)
    remove_tree(layout / "ingest")
    entry = {
        "mediaType": facts.media_type,
        "digest": facts.digest,
        "size": facts.manifest_bytes,
        "platform": {"architecture": facts.architecture, "os": facts.os},
    }
    try:
        (layout / "oci-layout").write_bytes(_LAYOUT_FILE)
        (layout / "index.json").write_bytes(_index(entry))
        wanted = {blob_path(layout, digest) for digest in facts.blobs}
        blobs = layout / "blobs" / "sha256"
        for path in blobs.iterdir():
            if path not in wanted:
                path.unlink()
        for path in (*wanted, layout / "oci-layout", layout / "index.json"):
            sync_file(path)
        for folder in (blobs, blobs.parent, layout):
            sync_folder(folder)
    except OSError as error:
        raise cannot_write(layout, error) from error
    return facts


def copy_layout(
    src: Path, dst: Path, *, ref_name: str | None = None, code: ExitCode = ExitCode.PUBLISH
) -> ImageFacts:
    """Copies the image of one layout, without what is attached to it, to a new folder, whole or not
    at all.

    Blobs become hard links where the file system allows it. ``ref_name`` is the tag, or the name
    with tag, that is written into the copy's index. An existing ``dst`` is replaced.
    """
    facts = describe(src, code=code)
    try:
        dst.parent.mkdir(parents=True, exist_ok=True)
        with owned_folder(dst.parent, f".{dst.name}") as work:
            work.chmod(0o755)
            fill(src, work, facts, ref_name=ref_name)
            replace_folder(work, dst)
    except OSError as error:
        raise cannot_write(dst, error) from error
    return facts


def fill(src: Path, dst: Path, facts: ImageFacts, *, ref_name: str | None = None) -> None:
    """Writes the layout of ``facts`` into the existing empty folder ``dst``. Raises OSError."""
    (dst / "blobs" / "sha256").mkdir(parents=True)
    for digest in facts.blobs:
        link_or_copy(blob_path(src, digest), blob_path(dst, digest))
    entry: dict[str, Any] = {
        "mediaType": facts.media_type,
        "digest": facts.digest,
        "size": facts.manifest_bytes,
        "platform": {"architecture": facts.architecture, "os": facts.os},
    }
    if ref_name:
        entry["annotations"] = _names(ref_name)
    (dst / "oci-layout").write_bytes(_LAYOUT_FILE)
    (dst / "index.json").write_bytes(_index(entry))
    for name in ("oci-layout", "index.json"):
        sync_file(dst / name)
    for folder in (dst / "blobs" / "sha256", dst / "blobs", dst):
        sync_folder(folder)


def link_or_copy(src: Path, dst: Path) -> None:
    """A hard link, or a synced copy where links are not possible. Raises OSError."""
    try:
        os.link(src, dst)
    except OSError:
        shutil.copyfile(src, dst)
        sync_file(dst)


def replace_folder(work: Path, dst: Path) -> None:
    """Puts ``work`` in the place of ``dst``; an old ``dst`` is moved away first, then deleted.

    After a kill in between, sweeping puts the old one back. Raises OSError.
    """
    if not dst.exists():
        work.replace(dst)
    else:
        with owned_folder(dst.parent, f".{dst.name}") as aside:
            dst.replace(aside / REPLACED)
            try:
                work.replace(dst)
            except OSError:
                (aside / REPLACED).replace(dst)
                raise
    sync_folder(dst.parent)


def _names(name: str) -> dict[str, str]:
    """Annotations of an index entry: a tag for OCI tools, the full name for containerd's import.

    A ``name`` without a colon is a tag alone.
    """
    if ":" not in name:
        return {"org.opencontainers.image.ref.name": name}
    full = name if "/" in name else f"docker.io/library/{name}"
    if "/" in name and not _has_host(name):
        full = f"docker.io/{name}"
    return {
        "io.containerd.image.name": full,
        "org.opencontainers.image.ref.name": full.rpartition(":")[2],
    }


def to_docker_archive(layout: Path, name: str, stream: IO[bytes]) -> ImageFacts:
    """Writes the layout as a tar that ``docker load`` reads, with and without containerd's store.

    ``name`` is the image's full name with tag, e.g. ``relforge/hello:1``. The tar holds the
    layout itself and Docker's own ``manifest.json`` beside it, as ``docker save`` writes it.
    """
    facts = describe(layout)
    entry = {
        "mediaType": facts.media_type,
        "digest": facts.digest,
        "size": facts.manifest_bytes,
        "annotations": _names(name),
    }
    docker = [
        {
            "Config": f"blobs/sha256/{facts.config_digest.removeprefix('sha256:')}",
            "RepoTags": [name],
            "Layers": [f"blobs/sha256/{ly.digest.removeprefix('sha256:')}" for ly in facts.layers],
        }
    ]
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, data in (
            ("oci-layout", _LAYOUT_FILE),
            ("index.json", _index(entry)),
            ("manifest.json", canonical_json(docker)),
        ):
            tar.addfile(_entry(path, len(data)), io.BytesIO(data))
        for digest, size in facts.blobs.items():
            with blob_path(layout, digest).open("rb") as blob:
                tar.addfile(_entry(f"blobs/sha256/{digest.removeprefix('sha256:')}", size), blob)
    return facts


def _has_host(name: str) -> bool:
    # Docker's rule: the first part is a host when it has a dot or a port, or is "localhost".
    first = name.split("/", 1)[0]
    return "." in first or ":" in first or first == "localhost"


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return entry


def _index(entry: dict[str, Any]) -> bytes:
    return canonical_json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]})
