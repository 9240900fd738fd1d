"""Which releases are not what they were at an earlier commit: by their content keys.

The project as it was is laid out in a work area and planned there. A release is changed when any of
its stages has another key now: whatever was edited, manifest, lock, device, template or patch set,
shows in a key, and what shows in none changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.manifest.project import Project, home_folder
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import make_plan
from relforge.subject import subject
from relforge.workarea import work_area

_OF_THIS_HOST = frozenset(stage.name for stage in STAGES if stage.check_only)


def changed_releases(
    project: Project,
    site: Site,
    names: Sequence[str],
    revision: str,
    *,
    line: Callable[[str], None] = lambda _line: None,
) -> list[str]:
    """Those of ``names`` that ``revision`` (of the project's git repository) did not have as they
    are now; ``line`` is told why. One that cannot be planned now counts as changed.

    Raises RelforgeError (USAGE) for a revision or a project that git does not know.
    """
    changed = []
    with work_area(home_folder(site), "changed") as area:
        before = _as_it_was(project, revision, area / "project")
        store = Store(area)
        for name in names:
            why = _why(name, project, before, site, store)
            if why is not None:
                line(f"{name}: {why}")
                changed.append(name)
    return changed


def _why(name: str, project: Project, before: Project, site: Site, store: Store) -> str | None:
    if name not in before.release_files:
        return "new"
    try:
        new = _keys(name, project, site, store)
    except RelforgeError as error:
        return f"cannot be planned: {error.what}"
    try:
        old = _keys(name, before, site, store)
    except RelforgeError:
        return "could not be planned then"
    stages = [stage.name for stage in STAGES if new.get(stage.name) != old.get(stage.name)]
    return f"other inputs of {stages[0]}" if stages else None


def _keys(name: str, project: Project, site: Site, store: Store) -> Mapping[str, str]:
    plan = make_plan(subject(project, project.release(name), site), STAGES, store)
    return {s.name: s.key for s in plan.stages if s.key and s.name not in _OF_THIS_HOST}


def _as_it_was(project: Project, revision: str, folder: Path) -> Project:
    """The project's folder at a revision, without touching index or work tree of the user's."""
    import git  # takes 0.1 s to import

    root = project.root.resolve()
    try:
        with git.Repo(root, search_parent_directories=True) as repository:
            commit = repository.commit(revision)
            top = Path(str(repository.working_tree_dir)).resolve()
            inside = root.relative_to(top).as_posix()
            tree = f"{commit.hexsha}:{'' if inside == '.' else inside}"
            folder.mkdir()
            index = {"GIT_INDEX_FILE": str(folder.parent / "index"), "GIT_OPTIONAL_LOCKS": "0"}
            with repository.git.custom_environment(**index):
                repository.git.read_tree(tree)
                repository.git.checkout_index("--all", f"--prefix={folder}/")
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise RelforgeError(
            "the project is in no git repository",
            code=ExitCode.USAGE,
            where=str(project.root),
            hint="leave out --changed-since",
        ) from error
    except (git.GitCommandError, git.BadName, ValueError) as error:
        raise RelforgeError(
            f"git does not know the project at {revision!r}",
            code=ExitCode.USAGE,
            where=str(project.root),
            why=str(getattr(error, "stderr", "") or error).strip() or None,
            hint="name a commit, branch or tag; where CI fetched one commit alone, fetch more",
        ) from error
    return Project((folder, *project.roots[1:]))
