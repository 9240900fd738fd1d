"""``relforge patch from-tree``: the edits in a patched tree as one further patch of its set.

The vendor's patches stay as they are. What is written is proved: the whole set is applied to the
base once more, with objects of its own, and must give the very tree that lies in the folder.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.gitio.entries import LINK, TreeEntry, refuse_unsafe
from relforge.patching.edits.writeset import put_set, refuse_existing, write_set
from relforge.patching.series import PlainPatches
from relforge.patching.source import Diff, Patch, PatchSource, Recipe, Trust
from relforge.patching.tree.apply import AppliedTree, apply_patches
from relforge.patching.tree.making import applied_tree, patch_set_at
from relforge.patching.tree.marker import Applied, FileEdit, Marker, edits, required_marker
from relforge.patching.tree.reverse import base_recipe
from relforge.stage import CancelToken
from relforge.workarea import outer_area

_NUMBER = re.compile(r"^(?:.*/)?(\d{1,8})[-_.]")


@dataclass(frozen=True)
class EditedSet:
    """What ``from_tree`` wrote. ``vendor`` names the set's own patches, in order.

    With ``vendor_written`` they stand beside the new patch; else the new one alone does, and
    applies to the vendor's tree.
    """

    out: Path
    patch: str
    vendor: tuple[str, ...]
    vendor_written: bool
    quotes_sealed: bool
    tree: str
    files: tuple[str, ...]


def from_tree(
    folder: Path,
    *,
    out: Path,
    home: Path,
    trust: Trust,
    slug: str = "local-edit",
    plain: bool = False,
    patches: Path | None = None,
    repository: Path | None = None,
    cancel: CancelToken | None = None,
) -> EditedSet:
    """Writes what the user edited in *folder* as a patch behind those that the folder carries.

    The new folder ``out`` gets the vendor's patches, the new one ``NNNN-<slug>.patch``, and a
    ``series``. The patches of a sealed set are named there but not written, unless ``plain``.
    ``patches`` and ``repository`` say where the set and the base are now, if no longer where the
    marker names them. Raises RelforgeError (SOURCE): no edit, another set, no proof.
    """
    marker = required_marker(folder)
    found = tuple(e for e in edits(folder, marker) if e.raw.split(b"/")[0] != b".git")
    _check(folder, marker, found)
    refuse_existing(out)
    carried = marker.patch_set
    source = _carried(carried, patches, trust) if carried else None
    recipe = _vendor_recipe(marker, source, trust, home, repository)
    with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, area):
        edited = _edited_tree(applied, folder, found, area)
        diff = diff_of(applied.git, tree.tree, edited)
        with outer_area(area, out.absolute().parent) as outer:
            written = carried is None or not carried.sealed or plain
            name = _name_of(tree.patches, slug)
            new = [(name, diff)]
            patch_set = write_set(
                outer / "set",
                itertools.chain(_vendor_patches(source, trust), new) if written else new,
                name=out.name,
                remarks=() if written else _remarks(marker, tree.patches),
            )
            proved = _proof(recipe, patch_set, None if written else source, area, cancel)
            if proved != edited:
                raise unproved(edited, proved)
            out.parent.mkdir(parents=True, exist_ok=True)
            put_set(outer / "set", out)
    return EditedSet(
        out=out,
        patch=name,
        vendor=tuple(patch.name for patch in tree.patches),
        vendor_written=written,
        quotes_sealed=carried is not None and carried.sealed,
        tree=edited,
        files=tuple(edit.path for edit in found),
    )


def diff_of(git: Git, before: str, after: str) -> bytes:
    """The patch from one tree to another: any byte, rename, mode and kind of file."""
    options = ("-r", "-p", "-M", "--binary", "--full-index", "--no-ext-diff", "--no-textconv")
    return git.run("diff-tree", *options, before, after).stdout


def unproved(wanted: str, got: str) -> RelforgeError:
    """The error for a set that does not give the tree it was made for."""
    return RelforgeError(
        "the new patch set does not give the tree that it was made for",
        code=ExitCode.SOURCE,
        why=f"applied, it gives tree {got} instead of {wanted}",
        hint="nothing was written; run with `git` 2.39 or newer, and report this with the files",
    )


def _check(folder: Path, marker: Marker, found: Sequence[FileEdit]) -> None:
    if not found:
        raise RelforgeError(
            "there is nothing to make a patch of",
            code=ExitCode.SOURCE,
            where=str(folder),
            why="no file was changed since relforge wrote the folder",
        )
    special = [edit.path for edit in found if edit.after == "special"]
    if special:
        raise RelforgeError(
            "a patch cannot hold what is neither a file nor a link",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=", ".join(special[:5]),
            hint="remove it from the folder",
        )
    if marker.whitespace != "exact":
        raise RelforgeError(
            "the tree was made with its whitespace repaired",
            code=ExitCode.SOURCE,
            where=str(folder),
            why="a patch set gives exact trees only, so none gives this one",
            hint="unpatch without --whitespace fix, and edit there",
        )
    refuse_unsafe(TreeEntry(os.fsdecode(edit.raw), "100644", "", None) for edit in found)


def _carried(carried: Applied, patches: Path | None, trust: Trust) -> PatchSource:
    if patches is not None:
        return patch_set_at(patches)  # whether it is the right one, the tree it gives decides
    where = Path(carried.where)
    if not where.exists():
        raise RelforgeError(
            "the tree's patch set is no longer there"
            if where.is_absolute() and ": " not in carried.where
            else "the tree's patches are no patch set by themselves",
            code=ExitCode.SOURCE,
            where=carried.where,
            hint="name the set with --patches: a bundle, or a folder with the patches and a "
            "`series` file that lists them in order",
        )
    source = patch_set_at(where, name=None if carried.sealed else carried.name)
    here = source.info(trust).content_sha256
    if here != carried.content_sha256:
        raise RelforgeError(
            "the patch set is not the one that the tree was made with",
            code=ExitCode.SOURCE,
            where=str(where),
            why=f"its content is {here[:12]}, the tree carries {carried.content_sha256[:12]}",
            hint="name the set that was applied with --patches",
        )
    return source


def _vendor_recipe(
    marker: Marker, source: PatchSource | None, trust: Trust, home: Path, repository: Path | None
) -> Recipe:
    base = base_recipe(marker.base, home=home, repository=repository)
    return Recipe(
        git_dir=base.git_dir,
        base_tree=base.base_tree,
        patches=source,
        grafts=base.grafts,
        base_commit=base.base_commit,
        expected_tree=marker.tree.tree,
        trust=trust,
    )


def _edited_tree(applied: AppliedTree, folder: Path, found: Sequence[FileEdit], area: Path) -> str:
    git = applied.git.with_index(area / "edited")
    git.run("read-tree", applied.tree)
    none = b"0" * len(applied.tree)
    # What goes first: a folder may stand where a file was.
    rows = [b"0 %b\t%b\0" % (none, e.raw) for e in found if e.before is not None]
    for edit, oid in zip(*_hashed(git, folder, [e for e in found if e.after]), strict=True):
        mode, _, expected = (edit.after or "").partition(" ")
        if oid != expected:
            raise RelforgeError(
                "the folder changed meanwhile",
                code=ExitCode.SOURCE,
                where=f"{folder}: {edit.path}",
                hint="run the same command again",
            )
        rows.append(b"%b %b\t%b\0" % (mode.encode(), oid.encode(), edit.raw))
    git.run("update-index", "-z", "--index-info", stdin=b"".join(rows))
    return git.text("write-tree")


def _hashed(git: Git, folder: Path, there: Sequence[FileEdit]) -> tuple[list[FileEdit], list[str]]:
    """Writes files and links as blobs; what git reads by name, one name a line, at once."""
    base = os.fsencode(folder.absolute()) + b"/"
    by_name = [e for e in there if not _is_link(e) and b"\n" not in base + e.raw]
    named = b"".join(base + edit.raw + b"\n" for edit in by_name)
    done = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=named)
    oids = done.text.split()
    others = [edit for edit in there if edit not in by_name]
    for edit in others:
        path = base + edit.raw
        data = os.readlink(path) if _is_link(edit) else Path(os.fsdecode(path)).read_bytes()  # noqa: PTH115
        oids.append(git.run("hash-object", "-w", "--stdin", stdin=data).text)
    return [*by_name, *others], oids


def _is_link(edit: FileEdit) -> bool:
    return (edit.after or "").startswith(f"{LINK} ")


def _name_of(patches: Iterable[Patch], slug: str) -> str:
    names = [patch.name for patch in patches]
    numbers = [int(found[1]) for name in names if (found := _NUMBER.match(name))]
    number = max([len(names), *numbers]) + 1
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", slug).strip("-.") or "edit"
    return f"{number:04}-{words[:60]}.patch"


def _vendor_patches(
    source: PatchSource | None, trust: Trust
) -> Iterator[tuple[str, bytes | Iterable[bytes]]]:
    if source is None:
        return
    with source.stream(trust) as stream:
        for diff in stream.diffs:
            if diff.folder:
                raise RelforgeError(
                    "the patches are for several repositories",
                    code=ExitCode.SOURCE,
                    where=stream.where,
                    why=f"{diff.name} is for the submodule {diff.folder}",
                    hint="a series cannot say so; keep the set as it is",
                )
            yield diff.name, diff.content


def _remarks(marker: Marker, patches: Iterable[Patch]) -> list[str]:
    carried = marker.patch_set
    assert carried is not None
    return [
        f"To be applied behind the sealed patch set {carried.name} "
        f"(content {carried.content_sha256}), tree {marker.tree.tree}:",
        *(f"  {patch.name}" for patch in patches),
    ]


def _proof(
    recipe: Recipe,
    written: PlainPatches,
    vendor: PatchSource | None,
    area: Path,
    cancel: CancelToken | None,
) -> str:
    def diffs() -> Iterator[Diff]:
        if vendor is not None:
            with vendor.stream(recipe.trust) as stream:
                yield from stream.diffs
        for patch in written.patch_set.patches:
            yield Diff(patch.name, written.chunks(patch))

    # Objects of its own: git apply would take a binary file's result from those that are there.
    work = area / "proof"
    work.mkdir()
    done = apply_patches(
        recipe.git_dir,
        recipe.base_tree,
        diffs(),
        object_dir=work / "objects",
        work=work,
        grafts=recipe.grafts,
        cancel=cancel,
    )
    return done.tree
