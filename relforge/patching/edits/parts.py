"""Patch sets of a tree with submodules: one plain set for each repository, side by side.

A patch belongs to one repository at one commit, and git applies it there. So a set whose patches
are for FlagScale and for its submodules is written as a folder with a plain set per repository
(``FlagScale/``, ``vllm/``, each with its ``series``) and ``parts.json``, which says what each is
for. A tree without submodules has one part: the set itself.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import write_atomic
from relforge.frozen import Frozen, canonical_json
from relforge.gitio import Git
from relforge.manifest.common import Commit, RelativePath, Sha256, TreeHash
from relforge.patching.flagscale.names import PATCH, ROOT_BACKEND, SEALED
from relforge.patching.kinds import patch_set_at
from relforge.patching.series import PlainPatches, content_sha256, read_series
from relforge.patching.source import (
    Diff,
    Graft,
    Patch,
    PatchSetInfo,
    PatchSource,
    PatchStream,
    Trust,
)
from relforge.patching.tree.apply import apply_patches

PARTS = "parts.json"
OVERLAID = "0001-vendor.patch"
"""What an entry's files laid over a submodule are called, once they are a patch."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._+@=,~/-]+")


@dataclass(frozen=True)
class Part:
    """One repository of a tree: the root (``folder`` empty), or a submodule in its folder.

    ``name`` is its folder in a written set; empty for a tree without submodules.
    """

    name: str
    folder: str
    git_dir: Path
    base_tree: str


class PartRecord(Frozen):
    """One repository's patches, in the folder ``name``; ``folder`` is where they apply."""

    name: str
    folder: Literal[""] | RelativePath
    base_tree: TreeHash
    result_tree: TreeHash


class PartsRecord(Frozen):
    """The content of ``parts.json``. ``base_commit`` and ``base_tree`` are FlagScale's.

    ``result_tree`` is the whole tree, submodules in their folders. ``behind`` is the content of a
    sealed patch set that has to be applied first, and is not written here.
    """

    format: Literal["relforge-parts"] = "relforge-parts"
    version: Literal[1] = 1
    base_commit: Commit | None
    base_tree: TreeHash
    result_tree: TreeHash
    behind: Sha256 | None = None
    parts: tuple[PartRecord, ...]


@dataclass(frozen=True)
class PartsPatches:
    """A written set of several repositories, as one patch set."""

    folder: Path
    record: PartsRecord
    sets: tuple[PlainPatches, ...]

    def info(self, trust: Trust | None = None) -> PatchSetInfo:  # noqa: ARG002
        """Name and content; nobody signs plain patches."""
        name = self.folder.resolve().name
        return PatchSetInfo(name=name, content_sha256=content_sha256(self._patches), sealed=False)

    @contextlib.contextmanager
    def stream(self, trust: Trust | None = None) -> Iterator[PatchStream]:  # noqa: ARG002
        """The patches of all repositories, each repository's in order."""
        diffs = (
            Diff(f"{part.name}/{patch.name}", one.chunks(patch), part.folder)
            for part, one in zip(self.record.parts, self.sets, strict=True)
            for patch in one.patch_set.patches
        )
        yield PatchStream(self._patches, self.info(), diffs, str(self.folder))

    @property
    def _patches(self) -> tuple[Patch, ...]:
        return tuple(
            patch.model_copy(update={"name": f"{part.name}/{patch.name}"})
            for part, one in zip(self.record.parts, self.sets, strict=True)
            for patch in one.patch_set.patches
        )


def patch_set_or_parts(path: Path) -> PatchSource:
    """The patch set at *path*, also one of several repositories. Raises RelforgeError (SOURCE)."""
    return read_parts(path) if (path / PARTS).is_file() else patch_set_at(path)


def read_parts(folder: Path) -> PartsPatches:
    """A written set of several repositories. Raises RelforgeError (SOURCE)."""
    path = folder / PARTS
    try:
        record = PartsRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise RelforgeError(
            "the patch set cannot be used",
            code=ExitCode.SOURCE,
            where=str(path),
            why=str(first),
            hint="write it again with `relforge patch from-tree` or `relforge patch rebase`",
        ) from error
    for part in record.parts:
        if "/" in part.name or part.name in ("", ".", ".."):
            raise RelforgeError(
                "the patch set cannot be used",
                code=ExitCode.SOURCE,
                where=str(path),
                why=f"{part.name!r} is no folder in it",
                hint="write it again with `relforge patch from-tree` or `relforge patch rebase`",
            )
    return PartsPatches(folder, record, tuple(read_series(folder / p.name) for p in record.parts))


def write_parts(
    folder: Path,
    sets: Iterable[tuple[Part, PlainPatches | None]],
    *,
    base: tuple[str | None, str],
    tree: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    behind: str | None = None,
) -> None:
    """Puts ``parts.json`` into the folder that holds the sets. Raises RelforgeError.

    ``base`` is FlagScale's commit and tree; ``before`` and ``after`` are each part's trees.
    """
    record = PartsRecord(
        base_commit=base[0],
        base_tree=base[1],
        result_tree=tree,
        behind=behind,
        parts=tuple(
            PartRecord(
                name=part.name,
                folder=part.folder,
                base_tree=before[part.folder],
                result_tree=after[part.folder],
            )
            for part, one in sets
            if one is not None
        ),
    )
    write_atomic(folder / PARTS, canonical_json(record) + b"\n")


def parts_of(git_dir: Path, base_tree: str, grafts: Sequence[Graft]) -> tuple[Part, ...]:
    """The repositories of a tree, the root first."""
    if not grafts:
        return (Part("", "", git_dir, base_tree),)
    parts = [Part(ROOT_BACKEND, "", git_dir, base_tree)]
    for graft in grafts:
        taken = {part.name for part in parts}
        short = graft.folder.rpartition("/")[2]
        name = graft.folder.replace("/", "-") if short in taken else short
        parts.append(Part(name, graft.folder, graft.git_dir, graft.tree))
    return tuple(parts)


class Splitting:
    """Takes whole trees apart into what each repository holds of them.

    ``git`` reads the trees, and writes to an object folder of its own with the index given.
    """

    def __init__(self, git: Git, parts: Sequence[Part], index: Path) -> None:
        self._git = git.with_index(index)
        self._folders = [part.folder for part in parts if part.folder]
        self._root = parts[0].base_tree

    def split(self, tree: str) -> dict[str, str]:
        """The tree of each part, by its folder. Raises RelforgeError (SOURCE)."""
        if not self._folders:
            return {"": tree}
        found = {folder: self._inner(tree, folder) for folder in self._folders}
        git = self._git
        git.run("read-tree", tree)
        inside = tuple(f"{folder}/" for folder in self._folders)
        rows = [
            b"0 %b\t%b\0" % (b"0" * len(entry.oid), _raw(entry.path))
            for entry in git.list_index()
            if entry.path in self._folders or entry.path.startswith(inside)
        ]
        # A repository holds of its submodules what its base does: which commit they are at.
        kept = git.run("ls-tree", "-r", "-z", "--full-tree", self._root, *self._folders).stdout
        for row in kept.split(b"\0")[:-1]:
            left, _, path = row.partition(b"\t")
            mode, _kind, oid = left.split(b" ")
            rows.append(b"%b %b\t%b\0" % (mode, oid, path))
        git.run("update-index", "-z", "--index-info", stdin=b"".join(rows))
        found[""] = git.text("write-tree")
        return found

    def _inner(self, tree: str, folder: str) -> str:
        done = self._git.run("ls-tree", "-z", "--full-tree", tree, folder)
        row = done.stdout.split(b"\0")[0]
        if not row:
            return self._git.text("mktree", stdin=b"")
        _mode, kind, rest = row.split(b" ", 2)
        if kind != b"tree":
            raise RelforgeError(
                "a submodule is no longer a folder",
                code=ExitCode.SOURCE,
                where=folder,
                why="a file or link stands in its place, which a patch for it cannot make",
                hint="put the folder back",
            )
        return rest.split(b"\t")[0].decode()


def owner_of(path: str, parts: Sequence[Part]) -> Part:
    """The repository that a path of the whole tree belongs to."""
    inside = [part for part in parts if part.folder and path.startswith(f"{part.folder}/")]
    return inside[0] if inside else parts[0]


def part_at(folder: str, parts: Sequence[Part], *, patch: str) -> Part:
    """The repository whose folder a patch names. Raises RelforgeError (SOURCE)."""
    for part in parts:
        if part.folder == folder:
            return part
    raise RelforgeError(
        f"patch {patch} is for a submodule that the base does not have",
        code=ExitCode.SOURCE,
        where=folder,
        hint="name the patch set that the tree was made with",
    )


def plain_name(name: str, part: Part, taken: Iterable[str]) -> str:
    """How a patch is called when it is written in plain into its repository's set."""
    own = name.removeprefix(f"{part.name}/") if part.name else name
    if own.endswith(SEALED):
        own = own.removesuffix(SEALED) + PATCH
    own = _UNSAFE.sub("_", own)
    stem, end = (own.removesuffix(PATCH), PATCH) if own.endswith(PATCH) else (own, "")
    there, number = set(taken), 2
    while own in there:
        own, number = f"{stem}-{number}{end}", number + 1
    return own


def applied_parts(
    parts: Sequence[Part],
    sets: Sequence[PlainPatches | None],
    work: Path,
    cancel: CancelToken | None,
) -> dict[str, str]:
    """What each set gives in its own repository, by folder; None leaves the base as it is."""
    found = {}
    for number, (part, one) in enumerate(zip(parts, sets, strict=True)):
        if one is None:
            found[part.folder] = part.base_tree
            continue
        # Objects of its own: git apply would take a binary file's result from those there are.
        area = work / str(number)
        area.mkdir(parents=True)
        found[part.folder] = apply_patches(
            part.git_dir,
            part.base_tree,
            (Diff(patch.name, one.chunks(patch)) for patch in one.patch_set.patches),
            object_dir=area / "objects",
            work=area,
            cancel=cancel,
        ).tree
    return found


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
