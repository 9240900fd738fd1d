"""How much a folder holds, counting what hard links share once, and when it was last changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

Files = dict[tuple[int, int], tuple[int, int, int]]
"""By device and inode: bytes, names seen, names that there are."""


def measured(paths: Iterable[Path], *, but: frozenset[str] = frozenset()) -> tuple[Files, float]:
    """The files at and below *paths*, and the newest change in seconds UTC (0 where there is none).

    Follows no link; what vanishes meanwhile, or cannot be read, counts nothing. Entries of the top
    folders that are called as one of ``but`` are left out.
    """
    files: Files = {}
    newest = 0.0
    for top in paths:
        waiting = [os.fspath(top)]
        first = True
        while waiting:
            place = waiting.pop()
            try:
                info = os.lstat(place)
                newest = max(newest, info.st_mtime)
                if stat.S_ISDIR(info.st_mode):
                    with os.scandir(place) as entries:
                        names = [
                            entry.path for entry in entries if not first or entry.name not in but
                        ]
                    waiting += names
                else:
                    known = files.get((info.st_dev, info.st_ino))
                    seen = known[1] + 1 if known else 1
                    files[info.st_dev, info.st_ino] = (info.st_size, seen, info.st_nlink)
            except OSError:
                continue
            first = False
    return files, newest


def total_bytes(files: Files) -> int:
    """What they take, each once."""
    return sum(size for size, _, _ in files.values())


class Freed:
    """What deleting things one after another frees: a file when its last name goes."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], int] = {}
        self.bytes = 0

    def add(self, files: Files) -> None:
        for inode, (size, seen, names) in files.items():
            before = self._seen.get(inode, 0)
            self._seen[inode] = before + seen
            if before < names <= before + seen:
                self.bytes += size
