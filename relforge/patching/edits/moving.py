"""What ``relforge patch rebase`` carries from where to where, whatever kind of set is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import Project
from relforge.patching.edits.carried import carried_recipe
from relforge.patching.edits.parts import PartsPatches, patch_set_or_parts
from relforge.patching.edits.rebasing import Move, move_in_clone, move_of_release
from relforge.patching.edits.submodules import move_of_parts, move_of_tree
from relforge.patching.flagscale.submodules import Fetching
from relforge.patching.source import PatchSource, Trust
from relforge.patching.tree.marker import MARKER, edited_files, required_marker
from relforge.patching.tree.worktree import repository_git_dir


@dataclass(frozen=True)
class Wanted:
    """What the user names: a set (or a patched tree), the new base, and where both bases are.

    ``repo`` is a clone, ``release`` a release whose source is meant, ``base`` the commit that a
    plain set is for.
    """

    patch_set: Path
    onto: str
    repo: Path | None = None
    release: str | None = None
    base: str | None = None


def moving(
    wanted: Wanted, trust: Trust, project: Project, fetching: Fetching
) -> tuple[PatchSource, Callable[[], Move]]:
    """The patch set, and what finds its old and its new base, fetching what is needed.

    Both raise RelforgeError (USAGE, SOURCE).
    """
    if (wanted.patch_set / MARKER).is_file():
        return _tree(wanted, trust, fetching)
    source = patch_set_or_parts(wanted.patch_set)
    repo, release = wanted.repo, wanted.release
    if isinstance(source, PartsPatches):
        if repo is None or release is not None or wanted.base is not None:
            raise _usage(
                "this set is for FlagScale and its submodules, and says at which commits",
                "name a clone of FlagScale with --repo, and neither --release nor --base",
            )
        parts, clone = source, repo
        return source, lambda: move_of_parts(parts, clone, onto=wanted.onto, fetching=fetching)
    if (repo is None) == (release is None):
        raise _usage("where the commits are must be said once", "name --repo or --release")

    def move() -> Move:
        if repo is not None:
            return move_in_clone(source.info(trust), repo, base=wanted.base, onto=wanted.onto)
        assert release is not None
        return move_of_release(
            project.release(release),
            source.info(trust),
            wanted.patch_set,
            onto=wanted.onto,
            project=project,
            home=fetching.home,
            site=fetching.site,
            line=fetching.on_line,
            cancel=fetching.cancel,
        )

    return source, move


def _tree(
    wanted: Wanted, trust: Trust, fetching: Fetching
) -> tuple[PatchSource, Callable[[], Move]]:
    """The same for a patched tree, which says itself what it was made of."""
    if wanted.release is not None or wanted.base is not None:
        raise _usage(
            "the tree says itself what its patches are for", "leave --release and --base away"
        )
    folder, repo = wanted.patch_set, wanted.repo
    marker = required_marker(folder)
    git_dir = repository_git_dir(repo) if repo is not None else None
    recipe = carried_recipe(marker, trust=trust, home=fetching.home, repository=git_dir)
    if git_dir is not None:
        # The new base is in the clone that was named, even where the old one is elsewhere too.
        recipe = replace(recipe, git_dir=git_dir)
    if recipe.patches is None:
        raise RelforgeError(
            "the tree carries no patch set",
            code=ExitCode.SOURCE,
            where=str(folder),
            hint="name a tree that `relforge unpatch` has patched",
        )
    if edited_files(folder, marker):
        fetching.on_line(
            f"note: what was edited in {folder} is no part of its patch set, and stays there; "
            "`relforge patch from-tree` makes a patch of it"
        )
    return recipe.patches, lambda: move_of_tree(recipe, repo, onto=wanted.onto, fetching=fetching)


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
