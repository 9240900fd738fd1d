"""What the image is built from: locked source trees with their licence files, and patch sets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from relforge.frozen import Frozen
from relforge.gitio import Git
from relforge.gitio.entries import GITLINK, LINK, TreeEntry
from relforge.lock import LockedPatchSet, LockedSource
from relforge.sbom import expressions
from relforge.sbom.expressions import Licence
from relforge.sbom.texts import is_licence_file, licence_of

_LARGEST_BYTES = 1 << 20


class LicenceFile(Frozen):
    """A licence file of a tree. ``licence`` is None where its text is none that is known."""

    path: str
    sha256: str
    licence: Licence | None


class Source(Frozen):
    """A pinned source, and what its tree holds before any patch."""

    name: str
    kind: str
    identity: str
    tree: str
    """The git tree hash: that of all its content."""
    commit: str | None
    file_name: str | None
    sha256: str | None
    files: int
    size_bytes: int
    submodules: dict[str, str]
    """Path and commit of each repository that the tree names and does not hold."""
    licence_files: tuple[LicenceFile, ...]

    @property
    def licence(self) -> Licence | None:
        """What the licence files in its root, or in a wheel's ``*.dist-info``, say together."""
        return expressions.both(
            file.licence
            for file in self.licence_files
            if file.licence and ("/" not in file.path or ".dist-info/" in file.path)
        )


class PatchSet(Frozen):
    """A patch set that was applied to a source.

    Sealed or not, the image is the same, so that nothing here says whether it was.
    """

    name: str
    source: str
    patches: tuple[tuple[str, str], ...]
    """Name and sha256 of each, as the lock has them."""
    base_tree: str
    result_tree: str | None


def sources_of(git: Git, locked: Mapping[str, LockedSource]) -> tuple[Source, ...]:
    """Looks into the trees of the store. Raises RelforgeError (SOURCE) where one is not there."""
    return tuple(_source(git, name, locked[name]) for name in sorted(locked))


def patch_sets_of(
    patches: Mapping[str, LockedPatchSet], sources: Mapping[str, LockedSource]
) -> tuple[PatchSet, ...]:
    """The patch sets of a lock, by name."""
    return tuple(
        PatchSet(
            name=name,
            source=one.source,
            patches=one.patches,
            base_tree=one.base_tree or sources[one.source].content,
            result_tree=one.result_tree,
        )
        for name, one in sorted(patches.items())
    )


def _source(git: Git, name: str, locked: LockedSource) -> Source:
    assert locked.tree is not None, "nothing is built of a source without a tree"
    entries = git.list_tree(locked.tree)
    wanted = [entry for entry in entries if _may_hold_a_licence(entry)]
    return Source(
        name=name,
        kind=locked.kind,
        identity=locked.identity,
        tree=locked.tree,
        commit=locked.commit,
        file_name=locked.file_name,
        sha256=locked.sha256,
        files=sum(entry.mode != GITLINK for entry in entries),
        size_bytes=sum(entry.size_bytes or 0 for entry in entries),
        submodules={entry.path: entry.oid for entry in entries if entry.mode == GITLINK},
        licence_files=tuple(_licence_file(entry.path, data) for entry, data in git.blobs(wanted)),
    )


def _may_hold_a_licence(entry: TreeEntry) -> bool:
    return (
        entry.mode not in (GITLINK, LINK)
        and is_licence_file(entry.path)
        and 0 < (entry.size_bytes or 0) <= _LARGEST_BYTES
    )


def _licence_file(path: str, data: bytes) -> LicenceFile:
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return LicenceFile(
        # A path that is not UTF-8 would not be JSON.
        path=path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        sha256=hashlib.sha256(data).hexdigest(),
        licence=licence_of(text),
    )
