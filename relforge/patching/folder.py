"""``relforge unpatch --dir``: a patched tree in a folder of the user's, and what may be replaced.

Each such folder carries the marker ``.relforge-tree.json`` beside the tree's own files; it is no
part of the tree. A folder with content but no marker is never touched. The marker holds a digest
over every file's metadata, so that an unchanged folder is recognised without reading the files.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, held_lock, sync_folder, write_atomic
from relforge.frozen import Frozen, canonical_json, content_key, sha256_hex
from relforge.gitio import Git
from relforge.manifest.common import Sha256
from relforge.patching.apply import shown_path
from relforge.patching.source import PatchSetInfo, Recipe
from relforge.patching.tree import Tree, applied_tree, check_meant_for
from relforge.patching.workarea import OUTER_PREFIX, outer_area
from relforge.stage import CancelToken

MARKER = ".relforge-tree.json"
_LOCK_WAIT_S = 600.0
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


class Marker(Frozen):
    """``.relforge-tree.json``: which tree a folder was written with."""

    format: Literal["relforge-tree"] = "relforge-tree"
    version: Literal[1] = 1
    tree: Tree
    request: Sha256
    """Base, grafts and content that were asked for, as one hash."""
    patch_set: str | None
    metadata_sha256: Sha256
    """Over every file's path, mode, size, mtime, ctime and inode: equal when none was touched."""
    files: dict[str, str]
    """Path to ``<mode> <blob hash>``, as in git's tree; a path is written as in ``FileChange``."""


class Unpatched(Frozen):
    """What ``unpatch_to_folder`` did."""

    folder: Path
    tree: Tree
    status: Literal["written", "replaced", "unchanged"]
    excluded_in: Path | None
    """The repository's ``info/exclude`` that lists the folder, when it lies inside one."""


def unpatch_to_folder(
    folder: Path,
    recipe: Recipe,
    *,
    home: Path,
    epoch: int,
    discard_edits: bool = False,
    cancel: CancelToken | None = None,
) -> Unpatched:
    """Writes the patched tree to *folder*: a new or empty one, or one that carries our marker.

    Does nothing when the folder already is that tree, unaltered. Files edited since in a marked
    folder are kept (RelforgeError, SOURCE) unless ``discard_edits``. Two at once: the second waits.
    A folder inside a git repository is listed in its ``info/exclude``. Other errors are those of
    ``materialise``; the old content stays in place until the new one is complete.
    """
    target = _safe_target(folder)
    lock = home / "locks" / f"unpatch-{sha256_hex(os.fsencode(target))[:16]}.lock"
    with held_lock(lock, purpose=f"unpatch to {target}", wait_s=_LOCK_WAIT_S, cancel=cancel):
        marker = _marker_of(target)
        info = None
        if recipe.patches is not None:
            info = recipe.patches.info(recipe.trust)
            check_meant_for(info, recipe, where=str(folder))
        wanted = _request(recipe, info)
        excluded = _exclude(target)
        if marker is not None:
            edits = () if _untouched(target, marker) else edited_files(target, marker)
            fits = recipe.expected_tree in (None, marker.tree.tree)
            if wanted == marker.request and not edits and fits:
                return Unpatched(
                    folder=target, tree=marker.tree, status="unchanged", excluded_in=excluded
                )
            if edits and not discard_edits:
                raise _edited(target, edits)
        with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, area):
            target.parent.mkdir(parents=True, exist_ok=True)
            with outer_area(area, target.parent) as outer:
                fresh = outer / "tree"
                applied.git.checkout(tree.tree, fresh, epoch=epoch)
                _mark(fresh, tree, wanted, info.name if info else None, applied.git)
                _put_in_place(fresh, target, replace=marker is not None)
    return Unpatched(
        folder=target,
        tree=tree,
        status="written" if marker is None else "replaced",
        excluded_in=excluded,
    )


def _request(recipe: Recipe, info: PatchSetInfo | None) -> str:
    """What a folder was asked to be, as one hash: equal when the same would be written again."""
    return content_key(
        {
            "base_tree": recipe.base_tree,
            "grafts": [[graft.folder, graft.tree] for graft in recipe.grafts],
            "content": info.content_sha256 if info else None,
            "whitespace": recipe.whitespace,
        }
    )


def read_marker(folder: Path) -> Marker | None:
    """The marker of a folder; None when it carries none, or one that is not ours to understand."""
    path = folder / MARKER
    try:
        if path.is_symlink():
            return None
        return Marker.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def edited_files(folder: Path, marker: Marker) -> tuple[str, ...]:
    """Paths that differ from the marked tree: altered, added or gone. Reads every file."""
    seen = {}
    for path, info in _walk(folder):
        if stat.S_ISDIR(info.st_mode):
            continue
        seen[shown_path(path)] = _mode_and_blob(folder, path, info, len(marker.tree.tree))
    recorded = {
        path: value for path, value in marker.files.items() if not value.startswith("160000 ")
    }
    return tuple(
        sorted(path for path in {*seen, *recorded} if seen.get(path) != recorded.get(path))
    )


def _safe_target(folder: Path) -> Path:
    """The folder as an absolute path, parent links resolved. Raises RelforgeError (SOURCE)."""
    if folder.name in ("", ".", ".."):
        raise _not_there(folder, "it is not a folder of its own, but an existing place")
    if folder.is_symlink():
        raise _not_there(folder, "it is a symbolic link")
    target = folder.parent.resolve() / folder.name
    if ".git" in (part.lower() for part in target.parts):
        raise _not_there(folder, "it lies in a repository's .git")
    for parent in target.parents:
        if (
            (parent / "HEAD").is_file()
            and (parent / "objects").is_dir()
            and (parent / "refs").is_dir()
        ):
            raise _not_there(folder, f"it lies in the bare repository {parent}")
    if target.exists() and not target.is_dir():
        raise _not_there(folder, "there is a file of that name")
    if target.is_dir() and target.is_mount():
        raise _not_there(folder, "something is mounted there, so that it cannot be replaced")
    return target


def _marker_of(target: Path) -> Marker | None:
    """The marker of a folder that may be replaced; None for one that is new or empty."""
    try:
        if not any(target.iterdir()):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_there(target, error.strerror or str(error)) from error
    marker = read_marker(target)
    if marker is None:
        raise _not_there(target, f"it is not empty and not ours (it has no valid {MARKER})")
    return marker


def _not_there(folder: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "the tree is not written there",
        code=ExitCode.SOURCE,
        where=str(folder),
        why=why,
        hint="name a new folder (`--dir build`), or one that `relforge unpatch` has made before",
    )


def _edited(folder: Path, edits: Sequence[str]) -> RelforgeError:
    shown = ", ".join(edits[:5]) + (f" and {len(edits) - 5} more" if len(edits) > 5 else "")
    return RelforgeError(
        "the folder was edited since relforge wrote it, and the edits would be lost",
        code=ExitCode.SOURCE,
        where=str(folder),
        why=f"differs: {shown}",
        hint="unpatch to another folder, or remove this one when the edits are not needed",
    )


def _walk(folder: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Relative path and lstat of everything below a folder but its marker, in a fixed order."""
    base = os.fsencode(folder)
    stack = [b""]
    while stack:
        here = stack.pop()
        with os.scandir(base + b"/" + here) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                path = here + b"/" + entry.name if here else entry.name
                if path == MARKER.encode():
                    continue
                info = entry.stat(follow_symlinks=False)
                yield path, info
                if stat.S_ISDIR(info.st_mode):
                    stack.append(path)


def _metadata_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path, info in _walk(folder):
        if stat.S_ISDIR(info.st_mode):
            continue  # a folder's own times change without its files; its names are in the paths
        fields = (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        digest.update(b"%b\0%b\0" % (path, repr(fields).encode()))
    return digest.hexdigest()


def _untouched(folder: Path, marker: Marker) -> bool:
    return _metadata_digest(folder) == marker.metadata_sha256


def _mode_and_blob(folder: Path, path: bytes, info: os.stat_result, hash_digits: int) -> str:
    full = os.fsencode(folder) + b"/" + path
    if stat.S_ISLNK(info.st_mode):
        mode, content = "120000", os.readlink(full)  # noqa: PTH115  (Path would normalise it)
    elif stat.S_ISREG(info.st_mode):
        mode = "100755" if info.st_mode & 0o100 else "100644"
        content = Path(os.fsdecode(full)).read_bytes()
    else:
        return "special"
    # git-hash-object(1): the hash of "blob <size>\0<content>"
    digest = hashlib.new("sha1" if hash_digits == 40 else "sha256", usedforsecurity=False)
    digest.update(b"blob %d\0" % len(content))
    digest.update(content)
    return f"{mode} {digest.hexdigest()}"


def _mark(fresh: Path, tree: Tree, request: str, patch_set: str | None, git: Git) -> None:
    files = {}
    for entry in git.list_tree(tree.tree, sizes=False):
        path = shown_path(entry.path.encode("utf-8", "surrogateescape"))
        if path == MARKER:
            raise _not_there(fresh, f"the tree itself has a file {MARKER}")
        files[path] = f"{'100644' if entry.mode == '100664' else entry.mode} {entry.oid}"
    marker = Marker(
        tree=tree,
        request=request,
        patch_set=patch_set,
        metadata_sha256=_metadata_digest(fresh),
        files=files,
    )
    write_atomic(fresh / MARKER, canonical_json(marker) + b"\n")


def _put_in_place(fresh: Path, target: Path, *, replace: bool) -> None:
    try:
        if replace:
            _exchange(fresh, target)  # the old folder is now in the outer area, and goes with it
        else:
            fresh.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _not_there(target, "something was put there meanwhile") from error
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


def _exclude(target: Path) -> Path | None:
    """Lists a folder inside a git repository in the repository's ``info/exclude``."""
    for parent in target.parents:
        common = _common_git_dir(parent / ".git")
        if common is None:
            continue
        path = common / "info" / "exclude"
        inside = target.relative_to(parent).as_posix()
        escaped = re.sub(r"([\\*?\[\]])", r"\\\1", inside)
        try:
            old = path.read_bytes() if path.is_file() else b""
            # The second pattern covers the moment before the finished tree is renamed.
            lines = [f"/{escaped}/".encode(), f"{OUTER_PREFIX}*/".encode()]
            missing = [line for line in lines if line not in old.splitlines()]
            if missing:
                gap = b"" if not old or old.endswith(b"\n") else b"\n"
                write_atomic(path, old + gap + b"\n".join(missing) + b"\n")
        except OSError as error:
            raise cannot_write(path, error) from error
        return path
    return None


def _common_git_dir(dot_git: Path) -> Path | None:
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
