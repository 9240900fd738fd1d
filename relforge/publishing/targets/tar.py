"""Tars as a target: each release is one file, an OCI layout with everything attached to the image.

``docker load``, ``skopeo`` and ``oras`` read it as it is; ``relforge mirror`` takes it on into a
registry behind an air gap.
"""

from __future__ import annotations

from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.publishing import TarTarget as TarSpec
from relforge.manifest.site import Site
from relforge.oci.copying import copy, survey
from relforge.oci.layout_store import LayoutStore
from relforge.oci.tar_store import TarStore
from relforge.oci.tree import read_tree
from relforge.publishing.published import Published
from relforge.publishing.target import Change, Delivery, Doing, Step
from relforge.publishing.targets.shelf import Shelf, ShelfTarget


class TarTarget(ShelfTarget):
    """Site and name as every target has them."""

    def __init__(self, name: str, spec: TarSpec, site: Site) -> None:  # noqa: ARG002
        super().__init__(name, spec.path)

    def _apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        shelf = self._shelf(published)
        changes = self._changes(published, step)
        sent = 0
        if step == "withdraw":
            if changes:
                shelf.drop_final()
        elif any(change.action != "same" for change in changes):
            if step == "candidate":
                sent = self._write(published, shelf, doing)
            elif not _holds(published, shelf.waiting):
                raise RelforgeError(
                    "the candidate is not there, or not whole",
                    code=ExitCode.PUBLISH,
                    where=str(shelf.waiting),
                    hint=f"relforge publish --release {published.release} --target {self._name}",
                )
            else:
                shelf.promote()
                doing.line(f"{shelf.final}: there")
        there = shelf.final if _holds(published, shelf.final) else shelf.waiting
        return Delivery(
            target=self._name,
            step=step,
            place=str(shelf.final),
            image_digest=published.image_digest,
            references=() if step == "withdraw" else (str(there),),
            changes=changes,
            sent_bytes=sent,
        )

    def _undo(self, published: Published, delivery: Delivery) -> None:
        shelf = self._shelf(published)
        if delivery.step == "candidate":
            shelf.drop_waiting()
        elif delivery.step == "promote" and _holds(published, shelf.final):
            shelf.restore()

    def _changes(self, published: Published, step: Step) -> tuple[Change, ...]:
        shelf = self._shelf(published)
        digest = published.image_digest
        done = _holds(published, shelf.final)
        if step == "withdraw":
            before = _digest_of(shelf.final)
            if before != digest:
                return ()
            return (Change(action="remove", kind="file", name=shelf.final.name, before=before),)
        if step == "candidate":
            there = done or _holds(published, shelf.waiting)
            return (
                Change(
                    action="same" if there else "add", kind="file", name=shelf.waiting.name,
                    bytes=0 if there else _size(published), after=digest,
                ),
            )  # fmt: skip
        return (
            Change(
                action="same" if done else "replace" if shelf.final.exists() else "add",
                kind="file", name=shelf.final.name, before=_digest_of(shelf.final), after=digest,
            ),
        )  # fmt: skip

    def _write(self, published: Published, shelf: Shelf, doing: Doing) -> int:
        shelf.require_room(_size(published))
        shelf.drop_waiting()  # it is another, or damaged: tars are written whole
        store = TarStore(shelf.waiting)
        report = copy(
            LayoutStore(published.layout), store, published.image_digest, tag=_tag(published),
            line=doing.line, cancel=doing.cancel,
        )  # fmt: skip
        return report.sent_bytes

    def _shelf(self, published: Published) -> Shelf:
        return Shelf(self._path, published.release, published.image_digest, ".tar")


def _tag(published: Published) -> str:
    """The name that ``docker load`` gives, which is the one in the card."""
    return LayoutStore(published.layout).full_name(published.image_digest) or published.release


def _size(published: Published) -> int:
    """In bytes, without the tar's own blocks."""
    tree = read_tree(LayoutStore(published.layout), published.image_digest)
    manifests = sum(one.descriptor.size for one in (*tree.images, *tree.attached))
    return manifests + sum(blob.size for blob, _ in tree.blobs)


def _holds(published: Published, path: Path) -> bool:
    """Whether a tar has this release with all that is attached, under its name."""
    if not path.is_file():
        return False
    try:
        report = survey(
            LayoutStore(published.layout), TarStore(path), published.image_digest,
            tag=_tag(published),
        )  # fmt: skip
    except RelforgeError as error:
        if error.where == str(path):
            return False
        raise
    return report.nothing


def _digest_of(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        roots = TarStore(path).roots()
    except RelforgeError:
        return None
    return roots[0][1].digest if len(roots) == 1 else None
