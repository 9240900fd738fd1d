"""The driver's desk: an actor on the driver's host that hands out files and takes them in.

Workers ask it, chunk by chunk, for files that a job of theirs was packed with, and for no other:
a file is known here by job and hash. What comes back lies in a folder of its own under the driver's
home, its hash checked, until the driver takes it. An attempt of a job that another one has
replaced is refused.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from relforge.executor.ray_paths import Places
from relforge.files import sha256_file

CHUNK_BYTES = 16 << 20
"""One object of Ray's store; a worker has at most a few of them on their way."""


class Refused(Exception):
    """The caller has no business here: another attempt does the job now, or it is no part of it."""


@dataclass
class _Job:
    here: Mapping[str, Path]
    attempt: str | None = None
    incoming: dict[str, BinaryIO] = field(default_factory=dict)


@dataclass(frozen=True)
class Begun:
    """An attempt of a job began on a host."""

    job: str
    host: str
    node_id: str


@dataclass(frozen=True)
class Told:
    """Events of a job, in their order, as ``model_dump`` gives them."""

    job: str
    events: tuple[dict[str, Any], ...]


class Desk:
    """Asked by the driver and by all workers at once; hashing runs in threads of its own."""

    def __init__(self, home: Path, incoming: Path) -> None:
        self._home = home
        self._incoming = incoming
        self._jobs: dict[str, _Job] = {}
        self._news: asyncio.Queue[Begun | Told] = asyncio.Queue()
        self._sent: Counter[str] = Counter()
        self._received: Counter[str] = Counter()

    # For the driver

    async def open_job(self, job: str, here: Mapping[str, Path]) -> None:
        """A job goes out, with these files by their hashes."""
        self._jobs[job] = _Job(here)

    async def close_job(self, job: str) -> None:
        """Nobody works at it any more; what did not come whole is removed."""
        known = self._jobs.pop(job, None)
        if known is not None:
            self._drop(job, known)

    async def news(self, wait_s: float) -> list[Begun | Told]:
        """What workers told since, at least one item unless ``wait_s`` seconds pass."""
        try:
            first = await asyncio.wait_for(self._news.get(), wait_s)
        except asyncio.TimeoutError:
            return []
        found = [first]
        while not self._news.empty():
            found.append(self._news.get_nowait())
        return found

    async def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes that were sent to, and received from, each host."""
        return dict(self._sent), dict(self._received)

    # For workers

    async def begin(self, job: str, attempt: str, host: str, node_id: str) -> None:
        """An attempt begins; an earlier one, if it is still alive somewhere, ends here."""
        known = self._jobs.get(job)
        if known is None:
            raise Refused(f"job {job} is done")
        self._drop(job, known)
        known.attempt = attempt
        self._news.put_nowait(Begun(job, host, node_id))

    async def tell(self, job: str, attempt: str, events: Sequence[dict[str, Any]]) -> None:
        self._job(job, attempt)
        self._news.put_nowait(Told(job, tuple(events)))

    async def read(
        self, job: str, attempt: str, host: str, sha256: str, offset: int, size_bytes: int
    ) -> bytes:
        """A chunk of a file that the job was packed with."""
        path = self._job(job, attempt).here.get(sha256)
        if path is None:
            raise Refused(f"job {job} does not read {sha256}")
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size_bytes)
        self._sent[host] += len(data)
        return data

    async def objects(self, job: str, attempt: str, names: Sequence[str]) -> list[str]:
        """Ids of all git objects that these trees and commits are made of."""
        self._job(job, attempt)
        from relforge.executor.ray_git import objects_of
        from relforge.sources.api import store_of

        return await asyncio.to_thread(objects_of, store_of(self._home), names)

    async def pack(self, job: str, attempt: str, objects: Sequence[str]) -> tuple[str, int]:
        """A pack of these git objects, to be read by its hash: the hash and the size in bytes."""
        known = self._job(job, attempt)
        from relforge.executor.ray_git import pack_objects
        from relforge.sources.api import store_of

        path = self._folder(job) / f"{attempt}.pack"
        path.parent.mkdir(parents=True, exist_ok=True)
        git = store_of(self._home)
        await asyncio.to_thread(pack_objects, git, objects, path)
        sha256 = await asyncio.to_thread(sha256_file, path)
        known.here = {**known.here, sha256: path}
        return sha256, path.stat().st_size

    async def lacks(
        self, job: str, attempt: str, files: Sequence[tuple[Path, str, int]]
    ) -> list[str]:
        """The hashes of those files (told path, hash, size) that are not here yet."""
        self._job(job, attempt)
        # Nothing but relforge's home takes files in.
        places = Places(self._home, Path("/nowhere"), ())
        found = []
        for told, sha256, size_bytes in files:
            path = places.here(told)
            there = path.is_file() and path.stat().st_size == size_bytes
            if not there or await asyncio.to_thread(sha256_file, path) != sha256:
                found.append(sha256)
        return found

    async def write(
        self, job: str, attempt: str, host: str, sha256: str, data: bytes, *, last: bool
    ) -> None:
        """The next chunk of a file that comes in. Raises OSError when the disk is full, Refused
        when the whole has another hash."""
        known = self._job(job, attempt)
        path = self._folder(job) / sha256
        file = known.incoming.get(sha256)
        if file is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = known.incoming[sha256] = (path.with_name(f"{sha256}.part")).open("wb")
        file.write(data)
        self._received[host] += len(data)
        if last:
            file.flush()
            os.fsync(file.fileno())
            file.close()
            del known.incoming[sha256]
            part = path.with_name(f"{sha256}.part")
            if await asyncio.to_thread(sha256_file, part) != sha256:
                part.unlink()
                raise Refused(f"{sha256} came as another file from {host}")
            part.rename(path)

    def _job(self, job: str, attempt: str) -> _Job:
        known = self._jobs.get(job)
        if known is None or known.attempt != attempt:
            raise Refused(f"job {job} is done, or another host does it now")
        return known

    def _folder(self, job: str) -> Path:
        return self._incoming / job

    def _drop(self, job: str, known: _Job) -> None:
        for name, file in known.incoming.items():
            file.close()
            (self._folder(job) / f"{name}.part").unlink(missing_ok=True)
        known.incoming.clear()
        for pack in self._folder(job).glob("*.pack"):
            pack.unlink(missing_ok=True)
