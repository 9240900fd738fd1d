"""What is attached to the image of a layout: read from the folder, and written to it.

The layout's ``index.json`` names the image first and then one nameless index of manifests whose
``subject`` is the image, or one of the images that its index lists, where it is for several
architectures (``attesting/attachments.py``). Writing it is one rename of ``index.json``, so that a
kill leaves the old attachments or the new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relforge.attesting.attachments import ATTACHMENTS, TAG
from relforge.engine.blobs import (
    blob_path,
    check_size,
    damaged,
    link_or_copy,
    read_json,
    small_blob,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sync_folder, write_atomic
from relforge.frozen import Frozen, canonical_json
from relforge.oci.layout_format import is_attachments
from relforge.oci.store import INDEXES, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest


@dataclass(frozen=True)
class Attachment:
    """A manifest with an image as ``subject``, and its blobs by digest: content, or a file that is
    linked into the layout where that is possible.

    ``tag`` is that under which a registry shows it to programs that look for tags.
    """

    manifest: Manifest
    blobs: Mapping[str, bytes | Path] = field(default_factory=dict)
    tag: str | None = None

    @property
    def descriptor(self) -> Descriptor:
        """Its entry in the index of attachments."""
        own = self.manifest.descriptor
        tagged = {**own.annotations, **({TAG: self.tag} if self.tag else {})}
        return own.model_copy(update={"annotations": tagged})


class AttachedBlobs(Frozen):
    """What a layout has beside its image. ``blobs`` are digests and sizes in bytes of all of it,
    the index included."""

    index: Descriptor | None = None
    manifests: tuple[Descriptor, ...] = ()
    blobs: dict[str, int] = {}


def read_attached(layout: Path, *, code: ExitCode = ExitCode.PUBLISH) -> AttachedBlobs:
    """Lists it; index and manifests are hashed, other blobs looked at for their size.

    Nothing attached: empty. Raises RelforgeError with ``code`` when a blob is missing or altered,
    or when a manifest is attached to something else than the layout's image or a part of it.
    """
    entries = read_json(layout, layout / "index.json", code).get("manifests") or []
    found = next((entry for entry in entries if is_attachments(entry)), None)
    if found is None:
        return AttachedBlobs()
    try:
        return _attached(layout, _subjects(layout, entries[0], code), found, code)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"what is attached to the image cannot be read: {type(error).__name__}: {error}"
        raise damaged(layout, why, code) from error


def _subjects(layout: Path, image: dict[str, Any], code: ExitCode) -> tuple[str, ...]:
    """The image's digest, and those of the images that it lists."""
    if image["mediaType"] not in INDEXES:
        return (image["digest"],)
    listed = json.loads(small_blob(layout, image, code))["manifests"]
    return (image["digest"], *(one["digest"] for one in listed))


def _attached(
    layout: Path, images: Sequence[str], found: dict[str, Any], code: ExitCode
) -> AttachedBlobs:
    index = Descriptor.read(found)
    blobs = {index.digest: index.size}
    listed = json.loads(small_blob(layout, found, code))["manifests"]
    for entry in listed:
        manifest = json.loads(small_blob(layout, entry, code))
        subject = manifest.get("subject")
        if entry["mediaType"] != OCI_MANIFEST:
            raise damaged(layout, f"{entry['digest']} is attached and is no manifest", code)
        if not subject or subject["digest"] not in images:
            given = Descriptor.read(subject) if subject else None
            raise _of_another(layout, entry["digest"], given, images[0], code)
        blobs[entry["digest"]] = entry["size"]
        for blob in (manifest["config"], *manifest["layers"]):
            check_size(layout, blob, code)
            blobs[blob["digest"]] = blob["size"]
    return AttachedBlobs(index=index, manifests=tuple(map(Descriptor.read, listed)), blobs=blobs)


def write_attached(
    layout: Path, attachments: Sequence[Attachment], *, keep: set[str]
) -> AttachedBlobs:
    """Makes these the only attachments of the layout's image; none: there is no index of them.

    ``keep`` are the image's own blobs; every other blob that no attachment names is removed.
    Nothing is written that is there already. Raises RelforgeError (ENVIRONMENT, PUBLISH).
    """
    path = layout / "index.json"
    index = read_json(layout, path, ExitCode.PUBLISH)
    entries = [entry for entry in index["manifests"] if not is_attachments(entry)]
    subjects = _subjects(layout, entries[0], ExitCode.PUBLISH)
    wanted: dict[str, bytes | Path] = {}
    for one in attachments:
        subject = one.manifest.subject
        if subject is None or subject.digest not in subjects:
            raise _of_another(layout, one.manifest.descriptor.digest, subject, subjects[0])
        wanted |= one.blobs
        wanted[one.manifest.descriptor.digest] = one.manifest.data
    if attachments:
        listed = Manifest.make(
            OCI_INDEX,
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "artifactType": ATTACHMENTS,
                "manifests": [one.descriptor.to_json() for one in attachments],
            },
        )
        wanted[listed.descriptor.digest] = listed.data
        entries.append(listed.descriptor.to_json())
    try:
        for digest, content in wanted.items():
            _write_blob(layout, digest, content)
        whole = canonical_json({**index, "manifests": entries})
        if path.read_bytes() != whole:
            write_atomic(path, whole)
        _remove_others(layout, {*wanted, *keep})
    except OSError as error:
        raise cannot_write(layout, error) from error
    return read_attached(layout)


def load_attached(layout: Path, *, code: ExitCode = ExitCode.PUBLISH) -> tuple[Attachment, ...]:
    """The attachments as ``write_attached`` takes them. Raises RelforgeError with ``code``."""
    found = []
    for listed in read_attached(layout, code=code).manifests:
        named = {key: value for key, value in listed.annotations.items() if key != TAG}
        manifest = Manifest(
            descriptor=listed.model_copy(update={"annotations": named}),
            data=small_blob(layout, listed.to_json(), code),
        )
        blobs = {blob.digest: blob_path(layout, blob.digest) for blob in manifest.blobs}
        found.append(Attachment(manifest, blobs, listed.annotations.get(TAG)))
    return tuple(found)


def _write_blob(layout: Path, digest: str, content: bytes | Path) -> None:
    blob = blob_path(layout, digest)
    if isinstance(content, bytes):
        if not blob.is_file() or blob.read_bytes() != content:
            write_atomic(blob, content)
    elif content != blob and not blob.is_file():
        # Under its name only whole: a copy may be interrupted.
        half = blob.with_name(f".{blob.name}")
        half.unlink(missing_ok=True)
        link_or_copy(content, half)
        half.replace(blob)
        sync_folder(blob.parent)


def _remove_others(layout: Path, wanted: set[str]) -> None:
    blobs = layout / "blobs" / "sha256"
    names = {digest.removeprefix("sha256:") for digest in wanted}
    others = [path for path in blobs.iterdir() if path.name not in names]
    for path in others:
        path.unlink()
    if others:
        sync_folder(blobs)


def _of_another(
    layout: Path,
    manifest: str,
    subject: Descriptor | None,
    image: str,
    code: ExitCode = ExitCode.PUBLISH,
) -> RelforgeError:
    of = subject.digest if subject else "nothing"
    return damaged(layout, f"{manifest} is attached to {of}, the image is {image}", code)
