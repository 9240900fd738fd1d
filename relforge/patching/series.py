"""Plain patch sets: a folder with patches and a ``series`` file that orders them (quilt style).

A line of ``series`` names one patch, relative to the folder, optionally followed by ``-p1`` (the
only strip level); ``#`` begins a comment.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import sha256_file
from relforge.frozen import Frozen, content_key
from relforge.manifest.common import Sha256
from relforge.patching.source import Diff, Patch, PatchSetInfo, PatchStream, Trust

SERIES = "series"
_LARGEST_SERIES = 1 << 20
_CHUNK = 1 << 18
_SAFE_NAME = re.compile(r"^[A-Za-z0-9._+@=,~-]+(/[A-Za-z0-9._+@=,~-]+)*$")


class PatchSet(Frozen):
    """Ordered patches, by content. Equal ``content_sha256`` means equal patches in equal order."""

    name: str
    patches: tuple[Patch, ...]
    content_sha256: Sha256


@dataclass(frozen=True)
class PlainPatches:
    """A patch set that lies in a folder as it is."""

    folder: Path
    patch_set: PatchSet

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each patch, in order, read one at a time.

        Raises RelforgeError (SOURCE) when a patch is no longer what it was.
        """
        for patch in self.patch_set.patches:
            yield patch.name, self.read(patch)

    def info(self, trust: Trust | None = None) -> PatchSetInfo:  # noqa: ARG002
        """Name and content; nobody signs a plain patch set."""
        return PatchSetInfo(
            name=self.patch_set.name, content_sha256=self.patch_set.content_sha256, sealed=False
        )

    @contextlib.contextmanager
    def stream(self, trust: Trust | None = None) -> Iterator[PatchStream]:  # noqa: ARG002
        """The patches as they lie there."""
        diffs = (Diff(patch.name, self.chunks(patch)) for patch in self.patch_set.patches)
        yield PatchStream(self.patch_set.patches, self.info(), diffs, str(self.folder))

    def read(self, patch: Patch) -> bytes:
        """The content of one patch. Raises RelforgeError (SOURCE) when it changed meanwhile."""
        return b"".join(self.chunks(patch))

    def chunks(self, patch: Patch) -> Iterator[bytes]:
        """The content of one patch in pieces; a change is noticed at the last one."""
        path = self.folder / patch.name
        digest = hashlib.sha256()
        size = 0
        try:
            with path.open("rb") as handle:
                while chunk := handle.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    if size > patch.size_bytes:
                        break
                    yield chunk
        except OSError as error:
            raise _bad(path, error.strerror or str(error)) from error
        if size != patch.size_bytes or digest.hexdigest() != patch.sha256:
            raise _bad(path, "the patch was changed while relforge worked with it")


def content_sha256(patches: Iterable[Patch]) -> str:
    """The identity of ordered patches: SHA-256 of the canonical JSON ``[[name, sha256], ...]``."""
    return content_key([[patch.name, patch.sha256] for patch in patches])


def make_patch_set(name: str, patches: Iterable[Patch]) -> PatchSet:
    """A patch set with its content hash."""
    ordered = tuple(patches)
    return PatchSet(name=name, patches=ordered, content_sha256=content_sha256(ordered))


def read_series(folder: Path, *, name: str | None = None) -> PlainPatches:
    """Reads a plain patch set; its name is the folder's unless another one is given.

    Raises RelforgeError (SOURCE) naming ``series:line`` for a missing or repeated patch, a name
    that leaves the folder, an option other than ``-p1``, and an empty list.
    """
    series = folder / SERIES
    try:
        with series.open("rb") as handle:
            text = handle.read(_LARGEST_SERIES + 1)
    except OSError as error:
        raise RelforgeError(
            "the folder is no patch set",
            code=ExitCode.SOURCE,
            where=str(folder),
            why=f"its file `{SERIES}` cannot be read: {error.strerror}",
            hint=f"list the patches in {series}, one file name a line, in the order to apply them",
        ) from error
    named = read_series_text(text, str(series))
    patches = [_patch(folder, patch_name, series, line) for patch_name, line in named.items()]
    return PlainPatches(folder, make_patch_set(name or folder.resolve().name, patches))


def read_series_text(text: bytes, where: str) -> dict[str, int]:
    """The patches that a ``series`` file names, in order, each with its line.

    Raises RelforgeError (SOURCE) naming ``where:line``.
    """
    if len(text) > _LARGEST_SERIES:
        raise _bad(where, "a series file has at most 1 MiB")
    named: dict[str, int] = {}
    for line, patch_name in _entries(where, text):
        if patch_name in named:
            raise _bad(where, f"{patch_name} stands on line {named[patch_name]} too", line)
        named[patch_name] = line
    if not named:
        raise _bad(where, "it names no patch")
    return named


def check_patch_name(name: str) -> str | None:
    """Why a patch may not be called so, or None. Bundles hold their names to the same rule."""
    if not _SAFE_NAME.match(name) or any(part in (".", "..") for part in name.split("/")):
        return f"{name!r} is no relative path of letters, digits and ._+@=,~- inside the patch set"
    if name in (SERIES, "index.json"):
        return f"{name!r} is taken"
    return None


def _entries(series: str, text: bytes) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(text.split(b"\n"), 1):
        try:
            words = raw.decode().split()
        except UnicodeDecodeError as error:
            raise _bad(series, "the line is not UTF-8", number) from error
        comment = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
        words = words[:comment]
        if not words:
            continue
        unknown = [word for word in words[1:] if word != "-p1"]
        if unknown:
            raise _bad(series, f"{unknown[0]!r} is not understood; only -p1 may follow", number)
        wrong = check_patch_name(words[0])
        if wrong:
            raise _bad(series, wrong, number)
        yield number, words[0]


def _patch(folder: Path, name: str, series: Path, line: int) -> Patch:
    path = folder / name
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(folder.resolve()):
            raise _bad(series, f"{name} is a link that leaves the folder", line)
        if not real.is_file():
            raise _bad(series, f"{name} is not a file", line)
        size = real.stat().st_size
        if size == 0:
            raise _bad(series, f"{name} is empty", line)
        return Patch(name=name, sha256=sha256_file(real), size_bytes=size)
    except OSError as error:
        raise _bad(series, f"{name}: {error.strerror}", line) from error


def _bad(path: Path | str, why: str, line: int | None = None) -> RelforgeError:
    return RelforgeError(
        "the patch set cannot be used",
        code=ExitCode.SOURCE,
        where=str(path) if line is None else f"{path}:{line}",
        why=why,
        hint="correct the file, then run the same command again",
    )
