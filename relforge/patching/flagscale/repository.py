"""A FlagScale repository: the user's own, only read, or one fetched into relforge's store."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import sha256_hex
from relforge.gitio import Git, TreeEntry
from relforge.manifest.site import Site

_HEX = re.compile(r"[0-9a-fA-F]{4,64}")
_SHORTEST = 8
_URL = re.compile(r"^([a-z][a-z0-9+.-]*://|[^/\s]+@[^/\s]+:)")


@dataclass(frozen=True)
class Repository:
    """``work_tree`` is None for a bare or a fetched one; ``head`` is what its checkout stands on.

    ``shown`` is how messages and commands name it.
    """

    git: Git
    work_tree: Path | None
    head: str
    shown: str

    def resolve(self, commit: str) -> str:
        """The full id of a commit, from any unambiguous abbreviation of at least 8 digits.

        Raises RelforgeError (SOURCE) with the candidates, or with the command that fetches it.
        """
        if not _HEX.fullmatch(commit) or len(commit) < _SHORTEST:
            raise RelforgeError(
                f"{commit!r} is no commit id",
                code=ExitCode.USAGE,
                why=f"an id is the hash that git shows, or its first {_SHORTEST} digits or more",
                hint=f"git -C {self.shown} log --oneline",
            )
        wanted = commit.lower()
        if len(wanted) in (40, 64) and self.git.has(wanted, "commit"):
            return wanted
        listed = self.git.run("rev-parse", f"--disambiguate={wanted}", check=False).text.split()
        found = [oid for oid in listed if self.git.has(oid, "commit")]
        if len(found) == 1:
            return found[0]
        if found:
            raise RelforgeError(
                f"the commit id {commit} is ambiguous",
                code=ExitCode.SOURCE,
                where=self.shown,
                why=f"it may be {' or '.join(found)}",
                hint=f"look at them: git -C {self.shown} log --no-walk {' '.join(found)}\n"
                "then name one in full",
            )
        raise self.unreachable(commit, "the repository does not hold it")

    def unreachable(self, commit: str, why: str) -> RelforgeError:
        """The error for a commit that has to be fetched first."""
        shallow = (self.git.git_dir / "shallow").is_file()
        fetch = "fetch --unshallow origin" if shallow else f"fetch origin {commit}"
        if len(commit) not in (40, 64) and not shallow:
            fetch = "fetch origin"
        return RelforgeError(
            f"the commit {commit} is not at hand",
            code=ExitCode.SOURCE,
            where=self.shown,
            why=f"{why}; the repository is a shallow clone" if shallow else why,
            hint=f"git -C {self.shown} {fetch}\nthen the same command again",
        )

    def listing(self, commit: str, folder: str) -> tuple[TreeEntry, ...]:
        """The files below a folder of a commit, with paths from the folder; empty without one."""
        git = self.git
        name = f"{commit}:{folder}"
        done = git.run("rev-parse", "--verify", "--quiet", "--end-of-options", name, check=False)
        return git.list_tree(done.text) if done.returncode == 0 else ()

    def folders(self, commit: str, folder: str) -> tuple[str, ...]:
        """The names of the folders in a folder of a commit."""
        done = self.git.run(
            "ls-tree", "-d", "-z", "--name-only", "--full-tree", commit, f"{folder}/", check=False
        )
        rows = done.stdout.decode("utf-8", "surrogateescape").split("\0")
        return tuple(row.rpartition("/")[2] for row in rows if row)

    def read(self, commit: str, path: str) -> bytes | None:
        """A file of a commit; None when it is not there."""
        done = self.git.run("cat-file", "blob", f"{commit}:{path}", check=False)
        return done.stdout if done.returncode == 0 else None

    def read_current(self, path: str) -> tuple[bytes, str] | None:
        """A file as the checkout has it (without one: as its commit has it), and where it is."""
        if self.work_tree is not None:
            file = self.work_tree / path
            if file.is_file() and not file.is_symlink():
                return file.read_bytes(), str(file)
        data = self.read(self.head, path)
        return None if data is None else (data, f"{self.shown}: {path} in {self.head}")

    @cached_property
    def common_dir(self) -> Path:
        """The folder that a repository's worktrees share."""
        path = Path(self.git.text("rev-parse", "--git-common-dir"))
        return path if path.is_absolute() else self.git.git_dir / path


def open_repository(
    where: str | None,
    *,
    home: Path,
    site: Site,
    on_line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> Repository:
    """The repository at a path or URL, or the one around the current folder.

    Raises RelforgeError (USAGE, SOURCE) when there is none, or it is not FlagScale's.
    """
    if where is not None and _URL.match(where) and not Path(where).exists():
        return _fetched(where, home, site, on_line, cancel)
    start = Path(where).absolute() if where is not None else Path.cwd()
    if where is not None and not start.is_dir():
        raise RelforgeError(
            "the repository is not there",
            code=ExitCode.USAGE,
            where=str(start),
            hint="correct --repo: a folder or a URL",
        )
    repository = _around(start, cancel)
    if repository is not None and _is_flagscale(repository):
        return repository
    if where is None:
        raise RelforgeError(
            "no FlagScale repository is named",
            code=ExitCode.USAGE,
            where=str(start),
            why="the current folder lies in no git repository with hardware/ or tools/patch/",
            hint="name one: --repo PATH or --repo https://github.com/FlagOpen/FlagScale",
        )
    raise RelforgeError(
        "this is no FlagScale repository",
        code=ExitCode.USAGE,
        where=str(start),
        why="it is no git repository"
        if repository is None
        else "it has neither hardware/ nor tools/patch/",
        hint="correct --repo",
    )


def _around(start: Path, cancel: CancelToken | None) -> Repository | None:
    for folder in (start, *start.parents):
        dot_git = folder / ".git"
        if dot_git.is_dir() and (dot_git / "HEAD").exists():
            return Repository(Git(dot_git, cancel=cancel), folder, "HEAD", str(folder))
        if dot_git.is_file():
            first = dot_git.read_text(errors="replace").strip()
            if first.startswith("gitdir: "):
                git_dir = (folder / first.removeprefix("gitdir: ")).resolve()
                return Repository(Git(git_dir, cancel=cancel), folder, "HEAD", str(folder))
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            return Repository(Git(folder, cancel=cancel), None, "HEAD", str(folder))
    return None


def _is_flagscale(repository: Repository) -> bool:
    tree = repository.work_tree
    if tree is not None and ((tree / "hardware").is_dir() or (tree / "tools" / "patch").is_dir()):
        return True
    git = repository.git
    return any(
        git.run("cat-file", "-e", f"{repository.head}:{folder}", check=False).returncode == 0
        for folder in ("hardware", "tools/patch")
    )


def _fetched(
    url: str,
    home: Path,
    site: Site,
    on_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> Repository:
    from relforge.addresses import shown
    from relforge.gitio import init_store
    from relforge.sources.git import fetch_branches

    # One of its own: in the common store, which is shallow, nobody could tell what is an ancestor.
    git = init_store(home / "store" / "repositories" / f"{sha256_hex(url.encode())[:20]}.git")
    git.cancel = cancel
    fetch_branches(git, url, site=site, locks=home / "store" / "locks", ctx_line=on_line)
    repository = Repository(git, None, "refs/relforge/HEAD", str(git.git_dir))
    if not _is_flagscale(repository):
        raise RelforgeError(
            "this is no FlagScale repository",
            code=ExitCode.USAGE,
            where=shown(url),
            why="it has neither hardware/ nor tools/patch/",
            hint="correct --repo",
        )
    return repository


@dataclass(frozen=True)
class Submodule:
    """What ``.gitmodules`` says of a path."""

    name: str
    url: str


def submodule_at(repository: Repository, commit: str, path: str) -> Submodule | None:
    """The submodule that a commit's ``.gitmodules`` declares at a path."""
    done = repository.git.run(
        "config", "--null", "--blob", f"{commit}:.gitmodules", "--list", check=False
    )
    values: dict[str, dict[str, str]] = {}
    for row in done.stdout.decode("utf-8", "replace").split("\0"):
        key, _, value = row.partition("\n")
        section, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        if section == "submodule" and name:
            values.setdefault(name, {})[field] = value
    for name, fields in values.items():
        if fields.get("path") == path and fields.get("url"):
            return Submodule(name, fields["url"])
    return None
