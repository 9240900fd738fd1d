"""The place that is verified: a published folder, a repository of a registry, a tar."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from relforge.attesting.attachments import ATTACHMENTS
from relforge.attesting.reading import Attached, ReleaseFiles, read_attachments
from relforge.attesting.withdrawing import withdrawn
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.oci.opening import open_store, read_digest
from relforge.oci.reference import DIGEST
from relforge.oci.registry import RegistryStore
from relforge.oci.store import ImageStore
from relforge.oci.tar_store import TarStore
from relforge.publishing.published import CONTENTS, IMAGE, RECORD, SEAL
from relforge.verifying.files import (
    Files,
    FolderFiles,
    LayerFiles,
    cannot_read,
    json_object,
    walk,
)
from relforge.verifying.image import blob_fault, strays
from relforge.verifying.report import Kind, Outcome, judged
from relforge.verifying.sealed import Newest

_INDEX_BYTES = 8 << 20


@dataclass(frozen=True)
class Place:
    """``digest`` is the image's. ``folder`` is that of a published release, None elsewhere."""

    name: str
    kind: Kind
    store: ImageStore
    digest: str
    folder: Path | None = None

    @property
    def layout(self) -> Path | None:
        """The folder of the OCI layout, where there is one."""
        return None if self.folder is None else self.folder / IMAGE


def open_place(named: str | Path, site: Site) -> Place:
    """What a user names. Raises RelforgeError: USAGE for what is no such place, PUBLISH with the
    cause when it cannot be read."""
    folder = Path(named).expanduser()
    if folder.is_dir() and not (folder / "oci-layout").exists():
        return _published(str(named), folder, site)
    store, wanted = open_store(str(named), site)
    if not isinstance(store, RegistryStore) and not Path(store.name).exists():
        raise RelforgeError(
            "there is no such place to verify",
            code=ExitCode.USAGE,
            where=str(named),
            hint="name HOST/NAME:TAG, HOST/NAME@DIGEST, a tar, or a folder such as dist/RELEASE",
        )
    _require_not_taken_away(store, wanted, str(named))
    digest, _ = read_digest(store, wanted)
    kind: Kind = "tar" if isinstance(store, TarStore) else "registry"
    if folder.is_dir():
        kind = "folder"
    return Place(str(named), kind, store, digest)


def _require_not_taken_away(store: ImageStore, wanted: str | None, named: str) -> None:
    """A registry may have deleted the image with its tags; the statement about it stays."""
    if wanted is None or not DIGEST.fullmatch(wanted) or store.manifest(wanted) is not None:
        return
    # Nothing is there to be trusted or not: who says so makes no difference.
    if (reason := withdrawn(store, wanted, Site())) is not None:
        raise cannot_read(
            "this image was withdrawn, and is not there any more",
            named,
            f"the statement that was left says: {reason}",
            "use a newer release",
        )


def _published(name: str, folder: Path, site: Site) -> Place:
    layout = folder / IMAGE
    if not layout.is_dir():
        raise cannot_read(
            "this is no published release",
            str(folder),
            "it has no folder image/",
            "name the folder that has image/ and release.json in it, such as dist/RELEASE",
        )
    if faults := list(unsafe(layout)):
        raise _no_layout(layout, "; ".join(faults[:8]))
    store, _ = open_store(str(layout.resolve()), site)
    first = next((entry["digest"] for entry in _entries(layout)), None)
    if first is None:
        raise _no_layout(layout, "index.json names no image")
    return Place(name, "folder", store, first, folder)


def _entries(layout: Path) -> list[dict[str, Any]]:
    """The index of a published layout, which names its image first."""
    path = layout / "index.json"
    try:
        if path.stat().st_size > _INDEX_BYTES:
            raise ValueError(f"it is larger than {_INDEX_BYTES >> 20} MiB")
        listed = json_object(path.read_bytes(), path.name).get("manifests")
        found = [dict(entry) for entry in listed or ()]
        if not all(DIGEST.fullmatch(str(entry.get("digest"))) for entry in found):
            raise ValueError("an entry has no digest")
    except (OSError, ValueError, TypeError) as error:
        raise _no_layout(layout, f"index.json cannot be read: {error}") from error
    return found


def _no_layout(layout: Path, why: str) -> RelforgeError:
    return cannot_read(
        "the image of this folder cannot be read",
        str(layout),
        why,
        "get the release again from whoever made it",
    )


def unsafe(layout: Path) -> Iterator[str]:
    """What must not be opened: links lead elsewhere, pipes and devices never end."""
    for name in walk(layout):
        mode = os.lstat(layout / name).st_mode
        if stat.S_ISLNK(mode):
            yield f"image/{name} is a link, which leads elsewhere"
        elif not stat.S_ISREG(mode):
            yield f"image/{name} is no regular file"


def read_attached(place: Place) -> Attached:
    """Raises RelforgeError (PUBLISH)."""
    return read_attachments(place.store, place.digest)


def files_of(place: Place, attached: Attached, statement: Newest | None) -> Files:
    """The released files: of a folder those in it, else those of the artifact that the newest
    statement covers, or, where none is covered, of the newest artifact.

    Raises RelforgeError (PUBLISH) when there is no artifact.
    """
    if place.folder is not None:
        return FolderFiles(place.folder)
    if not attached.releases:
        raise cannot_read(
            "record, cards and evidence are not there",
            f"{place.store.name}@{place.digest}",
            "no release artifact is attached to the image",
            "copy the release with its attachments: relforge mirror, or oras cp -r",
        )
    return layer_files(place.store, _chosen(attached, statement))


def layer_files(store: ImageStore, release: ReleaseFiles) -> LayerFiles:
    """An artifact's layers as files."""

    def open_(name: str) -> IO[bytes]:
        return store.open_blob(release.files[name])

    layers = {name: (one.digest, one.size) for name, one in release.files.items()}
    return LayerFiles(layers=layers, open_=open_)


def _chosen(attached: Attached, statement: Newest | None) -> ReleaseFiles:
    if statement is not None:
        wanted = statement.covered.get(RECORD)
        for one in attached.releases:
            record = one.files.get(RECORD)
            if record is not None and record.digest == f"sha256:{wanted}":
                return one
    return attached.releases[0]


def contents(place: Place, files: Files) -> Outcome:
    """Every file is the one that was published, and none came beside them."""
    listed = json_object(files.read(CONTENTS), CONTENTS).get("files")
    if listed is None:
        raise KeyError("files")
    if not isinstance(listed, dict):
        raise ValueError("its list of files is none")
    problems = []
    for name, digest in listed.items():
        if place.folder is None and name.startswith("weights/"):
            continue  # They are no part of what is attached to an image.
        if (why := _altered(files, name, digest)) is not None:
            problems.append(why)
    known = {*listed, CONTENTS, RECORD, SEAL}
    problems += [f"{name} was not published" for name in files.names if name not in known]
    return judged(problems, f"{len(listed)} files have the hashes that contents.json lists")


def _altered(files: Files, name: str, digest: object) -> str | None:
    try:
        found = files.sha256(name)
    except FileNotFoundError:
        return f"{name} is not the file that was published: it is not there"
    except (OSError, ValueError) as error:
        return f"{name} is not the file that was published: {error}"
    return None if found == digest else f"{name} is not the file that was published"


def beside(
    place: Place, attached: Attached, images: Sequence[str], image_blobs: set[str], *, whole: bool
) -> Iterator[str]:
    """What is wrong with all that lies beside the image: attachments that are not whole, and, in a
    folder, what belongs to nothing. ``images`` are the digests of the image and of its parts."""
    known = set(image_blobs)
    for image in images:
        yield from _attached_to(place, image, known, whole=whole)
    yield from attached.unreadable
    if place.layout is None:
        return
    for entry in _entries(place.layout):
        digest = entry["digest"]
        if digest != place.digest and entry.get("artifactType") != ATTACHMENTS:
            yield f"index.json names {digest} beside the image"
        known.add(digest)
        yield from _attached_elsewhere(place, digest, known)
    yield from strays(place.layout, known)


def _attached_to(place: Place, image: str, known: set[str], *, whole: bool) -> Iterator[str]:
    for descriptor in place.store.referrers(image):
        known.add(descriptor.digest)
        manifest = place.store.manifest(descriptor.digest)
        if manifest is None:
            yield f"{descriptor.digest} is attached and is not there"
            continue
        subject = manifest.subject
        if subject is not None and subject.digest != image:
            yield f"{descriptor.digest} is attached to {subject.digest}"
        for blob in manifest.blobs:
            known.add(blob.digest)
            if (why := blob_fault(place.store, blob, whole=whole)) is not None:
                yield f"{why}; it is a part of what is attached"


def _attached_elsewhere(place: Place, digest: str, known: set[str]) -> Iterator[str]:
    """Entries of the index of attachments that are about another image."""
    index = place.store.manifest(digest)
    if digest == place.digest or index is None or not index.is_index:
        return
    for entry in index.manifests:
        manifest = place.store.manifest(entry.digest)
        if entry.digest not in known:
            of = manifest.subject.digest if manifest and manifest.subject else "nothing"
            yield f"{entry.digest} is attached to another image, {of}"
