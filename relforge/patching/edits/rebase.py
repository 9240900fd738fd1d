"""``relforge patch rebase``: a patch set carried to a newer base, patch by patch, by git's merge.

Each patch is three trees: before it, after it, and the new base with all patches before it. Git
merges them (``git merge-tree``, merge-ort) without a checkout; what changed is the new patch, under
the old one's name and mail header. Submodules lie in their folders of both bases, at the commits
that each base pins; their patches are written as sets of their own (``parts.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.edits.fromtree import diff_of, unproved
from relforge.patching.edits.merging import (
    Conflict,
    Conflicts,
    RebaseConflict,
    merged,
    touched,
)
from relforge.patching.edits.parts import (
    OVERLAID,
    Part,
    Splitting,
    applied_parts,
    owner_of,
    part_at,
    parts_of,
    plain_name,
    write_parts,
)
from relforge.patching.edits.writeset import write_set
from relforge.patching.flagscale.overlay import OverlaidPatches
from relforge.patching.mailbox import EncodedDiff, Mail, mails
from relforge.patching.series import PlainPatches
from relforge.patching.source import Diff, Graft, PatchSource, Trust
from relforge.patching.tree.apply import apply_patches
from relforge.patching.tree.changes import shown_path
from relforge.workarea import work_area

__all__ = ["Conflict", "RebaseConflict", "Rebased", "rebased"]


@dataclass(frozen=True)
class Base:
    """What patches are for: a repository's tree, with submodules in their folders."""

    tree: str
    commit: str | None = None
    grafts: tuple[Graft, ...] = ()


@dataclass(frozen=True)
class Rebased:
    """The new set, in a private folder that is gone when the block ends, and the tree it gives.

    ``sets`` has one set per patched repository, and ``names`` every patch as it is named from
    ``folder``. ``dropped`` names patches that the new base already contains.
    """

    folder: Path
    sets: tuple[PlainPatches, ...]
    names: tuple[str, ...]
    base_tree: str
    tree: str
    dropped: tuple[str, ...]

    @property
    def patches(self) -> PlainPatches:
        """The set, where there is one repository."""
        (only,) = self.sets
        return only


@contextlib.contextmanager
def rebased(
    patches: PatchSource,
    *,
    git_dir: Path,
    base: Base,
    onto: Base,
    trust: Trust,
    home: Path,
    cancel: CancelToken | None = None,
) -> Iterator[Rebased]:
    """Carries a patch set from one state of a repository to another, and proves the result.

    Both have the same submodules. Raises RebaseConflict, RelforgeError (SOURCE): the set does not
    apply to ``base``.
    """
    with work_area(home, "rebase") as area:
        with patches.stream(trust) as stream:
            called = OVERLAID if isinstance(patches, OverlaidPatches) else None
            read = [
                _Read(diff.name, called or diff.name, diff.folder, _mails_of(diff))
                for diff in stream.diffs
            ]
            name = stream.info.name
        steps = [(one, mail) for one in read for mail in one.mails if mail.diff]
        old = apply_patches(
            git_dir,
            base.tree,
            (Diff(one.name, mail.diff, one.folder) for one, mail in steps),
            object_dir=area / "objects",
            work=area,
            grafts=base.grafts,
            per_patch=True,
            cancel=cancel,
        )
        git, ours = old.git, onto.tree
        if onto.grafts:
            git, ours = _with_submodules(git, git_dir, onto, area)
        parts = parts_of(git_dir, onto.tree, onto.grafts)
        before = old.base_tree
        splitting = Splitting(git, parts, area / "split")
        contents: dict[tuple[str, str], bytes] = {}
        conflicts = Conflicts(git)
        for (one, mail), after in zip(steps, old.trees, strict=True):
            if not conflicts.concern(before, after):
                try:
                    moved = merged(git, one.name, before, after, ours)
                    places = _places(git, one, parts, before, after)
                    for part, diff in _diffs(git, one, parts, places, splitting, ours, moved):
                        so_far = contents.get((one.name, part.folder), b"")
                        contents[one.name, part.folder] = so_far + _as_mail(mail, diff)
                    ours = moved
                except RebaseConflict as conflict:
                    conflicts.add(conflict, before, after)
            before = after
        if conflicts.found:
            raise RebaseConflict(tuple(conflicts.found))
        if not contents:
            raise RelforgeError(
                "nothing is left of the patch set",
                code=ExitCode.SOURCE,
                why="the new base contains every one of its changes",
                hint="use the new base without it",
            )
        folder = area / "set"
        sets = _write(parts, read, contents, folder, name)
        wanted = splitting.split(ours)
        proved = applied_parts(parts, sets, area / "proof", cancel)
        for place, tree in wanted.items():
            if proved[place] != tree:
                raise unproved(tree, proved[place])
        if onto.grafts:
            write_parts(
                folder,
                zip(parts, sets, strict=True),
                base=(onto.commit, onto.tree),
                tree=ours,
                before={part.folder: part.base_tree for part in parts},
                after=wanted,
            )
        there = [(part, one) for part, one in zip(parts, sets, strict=True) if one]
        yield Rebased(
            folder=folder,
            sets=tuple(one for _, one in there),
            names=tuple(
                f"{part.name}/{patch.name}" if part.name else patch.name
                for part, one in there
                for patch in one.patch_set.patches
            ),
            base_tree=onto.tree,
            tree=ours,
            dropped=_dropped(read, contents),
        )


@dataclass(frozen=True)
class _Read:
    """A patch as it was read; ``written`` is what it is called in the new set."""

    name: str
    written: str
    folder: str
    mails: tuple[Mail, ...]


def _mails_of(diff: Diff) -> tuple[Mail, ...]:
    content = diff.content if isinstance(diff.content, bytes) else b"".join(diff.content)
    try:
        return mails(content)
    except EncodedDiff as error:
        raise RelforgeError(
            f"patch {diff.name} cannot be read",
            code=ExitCode.SOURCE,
            where=diff.name,
            why="its diff is encoded (base64 or quoted-printable)",
            hint="ask the patch's maker for one that git format-patch wrote",
        ) from error


def _with_submodules(git: Git, git_dir: Path, onto: Base, area: Path) -> tuple[Git, str]:
    """The new base with its submodules in place, and a git that reads it and all from *git*."""
    work = area / "onto"
    work.mkdir()
    assert git.object_dir is not None
    whole = apply_patches(
        git_dir, onto.tree, (), object_dir=git.object_dir, work=work, grafts=onto.grafts
    )
    both = Git(
        git.git_dir,
        object_dir=git.object_dir,
        alternates=tuple(dict.fromkeys((*git.alternates, *whole.git.alternates))),
        index=git.index,
        cancel=git.cancel,
    )
    return both, whole.tree


def _places(
    git: Git, one: _Read, parts: Sequence[Part], before: str, after: str
) -> tuple[Part, ...]:
    """The repositories that a patch is for; more than one where whole files were laid over."""
    if not parts[0].name:
        return (parts[0],)
    part = part_at(one.folder, parts, patch=one.name)
    owners = {owner_of(shown_path(raw), parts) for raw in touched(git, before, after)}
    return tuple(other for other in parts if other is part or other in owners)


def _diffs(
    git: Git,
    one: _Read,
    parts: Sequence[Part],
    places: Sequence[Part],
    splitting: Splitting,
    before: str,
    after: str,
) -> Iterator[tuple[Part, bytes]]:
    """What a patch changes now, in paths of each repository. Raises RebaseConflict."""
    if parts[0].name:
        for raw in sorted(touched(git, before, after)):
            owner = owner_of(shown_path(raw), parts)
            if owner not in places:
                why = f"the new base has in {owner.name} what the patch changes"
                raise RebaseConflict((Conflict(one.name, shown_path(raw), None, why),))
    if before == after:
        return
    if len(places) == 1 and not places[0].folder:
        yield places[0], diff_of(git, before, after)  # the root's alone, as was just looked at
        return
    old, new = splitting.split(before), splitting.split(after)
    for part in places:
        if old[part.folder] != new[part.folder]:
            yield part, diff_of(git, old[part.folder], new[part.folder])


def _dropped(read: Sequence[_Read], contents: Mapping[tuple[str, str], bytes]) -> tuple[str, ...]:
    left = {name for name, _folder in contents}
    return tuple(one.name for one in read if one.name not in left)


def _as_mail(mail: Mail, diff: bytes) -> bytes:
    head = mail.head
    if not head:
        return diff
    if not head.endswith(b"\n"):
        head += b"\n"
    return head + (b"---\n\n" if mail.is_mail else b"") + diff


def _write(
    parts: Sequence[Part],
    read: Sequence[_Read],
    contents: Mapping[tuple[str, str], bytes],
    folder: Path,
    name: str,
) -> list[PlainPatches | None]:
    """Writes each repository's set, where anything is left of it."""
    sets: list[PlainPatches | None] = []
    for part in parts:
        kept: dict[str, bytes] = {}
        for one in read:
            content = contents.get((one.name, part.folder))
            if content is not None:
                kept[plain_name(one.written, part, kept)] = content
        named = part.name or name
        sets.append(write_set(folder / part.name, kept.items(), name=named) if kept else None)
    return sets
