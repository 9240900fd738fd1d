"""Where a release's patch sets lie on this host, and whether they are what the lock pins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import TrustedSigner
from relforge.lock import LockedPatchSet
from relforge.manifest.device import Device
from relforge.manifest.project import Project
from relforge.manifest.site import Site
from relforge.manifest.source import PatchSetRef
from relforge.patching.keys import (
    Identities,
    load_identities,
    load_signer,
    passphrase_from,
)
from relforge.patching.source import PatchSource, Recipe, Trust
from relforge.patching.tree.making import patch_set_at


@dataclass(frozen=True)
class LocatedPatchSet:
    """A patch set on this host: a folder with a ``series``, or a bundle."""

    name: str
    source: str
    path: Path
    sealed: bool
    content_sha256: str
    signer_keyid: str | None
    patches: PatchSource
    allow_unsigned: bool = False
    """The user takes it although nobody trusted here signed it."""


def trusted_signers(site: Site, device: Device) -> tuple[TrustedSigner, ...]:
    """Whose signatures count: the site's keys, and the vendor's key of the device manifest."""
    found = [_signer_of(site, number) for number in range(len(site.trusted_keys))]
    if device.vendor.public_key is not None:
        found.append(load_signer(device.vendor.name, device.vendor.public_key.encode()))
    return tuple(found)


def _signer_of(site: Site, number: int) -> TrustedSigner:
    key = site.trusted_keys[number]
    try:
        return load_signer(key.name, key.public_key)
    except RelforgeError as error:
        raise RelforgeError(
            f"the trusted key of {key.name} cannot be used",
            code=error.code,
            where=f"{site.file or 'site configuration'}: trusted_keys[{number}] ({key.name})",
            why=f"{key.public_key}: {error.why}",
            hint=f"correct or remove that entry; {error.hint}",
        ) from error


def locate(
    project: Project,
    site: Site,
    device: Device,
    ref: PatchSetRef,
    *,
    allow_unsigned: bool = False,
) -> LocatedPatchSet:
    """Finds a patch set: the site's bundle for it, else what the manifest names.

    Reads no more than the series' hashes or the bundle's signed header. Raises RelforgeError
    (SOURCE) for an untrusted or damaged bundle, or when there is nothing at the path.
    """
    override = site.patch_sets.get(ref.name)
    path = override if override is not None else project.path(ref.path)
    patches = patch_set_at(path)
    info = patches.info(Trust(trusted_signers(site, device), allow_unsigned=allow_unsigned))
    if info.ships is not None and info.ships != ref.ships:
        raise RelforgeError(
            f"patch set {ref.name}: bundle and manifest disagree about what the image may ship",
            code=ExitCode.SOURCE,
            where=str(path),
            why=f"its signer allows {info.ships!r}, the manifest says {ref.ships!r}",
            hint=f"set ships: {info.ships} in the release manifest",
        )
    return LocatedPatchSet(
        name=ref.name,
        source=ref.source,
        path=path,
        sealed=info.sealed,
        content_sha256=info.content_sha256,
        signer_keyid=info.signer_keyid,
        patches=patches,
        allow_unsigned=allow_unsigned,
    )


def recipe_for(
    located: LocatedPatchSet,
    *,
    git_dir: Path,
    base_tree: str,
    device: Device,
    site: Site,
    expected_tree: str | None,
    base_commit: str | None = None,
) -> Recipe:
    """How a located patch set becomes a tree on this host: whose signatures and keys count."""
    return Recipe(
        git_dir=git_dir,
        base_tree=base_tree,
        patches=located.patches,
        base_commit=base_commit,
        device_names=frozenset({device.name, *device.aliases}),
        expected_tree=expected_tree,
        trust=Trust(
            trusted_signers(site, device),
            load_identities(site.identities, passphrase=passphrase_from(site.key_passphrase_file))
            if located.sealed
            else Identities(),
            located.allow_unsigned,
        ),
    )


def check_against_lock(
    located: LocatedPatchSet, locked: LockedPatchSet | None, release: str
) -> None:
    """Raises RelforgeError (USAGE) when the patch set is not the one the lock pins."""
    if locked is not None and locked.content == located.content_sha256:
        return
    pinned = f"the lock pins {locked.content[:12]}" if locked else "the lock has none of that name"
    raise RelforgeError(
        f"patch set {located.name} is not the one in the lock",
        code=ExitCode.USAGE,
        where=str(located.path),
        why=f"its content is {located.content_sha256[:12]}, {pinned}",
        hint=f"relforge lock --release {release}"
        if not located.sealed
        else "get the bundle that fits the lock, or lock again from its plain patches",
    )
