"""Patch sets, as a lock pins them: applied once, or by the hash of a file nobody could open."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import content_key
from relforge.lock import LockedPatchSet, LockedSource
from relforge.manifest.source import PatchSetRef
from relforge.patching.flagscale.entry import EntryPatches
from relforge.patching.locate import locate, recipe_for
from relforge.patching.source import NotOpened
from relforge.patching.stored import (
    check_made_for,
    fetch_place,
    known_content,
    place_of,
    read_stored,
)
from relforge.resolving.resolving import Resolving


def patches_of(making: Resolving, sources: Mapping[str, LockedSource]) -> dict[str, LockedPatchSet]:
    """Every patch set of the release, applied to its source where both can be had."""
    found = {}
    for ref in making.release.patch_refs:
        base = sources[ref.source]
        locked = None
        if base.tree is not None:
            locked = making.attempt(ref.name, partial(_patch_set, making, base.tree, ref))
        found[ref.name] = locked or _unapplied(making, ref)
    return found


def _unapplied(making: Resolving, ref: PatchSetRef) -> LockedPatchSet:
    """A patch set whose source, or itself, could not be had."""
    content = content_key(ref.model_dump(mode="json"))
    if ref.repository is None:
        plain = making.site.model_copy(update={"patch_sets": {}})
        content = locate(making.project, plain, making.device, ref).content_sha256
    return LockedPatchSet(
        source=ref.source,
        content=content,
        base_tree=None,
        result_tree=ref.result_tree,
        patches=(),
    )


def _patch_set(making: Resolving, base_tree: str, ref: PatchSetRef) -> LockedPatchSet:
    from relforge.patching.tree.making import materialise
    from relforge.sources.api import store_of

    project, device, site, line = making.project, making.device, making.site, making.line
    # The plain patches are what a lock is made of, where the project has them.
    has_plain = any((root / ref.path).is_dir() for root in project.roots)
    overriding = site.model_copy(update={"patch_sets": {}}) if has_plain else site
    stored = None
    if ref.repository is not None and ref.name not in overriding.patch_sets:
        stored = _stored(making, ref)
    known = known_content(stored) if stored else None
    located = locate(project, overriding, device, ref, known=known)
    recipe = recipe_for(
        located,
        git_dir=store_of(making.home).git_dir,
        base_tree=base_tree,
        device=device,
        site=site,
        expected_tree=ref.result_tree,
    )
    try:
        tree = materialise(recipe, dest=None, home=making.home, epoch=0)
    except NotOpened as error:
        if stored is None:
            raise
        locked = LockedPatchSet(
            source=ref.source,
            content=located.content_sha256,
            base_tree=base_tree,
            result_tree=ref.result_tree,
            patches=tuple((patch.name, patch.sha256) for patch in stored.patches),
        )
        locked = _pinned_before(making, ref.name, locked)
        line(f"{ref.name}: {error.what} ({error.why}): locked by the hash of its file")
        line(
            f"{ref.name}: tree {locked.result_tree} is pinned, and was not tried here"
            if locked.result_tree
            else f"{ref.name}: no tree is pinned; lock with the key to pin it"
        )
        return locked
    made = LockedPatchSet(
        source=ref.source,
        content=located.content_sha256,
        base_tree=tree.base_tree,
        result_tree=tree.tree,
        patches=tuple((patch.name, patch.sha256) for patch in tree.patches),
    )
    line(f"{ref.name}: {len(tree.patches)} patches make tree {tree.tree}")
    if located.sealed and located.signer_keyid is None and ref.result_tree is None:
        line(
            f"{ref.name}: note: nobody signed it, so this lock cannot tell whether it was "
            "altered before; compare the tree with the one its maker names (result_tree)"
        )
    return made


def _stored(making: Resolving, ref: PatchSetRef) -> EntryPatches:
    """A patch set of a git repository, fetched, and what the manifest says of it."""
    place = place_of(ref)
    git = fetch_place(place, home=making.home, site=making.site, ctx_line=making.line)
    check_made_for(git, place, making.release.sources[ref.source], making.device)
    stored = read_stored(git, place, name=ref.name)
    hashes = [patch.sha256 for patch in stored.patches]
    if ref.sha256 is not None and hashes != [ref.sha256]:
        raise RelforgeError(
            f"patch set {ref.name} is not the file that the manifest pins",
            code=ExitCode.SOURCE,
            where=str(place),
            why=f"sha256 {ref.sha256} is pinned, it has {', '.join(hashes)}",
            hint="ask its maker which one is right, then correct sha256 in the release manifest",
        )
    return stored


def _pinned_before(making: Resolving, name: str, locked: LockedPatchSet) -> LockedPatchSet:
    """With the tree that an earlier lock, made with the key, has for the same files and base."""
    before = making.before()
    earlier = before.patches.get(name) if before else None
    if earlier is None or locked.result_tree is not None:
        return locked
    same = locked.model_copy(update={"result_tree": earlier.result_tree})
    return same if same == earlier else locked
