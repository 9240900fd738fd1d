"""The canonical artefact of a build: a folder in the OCI image layout with one image in it.

Formats: OCI image-layout, image-index, manifest and config of the image specification 1.1. The
digest of an image is its manifest's; everything below it is checked by SHA-256 on reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from relforge.cancel import CancelToken
from relforge.engine.attached import read_attached
from relforge.engine.blobs import (
    altered,
    blob_path,
    check_size,
    damaged,
    hash_blob,
    link_or_copy,
    read_json,
    small_blob,
    sync_file,
)
from relforge.errors import ExitCode
from relforge.files import cannot_write, remove_tree, sync_folder
from relforge.frozen import Frozen
from relforge.leftovers import REPLACED, owned_folder
from relforge.oci.layout_format import (
    LAYOUT_FILE,
    index_json,
    is_attachments,
    member_of,
    names_of,
    write_archive,
)
from relforge.oci.store import INDEXES, MANIFESTS, Descriptor, file_opener


class LayerFacts(Frozen):
    """One layer; ``size_bytes`` is compressed, ``diff_id`` the digest of the unpacked tar."""

    digest: str
    diff_id: str
    media_type: str
    size_bytes: int
    created_by: str


class ImageFacts(Frozen):
    """What a layout says about its image. Sizes are bytes, compressed, each blob counted once.

    Of an image for several architectures ``digest`` and ``manifest_bytes`` are those of its index,
    and everything else is the architecture's that stands first; ``others`` are the rest.
    """

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
    """Of this architecture: manifest, config and layers."""
    own: Descriptor | None = None
    """The manifest that stands first in the index; None without an index."""
    others: tuple[ImageFacts, ...] = ()

    @property
    def alone(self) -> ImageFacts:
        """The architecture that stands first, as an image of its own."""
        if self.own is None:
            return self
        return self.model_copy(
            update={
                "digest": self.own.digest,
                "media_type": self.own.media_type,
                "manifest_bytes": self.own.size,
                "own": None,
                "others": (),
            }
        )

    @property
    def each(self) -> tuple[ImageFacts, ...]:
        """Every architecture as an image of its own, in the index's order."""
        return (self.alone, *self.others)

    @property
    def blobs(self) -> dict[str, int]:
        """Every blob of the image, of all its architectures: digest and size."""
        found = {self.digest: self.manifest_bytes}
        for one in self.each:
            layers = {layer.digest: layer.size_bytes for layer in one.layers}
            config = one.size_bytes - one.manifest_bytes - sum(layers.values())
            found |= {one.digest: one.manifest_bytes, one.config_digest: config, **layers}
        return found

    @property
    def platforms(self) -> tuple[str, ...]:
        """``os/architecture`` of each."""
        return tuple(f"{one.os}/{one.architecture}" for one in (self, *self.others))


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
        or images[0].get("mediaType") not in (*MANIFESTS, *INDEXES)
    ):
        raise damaged(
            layout,
            f"index.json names {len(entries)} entries, wanted is one image, and after it at most "
            "one index of what is attached to it",
            code,
        )
    entry = entries[0]
    if entry["mediaType"] not in INDEXES:
        return _describe(layout, entry, code)
    listed = json.loads(small_blob(layout, entry, code)).get("manifests") or []
    if not listed or any(one.get("mediaType") not in MANIFESTS for one in listed):
        raise damaged(layout, f"the image's index {entry['digest']} names no images", code)
    first, *rest = (_describe(layout, one, code) for one in listed)
    return first.model_copy(
        update={
            "own": Descriptor(
                media_type=first.media_type, digest=first.digest, size=first.manifest_bytes
            ),
            "digest": entry["digest"],
            "media_type": entry["mediaType"],
            "manifest_bytes": entry["size"],
            "others": tuple(rest),
        }
    )


def _describe(layout: Path, entry: dict[str, Any], code: ExitCode) -> ImageFacts:
    """The image of one architecture."""
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
    entry = _root(facts)
    try:
        (layout / "oci-layout").write_bytes(LAYOUT_FILE)
        (layout / "index.json").write_bytes(index_json([entry]))
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
    entry = _root(facts)
    if ref_name:
        entry["annotations"] = names_of(ref_name)
    (dst / "oci-layout").write_bytes(LAYOUT_FILE)
    (dst / "index.json").write_bytes(index_json([entry]))
    for name in ("oci-layout", "index.json"):
        sync_file(dst / name)
    for folder in (dst / "blobs" / "sha256", dst / "blobs", dst):
        sync_folder(folder)


@contextmanager
def first_alone(layout: Path, area: Path) -> Iterator[Path]:
    """A layout with nothing but the image of the architecture that stands first, for programs that
    read one image. It lies in the folder ``area`` (links where the file system allows them) as
    long as the context; of one architecture it is ``layout`` itself. Raises RelforgeError."""
    facts = describe(layout)
    if facts.own is None:
        yield layout
        return
    try:
        with owned_folder(area, ".first") as work:
            fill(layout, work, facts.alone)
            yield work
    except OSError as error:
        raise cannot_write(area, error) from error


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


def to_docker_archive(layout: Path, name: str, stream: IO[bytes]) -> ImageFacts:
    """Writes the layout as a tar that ``docker load`` reads, with and without containerd's store.

    ``name`` is the image's full name with tag, e.g. ``relforge/hello:1``. The tar holds the
    layout itself and Docker's own ``manifest.json`` beside it, as ``docker save`` writes it; of
    several architectures the first.
    """
    facts = describe(layout).alone
    entry = {**_root(facts), "annotations": names_of(name)}
    docker = {
        "Config": member_of(facts.config_digest),
        "RepoTags": [name],
        "Layers": [member_of(layer.digest) for layer in facts.layers],
    }
    blobs = {
        digest: (size, file_opener(blob_path(layout, digest)))
        for digest, size in facts.blobs.items()
    }
    write_archive(stream, [entry], [docker], blobs)
    return facts


def _root(facts: ImageFacts) -> dict[str, Any]:
    """The image's entry in index.json; one for several architectures has no platform of its own."""
    entry: dict[str, Any] = {
        "mediaType": facts.media_type,
        "digest": facts.digest,
        "size": facts.manifest_bytes,
    }
    if facts.own is None:
        entry["platform"] = {"architecture": facts.architecture, "os": facts.os}
    return entry
