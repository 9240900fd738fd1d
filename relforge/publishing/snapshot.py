"""A published folder as it is now, kept from changes while it is looked at and sent.

Whoever sends a release first takes this copy; the gate looks at it, and targets read it and nothing
else. So what passed is what is sent, whoever edits the folder meanwhile. Small files are copied.
Blobs of the image are linked where that is possible: their names are their hashes, and everything
that sends one checks it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import copy_hashed
from relforge.frozen import content_key
from relforge.leftovers import owned_folder
from relforge.publishing.published import IMAGE, Published, read_published

_BLOBS = f"{IMAGE}/blobs/sha256/"
_LINKED_BYTES = 1 << 20
"""Blobs of this size and more are linked."""


@dataclass(frozen=True)
class Snapshot:
    """``published`` lies in the copy; ``origin`` is the folder that the user named.

    ``state`` stands for every byte: the hash of each file, and of what is linked its stamp.
    """

    published: Published
    origin: Path
    state: str


@contextmanager
def snapshot(folder: Path, home: Path) -> Iterator[Snapshot]:
    """Copies the folder, and removes the copy on every way out.

    Raises RelforgeError (PUBLISH) for what is no published release, or cannot be copied.
    """
    origin = folder.absolute()
    read_published(origin)
    with _work(origin, home) as work:
        copy = work / origin.name
        try:
            state = dict(_copied(origin, copy))
        except OSError as error:
            raise RelforgeError(
                "the published folder cannot be read, or not be kept while it is sent",
                code=ExitCode.PUBLISH,
                where=str(error.filename or origin),
                why=error.strerror or str(error),
                hint="free disk space, or look at the folder's permissions; then the same command "
                "again",
            ) from error
        yield Snapshot(read_published(copy), origin, content_key(state))


@contextmanager
def _work(origin: Path, home: Path) -> Iterator[Path]:
    """Beside the folder, where its blobs can be linked; else in the home."""
    if os.access(origin.parent, os.W_OK):
        with owned_folder(origin.parent, f".{origin.name}") as work:
            yield work
    else:
        place = home / "publications" / "work"
        place.mkdir(parents=True, exist_ok=True)
        with owned_folder(place, origin.name) as work:
            yield work


def _copied(origin: Path, copy: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(origin.rglob("*")):
        name = path.relative_to(origin).as_posix()
        info = path.lstat()
        if stat.S_ISDIR(info.st_mode):
            continue
        if not stat.S_ISREG(info.st_mode):
            raise RelforgeError(
                "a published folder holds files and nothing else",
                code=ExitCode.PUBLISH,
                where=str(path),
                why="this is a link, a pipe or a device, and leads elsewhere",
                hint="remove it; relforge publish writes no such thing",
            )
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(_BLOBS) and info.st_size >= _LINKED_BYTES and _linked(path, target):
            yield name, f"{info.st_size} {info.st_mtime_ns} {info.st_ino}"
        else:
            yield name, copy_hashed(path, target)


def _linked(path: Path, target: Path) -> bool:
    try:
        target.hardlink_to(path)
    except OSError:
        return False  # another file system, or somebody else's file
    return True
