"""Copies an image, of one platform or many, with all that is attached to it, between two stores.

Nothing that is there is sent. Manifests follow their content, attachments their subject, and the
tag comes last, when everything that it leads to was found at the destination: a copy that is
stopped anywhere leaves content without a name, and the next one goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import IO, cast

from relforge.attesting.attachments import TAG
from relforge.cancel import CancelToken
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.oci.reading import Stopped
from relforge.oci.store import Descriptor, ImageStore, Manifest, Sent
from relforge.oci.tree import ImageSource, Kind, Tree, read_tree
from relforge.ui.text import size

WORKERS = 4
"""Blobs on their way at once; more rarely help, and each holds a connection on both sides."""
_TOLD_BYTES = 1 << 20  # smaller pieces come by the dozen, and take no time


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


class Present(Frozen):
    """What the destination has of a tree. ``trusted`` are blobs that nobody asks for: a manifest
    that is there leads to them, and a registry takes no manifest whose content it lacks."""

    manifests: frozenset[str]
    listed: frozenset[str]
    trusted: frozenset[str]


def look(dst: ImageStore, tree: Tree, *, thorough: bool) -> Present:
    """Asks for every manifest, and what the destination lists as attached."""
    root, *others = (m.descriptor.digest for m in reversed((*tree.attached, *tree.images)))
    # One question before many at once: a place that cannot be reached says so once.
    found = [root] if dst.manifest(root) is not None else []
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="relforge-look") as pool:
        there = pool.map(lambda digest: dst.manifest(digest) is not None, others)
        found += [digest for digest, known in zip(others, there, strict=True) if known]
    blobs = {
        blob.digest
        for manifest in (*tree.images, *tree.attached)
        if not thorough and manifest.descriptor.digest in found
        for blob in manifest.blobs
    }
    return Present(
        manifests=frozenset(found),
        listed=frozenset(_listed(dst, tree).intersection(found)),
        trusted=frozenset(blobs),
    )


def survey(
    src: ImageSource,
    dst: ImageStore,
    digest: str,
    *,
    tag: str | None = None,
    attachments: bool = True,
    thorough: bool = True,
) -> CopyReport:
    """What ``copy`` would do; changes nothing. A mount shows as sent: only the registry knows."""
    tree = read_tree(src, digest, attachments=attachments)
    have = look(dst, tree, thorough=thorough)

    def piece(one: Descriptor, kind: Kind, there: bool) -> Piece:
        return _piece(one, kind, "there" if there else "sent")

    pieces = [
        piece(one, kind, one.digest in have.trusted or dst.has_blob(one.digest))
        for one, kind in tree.blobs
    ]
    for manifest in tree.images:
        one = manifest.descriptor
        pieces.append(piece(one, _kind(manifest), one.digest in have.manifests))
    for manifest in tree.attached:
        one = manifest.descriptor
        pieces.append(piece(one, "attachment", one.digest in have.listed))
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
    thorough: bool = True,
    move_tag: bool = True,
    mount_from: str | None = None,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> CopyReport:
    """Copies what ``digest`` names; ``dst`` then has that very digest, under ``tag`` if given.

    ``mount_from`` names another repository of the destination's registry that has the content. To a
    folder or tar ``tag`` may be a full name with tag. Without ``move_tag`` a tag that points to
    another digest is an error. With ``thorough`` every blob is asked for; without it, to a registry
    alone, those are not that manifests which are there lead to (what a registry lost since then is
    found by ``relforge verify``). Raises RelforgeError, Cancelled.
    """
    tree = read_tree(src, digest, attachments=attachments)
    have = look(dst, tree, thorough=thorough)
    pieces = list(_send_blobs(src, dst, tree, have.trusted, mount_from, line, cancel))
    for manifest in tree.images:
        found = manifest.descriptor.digest in have.manifests
        if not found:
            dst.put_manifest(manifest)
        state: Sent = "there" if found else "sent"
        pieces.append(_told(_piece(manifest.descriptor, _kind(manifest), state), line))
    missing = [m for m in tree.attached if m.descriptor.digest not in have.listed]
    if missing:
        dst.attach(*missing)
    for manifest in tree.attached:
        state = "sent" if manifest in missing else "there"
        pieces.append(_told(_piece(manifest.descriptor, "attachment", state), line))
    if cancel is not None:
        cancel.check()
    known = frozenset[str]() if thorough else have.manifests.difference(_digests(missing))
    _require_whole(dst, tree, known | have.trusted)
    # Asked again right before it is written: layers take their time.
    before = _points_to(dst, tag) if move_tag else require_unmoved(dst, tag, digest)
    moved = tag is not None and before != digest
    if moved:
        dst.put_manifest(tree.images[-1], tag=tag)
    dst.commit()
    if digest not in known:
        _require_digest(dst, digest)
    if moved and (found_digest := _points_to(dst, tag)) != digest:
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


def _send_blobs(
    src: ImageSource,
    dst: ImageStore,
    tree: Tree,
    trusted: frozenset[str],
    mount_from: str | None,
    line: Callable[[str], None],
    cancel: CancelToken | None,
) -> Iterator[Piece]:
    # Set by a failing neighbour, or with the token of the run.
    token = CancelToken() if cancel is None else cancel.child()

    def open_(descriptor: Descriptor) -> IO[bytes]:
        return cast("IO[bytes]", Stopped(src.open_blob(descriptor), token))

    def send(descriptor: Descriptor, kind: Kind) -> Piece:
        token.check()
        if descriptor.digest in trusted:
            return _piece(descriptor, kind, "there")
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


def _require_whole(dst: ImageStore, tree: Tree, known: frozenset[str]) -> None:
    """Nothing gets a tag before all that it leads to is there. ``known`` was seen there before."""
    for manifest in (*tree.images, *tree.attached):
        one = manifest.descriptor
        if one.digest not in known and dst.manifest(one.digest) is None:
            raise _incomplete(dst, one)
    for one, _ in tree.blobs:
        if not (_elsewhere(one) or one.digest in known) and not dst.has_blob(one.digest):
            raise _incomplete(dst, one)


def _digests(manifests: Iterable[Manifest]) -> frozenset[str]:
    return frozenset(manifest.descriptor.digest for manifest in manifests)


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
