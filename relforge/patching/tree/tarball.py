"""``relforge unpatch --tar``: a patched tree as the tar stream of a build context.

Made straight from git's objects, so that nothing else is written. Equal trees give equal bytes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sync_folder
from relforge.gitio import Git
from relforge.gitio.entries import GITLINK, LINK, TreeEntry, refuse_unsafe
from relforge.gitio.writing import folders_of
from relforge.patching.source import Recipe
from relforge.patching.tree.making import Tree, applied_tree
from relforge.workarea import outer_area


def unpatch_to_stream(
    out: IO[bytes], recipe: Recipe, *, home: Path, epoch: int, cancel: CancelToken | None = None
) -> Tree:
    """Writes the patched tree to a stream: owner 0, modes 0644 and 0755, every mtime ``epoch``.

    ``epoch`` is in seconds since 1970. Errors are those of ``materialise``; nothing is written
    before the tree is proved.
    """
    with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, _area):
        for chunk in tar_chunks(applied.git, tree.tree, epoch=epoch):
            out.write(chunk)
        out.flush()
    return tree


def unpatch_to_tar(
    path: Path, recipe: Recipe, *, home: Path, epoch: int, cancel: CancelToken | None = None
) -> Tree:
    """The same into a new file, which appears complete. Raises RelforgeError (SOURCE)."""
    if path.exists() or path.is_symlink():
        raise RelforgeError(
            "the archive would overwrite something",
            code=ExitCode.SOURCE,
            where=str(path),
            why="it exists already",
            hint="name a new file, or - for the standard output",
        )
    with applied_tree(recipe, home=home, cancel=cancel) as (tree, applied, area):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # In a folder that is swept after a kill: it may hold decrypted files.
            with outer_area(area, path.parent) as outer:
                fresh = outer / "tree.tar"
                with fresh.open("wb") as out:
                    for chunk in tar_chunks(applied.git, tree.tree, epoch=epoch):
                        out.write(chunk)
                fresh.chmod(0o644)
                fresh.rename(path)
                sync_folder(path.parent)
        except OSError as error:
            raise cannot_write(path, error) from error
    return tree


def tar_chunks(git: Git, tree: str, *, epoch: int) -> Iterator[bytes]:
    """The archive of a tree (POSIX.1-2001 pax), folders before what is in them, sorted by path."""
    entries = git.list_tree(tree)
    refuse_unsafe(entries)
    folders = sorted(folders_of(entries) - {""}, key=lambda name: _raw(name + "/"))
    at = 0
    for entry, content in git.blobs(entry for entry in entries if entry.mode != GITLINK):
        # A folder sorts before its files, and behind files that come before all of them.
        while at < len(folders) and _raw(folders[at] + "/") <= _raw(entry.path):
            yield _folder(folders[at], epoch)
            at += 1
        yield from _member(entry, content, epoch)
    for folder in folders[at:]:
        yield _folder(folder, epoch)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _folder(path: str, epoch: int) -> bytes:
    info = tarfile.TarInfo(path + "/")
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, epoch
    return _header(info)


def _member(entry: TreeEntry, content: bytes, epoch: int) -> Iterator[bytes]:
    info = tarfile.TarInfo(entry.path)
    info.mtime = epoch
    if entry.mode == LINK:
        info.type, info.mode = tarfile.SYMTYPE, 0o777
        info.linkname = content.decode("utf-8", "surrogateescape")
        yield _header(info)
        return
    info.mode = 0o755 if entry.mode == "100755" else 0o644
    info.size = len(content)
    yield _header(info)
    yield content
    yield bytes(-len(content) % tarfile.BLOCKSIZE)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
