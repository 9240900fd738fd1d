"""``relforge unpatch --status``: what a folder carries, and what was changed in it since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from relforge.frozen import Frozen
from relforge.gitio.entries import LINK
from relforge.manifest.common import TreeHash
from relforge.patching.tree.marker import (
    MARKER,
    Applied,
    Base,
    FileEdit,
    edits,
    read_marker,
    required_marker,
)

_DEEPEST = 3  # <dir>/<device>/<source>


class FileStatus(Frozen):
    """One file that is not as the patched tree has it; ``path`` is written as in ``FileChange``."""

    path: str
    change: Literal["added", "altered", "mode", "gone"]


class TreeStatus(Frozen):
    """What a folder carries. ``patch_set`` is ``None`` for a base without patches."""

    folder: Path
    patch_set: Applied | None
    base: Base
    base_tree: TreeHash
    tree: TreeHash
    worktree: bool
    changes: tuple[FileStatus, ...]


def tree_status(folder: Path) -> TreeStatus:
    """Compares a folder with what was written to it; writes nothing.

    Raises RelforgeError (SOURCE) when it carries no marker.
    """
    marker = required_marker(folder)
    return TreeStatus(
        folder=folder.absolute(),
        patch_set=marker.patch_set,
        base=marker.base,
        base_tree=marker.tree.base_tree,
        tree=marker.tree.tree,
        worktree=marker.worktree,
        changes=tuple(_changes(edits(folder, marker))),
    )


def marked_folders(folder: Path) -> tuple[Path, ...]:
    """The patched trees at or below *folder*, as ``relforge unpatch --dir`` lays them out."""
    return tuple(_marked(folder, _DEEPEST))


def _marked(folder: Path, deepest: int) -> Iterator[Path]:
    if (folder / MARKER).is_file() and read_marker(folder) is not None:
        yield folder
    elif deepest and folder.is_dir():
        for below in sorted(folder.iterdir()):
            if below.is_dir() and not below.is_symlink():
                yield from _marked(below, deepest - 1)


def _changes(found: Iterable[FileEdit]) -> Iterator[FileStatus]:
    """Each file by itself, but a repository that the user made in the folder as one."""
    repositories = set()
    for edit in found:
        before, inside, _ = f"/{edit.path}".partition("/.git/")
        if not inside:
            yield FileStatus(path=edit.path, change=_kind(edit))
        elif before not in repositories:
            repositories.add(before)
            yield FileStatus(path=f"{before}/.git".lstrip("/"), change="added")


def _kind(edit: FileEdit) -> Literal["added", "altered", "mode", "gone"]:
    if edit.before is None:
        return "added"
    if edit.after is None:
        return "gone"
    # A link's blob is what it says; a file with the same words is another kind of file.
    kinds = {one.startswith(f"{LINK} ") for one in (edit.before, edit.after)}
    same = edit.before.split(" ")[1:] == edit.after.split(" ")[1:]
    return "mode" if same and len(kinds) == 1 else "altered"
