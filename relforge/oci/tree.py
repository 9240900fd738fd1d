"""Everything that a digest leads to: images, what they consist of, and what is attached to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Literal, Protocol

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.oci.store import Descriptor, Manifest

_DEEPEST = 3  # what is attached to something that is attached

Kind = Literal["layer", "config", "manifest", "index", "attachment"]


class ImageSource(Protocol):
    """What is read of a store that is copied from (``ImageStore`` has it all)."""

    @property
    def name(self) -> str: ...

    def manifest(self, reference: str) -> Manifest | None: ...

    def has_blob(self, digest: str) -> bool: ...

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]: ...

    def referrers(self, digest: str) -> tuple[Descriptor, ...]: ...


class Tree(Frozen):
    """Everything that a digest leads to. ``images`` come before the index that lists them;
    ``attached`` after what they are attached to."""

    images: tuple[Manifest, ...]
    attached: tuple[Manifest, ...]

    @property
    def digests(self) -> frozenset[str]:
        """Of manifests and blobs."""
        manifests = (one.descriptor.digest for one in (*self.images, *self.attached))
        return frozenset((*manifests, *(one.digest for one, _ in self.blobs)))

    @property
    def blobs(self) -> tuple[tuple[Descriptor, Kind], ...]:
        """Each once, the largest first."""
        found: dict[str, tuple[Descriptor, Kind]] = {}
        for manifest in self.images:
            for number, blob in enumerate(manifest.blobs):
                found.setdefault(blob.digest, (blob, "layer" if number else "config"))
        for manifest in self.attached:
            for blob in manifest.blobs:
                found.setdefault(blob.digest, (blob, "attachment"))
        return tuple(sorted(found.values(), key=lambda row: (-row[0].size, row[0].digest)))


def read_tree(src: ImageSource, digest: str, *, attachments: bool = True) -> Tree:
    """Reads the manifests that ``digest`` leads to. Raises RelforgeError (PUBLISH)."""
    images = tuple({m.descriptor.digest: m for m in _images(src, digest, digest)}.values())
    attached: dict[str, Manifest] = {}
    if attachments:
        subjects = [manifest.descriptor.digest for manifest in images]
        for _ in range(_DEEPEST):
            found = [m for subject in subjects for m in _attached(src, subject)]
            fresh = {m.descriptor.digest: m for m in found if m.descriptor.digest not in attached}
            attached |= fresh
            subjects = list(fresh)
    return Tree(images=images, attached=tuple(attached.values()))


def _images(src: ImageSource, digest: str, root: str) -> Iterator[Manifest]:
    manifest = src.manifest(digest)
    if manifest is None:
        raise RelforgeError(
            "the image to be copied is not there"
            if digest == root
            else "the image to be copied is not whole",
            code=ExitCode.PUBLISH,
            where=src.name,
            why=f"it has no manifest {digest}",
            hint="correct the name, or copy from a place that has all platforms",
        )
    if manifest.is_index:
        for inner in manifest.manifests:
            yield from _images(src, inner.digest, root)
    yield manifest


def _attached(src: ImageSource, digest: str) -> Iterator[Manifest]:
    for one in src.referrers(digest):
        manifest = src.manifest(one.digest)
        if manifest is None:
            raise RelforgeError(
                "something attached to the image is not there",
                code=ExitCode.PUBLISH,
                where=src.name,
                why=f"{one.artifact_type or one.media_type} {one.digest} is listed and missing",
                hint="copy from a place that has it, or leave out what is attached: "
                "--no-attachments",
            )
        # The entry knows more than the manifest: the tag under which programs look for it.
        tagged = manifest.descriptor.model_copy(
            update={
                "artifact_type": one.artifact_type,
                "annotations": {**manifest.descriptor.annotations, **one.annotations},
            }
        )
        yield Manifest(descriptor=tagged, data=manifest.data)
