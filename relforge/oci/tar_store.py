"""An OCI layout in one tar, which ``docker load``, ``skopeo`` and ``oras`` read as it is.

What is put into it waits until ``commit``; that writes the tar beside the old one, each blob
checked on its way, and puts it in its place. The same content gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sync_folder
from relforge.leftovers import owned_file, sweep_files
from relforge.oci.layout_base import LayoutBase
from relforge.oci.layout_format import (
    Entry,
    Open,
    docker_rows,
    index_json,
    member_of,
    read_index,
    write_archive,
)
from relforge.oci.reading import open_file
from relforge.oci.store import Descriptor, Manifest, Sent


class TarStore(LayoutBase):
    """``path`` may not exist yet. Safe for several threads; of two writers the last one wins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._members: dict[str, tuple[int, int]] | None = None
        self._pending: dict[str, tuple[int, Open]] = {}
        self._index: list[Entry] | None = None
        self._changed = False

    @property
    def name(self) -> str:
        return str(self.path)

    def has_blob(self, digest: str) -> bool:
        return self._size_of(digest) is not None

    def open_blob(self, descriptor: Descriptor) -> IO[bytes]:
        if descriptor.digest in self._pending:
            return self._pending[descriptor.digest][1]()
        place = self._there().get(member_of(descriptor.digest))
        if place is None:
            raise self._damaged(f"{descriptor.digest} is missing")
        return open_file(descriptor, self.path, *place)

    def put_blob(
        self,
        descriptor: Descriptor,
        open_: Callable[[], IO[bytes]],
        *,
        mount_from: str | None = None,  # noqa: ARG002
    ) -> Sent:
        """``open_`` is called when the tar is written."""
        with self._lock:
            if self._size_of(descriptor.digest) == descriptor.size:
                return "there"
            self._pending[descriptor.digest] = (descriptor.size, open_)
            self._changed = True
        return "sent"

    def commit(self) -> None:
        """Writes the tar, if it would be another. Raises RelforgeError, Cancelled."""
        with self._lock:
            entries = self._entries()
            if not self._changed:
                return
            blobs = self._needed(entries)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                sweep_files(self.path.parent, f".{self.path.name}-")
                handle, work = owned_file(self.path.parent, f".{self.path.name}")
                try:
                    with os.fdopen(handle, "wb") as sink:
                        docker = docker_rows(entries, self.manifest)
                        write_archive(sink, entries, docker, blobs)
                        sink.flush()
                        os.fsync(sink.fileno())
                        work.chmod(0o644)
                        work.replace(self.path)
                finally:
                    work.unlink(missing_ok=True)
                sync_folder(self.path.parent)
            except OSError as error:
                raise cannot_write(self.path, error) from error
            self._members = self._index = None
            self._pending, self._changed = {}, False

    def _needed(self, entries: Sequence[Entry]) -> dict[str, tuple[int, Open]]:
        """Everything that the index leads to: size and opener by digest."""
        found: dict[str, tuple[int, Open]] = {}

        def add(one: Descriptor) -> None:
            size = self._size_of(one.digest)
            if one.digest in found or size is None:
                return
            found[one.digest] = (size, lambda: self.open_blob(one))
            manifest = self._read(one.digest, one.media_type)
            if manifest is not None:
                for inner in (*manifest.manifests, *manifest.blobs):
                    add(inner)

        for entry in entries:
            add(Descriptor.read(entry))
        return found

    def _there(self) -> dict[str, tuple[int, int]]:
        """Members of the tar on the disk: where each begins, and its size in bytes."""
        with self._lock:
            if self._members is None:
                self._members = self._read_members()
            return self._members

    def _read_members(self) -> dict[str, tuple[int, int]]:
        if not self.path.exists():
            return {}
        try:
            with tarfile.open(self.path, mode="r:") as tar:
                found = {
                    one.name.removeprefix("./"): (one.offset_data, one.size)
                    for one in tar
                    if one.isreg()
                }
        except (tarfile.TarError, OSError) as error:
            raise self._damaged(f"it cannot be read as a tar that is not compressed: {error}") \
                from error  # fmt: skip
        if "index.json" not in found:
            raise RelforgeError(
                "this tar holds no OCI layout",
                code=ExitCode.PUBLISH,
                where=str(self.path),
                why="it has no index.json; docker save writes one from Docker 25 on",
                hint="docker load it, push it to a registry and copy it from there",
            )
        return found

    def _size_of(self, digest: str) -> int | None:
        with self._lock:
            if digest in self._pending:
                return self._pending[digest][0]
            place = self._there().get(member_of(digest))
            return place[1] if place else None

    def _entries(self) -> list[Entry]:
        with self._lock:
            if self._index is None:
                place = self._there().get("index.json")
                self._index = []
                if place is not None:
                    with self.path.open("rb") as file:
                        file.seek(place[0])
                        data = file.read(place[1])
                    try:
                        self._index = read_index(data)
                    except (ValueError, KeyError, TypeError) as error:
                        raise self._damaged(f"index.json cannot be read: {error!r}") from error
            return list(self._index)

    def _set_entries(self, entries: Sequence[Entry], *, stale: Sequence[str] = ()) -> None:
        with self._lock:
            if index_json(entries) != index_json(self._entries()):
                self._changed = True
            self._index = list(entries)
            for digest in stale:
                self._pending.pop(digest, None)

    def _put_data(self, manifest: Manifest) -> None:
        data = manifest.data
        self.put_blob(manifest.descriptor, lambda: io.BytesIO(data))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            yield
