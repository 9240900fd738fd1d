"""Files that came to a worker, by hash: each comes once, and lies where a job looks for it.

``<home>/ray/files/<aa>/<sha256>`` is a file; where a job expects it there is a hard link.
What a job made here is linked there too, so that the next job on this host does not ask for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.engine.blobs import link_or_copy
from relforge.errors import ExitCode, RelforgeError
from relforge.executor.ray_sent import SentFile
from relforge.executor.ray_shared import AnotherFile, LargeFiles
from relforge.files import cannot_write, held_lock, sha256_file
from relforge.leftovers import owned_file, owned_folder

_SMALL_BYTES = 1 << 20
Fetch = Callable[[str, int], Iterator[bytes]]
"""Gives the content of a file of that hash and size in chunks."""


class WorkerFiles:
    """The files of one worker's home; used by several jobs, in processes of their own, at once."""

    def __init__(self, home: Path, cancel: CancelToken) -> None:
        self._home = home
        self._root = home / "ray" / "files"
        self._locks = home / "ray" / "locks"
        self._cancel = cancel

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether the file is here; then it counts as used. Its hash was checked when it came."""
        path = self._at(sha256)
        try:
            if path.stat().st_size != size_bytes:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def lay_out(
        self,
        files: Iterable[tuple[SentFile, Path]],
        fetch: Fetch,
        large: LargeFiles | None = None,
    ) -> tuple[int, int]:
        """Puts files where a job looks for them; only those that are nowhere here are fetched, from
        ``large`` where it has them.

        Returns how many came, and their bytes. Raises RelforgeError (ENVIRONMENT) when the disk is
        full or a file came as another one, Cancelled.
        """
        came = came_bytes = 0
        for file, path in files:
            self._cancel.check()
            if not self.has(file.sha256, file.size_bytes) and not self._kept_at(path, file):
                lock = self._locks / file.sha256[:2] / file.sha256
                with held_lock(lock, purpose="file", cancel=self._cancel):
                    if not self.has(file.sha256, file.size_bytes):
                        self._fetched(file, fetch, large)
                        came, came_bytes = came + 1, came_bytes + file.size_bytes
            self._place(file, path)
        return came, came_bytes

    def keep(self, path: Path, sha256: str) -> None:
        """A file that a job made: it is not asked for again."""
        target = self._at(sha256)
        if not target.exists():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with owned_folder(target.parent, ".kept") as room:
                    _link(path, room / "file")
                    (room / "file").replace(target)
            except OSError:
                return  # it is only asked for again

    def _kept_at(self, path: Path, file: SentFile) -> bool:
        """Whether it lies where the job looks for it, and is known again from now on.

        Where the home was collected, what is needed for other reasons stayed.
        """
        try:
            if path.stat().st_size != file.size_bytes or sha256_file(path) != file.sha256:
                return False
        except OSError:
            return False
        self.keep(path, file.sha256)
        return self.has(file.sha256, file.size_bytes)

    def _at(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def _fetched(self, file: SentFile, fetch: Fetch, large: LargeFiles | None) -> None:
        target = self._at(file.sha256)
        chunks = large.read(file.sha256, file.size_bytes) if large else None
        if large is not None and chunks is not None:
            try:
                write_checked(target, file.sha256, chunks, self._cancel)
            except RelforgeError as error:
                large.failed(file.sha256, error)
            else:
                return
        write_checked(target, file.sha256, fetch(file.sha256, file.size_bytes), self._cancel)

    def _place(self, file: SentFile, path: Path) -> None:
        source = self._at(file.sha256)
        try:
            if path.exists() and (path.samefile(source) or sha256_file(path) == file.sha256):
                return
            # Jobs that begin at once want the same files in the same places.
            with room_for(path, self._home) as room:
                part = room / "file"
                if file.executable:
                    # Its mode is its own; what is linked elsewhere keeps the other one.
                    part.write_bytes(source.read_bytes())
                    part.chmod(0o755)
                else:
                    _link(source, part)
                part.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from error


@contextmanager
def room_for(path: Path, home: Path) -> Iterator[Path]:
    """A folder to make a file in that is then renamed to ``path`` in the home: on its file system,
    and where ``sweeping`` looks for what was killed. Raises OSError."""
    parts = path.relative_to(home).parts
    top = home / parts[0] if len(parts) > 1 else home
    path.parent.mkdir(parents=True, exist_ok=True)
    with owned_folder(top, ".part") as room:
        yield room


def write_checked(target: Path, sha256: str, chunks: Iterator[bytes], cancel: CancelToken) -> None:
    """A file that comes, whole or not at all. Raises RelforgeError (ENVIRONMENT) when the disk is
    full or it is another one, and what reading raises; Cancelled."""
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = owned_file(target.parent, ".part")
        try:
            with open(descriptor, "wb") as out:  # noqa: PTH123 (a descriptor)
                for chunk in chunks:
                    cancel.check()
                    digest.update(chunk)
                    out.write(chunk)
                # A result that names it may be saved next.
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() != sha256:
                raise AnotherFile(
                    "a file came as another one",
                    code=ExitCode.ENVIRONMENT,
                    where=str(target),
                    why=f"expected sha256 {sha256}, it is {digest.hexdigest()}",
                    hint="run the same command again; if it stays so, look at the network",
                )
            part.chmod(0o644)
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from error


def _link(source: Path, path: Path) -> None:
    """A hard link; of a small file a copy, as somebody may write such a one anew where it lies."""
    if source.stat().st_size < _SMALL_BYTES:
        path.write_bytes(source.read_bytes())
    else:
        link_or_copy(source, path)
