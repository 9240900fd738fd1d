"""Files that survive a crash: atomic writes, stamps, locks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.stage import CancelToken, Output

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


@contextlib.contextmanager
def held_lock(
    path: Path, *, purpose: str, wait_s: float, cancel: CancelToken | None = None
) -> Iterator[None]:
    """Holds an exclusive lock file; says who holds it when it cannot be had within ``wait_s``.

    The kernel frees the lock when its holder dies, however it dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise _lock_taken(path, purpose) from None
                cancel.sleep(0.1) if cancel else time.sleep(0.1)
        handle.seek(0)
        handle.truncate()
        json.dump({"pid": os.getpid(), "purpose": purpose, "since": time.time()}, handle)
        handle.flush()
        yield


def _lock_taken(path: Path, purpose: str) -> RelforgeError:
    try:
        holder = json.loads(path.read_text())
        why = (
            f"process {holder['pid']} holds it ({holder['purpose']}, "
            f"for {max(0, time.time() - holder['since']):.0f} s)"
        )
    except (OSError, ValueError, KeyError):
        why = "another process holds it"
    return RelforgeError(
        f"{purpose}: another relforge works here",
        code=ExitCode.ENVIRONMENT,
        where=str(path),
        why=why,
        hint="wait until it has ended, then run the same command again",
    )
