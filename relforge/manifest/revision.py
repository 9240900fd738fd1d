"""Which commit of the project's own repository a release was made from."""

from __future__ import annotations

from pathlib import Path

from relforge.frozen import Frozen


class Revision(Frozen):
    """``commit`` is the full id. ``uncommitted_changes`` counts tracked and new files alike."""

    commit: str
    uncommitted_changes: bool


def revision_of(root: Path) -> Revision | None:
    """The project's revision, or None when no repository tracks its manifests.

    Reads only: no lock is taken on the user's index.
    """
    import git  # takes 0.1 s to import

    try:
        with git.Repo(root, search_parent_directories=True) as repository:
            repository.git.update_environment(GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
            plumbing = repository.git(c="core.fsmonitor=false")
            # A project below site-packages may lie in somebody's repository without being of it.
            if not plumbing.ls_files("--", root / "manifests"):
                return None
            changes = plumbing.status("--porcelain", "--untracked-files=normal", "--", root)
            return Revision(commit=repository.head.commit.hexsha, uncommitted_changes=bool(changes))
    except (git.InvalidGitRepositoryError, git.NoSuchPathError, git.GitCommandError, ValueError):
        return None
