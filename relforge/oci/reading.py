"""Content that is checked while it is read, from files and over the network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.refusals import altered
from relforge.oci.store import Descriptor
from relforge.retrying import TryAgain, call

if TYPE_CHECKING:
    from relforge.oci.transport import Answer, Transport

CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 18
SLOWEST_BYTES_S = 1024.0
"""A server that gives less than this for ``PATIENCE_S`` has stalled."""
PATIENCE_S = 60.0


class Stalled(Exception):
    """A server that goes on answering and gets nowhere; not tried again."""


class Pace:
    """Watches that bytes come, or go, at ``SLOWEST_BYTES_S`` at least."""

    def __init__(self) -> None:
        self._began_s, self._have = time.monotonic(), 0

    def add(self, count: int) -> bool:
        """Whether a whole span was fast enough; raises TimeoutError for one that was not."""
        self._have += count
        lasted_s = time.monotonic() - self._began_s
        if lasted_s <= PATIENCE_S:
            return False
        if self._have < SLOWEST_BYTES_S * lasted_s:
            raise TimeoutError(f"only {self._have} bytes in {lasted_s:.0f} s")
        self._began_s, self._have = time.monotonic(), 0
        return True


class Source(Protocol):
    """Bytes at an offset."""

    def read(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes; none at the end."""

    def close(self) -> None: ...


class CheckedReader(io.RawIOBase):
    """The bytes of a descriptor. Reading past the end raises RelforgeError (PUBLISH) when size or
    digest are others.

    After a seek the digest is no longer checked here, only the size: whoever seeks sends a part
    again, and the receiver checks the whole.
    """

    def __init__(self, descriptor: Descriptor, source: Source, where: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._source = source
        self._where = where
        self._at = 0
        self._hash: hashlib._Hash | None = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._descriptor.size}[whence]
        target = base + offset
        if target != self._at:
            self._at = target
            self._hash = hashlib.sha256() if target == 0 else None
        return target

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))
        if size == 0:
            return b""
        data = self._source.read(self._at, size)
        self._at += len(data)
        if self._hash is not None:
            self._hash.update(data)
        if self._at > self._descriptor.size or (not data and self._at < self._descriptor.size):
            self._wrong_size()
        if not data and self._hash is not None:
            found = f"sha256:{self._hash.hexdigest()}"
            if found != self._descriptor.digest:
                raise altered(
                    self._where, f"{self._descriptor.digest} was wanted, it hashes to {found}"
                )
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()

    def _wrong_size(self) -> None:
        more = "more than " if self._at > self._descriptor.size else f"{self._at} instead of "
        raise altered(
            self._where,
            f"{self._descriptor.digest} has {more}{self._descriptor.size} bytes",
        )


class FilePart:
    """``size`` bytes of a file from ``start`` on: a blob's file, or a member of a tar."""

    def __init__(self, path: Path, start: int = 0, size: int | None = None) -> None:
        self._file = path.open("rb")
        self._start, self._size = start, size

    def read(self, offset: int, count: int) -> bytes:
        if self._size is not None:
            count = min(count, self._size - offset)
        if count <= 0:
            return b""
        if self._file.tell() != self._start + offset:
            self._file.seek(self._start + offset)
        return self._file.read(count)

    def close(self) -> None:
        self._file.close()


class RemoteBlob:
    """A blob of a registry; after an interruption it goes on where it was."""

    def __init__(self, transport: Transport, descriptor: Descriptor) -> None:
        self._transport = transport
        self._descriptor = descriptor
        self._answer: Answer | None = None
        self._at = 0
        self._pace = Pace()
        self._stalls = 0

    def read(self, offset: int, count: int) -> bytes:
        def action() -> bytes:
            if self._answer is None or self._at != offset:
                self._open(offset)
            return self._some(count)

        what, url = "content could not be read from the registry", self._url()
        transport = self._transport
        try:
            data = call(
                action, policy=transport.policy, line=transport.tell, cancel=transport.cancel
            )
        except Exception as error:
            raise transport.explained(what, url, error) from error
        self._at = offset + len(data)
        return data

    def close(self) -> None:
        if self._answer is not None and self._answer.stream is not None:
            self._answer.stream.close()
        self._answer = None

    def _url(self) -> str:
        return self._transport.url(f"blobs/{self._descriptor.digest}")

    def _open(self, offset: int) -> None:
        self.close()
        if offset >= self._descriptor.size > 0:
            return  # nothing is left; a Range beyond the end would be refused
        part = {"Range": f"bytes={offset}-"} if offset else {}
        self._answer = self._transport.once(
            "GET", self._url(), want=(200, 206), scopes=self._transport.scopes("pull"),
            headers=part, stream=True,
        )  # fmt: skip
        self._at, self._pace = offset, Pace()
        if offset and self._answer.status == 200:
            # A server that knows no ranges begins anew.
            self._at = 0
            while self._at < offset:
                skipped = self._some(min(CHUNK_BYTES, offset - self._at))
                if not skipped:
                    raise TryAgain("the content ended early")
                self._at += len(skipped)

    def _some(self, count: int) -> bytes:
        if self._answer is None or self._answer.stream is None:
            return b""
        try:
            # What there is, so that a trickle is seen as one.
            data: bytes = self._answer.stream.raw.read1(
                min(count, _BLOCK_BYTES), decode_content=False
            )
        except Exception:
            self.close()
            raise
        if not data and self._at < self._descriptor.size:
            self.close()
            raise TryAgain("the content ended early")
        self._require_pace(len(data))
        return data

    def _require_pace(self, count: int) -> None:
        try:
            if self._pace.add(count):
                self._stalls = 0
        except TimeoutError:
            # Each connection brings a little: without a count that would go on for ever.
            self._stalls += 1
            self.close()
            if self._stalls >= self._transport.policy.attempts:
                raise Stalled("content comes too slowly, time and again") from None
            raise


class Stopped(io.RawIOBase):
    """A reader that ends with Cancelled as soon as its token is set."""

    def __init__(self, inner: IO[bytes], token: CancelToken) -> None:
        super().__init__()
        self._inner, self._token = inner, token

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._inner.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        self._token.check()
        return self._inner.read(size)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._inner.close()
        super().close()


def opened(descriptor: Descriptor, source: Source, where: str) -> IO[bytes]:
    """The reader that stores hand out."""
    return cast("IO[bytes]", CheckedReader(descriptor, source, where))


def open_file(
    descriptor: Descriptor, path: Path, start: int = 0, size: int | None = None
) -> IO[bytes]:
    """Of content in a file. Raises RelforgeError (PUBLISH) when it cannot be opened."""
    try:
        return opened(descriptor, FilePart(path, start, size), str(path))
    except OSError as error:
        raise RelforgeError(
            "content cannot be read",
            code=ExitCode.PUBLISH,
            where=str(path),
            why=error.strerror or str(error),
            hint="copy it again from a place that has it whole",
        ) from error


def copy_checked(
    descriptor: Descriptor, open_: Callable[[], IO[bytes]], sink: IO[bytes], where: str
) -> None:
    """Writes the content, which has the descriptor's digest, whoever gave it.

    Raises RelforgeError (PUBLISH) for any other content, OSError when it cannot be written.
    """
    digest, have = hashlib.sha256(), 0
    with open_() as reader:
        while data := reader.read(CHUNK_BYTES):
            digest.update(data)
            have += len(data)
            sink.write(data)
    if have != descriptor.size:
        raise altered(where, f"{descriptor.digest} has {have} instead of {descriptor.size} bytes")
    if (found := f"sha256:{digest.hexdigest()}") != descriptor.digest:
        raise altered(where, f"{descriptor.digest} was wanted, it hashes to {found}")
