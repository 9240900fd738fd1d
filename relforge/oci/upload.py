"""Sending one blob to a registry: in chunks, and after an interruption from where it has got to.

Source: distribution specification 1.1, "Pushing a blob in chunks". The address of an upload changes
with every answer; the last one is kept in a file, so that the next run goes on with it where the
registry still knows it. A registry itself says what it has of a chunk that broke off; some forget
the whole upload then (Docker's up to 2.8), and it begins anew.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast
from urllib.parse import quote

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import sha256_hex
from relforge.oci.reading import Pace
from relforge.oci.store import Descriptor, Sent
from relforge.oci.transport import ANSWER_S, Answer, Transport, Wrong
from relforge.retrying import Again, TryAgain, call, judge_fault

CHUNK_BYTES = 64 << 20
"""What an interruption may cost. Docker's registry takes a third longer with 16 MiB; proxies in
front of registries often allow no more than 100 MB."""
_SMALL_CHUNK_BYTES = 4 << 20
_HASHED_BYTES_S = 20e6  # how slowly a registry may hash what it has, before the answer to PUT
_FORGOTTEN = (400, 404, 416)
"""Answers of registries that do not, or no longer, go on with an upload."""
_NO_CHUNKS = (405, 411, 413, 415, 501)
_NOTHING = {"Content-Length": "0"}
_WHAT = "content could not be sent to the registry"

Open = Callable[[], "IO[bytes]"]


class Note:
    """Where an upload goes on; lives in a file that one process holds at a time."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file = file

    def read(self) -> str | None:
        """The address, if there is one."""
        if self._file is None:
            return None
        self._file.seek(0)
        try:
            found = json.loads(self._file.read())["location"]
            return found if isinstance(found, str) else None
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, location: str | None) -> None:
        """The next address; None: the upload is over."""
        if self._file is None:
            return
        self._file.seek(0)
        self._file.truncate()
        if location is not None:
            json.dump({"location": location}, self._file)
        self._file.flush()


@contextmanager
def note_of(folder: Path | None, repository: str, digest: str) -> Iterator[Note]:
    """The note of one blob on its way to one repository.

    Empty where there is no folder, and while another process sends the same blob there: two that
    went on with one upload would spoil it.
    """
    if folder is None:
        yield Note()
        return
    path = _note_path(folder, repository, digest)
    folder.mkdir(parents=True, exist_ok=True)
    # An upload's address may be all that it takes to write to it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except OSError:
            mine = False
        if not mine:
            yield Note()
            return
        note = Note(file)
        try:
            yield note
        finally:
            if note.read() is None:
                path.unlink(missing_ok=True)


def drop_note(folder: Path | None, repository: str, digest: str) -> None:
    """Of a blob that the repository has: nobody goes on with its upload."""
    if folder is not None:
        _note_path(folder, repository, digest).unlink(missing_ok=True)


def _note_path(folder: Path, repository: str, digest: str) -> Path:
    name = f"{sha256_hex(repository.encode())[:16]}-{digest.removeprefix('sha256:')}.json"
    return folder / name


class Upload:
    """One blob on its way. ``there`` asks whether the registry has it."""

    def __init__(
        self,
        transport: Transport,
        descriptor: Descriptor,
        open_: Open,
        *,
        note: Note,
        there: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._blob = descriptor
        self._open = open_
        self._note = note
        self._there = there
        self._scopes = transport.scopes("pull,push")
        self._reader: IO[bytes] | None = None
        self._location = note.read() or ""
        self._chunk = CHUNK_BYTES
        self._whole = False
        self._farthest = 0
        self._tried = False
        self._refusals = 0

    def mount(self, other: str | None) -> Sent | None:
        """Begins the upload; ``mounted`` when the registry takes the blob from its repository
        ``other`` instead."""
        scopes = self._scopes
        query = ""
        if other is not None:
            query = f"?mount={quote(self._blob.digest, safe=':')}&from={quote(other, safe='/')}"
            scopes = self._transport.scopes("pull,push", mount_from=other)
        url = self._transport.url(f"blobs/uploads/{query}")
        try:
            answer = self._transport.send(
                _WHAT, "POST", url, want=(201, 202), scopes=scopes, headers=_NOTHING
            )
        except RelforgeError as error:
            # Who may not read the other repository, or a registry that knows no mounts.
            if other is None or getattr(error, "status", 0) not in (400, 401, 403, 404, 405):
                raise
            return self.mount(None)
        if answer.status == 201:
            return "mounted"
        self._began(answer, url)
        return None

    def run(self) -> None:
        """Sends it all. Raises RelforgeError (PUBLISH), Cancelled, and what ``open_`` raises.

        The policy's attempts are those without progress: a long way may be interrupted often.
        """
        transport = self._transport
        try:
            while True:
                before = self._farthest
                try:
                    call(
                        self._attempt, judge=self._judge, policy=transport.policy,
                        line=transport.tell, cancel=transport.cancel,
                    )  # fmt: skip
                    break
                except Exception as error:
                    if self._farthest <= before or judge_fault(error) is None:
                        url = transport.url("blobs/uploads/")
                        raise transport.explained(_WHAT, url, error) from error
        finally:
            self._close()
        self._note.write(None)

    def _attempt(self) -> None:
        """From where the registry is to the end; raises what interrupts it."""
        if self._tried and self._there():
            return  # only the last answer was lost
        self._tried = True
        offset = 0
        if self._location and self._whole:
            self._forget()
        if self._location:
            offset = self._reached()
        if not self._location:
            self.mount(None)
        if not self._whole:
            while offset < self._blob.size:
                offset = self._send_chunk(offset)
                self._farthest = max(offset, self._farthest)
        self._commit(offset)

    def _judge(self, error: BaseException) -> Again | None:
        if not isinstance(error, Wrong):
            return judge_fault(error)
        status = error.answer.status
        if status == 413 and self._chunk > _SMALL_CHUNK_BYTES and not self._whole:
            self._chunk = _SMALL_CHUNK_BYTES
            return Again("HTTP 413: it takes smaller chunks only", 0.0)
        if status in _NO_CHUNKS or status in _FORGOTTEN:
            if b"DIGEST_INVALID" in error.answer.data:
                self._require_sound()
                self._forget()
            self._refusals += 1
            # Twice with nothing sent: it is the chunks that it does not want.
            if not self._whole and (
                status in _NO_CHUNKS or (self._refusals > 1 and not self._farthest)
            ):
                self._whole = True
            return Again(f"HTTP {status}: it does not go on with the upload", 0.0)
        return judge_fault(error)

    def _require_sound(self) -> None:
        """Reads the source to its end, which raises what is wrong with it."""
        with self._open() as reader:
            while reader.read(CHUNK_BYTES):
                pass

    def _reached(self) -> int:
        """How many bytes the registry has; asks it, and forgets an upload that it forgot."""
        try:
            answer = self._transport.once(
                "GET", self._location, want=(200, 204), scopes=self._scopes
            )
        except Wrong as error:
            if error.answer.status in (*_FORGOTTEN, *_NO_CHUNKS):
                self._forget()
                return 0
            raise
        reached = _reached(answer)
        self._moved(answer)
        if reached is None or reached > self._blob.size:
            self._forget()
            return 0
        if reached:
            self._transport.tell(f"{self._blob.digest[:19]}: goes on at byte {reached}")
        return reached

    def _send_chunk(self, offset: int) -> int:
        count = min(self._chunk, self._blob.size - offset)
        answer = self._transport.once(
            "PATCH",
            self._location,
            want=(201, 202, 204),
            scopes=self._scopes,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{offset}-{offset + count - 1}",
            },
            body=lambda: self._part(offset, count),
        )
        self._moved(answer)
        reached = _reached(answer)
        end = offset + count
        if reached is not None and reached not in (end, 0):
            if not offset < reached < end:
                raise TryAgain(f"it says that it has {reached} bytes of {end}")
            return reached
        return end

    def _commit(self, have: int) -> None:
        joined = "&" if "?" in self._location else "?"
        url = f"{self._location}{joined}digest={quote(self._blob.digest, safe=':')}"
        rest = self._blob.size - have
        self._transport.once(
            "PUT",
            url,
            want=(201, 204),
            scopes=self._scopes,
            headers={"Content-Type": "application/octet-stream", **({} if rest else _NOTHING)},
            body=(lambda: self._part(have, rest)) if rest else None,
            answer_s=ANSWER_S + self._blob.size / _HASHED_BYTES_S,
        )

    def _part(self, offset: int, count: int) -> IO[bytes]:
        if self._reader is None:
            self._reader = self._open()
        if self._reader.tell() != offset:
            self._reader.seek(offset)
        return cast("IO[bytes]", _Part(self._reader, count))

    def _began(self, answer: Answer, base: str) -> None:
        self._moved(answer, base)
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if least.isdigit():
            self._chunk = max(CHUNK_BYTES, int(least))
        if not self._location:
            raise RelforgeError(
                "the registry does not say where content is to be sent",
                code=ExitCode.PUBLISH,
                where=str(self._transport.repository),
                why="its answer has no Location",
                hint="ask those who run it: it does not follow the distribution specification",
            )

    def _moved(self, answer: Answer, base: str = "") -> None:
        if location := answer.headers.get("Location"):
            self._location = self._transport.below(location, base or answer.url)
            self._note.write(self._location)

    def _forget(self) -> None:
        self._location = ""
        self._note.write(None)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _Part(io.RawIOBase):
    """So many bytes of a reader from where it is, with a length that requests can ask for."""

    def __init__(self, inner: IO[bytes], count: int) -> None:
        super().__init__()
        self._inner, self._count, self._have = inner, count, 0
        self._pace = Pace()

    def __len__(self) -> int:
        return self._count

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._have

    def read(self, size: int = -1) -> bytes:
        left = self._count - self._have
        data = self._inner.read(left if size is None or size < 0 else min(size, left))
        self._have += len(data)
        self._pace.add(len(data))
        return data


def _reached(answer: Answer) -> int | None:
    """The bytes that a registry has, by its ``Range: 0-N`` header; of nothing it says 0-0."""
    found = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", "").strip())
    if found is None:
        return None
    return int(found[1]) + 1 if int(found[1]) else 0
