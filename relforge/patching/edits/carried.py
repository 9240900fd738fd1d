"""The patch set that a marked tree carries, found again, and the recipe that the tree came from."""

from __future__ import annotations

from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.patching.edits.parts import patch_set_or_parts
from relforge.patching.flagscale.entry import EntryPatches
from relforge.patching.flagscale.overlay import Laying, OverlaidPatches
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import PatchSource, Recipe, Trust
from relforge.patching.tree.entries import find_entry
from relforge.patching.tree.marker import Applied, Marker
from relforge.patching.tree.reverse import base_recipe


def carried_recipe(
    marker: Marker,
    *,
    trust: Trust,
    home: Path,
    patches: Path | None = None,
    repository: Path | None = None,
) -> Recipe:
    """How the marked tree was made: its base, its patch set, and the tree that must come out.

    ``patches`` and ``repository`` (a git folder) say where they are now. Raises RelforgeError
    (SOURCE): one of them is nowhere, or is another one.
    """
    base = base_recipe(marker.base, home=home, repository=repository)
    carried = marker.patch_set
    source: PatchSource | None = None
    if carried is not None:
        named = (repository,) if repository else ()
        source = _carried(carried, patches, (*named, base.git_dir))
        laid = carried.entry.laid_over if carried.entry else None
        if laid is not None and isinstance(source, EntryPatches):
            source = OverlaidPatches(
                source,
                Laying(
                    home,
                    always=frozenset(laid.always),
                    when_rooted=frozenset(laid.when_rooted),
                    only_patched=laid.only_patched,
                    unfinished=laid.unfinished,
                ),
                git_dir=base.git_dir,
                base_tree=base.base_tree,
                grafts=base.grafts,
                whitespace=marker.whitespace,
            )
        if patches is None:
            _is_the_same(source, carried, trust)
    return Recipe(
        git_dir=base.git_dir,
        base_tree=base.base_tree,
        patches=source,
        grafts=base.grafts,
        base_commit=base.base_commit,
        expected_tree=marker.tree.tree,
        trust=trust,
    )


def _carried(carried: Applied, patches: Path | None, repositories: tuple[Path, ...]) -> PatchSource:
    if patches is not None:
        return patch_set_or_parts(patches)  # whether it is the right one, its tree decides
    if carried.entry is not None:
        return find_entry(carried, carried.entry, repositories)
    where = Path(carried.where)
    if not where.exists():
        raise RelforgeError(
            "the tree's patch set is no longer there"
            if where.is_absolute() and ": " not in carried.where
            else "the tree's patches are no patch set by themselves",
            code=ExitCode.SOURCE,
            where=carried.where,
            hint="name the set with --patches: a bundle, or a folder with the patches and a "
            "`series` file that lists them in order",
        )
    return patch_set_at(where, name=None if carried.sealed else carried.name)


def _is_the_same(source: PatchSource, carried: Applied, trust: Trust) -> None:
    here = source.info(trust).content_sha256
    if here == carried.content_sha256:
        return
    raise RelforgeError(
        "the patch set is not the one that the tree was made with",
        code=ExitCode.SOURCE,
        where=carried.where,
        why=f"its content is {here[:12]}, the tree carries {carried.content_sha256[:12]}",
        hint="name the set that was applied with --patches",
    )
