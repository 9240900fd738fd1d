"""``.relforge-tree.json``: what a folder that ``relforge unpatch`` wrote says of itself.

The marker stands beside the tree's own files and is no part of the tree. It holds a digest over
every file's metadata, so that an unchanged folder is recognised without reading the files, and
where the base can be had again, so that a tree can be taken back to it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.frozen import Frozen, canonical_json, content_key
from relforge.gitio.entries import GITLINK, LINK, TreeEntry
from relforge.gitio.writing import MetadataDigest
from relforge.manifest.common import Commit, Sha256, TreeHash
from relforge.patching.bundle.header import GitOrigin, Origin
from relforge.patching.source import PatchSetInfo, Recipe, Whitespace
from relforge.patching.tree.apply import shown_path
from relforge.patching.tree.making import Tree

MARKER = ".relforge-tree.json"
_GIT = b".git"


class GraftedBase(Frozen):
    """A submodule's tree in a folder of the base, and a repository that held it."""

    folder: str
    tree: TreeHash
    repository: str


class Base(Frozen):
    """What was patched, and where it can be had again.

    ``tree`` is the source's own, without ``grafts``. ``repository`` is the path of a repository
    that held it; ``origin`` says where it came from, without anybody's password.
    """

    tree: TreeHash
    commit: Commit | None
    repository: str
    origin: Origin | None
    grafts: tuple[GraftedBase, ...]


class EntryFile(Frozen):
    """One patch file of an entry of a git repository (FlagScale's), as it is stored there.

    ``folder`` is where in the tree its paths begin; ``blob`` is git's hash of the stored file;
    ``path`` is where it lay, when it was read from a working tree.
    """

    name: str
    folder: str
    blob: TreeHash
    path: str | None


class LaidOver(Frozen):
    """Over which submodules FlagScale's whole files were laid; fields as in ``Laying``."""

    always: tuple[str, ...]
    when_rooted: tuple[str, ...]
    only_patched: bool
    unfinished: bool


class Entry(Frozen):
    """An entry's files, in order, and the path of the repository that held them."""

    repository: str
    files: tuple[EntryFile, ...]
    laid_over: LaidOver | None = None


class Applied(Frozen):
    """The patch set that a folder carries; ``where`` is the path it was read from.

    ``entry`` says the same of an entry of a git repository, file by file.
    """

    name: str
    content_sha256: Sha256
    sealed: bool
    signer: str | None
    where: str
    entry: Entry | None = None


class Marker(Frozen):
    """The file's content."""

    format: Literal["relforge-tree"] = "relforge-tree"
    version: Literal[1] = 1
    tree: Tree
    request: Sha256
    """Base, grafts and content that were asked for, as one hash."""
    base: Base
    patch_set: Applied | None
    whitespace: Whitespace
    epoch: int
    """Every file's mtime, in seconds since 1970."""
    worktree: bool
    """The folder is a git worktree of ``base.repository``."""
    metadata_sha256: Sha256
    """Over every file's path, mode, size, mtime, ctime and inode: equal when none was touched."""
    files: dict[str, str]
    """Path to ``<mode> <blob hash>``, as in git's tree; a path is written as in ``FileChange``."""


class FileEdit(NamedTuple):
    """A path of a folder as the marker has it and as it is now: ``<mode> <blob hash>``, or None.

    ``raw`` is the path as the file system has it, ``path`` as the marker writes it.
    """

    path: str
    raw: bytes
    before: str | None
    after: str | None


def request_of(recipe: Recipe, info: PatchSetInfo | None) -> str:
    """What a folder was asked to be, as one hash: equal when the same would be written again."""
    return content_key(
        {
            "base_tree": recipe.base_tree,
            "grafts": [[graft.folder, graft.tree] for graft in recipe.grafts],
            "content": info.content_sha256 if info else None,
            "whitespace": recipe.whitespace,
        }
    )


def base_of(recipe: Recipe, origin: Origin | None) -> Base:
    """Where a recipe's base can be had again."""
    if isinstance(origin, GitOrigin):
        origin = origin.model_copy(update={"url": _without_password(origin.url)})
    return Base(
        tree=recipe.base_tree,
        commit=recipe.base_commit,
        repository=str(recipe.git_dir.absolute()),
        origin=origin,
        grafts=tuple(
            GraftedBase(
                folder=graft.folder, tree=graft.tree, repository=str(graft.git_dir.absolute())
            )
            for graft in recipe.grafts
        ),
    )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def recorded_files(entries: Iterable[TreeEntry]) -> dict[str, str]:
    """A tree's files as the marker lists them. Raises RelforgeError when one is called as it."""
    files = {}
    for path, mode, oid, _size in entries:
        if path == MARKER:
            raise RelforgeError(
                f"the tree itself has a file {MARKER}",
                code=ExitCode.SOURCE,
                hint="it cannot be told from relforge's own; use --tar instead of --dir",
            )
        shown = path if path.isascii() and "\\" not in path else shown_path(os.fsencode(path))
        files[shown] = f"{'100644' if mode == '100664' else mode} {oid}"
    return files


def write_marker(folder: Path, marker: Marker) -> None:
    """Puts the marker into a folder. Raises RelforgeError (ENVIRONMENT)."""
    write_atomic(folder / MARKER, canonical_json(marker) + b"\n")


def read_marker(folder: Path) -> Marker | None:
    """The marker of a folder; None when it carries none, or one that is not ours to understand."""
    path = folder / MARKER
    try:
        if path.is_symlink():
            return None
        return Marker.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def required_marker(folder: Path) -> Marker:
    """The marker of a folder that ``relforge unpatch`` made. Raises RelforgeError (SOURCE)."""
    marker = read_marker(folder)
    if marker is None:
        raise RelforgeError(
            "the folder is no patched tree" if folder.is_dir() else "there is no such folder",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=f"it has no valid {MARKER}" if folder.is_dir() else None,
            hint="name a folder that `relforge unpatch` has made",
        )
    return marker


def untouched(folder: Path, marker: Marker) -> bool:
    """Whether no file was touched since the marker was written; reads no file's content."""
    digest = MetadataDigest()
    for path, info in walk(folder, worktree=marker.worktree):
        digest.add(path, info)
    return digest.hexdigest() == marker.metadata_sha256


def edited_files(folder: Path, marker: Marker) -> tuple[str, ...]:
    """Paths that differ from the marked tree: altered, added or gone. Reads every file."""
    return tuple(edit.path for edit in edits(folder, marker))


def edits(folder: Path, marker: Marker) -> tuple[FileEdit, ...]:
    """What differs from the marked tree, by path. Reads every file unless none was touched."""
    if untouched(folder, marker):
        return ()
    digits = len(marker.tree.tree)
    left = {path: was for path, was in marker.files.items() if not was.startswith(f"{GITLINK} ")}
    found = []
    for raw, info in walk(folder, worktree=marker.worktree):
        path = shown_path(raw)
        before = left.pop(path, None)
        after = _mode_and_blob(os.fsencode(folder) + b"/" + raw, info, digits)
        if before != after:
            found.append(FileEdit(path, raw, before, after))
    gone = (FileEdit(path, _raw_path(path), was, None) for path, was in left.items())
    return tuple(sorted((*found, *gone)))


def walk(folder: Path, *, worktree: bool) -> Iterator[tuple[bytes, os.stat_result]]:
    """Relative path and lstat of every file and link below a folder, but its marker.

    ``worktree``: its ``.git`` is git's own and is left out.
    """
    base = os.fsencode(folder) + b"/"
    passed = {MARKER.encode(), *((_GIT,) if worktree else ())}
    stack = [b""]
    while stack:
        here = stack.pop()
        with os.scandir(base + here) as entries:
            for entry in entries:
                path = here + entry.name
                if path in passed:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    # A folder's own times change without its files; its name is in their paths.
                    stack.append(path + b"/")
                else:
                    yield path, entry.stat(follow_symlinks=False)


def _raw_path(shown: str) -> bytes:
    """The inverse of ``shown_path``."""
    out, at = bytearray(), 0
    while at < len(shown):
        if shown[at] != "\\":
            out += shown[at].encode()
            at += 1
        elif shown[at + 1] == "\\":
            out += b"\\"
            at += 2
        else:
            out.append(int(shown[at + 2 : at + 4], 16))
            at += 4
    return bytes(out)


def blob_hash(content: bytes, hash_digits: int) -> str:
    """Git's hash of a file's content, of 40 digits (SHA-1) or 64 (SHA-256)."""
    # git-hash-object(1): the hash of "blob <size>\0<content>"
    digest = hashlib.new("sha1" if hash_digits == 40 else "sha256", usedforsecurity=False)
    digest.update(b"blob %d\0" % len(content))
    digest.update(content)
    return digest.hexdigest()


def _mode_and_blob(full: bytes, info: os.stat_result, hash_digits: int) -> str:
    if stat.S_ISLNK(info.st_mode):
        mode, content = LINK, os.readlink(full)  # noqa: PTH115  (Path would normalise it)
    elif stat.S_ISREG(info.st_mode):
        mode = "100755" if info.st_mode & 0o100 else "100644"
        content = Path(os.fsdecode(full)).read_bytes()
    else:
        return "special"
    return f"{mode} {blob_hash(content, hash_digits)}"


def tree_around(path: Path) -> Path | None:
    """The patched tree that a path, which need not exist, lies in."""
    return next((one for one in path.absolute().parents if (one / MARKER).is_file()), None)
