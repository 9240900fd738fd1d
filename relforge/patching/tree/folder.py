"""``relforge unpatch --dir``: a patched tree in a folder of the user's, and when it is replaced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock
from relforge.frozen import Frozen, sha256_hex
from relforge.gitio import WrittenTree
from relforge.patching.bundle.header import Origin
from relforge.patching.source import PatchSetInfo, Recipe
from relforge.patching.tree.entries import entry_of
from relforge.patching.tree.making import Tree, applied_tree, check_meant_for
from relforge.patching.tree.marker import (
    Applied,
    Marker,
    base_of,
    edited_files,
    recorded_files,
    request_of,
    write_marker,
)
from relforge.patching.tree.place import exclude, marker_of_target, put_in_place, safe_target
from relforge.workarea import outer_area

_LOCK_WAIT_S = 600.0


class Unpatched(Frozen):
    """What ``unpatch_to_folder`` did."""

    folder: Path
    tree: Tree
    status: Literal["written", "replaced", "unchanged"]
    excluded_in: Path | None
    """The repository's ``info/exclude`` that lists the folder, when it lies inside one."""


def unpatch_to_folder(
    folder: Path,
    recipe: Recipe,
    *,
    home: Path,
    epoch: int,
    origin: Origin | None = None,
    discard_edits: bool = False,
    cancel: CancelToken | None = None,
) -> Unpatched:
    """Writes the patched tree to *folder*: a new or empty one, or one that carries our marker.

    Does nothing when the folder already is that tree, unaltered. Files edited since in a marked
    folder are kept (RelforgeError, SOURCE) unless ``discard_edits``. Two at once: the second waits.
    A folder inside a git repository is listed in its ``info/exclude``. ``origin`` is recorded in
    the marker: where the base came from. Other errors are those of ``materialise``; the old content
    stays in place until the new one is complete.
    """
    target = safe_target(folder)
    lock = home / "locks" / f"unpatch-{sha256_hex(os.fsencode(target))[:16]}.lock"
    with held_lock(lock, purpose=f"unpatch to {target}", wait_s=_LOCK_WAIT_S, cancel=cancel):
        marker = marker_of_target(target)
        info = None
        if recipe.patches is not None:
            info = recipe.patches.info(recipe.trust)
            check_meant_for(info, recipe, where=str(folder))
        wanted = request_of(recipe, info)
        if marker is not None:
            edits = edited_files(target, marker)
            fits = recipe.expected_tree in (None, marker.tree.tree)
            if wanted == marker.request and not edits and fits:
                return Unpatched(
                    folder=target, tree=marker.tree, status="unchanged", excluded_in=exclude(target)
                )
            if edits and not discard_edits:
                raise _edited(target, edits)
        with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, area):
            # From here on nothing is refused for what the patches say.
            excluded = exclude(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            with outer_area(area, target.parent) as outer:
                fresh = outer / "tree"
                written = applied.git.checkout(tree.tree, fresh, epoch=epoch, indexed=True)
                write_marker(
                    fresh, marker_for(recipe, info, tree, written, epoch=epoch, origin=origin)
                )
                put_in_place(fresh, target, replace=marker is not None)
    return Unpatched(
        folder=target,
        tree=tree,
        status="written" if marker is None else "replaced",
        excluded_in=excluded,
    )


def marker_for(
    recipe: Recipe,
    info: PatchSetInfo | None,
    tree: Tree,
    written: WrittenTree,
    *,
    epoch: int,
    origin: Origin | None,
    worktree: bool = False,
) -> Marker:
    """The marker of a folder that was just written."""
    return Marker(
        tree=tree,
        request=request_of(recipe, info),
        base=base_of(recipe, origin),
        patch_set=None
        if info is None
        else Applied(
            name=info.name,
            content_sha256=info.content_sha256,
            sealed=info.sealed,
            signer=info.signer,
            where=tree.patches_at or "",
            entry=entry_of(recipe),
        ),
        whitespace=recipe.whitespace,
        epoch=epoch,
        worktree=worktree,
        metadata_sha256=written.metadata_sha256,
        files=recorded_files(written.entries),
    )


def _edited(folder: Path, edits: Sequence[str]) -> RelforgeError:
    shown = ", ".join(edits[:5]) + (f" and {len(edits) - 5} more" if len(edits) > 5 else "")
    return RelforgeError(
        "the folder was edited since relforge wrote it, and the edits would be lost",
        code=ExitCode.SOURCE,
        where=str(folder),
        why=f"differs: {shown}",
        hint="keep the edits as a patch with `relforge patch from-tree`, unpatch to another "
        "folder, or say --discard-edits",
    )
