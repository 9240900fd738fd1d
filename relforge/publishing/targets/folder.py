"""A folder as a target: each release is a folder in it, whole, for people without a network.

It is the published folder, file by file: each is hashed on its way and compared with what the
folder's own list (``contents.json``) or the blob's name says.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from relforge.engine.attached import read_attached
from relforge.engine.blobs import blob_path
from relforge.engine.layout import describe
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sha256_file, sync_folder
from relforge.leftovers import owned_file, sweep_files
from relforge.manifest.publishing import FolderTarget as FolderSpec
from relforge.manifest.site import Site
from relforge.publishing.published import CONTENTS, IMAGE, Published
from relforge.publishing.target import Change, Delivery, Doing, Step
from relforge.publishing.targets.shelf import Shelf, ShelfTarget

_CHUNK_BYTES = 1 << 20
_LAST = CONTENTS
"""Written last: a folder without it is not whole."""


class FolderTarget(ShelfTarget):
    """Site and name as every target has them."""

    def __init__(self, name: str, spec: FolderSpec, site: Site) -> None:  # noqa: ARG002
        super().__init__(name, spec.path)

    def _apply(self, published: Published, step: Step, doing: Doing) -> Delivery:
        shelf = self._shelf(published)
        changes = self._changes(published, step)
        sent = 0
        if step == "withdraw":
            if changes:
                shelf.drop_final()
        elif step == "candidate":
            sent = self._fill(published, shelf, changes, doing)
        elif any(change.action != "same" for change in changes):
            if not _same(published, shelf.waiting):
                raise _no_candidate(published, shelf.waiting, self._name)
            shelf.promote()
            doing.line(f"{shelf.final}: there")
        there = shelf.final if step == "promote" or _same(published, shelf.final) else shelf.waiting
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
        elif delivery.step == "promote" and _same(published, shelf.final):
            shelf.restore()

    def _changes(self, published: Published, step: Step) -> tuple[Change, ...]:
        shelf = self._shelf(published)
        if step == "withdraw":
            found = _digest_of(shelf.final)
            if found != published.image_digest:
                return ()
            return (Change(action="remove", kind="release", name=shelf.final.name, before=found),)
        there = _same(published, shelf.final) or _same(published, shelf.waiting)
        if step == "candidate":
            return tuple(
                Change(
                    action="same"
                    if there or _has(published, shelf.waiting, name, size)
                    else "add",
                    kind="file", name=name, bytes=size,
                )
                for name, size in _files(published)
            )  # fmt: skip
        done = _same(published, shelf.final)
        before = _digest_of(shelf.final)
        return (
            Change(
                action="same" if done else "replace" if shelf.final.exists() else "add",
                kind="release", name=shelf.final.name, before=before, after=published.image_digest,
            ),
        )  # fmt: skip

    def _fill(
        self, published: Published, shelf: Shelf, changes: tuple[Change, ...], doing: Doing
    ) -> int:
        missing = {change.name: change.bytes for change in changes if change.action == "add"}
        if not missing:
            return 0
        _require_ours(shelf.final)
        shelf.require_room(sum(missing.values()))
        wanted = _hashes(published)
        for name in sorted(missing, key=lambda one: (one == _LAST, one)):
            if doing.cancel is not None:
                doing.cancel.check()
            _copy(published.folder / name, shelf.waiting / name, wanted.get(name), doing)
        _remove_others(published, shelf.waiting)
        return sum(missing.values())

    def _shelf(self, published: Published) -> Shelf:
        return Shelf(self._path, published.release, published.image_digest)


def _files(published: Published) -> Iterator[tuple[str, int]]:
    """Every file of a published folder that belongs to it, with its size in bytes."""
    layout = published.layout
    blobs = {
        **describe(layout, code=ExitCode.PUBLISH).blobs, **read_attached(layout).blobs,
    }  # fmt: skip
    names = [*published.files, f"{IMAGE}/oci-layout", *_small(published)]
    try:
        for name in dict.fromkeys(names):
            yield name, (published.folder / name).stat().st_size
    except OSError as error:
        raise RelforgeError(
            "the published folder is not whole",
            code=ExitCode.PUBLISH,
            where=str(error.filename),
            why=error.strerror,
            hint=f"relforge publish --release {published.release} writes it again",
        ) from error
    for digest, size in blobs.items():
        yield blob_path(layout, digest).relative_to(published.folder).as_posix(), size


def _hashes(published: Published) -> dict[str, str]:
    """SHA-256 by name, of every file whose hash something vouches for."""
    known = dict(published.files)
    for name, _ in _files(published):
        if name.startswith(f"{IMAGE}/blobs/"):
            known[name] = Path(name).name
    return known


def _copy(source: Path, target: Path, wanted: str | None, doing: Doing) -> None:
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_files(target.parent, ".file-")
        handle, work = owned_file(target.parent, ".file")
        try:
            with os.fdopen(handle, "wb") as sink, source.open("rb") as reader:
                while data := reader.read(_CHUNK_BYTES):
                    if doing.cancel is not None:
                        doing.cancel.check()
                    digest.update(data)
                    sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
            if wanted is not None and digest.hexdigest() != wanted:
                raise RelforgeError(
                    "a file of the release is not the one that was published",
                    code=ExitCode.PUBLISH,
                    where=str(source),
                    why=f"it hashes to {digest.hexdigest()}, wanted is {wanted}",
                    hint="relforge verify shows what else was altered; publish again",
                )
            work.chmod(0o644)
            work.replace(target)
        finally:
            work.unlink(missing_ok=True)
        sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error


def _same(published: Published, folder: Path) -> bool:
    """Whether a folder is this very release: the small files by hash, blobs by size."""
    try:
        for name in _small(published):
            if (folder / name).read_bytes() != (published.folder / name).read_bytes():
                return False
        if any(not _is(folder / name, size) for name, size in _files(published)):
            return False
        return all(
            sha256_file(folder / name) == digest
            for name, digest in published.files.items()
            if not name.startswith("weights/")
        )
    except OSError:
        return False


def _remove_others(published: Published, folder: Path) -> None:
    """What waits there of an earlier record of this image, such as its signatures."""
    names = {name for name, _ in _files(published)}
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.relative_to(folder).as_posix() not in names:
                path.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def _small(published: Published) -> tuple[str, ...]:
    """What says which record this is, of one image perhaps one of several; contents come last."""
    others = (name for name in published.unlisted if name != CONTENTS)
    return (*others, f"{IMAGE}/index.json", CONTENTS)


def _has(published: Published, folder: Path, name: str, size: int) -> bool:
    """Whether a file waits there: of another record it may have the same size."""
    if not _is(folder / name, size):
        return False
    if name not in _small(published):
        return True
    try:
        return (folder / name).read_bytes() == (published.folder / name).read_bytes()
    except OSError:
        return False


def _is(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _digest_of(folder: Path) -> str | None:
    try:
        found = json.loads((folder / CONTENTS).read_bytes())["image_digest"]
        return found if isinstance(found, str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require_ours(folder: Path) -> None:
    """A folder that somebody else filled is not replaced."""
    if folder.exists() and _digest_of(folder) is None:
        raise RelforgeError(
            "the place of the release holds something else",
            code=ExitCode.PUBLISH,
            where=str(folder),
            why=f"it has no {CONTENTS}, so it is no release",
            hint="move it away, or name another path for this target",
        )


def _no_candidate(published: Published, waiting: Path, target: str) -> RelforgeError:
    return RelforgeError(
        "the candidate is not there, or not whole",
        code=ExitCode.PUBLISH,
        where=str(waiting),
        hint=f"relforge publish --release {published.release} --target {target}",
    )
