"""An OCI layout in a folder, also one of other programs. Every write is whole or not done."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO

from relforge.files import cannot_write, sync_folder, write_atomic
from relforge.leftovers import owned_file, sweep_files
from relforge.oci.layout_base import LayoutBase
from relforge.oci.layout_format import LAYOUT_FILE, Entry, index_json, member_of, read_index
from relforge.oci.reading import copy_checked, open_file
from relforge.oci.store import Descriptor, Manifest, Sent

_WORK = ".blob"


class LayoutStore(LayoutBase):
    """``folder`` may not exist yet; the first write makes it. Safe for several threads, and for
    several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return str(self.folder)

    def has_blob(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]:
        return open_file(descriptor, self._path(descriptor.digest))

    def put_blob(
        self,
        descriptor: Descriptor,
        open_: Callable[[], IO[bytes]],
        *,
        mount_from: str | None = None,  # noqa: ARG002
    ) -> Sent:
        # What another program was killed at may be shorter.
        if self._size_of(descriptor.digest) == descriptor.size:
            return "there"
        path = self._path(descriptor.digest)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep_files(path.parent, f"{_WORK}-")
            handle, work = owned_file(path.parent, _WORK)
            try:
                with os.fdopen(handle, "wb") as sink:
                    copy_checked(descriptor, open_, sink, f"{self.folder}@{descriptor.digest}")
                    sink.flush()
                    os.fsync(sink.fileno())
                    work.chmod(0o644)
                    work.replace(path)
            finally:
                work.unlink(missing_ok=True)
            sync_folder(path.parent)
        except OSError as error:
            raise cannot_write(path, error) from error
        return "sent"

    def commit(self) -> None:
        """Nothing waits: each write is on the disk when it is done."""

    def _path(self, digest: str) -> Path:
        return self.folder / member_of(digest)

    def _size_of(self, digest: str) -> int | None:
        try:
            return self._path(digest).stat().st_size
        except OSError:
            return None

    def _entries(self) -> list[Entry]:
        index = self.folder / "index.json"
        try:
            return read_index(index.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"index.json cannot be read: {error!r}") from error

    def _set_entries(self, entries: Sequence[Entry], *, stale: Sequence[str] = ()) -> None:
        if not (self.folder / "oci-layout").is_file():
            write_atomic(self.folder / "oci-layout", LAYOUT_FILE)
        data = index_json(entries)
        index = self.folder / "index.json"
        if not index.is_file() or index.read_bytes() != data:
            write_atomic(index, data)
        for digest in stale:
            self._path(digest).unlink(missing_ok=True)

    def _put_data(self, manifest: Manifest) -> None:
        path = self._path(manifest.descriptor.digest)
        if self._size_of(manifest.descriptor.digest) != len(manifest.data):
            write_atomic(path, manifest.data)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        try:
            # Some network file systems cannot lock a folder; one writer at a time is the rule then.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


class UnchangingLayout(LayoutStore):
    """One that nobody writes to meanwhile, such as a snapshot's: each manifest is read once.

    Raises TypeError where a manifest or the index is to be written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._known: dict[tuple[str, str | None], Manifest | None] = {}

    @cached_property
    def _listed(self) -> list[Entry]:
        return super()._entries()

    def _entries(self) -> list[Entry]:
        return self._listed

    def _set_entries(self, entries: Sequence[Entry], *, stale: Sequence[str] = ()) -> None:  # noqa: ARG002
        raise TypeError(f"{self.folder} is not to change")

    def _put_data(self, manifest: Manifest) -> None:  # noqa: ARG002
        raise TypeError(f"{self.folder} is not to change")

    def _read(self, digest: str, media_type: str | None) -> Manifest | None:
        key = digest, media_type
        if key not in self._known:
            self._known[key] = super()._read(digest, media_type)
        return self._known[key]
