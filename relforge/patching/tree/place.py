"""Where a patched tree may be written, and how it gets there in one step.

A folder with content but no marker of ours is never touched, a link never followed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sync_folder, write_atomic
from relforge.patching.tree.marker import MARKER, Marker, read_marker
from relforge.workarea import OUTER_PREFIX

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


def safe_target(folder: Path) -> Path:
    """The folder as an absolute path, parent links resolved. Raises RelforgeError (SOURCE)."""
    if folder.name in ("", ".", ".."):
        raise not_there(folder, "it is not a folder of its own, but an existing place")
    if folder.is_symlink():
        raise not_there(folder, "it is a symbolic link")
    target = folder.parent.resolve() / folder.name
    if ".git" in (part.lower() for part in target.parts):
        raise not_there(folder, "it lies in a repository's .git")
    for parent in target.parents:
        if (
            (parent / "HEAD").is_file()
            and (parent / "objects").is_dir()
            and (parent / "refs").is_dir()
        ):
            raise not_there(folder, f"it lies in the bare repository {parent}")
    if target.exists() and not target.is_dir():
        raise not_there(folder, "there is a file of that name")
    if target.is_dir() and target.is_mount():
        raise not_there(folder, "something is mounted there, so that it cannot be replaced")
    return target


def marker_of_target(target: Path, *, worktree: bool = False) -> Marker | None:
    """The marker of a folder that may be replaced; None for one that is new or empty.

    A git worktree is replaced by nobody; its marker is only read for those who ask for a
    ``worktree``. Raises RelforgeError (SOURCE).
    """
    try:
        if not any(target.iterdir()):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise not_there(target, error.strerror or str(error)) from error
    marker = read_marker(target)
    if marker is None:
        raise not_there(target, f"it is not empty and not ours (it has no valid {MARKER})")
    if marker.worktree and not worktree:
        raise not_there(
            target, f"it is a git worktree (git worktree remove --force {target} removes it)"
        )
    return marker


def not_there(folder: Path, why: str) -> RelforgeError:
    """The error for a place where no tree is written."""
    return RelforgeError(
        "the tree is not written there",
        code=ExitCode.SOURCE,
        where=str(folder),
        why=why,
        hint="name a new folder (`--dir build`), or one that `relforge unpatch` has made before",
    )


def put_in_place(fresh: Path, target: Path, *, replace: bool) -> None:
    """Renames a finished folder onto a new or empty one, or swaps it with ours that is there.

    Raises RelforgeError (SOURCE; ENVIRONMENT).
    """
    try:
        if replace:
            _exchange(fresh, target)  # the old folder is now in the outer area, and goes with it
        else:
            fresh.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise not_there(target, "something was put there meanwhile") from error
        raise cannot_write(target, error) from error


def _exchange(one: Path, other: Path) -> None:
    """Swaps two folders in one step (renameat2(2)), so that neither name is ever without one."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    if done == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(other))
    # Some network file systems cannot swap: then there is a short moment with neither.
    aside = one.with_name("old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise


def exclude(target: Path) -> Path | None:
    """Lists a folder inside a git repository in the repository's ``info/exclude``, its path.

    None outside of one. Raises RelforgeError (ENVIRONMENT).
    """
    for parent in target.parents:
        common = common_git_dir(parent / ".git")
        if common is None:
            continue
        inside = target.relative_to(parent).as_posix()
        if "\n" in inside:
            raise not_there(target, "git cannot leave out a name with a line end (info/exclude)")
        escaped = re.sub(r"([\\*?\[\]])", r"\\\1", inside)
        # The second pattern covers the moment before the finished tree is renamed.
        return exclude_lines(common, [f"/{escaped}/".encode(), f"{OUTER_PREFIX}*/".encode()])
    return None


def exclude_lines(common: Path, lines: list[bytes]) -> Path:
    """Adds what is missing to ``info/exclude`` of a repository. Raises RelforgeError."""
    path = common / "info" / "exclude"
    try:
        old = path.read_bytes() if path.is_file() else b""
        missing = [line for line in lines if line not in old.splitlines()]
        if missing:
            gap = b"" if not old or old.endswith(b"\n") else b"\n"
            write_atomic(path, old + gap + b"\n".join(missing) + b"\n")
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def common_git_dir(dot_git: Path) -> Path | None:
    """The folder that a repository's worktrees share, from its ``.git`` folder or file."""
    if dot_git.is_dir():
        return dot_git if (dot_git / "HEAD").is_file() else None
    if not dot_git.is_file():
        return None
    first = dot_git.read_text(errors="replace").strip()
    if not first.startswith("gitdir: "):
        return None
    git_dir = (dot_git.parent / first.removeprefix("gitdir: ")).resolve()
    common = git_dir / "commondir"
    return (git_dir / common.read_text().strip()).resolve() if common.is_file() else git_dir
