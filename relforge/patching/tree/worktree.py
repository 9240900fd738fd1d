"""``relforge unpatch --worktree``: a patched tree as a git worktree of the user's repository.

The worktree's index is the base commit, its files are ours: ``git status`` and ``git diff`` show
the patch set's changes as edits (those in submodules it does not look at: their folders hold files,
and no repository). The patched objects never enter the user's object store; of the repository only
what `git worktree add` itself writes below ``worktrees/`` changes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock, write_atomic
from relforge.frozen import sha256_hex
from relforge.gitio import Git
from relforge.patching.bundle.header import Origin
from relforge.patching.source import Recipe
from relforge.patching.tree.folder import Unpatched, marker_for
from relforge.patching.tree.making import applied_tree, check_meant_for
from relforge.patching.tree.marker import MARKER, Marker, request_of, untouched, write_marker
from relforge.patching.tree.place import (
    common_git_dir,
    exclude,
    exclude_lines,
    marker_of_target,
    not_there,
    put_in_place,
    safe_target,
)
from relforge.workarea import outer_area

_LOCK_WAIT_S = 600.0


def unpatch_to_worktree(
    folder: Path,
    recipe: Recipe,
    *,
    repository: Path,
    home: Path,
    epoch: int,
    origin: Origin | None = None,
    cancel: CancelToken | None = None,
) -> Unpatched:
    """Makes *folder*, which must be new or empty, a worktree of the user's repository.

    ``repository`` is a checkout or a bare repository; it must hold the recipe's base commit.
    Nothing is done when the folder is that worktree already, unaltered; any other one stays, and
    is git's to remove (`git worktree remove --force`). No hook runs. Raises RelforgeError (SOURCE).
    """
    git_dir = repository_git_dir(repository)
    commit = _base_commit(git_dir, recipe)
    target = safe_target(folder)
    lock = home / "locks" / f"unpatch-{sha256_hex(os.fsencode(target))[:16]}.lock"
    with held_lock(lock, purpose=f"unpatch to {target}", wait_s=_LOCK_WAIT_S, cancel=cancel):
        marker = marker_of_target(target, worktree=True)
        info = None
        if recipe.patches is not None:
            info = recipe.patches.info(recipe.trust)
            check_meant_for(info, recipe, where=str(folder))
        if marker is not None:
            if not _same(target, marker, request_of(recipe, info), recipe):
                raise not_there(
                    folder,
                    "it is another tree, or was edited; if nothing in it is needed: "
                    f"git worktree remove --force {folder}",
                )
            return Unpatched(folder=target, tree=marker.tree, status="unchanged", excluded_in=None)
        with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, area):
            # From here on nothing is refused for what the patches say.
            excluded = exclude(target)
            exclude_lines(git_dir, [f"/{MARKER}".encode()])
            target.parent.mkdir(parents=True, exist_ok=True)
            with outer_area(area, target.parent) as outer:
                fresh = outer / "tree"
                written = applied.git.checkout(tree.tree, fresh, epoch=epoch, indexed=True)
                write_marker(
                    fresh,
                    marker_for(
                        recipe, info, tree, written, epoch=epoch, origin=origin, worktree=True
                    ),
                )
                _register(git_dir, commit, fresh, outer / "git" / target.name, target)
    return Unpatched(folder=target, tree=tree, status="written", excluded_in=excluded)


def repository_git_dir(path: Path) -> Path:
    """The git folder of a checkout, worktree or bare repository. Raises RelforgeError (SOURCE)."""
    found = common_git_dir(path / ".git")
    if found is None and (path / "HEAD").is_file() and (path / "objects").is_dir():
        found = path
    if found is None:
        raise RelforgeError(
            "there is no git repository",
            code=ExitCode.SOURCE,
            where=str(path),
            hint="name a clone: the folder that holds .git",
        )
    return found.absolute()


def _base_commit(git_dir: Path, recipe: Recipe) -> str:
    commit = recipe.base_commit
    if commit is None:
        raise RelforgeError(
            "a worktree needs a base commit",
            code=ExitCode.SOURCE,
            where=str(git_dir),
            why="this source is an archive, or one folder of a repository",
            hint="leave --worktree away: the tree is then written to a plain folder",
        )
    git = Git(git_dir)
    if not git.has(commit, "commit"):
        raise RelforgeError(
            "the repository does not hold the base commit",
            code=ExitCode.SOURCE,
            where=str(git_dir),
            why=f"there is no commit {commit} (a shallow clone lacks old ones)",
            hint=f"git -C {git_dir} fetch origin {commit}",
        )
    if git.tree_of(commit) != recipe.base_tree:
        raise RelforgeError(
            "the base of the patches is not the whole tree of its commit",
            code=ExitCode.SOURCE,
            where=commit,
            why=f"the patches are for tree {recipe.base_tree}",
            hint="leave --worktree away: the tree is then written to a plain folder",
        )
    return commit


def _same(target: Path, marker: Marker, request: str, recipe: Recipe) -> bool:
    return (
        marker.worktree
        and marker.request == request
        and recipe.expected_tree in (None, marker.tree.tree)
        and untouched(target, marker)
    )


def _register(git_dir: Path, commit: str, fresh: Path, scratch: Path, target: Path) -> None:
    """Makes the finished folder *fresh* a worktree, and renames it to *target*."""
    git = Git(git_dir)
    # Git makes its entry for a folder beside ours, without files; that folder becomes ours.
    scratch.parent.mkdir()
    git.run("worktree", "add", "--quiet", "--no-checkout", "--detach", scratch, commit)
    link = scratch / ".git"
    entry = Path(link.read_text().strip().removeprefix("gitdir: "))
    done = False
    try:
        Git(entry).run("read-tree", commit)
        link.rename(fresh / ".git")
        # gitrepository-layout(5): where the worktree's own .git is. First this, then the rename:
        # whatever is killed between leaves an entry without a folder, which git prunes.
        write_atomic(entry / "gitdir", os.fsencode(target / ".git") + b"\n")
        put_in_place(fresh, target, replace=False)
        done = True
    finally:
        if not done and entry.parent == git_dir / "worktrees":
            shutil.rmtree(entry, ignore_errors=True)
