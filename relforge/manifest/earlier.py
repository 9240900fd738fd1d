"""A project as it was at a commit of its git repository: what differs from now, and all its files.

Neither the index nor the work tree of the user's is touched. What git does not track it cannot have
had otherwise: files that it ignores, and submodules at the same commit, are then what they are now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.project import Project

if TYPE_CHECKING:
    import git

_GITLINK = "160000"


@dataclass(frozen=True)
class Earlier:
    """A commit, seen from the folder of a project in its repository."""

    project: Project
    repository: git.Repo
    revision: str
    commit: str
    inside: str
    """The project's folder from the top of the repository, ``.`` for the top itself."""

    def differing(self) -> frozenset[str]:
        """Files of the project that are not what they were then, or are new, or gone: paths from
        the project's folder. Files that git ignores are none of them."""
        with self._faults():
            command = self.repository.git
            tracked = command.diff(
                "--name-only", "-z", "--no-renames", "--no-ext-diff", self.commit, "--", self.inside
            )
            untracked = command.ls_files(
                "-z", "--others", "--exclude-standard", "--full-name", "--", self.inside
            )
        return frozenset(self._here(f"{tracked}\0{untracked}".split("\0")))

    def laid_out(self, folder: Path) -> Project:
        """The project as it was, in a new folder, with today's built-in one behind it.

        Empty where the repository did not have it then.
        """
        folder.mkdir()
        with self._faults():
            command = self.repository.git
            own = "" if self.inside == "." else f"{self.inside}/"
            if not own or command.ls_tree(self.commit, "--", self.inside):
                index = {"GIT_INDEX_FILE": str(folder.parent / f"{folder.name}.index")}
                with command.custom_environment(**index):
                    command.read_tree(f"{self.commit}:{own}")
                    command.checkout_index("--all", f"--prefix={folder}/")
            for name in self._ignored():
                _link(folder / name, self.project.root.resolve() / name)
            for name in self._same_submodules():
                (folder / name).rmdir()  # what a checkout leaves of one
                _link(folder / name, self.project.root.resolve() / name)
        return Project((folder, *self.project.roots[1:]))

    def _ignored(self) -> Iterator[str]:
        """Files, and folders of nothing else."""
        listed = self.repository.git.ls_files(
            "-z", "--others", "--ignored", "--exclude-standard", "--directory", "--full-name", "--",
            self.inside,
        )  # fmt: skip
        return self._here(listed.split("\0"))

    def _same_submodules(self) -> list[str]:
        listed = self.repository.git.ls_files("-z", "--stage", "--full-name", "--", self.inside)
        links = [row.partition("\t")[2] for row in listed.split("\0") if row.startswith(_GITLINK)]
        return sorted(set(self._here(links)) - self.differing()) if links else []

    def _here(self, names: Iterable[str]) -> Iterator[str]:
        """Names of git's lists as paths from the project's folder."""
        before = "" if self.inside == "." else f"{self.inside}/"
        return (name.removeprefix(before).rstrip("/") for name in names if name.strip("/"))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        import git

        try:
            yield
        except git.GitCommandError as error:
            raise _unknown(self.project, self.revision, error.stderr) from error


def _link(here: Path, to: Path) -> None:
    if not here.exists():
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(to)


@contextmanager
def earlier(project: Project, revision: str) -> Iterator[Earlier]:
    """The project at a commit, branch or tag of its repository.

    Raises RelforgeError (USAGE) for a project in no repository, or a revision that git does not
    have here.
    """
    import git  # takes 0.1 s to import

    root = project.root.resolve()
    try:
        repository = git.Repo(root, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise RelforgeError(
            "the project is in no git repository",
            code=ExitCode.USAGE,
            where=str(project.root),
            hint="leave out --changed-since",
        ) from error
    with repository:
        repository.git.update_environment(GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
        try:
            commit = repository.git.rev_parse(
                "--verify", "--end-of-options", f"{revision}^{{commit}}"
            )
            top = Path(str(repository.working_tree_dir)).resolve()
        except git.GitCommandError as error:
            raise _unknown(project, revision, error.stderr) from error
        inside = root.relative_to(top).as_posix()
        yield Earlier(project, repository, revision, commit, inside)


def _unknown(project: Project, revision: str, said: str) -> RelforgeError:
    return RelforgeError(
        f"git does not know the project at {revision!r}",
        code=ExitCode.USAGE,
        where=str(project.root),
        why=said.strip().removeprefix("stderr: ").strip("'\n ") or None,
        hint="name a commit, branch or tag; where CI fetched one commit alone, fetch more",
    )
