"""The tar inside a bundle: written and read as a stream, the same bytes for the same content."""

from __future__ import annotations

import tarfile
from collections.abc import Generator, Iterable
from typing import IO

_BLOCK = tarfile.BLOCKSIZE


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


Member = tuple[str, int, IO[bytes]]


class UnexpectedContent(Exception):
    """The archive is not of the one shape that ``member_header`` and its like write."""


def members(stream: IO[bytes]) -> Generator[Member, None, None]:
    """Name, size and content of each member; the content must be read before the next one.

    Raises UnexpectedContent for anything but regular files, and for bytes behind the end.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 16) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.type == tarfile.REGTYPE else None
                if content is None:
                    raise UnexpectedContent(f"{member.name} is not a regular file")
                yield member.name, member.size, content
                # A stream archive keeps every header it has seen; nothing here asks for them again.
                archive.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, EOFError) as error:
        raise UnexpectedContent(f"the archive inside cannot be read: {error}") from error
    while rest := stream.read(1 << 16):
        if rest.count(0) != len(rest):
            raise UnexpectedContent("there is something behind the end of the archive inside")
