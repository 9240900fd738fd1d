"""Between which states a patch set with submodules is carried, and where their trees are had.

A newer base pins other commits of its submodules; those are what their patches are carried to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.edits.parts import PartRecord, PartsPatches
from relforge.patching.edits.rebase import Base
from relforge.patching.edits.rebasing import Move, commit_in
from relforge.patching.flagscale.names import ROOT_BACKEND, folder_of
from relforge.patching.flagscale.repository import Repository, open_repository, submodule_at
from relforge.patching.flagscale.submodules import Fetching, gitlink, graft_of, own_repositories
from relforge.patching.source import Graft, Recipe
from relforge.patching.tree.reverse import holder

_SUBMODULES = folder_of("")
_FETCHED_HEAD = "refs/relforge/HEAD"


def move_of_tree(recipe: Recipe, repo: Path | None, *, onto: str, fetching: Fetching) -> Move:
    """From the base of a marked tree, with its submodules, to another commit.

    ``repo`` is a clone of the user's; without one it is the repository that the tree came from.
    Raises RelforgeError (USAGE, SOURCE).
    """
    here = recipe.git_dir
    where = repo or (here.parent if here.name == ".git" else here)
    git = Git(here)
    fetched = here.is_relative_to((fetching.home / "store").absolute())
    if repo is None and fetched and not git.has(f"{onto}^{{commit}}", "commit"):
        raise RelforgeError(
            "where the new base is must be said",
            code=ExitCode.USAGE,
            why=f"the tree's base was fetched into relforge's store, which does not hold {onto}",
            hint="name a clone that has both with --repo",
        )
    target = commit_in(git, onto, where=str(where))
    base = Base(recipe.base_tree, recipe.base_commit, recipe.grafts)
    grafts: tuple[Graft, ...] = ()
    if recipe.grafts:
        folders = [graft.folder for graft in recipe.grafts]
        grafts = _pinned(_repository(where, fetching), target, folders, fetching)
    return Move(here, base, Base(git.tree_of(target), target, grafts), target)


def move_of_parts(patches: PartsPatches, repo: Path, *, onto: str, fetching: Fetching) -> Move:
    """From what a written set of several repositories is for to another commit of FlagScale.

    Raises RelforgeError (SOURCE).
    """
    record = patches.record
    if record.behind is not None:
        raise RelforgeError(
            "the patches stand behind sealed ones, which are not in the set",
            code=ExitCode.SOURCE,
            where=str(patches.folder),
            why="without those nobody can carry them to another base",
            hint="write the whole set: relforge patch from-tree DIR --plain",
        )
    repository = _repository(repo, fetching)
    git = repository.git
    target = commit_in(git, onto, where=str(repo))
    if not git.has(record.base_tree, "tree"):
        raise RelforgeError(
            "the clone does not hold the base of the patch set",
            code=ExitCode.SOURCE,
            where=str(repo),
            why=f"there is no tree {record.base_tree}",
            hint=f"git -C {repo} fetch origin {record.base_commit or target}",
        )
    inner = [part for part in record.parts if part.folder]
    old = tuple(_at_base(repository, record.base_commit, part, fetching) for part in inner)
    new = _pinned(repository, target, [part.folder for part in inner], fetching)
    base = Base(record.base_tree, record.base_commit, old)
    return Move(git.git_dir, base, Base(git.tree_of(target), target, new), target)


def _repository(where: Path, fetching: Fetching) -> Repository:
    if where.is_relative_to((fetching.home / "store").absolute()):
        # Fetched by address, without a checkout of its own.
        return Repository(Git(where, cancel=fetching.cancel), None, _FETCHED_HEAD, str(where))
    return open_repository(
        str(where),
        home=fetching.home,
        site=fetching.site,
        on_line=fetching.on_line,
        cancel=fetching.cancel,
    )


def _pinned(
    repository: Repository, commit: str, folders: Sequence[str], fetching: Fetching
) -> tuple[Graft, ...]:
    """The submodules at the commits that a state of FlagScale pins."""
    found = []
    for folder in folders:
        backend = _backend(folder)
        pinned = gitlink(repository, commit, backend)
        found.append(graft_of(repository, commit, backend, pinned, fetching))
    return tuple(found)


def _at_base(
    repository: Repository, commit: str | None, part: PartRecord, fetching: Fetching
) -> Graft:
    """A submodule's tree as the patches were made for: mostly what the base pins."""
    backend = _backend(part.folder)
    if commit is not None and repository.git.has(commit, "commit"):
        pinned = gitlink(repository, commit, backend)
        graft = graft_of(repository, commit, backend, pinned, fetching)
        if graft.tree == part.base_tree:
            return graft
    declared = submodule_at(repository, commit or repository.head, part.folder)
    name = declared.name if declared else part.folder
    places = [*own_repositories(repository, backend, name), fetching.home / "store" / "git"]
    held = holder(part.base_tree, places)
    if held is None:
        raise RelforgeError(
            f"the base of the patches for {part.name} is not at hand",
            code=ExitCode.SOURCE,
            where=", ".join(map(str, places)),
            why=f"none of these holds tree {part.base_tree}",
            hint=f"git -C {repository.shown} submodule update --init {part.folder}\n"
            "and fetch there the commit that the patches were made for",
        )
    return Graft(part.folder, held, part.base_tree)


def _backend(folder: str) -> str:
    backend = folder.removeprefix(_SUBMODULES)
    if folder != folder_of(backend) or backend == ROOT_BACKEND:
        raise RelforgeError(
            "the patch set is for a folder that is no submodule of FlagScale",
            code=ExitCode.SOURCE,
            where=folder,
            why=f"its submodules lie in {_SUBMODULES}",
            hint="carry that repository's patches on their own: relforge patch rebase SET/NAME",
        )
    return backend
