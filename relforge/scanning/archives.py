"""Opens what is packed: layers (tar, gzip, zstandard) and, one level deep, archives in them.

A layer is read once, as a stream, and its digest is checked on the way, so that what is said of
it is said of those very bytes. Files that a later layer deletes or covers are still in the layer.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import zstandard

from relforge.errors import ExitCode, RelforgeError
from relforge.scanning.seeking import Found

_HEAD = 264
_DEEPEST_BYTES = 8 << 30
"""Unpacked bytes of one archive; what unpacks to more is not looked into further."""
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_BZIP2, _XZ = b"BZh", b"\xfd7zXZ\0"
_PACKED = (_GZIP, _ZSTD, _BZIP2, _XZ)
_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError,
    OSError, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip
_IN_MEMORY = 64 << 20
_PIECE = 1 << 20
_GIT_OBJECT = re.compile(r"(?:.*/)?objects/[0-9a-f]{2}/(?:[0-9a-f]{38}|[0-9a-f]{62})")


class _Checked(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        data = self._file.read(len(view))
        self._hash.update(data)
        view[: len(data)] = data
        return len(data)

    def digest(self) -> str:
        """That of the whole file, which is read to its end."""
        while block := self._file.read(1 << 20):
            self._hash.update(block)
        return f"sha256:{self._hash.hexdigest()}"


def search_layer(blob: Path, digest: str, found: Found) -> None:
    """Searches everything in a layer.

    Raises RelforgeError (GATE) for a layer that is no archive that relforge reads, or that has
    another digest: of such a layer nothing can be said.
    """
    try:
        with blob.open("rb") as file:
            checked = _Checked(file)
            stream = io.BufferedReader(checked, 1 << 20)
            head = stream.peek(8)[:8]
            with _unpacked(head, stream) as plain, _tar(plain) as archive:
                _members(archive, found)
            actual = checked.digest()
    except _BROKEN as error:
        raise _unreadable(blob, digest, f"{type(error).__name__}: {error}") from error
    if actual != digest:
        raise _unreadable(blob, digest, f"its content hashes to {actual}")


def _tar(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(
        fileobj=stream, mode="r|", bufsize=1 << 20, encoding="utf-8", errors="surrogateescape"
    )


def _members(archive: tarfile.TarFile, found: Found) -> None:
    names: list[str] = []
    for member in archive:
        path = member.name.removeprefix("./").lstrip("/")
        names.append(path)
        if member.issym() or member.islnk():
            names.append(member.linkname.lstrip("/"))
        if member.isreg():
            content = archive.extractfile(member)
            assert content is not None
            search_file(path, content, member.size, found)
        # The archive keeps a list of its members, which is not needed here.
        archive.members = []  # type: ignore[attr-defined]
    found.paths(dict.fromkeys(names))


def search_file(path: str, stream: IO[bytes], size: int, found: Found) -> None:
    """Searches a file, and what is in it where it is an archive."""
    head = stream.read(_HEAD)
    if not _is_archive(path, head):
        found.file(path, cast("IO[bytes]", _Joined(head, stream)), size)
        return
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        copy.write(head)
        while block := stream.read(_PIECE):
            copy.write(block)
        copy.seek(0)
        found.archives += 1
        try:
            _search_archive(path, head, cast("IO[bytes]", copy), found)
        except _BROKEN as error:
            found.unread(f"/{path}", f"{type(error).__name__}: {error}"[:200])
        # As it lies there, too: an archive may hold files unpacked, and text beside them.
        copy.seek(0)
        found.file(path, cast("IO[bytes]", copy), size)


def _is_archive(path: str, head: bytes) -> bool:
    known = head.startswith((*_PACKED, _ZIP)) or head[257:262] == b"ustar"
    return known or _is_git_object(path, head)


def _is_git_object(path: str, head: bytes) -> bool:
    return head.startswith(b"x") and _GIT_OBJECT.fullmatch(path) is not None


def _search_archive(path: str, head: bytes, file: IO[bytes], found: Found) -> None:
    left = _Limit(path, found)
    if head.startswith(_ZIP):
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.is_dir() or not left.takes(entry.file_size):
                    continue
                if entry.flag_bits & 1:
                    found.unread(f"/{path}!{entry.filename}", "it is encrypted")
                    continue
                with archive.open(entry) as member:
                    found.file(f"{path}!{entry.filename}", member, entry.file_size)
        return
    if _is_git_object(path, head):
        decoder = zlib.decompressobj()
        content = decoder.decompress(file.read(), 4 * _IN_MEMORY)
        found.file(f"{path}!", io.BytesIO(content), len(content))
        return
    with _unpacked(head, file) as plain:
        _search_packed(path, plain, left, found)


def _search_packed(path: str, plain: IO[bytes], left: _Limit, found: Found) -> None:
    buffered = io.BufferedReader(cast("io.RawIOBase", plain), _HEAD)
    try:
        if buffered.peek(_HEAD)[257:262] != b"ustar":
            with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
                size = 0
                try:
                    while (block := buffered.read(_PIECE)) and left.takes(len(block)):
                        size += spool.write(block)
                finally:
                    # Of a file that is cut short what could be read counts.
                    spool.seek(0)
                    found.file(f"{path}!", cast("IO[bytes]", spool), size)
            return
        with _tar(buffered) as inner:
            for one in inner:
                if one.isreg() and left.takes(one.size):
                    content = inner.extractfile(one)
                    assert content is not None
                    found.file(f"{path}!{one.name}", content, one.size)
    finally:
        buffered.detach()  # else it closes what others still read


class _Limit:
    """How much of an archive is still unpacked."""

    def __init__(self, path: str, found: Found) -> None:
        self._path, self._found, self._left = path, found, _DEEPEST_BYTES

    def takes(self, size: int) -> bool:
        self._left -= size
        if self._left < 0:
            self._found.unread(f"/{self._path}", f"it unpacks to more than {_DEEPEST_BYTES} bytes")
        return self._left >= 0


class _Joined(io.RawIOBase):
    """A beginning that was read already, and the rest."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        head, self._head = self._head, b""
        return head + self._rest.read(max(0, size - len(head)) if size >= 0 else -1)


@contextlib.contextmanager
def _unpacked(head: bytes, stream: IO[bytes] | io.BufferedReader) -> Iterator[IO[bytes]]:
    """The content of a compressed stream, or the stream as it is."""
    if head.startswith(_ZSTD):
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        with decoder.stream_reader(
            stream, read_size=1 << 20, read_across_frames=True, closefd=False
        ) as plain:
            yield plain
    elif head.startswith(_GZIP):
        with gzip.GzipFile(fileobj=stream, mode="rb") as plain_gzip:
            yield cast("IO[bytes]", plain_gzip)
    elif head.startswith(_BZIP2):
        with bz2.BZ2File(stream) as plain_bz2:
            yield plain_bz2
    elif head.startswith(_XZ):
        with lzma.LZMAFile(stream) as plain_xz:
            yield plain_xz
    else:
        yield stream


def _unreadable(blob: Path, digest: str, why: str) -> RelforgeError:
    return RelforgeError(
        f"layer {digest[:19]} cannot be searched",
        code=ExitCode.GATE,
        where=str(blob),
        why=why,
        hint="build the image again; what cannot be read is not published",
    )
