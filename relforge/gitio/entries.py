"""What trees are made of, and how their paths are written to git."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from relforge.errors import ExitCode, RelforgeError

FileMode = Literal["100644", "100755", "120000"]
GITLINK = "160000"
LINK = "120000"
_MODES = frozenset({"100644", "100755", "100664", LINK, GITLINK})


class TreeEntry(NamedTuple):
    """One file, link or submodule of a tree. ``size_bytes`` is None for a submodule, for a file
    whose content is missing, and where sizes were not asked for."""

    path: str
    mode: str
    oid: str
    size_bytes: int | None


@dataclass(frozen=True)
class TreeFile:
    """A file to import. ``data`` is its content, the link's target, or a file that holds it."""

    path: str
    mode: FileMode
    data: bytes | Path


def entries_of_tree(listing: bytes) -> tuple[TreeEntry, ...]:
    """What ``git ls-tree -r -z [-l]`` prints: mode, kind, hash, perhaps a size, and the path."""
    entries = []
    for row in listing.split(b"\0")[:-1]:
        left, _, path = row.partition(b"\t")
        mode, _kind, oid, *size = left.decode().split()
        # A submodule has "-"; "BAD" stands where a file's object is missing.
        size_bytes = int(size[0]) if size and size[0].isdigit() else None
        entries.append(TreeEntry(path.decode("utf-8", "surrogateescape"), mode, oid, size_bytes))
    return tuple(entries)


def entries_of_index(listing: bytes) -> tuple[TreeEntry, ...]:
    """What ``git ls-files -s -z`` prints: mode, hash, stage 0 and the path."""
    entries = []
    for row in listing.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        left, _, path = row.partition("\t")
        mode, oid, _stage = left.split(" ")
        entries.append(TreeEntry(path, mode, oid, None))
    return tuple(entries)


def refuse_unsafe(entries: Iterable[TreeEntry]) -> None:
    """Raises RelforgeError (SOURCE) for what no folder can safely hold, or no tree should."""
    for entry in entries:
        path = f"/{entry.path}/"
        # Almost no path has a part that begins with a dot; only those are looked at closely.
        if ("/." in path or "//" in path) and _is_unsafe(entry.path):
            raise RelforgeError(
                f"the tree has a file with an unsafe name: {entry.path!r}",
                code=ExitCode.SOURCE,
                hint="pin another commit; this one cannot be written to a folder safely",
            )
        if entry.mode not in _MODES:
            raise RelforgeError(
                f"the tree has an entry of an unknown kind: {entry.path!r}, mode {entry.mode}",
                code=ExitCode.SOURCE,
            )


def _is_unsafe(path: str) -> bool:
    parts = path.split("/")
    return not {"", ".", ".."}.isdisjoint(parts) or ".git" in (part.lower() for part in parts)


def quoted(path: bytes) -> bytes:
    """C-style quoting, as git reads paths; bytes above 127 need none."""
    escaped = path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'
