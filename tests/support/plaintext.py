"""Searches folders for text that must not lie there, however it is packed.

Git objects (loose, in packs, in deltas, in packs that were never finished), zlib, gzip, bzip2, xz,
zstandard, zip and tar are opened, one inside another; what is cut short is read as far as it goes.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import zstandard

_STEP = 1 << 16
_NESTED_BYTES = 256 << 20
_DEEPEST = 4
_ZLIB_LEVELS = (b"\x01", b"\x5e", b"\x9c", b"\xda")  # a zlib stream's second byte (RFC 1950)
_ZIP_MEMBER = b"PK\x03\x04"


def files_holding(text: bytes, *folders: Path, changed_after: float | None = None) -> list[Path]:
    """Files below the folders that hold the text, sorted by folder.

    With ``changed_after`` (seconds since 1970) only those whose inode changed since are looked at.
    """
    found = []
    for folder in folders:
        # Not rglob: it fails where an engine at work removes a folder.
        names = (Path(place, name) for place, _, files in os.walk(folder) for name in files)
        for path in sorted(names):
            try:
                info = path.lstat()
                if not stat.S_ISREG(info.st_mode):
                    continue
                if changed_after is not None and info.st_ctime <= changed_after:
                    continue
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            if holds(text, data):
                found.append(path)
    return found


def holds(text: bytes, data: bytes, depth: int = _DEEPEST) -> bool:
    """Whether the text stands in the data, or in anything that is packed in it."""
    if text in data:
        return True
    if depth == 0:
        return False
    for pieces in _opened(data):
        kept, tail, size = [], b"", 0
        for piece in pieces:
            if text in tail + piece:
                return True
            tail = (tail + piece)[-len(text) :]
            size += len(piece)
            if size <= _NESTED_BYTES:
                kept.append(piece)
        if size <= _NESTED_BYTES and holds(text, b"".join(kept), depth - 1):
            return True
    return False


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, /) -> bytes: ...


def _zlib() -> _Decoder:
    return zlib.decompressobj()


def _gzip() -> _Decoder:
    return zlib.decompressobj(wbits=31)


def _deflate() -> _Decoder:
    return zlib.decompressobj(wbits=-15)


def _zstd() -> _Decoder:
    return zstandard.ZstdDecompressor().decompressobj()


_MAGIC: dict[bytes, Callable[[], _Decoder]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"x": _zlib,  # a loose object; the first byte of every zlib stream that git writes
}


def _opened(data: bytes) -> Iterator[Iterator[bytes]]:
    """Each thing that is packed in the data, in pieces."""
    for magic, decoder in _MAGIC.items():
        if data.startswith(magic):
            yield _streams(decoder, data)
    if data[1:4] == b"\x2a\x4d\x18" and data[0] >> 4 == 5 and len(data) >= 8:
        # A frame that readers of zstandard skip, as some writers put in front.
        yield iter([data[8 + struct.unpack_from("<I", data, 4)[0] :]])
    if data.startswith(b"PACK"):
        view = memoryview(data)
        for start in _positions(data, b"x"):
            if data[start + 1 : start + 2] in _ZLIB_LEVELS:
                inflated = b"".join(_streams(_zlib, view[start:], most=1))
                yield iter([inflated])
                yield iter([_literals(inflated)])
    if data.startswith(_ZIP_MEMBER):
        for start in _positions(data, _ZIP_MEMBER):
            yield _zip_member(data, start)
    if data[257:262] == b"ustar":
        yield from _tar_members(data)


def _positions(data: bytes, what: bytes) -> Iterator[int]:
    at = data.find(what)
    while at >= 0:
        yield at
        at = data.find(what, at + 1)


def _streams(
    decoder: Callable[[], _Decoder], data: bytes | memoryview, *, most: int = 1 << 30
) -> Iterator[bytes]:
    """The content of compressed streams, one behind the other, as far as it can be read."""
    rest = memoryview(data)
    for _ in range(most):
        one, at = decoder(), 0
        while not one.eof and at < len(rest):
            try:
                piece = one.decompress(rest[at : at + _STEP])
            except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError):
                return
            at += _STEP
            if piece:
                yield piece
        rest = rest[min(at, len(rest)) - len(one.unused_data) :]
        if not one.eof or not rest:
            return


def _zip_member(data: bytes, start: int) -> Iterator[bytes]:
    """One member by its own header (APPNOTE.TXT 4.3.7); the archive's end need not be there."""
    if len(data) < start + 30:
        return
    method = struct.unpack_from("<H", data, start + 8)[0]
    name, extra = struct.unpack_from("<HH", data, start + 26)
    if method == 8:
        body = memoryview(data)[start + 30 + name + extra :]
        yield from _streams(_deflate, body, most=1)


def _tar_members(data: bytes) -> Iterator[Iterator[bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield iter([file.read()])
    except (tarfile.TarError, EOFError):
        return


def _literals(delta: bytes) -> bytes:
    """The text that a delta inserts, joined (gitformat-pack(5)); empty when it is no delta.

    Long text comes in parts of at most 127 bytes, between which the search would miss something.
    """
    at, out = 0, []
    for _ in range(2):  # the sizes of both sides
        while at < len(delta) and delta[at] & 0x80:
            at += 1
        at += 1
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 0x80:
            at += (code & 0x7F).bit_count()
        elif code:
            out.append(delta[at : at + code])
            at += code
        else:
            return b""
    return b"".join(out)
