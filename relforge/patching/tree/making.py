"""A source with its patch set applied: what stages and ``relforge unpatch`` ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.common import Sha256, TreeHash
from relforge.patching.source import (
    NotOpened,
    Patch,
    PatchSetInfo,
    PatchStream,
    Recipe,
)
from relforge.patching.tree.apply import AppliedTree, apply_patches
from relforge.workarea import outer_area, work_area

_PINNED = "--expect-tree, the manifest or the lock"


class Tree(Frozen):
    """A source with its patch set applied."""

    tree: TreeHash
    base_tree: TreeHash
    patches: tuple[Patch, ...]
    content_sha256: Sha256 | None
    """The patch set's; ``None`` when there is none and the tree is the source as it is."""
    sealed: bool
    signer: str | None
    files_changed: int
    patches_at: str | None = None
    """Where the patch set was read, as a path; no part of what the tree is."""


def materialise(
    recipe: Recipe,
    *,
    dest: Path | None,
    home: Path,
    epoch: int,
    cancel: CancelToken | None = None,
) -> Tree:
    """Makes a patched tree and, where ``dest`` is given, writes it there.

    Everything happens in a work area below ``home``. ``dest`` must not exist and appears complete
    or not at all, with every mtime at ``epoch`` (seconds since 1970). Raises RelforgeError
    (SOURCE); then nothing is written, and no plaintext is left on any way out.
    """
    with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, area):
        if dest is not None:
            _write(applied, dest, area, home, epoch)
    return tree


@contextlib.contextmanager
def _says_whom_to_ask(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except NotOpened as error:
        if recipe.key_contact is None:
            raise
        raise error.to_ask(recipe.key_contact) from error


@contextlib.contextmanager
def applied_tree(
    recipe: Recipe, *, home: Path, cancel: CancelToken | None = None
) -> Iterator[tuple[Tree, AppliedTree, Path]]:
    """The verified tree with its objects, readable through ``AppliedTree.git``, and its work area.

    Both are gone when the block ends. Errors are those of ``materialise``.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_says_whom_to_ask(recipe))
        area = stack.enter_context(work_area(home, "unpatch"))
        stream: PatchStream | None = None
        if recipe.patches is not None:
            stream = stack.enter_context(recipe.patches.stream(recipe.trust))
        info = stream.info if stream else None
        if stream is not None and info is not None and info.result_tree is not None:
            check_meant_for(info, recipe, where=stream.where)
            _is_expected(
                info.result_tree, recipe.expected_tree, "--expect-tree, the manifest or the lock"
            )
        applied = apply_patches(
            recipe.git_dir,
            recipe.base_tree,
            stream.diffs if stream else (),
            object_dir=area / "objects",
            work=area,
            grafts=recipe.grafts,
            whitespace=recipe.whitespace,
            cancel=cancel,
        )
        _is_expected(applied.tree, info.result_tree if info else None, "the bundle's signed header")
        _is_expected(applied.tree, recipe.expected_tree, _PINNED)
        tree = Tree(
            tree=applied.tree,
            base_tree=applied.base_tree,
            patches=stream.patches if stream else (),
            content_sha256=info.content_sha256 if info else None,
            sealed=info is not None and info.sealed,
            signer=info.signer if info else None,
            files_changed=len(applied.files),
            patches_at=stream.where if stream else None,
        )
        yield tree, applied, area


def check_meant_for(info: PatchSetInfo, recipe: Recipe, *, where: str) -> None:
    """Raises RelforgeError (SOURCE) when a patch set is made for another base or device."""
    wanted = recipe.base_commit
    if wanted and info.base_commit and info.base_commit != wanted:
        raise _for_another(where, "base", _base(info), f"commit {wanted}")
    if info.base_tree is not None and info.base_tree != recipe.base_tree:
        raise _for_another(where, "base", _base(info), f"tree {recipe.base_tree}")
    names = recipe.device_names
    if info.device is not None and names and info.device not in names:
        raise _for_another(where, "device", info.device, ", ".join(sorted(names)))


def _base(info: PatchSetInfo) -> str:
    commit = f"commit {info.base_commit}, " if info.base_commit else ""
    return f"{info.source}, {commit}tree {info.base_tree}"


def _for_another(where: str, kind: str, made_for: str, here: str) -> RelforgeError:
    return RelforgeError(
        f"the bundle is made for another {kind}",
        code=ExitCode.SOURCE,
        where=where,
        why=f"it is for {made_for}; here it would be applied to {here}",
        hint=f"use the bundle that its maker sealed for this {kind}",
    )


def _is_expected(tree: str, expected: str | None, who: str) -> None:
    if expected is not None and tree != expected:
        raise RelforgeError(
            "the patched tree is not the expected one",
            code=ExitCode.SOURCE,
            why=f"applying gives tree {tree}; {who} expects {expected}",
            hint="if the patches were changed on purpose, run `relforge lock` again; "
            "else get the patch set again from its maker",
        )


def _write(applied: AppliedTree, dest: Path, area: Path, home: Path, epoch: int) -> None:
    if dest.exists() or dest.is_symlink():
        raise RelforgeError(
            "the tree would overwrite something",
            code=ExitCode.SOURCE,
            where=str(dest),
            why="it exists already",
            hint="choose a folder that does not exist yet",
        )
    if dest.parent.resolve().is_relative_to((home / "work").resolve()):
        # Its folder is swept with its area.
        applied.git.checkout(applied.tree, dest, epoch=epoch, indexed=True)
        return
    dest.parent.mkdir(parents=True, exist_ok=True)
    with outer_area(area, dest.parent) as outer:
        applied.git.checkout(applied.tree, outer / "tree", epoch=epoch, indexed=True)
        (outer / "tree").rename(dest)
