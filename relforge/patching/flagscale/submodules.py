"""Where the objects of a backend's submodule are had: the user's own, a mirror, its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.manifest.site import Site
from relforge.patching.flagscale.names import folder_of
from relforge.patching.flagscale.repository import Repository, submodule_at
from relforge.patching.source import Graft


@dataclass(frozen=True)
class Fetching:
    """What fetching needs: relforge's home, the site, and who is told."""

    home: Path
    site: Site
    on_line: Callable[[str], None]
    cancel: CancelToken | None = None


def gitlink(repository: Repository, commit: str, backend: str) -> str:
    """The commit that a submodule is pinned to. Raises RelforgeError (SOURCE)."""
    path = folder_of(backend)
    row = repository.git.run("ls-tree", "--full-tree", commit, path, check=False).text
    mode, _, rest = row.partition(" ")
    if mode != "160000":
        raise RelforgeError(
            f"{backend} is no submodule of that state of FlagScale",
            code=ExitCode.SOURCE,
            where=f"{repository.shown}: {commit[:12]}",
            why=f"it has no submodule {path}",
            hint="name another base or another backend",
        )
    return rest.split()[1]


def graft_of(
    repository: Repository, base: str, backend: str, commit: str, fetching: Fetching
) -> Graft:
    """The submodule's tree at *commit*, in its folder. Raises RelforgeError (SOURCE)."""
    path = folder_of(backend)
    declared = submodule_at(repository, base, path)
    for git_dir in own_repositories(repository, backend, declared.name if declared else path):
        git = Git(git_dir, cancel=fetching.cancel)
        if git.has(commit, "commit"):
            return Graft(path, git_dir, git.tree_of(commit))
    if declared is None:
        raise RelforgeError(
            f"nothing says where {backend} is to be had",
            code=ExitCode.SOURCE,
            where=f"{repository.shown}: .gitmodules in {base[:12]}",
            why=f"it has no submodule at {path}",
            hint=f"clone it yourself: git clone URL {path}",
        )
    from relforge.sources.api import store_of
    from relforge.sources.git import fetch_commit

    store = store_of(fetching.home)
    store.cancel = fetching.cancel
    try:
        fetch_commit(
            store,
            _absolute(declared.url, repository),
            commit,
            site=fetching.site,
            locks=fetching.home / "store" / "locks",
            ctx_line=fetching.on_line,
        )
    except RelforgeError as error:
        error.hint = (
            f"{error.hint}\nor bring it into your own clone: "
            f"git -C {repository.shown} submodule update --init {path}"
        )
        raise
    return Graft(path, store.git_dir, store.tree_of(commit))


def own_state(repository: Repository, backend: str, fetching: Fetching) -> str | None:
    """The commit that the user's own submodule stands on; None where none is initialised."""
    work_tree = repository.work_tree / folder_of(backend) if repository.work_tree else None
    git_dir = _git_dir_in(work_tree) if work_tree is not None else None
    if work_tree is None or git_dir is None:
        return None
    git = Git(git_dir, work_tree=work_tree, cancel=fetching.cancel)
    done = git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}", check=False)
    if done.returncode != 0:
        return None
    if git.run("status", "--porcelain", cwd=work_tree, check=False).stdout:
        fetching.on_line(
            f"warning: {work_tree} has changes that are not committed: they are not used"
        )
    return done.text


def own_repositories(repository: Repository, backend: str, name: str) -> tuple[Path, ...]:
    """The user's repositories of a submodule: initialised by git, or cloned into its folder."""
    found = [repository.common_dir / "modules" / name]
    if repository.work_tree is not None:
        own = _git_dir_in(repository.work_tree / folder_of(backend))
        found += [own] if own is not None else []
    return tuple(dict.fromkeys(path for path in found if (path / "HEAD").is_file()))


def _git_dir_in(work_tree: Path) -> Path | None:
    dot_git = work_tree / ".git"
    if dot_git.is_dir():
        return dot_git
    if dot_git.is_file():
        first = dot_git.read_text(errors="replace").strip()
        return (work_tree / first.removeprefix("gitdir: ")).resolve()
    return None


def _absolute(url: str, repository: Repository) -> str:
    """A submodule's address; ``./`` and ``../`` are relative to where the repository came from."""
    if url.startswith(("./", "../")):
        origin = repository.git.run("config", "--get", "remote.origin.url", check=False).text
        origin = origin or str(repository.work_tree or repository.git.git_dir)
        if urlsplit(origin).scheme in ("http", "https"):
            return urljoin(origin.rstrip("/") + "/", url)
        return _local((Path(origin) / url).resolve())
    return _local(Path(url)) if Path(url).is_absolute() else url


def _local(path: Path) -> str:
    return path.as_uri()
