"""The store's git repository: references that nothing needs go, then the objects behind them.

A loose reference is one file and is deleted as that. Git's own lock files, which a kill leaves
behind and which would stop every later fetch, are removed first: whoever collects is alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.collecting.items import Mentions
from relforge.collecting.model import Item
from relforge.gitio import Git

_PREFIXES = ("refs/relforge/commits/", "refs/relforge/trees/")
_TIMEOUT_S = 3600.0
_NOTE = "unpruned"


def of_git(home: Path, mentions: Mentions) -> Iterator[Item]:
    """One thing for each commit or tree that was fetched. What it takes nobody knows before."""
    git = _git(home)
    if git is None:
        return
    rows = git.text("for-each-ref", "--format=%(refname)", *_PREFIXES).splitlines()
    for name in rows:
        token = name.rpartition("/")[2]
        file = git.git_dir / name
        try:
            changed = file.stat().st_mtime
        except OSError:  # a packed one
            changed = 0.0
        yield Item(
            kind="git",
            name=f"{name.split('/')[2].removesuffix('s')} {token[:12]}",
            paths=(file,),
            last_used_s=max(changed, mentions.used.get(token, 0.0)),
            bytes=0,
            needed=mentions.needed(token),
        )


def discard(home: Path, items: list[Item]) -> None:
    """Deletes the references; a note stays until their objects are gone, too."""
    git = _git(home)
    if git is None or not items:
        return
    unlock(git.git_dir)
    (git.git_dir / _NOTE).touch()
    packed = set()
    for one in items:
        for path in one.paths:
            path.unlink(missing_ok=True)
            packed.add(path.relative_to(git.git_dir).as_posix())
    rows = git.text("for-each-ref", "--format=%(refname)", *_PREFIXES).splitlines()
    for name in packed.intersection(rows):
        git.run("update-ref", "-d", name)


def prune(home: Path, *, older_than_s: float, now_s: float, cancel: CancelToken) -> int:
    """Deletes objects that nothing leads to and that are older; the bytes that this freed."""
    git = _git(home)
    if git is None or not (git.git_dir / _NOTE).exists():
        return 0
    git.cancel = cancel
    before = _bytes(git.git_dir)
    until = f"--expire={int(now_s - older_than_s)}"
    expire = f"--unpack-unreachable={int(now_s - older_than_s)}"
    git.run("repack", "-A", "-d", "-q", expire, timeout_s=_TIMEOUT_S)
    git.run("prune", until, timeout_s=_TIMEOUT_S)
    (git.git_dir / _NOTE).unlink(missing_ok=True)
    return max(0, before - _bytes(git.git_dir))


def unlock(git_dir: Path) -> None:
    """Removes the lock files that a killed git left. Nobody else may work in the repository."""
    for path in (*git_dir.glob("*.lock"), *(git_dir / "refs").rglob("*.lock")):
        path.unlink(missing_ok=True)


def _git(home: Path) -> Git | None:
    folder = home / "store" / "git"
    return Git(folder) if (folder / "HEAD").is_file() else None


def _bytes(folder: Path) -> int:
    from relforge.collecting.measuring import measured, total_bytes

    return total_bytes(measured([folder])[0])
