"""A tree written to a folder by git itself, with one time for everything.

What was written is described once, while it is written: nobody needs to read the folder again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write
from relforge.gitio.entries import GITLINK, TreeEntry, refuse_unsafe

if TYPE_CHECKING:
    from relforge.gitio.git import Git

_MOST_WORKERS = 4


@dataclass(frozen=True)
class WrittenTree:
    """A tree in a folder: its files in git's order, and the digest of their metadata."""

    entries: tuple[TreeEntry, ...]
    metadata_sha256: str


class MetadataDigest:
    """Over every file's path, mode, size, mtime, ctime and inode: equal when none was touched."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []

    def add(self, path: bytes, info: os.stat_result) -> None:
        """One file or link; the order of the calls does not matter."""
        fields = (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        self._rows.append(b"%b\0%d %d %d %d %d\0" % (path, *fields))

    def hexdigest(self) -> str:
        """The SHA-256 of all rows, sorted by path."""
        return hashlib.sha256(b"".join(sorted(self._rows))).hexdigest()


def write_folder(git: Git, tree: str, dest: Path, *, epoch: int, indexed: bool) -> WrittenTree:
    """Writes a tree to the new folder *dest*: exact bytes, 0644 or 0755, links, one mtime.

    ``epoch`` is in seconds since 1970. ``indexed``: git's own index holds the tree already. The
    folder appears when it is complete. Raises RelforgeError (SOURCE; ENVIRONMENT on a full disk).
    """
    entries = git.list_index() if indexed else git.list_tree(tree, sizes=False)
    refuse_unsafe(entries)
    if dest.exists() or dest.is_symlink():
        raise RelforgeError(
            f"{dest} exists already",
            code=ExitCode.SOURCE,
            hint="choose a folder that does not exist yet",
        )
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
    except OSError as error:
        raise cannot_write(dest, error) from error
    try:
        root = room / "tree"
        root.mkdir()
        root.chmod(0o755)  # before there is anything in it: a folder may pass its group on
        writer = git.with_index(git.index if indexed else room / "index", work_tree=root)
        # An index made here is thrown away here: it needs no sync to the disk.
        config = {"core.fsync": "none", "checkout.workers": str(_workers())}
        if not indexed:
            writer.run("read-tree", tree, config=config)
        writer.run("checkout-index", "--all", config=config, umask=0o022)
        digest = _settle(entries, root, epoch)
        root.rename(dest)
    except OSError as error:
        raise cannot_write(dest, error) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return WrittenTree(entries, digest)


def folders_of(entries: Iterable[TreeEntry]) -> set[str]:
    """Every folder of a tree, submodules among them; the root is the empty name."""
    folders = {""}
    for entry in entries:
        folder = entry.path if entry.mode == GITLINK else entry.path.rpartition("/")[0]
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _settle(entries: Sequence[TreeEntry], root: Path, epoch: int) -> str:
    """One time for everything; folders last, which writing into them would change again."""
    # Plain strings and functions: with Path objects this took as long as git's own writing.
    base, times = f"{root}/", (epoch, epoch)
    digest = MetadataDigest()
    utime, lstat, add = os.utime, os.lstat, digest.add
    for path, mode, _oid, _size in entries:
        if mode != GITLINK:
            full = base + path
            utime(full, times, follow_symlinks=False)
            add(path.encode("utf-8", "surrogateescape"), lstat(full))
    for folder in folders_of(entries):
        utime(base + folder, times)
    return digest.hexdigest()


def _workers() -> int:
    return min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
