"""Between which two states a patch set is carried: commits of a clone, or of a release's source."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.manifest.source import GitSource
from relforge.patching.edits.rebase import Base
from relforge.patching.source import PatchSetInfo
from relforge.patching.tree.worktree import repository_git_dir

_FULL = re.compile(r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")
_HEX = re.compile(r"^[0-9a-f]{4,64}$")


@dataclass(frozen=True)
class Move:
    """From one state of a repository to another one."""

    git_dir: Path
    base: Base
    onto: Base
    onto_commit: str


def commit_in(git: Git, name: str, *, where: str) -> str:
    """The full id of a commit that a branch, tag or abbreviated id names.

    Raises RelforgeError (SOURCE) with the ids that an ambiguous one may mean.
    """
    wanted = f"{name}^{{commit}}"
    done = git.run("rev-parse", "--verify", "--quiet", "--end-of-options", wanted, check=False)
    if done.returncode == 0:
        return done.text
    listed: list[str] = []
    if _HEX.match(name):
        listed = git.run("rev-parse", f"--disambiguate={name}", check=False).text.split()
    commits = [oid for oid in listed if git.has(oid, "commit")]
    if len(commits) > 1:
        raise RelforgeError(
            f"the commit {name} is ambiguous",
            code=ExitCode.SOURCE,
            where=where,
            why=f"it may be {', '.join(commits)}",
            hint="write more of its digits",
        )
    raise RelforgeError(
        f"the repository has no commit {name}",
        code=ExitCode.SOURCE,
        where=where,
        why="it may be newer than the last fetch, or older than a shallow clone reaches",
        hint=f"git -C {where} fetch origin {name}"
        + ("" if _FULL.match(name) else " --tags")
        + f"; for a shallow clone: git -C {where} fetch --unshallow",
    )


def move_in_clone(info: PatchSetInfo, repo: Path, *, base: str | None, onto: str) -> Move:
    """Both trees from a clone of the user's, which is only read. Raises RelforgeError."""
    git = Git(repository_git_dir(repo))
    target = commit_in(git, onto, where=str(repo))
    base_tree = info.base_tree
    if base is not None:
        given = git.tree_of(commit_in(git, base, where=str(repo)))
        if base_tree not in (None, given):
            raise RelforgeError(
                "the bundle is made for another base",
                code=ExitCode.SOURCE,
                where=base,
                why=f"it is for tree {base_tree}, this commit has {given}",
                hint="leave --base away: the bundle names its own",
            )
        base_tree = given
    if base_tree is None:
        raise RelforgeError(
            "a plain patch set does not say what it is for",
            code=ExitCode.USAGE,
            hint="name its base commit with --base",
        )
    if not git.has(base_tree, "tree"):
        raise RelforgeError(
            "the clone does not hold the base of the patch set",
            code=ExitCode.SOURCE,
            where=str(repo),
            why=f"there is no tree {base_tree}",
            hint=f"git -C {repo} fetch origin {info.base_commit}"
            if info.base_commit
            else f"git -C {repo} fetch --unshallow",
        )
    onto_base = Base(git.tree_of(target), target)
    return Move(git.git_dir, Base(base_tree), onto_base, target)


def move_of_release(
    release: Release,
    info: PatchSetInfo,
    path: Path,
    *,
    onto: str,
    project: Project,
    home: Path,
    site: Site,
    line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> Move:
    """From the commit that a release pins to another one of the same source, fetched as needed.

    The source is the one of the release's patch set at ``path``, or of that name. Raises
    RelforgeError (USAGE, SOURCE).
    """
    from relforge.sources.api import import_source, store_of

    name = _source_name(release, info, path, project)
    spec = release.sources[name]
    if not isinstance(spec, GitSource):
        raise RelforgeError(
            f"source {name} has no commits",
            code=ExitCode.USAGE,
            where=release.name,
            why=f"it is {spec.package} {spec.version} from the package index",
            hint="name a clone with --repo",
        )
    if not _FULL.match(onto):
        raise RelforgeError(
            "a release's source is fetched by full commit id",
            code=ExitCode.USAGE,
            where=f"--onto {onto}",
            hint=f"git ls-remote {spec.url} {onto}",
        )
    moved = spec.model_copy(update={"commit": onto})
    old, new = (
        import_source(name, one, home=home, site=site, ctx_line=line, cancel=cancel)
        for one in (spec, moved)
    )
    return Move(
        store_of(home).git_dir, Base(info.base_tree or old.tree), Base(new.tree, onto), onto
    )


def _source_name(release: Release, info: PatchSetInfo, path: Path, project: Project) -> str:
    if info.source in release.sources:
        return info.source
    here = path.resolve()
    for ref in release.patches:
        own = ref.repository is None and project.path(ref.path).resolve() == here
        if own or ref.name == info.name:
            return ref.source
    if len(release.sources) == 1:
        return next(iter(release.sources))
    raise RelforgeError(
        f"release {release.name} does not use this patch set",
        code=ExitCode.USAGE,
        where=str(path),
        why=f"its patch sets: {', '.join(ref.name for ref in release.patches) or 'none'}",
        hint="name a clone with --repo instead",
    )
