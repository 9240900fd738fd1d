"""``relforge unpatch --reverse``: a patched tree becomes exactly the base that it was made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.bundle.header import GitOrigin, PackageOrigin
from relforge.patching.source import Graft, Recipe
from relforge.patching.tree.folder import Unpatched, unpatch_to_folder
from relforge.patching.tree.marker import Base, required_marker


def reverse(
    folder: Path,
    *,
    home: Path,
    repository: Path | None = None,
    discard_edits: bool = False,
    cancel: CancelToken | None = None,
) -> Unpatched:
    """Writes the base tree to a folder that carries a patched one, in one step.

    Its files come from ``repository`` (a git folder), else from the repository that the marker
    names, else from relforge's store below ``home``. Raises RelforgeError (SOURCE): no marker, a
    base that is nowhere, files that were edited (unless ``discard_edits``).
    """
    marker = required_marker(folder)
    if marker.worktree:
        raise RelforgeError(
            "the folder is a git worktree",
            code=ExitCode.SOURCE,
            where=str(folder),
            why="git itself takes it back to its base, or away",
            hint=f"git -C {folder} restore . && git -C {folder} clean -fd; "
            f"or: git worktree remove --force {folder}",
        )
    return unpatch_to_folder(
        folder,
        base_recipe(marker.base, home=home, repository=repository, base_tree=marker.tree.base_tree),
        home=home,
        epoch=marker.epoch,
        origin=marker.base.origin,
        discard_edits=discard_edits,
        cancel=cancel,
    )


def base_recipe(
    base: Base, *, home: Path, repository: Path | None = None, base_tree: str | None = None
) -> Recipe:
    """The base alone as a recipe, from wherever it still is. Raises RelforgeError (SOURCE)."""
    named = [repository] if repository else []
    places = [*named, Path(base.repository), home / "store" / "git"]
    git_dir = holder(base.tree, places)
    if git_dir is None:
        raise _nowhere(base, base.tree, places)
    grafts = []
    for graft in base.grafts:
        inside = [own for place in places for own in _own_repositories(place, graft.folder)]
        where = [Path(graft.repository), *inside, *places]
        held = holder(graft.tree, where)
        if held is None:
            raise _nowhere(base, graft.tree, where)
        grafts.append(Graft(folder=graft.folder, git_dir=held, tree=graft.tree))
    return Recipe(
        git_dir=git_dir,
        base_tree=base.tree,
        grafts=tuple(grafts),
        base_commit=base.commit,
        expected_tree=base_tree,
    )


def _own_repositories(git_dir: Path, folder: str) -> tuple[Path, Path]:
    """Where a repository has its submodule's: initialised by git, or cloned into its folder."""
    return git_dir / "modules" / folder, git_dir.parent / folder / ".git"


def holder(tree: str, places: Iterable[Path]) -> Path | None:
    """The first of these repositories that holds a tree."""
    for place in places:
        if (place / "HEAD").is_file() and Git(place).has(tree, "tree"):
            return place
    return None


def _nowhere(base: Base, tree: str, places: list[Path]) -> RelforgeError:
    match base.origin:
        case GitOrigin(url=url, commit=commit):
            hint = f"fetch it into a clone (git fetch {url} {commit}) and name that with --repo"
        case PackageOrigin(package=package, version=version):
            hint = f"import it again (relforge lock, for a release of {package} {version})"
        case _:
            commit = base.commit or "the base commit"
            hint = f"name a clone that holds {commit} with --repo (git fetch origin {commit})"
    return RelforgeError(
        "the base of the tree is not at hand",
        code=ExitCode.SOURCE,
        where=", ".join(dict.fromkeys(str(place) for place in places)),
        why=f"none of these holds tree {tree}",
        hint=hint,
    )
