"""The files of a release, from a published folder or from the artifact that is attached to it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

from relforge.errors import ExitCode, RelforgeError
from relforge.files import sha256_file
from relforge.frozen import sha256_hex

LARGEST = 256 << 20
"""Bytes of a file that is read whole: an evaluation of a million questions has fewer."""


class Files(Protocol):
    """Paths are as in a published folder: ``release.json``, ``README.md``, ``evidence/...``."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, sorted."""

    def sha256(self, name: str) -> str:
        """64 hexadecimal digits. Raises FileNotFoundError, OSError, ValueError."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError, OSError, and ValueError for what is too large to be read."""


@dataclass(frozen=True)
class FolderFiles:
    """Those below a folder but for ``image/``. Nothing is followed out of it, or waited for."""

    folder: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        found = (name for name in walk(self.folder) if not name.startswith("image/"))
        return tuple(sorted(found))

    def path(self, name: str) -> Path:
        """A regular file that really lies below the folder. Raises OSError, ValueError."""
        path = self.folder
        for part in name.split("/"):
            if part in ("", ".", ".."):
                raise ValueError(f"{name} leaves the folder")
            path = path / part
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                link = path.relative_to(self.folder)
                raise ValueError(f"{link} is a link, which leads elsewhere")
        if not stat.S_ISREG(mode):
            raise ValueError(f"{name} is no regular file")
        return path

    def sha256(self, name: str) -> str:
        return sha256_file(self.path(name))

    def read(self, name: str) -> bytes:
        path = self.path(name)
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{name} is larger than {LARGEST >> 20} MiB")
        return path.read_bytes()


@dataclass(frozen=True)
class LayerFiles:
    """The layers of an artifact by the paths in their titles; a digest is checked on reading."""

    layers: Mapping[str, tuple[str, int]]
    """Path to digest (``sha256:...``) and size in bytes."""
    open_: Callable[[str], IO[bytes]]
    """Opens the content of a path."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.layers))

    def sha256(self, name: str) -> str:
        if name not in self.layers:
            raise FileNotFoundError(2, "is not there", name)
        return self.layers[name][0].removeprefix("sha256:")

    def read(self, name: str) -> bytes:
        digest = self.sha256(name)
        if self.layers[name][1] > LARGEST:
            raise ValueError(f"{name} is larger than {LARGEST >> 20} MiB")
        with self.open_(name) as stream:
            # To the end: a registry's answer comes in pieces, and one read gives one of them.
            data = stream.read()
        if sha256_hex(data) != digest:
            raise ValueError(f"{name} is not what its digest says")
        return data


def walk(folder: Path) -> Iterator[str]:
    """Paths of everything below it that is no folder, links, pipes and devices included."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object without repeated fields: two readers must not see two things in it.

    Raises ValueError.
    """
    try:
        found = json.loads(data, object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} is not a JSON object")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field appears twice")
    return found


def at(value: Any, *path: str) -> Any:
    """What lies at a path of nested objects. Raises ValueError naming the part that is missing."""
    for number, part in enumerate(path):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"{'.'.join(path[: number + 1])} is missing")
        value = value[part]
    return value


def cannot_read(what: str, where: str, why: str, hint: str) -> RelforgeError:
    """The place itself, or what was named beside it, cannot be read."""
    return RelforgeError(what, code=ExitCode.PUBLISH, where=where, why=why, hint=hint)
