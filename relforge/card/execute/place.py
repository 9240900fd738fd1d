"""Where a card's commands run: a copy of its folder that costs nothing, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_MOST_ENTRIES = 20_000
_COPIED_BYTES = 16 << 20


@dataclass(frozen=True)
class Stamp:
    """How a file looked: size in bytes, mtime in ns."""

    size: int
    mtime_ns: int


def mirror(source: Path, target: Path, without: Path) -> None:
    """Makes the new folder *target* look like *source*: folders of its own, files as hard links.

    ``without``: a folder that is left out, in which *target* may lie.

    Where no hard link can be made, small files are copied and large ones become symbolic links, as
    do folders once there are 20,000 entries. Raises OSError.
    """
    left = _MOST_ENTRIES
    target.mkdir()
    queue = [(source, target)]
    while queue:
        folder, copy = queue.pop()
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            left -= 1
            place = copy / entry.name
            if entry.is_dir() and _is_same(entry.path, without):
                continue
            if entry.is_dir(follow_symlinks=False) and left > 0:
                place.mkdir()
                queue.append((Path(entry.path), place))
            elif entry.is_file(follow_symlinks=False) and left > 0:
                _link(Path(entry.path), place)
            else:
                place.symlink_to(os.path.realpath(entry.path))


def stamps(folder: Path, without: Path) -> dict[str, Stamp]:
    """Every file below a folder, at most 20,000, by its relative name; none below ``without``."""
    found: dict[str, Stamp] = {}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_same(Path(top, name), without)]
        for name in names:
            path = Path(top, name)
            with contextlib.suppress(OSError):
                state = path.lstat()
                found[str(path.relative_to(folder))] = Stamp(state.st_size, state.st_mtime_ns)
            if len(found) >= _MOST_ENTRIES:
                return found
    return found


def altered(folder: Path, without: Path, before: dict[str, Stamp]) -> tuple[str, ...]:
    """Files that were there before and are now others, or gone."""
    after = stamps(folder, without)
    return tuple(name for name, stamp in sorted(before.items()) if after.get(name) != stamp)


def _is_same(folder: str | Path, other: Path) -> bool:
    try:
        return other.samefile(folder)
    except OSError:
        return False


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:
        if source.stat().st_size <= _COPIED_BYTES:
            shutil.copy2(source, place)
        else:
            place.symlink_to(source.resolve())
