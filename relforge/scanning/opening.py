"""Opens the sealed sets that an image may not ship whole, and takes down what gives them away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from relforge.cancel import CancelToken
from relforge.gitio import Git
from relforge.patching.source import Recipe
from relforge.patching.tree.apply import AppliedTree
from relforge.scanning.sealed import Keeps, SealedFile, SealedMarkers

_LARGEST = 16 << 20
"""Bytes of a file of the unpatched source that is searched for lines of the patches."""


def markers_of(
    name: str,
    ships: Keeps,
    recipe: Recipe,
    *,
    home: Path,
    cancel: CancelToken | None = None,
    line: Callable[[str], None] = lambda _line: None,
) -> SealedMarkers:
    """Applies the set in a private work area, which is gone when this returns.

    Raises RelforgeError (SOURCE) when no key opens it, or it does not apply.
    """
    from relforge.patching.tree.making import applied_tree

    with applied_tree(recipe, home=home, cancel=cancel) as (_, applied, _):
        markers = SealedMarkers.of(name, ships, _files(applied), _unpatched(applied))
    line(
        f"{name} ships {ships}: {len(markers.hashes)} files, {len(markers.lines)} lines and "
        f"{len(markers.names)} names are looked for"
    )
    return markers


def _files(applied: AppliedTree) -> Iterator[SealedFile]:
    git = applied.git
    before = {change.after: change.before for change in applied.files if change.after}
    known = {entry.oid for entry in git.list_tree(applied.base_tree, sizes=False)}
    changed = [
        entry
        for entry in git.list_tree(applied.tree)
        # A file that was only moved is the source's own.
        if entry.oid in before and entry.oid not in known and entry.size_bytes is not None
    ]
    for entry, content in git.blobs(changed):
        old = before[entry.oid]
        lines = set() if old is None else set(_lines(_blob(git, old)))
        yield SealedFile(
            stem=PurePosixPath(entry.path).stem,
            oid=entry.oid,
            content=content,
            added=tuple(row for row in _lines(content) if row not in lines),
        )


def _lines(content: bytes) -> Iterable[bytes]:
    return () if b"\0" in content[:8192] else content.split(b"\n")


def _blob(git: Git, oid: str) -> bytes:
    return git.run("cat-file", "blob", oid).stdout


def _unpatched(applied: AppliedTree) -> Iterator[bytes]:
    git = applied.git
    there = (
        entry
        for entry in git.list_tree(applied.base_tree)
        if entry.size_bytes is not None and entry.size_bytes <= _LARGEST
    )
    for _, content in git.blobs(there):
        yield content
