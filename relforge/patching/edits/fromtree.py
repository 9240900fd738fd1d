"""``relforge patch from-tree``: the edits in a patched tree as one further patch of its set.

The vendor's patches stay as they are. In a tree with submodules each repository gets a set of its
own (``parts.py``). What is written is proved: each set is applied to its base once more, with
objects of its own, and together they must give the very tree that lies in the folder.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.edits.carried import carried_recipe
from relforge.patching.edits.edited import check_edits, edited_tree
from relforge.patching.edits.parts import (
    OVERLAID,
    Part,
    Splitting,
    applied_parts,
    part_at,
    parts_of,
    plain_name,
    write_parts,
)
from relforge.patching.edits.writeset import put_set, refuse_existing, write_set
from relforge.patching.flagscale.overlay import OverlaidPatches
from relforge.patching.series import PlainPatches
from relforge.patching.source import Diff, Patch, Recipe, Trust
from relforge.patching.tree.apply import apply_patches
from relforge.patching.tree.making import applied_tree
from relforge.patching.tree.marker import Marker, edits, required_marker
from relforge.patching.tree.private_keys import refuse_private_keys
from relforge.workarea import outer_area

_NUMBER = re.compile(r"^(?:.*/)?(\d{1,8})[-_.]")


@dataclass(frozen=True)
class EditedSet:
    """What ``from_tree`` wrote; ``patches`` are the new ones, one per repository that was edited.

    ``vendor`` names the set's own patches, in order; with ``vendor_written`` they stand beside the
    new ones, else the new ones alone do, and apply to the vendor's tree. Names of a tree with
    submodules begin with their repository's folder in ``out``.
    """

    out: Path
    patches: tuple[str, ...]
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
    """Writes what the user edited in *folder* as patches behind those that the folder carries.

    The new folder ``out`` gets the vendor's patches, the new one ``NNNN-<slug>.patch``, and a
    ``series``; for a tree with submodules one such folder per repository. The patches of a sealed
    set are named there but not written, unless ``plain``. ``patches`` and ``repository`` (a git
    folder) say where the set and the base are now, if no longer where the marker names them.
    Raises RelforgeError (SOURCE): no edit, another set, no proof.
    """
    marker = required_marker(folder)
    found = tuple(e for e in edits(folder, marker) if e.raw.split(b"/")[0] != b".git")
    check_edits(folder, marker, found)
    refuse_existing(out)
    recipe = carried_recipe(marker, trust=trust, home=home, patches=patches, repository=repository)
    carried = marker.patch_set
    sealed = carried is not None and carried.sealed
    with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, area):
        edited = edited_tree(applied, folder, found, area)
        mine = {(edit.after or "").rpartition(" ")[2] for edit in found}
        refuse_private_keys(applied.git, edited, mine)
        parts = parts_of(recipe.git_dir, recipe.base_tree, recipe.grafts)
        splitting = Splitting(applied.git, parts, area / "split")
        before = splitting.split(tree.tree)
        names = _vendor_names(recipe, parts, tree.patches, before)
        work = _Work(
            marker=marker,
            recipe=recipe,
            parts=parts,
            vendor=names,
            written=plain or not sealed,
            before=before,
            after=splitting.split(edited),
            tree=edited,
        )
        with outer_area(area, out.absolute().parent) as outer:
            fresh = outer / "set"
            sets, new = _write(work, applied.git, fresh, name=out.name, slug=slug)
            _prove(work, sets, area / "proof", cancel)
            if recipe.grafts:
                _write_record(work, sets, fresh)
            out.parent.mkdir(parents=True, exist_ok=True)
            put_set(fresh, out)
    return EditedSet(
        out=out,
        patches=new,
        vendor=tuple(_in_set(part, name) for part in parts for name in names[part.folder]),
        vendor_written=work.written,
        quotes_sealed=sealed,
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


@dataclass(frozen=True)
class _Work:
    """What is to be written: trees by part before and after the edits, and the vendor's names.

    ``written``: the vendor's patches are, too.
    """

    marker: Marker
    recipe: Recipe
    parts: tuple[Part, ...]
    vendor: Mapping[str, Sequence[str]]
    written: bool
    before: Mapping[str, str]
    after: Mapping[str, str]
    tree: str


def _vendor_names(
    recipe: Recipe, parts: Sequence[Part], patches: Sequence[Patch], trees: Mapping[str, str]
) -> dict[str, list[str]]:
    """How each part's patches are called in its set, in order, by the part's folder.

    ``trees`` are the vendor's, by part.
    """
    names: dict[str, list[str]] = {part.folder: [] for part in parts}
    if isinstance(recipe.patches, OverlaidPatches):
        # Files laid over a submodule are no patch yet: what they do there becomes one.
        for part in parts:
            names[part.folder] += [OVERLAID] if trees[part.folder] != part.base_tree else []
    elif not recipe.grafts:
        for patch in patches:
            names[""].append(plain_name(patch.name, parts[0], names[""]))
    elif recipe.patches is not None:
        with recipe.patches.stream(recipe.trust) as stream:
            for diff in stream.diffs:
                part = part_at(diff.folder, parts, patch=diff.name)
                there = names[part.folder]
                there.append(plain_name(diff.name, part, there))
    return names


def _write(
    work: _Work, git: Git, fresh: Path, *, name: str, slug: str
) -> tuple[list[PlainPatches | None], tuple[str, ...]]:
    """Writes each part's set, where there is anything for it; and the names of the new patches."""
    sets: list[PlainPatches | None] = []
    new: list[str] = []
    for part in work.parts:
        names = work.vendor[part.folder]
        mine: list[tuple[str, bytes | Iterable[bytes]]] = []
        if work.before[part.folder] != work.after[part.folder]:
            diff = diff_of(git, work.before[part.folder], work.after[part.folder])
            mine = [(_name_of(names, slug), diff)]
            new.append(_in_set(part, mine[0][0]))
        if not mine and not (names and work.written):
            sets.append(None)
            continue
        sets.append(
            write_set(
                fresh / part.name,
                itertools.chain(_vendor_patches(work, part, git), mine) if work.written else mine,
                name=part.name or name,
                remarks=() if work.written else _remarks(work, part),
            )
        )
    return sets, tuple(new)


def _vendor_patches(
    work: _Work, part: Part, git: Git
) -> Iterator[tuple[str, bytes | Iterable[bytes]]]:
    """The vendor's patches of a part, opened while they are read."""
    if work.recipe.patches is None:
        return
    if isinstance(work.recipe.patches, OverlaidPatches):
        if work.vendor[part.folder]:
            yield OVERLAID, diff_of(git, part.base_tree, work.before[part.folder])
        return
    names = iter(work.vendor[part.folder])
    with work.recipe.patches.stream(work.recipe.trust) as stream:
        for diff in stream.diffs:
            if diff.folder == part.folder:
                yield next(names), diff.content


def _in_set(part: Part, name: str) -> str:
    return f"{part.name}/{name}" if part.name else name


def _name_of(names: Sequence[str], slug: str) -> str:
    numbers = [int(found[1]) for name in names if (found := _NUMBER.match(name))]
    number = max([len(names), *numbers]) + 1
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", slug).strip("-.") or "edit"
    return f"{number:04}-{words[:60]}.patch"


def _remarks(work: _Work, part: Part) -> list[str]:
    carried = work.marker.patch_set
    assert carried is not None
    place = f" of {part.folder or part.name}" if part.name else ""
    return [
        f"To be applied behind the sealed patch set {carried.name} "
        f"(content {carried.content_sha256}), tree {work.before[part.folder]}{place}:",
        *(f"  {name}" for name in work.vendor[part.folder]),
    ]


def _prove(
    work: _Work, sets: Sequence[PlainPatches | None], area: Path, cancel: CancelToken | None
) -> None:
    """Applies what was written. Raises RelforgeError (SOURCE) when it gives another tree."""
    if work.written:
        proved = applied_parts(work.parts, sets, area, cancel)
        for folder, wanted in work.after.items():
            if proved[folder] != wanted:
                raise unproved(wanted, proved[folder])
        return
    # The vendor's patches, which are not written, go before the new ones.
    recipe = work.recipe

    def diffs() -> Iterator[Diff]:
        assert recipe.patches is not None
        with recipe.patches.stream(recipe.trust) as stream:
            # Applied before, and proved; here they stand among others.
            yield from (Diff(diff.name, diff.content, diff.folder) for diff in stream.diffs)
        for part, one in zip(work.parts, sets, strict=True):
            for patch in one.patch_set.patches if one else ():
                assert one is not None
                yield Diff(patch.name, one.chunks(patch), part.folder)

    # Objects of its own: git apply would take a binary file's result from those that are there.
    area.mkdir()
    done = apply_patches(
        recipe.git_dir,
        recipe.base_tree,
        diffs(),
        object_dir=area / "objects",
        work=area,
        grafts=recipe.grafts,
        cancel=cancel,
    )
    if done.tree != work.tree:
        raise unproved(work.tree, done.tree)


def _write_record(work: _Work, sets: Sequence[PlainPatches | None], fresh: Path) -> None:
    carried = work.marker.patch_set
    own = {part.folder: part.base_tree for part in work.parts}
    write_parts(
        fresh,
        zip(work.parts, sets, strict=True),
        base=(work.recipe.base_commit, work.recipe.base_tree),
        tree=work.tree,
        before=own if work.written else work.before,
        after=work.after,
        behind=None if work.written or carried is None else carried.content_sha256,
    )
