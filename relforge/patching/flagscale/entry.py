"""Stored patch files of an entry, plain or sealed, from a git repository or a working tree."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git, TreeEntry
from relforge.patching.flagscale.names import PATCH, SEALED
from relforge.patching.series import content_sha256
from relforge.patching.source import Diff, Patch, PatchSetInfo, PatchStream, Trust

if TYPE_CHECKING:
    from concurrent.futures import Future

_CHUNK = 1 << 18
_AHEAD = 8


@dataclass(frozen=True)
class StoredFile:
    """One patch file: a blob of the repository, or a file of its working tree.

    ``folder`` is where in the tree its paths begin.
    """

    name: str
    at: TreeEntry | Path
    folder: str = ""

    @property
    def sealed(self) -> bool:
        return self.name.endswith(SEALED)


@dataclass(frozen=True)
class EntryPatches:
    """The ordered patch files of a request as a patch set; ``git`` holds those that are blobs."""

    name: str
    where: str
    files: tuple[StoredFile, ...]
    git: Git | None = None

    @property
    def sealed(self) -> bool:
        """Whether a key is needed."""
        return any(file.sealed for file in self.files)

    def info(self, trust: Trust) -> PatchSetInfo:  # noqa: ARG002  (nobody signs such an entry)
        """Name and content of the files as they are stored."""
        return PatchSetInfo(
            name=self.name, content_sha256=content_sha256(self.patches), sealed=self.sealed
        )

    @contextlib.contextmanager
    def stream(self, trust: Trust) -> Iterator[PatchStream]:
        """The patches, opened while they are read; each key is loaded once."""
        from concurrent.futures import ThreadPoolExecutor

        from relforge.patching.flagscale import sealed

        keys = [(one.path, one.rsa_key) for one in trust.identities.keys if one.rsa_key]
        others = [one.path for one in trust.identities.keys if not one.rsa_key]
        info = self.info(trust)
        with ThreadPoolExecutor(1, "unwrap") as pool:

            def unwrapping(head: bytes, where: str) -> Future[bytes]:
                return pool.submit(sealed.unwrap, head, keys, where=where, others=others)

            yield PatchStream(self.patches, info, self._diffs(unwrapping), self.where)

    @cached_property
    def patches(self) -> tuple[Patch, ...]:
        """Name, hash and size of each file as it is stored."""
        found = []
        for file, chunks in self._contents():
            digest, size = hashlib.sha256(), 0
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
            if size == 0:
                raise RelforgeError(
                    "the entry has an empty patch",
                    code=ExitCode.SOURCE,
                    where=f"{self.where}: {file.name}",
                    hint="ask the entry's maker for a whole one",
                )
            found.append(Patch(name=file.name, sha256=digest.hexdigest(), size_bytes=size))
        return tuple(found)

    def _diffs(self, unwrapping: Callable[[bytes, str], Future[bytes]]) -> Iterator[Diff]:
        """Unwrapping a key takes longer than anything else here: it runs some files ahead."""
        from relforge.patching.flagscale import sealed

        ahead: deque[Diff] = deque()
        for patch, (file, content) in zip(self.patches, self._contents(), strict=True):
            where = f"{self.where}: {file.name}"
            chunks = _unchanged(content, patch, where)
            if file.sealed:
                head, body = sealed.split_head(chunks)
                chunks = _opened(head, body, unwrapping(head, where), where)
            ahead.append(Diff(file.name, chunks, file.folder))
            if len(ahead) > _AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _contents(self) -> Iterator[tuple[StoredFile, Iterable[bytes]]]:
        entries = [file.at for file in self.files if isinstance(file.at, TreeEntry)]
        blobs = self.git.blobs(entries) if self.git is not None else iter(())
        for file in self.files:
            if isinstance(file.at, Path):
                yield file, _read(file.at)
                continue
            try:
                _entry, content = next(blobs)
            except RelforgeError as error:
                raise _missing(f"{self.where}: {file.name}", file.at, self.git) from error
            yield file, (content,)


def patches_at(path: Path, *, name: str | None = None) -> EntryPatches | None:
    """A legacy entry that lies in a folder of its own, or one sealed file; None for anything else.

    For release manifests, whose lock pins the tree that must come out.
    """
    if path.is_file() and path.name.endswith(SEALED):
        return EntryPatches(
            name or path.name.removesuffix(SEALED), str(path), (StoredFile(path.name, path),)
        )
    for end in (SEALED, PATCH):
        file = path / f"{path.name}{end}"
        if file.is_file():
            shown = name or f"{path.parent.name}-{path.name}"
            return EntryPatches(shown, str(path), (StoredFile(file.name, file),))
    return None


def is_patch(name: str) -> bool:
    """Whether a file of an entry is a patch."""
    return name.endswith((PATCH, SEALED))


def _opened(
    head: bytes, body: Iterable[bytes], secret: Future[bytes], where: str
) -> Iterator[bytes]:
    from relforge.patching.flagscale import sealed

    yield from sealed.open_chunks(head, body, secret.result(), where=where)


def _unchanged(chunks: Iterable[bytes], patch: Patch, where: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != patch.sha256:
        raise RelforgeError(
            "the patch was changed while relforge worked with it",
            code=ExitCode.SOURCE,
            where=where,
            hint="run the same command again",
        )


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise RelforgeError(
            "the patch cannot be read",
            code=ExitCode.SOURCE,
            where=str(path),
            why=error.strerror or str(error),
            hint="check the file, then run the same command again",
        ) from error


def _missing(where: str, entry: TreeEntry, git: Git | None) -> RelforgeError:
    return RelforgeError(
        "the entry's patch is named by the commit, but its content is not in the repository",
        code=ExitCode.SOURCE,
        where=where,
        why=f"there is no object {entry.oid}",
        hint=f"fetch it: git --git-dir={git.git_dir if git else '.git'} fetch --refetch origin",
    )
