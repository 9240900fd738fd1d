"""A place that all hosts of a cluster reach, where large files lie by hash on their way: a folder
of a shared file system, or a repository of a registry.

What goes through it goes once: the host that made an image puts its layers there, and the driver
and every host that serves it take them from there. Without it, and for whatever is not there, files
go through the driver (``ray_desk.py``). Nothing in it is needed once a run has ended.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sha256_file
from relforge.leftovers import owned_file
from relforge.manifest.site import Site

if TYPE_CHECKING:
    from relforge.oci.store import Descriptor

_CHUNK_BYTES = 4 << 20
_ID = "relforge-large-files"
_LEFT_S = 24 * 3600.0
_MEDIA_TYPE = "application/octet-stream"


class AnotherFile(RelforgeError):
    """What came has not the hash that it was asked for by."""


class SharedFiles(Protocol):
    """Every method raises RelforgeError when the place does not answer or refuses."""

    @property
    def id(self) -> str:
        """The same for all who see the same place."""

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Whether a whole file of that hash is there."""

    def put(self, path: Path, sha256: str, size_bytes: int) -> None:
        """A file, whole or not at all; nothing where it is there already."""

    def read(self, sha256: str, size_bytes: int) -> Iterator[bytes]:
        """Its content, whose hash the caller checks."""

    def drop(self, sha256: str) -> None:
        """It is not what its name says: the next one who has it puts it there anew."""

    def sweep(self) -> None:
        """Removes what killed hosts left half-written."""


@dataclass(frozen=True)
class LargeFiles:
    """What goes through the place, and what not. A place that fails costs nothing but a line: its
    files then go through the driver."""

    place: SharedFiles
    at_least_bytes: int
    line: Callable[[str], None]

    def put(self, path: Path, sha256: str, size_bytes: int) -> bool:
        """Whether the file is in the place now. Raises Cancelled."""
        if size_bytes < self.at_least_bytes:
            return False
        try:
            self.place.put(path, sha256, size_bytes)
        except RelforgeError as error:
            self.passed_over(error)
            return False
        return True

    def read(self, sha256: str, size_bytes: int) -> Iterator[bytes] | None:
        """The file's content; None: it is not there. Raises RelforgeError while it is read."""
        if size_bytes < self.at_least_bytes:
            return None
        try:
            there = self.place.has(sha256, size_bytes)
        except RelforgeError as error:
            self.passed_over(error)
            return None
        return self.place.read(sha256, size_bytes) if there else None

    def failed(self, sha256: str, error: RelforgeError) -> None:
        """What was read could not be taken: said, and not left for others where it is bad."""
        if isinstance(error, AnotherFile):
            try:
                self.place.drop(sha256)
            except RelforgeError as refused:
                self.passed_over(refused)
        self.passed_over(error)

    def passed_over(self, error: RelforgeError) -> None:
        """Says why the driver is asked instead."""
        self.line(_driver_instead(error))


def _driver_instead(error: RelforgeError) -> str:
    why = ": ".join(part for part in (error.what, error.where, error.why) if part)
    return f"large files go through the driver: {why}"


def large_files(
    site: Site, *, line: Callable[[str], None], cancel: CancelToken
) -> LargeFiles | None:
    """What the site says of large files. Raises RelforgeError where its place is not there."""
    place = shared_files(site, line=line, cancel=cancel)
    if place is None or site.ray.large_files is None:
        return None
    return LargeFiles(place, site.ray.large_files.at_least_bytes, line)


def large_files_now(
    site: Site, *, line: Callable[[str], None], cancel: CancelToken
) -> LargeFiles | None:
    """The same for one job; None, and a line, where the place is not there any more."""
    try:
        return large_files(site, line=line, cancel=cancel)
    except RelforgeError as error:
        line(_driver_instead(error))
        return None


def shared_files(
    site: Site, *, line: Callable[[str], None], cancel: CancelToken
) -> SharedFiles | None:
    """The place that the site names; None: none. Raises RelforgeError for one that is not there."""
    large = site.ray.large_files
    if large is None:
        return None
    if large.folder is not None:
        return SharedFolder(large.folder, cancel)
    assert large.registry is not None
    return SharedRegistry(large.registry, site, line, cancel)


class SharedFolder:
    """``<folder>/<aa>/<sha256>``. A file beside them says which folder it is, however hosts call
    the place that they mount it at."""

    def __init__(self, folder: Path, cancel: CancelToken) -> None:
        self._folder, self._cancel = folder, cancel
        mark = folder / _ID
        if not folder.is_dir():
            raise RelforgeError(
                "the folder for large files is not there",
                code=ExitCode.ENVIRONMENT,
                where=str(folder),
                why="ray.large_files names it, and all hosts of the cluster should see it",
                hint="mount it, or leave ray.large_files out",
            )
        try:
            if not mark.exists():
                # Of two hosts that begin at once, both read what the first one wrote.
                with _whole(mark, first=True) as out:
                    out.write(f"{secrets.token_hex(16)}\n".encode())
            self._id = mark.read_text().strip()
        except OSError as error:
            raise cannot_write(mark, error) from error

    @property
    def id(self) -> str:
        return f"folder {self._id}"

    def has(self, sha256: str, size_bytes: int) -> bool:
        try:
            return self._at(sha256).stat().st_size == size_bytes
        except OSError:
            return False

    def put(self, path: Path, sha256: str, size_bytes: int) -> None:
        target = self._at(sha256)
        try:
            if self.has(sha256, size_bytes) and sha256_file(target) == sha256:
                return
            target.parent.mkdir(exist_ok=True)
            with path.open("rb") as source, _whole(target) as out:
                while chunk := source.read(_CHUNK_BYTES):
                    self._cancel.check()
                    out.write(chunk)
        except OSError as error:
            raise cannot_write(target, error) from error

    def read(self, sha256: str, size_bytes: int) -> Iterator[bytes]:  # noqa: ARG002
        try:
            with self._at(sha256).open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise RelforgeError(
                "a file in the folder for large files cannot be read",
                code=ExitCode.ENVIRONMENT,
                where=str(self._at(sha256)),
                why=str(error),
            ) from error

    def sweep(self) -> None:
        # Hosts do not know whether another one's process lives: what grows is not so old.
        long_ago_s = time.time() - _LEFT_S
        for part in self._folder.glob("**/.part-*"):
            with suppress(OSError):
                if part.stat().st_mtime < long_ago_s:
                    part.unlink()

    def drop(self, sha256: str) -> None:
        target = self._at(sha256)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(target, error) from error

    def _at(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


@contextmanager
def _whole(target: Path, *, first: bool = False) -> Iterator[BinaryIO]:
    """A file that is at ``target`` when the block ends, in the place of one that was there; with
    ``first`` that one stays, where the file system has hard links."""
    descriptor, part = owned_file(target.parent, ".part")
    try:
        with open(descriptor, "wb") as out:  # noqa: PTH123 (a descriptor)
            yield out
            # A power cut must not leave a name with half a file.
            out.flush()
            os.fsync(out.fileno())
        part.chmod(0o644)
        if first:
            try:
                os.link(part, target)
            except FileExistsError:
                return
            except OSError:  # some file systems have no hard links
                part.replace(target)
        else:
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


class SharedRegistry:
    """Blobs of one repository, without a manifest that names them: a registry that collects what
    nobody names may drop them when nobody needs them any more."""

    def __init__(
        self, name: str, site: Site, line: Callable[[str], None], cancel: CancelToken
    ) -> None:
        from relforge.oci.reference import Repository
        from relforge.oci.registry import RegistryStore

        self._cancel = cancel
        self._store = RegistryStore(Repository.parse(name), site=site, cancel=cancel, line=line)

    @property
    def id(self) -> str:
        return f"registry {self._store.name}"

    def has(self, sha256: str, size_bytes: int) -> bool:  # noqa: ARG002 (the hash says all)
        return self._store.has_blob(f"sha256:{sha256}")

    def put(self, path: Path, sha256: str, size_bytes: int) -> None:
        from relforge.oci.store import file_opener

        self._store.put_blob(self._descriptor(sha256, size_bytes), file_opener(path))

    def read(self, sha256: str, size_bytes: int) -> Iterator[bytes]:
        with self._store.open_blob(self._descriptor(sha256, size_bytes)) as source:
            while chunk := source.read(_CHUNK_BYTES):
                self._cancel.check()
                yield chunk

    def drop(self, sha256: str) -> None:
        """A registry checks what it takes, and cannot be asked to forget a single blob."""

    def sweep(self) -> None:
        """A registry ends uploads that nobody goes on with itself."""

    def _descriptor(self, sha256: str, size_bytes: int) -> Descriptor:
        from relforge.oci.store import Descriptor

        return Descriptor(media_type=_MEDIA_TYPE, digest=f"sha256:{sha256}", size=size_bytes)
