"""Makes a lock: imports the sources, applies the patch sets, resolves the Python packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.lock import Lock, LockedPatchSet, LockedSource, LockedWheels, lock_path, request_key
from relforge.manifest.device import Device
from relforge.manifest.loader import load
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
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

if TYPE_CHECKING:
    from relforge.gitio import Git

OnLine = Callable[[str], None]
# 1980 is the earliest time a wheel's archive can hold; used when no source carries a date.
_EARLIEST_EPOCH_S = 315_532_800
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}


def resolve_lock(
    project: Project,
    release: Release,
    site: Site,
    *,
    home: Path,
    on_line: OnLine,
    cancel: CancelToken,
) -> Lock:
    """Resolves every moving part of a release.

    Wheels of an earlier lock are kept while the request for packages is the same, so that locking
    again after a patch changed moves nothing else. Raises RelforgeError.
    """
    device = project.device(release.device).for_release(release.stack)
    sources = _sources(release, site, home, on_line, cancel)
    patches = _patches(project, release, device, site, home, sources, on_line)
    wheels, build_wheels = _packages(project, release, device, site, home, sources, on_line, cancel)
    dates = [s.created_s for s in sources.values() if s.created_s is not None]
    return Lock(
        release=release.name,
        request=request_key(release, device),
        source_date_epoch=max([_EARLIEST_EPOCH_S, *dates]),
        sources=sources,
        patches=patches,
        wheels=wheels,
        build_wheels=build_wheels,
    )


def _sources(
    release: Release, site: Site, home: Path, on_line: OnLine, cancel: CancelToken
) -> dict[str, LockedSource]:
    from relforge.sources.api import import_source

    found = {}
    for name, spec in release.sources.items():
        cancel.check()
        imported = import_source(name, spec, home=home, site=site, ctx_line=on_line, cancel=cancel)
        identity = (
            f"{imported.url}@{imported.commit}"
            if imported.kind == "git"
            else f"{imported.package}=={imported.version}"
        )
        found[name] = LockedSource(
            kind=imported.kind,
            identity=identity,
            file_name=imported.file_name,
            sha256=imported.sha256,
            commit=imported.commit,
            tree=imported.tree,
            created_s=imported.created_epoch,
        )
        on_line(f"{name}: {identity} is tree {imported.tree}")
    return found


def _patches(
    project: Project,
    release: Release,
    device: Device,
    site: Site,
    home: Path,
    sources: dict[str, LockedSource],
    on_line: OnLine,
) -> dict[str, LockedPatchSet]:
    from relforge.patching.tree.making import materialise
    from relforge.sources.api import store_of

    found = {}
    for ref in release.patch_refs:
        # The plain patches are what a lock is made of, where the project has them.
        has_plain = any((root / ref.path).is_dir() for root in project.roots)
        overriding = site.model_copy(update={"patch_sets": {}}) if has_plain else site
        stored = None
        if ref.repository is not None and ref.name not in overriding.patch_sets:
            stored = _stored(ref, release, device, site, home, on_line)
        known = known_content(stored) if stored else None
        located = locate(project, overriding, device, ref, known=known)
        base_tree = sources[ref.source].tree
        recipe = recipe_for(
            located,
            git_dir=store_of(home).git_dir,
            base_tree=base_tree,
            device=device,
            site=site,
            expected_tree=ref.result_tree,
        )
        try:
            tree = materialise(recipe, dest=None, home=home, epoch=0)
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
            locked = found[ref.name] = _pinned_before(project, release, ref.name, locked)
            on_line(f"{ref.name}: {error.what} ({error.why}): locked by the hash of its file")
            on_line(
                f"{ref.name}: tree {locked.result_tree} is pinned, and was not tried here"
                if locked.result_tree
                else f"{ref.name}: no tree is pinned; lock with the key to pin it"
            )
            continue
        found[ref.name] = LockedPatchSet(
            source=ref.source,
            content=located.content_sha256,
            base_tree=tree.base_tree,
            result_tree=tree.tree,
            patches=tuple((patch.name, patch.sha256) for patch in tree.patches),
        )
        on_line(f"{ref.name}: {len(tree.patches)} patches make tree {tree.tree}")
        if located.sealed and located.signer_keyid is None and ref.result_tree is None:
            on_line(
                f"{ref.name}: note: nobody signed it, so this lock cannot tell whether it was "
                "altered before; compare the tree with the one its maker names (result_tree)"
            )
    return found


def _stored(
    ref: PatchSetRef,
    release: Release,
    device: Device,
    site: Site,
    home: Path,
    on_line: OnLine,
) -> EntryPatches:
    """A patch set of a git repository, fetched, and what the manifest says of it."""
    place = place_of(ref)
    git = fetch_place(place, home=home, site=site, ctx_line=on_line)
    check_made_for(git, place, release.sources[ref.source], device)
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


def _pinned_before(
    project: Project, release: Release, name: str, locked: LockedPatchSet
) -> LockedPatchSet:
    """With the tree that an earlier lock, made with the key, has for the same files and base."""
    before = _lock_before(project, release)
    earlier = before.patches.get(name) if before else None
    if earlier is None or locked.result_tree is not None:
        return locked
    same = locked.model_copy(update={"result_tree": earlier.result_tree})
    return same if same == earlier else locked


# relforge's own templates install with uv and pack prebuilt trees with wheel.
BUILD_TOOLS = ("uv>=0.5", "wheel>=0.43")


def _packages(
    project: Project,
    release: Release,
    device: Device,
    site: Site,
    home: Path,
    sources: dict[str, LockedSource],
    on_line: OnLine,
    cancel: CancelToken,
) -> tuple[LockedWheels, LockedWheels]:
    kept = _kept(project, release, device)
    if kept is not None:
        return kept
    from relforge.sources.api import store_of
    from relforge.sources.wheelhouse import resolve

    python = release.build.python
    wanted = list(python.requirements)
    git = store_of(home)
    for name, files in python.requirement_files.items():
        for path in files:
            found_here = read_requirements(git, sources[name].tree, path)
            wanted += without(found_here, python.exclude)

    def solved(*, build: bool) -> LockedWheels:
        return resolve(
            python.model_copy(
                update={
                    "requirements": tuple(wanted),
                    "build_requirements": (*BUILD_TOOLS, *python.build_requirements),
                }
            ),
            python_version=device.python,
            site=site,
            ctx_line=on_line,
            build=build,
            machine=_MACHINES[device.architecture],
            cancel=cancel,
        )

    return solved(build=False), solved(build=True)


def without(requirements: Iterable[str], excluded: Iterable[str]) -> list[str]:
    """The requirements that name no excluded package. Raises RelforgeError (SOURCE)."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    names = {canonicalize_name(name) for name in excluded}
    kept = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise RelforgeError(
                f"a requirement file of the source has a line that cannot be read: {text}",
                code=ExitCode.SOURCE,
                why=str(error),
            ) from error
        if canonicalize_name(requirement.name) not in names:
            kept.append(text)
    return kept


def _kept(
    project: Project, release: Release, device: Device
) -> tuple[LockedWheels, LockedWheels] | None:
    before = _lock_before(project, release)
    if before is None or before.request != request_key(release, device):
        return None
    return before.wheels, before.build_wheels


def _lock_before(project: Project, release: Release) -> Lock | None:
    path = lock_path(project, release)
    try:
        return load(path, Lock) if path.is_file() else None
    except RelforgeError:
        return None


def read_requirements(git: Git, tree: str, path: str) -> Iterator[str]:
    """The requirements in a file of a tree, ``-r`` files included.

    Index options are passed over: where packages come from is the site's business. Raises
    RelforgeError (SOURCE) for a file that is not there.
    """
    try:
        text = git.read_file(tree, path).decode("utf-8", "replace")
    except RelforgeError as error:
        raise RelforgeError(
            f"the source has no {path}",
            code=ExitCode.SOURCE,
            where=tree,
            hint="correct build.python.requirement_files in the release",
        ) from error
    folder = path.rsplit("/", 1)[0] + "/" if "/" in path else ""
    for raw in text.replace("\\\n", "").splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        if included := re.match(r"^(?:-r|--requirement)[ =]+(\S+)$", line):
            yield from read_requirements(git, tree, folder + included[1])
        elif not line.startswith("-"):
            yield line
