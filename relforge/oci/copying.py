"""Copies an image, of one platform or many, with all that is attached to it, between two stores.

Nothing that is there is sent. Manifests follow their content, attachments their subject, and the
tag comes last, when everything that it leads to was found at the destination: a copy that is
stopped anywhere leaves content without a name, and the next one goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import IO, Literal, Protocol, cast

from relforge.attesting.attachments import TAG
from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.oci.reading import Stopped
from relforge.oci.store import Descriptor, ImageStore, Manifest, Sent
from relforge.ui.text import size

WORKERS = 4
"""Blobs on their way at once; more rarely help, and each holds a connection on both sides."""
_TOLD_BYTES = 1 << 20  # smaller pieces come by the dozen, and take no time
_DEEPEST = 3  # what is attached to something that is attached

Kind = Literal["layer", "config", "manifest", "index", "attachment"]


class Piece(Frozen):
    """One piece of content. ``state`` is what was done, or would be; ``size`` is in bytes."""

    digest: str
    media_type: str
    kind: Kind
    size: int
    state: Sent


class CopyReport(Frozen):
    """What a copy did, or would do. ``tag_before`` is the digest that the tag pointed to."""

    source: str
    destination: str
    digest: str
    tag: str | None
    tag_before: str | None
    pieces: tuple[Piece, ...]

    @property
    def sent_bytes(self) -> int:
        """Of the pieces that were sent; what an interrupted upload had sent before counts, too."""
        return sum(piece.size for piece in self.pieces if piece.state == "sent")

    @property
    def nothing(self) -> bool:
        """Whether everything was there, and the tag pointed to it."""
        moved = self.tag is not None and self.tag_before != self.digest
        return not moved and all(piece.state == "there" for piece in self.pieces)

    def count(self, state: Sent) -> int:
        return sum(piece.state == state for piece in self.pieces)


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


def survey(
    src: ImageSource,
    dst: ImageStore,
    digest: str,
    *,
    tag: str | None = None,
    attachments: bool = True,
) -> CopyReport:
    """What ``copy`` would do; changes nothing. A mount shows as sent: only the registry knows."""
    tree = read_tree(src, digest, attachments=attachments)
    there = {one.digest: dst.has_blob(one.digest) for one, _ in tree.blobs}
    pieces = [
        _piece(one, kind, "there" if there[one.digest] else "sent") for one, kind in tree.blobs
    ]
    listed = _listed(dst, tree)
    for manifest in tree.images:
        known = dst.manifest(manifest.descriptor.digest) is not None
        pieces.append(_piece(manifest.descriptor, _kind(manifest), "there" if known else "sent"))
    for manifest in tree.attached:
        known = manifest.descriptor.digest in listed
        pieces.append(_piece(manifest.descriptor, "attachment", "there" if known else "sent"))
    return CopyReport(
        source=src.name, destination=dst.name, digest=digest, tag=tag,
        tag_before=_points_to(dst, tag), pieces=tuple(pieces),
    )  # fmt: skip


def copy(
    src: ImageSource,
    dst: ImageStore,
    digest: str,
    *,
    tag: str | None = None,
    attachments: bool = True,
    move_tag: bool = True,
    mount_from: str | None = None,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> CopyReport:
    """Copies what ``digest`` names; ``dst`` then has that very digest, under ``tag`` if given.

    ``mount_from`` names another repository of the destination's registry that has the content. To a
    folder or tar ``tag`` may be a full name with tag. Without ``move_tag`` a tag that points to
    another digest is an error. Raises RelforgeError, Cancelled.
    """
    tree = read_tree(src, digest, attachments=attachments)
    # One question before many at once: a place that cannot be reached says so once.
    dst.manifest(digest)
    pieces = list(_send_blobs(src, dst, tree, mount_from, line, cancel))
    for manifest in tree.images:
        found = dst.manifest(manifest.descriptor.digest) is not None
        if not found:
            dst.put_manifest(manifest)
        state: Sent = "there" if found else "sent"
        pieces.append(_told(_piece(manifest.descriptor, _kind(manifest), state), line))
    listed = _listed(dst, tree)
    missing = [m for m in tree.attached if m.descriptor.digest not in listed]
    if missing:
        dst.attach(*missing)
    for manifest in tree.attached:
        state = "sent" if manifest in missing else "there"
        pieces.append(_told(_piece(manifest.descriptor, "attachment", state), line))
    if cancel is not None:
        cancel.check()
    _require_whole(dst, tree)
    # Asked again right before it is written: layers take their time.
    before = _points_to(dst, tag) if move_tag else require_unmoved(dst, tag, digest)
    if tag is not None and before != digest:
        dst.put_manifest(tree.images[-1], tag=tag)
    dst.commit()
    _require_digest(dst, digest)
    if tag is not None and (found_digest := _points_to(dst, tag)) != digest:
        raise RelforgeError(
            "the tag does not point to what was copied",
            code=ExitCode.PUBLISH,
            where=f"{dst.name}:{tag}",
            why=f"wanted {digest}, it points to {found_digest or 'nothing'}; perhaps somebody else "
            "wrote it at the same time",
            hint="run the same command again, when nobody else publishes there",
        )
    return CopyReport(
        source=src.name, destination=dst.name, digest=digest, tag=tag, tag_before=before,
        pieces=tuple(pieces),
    )  # fmt: skip


def require_unmoved(dst: ImageStore, tag: str | None, digest: str) -> str | None:
    """The digest that the tag points to, if any: the same one. Raises RelforgeError (PUBLISH)."""
    before = _points_to(dst, tag)
    if before not in (None, digest):
        raise RelforgeError(
            "the tag is another image's",
            code=ExitCode.PUBLISH,
            where=f"{dst.name}:{tag}",
            why=f"it points to {before}, the image to be copied is {digest}",
            hint="name another tag; --move-tag takes it away from that image",
        )
    return before


class _Linked(CancelToken):
    """Set by a failing neighbour, or with the token of the run."""

    def __init__(self, outer: CancelToken | None) -> None:
        super().__init__()
        self._outer = outer

    def check(self) -> None:
        if self._outer is not None:
            self._outer.check()
        super().check()


def _send_blobs(
    src: ImageSource,
    dst: ImageStore,
    tree: Tree,
    mount_from: str | None,
    line: Callable[[str], None],
    cancel: CancelToken | None,
) -> Iterator[Piece]:
    token = _Linked(cancel)

    def open_(descriptor: Descriptor) -> IO[bytes]:
        return cast("IO[bytes]", Stopped(src.open_blob(descriptor), token))

    def send(descriptor: Descriptor, kind: Kind) -> Piece:
        token.check()
        if _elsewhere(descriptor) and not src.has_blob(descriptor.digest):
            return _piece(descriptor, kind, "there")
        state = dst.put_blob(descriptor, partial(open_, descriptor), mount_from=mount_from)
        return _told(_piece(descriptor, kind, state), line)

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="relforge-copy") as pool:
        jobs = [pool.submit(send, *row) for row in tree.blobs]
        try:
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
        except BaseException:
            token.cancel("stopped")
            raise
        failed = [error for job in done if (error := job.exception()) is not None]
        if failed:
            token.cancel("another part of the copy failed")
            for job in jobs:
                job.cancel()
    if failed:
        # What only stopped because of another's failure says nothing.
        raise next((e for e in failed if not isinstance(e, Cancelled)), failed[0])
    for job in jobs:
        yield job.result()


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


def _listed(dst: ImageStore, tree: Tree) -> set[str]:
    """The attachments that the destination lists where it should, by their tags, too."""
    if not tree.attached:
        return set()
    subjects = {m.subject.digest for m in tree.attached if m.subject is not None}
    subjects |= {m.descriptor.digest for m in tree.images}
    listed = {one.digest for subject in sorted(subjects) for one in dst.referrers(subject)}
    found = set()
    for manifest in tree.attached:
        digest, tag = manifest.descriptor.digest, manifest.descriptor.annotations.get(TAG)
        if digest in listed and (tag is None or _points_to(dst, tag) == digest):
            found.add(digest)
    return found


def _require_whole(dst: ImageStore, tree: Tree) -> None:
    """Nothing gets a tag before all that it leads to is there."""
    wanted = [m.descriptor for m in (*tree.images, *tree.attached)]
    for one in wanted:
        if dst.manifest(one.digest) is None:
            raise _incomplete(dst, one)
    for one, _ in tree.blobs:
        if not _elsewhere(one) and not dst.has_blob(one.digest):
            raise _incomplete(dst, one)


def _require_digest(dst: ImageStore, digest: str) -> None:
    found = dst.manifest(digest)
    if found is None or found.descriptor.digest != digest:
        raise _incomplete(dst, Descriptor(media_type="the manifest", digest=digest, size=0))


def _incomplete(dst: ImageStore, one: Descriptor) -> RelforgeError:
    return RelforgeError(
        "the destination does not have what was sent to it",
        code=ExitCode.PUBLISH,
        where=dst.name,
        why=f"{one.digest} ({one.media_type}) is not there",
        hint="run the same command again; if that does not help, look into the registry's log",
    )


def _points_to(store: ImageStore, tag: str | None) -> str | None:
    if tag is None:
        return None
    found = store.manifest(tag.rpartition(":")[2])
    return found.descriptor.digest if found else None


def _piece(descriptor: Descriptor, kind: Kind, state: Sent) -> Piece:
    return Piece(
        digest=descriptor.digest, media_type=descriptor.media_type, kind=kind,
        size=descriptor.size, state=state,
    )  # fmt: skip


def _told(piece: Piece, line: Callable[[str], None]) -> Piece:
    if piece.state != "there" and piece.size >= _TOLD_BYTES:
        line(f"{piece.state} {piece.kind} {piece.digest[:19]} ({size(piece.size)})")
    return piece


def _kind(manifest: Manifest) -> Kind:
    return "index" if manifest.is_index else "manifest"


def _elsewhere(one: Descriptor) -> bool:
    """Layers that registries do not hand on, by their media type: they lie at their maker's."""
    return "foreign" in one.media_type or "nondistributable" in one.media_type
