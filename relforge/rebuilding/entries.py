"""The entries of an image layer, read as a stream: never unpacked, never whole in memory.

A layer is a tar, plain or compressed with gzip or zstd (OCI image specification, layer.md); what it
is compressed with is told by its first bytes. Names that begin with ``.wh.`` are whiteouts and are
entries like any other here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, cast

import zstandard

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_XATTR = "SCHILY.xattr."
# What tarfile has put into its own fields already.
_KNOWN_PAX = frozenset(
    ("path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "hdrcharset")
)
_TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.DIRTYPE: "folder",
    tarfile.FIFOTYPE: "named pipe",
    tarfile.CONTTYPE: "file",
}


class Entry(NamedTuple):
    """One entry. ``path`` begins with ``/``; ``mtime_s`` is seconds since the epoch; ``sha256`` is
    the digest of a file's content, empty for what has none. ``xattrs`` and ``headers`` (other pax
    records, such as ``atime``) are sorted pairs."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    names: tuple[str, str]
    mtime_s: float
    size_bytes: int
    link: str
    device: tuple[int, int]
    sha256: bytes
    xattrs: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]


class Layer:
    """An opened layer: ``members`` or ``entries`` once, then ``diff_id``."""

    def __init__(self, blob: IO[bytes], cancel: CancelToken | None) -> None:
        self._cancel = cancel
        self._hashed = _Hashed(_unpacked(blob))

    def members(self) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        """Each entry with its content, where it is a file; that must be read before the next one.

        An ``Entry``'s ``sha256`` is empty here.
        """
        # Raw bytes of names survive as surrogates.
        with tarfile.open(
            fileobj=cast("IO[bytes]", self._hashed),
            mode="r|",
            bufsize=_CHUNK,
            errors="surrogateescape",
        ) as tar:
            for member in tar:
                if self._cancel is not None:
                    self._cancel.check()
                content = tar.extractfile(member) if member.isreg() else None
                yield _entry(member), content
                # tarfile keeps every member it has seen.
                tar.members = []  # type: ignore[attr-defined]

    def entries(self) -> Iterator[Entry]:
        """Each entry, its content hashed."""
        for entry, content in self.members():
            if content is None:
                yield entry
                continue
            digest = hashlib.sha256()
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
            yield entry._replace(sha256=digest.digest())

    def diff_id(self) -> str:
        """The digest of the unpacked tar, ``sha256:<hex>``; reads what is left of it."""
        while self._hashed.read(_CHUNK):
            if self._cancel is not None:
                self._cancel.check()
        return f"sha256:{self._hashed.digest.hexdigest()}"


@contextmanager
def opened(
    open_blob: Callable[[], IO[bytes]], name: str, cancel: CancelToken | None = None
) -> Iterator[Layer]:
    """A layer that is closed again; ``name`` is for messages.

    Whatever goes wrong with reading it inside the block is a RelforgeError (BUILD): damaged.
    """
    try:
        with open_blob() as blob:
            yield Layer(blob, cancel)
    except (tarfile.TarError, OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise RelforgeError(
            "a layer cannot be read",
            code=ExitCode.BUILD,
            where=name,
            why=str(error) or "it ends too early",
            hint="the image is damaged: have it again from where it came, or build it again",
        ) from error


def compression(blob: IO[bytes]) -> str:
    """``gzip``, ``zstd`` or ``none``, told by the first bytes, which are consumed."""
    head = blob.read(4)
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head == _ZSTD else "none"


class _Hashed:
    """Hashes what is read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


class _Joined(io.RawIOBase):
    """The first bytes, which were looked at, and the rest."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _unpacked(blob: IO[bytes]) -> IO[bytes]:
    head = blob.read(4)
    whole = io.BufferedReader(_Joined(head, blob), _CHUNK)
    if head.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=whole, mode="rb"))
    if head == _ZSTD:
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        reader = decoder.stream_reader(whole, read_across_frames=True)
        return cast("IO[bytes]", io.BufferedReader(cast("io.RawIOBase", reader), _CHUNK))
    return cast("IO[bytes]", whole)


def _entry(member: tarfile.TarInfo) -> Entry:
    pax: Mapping[str, str] = {_shown(key): _shown(v) for key, v in member.pax_headers.items()}
    named = {k.removeprefix(_XATTR): v for k, v in pax.items() if k.startswith(_XATTR)}
    others = pax.keys() - _KNOWN_PAX - {_XATTR + name for name in named}
    return Entry(
        path="/" + _shown(member.name.removeprefix("./").strip("/")),
        type=_TYPES.get(member.type, f"type {member.type!r}"),
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        names=(_shown(member.uname), _shown(member.gname)),
        mtime_s=float(member.mtime),
        size_bytes=member.size if member.isreg() else 0,
        link=_shown(member.linkname),
        device=(member.devmajor, member.devminor) if member.isdev() else (0, 0),
        sha256=b"",
        xattrs=tuple(sorted(named.items())),
        headers=tuple(sorted((key, pax[key]) for key in others)),
    )


def _shown(text: str) -> str:
    """Text that can be printed and written as JSON: bytes that are no UTF-8, escapes and the like
    become backslash sequences."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in text
    )
