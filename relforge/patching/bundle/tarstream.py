"""The tar inside a bundle: one possible spelling for each content, written and read as a stream.

Because a member's header follows from its name and size alone, reading is comparing: there is no
field that a reader could understand in another way than the writer meant it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import IO

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 18


class UnexpectedContent(Exception):
    """The archive is not the one that its reader expects."""


def member_header(name: str, size_bytes: int) -> bytes:
    """A member's header: regular file, mode 0644, owner 0, time 0 (POSIX.1-2001 pax)."""
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size_bytes: int) -> bytes:
    """The zeros that fill a member's last block."""
    return bytes(-size_bytes % _BLOCK)


def end() -> bytes:
    """The two zero blocks that end an archive."""
    return bytes(2 * _BLOCK)


class ChunkReader:
    """A readable stream over chunks that are made on demand."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, empty at the end; never everything at once."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return bytes(taken)


class Reader:
    """Reads an archive whose members are known beforehand. Raises UnexpectedContent."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def first(self, name: str, limit: int) -> bytes:
        """The first member, whose size only its header knows."""
        header = self._exactly(_BLOCK, name)
        digits = header[124:135]  # the size field of a ustar header, octal
        size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else limit + 1
        if size > limit or header != member_header(name, size):
            raise UnexpectedContent(f"the archive inside does not begin with {name}")
        content = self._exactly(size, name)
        self._pad(size, name)
        return content

    def member(self, name: str, size_bytes: int) -> Iterator[bytes]:
        """The content of the next member, which must be this one."""
        expected = member_header(name, size_bytes)
        if self._exactly(len(expected), name) != expected:
            raise UnexpectedContent(f"something else stands where {name} belongs")
        left = size_bytes
        while left:
            chunk = self._stream.read(min(left, _CHUNK))
            if not chunk:
                raise UnexpectedContent(f"the archive inside ends within {name}")
            left -= len(chunk)
            yield chunk
        self._pad(size_bytes, name)

    def finish(self) -> None:
        """Nothing may follow the last member but the end of the archive."""
        if self._exactly(len(end()), "its end") != end() or self._stream.read(1):
            raise UnexpectedContent("there is more in the archive inside than its index names")

    def _pad(self, size_bytes: int, name: str) -> None:
        zeros = padding(size_bytes)
        if self._exactly(len(zeros), name) != zeros:
            raise UnexpectedContent(f"there is something hidden behind {name}")

    def _exactly(self, size: int, name: str) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise UnexpectedContent(f"the archive inside ends before {name} is complete")
        return data
