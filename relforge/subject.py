"""A release with everything its manifests name, loaded, and checked against its lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.lock import Lock, load_lock
from relforge.manifest.device import Device
from relforge.manifest.fileversion import FileVersion, file_version, known_sha256
from relforge.manifest.model import Model, Reference
from relforge.manifest.project import Project
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.manifest.source import PatchSetRef
from relforge.patching.locate import LocatedPatchSet, check_against_lock, known_of, locate
from relforge.patching.series import SERIES, PlainPatches
from relforge.patching.stored import KnownContent


@dataclass(frozen=True)
class Subject:
    """One release with everything its manifests name, loaded and cross-checked."""

    project: Project
    release: Release
    device: Device
    model: Model
    lock: Lock
    site: Site
    patch_sets: tuple[LocatedPatchSet, ...] = ()
    registry: str | None = None
    """``HOST/NAME`` of ``--registry``."""
    dist: Path | None = None
    """Where this run publishes; no part of any key."""

    @property
    def sealed(self) -> tuple[str, ...]:
        """Names of the patch sets that come from bundles."""
        return tuple(p.name for p in self.patch_sets if p.sealed)


def subject(
    project: Project,
    release: Release,
    site: Site,
    *,
    registry: str | None = None,
    dist: Path | None = None,
    allow_unsigned: bool = False,
) -> Subject:
    """Loads what a release names; ``allow_unsigned`` is the user's word for the bundles in it.

    Raises RelforgeError: USAGE for unknown names, a stale lock or a bad registry name, SOURCE for
    an untrusted bundle or an altered reference.
    """
    device = project.device(release.device).for_release(
        release.stack, builds=release.build.image is None
    )
    model = project.model(release.model)
    lock = load_lock(project, release, device)
    located = tuple(
        _located(
            project,
            site,
            device,
            ref,
            known=known_of(lock.patches.get(ref.name)),
            allow_unsigned=allow_unsigned,
        )
        for ref in release.patch_refs
    )
    for patch_set in located:
        check_against_lock(patch_set, lock.patches.get(patch_set.name), release.name)
    if model.reference is not None:
        _check_reference(project, model, model.reference)
    if registry is not None:
        from relforge.oci.reference import Repository

        Repository.parse(registry)
    return Subject(project, release, device, model, lock, site, located, registry, dist)


_plain: dict[tuple[Path, str, str, str], tuple[LocatedPatchSet, tuple[FileVersion, ...]]] = {}
_MOST_REMEMBERED = 64


def _located(
    project: Project,
    site: Site,
    device: Device,
    ref: PatchSetRef,
    *,
    known: KnownContent | None,
    allow_unsigned: bool,
) -> LocatedPatchSet:
    """``locate``, which reads a plain patch set that several releases share once.

    Only while the series and every patch are the files that were read.
    """
    if ref.repository is not None or ref.name in site.patch_sets:
        return locate(project, site, device, ref, known=known, allow_unsigned=allow_unsigned)
    key = (project.path(ref.path), ref.name, ref.source, ref.ships)
    if key in _plain and not allow_unsigned:
        found, versions = _plain[key]
        if _versions(found) == versions:
            return found
    found = locate(project, site, device, ref, known=known, allow_unsigned=allow_unsigned)
    if isinstance(found.patches, PlainPatches) and not allow_unsigned:
        if len(_plain) >= _MOST_REMEMBERED:
            _plain.clear()
        if (versions_now := _versions(found)) is not None:
            _plain[key] = (found, versions_now)
    return found


def _versions(found: LocatedPatchSet) -> tuple[FileVersion, ...] | None:
    patches = found.patches
    assert isinstance(patches, PlainPatches)
    folder = str(patches.folder)
    names = (SERIES, *(patch.name for patch in patches.patch_set.patches))
    try:
        return tuple(file_version(f"{folder}/{name}") for name in names)
    except OSError:
        return None


def _check_reference(project: Project, model: Model, reference: Reference) -> None:
    """The baseline of the gates is pinned: an edited one must not pass unnoticed."""
    path = project.path(reference.path)
    found = known_sha256(path)
    if found != reference.sha256:
        raise RelforgeError(
            f"the reference of {model.name} is not the pinned file",
            code=ExitCode.SOURCE,
            where=str(path),
            why=f"the model manifest pins sha256 {reference.sha256}, found {found}",
            hint="restore the file; if it was measured again, pin its new hash in the model",
        )
