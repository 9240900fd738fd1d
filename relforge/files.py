"""Files that survive a crash: atomic writes, stamps; locks are in ``locks.py``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.locks import held_lock as held_lock

_CHUNK = 1 << 20


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes a whole file or nothing: temporary file beside it, fsync, rename, fsync of the folder.

    Raises RelforgeError (ENVIRONMENT) when the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> RelforgeError:
    """The error for a failed write, with the remedy that fits its cause."""
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return RelforgeError(
        f"cannot write {path.name}" + (": the disk is full" if full else ""),
        code=ExitCode.ENVIRONMENT,
        where=str(path),
        why=error.strerror or str(error),
        hint="free disk space, then run the same command again"
        if full
        else "make the folder writable, or set another one in the site configuration",
    )


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def copy_hashed(source: Path, target: Path) -> str:
    """Copies a file's content, and returns its SHA-256. Raises OSError."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


class Output(Frozen):
    """A file that a result owns. ``path`` is absolute; the stamp makes a cheap no-change check."""

    path: Path
    sha256: str
    size_bytes: int
    mtime_ns: int
    inode: int


def stamp(path: Path, *, sha256: str | None = None) -> Output:
    """Hash, size, mtime and inode of a file; ``sha256`` when the caller has just computed it."""
    digest = sha256 or sha256_file(path)
    info = path.stat()
    return Output(
        path=path.absolute(),
        sha256=digest,
        size_bytes=info.st_size,
        mtime_ns=info.st_mtime_ns,
        inode=info.st_ino,
    )


def altered(output: Output) -> str | None:
    """Why a recorded file is no longer what it was, or None.

    Works as git's index does: when size, mtime and inode are as recorded the content is taken to
    be so too; else the file is hashed.
    """
    try:
        info = output.path.stat()
    except OSError:
        return f"{output.path} is gone"
    if info.st_size != output.size_bytes:
        return f"{output.path} changed its size"
    same = info.st_mtime_ns == output.mtime_ns and info.st_ino == output.inode
    if not same and sha256_file(output.path) != output.sha256:
        return f"{output.path} was altered"
    return None


def remove_tree(path: Path) -> None:
    """Deletes a folder or file if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path)
