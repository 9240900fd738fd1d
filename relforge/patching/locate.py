"""Where a release's patch sets lie on this host, and whether they are what the lock pins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.lock import LockedPatchSet, NotAsLocked
from relforge.manifest.device import Device
from relforge.manifest.project import Project
from relforge.manifest.site import Site
from relforge.manifest.source import PatchSetRef
from relforge.patching.flagscale.names import SEALED
from relforge.patching.identity import Identities
from relforge.patching.kinds import patch_set_at
from relforge.patching.source import PatchSource, Recipe, Trust
from relforge.patching.stored import KnownContent, StoredPatches, in_store, place_of

if TYPE_CHECKING:
    from relforge.evidence.dsse import TrustedSigner

_NOTHING = KnownContent("0" * 64, sealed=False)


@dataclass(frozen=True)
class LocatedPatchSet:
    """A patch set on this host: a folder with a ``series``, a bundle, an entry of a repository."""

    name: str
    source: str
    where: str
    """Its path, or what names it in a git repository; for messages."""
    sealed: bool
    content_sha256: str
    signer_keyid: str | None
    patches: PatchSource
    allow_unsigned: bool = False
    """The user takes it although nobody trusted here signed it."""
    key_contact: str | None = None
    """Who hands out its key, where the manifest says so itself."""


def trusted_signers(site: Site, device: Device) -> tuple[TrustedSigner, ...]:
    """Whose signatures count: the site's keys, and the vendor's key of the device manifest."""
    found = [_signer_of(site, number) for number in range(len(site.trusted_keys))]
    if device.vendor.public_key is not None:
        from relforge.patching.keys import load_signer

        found.append(load_signer(device.vendor.name, device.vendor.public_key.encode()))
    return tuple(found)


def _signer_of(site: Site, number: int) -> TrustedSigner:
    from relforge.patching.keys import load_signer

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
    known: KnownContent | None = None,
    allow_unsigned: bool = False,
) -> LocatedPatchSet:
    """Finds a patch set: the site's bundle for it, else what the manifest names.

    Reads no more than the series' hashes or the bundle's signed header, and nothing of a set in a
    git repository, of which ``known`` tells what the lock pins. Raises RelforgeError (SOURCE) for
    an untrusted or damaged bundle, or when there is nothing at the path.
    """
    override = site.patch_sets.get(ref.name)
    patches: PatchSource
    if override is None and ref.repository is not None:
        place = place_of(ref)
        where = str(place)
        patches = StoredPatches(ref.name, place, known or _NOTHING)
    else:
        path = override if override is not None else project.path(ref.path)
        where = str(path)
        patches = patch_set_at(path)
    info = patches.info(Trust(trusted_signers(site, device), allow_unsigned=allow_unsigned))
    if info.ships is not None and info.ships != ref.ships:
        raise RelforgeError(
            f"patch set {ref.name}: bundle and manifest disagree about what the image may ship",
            code=ExitCode.SOURCE,
            where=where,
            why=f"its signer allows {info.ships!r}, the manifest says {ref.ships!r}",
            hint=f"set ships: {info.ships} in the release manifest",
        )
    return LocatedPatchSet(
        name=ref.name,
        source=ref.source,
        where=where,
        sealed=info.sealed,
        content_sha256=info.content_sha256,
        signer_keyid=info.signer_keyid,
        patches=patches,
        allow_unsigned=allow_unsigned,
        key_contact=ref.key_contact,
    )


def known_of(locked: LockedPatchSet | None) -> KnownContent | None:
    """What a lock tells of a set that lies in a git repository."""
    if locked is None:
        return None
    sealed = any(name.endswith(SEALED) for name, _sha256 in locked.patches)
    return KnownContent(locked.content, sealed)


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
    """How a located patch set becomes a tree on this host: whose signatures and keys count.

    ``git_dir`` is the store, which holds the base, and the commit of a set in a repository.
    """
    from relforge.patching.keys import load_identities, passphrase_from

    return Recipe(
        git_dir=git_dir,
        base_tree=base_tree,
        patches=in_store(located.patches, Git(git_dir)),
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
        key_contact=located.key_contact or device.vendor.contact if located.sealed else None,
    )


def check_against_lock(
    located: LocatedPatchSet, locked: LockedPatchSet | None, release: str
) -> None:
    """Raises NotAsLocked (USAGE) when the patch set is not the one the lock pins."""
    if locked is not None and locked.content == located.content_sha256:
        return
    pinned = f"the lock pins {locked.content[:12]}" if locked else "the lock has none of that name"
    raise NotAsLocked(
        f"patch set {located.name} is not the one in the lock",
        code=ExitCode.USAGE,
        where=located.where,
        why=f"its content is {located.content_sha256[:12]}, {pinned}",
        hint=f"relforge lock --release {release}"
        if not located.sealed
        else "get the bundle that fits the lock, or lock again from its plain patches",
    )
