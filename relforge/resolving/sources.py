"""Sources and images of others, as a lock pins them."""

from __future__ import annotations

from functools import partial

from relforge.lock import LockedImage, LockedSource, image_request
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.source import GitSource, SourceSpec
from relforge.resolving.resolving import Resolving


def sources_of(making: Resolving) -> dict[str, LockedSource]:
    """Every source of the release, imported into the store."""
    found = {}
    for name, spec in making.release.sources.items():
        making.cancel.check()
        pinned = _pinned(spec)
        locked = making.attempt(name, partial(_imported, making, name, spec), _before(making, name))
        if locked is None or not _same_pin(locked, pinned):
            locked = pinned
        found[name] = locked
        if locked.tree is not None:
            making.line(f"{name}: {locked.identity} is tree {locked.tree}")
    return found


def _imported(making: Resolving, name: str, spec: SourceSpec) -> LockedSource:
    from relforge.sources.api import import_source

    imported = import_source(
        name,
        spec,
        home=making.home,
        site=making.site,
        ctx_line=making.line,
        cancel=making.cancel,
    )
    return LockedSource(
        kind=imported.kind,
        identity=f"{imported.url}@{imported.commit}"
        if imported.kind == "git"
        else f"{imported.package}=={imported.version}",
        file_name=imported.file_name,
        sha256=imported.sha256,
        commit=imported.commit,
        tree=imported.tree,
        created_s=imported.created_epoch,
    )


def _before(making: Resolving, name: str) -> LockedSource | None:
    return making.before.sources.get(name) if making.before else None


def _same_pin(locked: LockedSource, pinned: LockedSource) -> bool:
    """A lock of before is good for the pin that the manifest has now."""
    return (locked.kind, locked.identity) == (pinned.kind, pinned.identity) and (
        pinned.sha256 is None or locked.sha256 == pinned.sha256
    )


def _pinned(spec: SourceSpec) -> LockedSource:
    """A source that could not be had, as its manifest pins it."""
    if isinstance(spec, GitSource):
        return LockedSource(
            kind="git", identity=f"{spec.url}@{spec.commit}", commit=spec.commit, tree=None
        )
    return LockedSource(
        kind=spec.kind, identity=f"{spec.package}=={spec.version}", sha256=spec.sha256, tree=None
    )


def image_of(making: Resolving) -> LockedImage | None:
    """The digest of an image that is not pinned by its manifest."""
    wanted = image_request(making.release, making.device)
    if wanted is None:
        return None
    digest = wanted.digest
    if digest == UNRESOLVED:
        from relforge.engine.given_image import digest_of

        earlier = making.before.image if making.before else None
        same = earlier is not None and earlier.reference == wanted.reference
        found = making.attempt(
            wanted.reference,
            lambda: digest_of(wanted, making.device.architecture, making.site),
            earlier.digest if earlier is not None and same else None,
        )
        digest = found or UNRESOLVED
        if found:
            making.line(f"{wanted.reference}: {found}")
    return LockedImage(reference=wanted.reference, digest=digest)
