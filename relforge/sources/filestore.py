"""Files by the hash of their content: ``<home>/store/files/<sha256>/<file name>``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import sync_folder, write_atomic
from relforge.leftovers import owned_file

_STAMPED_BYTES = 50 * 1000 * 1000
_STAMP = ".stamp"
_CHUNK_BYTES = 1 << 20


class HashMismatch(Exception):
    """The bytes that arrived are not those that were pinned."""

    def __init__(self, got: str) -> None:
        super().__init__(got)
        self.got = got


@dataclass(frozen=True)
class Stamp:
    """What git's index compares too: a file with an unchanged stamp has unchanged content."""

    size_bytes: int
    mtime_ns: int
    inode: int


def stamp_of(path: Path) -> Stamp:
    """The stamp of the file at *path*."""
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def hash_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def lookup(files: Path, sha256: str) -> Path | None:
    """The stored file with that hash, verified; one that was altered is removed.

    Files above 50 MB are hashed once and then trusted while size, mtime and inode stay.
    """
    folder = files / sha256
    try:
        names = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except FileNotFoundError:
        return None
    for path in names:
        stamp = stamp_of(path)
        if stamp.size_bytes > _STAMPED_BYTES and _read_stamp(folder) == stamp:
            return path
        if hash_of(path) == sha256:
            _write_stamp(folder, stamp)
            return path
        path.unlink()
    return None


def add(files: Path, sha256: str, file_name: str, chunks: Iterable[bytes]) -> Path:
    """Stores the bytes under their hash: temporary file, fsync, rename.

    Raises HashMismatch, and keeps nothing, when they are not the pinned ones.
    """
    if "/" in file_name or file_name.startswith(".") or "\0" in file_name or not file_name:
        raise RelforgeError(
            f"the index offers a file with an unsafe name: {file_name!r}", code=ExitCode.SOURCE
        )
    folder = files / sha256
    incoming = files / ".incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    fd, temporary = owned_file(incoming, "file")
    try:
        with os.fdopen(fd, "wb") as out:
            for chunk in chunks:
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            os.fsync(out.fileno())
        if digest.hexdigest() != sha256:
            raise HashMismatch(digest.hexdigest())
        folder.mkdir(exist_ok=True)
        path = folder / file_name
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    _write_stamp(folder, stamp_of(path))
    return path


def _read_stamp(folder: Path) -> Stamp | None:
    try:
        return Stamp(**json.loads((folder / _STAMP).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_stamp(folder: Path, stamp: Stamp) -> None:
    if stamp.size_bytes > _STAMPED_BYTES:
        write_atomic(folder / _STAMP, json.dumps(asdict(stamp)).encode())
